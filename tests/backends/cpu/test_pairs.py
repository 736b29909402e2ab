"""Kernels that compute several rows at once have the bits of one, for any number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.backends.cpu import pace
from graphc.passes import DEFAULT

Array = np.ndarray[Any, Any]
ALONE = ",".join(name for name in DEFAULT if name != "pair-rows")
ROWS = (0, 1, 2, 3, 7, 64, 131)


def loss_and_slope(x: gc.Tensor) -> list[gc.Tensor]:
    y = gc.cast(gc.iota((x.shape[0],), 0) % x.shape[1], "int32")
    loss = nn.losses.softmax_cross_entropy(x, y)
    return [loss, *gc.grad(loss, [x])]


FORMULAS: dict[str, Callable[[gc.Tensor], Any]] = {
    "softmax": lambda x: [gc.softmax(x, axis=-1)],
    "loss": loss_and_slope,
    "two sums": lambda x: [gc.logsumexp(x, axis=1) + gc.sum(gc.exp(-x * x), 1)],
}


def paired(step: Any) -> bool:
    rows = ("2 rows", "4 rows")
    return any(text in k.source for k in step.kernels for text in rows)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("columns", [5, 64, 150])
@pytest.mark.parametrize("what", FORMULAS)
def test_rows_at_once_have_the_bits_of_one(
    what: str, columns: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    x = gc.input("x", ("N", columns), dtype)
    outputs = FORMULAS[what](x)
    alone = gc.compile([x], outputs, passes=ALONE, threads=1)
    assert not paired(alone)
    for threads in (1, 2):
        both = gc.compile([x], outputs, threads=threads)
        # Sums of float64 may leave no registers for those of another row.
        assert paired(both) or dtype == "float64"
        for n in ROWS:
            given = np.random.default_rng(n).normal(0, 3, (n, columns)).astype(dtype)
            for mine, other in zip(both(given), alone(given), strict=True):
                assert mine.tobytes() == other.tobytes()


def test_a_row_that_is_not_finite_leaves_its_neighbour_alone() -> None:
    x = gc.input("x", ("N", 40))
    step = gc.compile([x], gc.softmax(x, axis=-1))
    given = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    good = step(given)
    given[1, 7], given[2, 3] = np.nan, np.inf
    found = step(given)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[2, 3])
    for row in (0, 3, 4):
        assert found[row].tobytes() == good[row].tobytes()


def test_a_state_of_an_odd_number_of_rows_is_overwritten_in_place() -> None:
    value = np.random.default_rng(0).normal(size=(5, 40)).astype(np.float32)
    found = []
    for passes in ("default", ALONE):
        w = gc.parameter("w", init=value)
        step = gc.compile([], [], updates={w: gc.softmax(w, axis=-1)}, passes=passes)
        for _ in range(3):
            step()
        found.append(w.value.tobytes())
    assert found[0] == found[1]
