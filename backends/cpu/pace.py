"""How long things take, roughly, in nanoseconds: to tell what is worth sharing.

Measured on one core of an Ice Lake server, over rows of `python -m benchmarks`: of
tasks of 10 us and more, four of five take between half and twice what is said here.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.backends.shared.costs import bytes_of, flops_of
from graphc.ir.dims import evaluate
from graphc.ir.program import Nest, Program, Task

# A team that saves less than this is a small one: it runs on threads that are awake, or
# on one. Threads that sleep may come after milliseconds.
TEAM = 500_000

# Each barrier must save this: it takes a tenth of that where cores are free, and far
# longer where they are shared. Where a step so saves less than 0.1 ms, a barrier must
# save less, as its threads are known to be awake, but all of it a share of the step.
BARRIER, LITTLE = 2_500, 100_000
AWAKE, SHARE = 800, 0.25

# A thread sleeps when it has waited so long, and is slow to come back: some 0.06 ms on
# free cores, 0.4 where threads of other processes spin on them, 1 where a host has lent
# the core to others meanwhile.
PATIENCE, WAKE = 5_000_000, 300_000

# Of one thread: operations in a nanosecond, in a contraction on tiles and elsewhere;
# bytes, of what a cache holds and of more; and what starting a task takes.
TILED, OTHERS, NEAR, FAR, START = 120, 60, 50, 20, 300
CACHE = 1 << 20


def nanoseconds(task: Task, program: Program, sizes: Mapping[str, int]) -> float:
    """Return how long one thread needs for a task."""
    rate = TILED if isinstance(task, Nest) and task.is_tiled else OTHERS
    moved = evaluate(bytes_of(task, program), sizes)
    reading = moved / (NEAR if moved < CACHE else FAR)
    return START + evaluate(flops_of(task), sizes) / rate + reading
