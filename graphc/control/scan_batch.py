"""vmap of a scan: one scan over a batched body.

The steps stay on the first axis, the batch comes second. A carry is batched if its
first value is, or if a step makes it depend on something that is.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.control.roles import Scan, split
from graphc.ir.dims import Size
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ops.batching import batch_outputs, lead, move_axis
from graphc.ops.regions import inline


def scan_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> list[Tensor]:
    """Return the scan's results with a new leading axis."""
    attrs: Scan = node.attrs
    (region,) = node.regions
    n = attrs.carries
    flags = _settled(region, list(batched), n)
    inits, xs, consts = split(attrs, list(zip(inputs, batched, flags, strict=True)))
    given = [lead(x, size) if flag and not has else x for x, has, flag in inits]
    # The rule is given [B, T, ...]; a step of the scan takes [B, ...].
    given += [move_axis(x, 0, 1) if has else x for x, has, _ in xs]
    given += [x for x, _, _ in consts]
    types = [
        t.type.with_shape(t.shape[1:]) if n <= i < n + attrs.steps else t.type
        for i, t in enumerate(given)
    ]
    args = make_args(types)
    pairs = list(zip(region.args, args, flags, strict=True))
    with_axis = batch_outputs(
        region.outputs,
        {old: new for old, new, flag in pairs if flag},
        size,
        {old: new for old, new, flag in pairs if not flag},
    )
    outputs = list(with_axis)
    if not all(flags[:n]):
        # These depend on nothing that is batched, so the body's own nodes do.
        args_alone = [old if flag else new for old, new, flag in pairs]
        alone = inline(Region(region.args, region.outputs[:n]), args_alone)
        outputs[:n] = [
            w if f else a for w, a, f in zip(with_axis, alone, flags[:n], strict=False)
        ]
    made = make(node.op, given, attrs, [Region(args, outputs)])
    finals = [r if f else lead(r, size) for r, f in zip(made, flags[:n], strict=False)]
    return [*finals, *(move_axis(y, 1, 0) for y in made[n:])]


def _settled(region: Region, flags: list[bool], carries: int) -> list[bool]:
    """Return which arguments are batched when the carries have come to rest."""
    while True:
        reached = {a.node for a, flag in zip(region.args, flags, strict=True) if flag}
        for inner in topological(region.outputs):
            if any(t.node in reached for t in inner.inputs):
                reached.add(inner)
        new = [
            flag or (i < carries and region.outputs[i].node in reached)
            for i, flag in enumerate(flags)
        ]
        if new == flags:
            return flags
        flags = new
