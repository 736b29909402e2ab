"""What a nest costs: arithmetic and memory, as sizes that may be symbolic."""

from __future__ import annotations

from graphc.ir.dims import Size, product
from graphc.ir.program import Nest, Program
from graphc.ir.scalar import PRIMITIVES, Apply, walk


def flops_of(nest: Nest) -> Size:
    """Return the floating-point operations of a nest, by its primitives' counts."""
    points = product(a.extent for a in nest.axes)
    total: Size = 0
    for phase in nest.phases:
        inner = product(a.extent for a in phase.axes)
        each = sum(
            PRIMITIVES[e.prim].flops
            for e in walk(*phase.roots)
            if isinstance(e, Apply) and e.prim != "cast" and e.dtype.kind != "i"
        )
        total = total + points * inner * (each + len(phase.reduces))
    return total


def bytes_of(nest: Nest, program: Program) -> Size:
    """Return the bytes that a nest must at least move: what it reads and writes."""
    total: Size = 0
    for names in (nest.reads, nest.writes):
        for root in {program.root(n) for n in names}:
            total = total + program.buffers[root].bytes
    return total
