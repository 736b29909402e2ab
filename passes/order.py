"""order: statements that need nothing of each other come side by side.

    dh = ...  dw2 = ...  dx = dh ...        level 0: dh, dw2
                                       =>   level 1: dx

Each statement gets the level after the last one it needs; a body is then sorted by
level, so that one barrier serves a whole level. Loops and branches come last in theirs:
a barrier stands behind each, and what others read is still near before they run.
Preserves every value: what must follow stays behind. A body that has barriers is in its
order already.
"""

from __future__ import annotations

from graphc.ir.program import Barrier, Program, Region, Statement
from graphc.ir.program.hazards import dependencies
from graphc.ir.program.program import within
from graphc.passes.registry import program_pass


@program_pass("order")
def order(program: Program) -> Program:
    """Sort the statements of each body by their level of dependence."""

    def ordered(body: tuple[Statement, ...]) -> tuple[Statement, ...]:
        new = tuple(within(s, ordered) for s in body)
        if not any(isinstance(s, Barrier) for s in body):
            needs = dependencies(program, new)
            level: list[int] = []
            for each in needs:
                level.append(1 + max((level[j] for j in each), default=-1))
            last = [isinstance(s, Region) for s in new]
            ranked = sorted(range(len(level)), key=lambda i: (level[i], last[i], i))
            new = tuple(new[i] for i in ranked)
        same = all(a is b for a, b in zip(new, body, strict=True))
        return body if same else new

    body = ordered(program.body)
    return program if body is program.body else program.replace(body=body)
