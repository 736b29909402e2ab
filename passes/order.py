"""order: statements that need nothing of each other come side by side.

    dh = ...  dw2 = ...  dx = dh ...        level 0: dh, dw2
                                       =>   level 1: dx

Each statement gets the level after the last one it needs; the program is then
sorted by level, so that one barrier serves a whole level. Preserves every value:
what must follow stays behind. A program that has barriers is in its order already.
"""

from __future__ import annotations

from graphc.ir.program import Barrier, Program
from graphc.ir.program.hazards import dependencies
from graphc.passes.registry import program_pass


@program_pass("order")
def order(program: Program) -> Program:
    """Sort statements by their level of dependence."""
    if any(isinstance(s, Barrier) for s in program.body):
        return program
    needs = dependencies(program, program.body)
    level: list[int] = []
    for each in needs:
        level.append(1 + max((level[j] for j in each), default=-1))
    ranked = sorted(range(len(level)), key=lambda i: (level[i], i))
    if ranked == list(range(len(level))):
        return program
    return program.replace(body=tuple(program.body[i] for i in ranked))
