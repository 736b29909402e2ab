"""place-barriers: a barrier where a statement needs what threads wrote before.

    nest a writes t0            nest a writes t0
    nest b reads t0       =>    barrier
                                nest b reads t0

The statements of a body are taken in order; a barrier is placed before one that must
follow another since the last barrier, so each is as late as it can be. One stands
after every loop and branch that something follows: which way threads went, they have
all left it there, and what it needed may be overwritten. The ends of turns are
barriers by themselves.
"""

from __future__ import annotations

from graphc.ir.program import Barrier, If, Program, Region, Statement
from graphc.ir.program.hazards import dependencies
from graphc.ir.program.program import within
from graphc.passes.registry import program_pass


@program_pass("place-barriers")
def place_barriers(program: Program) -> Program:
    """Separate statements that depend on each other by barriers."""
    body = _placed(program, program.body, ())
    return program if body == program.body else program.replace(body=body)


def _placed(
    program: Program, old: tuple[Statement, ...], before: tuple[str, ...]
) -> tuple[Statement, ...]:
    """Place the barriers of a body; all threads read `before` as they enter it."""
    plain = [_within(program, s) for s in old if not isinstance(s, Barrier)]
    needs = dependencies(program, [Barrier(reads=before), *plain])[1:]
    body: list[Statement] = []
    since = 0
    for i, statement in enumerate(plain):
        left = bool(body) and isinstance(body[-1], Region)
        if left or any(j >= since for j in needs[i]):
            body.append(Barrier())
            since = i + 1
        body.append(statement)
    return old if body == list(old) else tuple(body)


def _within(program: Program, s: Statement) -> Statement:
    # The threads that enter a branch first must not change what others still ask.
    asked = (s.condition,) if isinstance(s, If) else ()
    return within(s, lambda body: _placed(program, body, asked))
