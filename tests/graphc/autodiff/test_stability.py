"""Formulas that overflow, cancel or divide by zero when they are written plainly.

However a user spells them, value and gradient are right at 0, at +-1, at +-1000 and at
the infinities: the value by the default pipeline, the gradient by the pipeline and on
`reference`. What is right is computed here in NumPy, by formulas that do not overflow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import exp, log, log1p, mean, sqrt, where
from graphc import sum as total
from graphc.ir.nodes import Tensor

Array = np.ndarray[Any, Any]
DTYPES = ["float32", "float64"]
POINTS = [0.0, -0.0, 1.0, -1.0, 1e-3, -20.0, 20.0, 100.0, 1000.0, -1000.0]
INFINITE = [np.inf, -np.inf]


@dataclass(frozen=True)
class Formula:
    """What is meant, its derivative, and how users write it. at: where it is tried."""

    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    spellings: dict[str, Callable[[Tensor], Tensor]]
    at: list[float]
    digits: float = 2.0  # what may be wrong beside a relative error, in eps


def compare(found: Array, expected: Array, dtype: str, more: float, what: str) -> None:
    eps = float(np.finfo(dtype).eps)
    with np.errstate(over="ignore"):
        wanted = np.asarray(expected).astype(dtype)
    np.testing.assert_allclose(found, wanted, 16 * eps, eps * more, err_msg=what)


def sigmoid(x: Array) -> Array:
    return np.exp(-np.logaddexp(0, -x))


# --- one element at a time ----------------------------------------------------------


def _exps(x: Tensor) -> Tensor:
    up, down = exp(x), exp(-x)
    return (up - down) / (up + down)


def _root(x: Array) -> Array:
    return np.sqrt(np.where(x > 0, x, 1)) * (x > 0)


FORMULAS = {
    "masked sqrt": Formula(
        lambda x: np.sqrt(np.maximum(x, 0)),
        lambda x: np.where(x > 0, 0.5 / np.sqrt(np.where(x > 0, x, 1)), 0),
        {
            "where(x > 0, sqrt(x), 0)": lambda x: where(x > 0, sqrt(x), 0),
            "where(x <= 0, 0, sqrt(x))": lambda x: where(x <= 0, 0.0, sqrt(x)),
            "where(x > 0, x ** 0.5, 0)": lambda x: where(x > 0, x**0.5, 0),
            "where(0 < x, sqrt(x), 0)": lambda x: where(x > 0, sqrt(x), 0.0),
            "where(~(x > 0), 0, sqrt(x))": lambda x: where(~(x > 0), 0.0, sqrt(x)),
            "-where(x > 0, -sqrt(x), 0)": lambda x: -where(x > 0, -sqrt(x), 0.0),
            "where of a reshaped sqrt": lambda x: where(
                x[:, None] > 0, sqrt(x)[:, None], 0.0
            ),
            "where of a sliced sqrt": lambda x: where(x[0:] > 0, sqrt(x)[0:], 0.0),
            "where in where": lambda x: where(
                x >= 0, where(x > 0, sqrt(x), 0.0), where(x < 0, 0.0, 1 / x)
            ),
            "where(x > 0, 2 * sqrt(x) / 2, 0)": lambda x: where(
                x > 0, 2 * sqrt(x) / 2, 0.0
            ),
            "sqrt of relu": lambda x: sqrt(gc.relu(x)),
            "sqrt of maximum": lambda x: sqrt(gc.maximum(x, 0.0)),
        },
        [*POINTS, np.inf, -np.inf],
    ),
    "masked log": Formula(
        lambda x: np.log(np.where(x > 0, x, 1)),
        lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1), 0),
        {
            "where(x > 0, log(x), 0)": lambda x: where(x > 0, log(x), 0),
            "where(x > 0, log(x) * 1, 0)": lambda x: where(x > 0, log(x) * 1.0, 0),
        },
        POINTS,
    ),
    "masked reciprocal": Formula(
        lambda x: np.where(x != 0, 1 / np.where(x != 0, x, 1), 0),
        lambda x: np.where(x != 0, -1 / np.where(x != 0, x, 1) ** 2, 0),
        {
            "where(x != 0, 1 / x, 0)": lambda x: where(x != 0, 1 / x, 0),
            "where(x == 0, 0, x ** -1)": lambda x: where(x == 0, 0.0, x**-1),
        },
        [*POINTS, np.inf],
    ),
    "softplus": Formula(
        lambda x: np.logaddexp(0, x),
        sigmoid,
        {
            "softplus(x)": gc.softplus,
            "log(1 + exp(x))": lambda x: log(1 + exp(x)),
            "log(1.0 + exp(x))": lambda x: log(1.0 + exp(x)),
            "log(exp(x) + 1)": lambda x: log(exp(x) + 1),
            "log1p(exp(x))": lambda x: log1p(exp(x)),
            "-log(1 / (1 + exp(x)))": lambda x: -log(1 / (1 + exp(x))),
            "-log(sigmoid(-x))": lambda x: -log(gc.sigmoid(-x)),
            "-log(1 - sigmoid(x))": lambda x: -log(1 - gc.sigmoid(x)),
            "log(1 + exp(-(-x)))": lambda x: log(1 + exp(gc.neg(gc.neg(x)))),
            "log(ones + exp(x))": lambda x: log(gc.ones(x.shape, x.dtype) + exp(x)),
        },
        [*POINTS, *INFINITE],
    ),
    "sigmoid": Formula(
        sigmoid,
        lambda x: sigmoid(x) * sigmoid(-x),
        {
            "sigmoid(x)": gc.sigmoid,
            "1 / (1 + exp(-x))": lambda x: 1 / (1 + exp(-x)),
            "1.0 / (exp(-x) + 1.0)": lambda x: 1.0 / (exp(-x) + 1.0),
            "exp(x) / (1 + exp(x))": lambda x: exp(x) / (1 + exp(x)),
            "exp(x) / (exp(x) + 1)": lambda x: exp(x) / (exp(x) + 1),
            "1 / (1 + exp(-1 * x))": lambda x: 1 / (1 + exp(-1 * x)),
            "1 / (1 + exp(0 - x))": lambda x: 1 / (1 + exp(0 - x)),
            "(1 + exp(-x)) ** -1": lambda x: (1 + exp(-x)) ** -1,
            "1 - 1 / (1 + exp(x))": lambda x: 1 - 1 / (1 + exp(x)),
            "exp(-log(1 + exp(-x)))": lambda x: exp(-log(1 + exp(-x))),
            "1 - sigmoid(-x)": lambda x: 1 - gc.sigmoid(-x),
        },
        [*POINTS, *INFINITE],
    ),
    "log sigmoid": Formula(
        lambda x: -np.logaddexp(0, -x),
        lambda x: sigmoid(-x),
        {
            "log(1 / (1 + exp(-x)))": lambda x: log(1 / (1 + exp(-x))),
            "log(sigmoid(x))": lambda x: log(gc.sigmoid(x)),
            "-log(1 + exp(-x))": lambda x: -log(1 + exp(-x)),
            "-softplus(-x)": lambda x: -gc.softplus(-x),
            "log(exp(x) / (1 + exp(x)))": lambda x: log(exp(x) / (1 + exp(x))),
            "log(1 - sigmoid(-x))": lambda x: log(1 - gc.sigmoid(-x)),
            "x - log(1 + exp(x))": lambda x: x - log(1 + exp(x)),
        },
        POINTS,
    ),
    "tanh": Formula(
        np.tanh,
        lambda x: np.exp(-2 * np.logaddexp(x, -x) + np.log(4)),
        {
            "tanh(x)": gc.tanh,
            "(exp(x) - exp(-x)) / (exp(x) + exp(-x))": lambda x: (
                (exp(x) - exp(-x)) / (exp(x) + exp(-x))
            ),
            "each exp computed once": _exps,
            "(exp(x) - exp(-x)) / (exp(-x) + exp(x))": lambda x: (
                (exp(x) - exp(-x)) / (exp(-x) + exp(x))
            ),
            "(1 - exp(-2 * x)) / (1 + exp(-2 * x))": lambda x: (
                (1 - exp(-2 * x)) / (1 + exp(-2 * x))
            ),
            "(1 - exp(-(2 * x))) / ...": lambda x: (
                (1 - exp(-(2 * x))) / (1 + exp(-(2 * x)))
            ),
            "(exp(2 * x) - 1) / (exp(2 * x) + 1)": lambda x: (
                (exp(2 * x) - 1) / (exp(2 * x) + 1)
            ),
            "2 * sigmoid(2 * x) - 1": lambda x: 2 * gc.sigmoid(2 * x) - 1,
            "2 / (1 + exp(-2 * x)) - 1": lambda x: 2 / (1 + exp(-2 * x)) - 1,
            "1 - 2 / (exp(2 * x) + 1)": lambda x: 1 - 2 / (exp(2 * x) + 1),
        },
        [*POINTS, *INFINITE],
    ),
    "expm1": Formula(
        np.expm1,
        np.exp,
        {
            "exp(x) - 1": lambda x: exp(x) - 1,
            "exp(x) - 1.0": lambda x: exp(x) - 1.0,
            "-1 + exp(x)": lambda x: -1 + exp(x),
            "exp(x) + -1": lambda x: exp(x) + -1,
            "-(1 - exp(x))": lambda x: -(1 - exp(x)),
            "exp(x) - ones": lambda x: exp(x) - gc.ones(x.shape, x.dtype),
        },
        [0.0, 1.0, -1.0, 1e-10, -1e-10, 1e-20, 1e-3, -1000.0, -np.inf],
        digits=0.0,
    ),
    "log1p": Formula(
        np.log1p,
        lambda x: 1 / (1 + x),
        {
            "log(1 + x)": lambda x: log(1 + x),
            "log(x + 1.0)": lambda x: log(x + 1.0),
            "log(1 - (-x))": lambda x: log(1 - (-x)),
        },
        [0.0, 1.0, 1e-10, -1e-10, 1e-20, 1e-3, 1000.0],
        digits=0.0,
    ),
    "abs": Formula(
        np.abs,
        np.sign,
        {
            "abs(x)": abs,
            "graphc.abs(x)": gc.abs,
            "maximum(x, -x)": lambda x: gc.maximum(x, -x),
            "sqrt(x * x)": lambda x: sqrt(x * x),
            "sqrt(x ** 2)": lambda x: sqrt(x**2),
            "(x ** 2) ** 0.5": lambda x: (x**2) ** 0.5,
            "x * sign(x)": lambda x: x * gc.sign(x),
        },
        POINTS,
    ),
    "relu": Formula(
        lambda x: np.maximum(x, 0),
        lambda x: (x > 0).astype(float),
        {
            "relu(x)": gc.relu,
            "maximum(x, 0)": lambda x: gc.maximum(x, 0),
            "maximum(0.0, x)": lambda x: gc.maximum(0.0, x),
            "where(x > 0, x, 0)": lambda x: where(x > 0, x, 0),
        },
        [*POINTS, *INFINITE],
    ),
}
SPELLED = [(name, text) for name, f in FORMULAS.items() for text in f.spellings]


@pytest.mark.parametrize(("name", "text"), SPELLED, ids=lambda v: str(v))
def test_formula_is_right_everywhere(name: str, text: str) -> None:
    formula = FORMULAS[name]
    more = formula.digits
    for dtype in DTYPES:
        x = gc.input("x", ("N",), dtype)
        y = formula.spellings[text](x)
        d = gc.grad(total(y), x)
        at = np.array(formula.at, dtype)
        exact = at.astype(np.float64)
        with np.errstate(all="ignore"):
            value, slope = formula.value(exact), formula.derivative(exact)
        found, found_slope = gc.compile([x], [y, d])(at)
        compare(found.reshape(-1), value, dtype, more, f"value on cpu: {at}")
        compare(found_slope, slope, dtype, more, f"gradient on cpu: {at}")
        compare(
            gc.evaluate(d, {x: at}), slope, dtype, more, f"gradient on reference: {at}"
        )


# --- rows ---------------------------------------------------------------------------

ROWS = np.array(
    [
        [0.0, 0.0, 0.0],
        [1.0, -1.0, 0.0],
        [1000.0, 0.0, -1000.0],
        [1000.0, 1000.0, 999.0],
        [-1000.0, -1000.0, -1001.0],
        [88.0, 89.0, 90.0],
    ]
)


def logsumexp(x: Array) -> Array:
    top = x.max(1, keepdims=True)
    return np.log(np.exp(x - top).sum(1, keepdims=True)) + top


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def log_softmax(x: Array) -> Array:
    shifted = x - x.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def _once(x: Tensor) -> Tensor:
    e = exp(x)
    return e / total(e, axis=1, keepdims=True)


def _twice(x: Tensor) -> Tensor:
    return gc.exp(x) / gc.sum(gc.exp(x), axis=1, keepdims=True)


def _without_keepdims(x: Tensor) -> Tensor:
    e = exp(x)
    return e / total(e, axis=1)[:, None]


def _reshaped(x: Tensor) -> Tensor:
    return exp(x) / gc.reshape(total(exp(x), -1), (-1, 1))


def _turned(x: Tensor) -> Tensor:
    e = exp(x.T)
    return (e / total(e, axis=0)).T


def _shifted(x: Tensor) -> Tensor:
    e = exp(x - gc.max(x, 1, keepdims=True))
    return e / total(e, 1, keepdims=True)


def _scaled(x: Tensor) -> Tensor:
    return exp(x) * (1 / total(exp(x), 1, keepdims=True))


SOFTMAX: dict[str, Callable[[Tensor], Tensor]] = {
    "softmax": gc.softmax,
    "exp computed once": _once,
    "exp computed twice": _twice,
    "without keepdims": _without_keepdims,
    "reshaped": _reshaped,
    "along the first axis": _turned,
    "shifted by hand": _shifted,
    "times the reciprocal": _scaled,
}


def check_rows(
    function: Callable[[Tensor, Tensor], Tensor],
    value: Callable[[Array, Array], Array],
    slope: Callable[[Array, Array], Array],
) -> None:
    """Compare a scalar function of rows and of weights for them."""
    weights = np.array([[1.0, -2.0, 0.5]]) * np.arange(1.0, 7.0)[:, None]
    for dtype in DTYPES:
        x, w = gc.input("x", (6, 3), dtype), gc.input("w", (6, 3), dtype)
        y = function(x, w)
        d = gc.grad(total(y), x)
        given = [ROWS.astype(dtype), weights.astype(dtype)]
        found, found_slope = gc.compile([x, w], [y, d])(*given)
        eps = float(np.finfo(dtype).eps)
        near = {"rtol": 40 * eps, "atol": 40 * eps}
        wanted = slope(ROWS, weights)
        np.testing.assert_allclose(found, value(ROWS, weights), **near)
        np.testing.assert_allclose(found_slope, wanted, **near)
        np.testing.assert_allclose(
            gc.evaluate(d, {x: given[0], w: given[1]}), wanted, **near
        )


@pytest.mark.parametrize("text", SOFTMAX)
def test_softmax_is_right_however_it_is_written(text: str) -> None:
    def slope(x: Array, w: Array) -> Array:
        p = softmax(x)
        return p * (w - (w * p).sum(1, keepdims=True))

    check_rows(lambda x, w: SOFTMAX[text](x) * w, lambda x, w: softmax(x) * w, slope)


LOG_SOFTMAX: dict[str, Callable[[Tensor], Tensor]] = {
    **{f"log of {k}": lambda x, f=f: log(f(x)) for k, f in SOFTMAX.items()},
    "log_softmax": gc.log_softmax,
    "x - logsumexp(x)": lambda x: x - gc.logsumexp(x, 1, keepdims=True),
    "x - log(sum(exp(x)))": lambda x: x - log(total(exp(x), 1, keepdims=True)),
    "x - log(sum(exp(x)))[:, None]": lambda x: x - log(total(exp(x), 1))[:, None],
    "log(e) - log(sum(e))": lambda x: (
        log(exp(x)) - log(total(exp(x), 1, keepdims=True))
    ),
    "-(log(sum(exp(x))) - x)": lambda x: -(log(total(exp(x), 1, keepdims=True)) - x),
}


@pytest.mark.parametrize("text", LOG_SOFTMAX)
def test_log_softmax_is_right_however_it_is_written(text: str) -> None:
    check_rows(
        lambda x, w: LOG_SOFTMAX[text](x) * w,
        lambda x, w: log_softmax(x) * w,
        lambda x, w: w - softmax(x) * w.sum(1, keepdims=True),
    )


def _picked(p: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    labels = gc.constant([0, 2, 1, 2, 0, 1])
    return lambda x: total(gc.one_hot(labels, 3, x.dtype) * log(p(x)), 1)


@pytest.mark.parametrize("text", SOFTMAX)
def test_cross_entropy_is_right_however_softmax_is_written(text: str) -> None:
    labels = np.array([0, 2, 1, 2, 0, 1])
    hot = np.eye(3)[labels]
    check_rows(
        lambda x, w: -mean(_picked(SOFTMAX[text])(x)),
        lambda x, w: -np.mean(np.sum(log_softmax(x) * hot, 1)),
        lambda x, w: (softmax(x) - hot) / 6,
    )


LOGSUMEXP: dict[str, Callable[[Tensor], Tensor]] = {
    "logsumexp": lambda x: gc.logsumexp(x, 1),
    "log(sum(exp(x), 1))": lambda x: log(total(exp(x), 1)),
    "log(sum(exp(x), -1, keepdims=True))": lambda x: log(total(exp(x), -1, True))[:, 0],
    "method": lambda x: log(exp(x).sum(axis=1)),
    "turned": lambda x: log(total(exp(x.T), 0)),
    "-log(1 / sum)": lambda x: -log(1 / total(exp(x), 1)),
    "log(sum) + 0 twice": lambda x: (
        0.5 * log(total(exp(x), 1)) + 0.5 * log(total(exp(x), 1))
    ),
}


@pytest.mark.parametrize("text", LOGSUMEXP)
def test_logsumexp_is_right_however_it_is_written(text: str) -> None:
    check_rows(
        lambda x, w: LOGSUMEXP[text](x),
        lambda x, w: logsumexp(x)[:, 0],
        lambda x, w: softmax(x),
    )


def test_logsumexp_over_all_elements() -> None:
    x = gc.input("x", ("N",))
    y = log(total(exp(x)))
    at = np.array([1000.0, 999.0, -1000.0], np.float32)
    value, slope = gc.compile([x], [y, gc.grad(y, x)])(at)
    assert abs(value - 1000.31326) < 1e-3
    np.testing.assert_allclose(slope, [0.7310586, 0.26894143, 0.0], 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_minus_infinity_is_a_mask_for_softmax(dtype: str) -> None:
    x = gc.input("x", ("N",), dtype)
    at = np.array([0.0, -np.inf, 1.0, -np.inf], dtype)
    p = np.array([0.26894142, 0.0, 0.73105858, 0.0])
    for f in (gc.softmax, _flat):
        y = f(x)
        d = gc.grad(total(y[0:1]), x)
        value, slope = gc.compile([x], [y, d])(at)
        np.testing.assert_allclose(value, p, 1e-6)
        np.testing.assert_allclose(slope, p[0] * (np.eye(4)[0] - p), 1e-6)


def _flat(x: Tensor) -> Tensor:
    return exp(x) / total(exp(x))


# --- norms --------------------------------------------------------------------------

NORMS: dict[str, Callable[[Tensor], Tensor]] = {
    "norm(x, 1)": lambda x: gc.norm(x, 1),
    "sqrt(sum(x * x, 1))": lambda x: sqrt(total(x * x, 1)),
    "sqrt(sum(x ** 2, 1))": lambda x: sqrt(total(x**2, 1)),
    "sum(x * x) ** 0.5": lambda x: total(x * x, 1) ** 0.5,
    "keepdims": lambda x: sqrt(total(x * x, 1, keepdims=True))[:, 0],
    "sqrt(sum(abs(x) ** 2))": lambda x: sqrt(total(abs(x) ** 2, 1)),
    "square computed twice": lambda x: (
        sqrt(total(x * x, 1)) * 0.5 + sqrt(total(x * x, 1)) * 0.5
    ),
    "masked": lambda x: where(total(x * x, 1) > 0, sqrt(total(x * x, 1)), 0.0),
}
VECTORS = np.array([[0.0, 0, 0], [3, 4, 0], [-1e3, 0, 1e3], [1e-3, 0, 0], [0, 0, -1]])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("text", NORMS)
def test_norm_has_a_gradient_at_zero(text: str, dtype: str) -> None:
    x = gc.input("x", ("N", 3), dtype)
    y = NORMS[text](x)
    d = gc.grad(total(y), x)
    at = VECTORS.astype(dtype)
    size = np.sqrt((VECTORS**2).sum(1))
    unit = VECTORS / np.where(size > 0, size, 1)[:, None]
    value, slope = gc.compile([x], [y, d])(at)
    near = 8 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(value, size, near)
    np.testing.assert_allclose(slope, unit, near)
    np.testing.assert_allclose(gc.evaluate(d, {x: at}), unit, near)


@pytest.mark.parametrize("power", [2, 3])
def test_mean_of_norms_of_differences(power: int) -> None:
    """A triplet loss: distances of equal vectors are 0, and so is their gradient."""
    a, b = gc.input("a", ("N", power)), gc.input("b", ("N", power))
    y = mean(sqrt(total((a - b) ** 2, 1)))
    given = [np.ones((4, power), np.float32)] * 2
    value, *slopes = gc.compile([a, b], [y, *gc.grad(y, [a, b])])(*given)
    assert value == 0
    for slope in slopes:
        np.testing.assert_array_equal(slope, np.zeros((4, power)))


# --- masks reach past reductions and movement ---------------------------------------


def test_where_masks_what_lies_behind_a_sum() -> None:
    x, c = gc.input("x", ("N", 3)), gc.input("c", ("N",), "bool")
    y = where(c, total(sqrt(x), 1), 0.0)
    d = gc.grad(total(y), x)
    at = np.array([[0, 0, 0], [1, 4, 16.0]], np.float32)
    given = [at, np.array([False, True])]
    expected = [[0, 0, 0], [0.5, 0.25, 0.125]]
    np.testing.assert_allclose(gc.compile([x, c], d)(*given), expected, 1e-6)
    np.testing.assert_allclose(
        gc.evaluate(d, dict(zip([x, c], given, strict=True))), expected, 1e-6
    )


def test_where_masks_a_product_with_an_infinite_factor() -> None:
    x, y = gc.input("x", ("N",)), gc.input("y", ("N",))
    z = where(y > 0, x * log(y), 0.0)  # x log y, 0 where y is 0
    slopes = gc.grad(total(z), [x, y])
    given = [np.array([2.0, 3.0], np.float32), np.array([0.0, 1.0], np.float32)]
    for f, e in zip(gc.compile([x, y], slopes)(*given), [[0, 0], [0, 3]], strict=True):
        np.testing.assert_array_equal(f, e)


def test_entropy_of_a_certain_outcome_is_zero() -> None:
    p = gc.input("p", ("N",))
    y = -total(where(p > 0, p * log(p), 0.0))
    at = np.array([1.0, 0.0, 0.0], np.float32)
    value, slope = gc.compile([p], [y, gc.grad(y, p)])(at)
    assert value == 0
    np.testing.assert_array_equal(slope, [-1, 0, 0])


def test_power_of_zero_has_its_gradient() -> None:
    x = gc.input("x", ("N",))
    at = np.array([0.0, -2.0, 3.0], np.float32)
    for n, slope in ((1, [1, 1, 1]), (2, [0, -4, 6]), (3, [0, 12, 27])):
        d = gc.grad(total(x**n), x)
        np.testing.assert_allclose(gc.compile([x], d)(at), slope, 1e-6)
        np.testing.assert_allclose(gc.evaluate(d, {x: at}), slope, 1e-6)
