"""Batching: from a piece of graph, one that does the same for each of B elements.

Each node that depends on a batched source is replaced by what its op's rule
(`Op.batch`) makes of it: the same work with a new leading axis. What depends on none
is kept as it is and computed once. A rule is called as

    rule(node, inputs, batched, size) -> results with the new leading axis

where `batched` says which inputs have that axis, and `size` is B. Ops define their
rule where they are defined; most are one of those below:

    batch_leading   the op takes any leading axes as they are (matmul, where, ...)
    batch_axis      the op's attribute `axis` counts axes, which move by one (sum, ...)

Elementwise ops need no rule, and ops that are `Decomposed` are batched through their
decomposition unless they have one.

Source:  the transformation `vmap` of JAX (Bradbury et al., 2018); here it rebuilds a
         declared graph, where JAX traces a function.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import Any

from graphc.errors import BatchError
from graphc.ir.dims import Size
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ir.op import FUNCTIONS, Decomposed
from graphc.ir.origins import phase
from graphc.ir.types import TensorType

# --- helpers for rules --------------------------------------------------------------


def lead(x: Tensor, size: Size) -> Tensor:
    """Repeat a tensor that is not batched along a new leading axis.

    Shapes:  x [N, D] -> [B, N, D]
    """
    found: Tensor = FUNCTIONS["broadcast_to"](x, (size, *x.shape))
    return found


def align(
    inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> list[Tensor]:
    """Return all inputs with the leading axis: those without are repeated."""
    return [x if has else lead(x, size) for x, has in zip(inputs, batched, strict=True)]


def shift(axis: Any) -> Any:
    """Return an axis, or a tuple of them, one place further."""
    return axis + 1 if isinstance(axis, int) else tuple(a + 1 for a in axis)


def fold(x: Tensor) -> Tensor:
    """Join the leading axis with the one behind it.

    Shapes:  x [B, N, D] -> [B*N, D]
    """
    found: Tensor = FUNCTIONS["reshape"](x, (x.shape[0] * x.shape[1], *x.shape[2:]))
    return found


def unfold(x: Tensor, size: Size, rows: Size) -> Tensor:
    """Split what `fold` joined.

    Shapes:  x [B*N, D], size B, rows N -> [B, N, D]
    """
    found: Tensor = FUNCTIONS["reshape"](x, (size, rows, *x.shape[1:]))
    return found


def move_axis(x: Tensor, source: int, target: int) -> Tensor:
    """Move an axis to another place, the others keep their order."""
    return move_axes(x, source, 1, target)


def move_axes(x: Tensor, source: int, count: int, target: int) -> Tensor:
    """Move some neighbouring axes so that the first of them stands at `target`.

    Shapes:  x [B, I, J, N], source 1, count 2, target 0 -> [I, J, B, N]
    """
    order = [i for i in range(x.ndim) if not source <= i < source + count]
    order[target:target] = range(source, source + count)
    found: Tensor = FUNCTIONS["transpose"](x, tuple(order))
    return found


# --- rules that many ops share ------------------------------------------------------


def batch_leading(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Apply the op as it is to inputs that all have the leading axis.

    For ops whose type rule takes any number of leading axes, equal in all inputs.
    """
    return make(node.op, align(inputs, batched, size), node.attrs, node.regions)


def batch_axis(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Apply the op along the same axes, which now stand one place further.

    For ops with an attribute `axis`, an int or a tuple of ints.
    """
    attrs = replace(node.attrs, axis=shift(node.attrs.axis))
    return make(node.op, align(inputs, batched, size), attrs, node.regions)


# --- the walk -----------------------------------------------------------------------


def batch_outputs(
    outputs: Sequence[Tensor],
    batched: Mapping[Tensor, Tensor],
    size: Size,
    kept: Mapping[Tensor, Tensor] | None = None,
    draws: AbstractSet[Any] = frozenset(),
) -> list[Tensor]:
    """Return outputs with a new leading axis, computed from batched sources.

    batched: for each source what stands for it, with the leading axis. kept: tensors
    that something without the axis stands for. draws: attributes of nodes that are
    batched though nothing they read is (random numbers that differ from element to
    element). An output that depends on no batched source is repeated.

    Shapes:  each output [...] -> [B, ...]
    Raises:  BatchError naming an op without a rule, and its line.
    """
    found = dict(batched)
    same = dict(kept or {})
    for node in topological(outputs):
        if node.op.leaf or all(r in found or r in same for r in node.results):
            continue
        has = [t in found for t in node.inputs]
        inputs = [found[t] if t in found else same.get(t, t) for t in node.inputs]
        if any(has) or (draws and node.attrs in draws):
            birth = node.birth
            with phase(birth.phase, derived=birth.derived, like=birth):
                results = _apply(node, inputs, has, size)
            for old, new in zip(node.results, results, strict=True):
                found.setdefault(old, new)
        elif any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            clone = Node(
                node.op, inputs, node.attrs, node.types, node.regions, node.birth
            )
            for old, new in zip(node.results, clone.results, strict=True):
                same.setdefault(old, new)
    return [found[t] if t in found else _repeated(t, same, size) for t in outputs]


def batch_region(region: Region, batched: Sequence[bool], size: Size) -> Region:
    """Return a region over batched arguments; all its outputs have the leading axis."""
    args = make_args(
        [
            TensorType(a.dtype, (size, *a.shape)) if has else a.type
            for a, has in zip(region.args, batched, strict=True)
        ]
    )
    pairs = list(zip(region.args, args, batched, strict=True))
    outputs = batch_outputs(
        region.outputs,
        {old: new for old, new, has in pairs if has},
        size,
        {old: new for old, new, has in pairs if not has},
    )
    return Region(args, outputs)


def _repeated(x: Tensor, same: Mapping[Tensor, Tensor], size: Size) -> Tensor:
    birth = x.node.birth
    with phase(birth.phase, derived=birth.derived, like=birth):
        return lead(same.get(x, x), size)


def _apply(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Batch one node by its op's rule, or by what the op is."""
    op = node.op
    if op.batch is not None:
        return op.batch(node, inputs, batched, size)
    if op.scalar is not None:
        return batch_leading(node, inputs, batched, size)
    if isinstance(op.lower, Decomposed):
        args = make_args([t.type for t in node.inputs])
        inner = op.lower.rule(node.attrs, *args)
        pairs = list(zip(args, inputs, batched, strict=True))
        return batch_outputs(
            [inner] if isinstance(inner, Tensor) else inner,
            {arg: new for arg, new, has in pairs if has},
            size,
            {arg: new for arg, new, has in pairs if not has},
        )
    raise BatchError(
        f"{op.name} has no batching rule",
        details=[f"{op.name} : {', '.join(map(str, node.types))}"],
        where=node.birth.quoted,
        help="keep it outside of vmap, or give its op a rule: Op(batch=...)",
    )
