"""Timing on a machine that is shared: in turns, many times, minimum and median."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Step = Callable[[], float]


@dataclass(frozen=True)
class Times:
    """Seconds a step: the least, and the median of the rounds."""

    least: float
    median: float


def in_turns(steps: Mapping[str, Step], seconds: float = 10.0) -> dict[str, Times]:
    """Time steps round by round, each for some ms in each round.

    Everybody meets the same weather: a round runs all of them one after another.
    """
    counts = {}
    for name, step in steps.items():
        for _ in range(5):
            step()
        start = time.perf_counter()
        step()
        once = time.perf_counter() - start
        counts[name] = max(1, int(0.03 / once))
    found: dict[str, list[float]] = {name: [] for name in steps}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(found.values()))) < 5:
        for name, step in steps.items():
            start = time.perf_counter()
            for _ in range(counts[name]):
                step()
            found[name].append((time.perf_counter() - start) / counts[name])
    return {n: Times(min(t), statistics.median(t)) for n, t in found.items()}


def first_step(peer: str, workload: str, cache: str) -> float:
    """Return the seconds from declaration to the end of the first step.

    In a fresh process, with imports done and runtimes started (JAX's devices, Numba's
    registries) before the clock starts. `cache` is the folder of graphc's kernels;
    peers keep nothing between processes by default.
    """
    code = (
        "import json, sys, time\n"
        "from benchmarks.peers import PEERS\n"
        "from benchmarks.workloads import WORKLOADS\n"
        "module, make = PEERS[sys.argv[1]]\n"
        "__import__(module)\n"
        "if module == 'jax': import jax; jax.devices()\n"
        "if module == 'graphc':\n"
        "    from numba.core.registry import cpu_target as numba\n"
        "    numba.typing_context.refresh(), numba.target_context.refresh()\n"
        "start = time.perf_counter()\n"
        "make(WORKLOADS[sys.argv[2]])()\n"
        "print(json.dumps(time.perf_counter() - start))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, peer, workload],
        env={**os.environ, "GRAPHC_CACHE_DIR": cache},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def compile_times(
    peer: str, workload: str, repeats: int = 3
) -> tuple[float, float | None]:
    """Return the least seconds to the first step, cold and warm (graphc only)."""
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_step(peer, workload, cache))
            if peer == "graphc":
                warm.append(first_step(peer, workload, cache))
    return min(cold), min(warm) if warm else None
