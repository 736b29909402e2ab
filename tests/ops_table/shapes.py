"""Axes, diagonals, ranges and contractions: compositions, and the ops they need."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import make1
from graphc.ops.diagonal import DIAGONAL_PLACE, Placed
from ops_table.case import (
    BOOLS,
    CUBE,
    FIXED,
    INTS,
    ROW,
    SCALAR,
    Array,
    Case,
    Oracle,
    Spec,
    X,
    Y,
)

SQUARE = Spec("x", ("N", "N"))
LINE = Spec("x", ("N",))
EVEN = Spec("x", ("2*N", 4))
IMAGES = Spec("x", (2, 3, "N", "M"))

CASES = (
    Case("flip", "all", gc.flip, (X,)),
    Case("flip", "axis", lambda x: gc.flip(x, 1), (X,)),
    Case("flip", "first_axis", lambda x: gc.flip(x, 0), (X,)),
    Case("flip", "several_axes", lambda x: gc.flip(x, (0, 2)), (CUBE,)),
    Case("flip", "bools", lambda x: gc.flip(x, 0), (BOOLS,)),
    Case("roll", "axis", lambda x: gc.roll(x, 1, 1), (X,)),
    Case("roll", "symbolic", lambda x: gc.roll(x, -2, 0), (X,)),
    Case("roll", "far", lambda x: gc.roll(x, 11, 0), (INTS,)),
    Case("roll", "flat", lambda x: gc.roll(x, 3), (X,)),
    Case("roll", "several_axes", lambda x: gc.roll(x, (1, -1), (0, 2)), (CUBE,)),
    Case("diagonal", "main", gc.diagonal, (SQUARE,)),
    Case("diagonal", "wide", lambda x: gc.diagonal(x, 1), (FIXED,)),
    Case("diagonal", "below", lambda x: gc.diagonal(x, -1), (FIXED,)),
    Case("diagonal", "batches", lambda x: gc.diagonal(x, 1, 2, 0), (CUBE,)),
    Case("diagonal", "trace", gc.trace, (SQUARE,)),
    Case("diagonal_place", "vector", gc.diag, (LINE,)),
    Case("diagonal_place", "above", lambda x: gc.diag(x, 2), (LINE,)),
    Case("diagonal_place", "below", lambda x: gc.diag(x, -1), (ROW,)),
    Case(
        "diagonal_place",
        "wide",
        lambda x: make1(DIAGONAL_PLACE, (x,), Placed(-1, (4, 7))),
        (Spec("x", ("N", 3)),),
    ),
    Case("where", "tril", lambda x: gc.tril(x, -1), (CUBE,)),
    Case("where", "triu", gc.triu, (X,)),
    Case("where", "triu_ints", lambda x: gc.triu(x, 1), (INTS,)),
    Case("concatenate", "stack", lambda x, y: gc.stack([x, y], 1), (X, Y)),
    Case("slice", "split", lambda x: tuple(gc.split(x, 2, 1)), (X,)),
    Case("slice", "split_symbolic", lambda x: tuple(gc.split(x, 2)), (EVEN,)),
    Case("slice", "split_at", lambda x: tuple(gc.split(x, [1, 3], 1)), (X,)),
    Case("reshape", "expand_dims", lambda x: gc.expand_dims(x, (0, -1)), (X,)),
    Case("reshape", "squeeze", gc.squeeze, (Spec("x", (1, "N", 1)),)),
    Case("reshape", "tile", lambda x: gc.tile(x, (2, 1, 3)), (X,)),
    Case("reshape", "repeat", lambda x: gc.repeat(x, 3, 0), (X,)),
    Case("take", "repeat_some", lambda x: gc.repeat(x, [2, 0, 1, 3], 1), (X,)),
    Case("transpose", "moveaxis", lambda x: gc.moveaxis(x, 0, -1), (CUBE,)),
    Case("transpose", "swapaxes", lambda x: gc.swapaxes(x, 0, 2), (CUBE,)),
    Case("iota", "eye", lambda x: gc.eye(x.shape[0], 5, 1), (X,)),
    Case("iota", "arange", lambda x: gc.arange(1, x.shape[0] + 3, 2), (X,)),
    Case("iota", "arange_floats", lambda: gc.arange(1.0, 2.0, 0.25)),
    Case("where", "linspace", lambda x: gc.linspace(-1.0, x, 5), (SCALAR,)),
    Case("iota", "linspace_symbolic", lambda x: gc.linspace(0, 1, x.shape[0]), (LINE,)),
    Case("full", "like", lambda x: (gc.ones_like(x), gc.zeros_like(x, "int32")), (X,)),
    Case(
        "broadcast_to",
        "meshgrid",
        lambda x, y: tuple(gc.meshgrid(x, y)),
        (LINE, Spec("y", ("M",))),
    ),
    Case("mul", "outer", gc.outer, (X, Spec("y", ("M",)))),
    Case(
        "matmul",
        "einsum_heads",
        lambda x, y: gc.einsum("bthd,bshd->bhts", x, y),
        (Spec("x", (2, "N", 3, 4)), Spec("y", (2, "M", 3, 4))),
    ),
    Case(
        "matmul",
        "einsum_chain",
        lambda x, y, z: gc.einsum("ij,jk,kl", x, y, z),
        (X, Spec("y", (4, "M")), Spec("z", ("M", 2))),
    ),
    Case(
        "matmul",
        "einsum_regrouped",
        lambda x, y: gc.einsum("nchw,cho->wno", x, y),
        (IMAGES, Spec("y", (3, "N", 2))),
    ),
    Case(
        "matmul",
        "tensordot",
        lambda x, y: gc.tensordot(x, y, ((2, 0), (0, 1))),
        (CUBE, Spec("y", (3, 2, "M"))),
    ),
    Case("matmul", "dot", gc.dot, (X, Spec("y", (2, 4, 3)))),
    Case("matmul", "inner", gc.inner, (X, Spec("y", ("M", 4)))),
    Case("sum", "einsum_elementwise", lambda x, y: gc.einsum("ij,ij->j", x, y), (X, Y)),
    Case(
        "diagonal",
        "einsum",
        lambda x: gc.einsum("iji->ij", x),
        (Spec("x", (3, "N", 3)),),
    ),
)


# --- what NumPy says ---------------------------------------------------------------


def _flip(a: Any, x: Array) -> Array:
    found = np.zeros_like(x)
    for at in np.ndindex(*x.shape):
        found[tuple(n - 1 - i if k in a.axis else i for k, (i, n) in _sides(at, x))] = (
            x[at]
        )
    return found


def _sides(at: tuple[int, ...], x: Array) -> Any:
    return enumerate(zip(at, x.shape, strict=True))


def _roll(a: Any, x: Array) -> Array:
    found = np.zeros_like(x)
    n = x.shape[a.axis]
    for i in range(n):
        target = [slice(None)] * x.ndim
        source = list(target)
        source[a.axis], target[a.axis] = i, (i + a.shift) % n  # type: ignore[call-overload]
        found[tuple(target)] = x[tuple(source)]
    return found


def _diagonal(a: Any, x: Array) -> Array:
    rows, columns = x.shape[-2:]
    pairs = [(i, i + a.offset) for i in range(rows) if 0 <= i + a.offset < columns]
    return np.stack([x[..., i, j] for i, j in pairs], -1)


def _placed(a: Any, x: Array, *, out: Array) -> Array:
    found = np.zeros_like(out)
    rows, columns = out.shape[-2:]
    pairs = [(i, i + a.offset) for i in range(rows) if 0 <= i + a.offset < columns]
    for k, (i, j) in enumerate(pairs):
        found[..., i, j] = x[..., k]
    return found


ORACLES: dict[str, Oracle] = {
    "flip": _flip,
    "roll": _roll,
    "diagonal": _diagonal,
    "diagonal_place": _placed,
}
