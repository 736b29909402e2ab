"""plan-memory: when each temporary is alive.

    t0 written at 0, read at 2       t0: 0..2
    t1 written at 3              =>  t1: 3..4, may lie where t0 was

Statements between two barriers run at once, so lifetimes count barriers. Sizes may
be symbolic: the intervals are planned now, offsets are computed when sizes are
bound (`ir/program/memory.py`). Views live as long as the buffer they share.
"""

from __future__ import annotations

from graphc.ir.program import Barrier, Program
from graphc.ir.program.memory import Lifetime, MemoryPlan
from graphc.passes.registry import program_pass


@program_pass("plan-memory")
def plan_memory(program: Program) -> Program:
    """Attach the lifetimes of all temporaries."""
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    step = 0
    for statement in program.body:
        if isinstance(statement, Barrier):
            step += 1
            continue
        for name in (*statement.reads, *statement.writes):
            root = program.root(name)
            if program.buffers[root].space == "temp":
                first.setdefault(root, step)
                last[root] = step
    plan = MemoryPlan(tuple(Lifetime(n, first[n], last[n]) for n in first))
    return program if plan == program.plan else program.replace(plan=plan)
