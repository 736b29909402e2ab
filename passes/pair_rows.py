"""pair-rows: several rows at once, so that one computes while the others wait.

    nest softmax (i0: N) {vector k0 x16}
      for k0: 64 { r0 = max x[i0, k0] }
      for k0: 64 { r1 = sum exp(x[i0, k0] - r0) } ...
                                                =>
    nest softmax (i0: N) {vector k0 x16, 4 rows}

A row of a softmax is a chain: its maximum, what comes of that, their sum, what comes of
that. Each link ends with some 60 cycles in which one vector goes through a function, or
its lanes come together, and a row is too long for the processor to see the next one.
Short rows of costly functions gain most, four of them more than two; rows that wait
for memory, or only add up, gain nothing.

Preserves every value bit for bit: a row's sums add the same numbers in the same order.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.ir.program import Nest, Phase, Program
from graphc.ir.program.program import ARGS, with_nests
from graphc.ir.target import Target
from graphc.passes.registry import program_pass
from graphc.passes.widen import is_light, room_of

# Rows at once, and of so few vectors that four are still short.
POINTS, MOST, SHORT = 2, 4, 4


@program_pass("pair-rows")
def pair_rows(program: Program, target: Target) -> Program:
    """Choose the nests that take several rows a turn."""
    return with_nests(program, _paired) if target.lanes > 1 else program


def may_pair(nest: Nest, points: int = POINTS) -> bool:
    """Whether a nest may take so many rows a turn, and registers hold their sums."""
    schedule = nest.schedule
    if schedule is None or schedule.strategy != "vector":
        return False
    if not schedule.parallel or len(nest.axes) != 1:
        return False
    along = _along(nest)
    sums = [r for p in nest.phases for r in p.reduces]
    if any(s.accumulate for p in nest.phases for s in p.stores):
        return False
    if any(r.monoid in ARGS for r in sums):
        return False
    fits = all(
        points * (schedule.vectors if is_light(p) else 1)
        <= room_of((p,), schedule.lanes)
        for p in along
    )
    return fits and any(p.reduces for p in along)


def _along(nest: Nest) -> list[Phase]:
    """Return the phases whose last axis runs along the lanes."""
    assert nest.schedule is not None
    axis = nest.schedule.axis
    return [p for p in nest.phases if p.axes and p.axes[-1].name == axis]


def _paired(nest: Nest) -> Nest:
    schedule = nest.schedule
    if schedule is None or schedule.points != 1 or not may_pair(nest):
        return nest
    costly = any(p.reduces and not is_light(p) for p in _along(nest))
    if not costly or nest.axes[0].extent == 1:
        return nest
    longest = [p.axes[-1].extent for p in _along(nest)]
    short = all(isinstance(n, int) and n <= SHORT * schedule.lanes for n in longest)
    points = MOST if short and may_pair(nest, MOST) else POINTS
    return nest.replace(schedule=replace(schedule, points=points))
