"""Axes, order, diagonals and ranges against NumPy; symbolic sizes; errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, GuardError, ShapeError

Array = np.ndarray[Any, Any]
A = np.arange(24.0).reshape(2, 3, 4)


# Functions of one array, which bear the same names here and in NumPy.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "expand_dims": lambda m, x: m.expand_dims(x, (0, 2)),
    "squeeze": lambda m, x: m.squeeze(x[None, :, :1], (0, 2)),
    "squeeze all": lambda m, x: m.squeeze(x[:1, :1]),
    "moveaxis": lambda m, x: m.moveaxis(x, (0, 1), (-1, 0)),
    "swapaxes": lambda m, x: m.swapaxes(x, -1, 0),
    "ravel": lambda m, x: m.ravel(x),
    "stack": lambda m, x: m.stack([x, x], -1),
    "tile": lambda m, x: m.tile(x, (3, 1, 2, 1)),
    "tile one": lambda m, x: m.tile(x, 2),
    "tile none": lambda m, x: m.tile(x, (0, 1)),
    "repeat": lambda m, x: m.repeat(x, 2, -1),
    "repeat flat": lambda m, x: m.repeat(x, 3),
    "repeat some": lambda m, x: m.repeat(x, [2, 0, 1], 1),
    "flip": lambda m, x: m.flip(x),
    "flip axes": lambda m, x: m.flip(x, (0, -1)),
    "roll": lambda m, x: m.roll(x, 5),
    "roll axis": lambda m, x: m.roll(x, -1, 1),
    "roll axes": lambda m, x: m.roll(x, (1, 7), (0, -1)),
    "roll twice": lambda m, x: m.roll(x, 1, (1, 2)),
    "diagonal": lambda m, x: m.diagonal(x, 1, 1, 2),
    "diagonal below": lambda m, x: m.diagonal(x, -1),
    "trace": lambda m, x: m.trace(x, -1, 2, 1),
    "diag": lambda m, x: m.diag(x[0, 0], -2),
    "diag of": lambda m, x: m.diag(x[0], 1),
    "tril": lambda m, x: m.tril(x, 1),
    "triu": lambda m, x: m.triu(x, -1),
    "ones_like": lambda m, x: m.ones_like(x),
    "zeros_like": lambda m, x: m.zeros_like(x),
    "full_like": lambda m, x: m.full_like(x, 2.5),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dtype", ["float64", "int32"])
def test_functions_are_numpys(name: str, dtype: str) -> None:
    call, a = CALLS[name], A.astype(dtype)
    x = gc.input("x", a.shape, dtype)
    found, expected = gc.evaluate(call(gc, x), {x: a}), call(np, a)
    assert found.dtype == a.dtype
    np.testing.assert_array_equal(found, expected)


SIZED = [
    n for n in CALLS if n not in ("repeat some", "squeeze all", "squeeze", "diag of")
]


@pytest.mark.parametrize("n", [1, 2, 7, 17])
def test_functions_of_symbolic_sizes_on_the_cpu(n: int) -> None:
    x = gc.input("x", ("N", "N + 1", "M"))
    step = compiled_once(x)
    a = np.arange(n * (n + 1) * 5, dtype=np.float32).reshape(n, n + 1, 5)
    for name, found in step(a).items():
        np.testing.assert_array_equal(found, CALLS[name](np, a), name)


_STEPS: dict[int, Any] = {}


def compiled_once(x: gc.Tensor) -> Any:
    if not _STEPS:
        _STEPS[0] = gc.compile([x], {n: CALLS[n](gc, x) for n in SIZED})
    return _STEPS[0]


def test_tensors_have_the_methods() -> None:
    x = gc.input("x", (1, 3, 3))
    a = np.arange(9, dtype=np.float32).reshape(1, 3, 3)
    pairs = [
        (x.squeeze(), a.squeeze()),
        (x.flatten(), a.flatten()),
        (x.ravel(), a.ravel()),
        (x.swapaxes(0, 1), a.swapaxes(0, 1)),
        (x.repeat(2, 1), a.repeat(2, 1)),
        (x.diagonal(0, 1, 2), a.diagonal(0, 1, 2)),
        (x.trace(1, 1, 2), a.trace(1, 1, 2)),
        (x[0].dot(x[0]), a[0].dot(a[0])),
        (x.prod(1), a.prod(1)),
        (x.any(), a.any()),
        (x.all(1), a.all(1)),
        (x.argmin(1), a.argmin(1)),
        (x.std(1), a.std(1)),
        (x.var(1, ddof=1), a.var(1, ddof=1)),
    ]
    found = gc.evaluate([t for t, _ in pairs], {x: a})
    for f, (_, e) in zip(found, pairs, strict=True):
        np.testing.assert_allclose(f, e, 1e-6)


# --- split --------------------------------------------------------------------------


@pytest.mark.parametrize("where", [2, 4, [1], [1, 3], [0, 2], [2, 2], [-1], [1, 9], []])
def test_split_is_numpys(where: Any) -> None:
    x = gc.input("x", A.shape, "float64")
    found = gc.evaluate(gc.split(x, where, -1), {x: A})
    expected = np.split(A, where, -1)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)


def test_split_of_a_multiple_and_at_a_dimension() -> None:
    x = gc.input("x", ("3*N", "M"))
    assert [str(t.type) for t in gc.split(x, 3)] == ["f32[N,M]"] * 3
    n = gc.input("n", ("N",)).shape[0]
    assert [str(t.type) for t in gc.split(x, [n])] == ["f32[N,M]", "f32[2*N,M]"]
    with pytest.raises(ShapeError, match=r"x\[1\]=M is not a multiple of 2"):
        gc.split(x, 2, 1)
    with pytest.raises(ArgumentError, match="positive int"):
        gc.split(x, 0)


# --- empty and single ---------------------------------------------------------------


def test_nothing_in_nothing_out() -> None:
    x = gc.input("x", ("N", 3))
    made = {
        "flip": gc.flip(x, 0),
        "roll": gc.roll(x, 2, 0),
        "tile": gc.tile(x, (2, 1)),
        "repeat": gc.repeat(x, 3, 0),
        "diag": gc.diag(x[:, 0]),
        "tril": gc.tril(x),
        "diagonal": gc.diagonal(x),
        "trace": gc.trace(x),
        "prod": gc.prod(x, 0),
        "any": gc.any(x, 0),
        "all": gc.all(x, 0),
    }
    found = gc.compile([x], made)(np.zeros((0, 3), np.float32))
    assert [f.shape for f in found.values()][:4] == [(0, 3)] * 4
    assert found["diag"].shape == (0, 0)
    assert found["diagonal"].shape == (0,)
    assert found["trace"] == 0
    assert found["prod"].tolist() == [1, 1, 1]
    assert found["any"].tolist() == [False] * 3
    assert found["all"].tolist() == [True] * 3
    with pytest.raises(GuardError, match="N >= 1"):
        gc.compile([x], gc.argmin(x, 0))(np.zeros((0, 3), np.float32))


def test_a_diagonal_beside_the_matrix_is_empty() -> None:
    x = gc.input("x", (2, 3))
    y = gc.diagonal(x, 5)
    assert y.shape == (0,)
    slope = gc.grad(gc.sum(y) + gc.sum(x), x)
    np.testing.assert_array_equal(gc.evaluate(slope, {x: np.ones((2, 3))}), 1)


def test_nan_and_infinity_pass_by_a_mask() -> None:
    a = np.array([[1.0, np.inf], [np.nan, 2.0]])
    np.testing.assert_array_equal(gc.evaluate(gc.tril(a)), np.tril(a))
    np.testing.assert_array_equal(gc.evaluate(gc.trace(a)), 3.0)


# --- ranges -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", [(5,), (2, 9), (2, 9, 3), (9, 2, -2), (3, 1), (0.5, 2.0, 0.25), (1.0,)]
)
def test_arange_is_numpys(given: Any) -> None:
    found, expected = gc.evaluate(gc.arange(*given)), np.arange(*given)
    assert found.dtype == (np.int32 if expected.dtype.kind == "i" else np.float32)
    np.testing.assert_allclose(found, expected, 1e-6)


def test_arange_to_a_dimension() -> None:
    x = gc.input("x", ("N", "M"))
    n, m = x.shape
    made = [
        gc.arange(n),
        gc.arange(1, n, 2),
        gc.arange(n, n + m),
        gc.arange(n, dtype="float32"),
    ]
    found = gc.compile([x], made)(np.zeros((5, 3), np.float32))
    expected = [np.arange(5), np.arange(1, 5, 2), np.arange(5, 8), np.arange(5.0)]
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)
    with pytest.raises(ArgumentError, match="step a positive int"):
        gc.arange(n, 0, -1)
    with pytest.raises(ArgumentError, match="step is 0"):
        gc.arange(1, 2, 0)
    with pytest.raises(ArgumentError, match="must be numbers"):
        gc.arange(x)


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("num", [0, 1, 2, 7])
def test_linspace_is_numpys(num: int, endpoint: bool) -> None:
    expected = np.linspace(-1.0, 2.0, num, endpoint)
    found = gc.evaluate(gc.linspace(-1, 2, num, endpoint))
    np.testing.assert_allclose(found, expected, 1e-6, 1e-6)
    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.linspace(-1, 2, x.shape[0], endpoint))
    np.testing.assert_allclose(step(np.zeros(num, np.float32)), expected, 1e-6, 1e-6)


def test_linspace_between_tensors_ends_exactly() -> None:
    stop = gc.input("stop", (), "float64")
    y = gc.linspace(0.0, stop, 11)
    assert y.dtype.name == "float64"
    assert gc.evaluate(y, {stop: 0.7})[-1] == 0.7
    slope = gc.grad(gc.sum(y), stop)
    assert gc.evaluate(slope, {stop: 0.7}) == pytest.approx(5.5)


@pytest.mark.parametrize("indexing", ["xy", "ij"])
def test_meshgrid_is_numpys(indexing: Any) -> None:
    given = [np.arange(2.0), np.arange(3.0), np.arange(4.0)]
    for count in (1, 2, 3):
        found = gc.evaluate(gc.meshgrid(*given[:count], indexing=indexing))
        expected = np.meshgrid(*given[:count], indexing=indexing)
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(f, e)


def test_eye_is_numpys() -> None:
    for given in ((3,), (2, 4), (3, 3, 1), (4, 2, -2)):
        np.testing.assert_array_equal(gc.evaluate(gc.eye(*given)), np.eye(*given))
    assert gc.eye("N", dtype="bool").dtype.name == "bool"


# --- prod ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "row", [[2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [0.0, 0.0, 0.0], [4.0]]
)
def test_gradients_of_a_product_are_right_at_zeros(row: list[float]) -> None:
    """First and second derivatives are products of the others."""
    x = gc.input("x", ("N",), "float64")
    first = gc.grad(gc.prod(x), x)
    n = len(row)
    for backend in ("reference", "cpu"):
        found = gc.compile([x], first, backend=backend)(row)
        for i in range(n):
            assert found[i] == np.prod([v for k, v in enumerate(row) if k != i])
    for i in range(n):
        second = gc.evaluate(gc.grad(first[i], x) if n > 1 else x * 0, {x: row})
        for j in range(n):
            others = [v for k, v in enumerate(row) if k not in (i, j)]
            assert second[j] == (0 if i == j else np.prod(others))


def test_std_has_a_gradient_of_zero_where_all_are_equal() -> None:
    x = gc.input("x", ("N", 3))
    slope = gc.grad(gc.sum(gc.std(x, 1)), x)
    a = np.array([[2.0, 2.0, 2.0], [1.0, 2.0, 4.0]], np.float32)
    found = gc.compile([x], slope)(a)
    np.testing.assert_array_equal(found[0], 0)
    centred = a[1] - a[1].mean()
    np.testing.assert_allclose(found[1], centred / (3 * a[1].std()), 1e-5)


# --- errors -------------------------------------------------------------------------


ERRORS: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda x: gc.squeeze(x, 0), ShapeError, r"x\[0\] has the size N, not 1"),
    (lambda x: gc.expand_dims(x, 4), ArgumentError, "axis 4 is out of range for x"),
    (lambda x: gc.expand_dims(x, (0, 0)), ArgumentError, "given twice"),
    (
        lambda x: gc.moveaxis(x, 0, (0, 1)),
        ArgumentError,
        "1 axes of x cannot move to 2",
    ),
    (lambda x: gc.swapaxes(x, 0, 5), ArgumentError, "axis 5 is out of range"),
    (lambda x: gc.stack([x, x.T]), ShapeError, r"shapes differ: x f32\[N,3\]"),
    (lambda x: gc.stack([]), ArgumentError, "at least one"),
    (lambda x: gc.tile(x, -1), ArgumentError, "cannot be negative: -1"),
    (
        lambda x: gc.repeat(x, [1, 2], 1),
        ShapeError,
        r"2 numbers of repeats for x\[1\]=3",
    ),
    (lambda x: gc.flip(x, 2), ArgumentError, "axis 2 is out of range for x"),
    (lambda x: gc.roll(x, 1.5), ArgumentError, "a shift of x must be an int, not 1.5"),
    (
        lambda x: gc.roll(x, (1, 2, 3), (0, 1)),
        ArgumentError,
        "3 shifts for 2 axes of x",
    ),
    (lambda x: gc.trace(x[0]), ShapeError, "is no matrix"),
    (lambda x: gc.diagonal(x, 0, 1, 1), ArgumentError, "given twice"),
    (lambda x: gc.diag(x[None]), ShapeError, "is no vector and no matrix"),
    (lambda x: gc.tril(x[0]), ShapeError, "is no matrix"),
    (lambda x: gc.meshgrid(x), ArgumentError, "x f32.* is no vector"),
    (lambda x: gc.meshgrid(x[0], indexing="ji"), ArgumentError, "'xy' or 'ij'"),
    (lambda x: gc.linspace(0, 1, -2), ArgumentError, "cannot be negative: -2"),
    (lambda x: gc.prod(x, 2), ArgumentError, "axis 2 is out of range for x"),
]


@pytest.mark.parametrize(("call", "kind", "says"), ERRORS, ids=[e[2] for e in ERRORS])
def test_mistakes_are_named_with_their_line(
    call: Callable[[Any], Any], kind: type[Exception], says: str
) -> None:
    x = gc.input("x", ("N", 3))
    with pytest.raises(kind, match=says) as raised:
        call(x)
    assert "test_axes.py:" in str(raised.value)
