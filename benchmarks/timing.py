"""Timing on a machine that is shared: in turns, many times, minimum and median."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Protocol

WARM_UP, REST, TURN = 0.1, 0.05, 0.03  # seconds
ENOUGH = 5  # turns of each


class Timed(Protocol):
    """What runs a number of times and tells how long that took."""

    def time(self, runs: int) -> float:
        """Return the seconds that so many runs take."""


@dataclass(frozen=True)
class Times:
    """Seconds a step: the least, and the median of the turns that count.

    free: the share of turns with free cores before and after. Only they count, unless
    somebody had too few of them.
    """

    least: float
    median: float
    free: float = 1.0


def in_turns(
    steps: Mapping[str, Timed],
    seconds: float = 10.0,
    is_free: Callable[[], bool] = lambda: True,
) -> dict[str, Times]:
    """Time steps round by round, each for some ms in each round.

    Everybody meets the same weather: a round runs all of them one after another. Before
    a turn is a rest, in which the threads of the one before stop to spin. The first run
    of a turn is not counted, as it wakes threads and fills caches again. Where too few
    turns find free cores, it takes up to twice as long.
    """
    counts = {}
    for name, step in steps.items():
        end = time.perf_counter() + WARM_UP
        once = step.time(1)
        while time.perf_counter() < end:
            once = min(once, step.time(1))
        counts[name] = max(1, int(TURN / once))
    every: dict[str, list[float]] = {name: [] for name in steps}
    good: dict[str, list[float]] = {name: [] for name in steps}
    start, before = time.perf_counter(), is_free()
    rounds, few = 0, True
    while rounds < ENOUGH or time.perf_counter() < start + seconds * (1 + few):
        for name, step in steps.items():
            time.sleep(REST)
            step.time(1)
            every[name].append(step.time(counts[name]) / counts[name])
            after = is_free()
            if before and after:
                good[name].append(every[name][-1])
            before = after
        rounds += 1
        few = any(len(turns) < ENOUGH for turns in good.values())
    return {
        name: Times(min(t), statistics.median(t), len(good[name]) / rounds)
        for name, t in (every if few else good).items()
    }


FIRST_STEP = """
import sys, time
from benchmarks.peers import PEERS
from benchmarks.workloads import WORKLOADS
build, work = PEERS[sys.argv[1]].load(), WORKLOADS[sys.argv[2]]
work.weights() if hasattr(work, "weights") else None
data = work.data()
type(work).data = lambda _: data
start = time.perf_counter()
build(work).run()
print(time.perf_counter() - start)
"""


def first_step(peer: str, workload: str, cache: Path) -> float:
    """Return the seconds from declaration to the end of the first step.

    In a fresh process, with imports done, runtimes started (JAX's devices, Numba's
    registries) and data made before the clock starts. `cache` is the folder in which
    every peer keeps what it compiled, if it keeps anything. Modules are compiled to
    bytecode once, as an installed package's are.
    """
    caches = {
        "GRAPHC_CACHE_DIR": cache / "graphc",
        "TORCHINDUCTOR_CACHE_DIR": cache / "inductor",
        "JAX_COMPILATION_CACHE_DIR": cache / "jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0,
        "NUMBA_CACHE_DIR": cache / "numba",
        "PYTENSOR_FLAGS": f"base_compiledir={cache / 'pytensor'}",
    }
    ours = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", FIRST_STEP, peer, workload],
        env={**ours, **{name: str(value) for name, value in caches.items()}},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


@dataclass(frozen=True)
class Compiling:
    """Seconds to the first step in a fresh process, the least of several.

    bare: with an empty cache. cold: with nothing of the program in it, but with what
    `graphc prepare` leaves there, which other programs need too; peers have the like
    in their packages, for them both are one. warm: with a filled cache.
    """

    bare: float
    cold: float
    warm: float


def compile_times(peer: str, workload: str, repeats: int = 2) -> Compiling:
    """Return how long the first step takes."""
    bare, cold, warm = [], [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            bare.append(first_step(peer, workload, Path(folder)))
            if peer == "graphc":
                shutil.rmtree(folder)
                shutil.copytree(_prepared().name, folder)
                cold.append(first_step(peer, workload, Path(folder)))
            warm.append(first_step(peer, workload, Path(folder)))
    return Compiling(min(bare), min(cold or bare), min(warm))


@cache
def _prepared() -> tempfile.TemporaryDirectory[str]:
    """Return a folder with what all of graphc's programs share."""
    folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
    subprocess.run(
        [sys.executable, "-m", "graphc.cli", "prepare"],
        env={**os.environ, "GRAPHC_CACHE_DIR": str(Path(folder.name) / "graphc")},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return folder
