"""Activations by name, as layers take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.nodes import Tensor
from graphc.nn.names import look_up
from graphc.ops import activations as ops
from graphc.ops.activations import elu, gelu, selu, silu, softsign
from graphc.ops.arithmetic import exp, relu, sigmoid, softplus, tanh
from graphc.ops.composite import log_softmax, softmax
from graphc.ops.creation import constant

Activation = Callable[[Any], Any]


def linear(x: Any) -> Tensor:
    """Return x itself.

    Shapes:  x [...] -> [...]
    """
    return constant(x)


def leaky_relu(x: Any, negative_slope: float = 0.2) -> Tensor:
    """Return x where it is positive, else x times a slope (0.2, as in Keras 3).

    Shapes:  x [...] -> [...]
    Source:  Maas et al., "Rectifier nonlinearities", 2013.
    """
    found: Tensor = ops.leaky_relu(x, negative_slope)
    return found


def mish(x: Any) -> Tensor:
    """Return x tanh(softplus(x)).

    Shapes:  x [...] -> [...]
    Source:  Misra, "Mish: a self regularized non-monotonic activation function", 2019.
    """
    found: Tensor = x * tanh(softplus(x))
    return found


ACTIVATIONS: dict[str, Activation] = {
    "elu": elu,
    "exponential": exp,
    "gelu": gelu,
    "leaky_relu": leaky_relu,
    "linear": linear,
    "log_softmax": log_softmax,
    "mish": mish,
    "relu": relu,
    "selu": selu,
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
