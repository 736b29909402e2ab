"""Order along an axis: sort, argsort, top_k, searchsorted.

All use one order of the elements, NumPy's: -0.0 equals 0.0, and NaN is above all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Dim, Size, product, prove_le
from graphc.ir.nodes import Node, Tensor, explain, make, make1
from graphc.ir.op import (
    NonDifferentiable,
    Op,
    Routine,
    Types,
    public,
    register,
)
from graphc.ir.program.routines import LibraryRoutine, register_routine
from graphc.ir.types import TensorType, as_size, int32
from graphc.ops.along import ADD_ALONG_AXIS, Sized
from graphc.ops.batching import batch_axis, batch_leading
from graphc.ops.broadcast import as_tensors
from graphc.ops.creation import constant
from graphc.ops.library import Options, along, as_lines, by_routine, count, lines

Lines = Mapping[str, Any]
DEPTH = 16  # comparisons of an element, for a line of 65,536


@dataclass(frozen=True, slots=True)
class Sorting:
    """The axis that is sorted, and whether from the largest on."""

    axis: int
    descending: bool = False


@dataclass(frozen=True, slots=True)
class TopK:
    """The axis, and how many of its largest elements are wanted."""

    axis: int
    k: Size


@dataclass(frozen=True, slots=True)
class Side:
    """Whether an equal element stands before the place that is found."""

    right: bool = False


def _ranked(x: Any, descending: bool) -> Any:
    """Return a stable order of lines, as indices."""
    if not descending:
        return np.argsort(x, 1, kind="stable")
    # The last of equal elements would come first: turn lines round, twice.
    back = np.argsort(x[:, ::-1], 1, kind="stable")[:, ::-1]
    return x.shape[1] - 1 - back


# --- sort ---------------------------------------------------------------------------


def _sort_value(arrays: Any, options: Lines) -> list[Any]:
    x = as_lines(arrays[0], options)
    found = _ranked(x, options["descending"])
    return [np.take_along_axis(x, found, 1), found]


register_routine(LibraryRoutine("sort", _sort_value, lambda o: DEPTH * count(o)))


def _in_range(types: Types, axis: int) -> None:
    if not 0 <= axis < types[0].ndim:
        raise ArgumentError(f"axis {axis} of {{0}}, which has {types[0].ndim} axes")


def _sort_infer(types: Types, attrs: Sorting) -> Types:
    _in_range(types, attrs.axis)
    return (types[0], types[0].with_dtype(int32))


def _moved_gradient(node: Node, cotangents: Any) -> Any:
    """Add the cotangent of each value to the place that it came from."""
    g, (x,), axis = cotangents[0], node.inputs, node.attrs.axis
    if g is None or not g.dtype.is_float:
        return [None]
    return [make1(ADD_ALONG_AXIS, (g, node.results[1]), Sized(axis, x.shape[axis]))]


_SORT = Routine(
    "sort",
    lambda types, a: (*lines(types[0], a.axis), ("descending", int(a.descending))),
)
SORT = register(
    Op(
        name="sort",
        attrs=Sorting,
        infer=_sort_infer,
        evaluate=by_routine(_SORT, _sort_infer),
        gradient=_moved_gradient,
        lower=_SORT,
        doc="y = x in order along the axis, NaN above all, and the index that each "
        "element had;  dx[indices[i]] = g[i]",
        batch=batch_axis,
    )
)


def _sorted(what: str, x: Any, axis: int | None, descending: bool) -> Any:
    tensor, at = along(what, constant(x), axis)
    return make(SORT, (tensor,), Sorting(at, bool(descending)))


@public
def sort(x: Any, axis: int | None = -1, descending: bool = False) -> Tensor:
    """Sort along an axis (None: x flattened); equal elements keep their order.

    NaN is above all, as in NumPy: it comes last, or first if descending.

    Shapes:  x [N, D], axis=1 -> [N, D]
    Math:    y[i] = x[argsort(x)[i]];  dx[argsort(x)[i]] = g[i]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.sort(graphc.constant([3.0, 1.0, 2.0]))).tolist()
        [1.0, 2.0, 3.0]
    """
    return _sorted("sort", x, axis, descending)[0]  # type: ignore[no-any-return]


@public
def argsort(x: Any, axis: int | None = -1, descending: bool = False) -> Tensor:
    """Return the indices that sort an axis (None: of x flattened), as int32.

    Equal elements keep their order; NaN is above all.

    Shapes:  x [N, D], axis=1 -> i32[N, D]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.argsort(graphc.constant([3.0, 1.0, 2.0]))).tolist()
        [1, 2, 0]
    """
    return _sorted("argsort", x, axis, descending)[1]  # type: ignore[no-any-return]


# --- top k --------------------------------------------------------------------------


def _top_value(arrays: Any, options: Lines) -> list[Any]:
    x = as_lines(arrays[0], options)
    found = _ranked(x, True)[:, : options["k"]]
    return [np.take_along_axis(x, found, 1), found]


register_routine(LibraryRoutine("top_k", _top_value, lambda o: 2 * count(o)))


def _top_infer(types: Types, attrs: TopK) -> Types:
    _in_range(types, attrs.axis)
    (x,), a = types, attrs.axis
    if prove_le(attrs.k, x.shape[a]) is False:
        raise ArgumentError(
            f"k={attrs.k} elements of axis {a} of {{0}}, which has {x.shape[a]}",
            help=f"use a k of at most {x.shape[a]}",
        )
    values = x.with_shape((*x.shape[:a], attrs.k, *x.shape[a + 1 :]))
    return (values, values.with_dtype(int32))


_TOP_K = Routine("top_k", lambda types, a: (*lines(types[0], a.axis), ("k", a.k)))
TOP_K = register(
    Op(
        name="top_k",
        attrs=TopK,
        infer=_top_infer,
        evaluate=by_routine(_TOP_K, _top_infer),
        gradient=_moved_gradient,
        lower=_TOP_K,
        doc="y = the k largest x along the axis, from the largest on, and their "
        "indices;  dx[indices[i]] = g[i]",
        guards=lambda types, a: [(types[0].shape[a.axis], a.k)],
        batch=batch_axis,
    )
)


@public
def top_k(x: Any, k: int | str | Dim, axis: int = -1) -> tuple[Tensor, Tensor]:
    """Return the k largest elements along an axis, in descending order, and where.

    Of equal elements the first comes first; NaN is above all.

    Shapes:  x [N, D], k=3, axis=1 -> [N, 3], i32[N, 3]
    Math:    dx[i[j]] = g[j], 0 elsewhere
    Raises:  ArgumentError if k is more than the axis has, or the axis is out of range.
    Example:
        >>> import graphc
        >>> values, indices = graphc.top_k(graphc.constant([3.0, 1.0, 2.0]), 2)
        >>> graphc.evaluate(values).tolist(), graphc.evaluate(indices).tolist()
        ([3.0, 2.0], [0, 2])
    """
    tensor, at = along("top_k", constant(x), axis)
    try:
        attrs = TopK(at, as_size(k))
    except ArgumentError as error:
        raise explain(error, "top_k", [tensor]) from None
    values, indices = make(TOP_K, (tensor,), attrs)
    return values, indices


# --- searching in what is sorted ----------------------------------------------------


def _search_value(arrays: Any, options: Lines) -> list[Any]:
    side: Any = "right" if options["right"] else "left"
    table = arrays[0].reshape(options["outer"], options["length"])
    wanted = arrays[1].reshape(options["outer"], options["queries"])
    found = np.empty(wanted.shape, np.int32)
    for row, a, v in zip(found, table, wanted, strict=True):
        row[:] = np.searchsorted(a, v, side)
    return [found]


register_routine(
    LibraryRoutine(
        "searchsorted",
        _search_value,
        lambda o: DEPTH * product((o["outer"], o["queries"])),
    )
)


def _search_infer(types: Types, attrs: Side) -> TensorType:
    a, v = types
    if a.dtype is not v.dtype:
        raise DTypeError(f"{{0}} is {a.dtype}, {{1}} is {v.dtype}", help="cast one")
    if a.ndim == 0:
        raise ShapeError("{0} is a scalar", help="give it a sorted axis")
    if a.shape[:-1] != v.shape[: a.ndim - 1]:
        raise ShapeError(
            f"{{0}} {a} and {{1}} {v} differ in the axes before the sorted one",
            help="use a sorted vector, or give both the same leading axes",
        )
    return v.with_dtype(int32)


def _search_options(types: Types, attrs: Side) -> Options:
    a, v = types
    outer = a.shape[:-1]
    return (
        ("outer", product(outer)),
        ("length", a.shape[-1]),
        ("queries", product(v.shape[len(outer) :])),
        ("right", int(attrs.right)),
    )


_SEARCH = Routine("searchsorted", _search_options)
SEARCHSORTED = register(
    Op(
        name="searchsorted",
        attrs=Side,
        infer=_search_infer,
        evaluate=by_routine(_SEARCH, _search_infer),
        gradient=NonDifferentiable("it is an index"),
        lower=_SEARCH,
        doc="y = how many elements of the sorted a are below v (right: not above v)",
        batch=batch_leading,
    )
)


@public
def searchsorted(a: Any, v: Any, side: str = "left") -> Tensor:
    """Find where elements keep the order of a sorted axis, as int32.

    side: "left" finds the first such place, "right" the last.

    Shapes:  a [D], v [...] -> i32[...]; a [N, D], v [N, K] -> i32[N, K]
    Math:    a[y-1] < v <= a[y], or with "right" a[y-1] <= v < a[y]
    Raises:  ArgumentError for another side, ShapeError if the axes of a before its
             last are not those of v.
    Example:
        >>> import graphc
        >>> places = graphc.searchsorted(graphc.constant([1.0, 2.0, 3.0]), [2.0, 5.0])
        >>> graphc.evaluate(places).tolist()
        [1, 3]
    """
    table, wanted = as_tensors((a, v))
    if side not in ("left", "right"):
        raise explain(
            ArgumentError(f"unknown side {side!r}", help='use "left" or "right"'),
            "searchsorted",
            [table, wanted],
        )
    return make1(SEARCHSORTED, (table, wanted), Side(side == "right"))
