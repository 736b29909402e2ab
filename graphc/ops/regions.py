"""Ops that own regions: fused groups and functions with a custom gradient."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import BatchError, GradientError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.interpret import run_region
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ir.op import FUNCTIONS, Op, Types, Unsupported, register
from graphc.ir.origins import here
from graphc.ops.batching import batch_region
from graphc.ops.broadcast import as_tensors


def _infer(types: Types, _: Any, regions: Sequence[Region]) -> Types:
    region = regions[0]
    wanted = tuple(a.type for a in region.args)
    if types != wanted:
        raise ShapeError(
            "the region takes "
            f"{', '.join(map(str, wanted))}; given: {', '.join(map(str, types))}"
        )
    return tuple(t.type for t in region.outputs)


def close(
    args: Sequence[Tensor], outputs: Sequence[Tensor]
) -> tuple[Region, tuple[Tensor, ...]]:
    """Make a closed region: what it captures becomes further arguments.

    Returns the region and the captured leaves, in the order of those arguments.
    """
    own = {a.node for a in args}
    order = topological(outputs)
    leaves = [n.results[0] for n in order if n.op.leaf and n not in own]
    inner = make_args([t.type for t in leaves])
    new: dict[Tensor, Tensor] = dict(zip(leaves, inner, strict=True))
    for node in order:
        if node.op.leaf or all(new.get(t, t) is t for t in node.inputs):
            continue
        inputs = [new.get(t, t) for t in node.inputs]
        clone = Node(node.op, inputs, node.attrs, node.types, node.regions, node.birth)
        new.update(zip(node.results, clone.results, strict=True))
    region = Region((*args, *inner), [new.get(t, t) for t in outputs])
    return region, tuple(leaves)


def inline(region: Region, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return a region's outputs computed from these inputs instead of its arguments."""
    new: dict[Tensor, Tensor] = dict(zip(region.args, inputs, strict=True))
    for node in region.nodes:
        inner = [new.get(t, t) for t in node.inputs]
        clone = Node(node.op, inner, node.attrs, node.types, node.regions, node.birth)
        new.update(zip(node.results, clone.results, strict=True))
    return tuple(new.get(t, t) for t in region.outputs)


def _fused_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    raise BatchError(
        "fused: a graph is batched before it is fused",
        where=node.birth.quoted,
        help="take graphc.vmap of the function that declares it",
    )


FUSED = register(
    Op(
        name="fused",
        infer=_infer,
        evaluate=lambda arrays, m: run_region(m.regions[0], arrays, m.sizes),
        gradient=lambda node, g: _fused_gradient(node, g),
        lower=Unsupported("passes/lower.py turns the region into one nest"),
        doc="the region's outputs: a group of ops that becomes one nest",
        regions=True,
        batch=_fused_batch,
    )
)


def _fused_gradient(node: Node, cotangents: Sequence[Any]) -> Sequence[Any]:
    raise GradientError(
        "fused: a graph is differentiated before it is fused",
        where=node.birth.quoted,
        help="take graphc.grad of the declared tensors",
    )


def _custom_gradient(node: Node, cotangents: Sequence[Any]) -> Sequence[Any]:
    from graphc.ops.creation import zeros

    g = [
        zeros(r.shape, r.dtype) if c is None else c
        for r, c in zip(node.results, cotangents, strict=True)
    ]
    found = inline(node.regions[1], (*node.inputs, *node.results, *g))
    return [*found, *[None] * (len(node.inputs) - len(found))]


def _custom_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Batch both regions; what all elements share gets the sum of its cotangents."""
    forward, backward = node.regions
    count, outputs = len(inputs), len(node.results)
    both = [*batched, *[True] * (2 * outputs)]
    back = batch_region(backward, both, size)
    cotangents = [
        d if has else FUNCTIONS["sum"](d, 0)
        for d, has in zip(back.outputs, batched[:count], strict=False)
    ]
    regions = (batch_region(forward, batched, size), Region(back.args, cotangents))
    return make(CUSTOM_GRADIENT, inputs, regions=regions)


CUSTOM_GRADIENT = register(
    Op(
        name="custom_gradient",
        infer=_infer,
        evaluate=lambda arrays, m: run_region(m.regions[0], arrays, m.sizes),
        gradient=_custom_gradient,
        lower=Unsupported("the pass decompose puts its region in its place"),
        doc="the first region's outputs; the second region is their gradient",
        regions=True,
        batch=_custom_batch,
    )
)


def custom_gradient(
    forward: Callable[..., Tensor], backward: Callable[..., Any]
) -> Callable[..., Tensor]:
    """Give a function of tensors a gradient of your own.

    forward: (*inputs) -> tensor. backward: (g, y, *inputs) -> the cotangent of each
    input, a tensor of the input's type (a tuple if there are several inputs).
    Tensors of the outside that `forward` uses get no gradient.

    Raises:  GradientError if backward's results do not fit the inputs.
    Example:
        >>> import graphc
        >>> clip = graphc.custom_gradient(lambda x: x * 1.0, lambda g, y, x: g * 0.5)
        >>> x = graphc.input("x", ())
        >>> d = graphc.grad(clip(x), x)
        >>> float(graphc.evaluate(d, {x: 3.0}))
        0.5
    """

    def call(*inputs: Any) -> Tensor:
        tensors = [as_tensors([i])[0] for i in inputs]
        types = [t.type for t in tensors]
        args = make_args(types)
        output = forward(*args)
        region, captured = close(args, [output])
        outside = make_args([t.type for t in captured])
        y, g = make_args([output.type, output.type])
        inner = make_args(types)
        found = backward(g, y, *inner)
        grads = found if isinstance(found, (tuple, list)) else (found,)
        if [d.type for d in grads] != types:
            raise GradientError(
                f"custom_gradient: backward returned {[str(d.type) for d in grads]}, "
                f"the inputs are {[str(t) for t in types]}",
                where=here().quoted,
                help="return one cotangent of the same type for each input",
            )
        back, more = close([*inner, *outside, y, g], list(grads))
        if more:
            raise GradientError(
                "custom_gradient: backward uses tensors from outside: "
                + ", ".join(repr(t) for t in more),
                where=here().quoted,
                help="make them inputs of the function",
            )
        return make(CUSTOM_GRADIENT, [*tensors, *captured], regions=(region, back))[0]

    return call
