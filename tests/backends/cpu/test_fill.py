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
    loss = gc.sum(gc.max_pool2d(x, 3, 2) ** 2)
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


@pytest.mark.parametrize("size", [(8, 10), (7, 33), (1, 2), (40, 5)])
def test_windows_apart_put_their_gradients_where_nothing_is_added(size) -> None:
    x = gc.input("x", ("N", 3, *size))
    loss = gc.sum(gc.max_pool2d(x, (1, 2)) ** 3)
    step = gc.compile([x], gc.grad(loss, x))
    (kernel,) = (k for k in step.kernels if "place_along_axis" in k.name)
    assert "gather(" not in kernel.source
    assert "strided(" not in kernel.source
    again = gc.grad(gc.sum(gc.grad(loss, x) ** 2), x)
    rng = np.random.default_rng(1)
    for n in (0, 1, 5):
        given = rng.standard_normal((n, 3, *size)).astype("f")
        for made in (gc.grad(loss, x), again):
            wanted = gc.evaluate(made, {x: given})
            found = gc.compile([x], made)(given)
            np.testing.assert_allclose(found, wanted, 1e-5, 1e-5)


@pytest.mark.parametrize("count", [1, 16, 50])
def test_of_values_put_in_one_place_the_last_stays_whatever_the_lanes(count) -> None:
    x, v = gc.input("x", ("N", 5)), gc.input("v", ("N", count))
    i = gc.input("i", ("N", count), "int32")
    made = gc.put_along_axis(x, i, v, 1)
    rng = np.random.default_rng(2)
    given = rng.standard_normal((3, 5)).astype("f")
    values = rng.standard_normal((3, count)).astype("f")
    places = rng.integers(0, 5, (3, count)).astype(np.int32)
    wanted = given.copy()
    for row, at in np.ndindex(3, count):
        wanted[row, places[row, at]] = values[row, at]
    np.testing.assert_array_equal(
        gc.compile([x, v, i], made)(given, values, places), wanted
    )
