"""What a nest or a call costs: arithmetic and memory, as sizes, perhaps symbolic."""

from __future__ import annotations

from graphc.ir.dims import Size, product
from graphc.ir.program import Call, Program, Task
from graphc.ir.program.routines import routine
from graphc.ir.scalar import PRIMITIVES, Apply, walk


def flops_of(task: Task) -> Size:
    """Return the floating-point operations of a nest, by its primitives' counts.

    A routine says itself how many it needs.
    """
    if isinstance(task, Call):
        return routine(task.routine).flops(dict(task.options))
    points = product(a.extent for a in task.axes)
    total: Size = 0
    for phase in task.phases:
        inner = product(a.extent for a in phase.axes)
        each = sum(
            PRIMITIVES[e.prim].flops
            for e in walk(*phase.roots)
            if isinstance(e, Apply) and e.prim != "cast" and e.dtype.kind != "i"
        )
        total = total + points * inner * (each + len(phase.reduces))
    return total


def bytes_of(task: Task, program: Program) -> Size:
    """Return the bytes that a task must at least move: what it reads and writes."""
    total: Size = 0
    for names in (task.reads, task.writes):
        for root in {program.root(n) for n in names}:
            total = total + program.buffers[root].bytes
    return total
