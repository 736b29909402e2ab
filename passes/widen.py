"""widen: a loop that reduces takes several vectors a turn, each with its own sum.

    nest sum (i0: 1024) {vector i0 x16}
      for k0: 4096 { r0 = sum x[k0, i0] }
                                                =>
    nest sum (i0: 1024) {vector i0 x16, 8 at once}
      for k0: 4096 { r0 = sum x[k0, i0] }

An addition waits for the one before it: a sum in one register adds a vector every four
cycles, though two could be added in each. Sums down the columns of a matrix gain more:
they read longer pieces of its rows, which lie far apart.

Where lanes run along a parallel axis, every value stays bit for bit. Where they run
along the axis that is reduced, the order of additions changes with the number of
vectors, which depends on the nest and the target, never on threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from graphc.ir.dims import Size, evaluate
from graphc.ir.program import LoopAxis, Nest, Phase, Program
from graphc.ir.program.program import ARGS, with_nests
from graphc.ir.scalar import PRIMITIVES, Apply, walk
from graphc.ir.target import Target
from graphc.passes.registry import program_pass

# A turn with more operations than this waits for nothing.
LIGHT = 8
# Vectors a turn: of a row, as many as the additions that wait; of a column block, as
# many as are worth going to the next row for.
ALONG, ACROSS = 4, 8
# Registers for sums, by float32 numbers in one.
ROOM = {16: 16}
FEW = 8


@program_pass("widen")
def widen(program: Program, target: Target) -> Program:
    """Choose for each nest how many vectors a loop that reduces takes a turn."""

    return with_nests(program, _widened) if target.lanes > 1 else program


def is_light(phase: Phase) -> bool:
    """Whether a phase reduces, and by little enough to wait for its own sums."""
    if not phase.reduces or any(r.monoid in ARGS for r in phase.reduces):
        return False
    return work_of(phase) <= LIGHT * len(phase.reduces)


def work_of(phase: Phase) -> int:
    """Return the operations of one turn of a phase."""
    prims = [e.prim for e in walk(*phase.roots) if isinstance(e, Apply)]
    return sum(1 if p == "cast" else PRIMITIVES[p].flops for p in prims)


def widest(nest: Nest, sizes: Mapping[str, int]) -> int:
    """Return how many vectors a turn may be worth while, for known sizes; or 1."""
    schedule = nest.schedule
    if schedule is None or schedule.strategy != "vector":
        return 1
    across = _across(nest)
    if across is not None:
        rooms = [(ACROSS, across.extent, room_of(nest.phases, schedule.lanes))]
    else:
        rooms = [
            (ALONG, p.axes[-1].extent, room_of((p,), schedule.lanes))
            for p in _along(nest)
        ]
    found = [
        min(most, -(-evaluate(extent, sizes) // schedule.lanes), room)
        for most, extent, room in rooms
    ]
    return _power(min(found, default=1)) if _sums_apart(nest) else 1


def _widened(nest: Nest) -> Nest:
    schedule = nest.schedule
    if schedule is None or schedule.strategy != "vector" or schedule.vectors != 1:
        return nest
    lanes, across = schedule.lanes, _across(nest)
    if across is not None:
        vectors = _of_columns(nest, across, lanes) if _sums_apart(nest) else 1
    else:
        vectors = min((_of_row(p, lanes) for p in _along(nest)), default=1)
    if vectors == 1:
        return nest
    return nest.replace(schedule=replace(schedule, vectors=vectors))


def _across(nest: Nest) -> LoopAxis | None:
    """Return the parallel axis that lanes run along, if it is one."""
    assert nest.schedule is not None
    axis = nest.schedule.axis
    return next((a for a in nest.axes if a.name == axis), None)


def _along(nest: Nest) -> list[Phase]:
    """Return the light phases whose last axis runs along the lanes."""
    assert nest.schedule is not None
    axis = nest.schedule.axis
    found = [p for p in nest.phases if p.axes and p.axes[-1].name == axis]
    return [p for p in found if is_light(p)]


def _sums_apart(nest: Nest) -> bool:
    """Whether several vectors of columns may be summed side by side.

    Where lanes run along a row, each light phase may.
    """
    if _across(nest) is None:
        return True
    stores = [s for p in nest.phases for s in p.stores]
    sums = [p for p in nest.phases if p.reduces]
    return (
        bool(sums)
        and all(map(is_light, sums))
        and not any(s.accumulate for s in stores)
    )


def _of_columns(nest: Nest, axis: LoopAxis, lanes: int) -> int:
    """Return the vectors of a block of columns."""
    # Known to be wide, and two blocks at least, which threads may share.
    blocks = _vectors(axis.extent, lanes, unknown=1) // 2
    work = sum(map(work_of, nest.phases))
    return _power(min(ACROSS, blocks, room_of(nest.phases, lanes), 64 // max(work, 1)))


def _of_row(phase: Phase, lanes: int) -> int:
    """Return the vectors of a row."""
    blocks = _vectors(phase.axes[-1].extent, lanes, unknown=ALONG)
    return _power(min(ALONG, blocks, room_of((phase,), lanes)))


def _vectors(extent: Size, lanes: int, unknown: int) -> int:
    return -(-extent // lanes) if isinstance(extent, int) else unknown


def room_of(phases: tuple[Phase, ...], lanes: int) -> int:
    """Return how many times the sums of these phases fit the registers."""
    sums = [r.dtype for p in phases for r in p.reduces]
    wide = sum(max(d.itemsize // 4, 1) for d in sums)
    return ROOM.get(lanes, FEW) // max(wide, 1)


def _power(most: int) -> int:
    """Return the largest power of two up to a number, 1 at least."""
    return 1 << max(most.bit_length() - 1, 0) if most > 0 else 1
