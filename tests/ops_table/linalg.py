"""Linear algebra, on matrices that are far from singular."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import Tensor
from ops_table.case import Array, Case, Oracle, Spec

A = Spec("a", ("N", 3, 3), low=-0.5, high=0.5)
B = Spec("b", ("N", 3, 2))
SQUARE = Spec("a", ("M", "M"), low=-0.25, high=0.25)
VECTOR = Spec("b", ("M",))
WIDE = Spec("a", (2, 2, 4, 4), "float64", -0.4, 0.4)
WIDE_SIDES = Spec("b", (2, 1, 4, 3), "float64")


def heavy(a: Tensor) -> Tensor:
    """Add to the diagonal, so that the other elements count little."""
    return a + 2.0 * gc.eye(a.shape[-1], dtype=a.dtype)


def triangular(**how: bool) -> Callable[..., Tensor]:
    return lambda a, b: gc.solve_triangular(heavy(a), b, **how)


CASES = (
    Case("solve", "matrices", lambda a, b: gc.solve(heavy(a), b), (A, B)),
    Case("solve", "vector", lambda a, b: gc.solve(heavy(a), b), (SQUARE, VECTOR)),
    Case("solve", "broadcast", lambda a, b: gc.solve(heavy(a), b), (WIDE, WIDE_SIDES)),
    Case("solve", "inverse", lambda a: gc.inv(heavy(a)), (SQUARE,)),
    Case("solve_triangular", "matrices", triangular(), (A, B)),
    Case("solve_triangular", "lower", triangular(lower=True), (SQUARE, VECTOR)),
    Case("solve_triangular", "trans", triangular(trans=True), (A, B)),
    Case("solve_triangular", "both", triangular(lower=True, trans=True), (A, B)),
    Case("solve_triangular", "unit", triangular(unit=True), (A, B)),
    Case("solve_triangular", "unit_lower",
         triangular(lower=True, trans=True, unit=True), (WIDE, WIDE_SIDES)),
    Case("cholesky", "matrices", lambda a: gc.cholesky(heavy(a)), (A,)),
    Case("cholesky", "square", lambda a: gc.cholesky(heavy(a)), (SQUARE,)),
    Case("cholesky", "double", lambda a: gc.cholesky(heavy(a)), (WIDE,)),
    Case("det", "matrices", lambda a: gc.det(heavy(a)), (A,)),
    Case("det", "one", lambda a: gc.det(heavy(a)), (SQUARE,)),
    Case("det", "rows_swapped", lambda a: gc.det(heavy(a)[..., ::-1, :]), (WIDE,)),
    Case("slogdet", "matrices", lambda a: gc.slogdet(heavy(a)[:, ::-1, :]), (A,)),
    Case("slogdet", "one", lambda a: gc.slogdet(heavy(a)), (SQUARE,)),
    Case("slogdet", "double", lambda a: gc.slogdet(heavy(a)), (WIDE,)),
)  # fmt: skip


# --- what NumPy says ------------------------------------------------------------------


def _each(f: Callable[..., Any], *arrays: Array) -> Array:
    """Apply a function of matrices to each of a batch."""
    outer = arrays[0].shape[:-2]
    flat = [a.reshape(-1, *a.shape[-2:]) for a in arrays]
    found = np.array([f(*each) for each in zip(*flat, strict=True)])
    return found.reshape((*outer, *found.shape[1:]))


def _solution(a: Array, b: Array) -> Array:
    """Solve the normal equations, then improve on it."""
    x = np.linalg.inv(a.T @ a) @ (a.T @ b)
    for _ in range(3):
        x = x + np.linalg.inv(a) @ (b - a @ x)
    return x


def _triangular(attrs: Any, a: Array, b: Array) -> Array:
    part = np.tril(a) if attrs.lower else np.triu(a)
    if attrs.unit:
        n = a.shape[-1]
        part = np.where(np.eye(n, dtype=bool), 1.0, part)
    return _each(_solution, np.swapaxes(part, -1, -2) if attrs.trans else part, b)


def _factor(a: Array) -> Array:
    """Factor row by row, as in a book."""
    n = len(a)
    found = np.zeros_like(a)
    for i in range(n):
        for j in range(i + 1):
            rest = a[i, j] - sum(found[i, k] * found[j, k] for k in range(j))
            found[i, j] = math.sqrt(rest) if i == j else rest / found[j, j]
    return found


def _det(a: Array) -> float:
    """Add up over all permutations, by Leibniz's formula."""
    n, total = len(a), 0.0
    for order in itertools.permutations(range(n)):
        turns = sum(order[i] > order[j] for i in range(n) for j in range(i + 1, n))
        total += (-1) ** turns * math.prod(a[i, order[i]] for i in range(n))
    return total


def _slogdet(attrs: Any, a: Array) -> tuple[Array, Array]:
    found = _each(_det, a)
    return np.sign(found), np.log(np.abs(found))


ORACLES: dict[str, Oracle] = {
    "solve": lambda attrs, a, b: _each(_solution, a, b),
    "solve_triangular": _triangular,
    "cholesky": lambda attrs, a: _each(_factor, a),
    "det": lambda attrs, a: _each(_det, a),
    "slogdet": _slogdet,
}
