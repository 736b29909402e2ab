"""Compiling grows with a network's depth as its depth does: counted, not timed."""

from __future__ import annotations

import cProfile
import gc
import pstats
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn, optim
from graphc.backends.cpu.backend import CpuBackend
from graphc.passes import complete, parse_pipeline
from graphc.passes.pipeline import _verify

DEPTHS = (8, 16, 24)
# What eight layers more cost, beside the eight before them: what is paid once, or for
# the first and the last layer, is in neither. A part that grows with the square shows
# where it is a twentieth of the calls.
MOST = 1.03


def network(kind: str, depth: int) -> Any:
    """Return inputs, loss and updates of equal layers under Adam."""
    x = graphc.input("x", ("N", 16))
    y = graphc.input("y", ("N",), dtype="int32")
    h = x
    for _ in range(depth):
        if kind == "dense":
            h = nn.Dense(16, activation="relu")(h, training=True)
        else:
            inner = nn.LayerNormalization()(h, training=True)
            h = h + nn.Dense(16, activation="tanh")(inner, training=True)
    loss = nn.losses.softmax_cross_entropy(h, y)
    return [x, y], loss, optim.Adam(1e-3).updates(loss)


def calls(work: Callable[[], Any]) -> tuple[int, Any]:
    """Return how many calls some work makes, and what it returns."""
    profile = cProfile.Profile()
    # Else what other tests left behind may be collected here, whose callbacks count.
    gc.collect()
    gc.disable()
    try:
        found = profile.runcall(work)
    finally:
        gc.enable()
    stats: Any = pstats.Stats(profile)
    return stats.total_calls, found


@cache
def counts(kind: str, depth: int) -> tuple[dict[str, int], int]:
    """Return the calls of each stage of compiling, and how many kernels there are."""
    found: dict[str, int] = {}

    def note(name: str, work: Callable[[], Any]) -> Any:
        n, result = calls(work)
        found[name] = found.get(name, 0) + n
        return result

    inputs, loss, updates = note("declare", lambda: network(kind, depth))
    level: Any = note(
        "build", lambda: graphc.Graph.build(inputs, [loss], list(updates.items()))
    )
    backend = CpuBackend(1)
    graph = level
    for step in complete(parse_pipeline("default")):
        before, run = level, step.run
        level = note(run.name, partial(run.run, before, step.options, backend.target))
        note(f"verify {run.name}", partial(_verify, step, before, level))
        graph = level if isinstance(level, graphc.Graph) else graph
    runner = note("emit", lambda: backend.build(graph, level, list(graph.states)))
    note("bind", lambda: runner.bind({"N": 8}))
    return found, len(runner.kernels)


@pytest.mark.parametrize("kind", ["dense", "residual"])
def test_no_stage_grows_faster_than_the_depth(kind: str) -> None:
    counts(kind, 4)  # what is imported and cached at first use
    small, middle, large = (counts(kind, depth)[0] for depth in DEPTHS)
    growth = {
        name: round((large[name] - middle[name]) / (middle[name] - small[name]), 2)
        for name in small
    }
    assert {n: g for n, g in growth.items() if g > MOST} == {}


@pytest.mark.parametrize("kind", ["dense", "residual"])
def test_equal_layers_share_kernels(kind: str) -> None:
    assert counts(kind, DEPTHS[0])[1] == counts(kind, DEPTHS[-1])[1] <= 20


def test_new_batch_size_compiles_nothing() -> None:
    from graphc.backends.cpu.prelude.kernel import _LOADED

    inputs, loss, updates = network("dense", 2)
    step = graphc.compile(inputs, loss, updates)
    step(np.ones((4, 16), np.float32), np.zeros(4, np.int32))
    known = set(_LOADED)
    for n in (1, 7, 300):
        assert np.isfinite(step(np.ones((n, 16), np.float32), np.zeros(n, np.int32)))
    assert set(_LOADED) == known
