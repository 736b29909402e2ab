"""Products as narrow as a vector are turned, and give what they gave before."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.prelude import gemm
from graphc.executable import Executable

COLUMNS = gemm.shape("float32").columns
NARROW = COLUMNS // 4


def gradient(m: int, n: int, backend: str = "cpu", threads: int = 1) -> Executable:
    """Return a step that moves weights by their gradient, tanh'(x w) on top."""
    x, g = gc.input("x", ("N", m)), gc.input("g", ("N", n))
    w = gc.parameter("w", (m, n), seed=1)
    (grad,) = gc.grad(gc.sum((x @ w) * g), [w])
    return gc.compile(
        [x, g], [grad], updates={w: w - grad * w}, backend=backend, threads=threads
    )


def numbers(size: int, m: int, n: int) -> list[np.ndarray]:
    rng = np.random.default_rng(size + m + n)
    return [rng.standard_normal((size, k)).astype(np.float32) for k in (m, n)]


def is_turned(step: Executable) -> bool:
    return any("tile_rows(" in k.source for k in step.kernels)


@pytest.mark.skipif(NARROW % gemm.shape("float32").lanes > 0, reason="shorter tiles")
def test_narrow_products_of_transposed_rows_are_turned() -> None:
    assert is_turned(gradient(COLUMNS, NARROW))
    assert not is_turned(gradient(COLUMNS, NARROW + 1))
    assert not is_turned(gradient(COLUMNS - 1, NARROW))


@pytest.mark.parametrize("size", [0, 1, 7, 1023, 1024, 1025, 2051])
@pytest.mark.parametrize("m", [COLUMNS, 3 * COLUMNS])
def test_sums_of_any_length_agree_with_reference(size: int, m: int) -> None:
    given = numbers(size, m, NARROW)
    one, two = (gradient(m, NARROW, threads=t) for t in (1, 2))
    slow = gradient(m, NARROW, "reference")
    found = one(*given)[0]
    np.testing.assert_array_equal(found, two(*given)[0])
    np.testing.assert_allclose(found, slow(*given)[0], 1e-4, 1e-3)
    mine, other = (step.states[0].value for step in (one, slow))
    np.testing.assert_allclose(mine, other, 1e-4, 1e-3)


def test_infinities_stay_in_their_rows_and_columns() -> None:
    xs, gs = numbers(40, COLUMNS, NARROW)
    xs[3, 5], gs[7, 1] = np.inf, np.nan
    found = gradient(COLUMNS, NARROW)(xs, gs)[0]
    strange = np.zeros_like(found, np.bool_)
    strange[5], strange[:, 1] = True, True
    np.testing.assert_array_equal(~np.isfinite(found), strange)
