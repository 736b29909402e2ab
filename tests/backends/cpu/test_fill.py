"""Zeros that sums are scattered into: filled along neighbours, whatever the lanes."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc


@pytest.mark.parametrize("rows", [1, 15, 16, 17, 40])
@pytest.mark.parametrize("columns", [1, 16, 33])
def test_sums_begin_at_zero_in_rows_of_any_length(rows: int, columns: int) -> None:
    x = gc.input("x", ("N", columns))
    picked = gc.max(x * x, axis=1)
    step = gc.compile([x], gc.grad(gc.sum(picked), x))
    given = np.random.default_rng(0).standard_normal((rows, columns)).astype("f")
    wanted = gc.evaluate(gc.grad(gc.sum(picked), x), {x: given})
    np.testing.assert_allclose(step(given), wanted, 1e-6)


def test_pools_fill_their_gradient_without_scattering() -> None:
    x = gc.input("x", ("N", 3, 8, 10))
    loss = gc.sum(gc.max_pool2d(x, 2) ** 2)
    step = gc.compile([x], gc.grad(loss, x))
    (kernel,) = (k for k in step.kernels if "add_along_axis" in k.name)
    fill, _, add = kernel.source.partition("for k0 in range(n1_k0)")
    assert "store(" in fill
    assert "scatter(" not in fill
    assert "scatter(" in add
    rng = np.random.default_rng(0)
    for n in (0, 1, 5, 7):
        given = rng.standard_normal((n, 3, 8, 10)).astype("f")
        wanted = gc.evaluate(gc.grad(loss, x), {x: given})
        np.testing.assert_allclose(step(given), wanted, 1e-6)
