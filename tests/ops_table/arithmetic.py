"""Elementwise arithmetic, comparisons and where."""

from __future__ import annotations

import numpy as np

import graphc as gc
from graphc.ir.op import OPS
from ops_table.case import (
    BOOLS,
    FIXED,
    INTS,
    MORE_BOOLS,
    MORE_INTS,
    ROW,
    SCALAR,
    Case,
    Oracle,
    Spec,
    X,
    Y,
)


def _unary() -> list[Case]:
    floats = "neg abs sign exp log log1p expm1 sqrt rsqrt tanh sigmoid relu softplus"
    found = []
    for name in floats.split():
        op = OPS[name]
        assert op.scalar is not None
        low, high = op.scalar.sample
        for case, spec in (("symbolic", X), ("static", FIXED), ("scalar", SCALAR)):
            ranged = Spec(spec.name, spec.shape, spec.dtype, low, high)
            found.append(Case(name, case, op, (ranged,)))
        ranged = Spec("x", ("N",), "float64", low, high)
        found.append(Case(name, "double", op, (ranged,)))
    found += [Case(n, "ints", OPS[n], (INTS,)) for n in ("neg", "abs", "sign", "relu")]
    found.append(Case("logical_not", "symbolic", gc.logical_not, (BOOLS,)))
    return found


def _binary() -> list[Case]:
    found = []
    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        op = OPS[name]
        other = Spec("y", ("N", 4), "float32", 0.5, 3.0) if name == "div" else Y
        row = Spec("y", (4,), "float32", other.low, other.high)
        scalar = Spec("y", (), "float32", other.low, other.high)
        ints = Spec("y", ("N", 4), "int32", 1, 6)
        found += [
            Case(name, "same_shape", op, (X, other)),
            Case(name, "broadcast_row", op, (X, row)),
            Case(name, "broadcast_scalar", op, (X, scalar)),
            Case(name, "broadcast_both", op, (Spec("x", ("N", 1)), row)),
            Case(name, "ints", op, (INTS, ints)),
            Case(name, "int_with_float", op, (INTS, other)),
        ]
    positive = Spec("x", ("N", 4), "float32", 0.2, 3.0)
    found += [
        Case("pow", "same_shape", gc.pow, (positive, Y)),
        Case("pow", "square", lambda x: x**2, (X,)),
        Case("pow", "cube", lambda x: x**3, (FIXED,)),
        Case("pow", "broadcast_row", gc.pow, (positive, ROW)),
    ]
    comparisons = "equal not_equal less less_equal greater greater_equal"
    for name in comparisons.split():
        op = OPS[name]
        found += [
            Case(name, "floats", op, (X, Y)),
            Case(name, "ints", op, (INTS, MORE_INTS)),
            Case(name, "broadcast_row", op, (X, ROW)),
        ]
    for name in ("logical_and", "logical_or"):
        found.append(Case(name, "symbolic", OPS[name], (BOOLS, MORE_BOOLS)))
    return found


CONDITION = Spec("c", ("N", 4), "bool")
WHERE = [
    Case("where", "same_shape", gc.where, (CONDITION, X, Y)),
    Case("where", "broadcast", gc.where, (Spec("c", ("N", 1), "bool"), X, ROW)),
    Case("where", "number", lambda c, x: gc.where(c, x, 0.0), (CONDITION, X)),
    Case("where", "ints", gc.where, (CONDITION, INTS, MORE_INTS)),
]


CASES = (*_unary(), *_binary(), *WHERE)


# --- what NumPy says ---------------------------------------------------------------


def _oracles() -> dict[str, Oracle]:
    same = (
        "add maximum minimum exp log log1p expm1 sqrt tanh sign abs equal not_equal "
        "less less_equal greater greater_equal logical_and logical_or logical_not where"
    )
    found: dict[str, Oracle] = {}
    for name in same.split():
        found[name] = lambda a, *x, f=name: getattr(np, f)(*x)
    found |= {
        "sub": lambda a, x, y: np.subtract(x, y),
        "mul": lambda a, x, y: np.multiply(x, y),
        "div": lambda a, x, y: np.true_divide(x, y),
        "pow": lambda a, x, y: np.float_power(x, y),
        "neg": lambda a, x: np.negative(x),
        "rsqrt": lambda a, x: 1 / np.sqrt(x),
        "sigmoid": lambda a, x: np.exp(-np.logaddexp(0, -x)),
        "relu": lambda a, x: np.where(x > 0, x, 0),
        "softplus": lambda a, x: np.logaddexp(0, x),
    }
    return found


ORACLES = _oracles()
