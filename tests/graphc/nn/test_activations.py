"""Activations: values against NumPy, gradients at the edges, lookup by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc
from graphc.nn import activations

X = np.array([[-1000.0, -3.0, -0.5, 0.0], [0.5, 3.0, 80.0, 1000.0]])

FORMULAS: dict[str, Callable[[Any], Any]] = {
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * special.ndtr(x),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x),
    "linear": lambda x: x,
    "log_softmax": lambda x: special.log_softmax(x, axis=-1),
    "mish": lambda x: x * np.tanh(np.logaddexp(x, 0)),
    "relu": lambda x: np.maximum(x, 0),
    "selu": lambda x: (
        1.0507009873554805
        * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))
    ),
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "softmax": lambda x: special.softmax(x, axis=-1),
    "softplus": lambda x: np.logaddexp(x, 0),
    "softsign": lambda x: x / (1 + np.abs(x)),
    "swish": lambda x: x * special.expit(x),
    "tanh": np.tanh,
}


def value(name: str, x: Any) -> Any:
    return graphc.evaluate(activations.get(name)(graphc.constant(x)))


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_activation_has_the_value_of_its_formula(name: str) -> None:
    np.testing.assert_allclose(
        value(name, X), FORMULAS[name](X), rtol=1e-12, atol=1e-300
    )


def test_exponential_is_exp() -> None:
    np.testing.assert_allclose(value("exponential", X[:1]), np.exp(X[:1]), rtol=1e-12)


def test_every_named_activation_is_tested() -> None:
    assert set(activations.ACTIVATIONS) == set(FORMULAS) | {"exponential"}


@pytest.mark.parametrize("name", sorted(activations.ACTIVATIONS))
def test_activation_has_a_finite_gradient(name: str) -> None:
    x = graphc.input("x", ("N", 4), dtype="float64")
    y = graphc.sum(activations.get(name)(x))
    at = np.minimum(X, 80.0) if name == "exponential" else X
    found = graphc.evaluate(graphc.grad(y, x), {x: at})
    assert np.isfinite(found).all()


def test_get_returns_linear_for_none_and_a_function_itself() -> None:
    assert activations.get(None) is activations.linear
    assert activations.get(graphc.tanh) is graphc.tanh


def test_get_refuses_an_unknown_name_and_lists_the_known_ones() -> None:
    with pytest.raises(graphc.GraphcError, match="unknown activation 'rleu'") as found:
        activations.get("rleu")
    assert "relu, selu, sigmoid" in str(found.value)
    assert "test_activations.py" in str(found.value)


def test_get_refuses_what_is_no_function() -> None:
    with pytest.raises(graphc.GraphcError, match="must be a name or a function, not 3"):
        activations.get(3)  # type: ignore[arg-type]
