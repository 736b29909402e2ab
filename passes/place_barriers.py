"""place-barriers: a barrier where a statement needs what threads wrote before.

    nest a writes t0            nest a writes t0
    nest b reads t0       =>    barrier
                                nest b reads t0

Statements are taken in order; a barrier is placed before one that must follow
another since the last barrier, so each is as late as it can be.
"""

from __future__ import annotations

from graphc.ir.program import Barrier, Program, Statement
from graphc.ir.program.hazards import dependencies
from graphc.passes.registry import program_pass


@program_pass("place-barriers")
def place_barriers(program: Program) -> Program:
    """Separate statements that depend on each other by barriers."""
    plain = [s for s in program.body if not isinstance(s, Barrier)]
    needs = dependencies(program, plain)
    body: list[Statement] = []
    since = 0
    for i, statement in enumerate(plain):
        if any(j >= since for j in needs[i]):
            body.append(Barrier())
            since = i
        body.append(statement)
    if body == list(program.body):
        return program
    return program.replace(body=tuple(body))
