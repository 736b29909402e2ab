"""Reading and writing by index."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import make1
from graphc.ops.along import ADD_ALONG_AXIS, PLACE_ALONG_AXIS, Sized
from graphc.ops.gather import ADD_AT, GATHER, IntoPoints, Points
from ops_table.case import (
    CUBE,
    FIXED,
    INDICES,
    INTS,
    Array,
    Case,
    Oracle,
    Spec,
    X,
)

ROWS = Spec("r", ("M",), "int32", -7, 8)
COLUMNS = Spec("c", ("M",), "int64", -5, 6)
EACH = Spec("i", ("N", 2), "int32", -6, 7)
START = Spec("s", (), "int32", -7, 8)
OTHER_START = Spec("t", (), "int64", -5, 6)

CASES = (
    Case("ensure", "holds", lambda x: gc.ensure(x, x < 9.0, "{value}"), (X,)),
    Case(
        "ensure",
        "broadcast",
        lambda x, i: gc.ensure(x, i < 9, "more than {0}", 9),
        (X, Spec("i", (4,), "int32", 0, 8)),
    ),
    Case("take_along_axis", "last", gc.take_along_axis, (X, EACH)),
    Case(
        "take_along_axis",
        "first",
        lambda x, i: gc.take_along_axis(x, i, 0),
        (X, Spec("i", ("M", 4), "int64", -7, 8)),
    ),
    Case(
        "take_along_axis",
        "broadcast",
        lambda x, i: gc.take_along_axis(x, i, 1),
        (CUBE, Spec("i", (1, "M", 3), "int32", -7, 8)),
    ),
    Case(
        "take_along_axis",
        "flat",
        lambda x, i: gc.take_along_axis(x, i, None),
        (FIXED, INDICES),
    ),
    Case("take_along_axis", "ints", gc.take_along_axis, (INTS, EACH)),
    Case(
        "add_along_axis",
        "last",
        lambda x, i: make1(ADD_ALONG_AXIS, (x, i), Sized(1, 4)),
        (Spec("x", ("N", 2)), EACH),
    ),
    Case(
        "place_along_axis",
        "last",
        lambda x, i: make1(PLACE_ALONG_AXIS, (x, i), Sized(1, 4)),
        (Spec("x", ("N", 1)), Spec("i", ("N", 1), "int32", -6, 7)),
    ),
    Case(
        "add_along_axis",
        "first",
        lambda x, i: make1(ADD_ALONG_AXIS, (x, i), Sized(0, x.shape[0])),
        (Spec("x", ("N", 2)), EACH),
    ),
    Case("gather", "points", lambda x, r, c: x[r, c], (X, ROWS, COLUMNS)),
    Case("gather", "apart", lambda x, r, c: x[r, :, c], (CUBE, ROWS, COLUMNS)),
    Case("gather", "together", lambda x, r, c: x[:, r, c], (CUBE, ROWS, COLUMNS)),
    Case(
        "gather",
        "with_slices",
        lambda x, r, c: x[::-1, None, r[:, None], c],
        (CUBE, ROWS, COLUMNS),
    ),
    Case(
        "gather",
        "shared",
        lambda x, i: make1(GATHER, (x, i), Points((2,), 1)),
        (Spec("x", ("N", 2, 4)), EACH),
    ),
    Case(
        "add_at",
        "points",
        lambda u, r, c: make1(ADD_AT, (u, r, c), IntoPoints((0, 1), (5, 4))),
        (Spec("u", ("M",)), ROWS, COLUMNS),
    ),
    Case(
        "add_at",
        "rows",
        lambda x, r, c, u: gc.index_add(x, (r, slice(None), c), u),
        (CUBE, ROWS, COLUMNS, Spec("u", ("M", "N"))),
    ),
    Case(
        "add_at",
        "shared",
        lambda u, i: make1(ADD_AT, (u, i), IntoPoints((2,), (*u.shape[:1], 3, 4), 1)),
        (Spec("u", ("N", 2, 3)), EACH),
    ),
    Case(
        "add_at",
        "reversed",
        lambda x, r, u: gc.index_add(x, (slice(None, None, -1), r), u),
        (X, ROWS, Spec("u", ("N", "M"))),
    ),
    Case(
        "set_at",
        "points",
        lambda x, r, c, u: gc.index_update(x, (r, c), u),
        (X, ROWS, COLUMNS, Spec("u", ("M",))),
    ),
    Case(
        "set_at",
        "rows",
        lambda x, r, u: gc.index_update(x, r, u),
        (X, ROWS, Spec("u", ("M", 4))),
    ),
    Case(
        "set_at",
        "within_slices",
        lambda x, c, u: gc.index_update(x, (slice(1, None, 2), c), u),
        (FIXED, COLUMNS, Spec("u", (1, "M"))),
    ),
    Case(
        "set_at",
        "along",
        lambda x, i, u: gc.put_along_axis(x, i, u, 0),
        (X, Spec("i", ("M", 4), "int32", -7, 8), Spec("u", ("M", 4))),
    ),
    Case(
        "dynamic_slice",
        "matrix",
        lambda x, s, t: gc.dynamic_slice(x, (s, t), (2, 3)),
        (FIXED, START, OTHER_START),
    ),
    Case(
        "dynamic_slice",
        "whole_rows",
        lambda x, s: gc.dynamic_slice(x, (s, 0), (1, 4)),
        (X, START),
    ),
    Case(
        "dynamic_slice",
        "vector",
        lambda x, s: gc.dynamic_slice(x, s, (2, x.shape[1], 2)),
        (CUBE, Spec("s", (3,), "int32", -4, 5)),
    ),
    Case(
        "dynamic_update_slice",
        "matrix",
        lambda x, u, s, t: gc.dynamic_update_slice(x, u, (s, t)),
        (FIXED, Spec("u", (2, 3)), START, OTHER_START),
    ),
    Case(
        "dynamic_update_slice",
        "rows",
        lambda x, u, s: gc.dynamic_update_slice(x, u, (s, 0)),
        (X, Spec("u", (1, 4)), START),
    ),
    Case(
        "dynamic_update_slice",
        "ints",
        lambda x, u, s, t: gc.dynamic_update_slice(x, u, (s, t)),
        (INTS, Spec("u", (1, 2), "int32", 10, 20), START, OTHER_START),
    ),
)


# --- what NumPy says ------------------------------------------------------------------


def place(i: Any, n: int) -> int:
    """Return where an index reads: negative counts from the end, beyond clamps."""
    return min(max(int(i) + n if i < 0 else int(i), 0), n - 1)


def _along(a: Any, x: Array, i: Array) -> Array:
    found = np.zeros(i.shape, x.dtype)
    for at in np.ndindex(*i.shape):
        source = list(at)
        source[a.axis] = place(i[at], x.shape[a.axis])
        found[at] = x[tuple(source)]
    return found


def _add_along(a: Any, x: Array, i: Array, *, out: Array) -> Array:
    found = np.zeros_like(out)
    for at in np.ndindex(*i.shape):
        target = list(at)
        target[a.axis] = place(i[at], out.shape[a.axis])
        found[tuple(target)] += x[at]
    return found


def _each(a: Any, shape: Any, indices: tuple[Array, ...]) -> Any:
    """Yield for each place of the indices its own and the key of the array."""
    for at in np.ndindex(*indices[0].shape):
        key: list[Any] = [slice(None)] * len(shape)
        key[: a.batch] = at[: a.batch]
        for axis, i in zip(a.axes, indices, strict=True):
            key[axis] = place(i[at], shape[axis])
        yield at, tuple(key)


def _gather(a: Any, x: Array, *indices: Array, out: Array) -> Array:
    found = np.zeros_like(out)
    for at, key in _each(a, x.shape, indices):
        found[at] = x[key]
    return found


def _add_at(a: Any, u: Array, *indices: Array, out: Array) -> Array:
    found = np.zeros_like(out)
    for at, key in _each(a, out.shape, indices):
        found[key] += u[at]
    return found


def _set_at(a: Any, x: Array, u: Array, *indices: Array) -> Array:
    found = x.copy()
    for at, key in _each(a, x.shape, indices):
        found[key] = u[at]
    return found


def _window(shape: Any, sizes: Any, starts: tuple[Array, ...]) -> tuple[Any, ...]:
    wrapped = [
        int(s) + n if s < 0 else int(s) for s, n in zip(starts, shape, strict=True)
    ]
    return tuple(
        slice(at, at + k)
        for w, n, k in zip(wrapped, shape, sizes, strict=True)
        for at in [int(np.clip(w, 0, n - k))]
    )


def _update(a: Any, x: Array, u: Array, *starts: Array) -> Array:
    found = x.copy()
    found[_window(x.shape, u.shape, starts)] = u
    return found


ORACLES: dict[str, Oracle] = {
    "ensure": lambda a, x, ok: x,
    "take_along_axis": _along,
    "add_along_axis": _add_along,
    "place_along_axis": _add_along,
    "gather": _gather,
    "add_at": _add_at,
    "set_at": _set_at,
    "dynamic_slice": lambda a, x, *s, out: x[_window(x.shape, out.shape, s)],
    "dynamic_update_slice": _update,
}
