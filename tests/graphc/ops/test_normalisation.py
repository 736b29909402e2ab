"""Normalisation: values, one nest each, hard rows, statistics, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, ShapeError

Array = np.ndarray[Any, Any]


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def standardized(x: Array, axis: Any, eps: float) -> Array:
    wide = x.astype(np.float64)
    centred = wide - wide.mean(axis, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis, keepdims=True) + eps)


# --- values -------------------------------------------------------------------------


@pytest.mark.parametrize("d", [1, 2, 13, 16, 33, 257])
def test_layer_and_rms_norm_at_every_width(d: int) -> None:
    x, w, b = gc.input("x", ("N", "D")), gc.input("w", ("D",)), gc.input("b", ("D",))
    step = _norms(x, w, b)
    a, v, c = sample(5, d), sample(d, seed=1), sample(d, seed=2)
    layer, rms = step(a, v, c)
    np.testing.assert_allclose(layer, standardized(a, 1, 1e-5) * v + c, 1e-4, 1e-5)
    square = np.mean(a.astype(np.float64) ** 2, 1, keepdims=True)
    np.testing.assert_allclose(rms, a / np.sqrt(square + 1e-6) * v, 1e-4, 1e-5)


_STEP: list[Any] = []


def _norms(x: gc.Tensor, w: gc.Tensor, b: gc.Tensor) -> Any:
    if not _STEP:
        _STEP.append(gc.compile([x, w, b], [gc.layer_norm(x, w, b), gc.rms_norm(x, w)]))
    return _STEP[0]


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_norm_is_that_of_each_group(groups: int) -> None:
    x = gc.input("x", ("N", 6, "H", 3))
    w, b = sample(6, seed=1), sample(6, seed=2)
    a = sample(4, 6, 5, 3)
    found = gc.compile([x], gc.group_norm(x, groups, w, b))(a)
    rows = a.reshape(4, groups, -1)
    expected = standardized(rows, 2, 1e-5).reshape(a.shape)
    each = w[:, None, None], b[:, None, None]
    np.testing.assert_allclose(found, expected * each[0] + each[1], 1e-4, 1e-5)


def test_group_norm_of_channels_that_come_last() -> None:
    x = gc.input("x", ("N", "H", 6))
    a, w = sample(4, 5, 6), sample(6, seed=1)
    found = gc.evaluate(gc.group_norm(x, 3, w, axis=-1), {x: a})
    moved = np.moveaxis(a, -1, 1)
    expected = gc.evaluate(gc.group_norm(moved, 3, w))
    np.testing.assert_allclose(found, np.moveaxis(expected, 1, -1), 1e-6, 1e-6)


@pytest.mark.parametrize("axis", [1, -1])
def test_batch_norm_by_the_batch_and_by_known_statistics(axis: int) -> None:
    x = gc.input("x", ("N", 3, "H", 3))
    w, b = sample(3, seed=1), sample(3, seed=2)
    y, mean, variance = gc.batch_norm_training(x, w, b, axis=axis)
    a = sample(4, 3, 5, 3) * 2 + 1
    found, middle, spread = gc.compile([x], [y, mean, variance])(a)
    others = tuple(i for i in range(4) if i != axis % 4)
    np.testing.assert_allclose(middle, a.mean(others), 1e-5, 1e-6)
    np.testing.assert_allclose(spread, a.var(others), 1e-5)
    along = [1] * 4
    along[axis] = 3
    expected = standardized(a, others, 1e-5) * w.reshape(along) + b.reshape(along)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
    known = gc.batch_norm(a, middle, spread, w, b, axis=axis)
    np.testing.assert_allclose(gc.evaluate(known), expected, 1e-4, 1e-5)


def test_ints_become_floats_and_doubles_stay() -> None:
    ints = gc.layer_norm(np.array([[1, 3]], np.int32), eps=0.0)
    assert gc.evaluate(ints).tolist() == [[-1.0, 1.0]]
    assert ints.dtype.name == "float32"
    x = gc.input("x", ("N", 4), "float64")
    assert gc.rms_norm(x, np.ones(4, np.float32)).dtype.name == "float64"


# --- one nest -----------------------------------------------------------------------


def test_each_norm_is_one_nest() -> None:
    x, w, b = gc.input("x", ("N", "D")), gc.input("w", ("D",)), gc.input("b", ("D",))
    assert len(gc.compile([x, w, b], gc.layer_norm(x, w, b)).program.nests) == 1
    assert len(gc.compile([x, w], gc.rms_norm(x, w)).program.nests) == 1
    image, c = gc.input("x", ("N", 3, "H", "W")), gc.input("c", (3,))
    y, mean, variance = gc.batch_norm_training(image, c)
    step = gc.compile([image, c], [y, mean * 0.1, variance * 0.1])
    assert len(step.program.nests) == 1


# --- hard rows ----------------------------------------------------------------------


@pytest.mark.parametrize("norm", [gc.layer_norm, gc.rms_norm])
def test_rows_without_spread_have_finite_gradients(norm: Callable[..., Any]) -> None:
    x = gc.input("x", ("N", 4))
    g = gc.input("g", ("N", 4))
    y = norm(x)
    step = gc.compile([x, g], [y, gc.grad(y, x, g)])
    found, slope = step(np.zeros((2, 4), np.float32), sample(2, 4))
    np.testing.assert_array_equal(found, 0)
    assert np.isfinite(slope).all()


def test_a_large_mean_costs_no_digits() -> None:
    """Two passes: squares are taken of what is left after the mean."""
    x = gc.input("x", ("N", "D"))
    a = sample(3, 500) + np.float32(3000)
    found = gc.compile([x], gc.layer_norm(x))(a)
    np.testing.assert_allclose(found, standardized(a, 1, 1e-5), 1e-3, 1e-3)


def test_nan_stays_in_its_row_and_infinity_becomes_nan() -> None:
    x = gc.input("x", ("N", 3))
    a = np.array([[1, 2, 3], [1, np.nan, 3], [1, np.inf, 3]], np.float32)
    found = gc.compile([x], gc.layer_norm(x))(a)
    np.testing.assert_array_equal(np.isnan(found).any(1), [False, True, True])
    np.testing.assert_array_equal(gc.evaluate(gc.layer_norm(x), {x: a}), found)


def test_no_rows() -> None:
    x = gc.input("x", ("N", 3))
    step = gc.compile([x], [gc.layer_norm(x), gc.rms_norm(x)])
    assert [f.shape for f in step(np.zeros((0, 3), np.float32))] == [(0, 3)] * 2


# --- errors -------------------------------------------------------------------------

ERRORS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (
        lambda x: gc.layer_norm(x, np.ones(3)),
        ShapeError,
        r"shape \[4\], the sizes of the axes \[2\] of x f32\[N,6,4\]",
    ),
    (lambda x: gc.rms_norm(x, axis=3), ArgumentError, "axis 3 is out of range for x"),
    (lambda x: gc.group_norm(x, 4), ShapeError, r"4 groups do not divide x\[1\]=6"),
    (lambda x: gc.group_norm(x, 0), ArgumentError, "groups must be positive"),
    (lambda x: gc.group_norm(x, 1.5), ArgumentError, "positive int, not 1.5"),
    (lambda x: gc.batch_norm(x, np.zeros(4), np.ones(6)), ShapeError, r"shape \[6\]"),
    (lambda x: gc.batch_norm_training(x, axis=5), ArgumentError, "axis 5"),
]


@pytest.mark.parametrize(("call", "kind", "says"), ERRORS, ids=[e[2] for e in ERRORS])
def test_mistakes_are_named_with_their_line(
    call: Callable[[Any], Any], kind: type[Exception], says: str
) -> None:
    x = gc.input("x", ("N", 6, 4))
    with pytest.raises(kind, match=says) as raised:
        call(x)
    assert "test_normalisation.py:" in str(raised.value)
