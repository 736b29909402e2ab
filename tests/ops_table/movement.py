"""Shapes, indices and the matrix product."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import make1
from graphc.ops.indexing import SCATTER_ADD, Scatter
from ops_table.case import (
    CUBE,
    FIXED,
    GRID,
    INDICES,
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

CASES = (
    Case("broadcast_to", "new_axis", lambda x: gc.broadcast_to(x, (5, 4)), (ROW,)),
    Case(
        "broadcast_to",
        "kept_axis",
        lambda x: gc.broadcast_to(x, (*x.shape[:1], 4)),
        (Spec("x", ("N", 1)),),
    ),
    Case("broadcast_to", "scalar", lambda x: gc.broadcast_to(x, (2, 3)), (SCALAR,)),
    Case("reshape", "merge", lambda x: gc.reshape(x, (-1,)), (X,)),
    Case(
        "reshape",
        "split",
        lambda x: gc.reshape(x, (2, 2, "N", 3)),
        (Spec("x", (4, "N", 3)),),
    ),
    Case("reshape", "static", lambda x: gc.reshape(x, (2, 6)), (FIXED,)),
    Case("transpose", "matrix", lambda x: x.T, (X,)),
    Case("transpose", "cycle", lambda x: gc.transpose(x, (2, 0, 1)), (CUBE,)),
    Case("slice", "row", lambda x: x[1], (FIXED,)),
    Case("slice", "columns", lambda x: x[:, 1:3], (X,)),
    Case("slice", "symbolic", lambda x: x[1:], (X,)),
    Case("slice", "last", lambda x: x[-1], (X,)),
    Case("slice", "steps", lambda x: x[::2, ::3], (X,)),
    Case(
        "concatenate",
        "rows",
        lambda x, y: gc.concatenate([x, y]),
        (X, Spec("y", ("M", 4))),
    ),
    Case(
        "concatenate",
        "columns",
        lambda x, y, z: gc.concatenate([x, y, z], 1),
        (X, Y, Spec("z", ("N", 1))),
    ),
    Case("take", "rows", lambda x, i: gc.take(x, i, 0), (X, INDICES)),
    Case("take", "columns", lambda x, i: gc.take(x, i, 1), (X, GRID)),
    Case("take", "flat", lambda x, i: gc.take(x, i), (FIXED, INDICES)),
    Case(
        "scatter_add",
        "rows",
        lambda x, i: make1(SCATTER_ADD, (x, i), Scatter(0, (6, 4))),
        (Spec("x", ("M", 4)), INDICES),
    ),
    Case(
        "scatter_add",
        "columns",
        lambda x, i: make1(SCATTER_ADD, (x, i), Scatter(1, (*x.shape[:1], 4))),
        (Spec("x", ("N", "M", 2)), GRID),
    ),
    Case("one_hot", "floats", lambda i: gc.one_hot(i, 4), (INDICES,)),
    Case("one_hot", "grid", lambda i: gc.one_hot(i, 4, "int64"), (GRID,)),
    Case("matmul", "matrices", gc.matmul, (X, Spec("y", (4, 3)))),
    Case("matmul", "static", gc.matmul, (FIXED, Spec("y", (4, 2)))),
    Case("matmul", "vectors", gc.matmul, (Spec("x", ("N",)), Spec("y", ("N",)))),
    Case("matmul", "batches", gc.matmul, (CUBE, Spec("y", (2, 3, 4)))),
    Case("matmul", "batch_broadcast", gc.matmul, (CUBE, Spec("y", (3, 4)))),
    Case("matmul", "ints", gc.matmul, (INTS, Spec("y", (4, 3), "int32", -5, 6))),
)


# --- what NumPy says ---------------------------------------------------------------


def _place(i: int, n: int) -> int:
    return min(max(i + n if i < 0 else i, 0), n - 1)


def _take(a: Any, x: Array, i: Array) -> Array:
    wrapped = np.array([_place(int(j), x.shape[a.axis]) for j in i.ravel()], int)
    return np.take(x, wrapped.reshape(i.shape), axis=a.axis)


def _scatter_add(a: Any, x: Array, i: Array, *, out: Array) -> Array:
    found = np.zeros_like(out)
    middle = slice(a.axis, a.axis + i.ndim)
    for at in np.ndindex(*x.shape):
        row = _place(int(i[at[middle]]), out.shape[a.axis])
        found[(*at[: a.axis], row, *at[a.axis + i.ndim :])] += x[at]
    return found


def _slice(a: Any, x: Array, *, out: Array, sizes: dict[str, int]) -> Array:
    found = np.zeros_like(out)
    start = [gc.ir.dims.evaluate(s, sizes) for s in a.start]
    for at in np.ndindex(*out.shape):
        source = tuple(b + i * s for b, i, s in zip(start, at, a.step, strict=True))
        found[at] = x[source]
    return found


ORACLES: dict[str, Oracle] = {
    "broadcast_to": lambda a, x, *, out: np.broadcast_to(x, out.shape),
    "reshape": lambda a, x, *, out: x.reshape(out.shape),
    "transpose": lambda a, x: np.transpose(x, a.axes),
    "slice": _slice,
    "concatenate": lambda a, *x: np.concatenate(x, a.axis),
    "take": _take,
    "scatter_add": _scatter_add,
    "one_hot": lambda a, i, *, out: (
        np.eye(out.shape[-1])[np.clip(i, 0, 3)] * ((i >= 0) & (i < 4))[..., None]
    ),
    "matmul": lambda a, x, y: np.einsum("...ij,...jk->...ik", x, y),
}
