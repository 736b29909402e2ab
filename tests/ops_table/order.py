"""Sorting, searching in what is sorted, and scans along an axis."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from ops_table.case import (
    BOOLS,
    CUBE,
    FIXED,
    INTS,
    LONGS,
    WIDE,
    Array,
    Case,
    Oracle,
    Spec,
    X,
    Y,
)

VECTOR = Spec("x", ("N",))
LARGE = Spec("x", ("N", 70))
TABLE = Spec("a", (6,))
ROWS = Spec("a", ("N", 5))
KEYS = Spec("k", ("N", 3))


def _scans() -> list[Case]:
    found = []
    for name in ("cumsum", "cumprod", "cummax", "cummin"):
        f: Any = getattr(gc, name)
        found += [
            Case(name, "axis", lambda x, f=f: f(x, 1), (X,)),
            Case(name, "first_axis", lambda x, f=f: f(x, 0), (X,)),
            Case(name, "middle", lambda x, f=f: f(x, 1), (CUBE,)),
            Case(name, "reverse", lambda x, f=f: f(x, -1, reverse=True), (X,)),
            Case(name, "flat", lambda x, f=f: f(x), (FIXED,)),
            Case(name, "double", lambda x, f=f: f(x, 0), (WIDE,)),
            Case(name, "ints", lambda x, f=f: f(x, 1), (INTS,)),
            Case(name, "bools", lambda x, f=f: f(x, 1), (BOOLS,)),
        ]
    found += [
        Case("linear_recurrence", "axis", lambda x, y: gc.linear_recurrence(x, y, 1),
             (X, Y)),
        Case("linear_recurrence", "first_axis",
             lambda x, y: gc.linear_recurrence(0.5 * x, y, 0), (X, Y)),
        Case("linear_recurrence", "reverse",
             lambda x, y: gc.linear_recurrence(x, y, -1, reverse=True), (X, Y)),
        Case("linear_recurrence", "number",
             lambda y: gc.linear_recurrence(0.9, y, 0, reverse=True), (VECTOR,)),
        Case("linear_recurrence", "ints",
             lambda x, y: gc.linear_recurrence(x, y, 1),
             (INTS, Spec("y", ("N", 4), "int32", -5, 6))),
        Case("previous", "products", lambda x: gc.grad(gc.sum(gc.cumprod(x, 0)), x),
             (Spec("x", ("N", 2), low=0.2, high=1.1),)),
        Case("previous", "reverse",
             lambda x: gc.grad(gc.sum(gc.cumprod(x, 1, reverse=True)), x), (FIXED,)),
    ]  # fmt: skip
    return found


CASES = (
    Case("sort", "axis", lambda x: gc.sort(x, 1), (X,)),
    Case("sort", "first_axis", lambda x: gc.sort(x, 0), (X,)),
    Case("sort", "middle", lambda x: gc.sort(x, 1), (CUBE,)),
    Case("sort", "descending", lambda x: gc.sort(x, 0, descending=True), (X,)),
    Case("sort", "flat", lambda x: gc.sort(x, None), (FIXED,)),
    Case("sort", "double", lambda x: gc.sort(x, 0), (WIDE,)),
    Case("sort", "ints", lambda x: gc.sort(x, 0), (INTS,)),
    Case("sort", "longs", lambda x: gc.sort(x, 0, descending=True), (LONGS,)),
    Case("sort", "bools", lambda x: gc.sort(x), (BOOLS,)),
    Case("sort", "indices", lambda x: gc.argsort(x, 0), (INTS,)),
    Case("sort", "indices_down", lambda x: gc.argsort(x, descending=True), (INTS,)),
    Case("top_k", "axis", lambda x: gc.top_k(x, 3, 1), (X,)),
    Case("top_k", "middle", lambda x: gc.top_k(x, 1, 1), (CUBE,)),
    Case("top_k", "all", lambda x: gc.top_k(x, "N", 0), (X,)),
    Case("top_k", "many", lambda x: gc.top_k(x, 60), (LARGE,)),
    Case("top_k", "none", lambda x: gc.top_k(x, 0), (X,)),
    Case("top_k", "ints", lambda x: gc.top_k(x, 2), (INTS,)),
    Case("searchsorted", "vector",
         lambda a, x: gc.searchsorted(gc.sort(a), x), (TABLE, X)),
    Case("searchsorted", "rows",
         lambda a, k: gc.searchsorted(gc.sort(a), k, side="right"), (ROWS, KEYS)),
    Case("searchsorted", "equal",
         lambda x: gc.searchsorted(gc.constant([-3, 0, 0, 2]), x), (INTS,)),
    Case("searchsorted", "equal_right",
         lambda x: gc.searchsorted(gc.constant([-3, 0, 0, 2]), x, "right"), (INTS,)),
    *_scans(),
)  # fmt: skip


# --- what NumPy says, line by line ----------------------------------------------------


def _lines(f: Callable[..., Any], axis: int, *arrays: Array) -> Array:
    """Apply a function to each line along an axis."""
    moved = [np.moveaxis(a, axis, -1) for a in arrays]
    rows = [a.reshape(-1, a.shape[-1]) for a in moved]
    made = [np.asarray(f(*each)) for each in zip(*rows, strict=True)]
    return np.moveaxis(np.stack(made).reshape(*moved[0].shape[:-1], -1), -1, axis)


def _scan(step: Callable[..., Any]) -> Oracle:
    """Walk along a line: step(before, element) -> after."""

    def oracle(attrs: Any, x: Array) -> Array:
        def walk(row: Array) -> list[Any]:
            found: list[Any] = []
            for value in row[::-1] if attrs.reverse else row:
                found.append(step(found[-1], value) if found else value)
            return found[::-1] if attrs.reverse else found

        return _lines(walk, attrs.axis, x)

    return oracle


def _extremum(better: Callable[..., bool]) -> Oracle:
    def oracle(attrs: Any, x: Array) -> tuple[Array, Array]:
        def places(row: Array) -> list[int]:
            order = range(len(row))
            found: list[int] = []
            for i in reversed(order) if attrs.reverse else order:
                wins = not found or better(row[i], row[found[-1]])
                found.append(i if wins else found[-1])
            return found[::-1] if attrs.reverse else found

        where = _lines(places, attrs.axis, x)
        return np.take_along_axis(x, where, attrs.axis), where.astype(np.int32)

    return oracle


def _recurrence(attrs: Any, a: Array, b: Array) -> Array:
    def walk(factors: Array, terms: Array) -> Array:
        # As a system of equations: y - (a shifted) y = b.
        n = len(terms)
        if attrs.reverse:
            system = np.eye(n) - np.diag(factors[:-1], 1)
        else:
            system = np.eye(n) - np.diag(factors[1:], -1)
        found = np.linalg.solve(system, terms)
        return np.rint(found) if b.dtype.kind == "i" else found

    return _lines(walk, attrs.axis, a, b)


def _previous(attrs: Any, x: Array) -> Array:
    def walk(row: Array) -> list[Any]:
        if attrs.reverse:
            return [*row[1:], attrs.first]
        return [attrs.first, *row[:-1]]

    return _lines(walk, attrs.axis, x)


def _sort(attrs: Any, x: Array) -> tuple[Array, Array]:
    def order(row: Array) -> list[int]:
        sign = -1 if attrs.descending else 1
        return sorted(range(len(row)), key=lambda i: (sign * float(row[i]), i))

    where = _lines(order, attrs.axis, x)
    return np.take_along_axis(x, where, attrs.axis), where.astype(np.int32)


def _top_k(attrs: Any, x: Array, out: Array) -> tuple[Array, Array]:
    k = out.shape[attrs.axis]

    def best(row: Array) -> list[int]:
        order = sorted(range(len(row)), key=lambda i: (-float(row[i]), i))
        return order[:k]

    where = _lines(best, attrs.axis, x).astype(np.int64)
    return np.take_along_axis(x, where, attrs.axis), where.astype(np.int32)


def _search(attrs: Any, a: Array, v: Array) -> Array:
    find = bisect.bisect_right if attrs.right else bisect.bisect_left
    if a.ndim == 1:
        found = [find(a.tolist(), key) for key in v.ravel()]
    else:
        found = [
            find(row.tolist(), key)
            for row, keys in zip(a, v, strict=True)
            for key in keys.ravel()
        ]
    return np.array(found).reshape(v.shape)


ORACLES: dict[str, Oracle] = {
    "cumsum": _scan(lambda before, x: before + x),
    "cumprod": _scan(lambda before, x: before * x),
    "cummax": _extremum(lambda x, before: x > before),
    "cummin": _extremum(lambda x, before: x < before),
    "linear_recurrence": _recurrence,
    "previous": _previous,
    "sort": _sort,
    "top_k": _top_k,
    "searchsorted": _search,
}
