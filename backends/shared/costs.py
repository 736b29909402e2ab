"""What a nest or a call costs: arithmetic and memory, as sizes, perhaps symbolic."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.dims import Size, product
from graphc.ir.program import Call, Nest, Program, Task
from graphc.ir.program.routines import routine
from graphc.ir.scalar import PRIMITIVES, Apply, Expr, Load, is_uniform, walk
from graphc.passes.framed import unframed

_Access = tuple[str, tuple[Expr, ...]]  # a buffer, and an index


def flops_of(task: Task) -> Size:
    """Return the floating-point operations of a nest, by its primitives' counts.

    Padding is none. A routine says itself how many it needs.
    """
    if isinstance(task, Call):
        return routine(task.routine).flops(dict(task.options))
    points = product(a.extent for a in task.axes)
    total: Size = 0
    for phase in task.phases:
        inner = product(a.extent for a in phase.axes)
        each = sum(
            PRIMITIVES[e.prim].flops
            for e in walk(*map(unframed, phase.roots))
            if isinstance(e, Apply) and e.prim != "cast" and e.dtype.kind != "i"
        )
        total = total + points * inner * (each + len(phase.reduces))
    return total


def bytes_of(task: Task, program: Program) -> Size:
    """Return the bytes that a task must at least move: what it reads and writes.

    Of a buffer that it enters by the number of a loop's turn, that is one slice.
    """
    total: Size = 0
    for names, accesses in zip(
        (task.reads, task.writes),
        _accesses(task) if isinstance(task, Nest) else ([], []),
        strict=True,
    ):
        for root in {program.root(n) for n in names}:
            mine = [a for a in accesses if program.root(a[0]) == root]
            total = total + _touched(mine or [(root, ())], program)
    return total


def _accesses(nest: Nest) -> tuple[list[_Access], list[_Access]]:
    """Return what a nest reads and what it writes, as (buffer, index)."""
    stores = [s for p in nest.phases for s in p.stores]
    reads = [(e.buffer, e.args) for e in nest.exprs if isinstance(e, Load)]
    reads += [(s.buffer, s.index) for s in stores if s.accumulate]
    return reads, [(s.buffer, s.index) for s in stores]


def _touched(accesses: Sequence[_Access], program: Program) -> Size:
    """Return the bytes of a buffer that accesses touch, at most."""
    buffer = program.buffers[accesses[0][0]]
    if any(name != buffer.name for name, _ in accesses):
        return program.buffers[program.root(buffer.name)].bytes
    sizes = list(buffer.shape)
    for d in range(len(sizes)):
        if all(index and _is_slice(index[d]) for _, index in accesses):
            sizes[d] = 1
    return product((*sizes, buffer.dtype.itemsize))


def _is_slice(e: Expr) -> bool:
    return is_uniform(e) and any(isinstance(x, Load) for x in walk(e))
