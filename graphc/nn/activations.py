"""Activations by name, as layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.nodes import Tensor
from graphc.nn.names import look_up
from graphc.ops.arithmetic import abs, exp, expm1, relu, sigmoid, softplus, tanh, where
from graphc.ops.composite import log_softmax, softmax
from graphc.ops.creation import constant

Activation = Callable[[Any], Any]


def linear(x: Any) -> Tensor:
    """Return x itself.

    Shapes:  x [...] -> [...]
    """
    return constant(x)


def elu(x: Any) -> Tensor:
    """Return x where it is positive, else e ** x - 1.

    Shapes:  x [...] -> [...]
    Source:  Clevert et al., "Exponential linear units", 2016, with alpha = 1.
    """
    found: Tensor = where(x > 0, x, expm1(x))
    return found


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """Return x where it is positive, else x times a slope (0.2, as in Keras 3).

    Shapes:  x [...] -> [...]
    Source:  Maas et al., "Rectifier nonlinearities", 2013.
    """
    found: Tensor = where(x > 0, x, x * negative_slope)
    return found


def silu(x: Any) -> Tensor:
    """Return x sigmoid(x), also known as swish.

    Shapes:  x [...] -> [...]
    Source:  Elfwing et al., "Sigmoid-weighted linear units", 2018.
    """
    found: Tensor = x * sigmoid(x)
    return found


def softsign(x: Any) -> Tensor:
    """Return x / (1 + |x|).

    Shapes:  x [...] -> [...]
    """
    found: Tensor = x / (1 + abs(x))
    return found


ACTIVATIONS: dict[str, Activation] = {
    "elu": elu,
    "exponential": exp,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "log_softmax": log_softmax,
    "relu": relu,
    "sigmoid": sigmoid,
    "silu": silu,
    "softmax": softmax,
    "softplus": softplus,
    "softsign": softsign,
    "swish": silu,
    "tanh": tanh,
}


def get(activation: str | Activation | None) -> Activation:
    """Return an activation by name; None is linear, a function stands for itself.

    Raises:  ArgumentError listing the known names.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 3))
        >>> get("softsign")(x).type
        TensorType(f32[N,3])
    """
    if activation is None:
        return linear
    found: Activation = look_up("activation", activation, ACTIVATIONS)
    return found
