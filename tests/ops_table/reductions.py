"""Reductions, and softmax with its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from ops_table.case import BOOLS, CUBE, FIXED, INTS, LONGS, WIDE, Array, Case, Oracle, X


def _reductions() -> list[Case]:
    found = []
    names = "sum prod max min argmax argmin mean var std logsumexp norm any all"
    for name in names.split():
        f: Any = getattr(gc, name)
        found += [
            Case(name, "all", lambda x, f=f: f(x), (X,)),
            Case(name, "axis", lambda x, f=f: f(x, 1), (X,)),
            Case(name, "first_axis", lambda x, f=f: f(x, 0), (X,)),
            Case(name, "keepdims", lambda x, f=f: f(x, 1, keepdims=True), (X,)),
            Case(name, "several_axes", lambda x, f=f: f(x, (0, 2)), (CUBE,)),
            Case(name, "several_kept", lambda x, f=f: f(x, (0, 1), True), (CUBE,)),
            Case(name, "static", lambda x, f=f: f(x, -1), (FIXED,)),
            Case(name, "double", lambda x, f=f: f(x, 0), (WIDE,)),
        ]
    for name in ("sum", "prod", "max", "min", "argmax", "argmin", "any", "all"):
        f = getattr(gc, name)
        found.append(Case(name, "ints", lambda x, f=f: f(x, 1), (INTS,)))
    found += [
        Case("sum", "bools", lambda x: gc.sum(x, 1), (BOOLS,)),
        Case("sum", "longs", lambda x: gc.sum(x), (LONGS,)),
        Case("prod", "bools", lambda x: gc.prod(x, 1), (BOOLS,)),
        Case("any", "bools", lambda x: gc.any(x, 1), (BOOLS,)),
        Case("all", "bools", lambda x: gc.all(x, 0, True), (BOOLS,)),
        Case("var", "ddof", lambda x: gc.var(x, 0, ddof=1), (X,)),
        Case("std", "ddof", lambda x: gc.std(x, 1, ddof=1), (X,)),
    ]
    for name in ("softmax", "log_softmax"):
        f = getattr(gc, name)
        found += [
            Case(name, "last_axis", lambda x, f=f: f(x), (X,)),
            Case(name, "first_axis", lambda x, f=f: f(x, 0), (X,)),
            Case(name, "several_axes", lambda x, f=f: f(x, (0, 2)), (CUBE,)),
            Case(name, "static", lambda x, f=f: f(x), (FIXED,)),
        ]
    return found


CASES = tuple(_reductions())


# --- what NumPy says ---------------------------------------------------------------


def _axes(f: Callable[..., Any]) -> Oracle:
    return lambda a, x: f(x, axis=a.axis, keepdims=a.keepdims)


def _rows(a: Any, x: Array, best: Callable[[Array], int]) -> Array:
    """Search row by row."""
    outer = [n for i, n in enumerate(x.shape) if i not in a.axis]
    found = np.zeros(outer, np.int32)
    for point in np.ndindex(*outer):
        rest = iter(point)
        key = tuple(slice(None) if i in a.axis else next(rest) for i in range(x.ndim))
        found[point] = best(x[key].ravel())
    return np.expand_dims(found, a.axis) if a.keepdims else found


def _argmax(row: Array) -> int:
    return max(enumerate(row), key=lambda item: item[1])[0]


def _argmin(row: Array) -> int:
    return min(enumerate(row), key=lambda item: item[1])[0]


def _multiplied(a: Any, x: Array) -> Array:
    """Multiply one slice after the other."""
    found = np.ones([n for i, n in enumerate(x.shape) if i not in a.axis], x.dtype)
    moved = np.moveaxis(x, a.axis, range(len(a.axis)))
    for at in np.ndindex(*(x.shape[i] for i in a.axis)):
        found = found * moved[at]
    return np.expand_dims(found, a.axis) if a.keepdims else found


def _normalised(x: Array, axis: Any) -> Array:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=axis, keepdims=True)


ORACLES: dict[str, Oracle] = {
    "sum": lambda a, x: np.sum(x, axis=a.axis, keepdims=a.keepdims),
    "max": _axes(np.max),
    "min": _axes(np.min),
    "mean": _axes(np.mean),
    "argmax": lambda a, x: _rows(a, x, _argmax),
    "argmin": lambda a, x: _rows(a, x, _argmin),
    "prod": _multiplied,
    "any": lambda a, x: np.sum(x != 0, axis=a.axis, keepdims=a.keepdims) > 0,
    "all": lambda a, x: np.sum(x == 0, axis=a.axis, keepdims=a.keepdims) == 0,
    "var": lambda a, x: np.var(x, axis=a.axis, keepdims=a.keepdims, ddof=a.ddof),
    "std": lambda a, x: np.sqrt(
        np.var(x, axis=a.axis, keepdims=a.keepdims, ddof=a.ddof)
    ),
    "logsumexp": lambda a, x: np.log(
        np.sum(np.exp(x), axis=a.axis, keepdims=a.keepdims)
    ),
    "norm": lambda a, x: np.sqrt(np.sum(x**2, axis=a.axis, keepdims=a.keepdims)),
    "softmax": lambda a, x: _normalised(x, a.axis),
    "log_softmax": lambda a, x: np.log(_normalised(x, a.axis)),
}
