"""Reading and writing by index. (Beyond the end graphc clamps and PyTorch raises.)"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

import graphc as gc
from torch_table.case import FEW, Array, Pair, Spec, X, whole

SIZES = (2, 3, 7, 16, 17, 100, 257)
INDICES = whole("i", ("K",), 0, 1000)
EACH = whole("i", ("K", "M"), 0, 1000)
ROWS, COLUMNS = whole("r", ("K",), 0, 1000), whole("c", ("K",), 0, 1000)
CUBE = Spec("x", ("N", 3, "M"))


def _wrapped(axis: int) -> Any:
    """Make the second input an index of an axis of the first; half are negative."""

    def prepare(x: Array, i: Array, *others: Array) -> list[Array]:
        n = x.shape[axis]
        return [x, (i % n) - n * (i % 2), *others]

    return prepare


def _within(axis: int) -> Any:
    """Make the second input an index of an axis of the first, from 0 on."""
    return lambda x, i, *others: [x, i % x.shape[axis], *others]


def _points(x: Array, r: Array, c: Array, *others: Array) -> list[Array]:
    return [x, r % x.shape[0], c % x.shape[-1] - x.shape[-1], *others]


def _once(x: Array, i: Array, *others: Array) -> list[Array]:
    """Give every row one index: PyTorch does not say which of several writes stays."""
    order = np.random.default_rng(0).permutation(len(x))
    return [x, np.resize(order, i.shape), *others]


def _keyed() -> list[Pair]:
    key: dict[str, Any] = {
        "step": lambda x: x[::2, 1:-1],
        "row": lambda x: x[0],
        "new_axis": lambda x: x[None, ..., -1],
    }
    found = [Pair("getitem", name, f, f, (Spec("x", ("N", 3, 4)),))
             for name, f in key.items()]  # fmt: skip
    reverse = Pair("getitem", "reverse", lambda x: x[::-1, 1],
                   lambda x: x.flip(0)[:, 1], (Spec("x", ("N", 3)),))  # fmt: skip
    arrays: dict[str, Any] = {
        "points": lambda x, r, c: x[r, 1, c],
        "apart": lambda x, r, c: x[r, :, c],
        "rows": lambda x, r, c: x[r],
        "grid": lambda x, r, c: x[r[:, None], 0, c],
    }
    found += [Pair("getitem", name, f, f, (CUBE, ROWS, COLUMNS), FEW, prepare=_points)
              for name, f in arrays.items()]  # fmt: skip
    return [*found, reverse]


def _along() -> list[Pair]:
    return [
        Pair("take", "rows", lambda x, i: gc.take(x, i, 0),
             lambda x, i: F.embedding(i, x), (X, EACH), SIZES, prepare=_within(0)),
        Pair("take", "columns", lambda x, i: gc.take(x, i, 1),
             lambda x, i: torch.index_select(x, 1, i % x.shape[1]), (X, INDICES),
             SIZES, prepare=_wrapped(1)),
        Pair("take", "flat", gc.take, lambda x, i: torch.take(x, i), (X, INDICES),
             SIZES, prepare=_wrapped(0)),
        Pair("take_along_axis", "rows", lambda x, i: gc.take_along_axis(x, i, 0),
             lambda x, i: torch.take_along_dim(x, i, 0), (X, EACH), SIZES,
             prepare=_within(0)),
        Pair("take_along_axis", "gather", lambda x, i: gc.take_along_axis(x, i, 0),
             lambda x, i: torch.gather(x, 0, i), (X, EACH), SIZES, prepare=_within(0)),
        Pair("scatter_add", "rows", gc.scatter_add,
             lambda x, i, u: torch.index_add(x, 0, i, u),
             (X, INDICES, Spec("u", ("K", "M"))), SIZES, prepare=_within(0)),
        Pair("put_along_axis", "rows",
             lambda x, i, u: gc.put_along_axis(x, i, u, 0),
             lambda x, i, u: torch.scatter(x, 0, i, u),
             (X, whole("i", ("N", "M"), 0, 9), Spec("u", ("N", "M"))), SIZES,
             prepare=lambda x, i, u: [x, np.argsort(x, 0), u]),
        Pair("index_add", "points", lambda x, r, c, u: gc.index_add(x, (r, c), u),
             lambda x, r, c, u: torch.index_put(x, (r, c), u, accumulate=True),
             (X, ROWS, COLUMNS, Spec("u", ("K",))), SIZES, prepare=_points),
        Pair("index_update", "rows", gc.index_update,
             lambda x, i, u: torch.index_put(x, (i,), u),
             (X, whole("i", ("N",), 0, 9), Spec("u", ("N", "M"))), SIZES,
             prepare=_once),
    ]  # fmt: skip


def _windows() -> list[Pair]:
    start = whole("s", (), 0, 99)

    def within(x: Array, s: Array, *u: Array) -> list[Array]:
        return [x, s % (len(x) - 1), *u]

    return [
        Pair("dynamic_slice", "rows",
             lambda x, s: gc.dynamic_slice(x, (s, 0), (2, x.shape[1])),
             lambda x, s: torch.narrow(x, 0, s, 2), (X, start), SIZES, prepare=within),
        Pair("dynamic_update_slice", "rows",
             lambda x, s, u: gc.dynamic_update_slice(x, u, (s, 0)),
             lambda x, s, u: torch.slice_scatter(x, u, 0, int(s), int(s) + 2),
             (X, start, Spec("u", (2, "M"))), SIZES, prepare=within),
    ]  # fmt: skip


PAIRS = (*_keyed(), *_along(), *_windows())
PEERLESS: dict[str, str] = {}
