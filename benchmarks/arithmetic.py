"""Formulas over a module of functions, for peers that have no ready form of them.

`f` has tanh, sqrt, exp and the like: jax.numpy or pytensor.tensor.
"""

from __future__ import annotations

import math
from typing import Any

BETA_1, BETA_2, MOMENTUM = 0.9, 0.999, 0.9

# Adam's epsilon stands beside v, or, in PyTorch, beside the corrected v: so small it
# makes no difference.
EPSILON = 1e-12

Pair = tuple[Any, Any]


def adam(f: Any, p: Any, g: Any, slots: Pair, rate: Any) -> tuple[Any, Pair]:
    """Return the new parameter and slots; `rate` has the bias corrections."""
    m = BETA_1 * slots[0] + (1 - BETA_1) * g
    v = BETA_2 * slots[1] + (1 - BETA_2) * g * g
    return p - rate * m / (f.sqrt(v) + EPSILON), (m, v)


def corrected(f: Any, rate: Any, t: Any) -> Any:
    """Return Adam's learning rate with both bias corrections, at step t, a float."""
    upper, lower = (-f.expm1(t * math.log(b)) for b in (BETA_2, BETA_1))
    return rate * f.sqrt(upper) / lower


def momentum(
    f: Any, p: Any, g: Any, slots: tuple[Any], rate: Any
) -> tuple[Any, tuple[Any]]:
    """Return the new parameter and velocity of gradient descent with momentum."""
    velocity = MOMENTUM * slots[0] + g
    return p - rate * velocity, (velocity,)


def cell(
    f: Any, kind: str, x: Any, states: tuple[Any, ...], w: dict[str, Any], units: int
) -> tuple[Any, ...]:
    """Return the new states of a recurrent layer; x is this step's x W + b."""

    def gate(values: Any, k: int) -> Any:
        return values[:, k * units : (k + 1) * units]

    h = states[0]
    from_h = h @ w["recurrent"]
    if kind == "rnn":
        return (f.tanh(x + from_h),)
    if kind == "lstm":
        gates = x + from_h
        i, forget, o = (f.sigmoid(gate(gates, k)) for k in (0, 1, 3))
        c = forget * states[1] + i * f.tanh(gate(gates, 2))
        return o * f.tanh(c), c
    from_h = from_h + w["recurrent_bias"]
    z, r = (f.sigmoid(gate(x, k) + gate(from_h, k)) for k in (0, 1))
    new = f.tanh(gate(x, 2) + r * gate(from_h, 2))
    return (z * h + (1 - z) * new,)


def chain(f: Any, a: Any, b: Any, c: Any) -> Any:
    """Return the elementwise chain."""
    return f.tanh(a * b + c) * f.sigmoid(a - c) + f.exp(-b * b)


def layer_norm(f: Any, x: Any, gamma: Any, beta: Any) -> Any:
    """Return rows with mean 0 and variance 1, scaled and moved."""
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return centred / f.sqrt(variance + 1e-5) * gamma + beta
