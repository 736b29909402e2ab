"""pair-rows: two rows at once, so that one computes while the other waits.

    nest softmax (i0: N) {vector k0 x16}
      for k0: 64 { r0 = max x[i0, k0] }
      for k0: 64 { r1 = sum exp(x[i0, k0] - r0) } ...
                                                =>
    nest softmax (i0: N) {vector k0 x16, 2 rows}

A row of a softmax is a chain: its maximum, what comes of that, their sum, what comes of
that. Each link ends with some 60 cycles in which one vector goes through a function, or
its lanes come together, and a row is too long for the processor to see the next one.
Short rows of costly functions gain most; rows that wait for memory, or only add up,
gain nothing.

Preserves every value bit for bit: a row's sums add the same numbers in the same order.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.ir.program import Nest, Program
from graphc.ir.program.program import ARGS, with_nests
from graphc.ir.target import Target
from graphc.passes.registry import program_pass
from graphc.passes.widen import is_light, room_of


@program_pass("pair-rows")
def pair_rows(program: Program, target: Target) -> Program:
    """Choose the nests that take two rows a turn."""
    return with_nests(program, _paired) if target.lanes > 1 else program


def _paired(nest: Nest) -> Nest:
    schedule = nest.schedule
    if schedule is None or schedule.strategy != "vector" or schedule.points != 1:
        return nest
    if not schedule.parallel or len(nest.axes) != 1 or nest.axes[0].extent == 1:
        return nest
    along = [p for p in nest.phases if p.axes and p.axes[-1].name == schedule.axis]
    sums = [r for p in nest.phases for r in p.reduces]
    if any(s.accumulate for p in nest.phases for s in p.stores):
        return nest
    if any(r.monoid in ARGS for r in sums):
        return nest
    costly = [p for p in along if p.reduces and not is_light(p)]
    fits = all(
        2 * (schedule.vectors if is_light(p) else 1) <= room_of((p,), schedule.lanes)
        for p in along
    )
    if not costly or not fits:
        return nest
    return nest.replace(schedule=replace(schedule, points=2))
