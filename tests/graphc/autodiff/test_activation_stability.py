"""Activations and their kin where formulas written plainly overflow or cancel.

As in `test_stability`: value and gradient at 0, at +-1000, at the infinities and at
ties, by the default pipeline, and the gradient on `reference` too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc as gc
from graphc import exp, where
from graphc import sum as total
from graphc.ir.nodes import Tensor

Array = np.ndarray[Any, Any]
DTYPES = ["float32", "float64"]
POINTS = [0.0, -0.0, 1.0, -1.0, 1e-3, -5.0, -20.0, 20.0, 100.0, 1000.0, -1000.0]
EVERYWHERE = [*POINTS, np.inf, -np.inf]
LARGE = [*EVERYWHERE, 1e30, -1e30]  # whose square is no float32
ROOT_HALF = float(np.sqrt(0.5))


@dataclass(frozen=True)
class Formula:
    """What is meant, its derivative, how users write it, and where it is tried."""

    value: Callable[[Array], Array]
    derivative: Callable[[Array], Array]
    spellings: dict[str, Callable[[Tensor], Tensor]]
    at: list[float]
    digits: float = 2.0  # what may be wrong beside a relative error, in eps


def left(x: Array) -> Array:
    """Return x where it is negative: a product with what vanishes there is 0."""
    return np.clip(x, -1e4, 0)


def gelu(x: Array) -> Array:
    return np.maximum(x, 0) + left(-np.abs(x)) * special.ndtr(-np.abs(x))


def gelu_slope(x: Array) -> Array:
    near = np.clip(x, -100, 100)
    return special.ndtr(x) + near * np.exp(-near * near / 2) / np.sqrt(2 * np.pi)


def gelu_tanh(x: Array) -> Array:
    near = np.clip(x, -100, 100)
    u = np.sqrt(8 / np.pi) * (near + 0.044715 * near**3)
    return np.where(x > 100, x, near * special.expit(u))


def gelu_tanh_slope(x: Array) -> Array:
    near = np.clip(x, -100, 100)
    u = np.sqrt(8 / np.pi) * (near + 0.044715 * near**3)
    inner = np.sqrt(8 / np.pi) * (1 + 3 * 0.044715 * near**2)
    return special.expit(u) + near * special.expit(u) * special.expit(-u) * inner


def silu(x: Array) -> Array:
    return np.maximum(x, 0) + left(-np.abs(x)) * special.expit(-np.abs(x))


def silu_slope(x: Array) -> Array:
    s = special.expit(x)
    return s + np.clip(x, -1e4, 1e4) * s * special.expit(-x)


def bell(x: Array) -> Array:
    return 2 / np.sqrt(np.pi) * np.exp(-(np.clip(x, -1e4, 1e4) ** 2))


def below(x: Array) -> Array:
    """Return e ** x on the left of 0, where it does not overflow."""
    return np.exp(np.minimum(x, 0))


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772

FORMULAS = {
    "silu": Formula(silu, silu_slope, {"silu(x)": gc.silu}, LARGE),
    "silu by hand": Formula(
        silu,
        silu_slope,
        {
            "x * sigmoid(x)": lambda x: x * gc.sigmoid(x),
            "x / (1 + exp(-x))": lambda x: x / (1 + exp(-x)),
            "x * reciprocal(1 + exp(-x))": lambda x: x * gc.reciprocal(1 + exp(-x)),
        },
        POINTS,
    ),
    "gelu": Formula(gelu, gelu_slope, {"gelu(x)": gc.gelu}, LARGE),
    "gelu by hand": Formula(
        gelu,
        gelu_slope,
        {
            "0.5 * x * (1 + erf(x / sqrt(2)))": lambda x: (
                0.5 * x * (1 + gc.erf(x * ROOT_HALF))
            ),
            "x * (1 - 0.5 * erfc(x / sqrt(2)))": lambda x: (
                x * (1 - 0.5 * gc.erfc(x * ROOT_HALF))
            ),
        },
        POINTS,
        digits=8.0,
    ),
    "gelu by tanh": Formula(
        gelu_tanh,
        gelu_tanh_slope,
        {"gelu(x, 'tanh')": lambda x: gc.gelu(x, approximate="tanh")},
        LARGE,
    ),
    "erfc": Formula(
        special.erfc,
        lambda x: -bell(x),
        {
            "erfc(x)": gc.erfc,
            "1 - erf(x)": lambda x: 1 - gc.erf(x),
            "1 + erf(-x)": lambda x: 1 + gc.erf(-x),
            "erf(-x) + 1": lambda x: gc.erf(-x) + 1.0,
        },
        [*LARGE, 3.0, 5.0, 9.0],
        digits=0.0,
    ),
    "erf": Formula(
        special.erf,
        bell,
        {"erf(x)": gc.erf, "1 - erfc(x)": lambda x: 1 - gc.erfc(x)},
        [*LARGE, 1e-20],
        digits=0.0,
    ),
    "elu": Formula(
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, below(x)),
        {
            "elu(x)": gc.elu,
            "where(x > 0, x, exp(x) - 1)": lambda x: where(x > 0, x, exp(x) - 1),
        },
        LARGE,
    ),
    "elu of alpha": Formula(
        lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))),
        lambda x: np.where(x > 0, 1, 0.3 * below(x)),
        {"elu(x, 0.3)": lambda x: gc.elu(x, alpha=0.3)},
        LARGE,
    ),
    "selu": Formula(
        lambda x: SCALE * np.where(x > 0, x, ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: SCALE * np.where(x > 0, 1, ALPHA * below(x)),
        {"selu(x)": gc.selu},
        LARGE,
    ),
    "leaky_relu": Formula(
        lambda x: np.where(x > 0, x, 0.1 * x),
        lambda x: np.where(x > 0, 1, 0.1),
        {
            "leaky_relu(x, 0.1)": lambda x: gc.leaky_relu(x, 0.1),
            "where(x > 0, x, 0.1 * x)": lambda x: where(x > 0, x, 0.1 * x),
        },
        LARGE,
    ),
    "softsign": Formula(
        lambda x: np.sign(x) * (1 - 1 / (1 + np.abs(x))),
        lambda x: 1 / (1 + np.abs(x)) ** 2,
        {"softsign(x)": gc.softsign},
        LARGE,
    ),
    "clip": Formula(
        lambda x: np.clip(x, -1, 1),
        lambda x: (np.abs(x) < 1).astype(float),
        {
            "clip(x, -1, 1)": lambda x: gc.clip(x, -1, 1),
            "hardtanh(x)": gc.hardtanh,
            "clip in two": lambda x: gc.clip(gc.clip(x, min=-1.0), max=1.0),
            "minimum(maximum(x, -1), 1)": lambda x: gc.minimum(gc.maximum(x, -1), 1),
        },
        LARGE,
    ),
    "sinh": Formula(
        np.sinh,
        np.cosh,
        {
            "sinh(x)": gc.sinh,
            "(exp(x) - exp(-x)) / 2": lambda x: (exp(x) - exp(-x)) / 2,
            "0.5 * (exp(x) - exp(-x))": lambda x: 0.5 * (exp(x) - exp(-x)),
        },
        [*EVERYWHERE, 89.0, -89.0, 1e-10],
        digits=0.0,
    ),
    "cosh": Formula(
        np.cosh,
        np.sinh,
        {
            "cosh(x)": gc.cosh,
            "(exp(x) + exp(-x)) / 2": lambda x: (exp(x) + exp(-x)) / 2,
            "0.5 * (exp(x) + exp(-x))": lambda x: 0.5 * (exp(x) + exp(-x)),
        },
        [*EVERYWHERE, 89.0, -89.0, 1e-10],
        digits=0.0,
    ),
    "tanh": Formula(
        np.tanh,
        lambda x: np.exp(-2 * np.logaddexp(x, -x) + np.log(4)),
        {
            "sinh(x) / cosh(x)": lambda x: gc.sinh(x) / gc.cosh(x),
            "by halves": lambda x: (
                (0.5 * (exp(x) - exp(-x))) / (0.5 * (exp(x) + exp(-x)))
            ),
        },
        EVERYWHERE,
    ),
    "arctan": Formula(
        np.arctan,
        lambda x: 1 / (1 + np.clip(x, -1e4, 1e4) ** 2 * (np.abs(x) < 1e4)),
        {"arctan(x)": gc.arctan},
        POINTS,
        digits=0.0,
    ),
    "sin": Formula(np.sin, np.cos, {"sin(x)": gc.sin}, POINTS),
    "cos": Formula(np.cos, lambda x: -np.sin(x), {"cos(x)": gc.cos}, POINTS),
    "masked log2": Formula(
        lambda x: np.log2(np.where(x > 0, x, 1)),
        lambda x: np.where(x > 0, 1 / np.where(x > 0, x, 1), 0) / np.log(2),
        {
            "where(x > 0, log2(x), 0)": lambda x: where(x > 0, gc.log2(x), 0),
            "where(x > 0, log10(x) / log10(2), 0)": lambda x: where(
                x > 0, gc.log10(x) / float(np.log10(2)), 0
            ),
        },
        POINTS,
    ),
    "masked reciprocal": Formula(
        lambda x: np.where(x != 0, 1 / np.where(x != 0, x, 1), 0),
        lambda x: np.where(x != 0, -1 / np.where(x != 0, x, 1) ** 2, 0),
        {
            "where(x != 0, reciprocal(x), 0)": lambda x: where(
                x != 0, gc.reciprocal(x), 0
            )
        },
        POINTS,
    ),
    "abs": Formula(
        np.abs,
        np.sign,
        {
            "sqrt(square(x))": lambda x: gc.sqrt(gc.square(x)),
            "norm of one": lambda x: gc.sqrt(total(gc.square(x[:, None]), 1)),
        },
        POINTS,
    ),
}
SPELLED = [(name, text) for name, f in FORMULAS.items() for text in f.spellings]


def compare(found: Array, expected: Array, dtype: str, more: float, what: str) -> None:
    eps = float(np.finfo(dtype).eps)
    tiny = float(np.finfo(dtype).tiny)
    with np.errstate(over="ignore"):
        wanted = np.asarray(expected).astype(dtype)
    np.testing.assert_allclose(found, wanted, 16 * eps, eps * more + tiny, err_msg=what)


@pytest.mark.parametrize(("name", "text"), SPELLED, ids=str)
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
        compare(found, value, dtype, more, f"value on cpu: {at}")
        compare(found_slope, slope, dtype, more, f"gradient on cpu: {at}")
        compare(
            gc.evaluate(d, {x: at}), slope, dtype, more, f"gradient on reference: {at}"
        )


# Left out: what is infinite at a point, and slopes of steps, which end there.
ONCE = ("sinh", "cosh", "masked reciprocal", "leaky_relu", "clip", "abs")
TWICE = [n for n in FORMULAS if n not in ONCE]


@pytest.mark.parametrize("name", TWICE)
def test_second_derivative_is_finite_everywhere(name: str) -> None:
    formula = FORMULAS[name]
    for dtype in DTYPES:
        x = gc.input("x", ("N",), dtype)
        y = next(iter(formula.spellings.values()))(x)
        first = gc.grad(total(y), x)
        second = gc.grad(total(first), x)
        at = np.array(POINTS, dtype)
        assert np.isfinite(gc.compile([x], second)(at)).all()
        assert np.isfinite(gc.evaluate(second, {x: at})).all()


# --- parameters ---------------------------------------------------------------------


def slopes(y: Tensor, inputs: list[Tensor], at: list[list[float]]) -> list[list[float]]:
    given = [np.array(a) for a in at]
    grads = gc.grad(total(y), inputs)
    found = gc.evaluate(grads, dict(zip(inputs, given, strict=True)))
    for a, b in zip(found, gc.compile(inputs, grads)(*given), strict=True):
        np.testing.assert_allclose(a, b, 1e-15)
    return [f.tolist() for f in found]


def two(other: str) -> list[Tensor]:
    return [gc.input(n, ("N",), "float64") for n in ("x", other)]


def test_a_slope_of_the_left_has_a_gradient_on_the_left_alone() -> None:
    x, a = two("a")
    at = [[-1000.0, -2.0, 0.0, 3.0, 1000.0], [0.1, 0.5, 0.2, 0.2, 0.0]]
    assert slopes(gc.leaky_relu(x, a), [x, a], at) == [
        [0.1, 0.5, 0.2, 1.0, 1.0],
        [-1000.0, -2.0, 0.0, 0.0, 0.0],
    ]


def test_alpha_has_a_gradient_on_the_left_alone() -> None:
    x, a = two("a")
    at = [[-1000.0, -1.0, 0.0, 3.0, 1000.0], [0.5, 2.0, 0.7, 0.2, 0.3]]
    dx, da = slopes(gc.elu(x, a), [x, a], at)
    np.testing.assert_allclose(dx, [0.0, 2 * np.exp(-1), 0.7, 1.0, 1.0], 1e-15)
    np.testing.assert_allclose(da, [-1.0, np.expm1(-1), 0.0, 0.0, 0.0], 1e-15)


def test_limits_have_the_gradient_of_what_lies_beyond_them() -> None:
    x, low = two("low")
    high = gc.input("high", ("N",), "float64")
    at = [
        [-2.0, -1.0, 0.0, 1.0, 2.0, 0.0],
        [-1.0, -1.0, -1.0, -1.0, -1.0, 3.0],
        [1.0, 1.0, 1.0, 1.0, 1.0, 2.0],  # at last a maximum below the minimum: it wins
    ]
    assert slopes(gc.clip(x, low, high), [x, low, high], at) == [
        [0, 0, 1, 0, 0, 0],
        [1, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 1],
    ]


def test_remainder_turns_with_its_divisor() -> None:
    x, y = two("y")
    at = [[5.5, -5.5, 5.5, -5.5], [2.0, 2.0, -2.0, -2.0]]
    assert slopes(x % y, [x, y], at) == [[1, 1, 1, 1], [-2, 3, 3, -2]]


# --- steps --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round"])
def test_a_rounding_says_why_it_has_no_gradient(name: str) -> None:
    x = gc.input("x", ("N",))
    with pytest.raises(gc.GraphcError, match=f"{name} blocks the way.*derivative is 0"):
        gc.grad(total(getattr(gc, name)(x)), x)


def test_a_rounding_does_not_block_another_way() -> None:
    x = gc.input("x", ("N",))
    d = gc.grad(total(x * gc.floor(x) + gc.round(x)), x)
    at = np.array([-1.5, 0.25, 2.75], np.float32)
    np.testing.assert_array_equal(gc.compile([x], d)(at), np.floor(at))
