"""Activations, trigonometry, rounding, limits and tests of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.op import OPS
from ops_table.case import (
    BOOLS,
    FIXED,
    INTS,
    MORE_BOOLS,
    ROW,
    SCALAR,
    Case,
    Oracle,
    Spec,
    X,
)

SMOOTH = (
    "sin cos tan arctan sinh cosh log2 log10 erf erfc silu gelu gelu_tanh selu softsign"
)
WHOLE = "floor ceil trunc round"
TESTS = "isnan isinf isfinite"
SLOPE = Spec("a", (4,), "float32", 0.1, 0.9)
DIVISOR = Spec("y", ("N", 4), "float32", 0.5, 3.0)
LOW = Spec("low", ("N", 1), "float32", -2.0, -0.5)
HIGH = Spec("high", (4,), "float32", 0.5, 2.0)


def _unary() -> list[Case]:
    found = []
    for name in f"{SMOOTH} {WHOLE} {TESTS}".split():
        op: Any = gc.gelu if name == "gelu" else OPS[name]
        form = OPS[name].scalar
        assert form is not None
        low, high = form.sample
        for case, spec in (("symbolic", X), ("static", FIXED), ("scalar", SCALAR)):
            ranged = Spec(spec.name, spec.shape, spec.dtype, low, high)
            found.append(Case(name, case, op, (ranged,)))
        ranged = Spec("x", ("N",), "float64", low, high)
        found.append(Case(name, "double", op, (ranged,)))
    for name in f"sin erf gelu silu {WHOLE} {TESTS}".split():
        found.append(Case(name, "ints", OPS[name], (INTS,)))
    return found


def _with_parameter() -> list[Case]:
    found = []
    for name in ("elu", "leaky_relu"):
        op = OPS[name]
        found += [
            Case(name, "symbolic", op, (X,)),
            Case(name, "number", lambda x, f=op: f(x, 0.3), (FIXED,)),
            Case(name, "broadcast_row", op, (X, SLOPE)),
            Case(name, "ints", op, (INTS,)),
        ]
    clips: dict[str, Any] = {
        "symbolic": lambda x: gc.clip(x, -1.0, 1.5),
        "static": lambda x: gc.clip(x, max=1.0, min=0.0),
    }
    found += [
        Case("clip", n, f, (X if n == "symbolic" else FIXED,)) for n, f in clips.items()
    ]
    found += [
        Case("clip", "broadcast_both", gc.clip, (X, LOW, HIGH)),
        Case("clip", "ints", lambda x: gc.clip(x, -2, 3), (INTS,)),
    ]
    return found


def _division() -> list[Case]:
    ints = Spec("y", ("N", 4), "int32", -3, 4)  # 0 is one of them
    longs = Spec("y", ("N", 4), "int64", -3, 4)
    row = Spec("y", (4,), "float32", -3.0, -0.5)
    found = []
    for name in ("floor_divide", "remainder"):
        op = OPS[name]
        found += [
            Case(name, "same_shape", op, (X, DIVISOR)),
            Case(name, "broadcast_row", op, (X, row)),
            Case(name, "ints", op, (INTS, ints)),
            Case(name, "longs", op, (INTS, longs)),
            Case(name, "int_with_float", op, (INTS, DIVISOR)),
        ]
    found += [
        Case("floor_divide", "operator", lambda x: x // 2, (INTS,)),
        Case("remainder", "operator", lambda x: x % 1.5, (X,)),
        Case("remainder", "reflected", lambda y: 7 % y, (DIVISOR,)),
    ]
    return found


CASES = (
    *_unary(),
    *_with_parameter(),
    *_division(),
    Case("logical_xor", "symbolic", gc.logical_xor, (BOOLS, MORE_BOOLS)),
    Case("logical_xor", "ints", gc.logical_xor, (INTS, MORE_BOOLS)),
    Case("logical_xor", "broadcast_row", gc.logical_xor, (X, ROW)),
)


# --- what NumPy says ---------------------------------------------------------------


def _whole(x: Any, y: Any) -> Any:
    """Divide and round down; 0 for an integer divisor of 0."""
    zero = (y == 0) & (np.result_type(x, y).kind != "f")
    exact = np.floor(np.where(zero, 0, x / np.where(zero, 1, y)))
    return exact.astype(np.result_type(x, y))


def _expm1(x: Any) -> Any:
    return np.expm1(np.minimum(x, 0))


def _erf(x: Any) -> Any:
    """Integrate e ** -t^2 from 0 to x by Gauss and Legendre's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    t = x[..., None] * (nodes + 1) / 2
    return x / np.sqrt(np.pi) * np.sum(weights * np.exp(-t * t), axis=-1)


def _oracles() -> dict[str, Oracle]:
    found: dict[str, Oracle] = {}
    same = f"sin cos tan arctan sinh cosh log2 log10 {WHOLE} {TESTS} logical_xor clip"
    for name in same.split():
        found[name] = lambda a, *x, f=name: getattr(np, f)(*x)
    root = np.sqrt(2 / np.pi)
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    found |= {
        "erf": lambda a, x: _erf(x),
        "erfc": lambda a, x: 1 - _erf(x),
        "silu": lambda a, x: x / (1 + np.exp(-x)),
        "gelu": lambda a, x: x / 2 * (1 + _erf(x / np.sqrt(2))),
        "gelu_tanh": lambda a, x: x / 2 * (1 + np.tanh(root * (x + 0.044715 * x**3))),
        "selu": lambda a, x: scale * np.where(x > 0, x, alpha * _expm1(x)),
        "elu": lambda a, x, alpha: np.maximum(x, 0) + alpha * _expm1(x),
        "leaky_relu": lambda a, x, slope: np.maximum(x, 0) + slope * np.minimum(x, 0),
        "softsign": lambda a, x: np.sign(x) * (1 - 1 / (1 + np.abs(x))),
        "floor_divide": lambda a, x, y: _whole(x, y),
        "remainder": lambda a, x, y: np.where(y == 0, 0, x - y * _whole(x, y)),
    }
    return found


ORACLES = _oracles()
