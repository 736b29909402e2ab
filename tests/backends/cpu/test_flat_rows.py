"""Narrow rows of a product's results are updated as one, to the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.executable import Executable


def updating(m: int, n: int, backend: str, spread: bool = False) -> Executable:
    """Return a step that updates weights by a product; spread: and a row of scales."""
    x, g = gc.input("x", ("N", m)), gc.input("g", ("N", n))
    w = gc.parameter("w", (m, n), seed=1)
    s = gc.parameter("s", (n,), init="ones", trainable=False)
    rate = gc.input("rate", ())
    loss = gc.sum((x @ w) * g)
    (grad,) = gc.grad(loss, [w])
    scaled = grad * gc.sqrt(gc.abs(w)) * (s if spread else rate)
    return gc.compile([x, g, rate], loss, updates={w: w - scaled}, backend=backend)


def is_flat(step: Executable) -> bool:
    (update,) = (k.source for k in step.kernels if " sqrt(" in k.source)
    return "range(0, rows * cols" in update


def numbers(*shapes: tuple[int, ...]) -> list[Any]:
    rng = np.random.default_rng(sum(map(sum, shapes)))
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


@pytest.mark.parametrize("n", [1, 10, 15, 16, 17, 33, 63, 64, 70])
@pytest.mark.parametrize("m", [1, 6, 7, 20])
def test_updates_of_any_width_agree_with_reference(m: int, n: int) -> None:
    fast, slow = updating(m, n, "cpu"), updating(m, n, "reference")
    for size in (0, 1, 40):
        given = [*numbers((size, m), (size, n)), np.float32(0.1)]
        np.testing.assert_allclose(fast(*given), slow(*given), 1e-4, 1e-4)
        mine, other = (step.states[0].value for step in (fast, slow))
        np.testing.assert_allclose(mine, other, 1e-4, 1e-4)
    assert is_flat(fast) == (m > 1 and n in (10, 15, 17, 33, 63))


def test_what_differs_from_column_to_column_keeps_rows_apart() -> None:
    assert is_flat(updating(20, 10, "cpu"))
    assert not is_flat(updating(20, 10, "cpu", spread=True))
