"""Closing the body of a loop or a branch: what it takes from outside becomes inputs.

A body is called once with fresh arguments. What it computes from them is inside; what
does not depend on them is computed once, outside, and handed in. So a product of two
weights that a body writes is no work of the loop. (A branch keeps all that it declares:
it may not be taken.)
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, topological
from graphc.ops.creation import CONSTANT


def enclose(
    args: Sequence[Tensor], outputs: Sequence[Tensor], since: int | None = None
) -> tuple[Region, tuple[Tensor, ...]]:
    """Return a region over `args` and what it captures, whose values come after them.

    since: all that was declared from this serial number on stays inside, even if it
    does not depend on the arguments: a branch that is not taken computes nothing.

    Ops without inputs (`full`, `iota`) and ops that only move what is captured
    (`broadcast_to`, `transpose`) stand inside, where they cost nothing.
    """
    order = topological(outputs)
    own = {a.node for a in args}
    inside = set(own)
    for node in order:
        own_work = since is not None and node.serial >= since and not node.op.leaf
        if own_work or any(t.node in inside for t in node.inputs):
            inside.add(node)
    inner: dict[Tensor, Tensor] = {a: a for a in args}
    captured: dict[Tensor, Tensor] = {}

    def bring(tensor: Tensor) -> Tensor:
        """Return what stands inside for a tensor."""
        if tensor not in inner:
            if _is_free(tensor.node):
                _clone(tensor.node)
            else:
                captured[tensor] = inner[tensor] = make_args([tensor.type])[0]
        return inner[tensor]

    def _clone(node: Node) -> None:
        inputs = [bring(t) for t in node.inputs]
        if any(a is not b for a, b in zip(node.inputs, inputs, strict=True)):
            node_inside = Node(
                node.op, inputs, node.attrs, node.types, node.regions, node.birth
            )
        else:
            node_inside = node
        inner.update(zip(node.results, node_inside.results, strict=True))

    for node in order:
        if node in inside and node not in own:
            _clone(node)
    results = [bring(t) for t in outputs]
    return Region((*args, *captured.values()), results), tuple(captured)


def enclose_together(
    args: Sequence[Tensor],
    bodies: Sequence[Sequence[Tensor]],
    since: int | None = None,
) -> tuple[list[Region], tuple[Tensor, ...]]:
    """Return regions over the same arguments, and what they capture together."""
    whole, captured = enclose(args, [t for outputs in bodies for t in outputs], since)
    rest = iter(whole.outputs)
    return [Region(whole.args, [next(rest) for _ in each]) for each in bodies], captured


def _is_free(node: Node) -> bool:
    """Whether a node that does not depend on the arguments is repeated inside."""
    if node.op.leaf or node.op is CONSTANT:
        return False
    if not node.inputs:
        return True
    return node.op.is_layout
