"""schedule: which axis of each nest runs along vector lanes, and what is tiled.

    nest add (i0: N, i1: 10)      =>   nest add (i0: N, i1: 10) {vector i1 x16}
    nest matmul (i0: N, i1: 512)  =>   nest matmul (...) {tile i0 by i1 x16}

A contraction of float32 or float64 matrices runs on register tiles. In other nests
lanes go along the last parallel axis, or along the last axis that each phase reduces:
the one for which fewer reads and writes are needed, those of elements that are no
neighbours counting as many. Sums that are added in memory keep to the first: no two
lanes may add to one element. Of lanes that store one, the last one does.
"""

from __future__ import annotations

from math import prod

from graphc.ir.dims import Size
from graphc.ir.program import Buffer, LoopAxis, Nest, Program, Schedule
from graphc.ir.program.alike import likeness
from graphc.ir.program.program import with_nests
from graphc.ir.scalar import Expr, Load, Ref, axes_of, linear, walk
from graphc.ir.target import Target
from graphc.passes.contraction import Contraction, contraction_of
from graphc.passes.registry import program_pass


@program_pass("schedule")
def schedule(program: Program, target: Target) -> Program:
    """Choose a schedule for each nest that has none, once for those that are alike."""
    known: dict[object, Schedule] = {}

    def scheduled(nest: Nest) -> Nest:
        if nest.schedule is not None:
            return nest
        read = tuple([program.root(n) in program.read for n in nest.writes])
        like = likeness(nest, program), read
        if like not in known:
            known[like] = choose(nest, program, target)
        return nest.replace(schedule=known[like])

    return with_nests(program, scheduled)


def choose(nest: Nest, program: Program, target: Target) -> Schedule:
    """Return the schedule of a nest for a target."""
    found = contraction_of(nest, program) if target.tiles else None
    if found is not None and (target.offsets or _is_simple(found, nest)):
        rows, axis, depth = (
            x.name for x in (found.row, nest.axes[-1], found.depth[-1])
        )
        far = _far_behind(nest, program, target)
        return Schedule("tile", axis, rows, depth, target.lanes, far=far)
    parallel, far = bool(nest.axes), _far(nest, program, target)
    candidates = [a.name for a in nest.axes[-1:]]
    last = {p.axes[-1].name for p in nest.phases if p.axes}
    if not any(s.accumulate for p in nest.phases for s in p.stores):
        candidates += sorted(last)[:1] if len(last) == 1 else []
    if not candidates:
        return Schedule("vector", lanes=target.lanes, parallel=parallel, far=far)
    best = min(candidates, key=lambda a: (_cost(nest, program, a, target.lanes), a))
    return Schedule("vector", best, lanes=target.lanes, parallel=parallel, far=far)


# The part of the largest cache beyond which data come from afar; and what an epilogue
# touches, which shares its near caches with the operands.
NEAR = 16
NEAR_BEHIND = 32


def _far(nest: Nest, program: Program, target: Target) -> str:
    """Return from how far away a nest is known to bring what it touches.

    One that reads by the number of a loop's turn touches a slice, which is near.
    """
    loads = [e for e in nest.exprs if isinstance(e, Load)]
    index = [i for e in loads for i in e.args]
    index += [i for p in nest.phases for s in p.stores for i in s.index]
    if not target.cache or any(isinstance(e, Load) for e in walk(*index)):
        return ""
    roots = {program.root(n) for n in (*nest.reads, *nest.writes)}
    sizes = [program.buffers[n].bytes for n in roots]
    known = [s for s in sizes if isinstance(s, int)]
    if len(known) < len(sizes) or NEAR * sum(known) < target.cache:
        return ""
    # What nobody reads again in the step need not stay, where it takes half the room.
    unread = all(program.root(n) not in program.read for n in nest.writes)
    return "stream" if (1 + unread) * sum(known) > target.cache else "ahead"


def _far_behind(nest: Nest, program: Program, target: Target) -> str:
    """Return from how far away the epilogue of a contraction brings what it touches.

    Of what is known to be large: weights with the slots of their optimiser.
    """
    later = nest.phases[1:]
    reads = {e.buffer for p in later for e in walk(*p.roots) if isinstance(e, Load)}
    roots = {
        program.root(n) for n in reads | {s.buffer for p in later for s in p.stores}
    }
    sizes = [program.buffers[n].bytes for n in roots]
    known = sum(s for s in sizes if isinstance(s, int))
    return "ahead" if target.cache and NEAR_BEHIND * known >= target.cache else ""


def _is_simple(found: Contraction, nest: Nest) -> bool:
    """Whether a contraction's rows are beside its columns, each a single axis.

    And its operands in that order.
    """
    product = nest.phases[0].reduces[0].values[0].args
    beside = nest.axes[-2] is found.row and product == (found.a, found.b)
    return found.is_plain and beside


# As measured, in vector accesses of neighbours: an access of others, a read of every
# other element, bringing the lanes of a sum together, a division that decodes a point.
# And a size that is not known.
SCATTERED = 24
PAIRS = 3
TOGETHER = 2
DIVISION = 8
UNKNOWN = 256


def _cost(nest: Nest, program: Program, axis: str, lanes: int) -> int:
    """Estimate the vector accesses of a nest whose lanes run along an axis."""
    points = prod(_blocks(a, axis, lanes) for a in nest.axes)
    total = points * DIVISION * max(len(nest.axes) - 1, 0)
    for phase in nest.phases:
        turns = points * prod(_blocks(a, axis, lanes) for a in phase.axes)
        accesses = 0
        for e in walk(*phase.roots):
            if isinstance(e, Load):
                step = _step(program.buffers[e.buffer], e.args, axis)
                near = step in (0, 1)
                accesses += 1 if near else PAIRS if step == 2 else SCATTERED
        along = axis in {a.name for a in phase.axes}
        mine = along or axis in {a.name for a in nest.axes}
        for s in phase.stores:
            step = _step(program.buffers[s.buffer], s.index, axis)
            near = step == 1 if mine and phase.axes else step in (0, 1)
            accesses += 1 if near else SCATTERED
        total += turns * max(accesses, 1)
        total += points * TOGETHER * len(phase.reduces) * along
    return total


def _size(extent: Size) -> int:
    return extent if isinstance(extent, int) else UNKNOWN


def _blocks(a: LoopAxis, axis: str, lanes: int) -> int:
    """Return how many turns a loop takes, in vectors if it is along the lanes."""
    return -(-_size(a.extent) // lanes) if a.name == axis else _size(a.extent)


def _step(buffer: Buffer, index: tuple[Expr, ...], axis: str) -> Size | None:
    """Return how far an access moves along an axis, whatever it does along others."""
    total: Size = 0
    for e, step in zip(index, buffer.strides, strict=True):
        form = linear(e)
        if form is not None:
            total = total + form.axes.get(axis, 0) * step
        elif axis in axes_of(e) or any(isinstance(x, Ref) for x in walk(e)):
            return None
    return total
