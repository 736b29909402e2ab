"""`python -m benchmarks.warm`: how long a process takes to its first step, warm.

From its start, imports included; all machine code is in the cache folder. Beside it
stands a process that runs one trivial function of Numba's, cached too: the goal is
0.15 s after that at most.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.workloads import WORKLOADS

NUMBA = """
import time
from numba import njit

@njit(cache=True)
def following(x):
    return x + 1

following(1)
print(time.time(), 0.0)
"""

# What makes weights and batches is no part of it, nor are the peers' runtimes.
STEP = """
import sys, time
from benchmarks.peers.in_graphc import build
from benchmarks.workloads import WORKLOADS
work = WORKLOADS[sys.argv[1]]
start = time.perf_counter()
weights = work.weights() if hasattr(work, "weights") else None
data = work.data()
made = time.perf_counter() - start
type(work).data = lambda _: data
type(work).weights = lambda _: weights
build(work).run()
print(time.time(), made)
"""


def seconds(script: Path, *arguments: str) -> float:
    """Return the seconds from a process's start to the end of what its script does.

    It prints when it ended, and the seconds that do not count. Caches lie beside it.
    """
    ours = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    caches = {f"{n}_CACHE_DIR": str(script.parent / n) for n in ("GRAPHC", "NUMBA")}
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    started = time.time()
    done = subprocess.run(
        [sys.executable, str(script), *arguments],
        env={**ours, **caches, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    ended, apart = map(float, done.stdout.split()[-2:])
    return ended - started - apart


def compare(name: str, repeats: int = 5) -> tuple[float, float]:
    """Return the least seconds of a warm first step, and of a cached Numba function."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        step, trivial = Path(folder, "step.py"), Path(folder, "trivial.py")
        step.write_text(STEP, encoding="utf-8")
        trivial.write_text(NUMBA, encoding="utf-8")
        # The first of each fills the caches.
        times = [(seconds(step, name), seconds(trivial)) for _ in range(repeats + 1)]
    steps, trivials = zip(*times[1:], strict=True)
    return min(steps), min(trivials)


def main(
    only: Annotated[list[str] | None, typer.Argument(help="workloads")] = None,
    repeats: Annotated[int, typer.Option(help="processes of each kind")] = 5,
) -> None:
    """Print both for workloads, and how much later the step comes."""
    for name in only or WORKLOADS:
        step, numbas = compare(name, repeats)
        later = step - numbas
        print(f"{name}: {step:.2f} s, Numba {numbas:.2f} s, {later:+.2f} s")


if __name__ == "__main__":
    typer.run(main)
