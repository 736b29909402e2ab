"""Scans along an axis: running sums, products and extrema, linear recurrences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.nodes import Node, Tensor, make, make1
from graphc.ir.op import Op, Pointwise, Routine, Site, Types, public, register
from graphc.ir.program.routines import LibraryRoutine, register_routine
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import TensorType, bool_, int32, int64
from graphc.ops.along import ADD_ALONG_AXIS, Sized
from graphc.ops.batching import batch_axis
from graphc.ops.broadcast import broadcast_arguments
from graphc.ops.creation import cast, constant
from graphc.ops.library import Options, along, as_lines, by_routine, count, lines

Lines = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Scan:
    """The axis that is scanned, and whether from its end."""

    axis: int
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Previous:
    """A scan's direction, and what comes before its first element: 0 or 1."""

    axis: int
    reverse: bool
    first: int


def _infer(types: Types, attrs: Scan | Previous) -> TensorType:
    if not 0 <= attrs.axis < types[0].ndim:
        raise ArgumentError(f"axis {attrs.axis} of {{0}}, which has {types[0].ndim}")
    return types[0]


def _options(types: Types, attrs: Scan) -> Options:
    return (*lines(types[0], attrs.axis), ("reverse", int(attrs.reverse)))


def _directed(x: Any, options: Lines) -> Any:
    """Return an array as lines that begin where the scan begins."""
    found = as_lines(x, options)
    return found[:, ::-1] if options["reverse"] else found


def _restored(x: Any, options: Lines) -> Any:
    return x[:, ::-1] if options["reverse"] else x


def _numeric(x: Any) -> Tensor:
    tensor = constant(x)
    return cast(tensor, int32) if tensor.dtype is bool_ else tensor


# --- the element before -------------------------------------------------------------


def _previous_lower(site: Site) -> Expr:
    a, size = site.attrs.axis, site.types[0].shape[site.attrs.axis]
    i, one = site.index[a], const(1, int64)
    if site.attrs.reverse:
        inside = i + one < size_of(size)
        at = apply("minimum", i + one, size_of(size) - one)
    else:
        inside = i >= one
        at = apply("maximum", i - one, const(0, int64))
    found = site.load(0, (*site.index[:a], at, *site.index[a + 1 :]))
    first = cast_expr(const(site.attrs.first, int64), site.result.dtype)
    return apply("select", inside, found, first)


def _previous_value(arrays: Any, meaning: Any) -> Any:
    (x,), a = arrays, meaning.attrs
    found = np.full_like(x, a.first)
    new, old = (np.moveaxis(v, a.axis, 0) for v in (found, x))
    if a.reverse:
        new[:-1] = old[1:]
    else:
        new[1:] = old[:-1]
    return found


def _previous_gradient(node: Node, cotangents: Any) -> Any:
    (g,), a = cotangents, node.attrs
    return [None if g is None else previous(g, a.axis, not a.reverse)]


PREVIOUS = register(
    Op(
        name="previous",
        attrs=Previous,
        infer=_infer,
        evaluate=_previous_value,
        gradient=_previous_gradient,
        lower=Pointwise(_previous_lower),
        doc="y[i] = x[i-1], y[0] = first (from the end: x[i+1]);  dx[i] = g[i+1]",
        batch=batch_axis,
    )
)


def previous(x: Tensor, axis: int, reverse: bool, first: int = 0) -> Tensor:
    """Return for each element the one that a scan meets before it."""
    return make1(PREVIOUS, (x,), Previous(axis, reverse, first))


# --- sums ---------------------------------------------------------------------------

register_routine(
    LibraryRoutine(
        "cumsum",
        lambda arrays, o: [
            _restored(np.cumsum(_directed(arrays[0], o), 1, dtype=arrays[0].dtype), o)
        ],
        count,
    )
)


def _cumsum_gradient(node: Node, cotangents: Any) -> Any:
    (g,), a = cotangents, node.attrs
    if g is None or not g.dtype.is_float:
        return [None]
    return [make1(CUMSUM, (g,), Scan(a.axis, not a.reverse))]


_SUMS = Routine("cumsum", _options)
CUMSUM = register(
    Op(
        name="cumsum",
        attrs=Scan,
        infer=_infer,
        evaluate=by_routine(_SUMS, _infer),
        gradient=_cumsum_gradient,
        lower=_SUMS,
        doc="y[i] = sum of x[j], j <= i (from the end: j >= i);  "
        "dx = the running sum of g from the other side",
        batch=batch_axis,
    )
)


@public
def cumsum(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Return the running sum along an axis (None: of x flattened).

    reverse: from the end of the axis. Bools are counted in int32.

    Shapes:  x [N, D], axis=1 -> [N, D]
    Math:    y[i] = x[0] + ... + x[i];  dx[i] = g[i] + ... + g[n-1]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.cumsum(graphc.constant([1.0, 2.0, 3.0]))).tolist()
        [1.0, 3.0, 6.0]
    """
    tensor, at = along("cumsum", _numeric(x), axis)
    return make1(CUMSUM, (tensor,), Scan(at, bool(reverse)))


# --- linear recurrences -------------------------------------------------------------


def _recurrence_value(arrays: Any, options: Lines) -> list[Any]:
    a, b = (_directed(x, options) for x in arrays)
    found = np.array(b)
    for i in range(1, found.shape[1]):
        found[:, i] += a[:, i] * found[:, i - 1]
    return [_restored(found, options)]


register_routine(
    LibraryRoutine("linear_recurrence", _recurrence_value, lambda o: 2 * count(o))
)


def _recurrence_infer(types: Types, attrs: Scan) -> TensorType:
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"{{0}} is {a.dtype}, {{1}} is {b.dtype}", help="cast one")
    if a.shape != b.shape:
        raise ShapeError(f"{{0}} {a} and {{1}} {b} must have one shape")
    return _infer(types, attrs)


def _recurrence_gradient(node: Node, cotangents: Any) -> Any:
    """The adjoint is the same recurrence from the other side."""
    (g,), (a, _) = cotangents, node.inputs
    if g is None or not g.dtype.is_float:
        return [None, None]
    axis, reverse = node.attrs.axis, node.attrs.reverse
    next_a = previous(a, axis, not reverse)
    adjoint = make1(LINEAR_RECURRENCE, (next_a, g), Scan(axis, not reverse))
    return [adjoint * previous(node.results[0], axis, reverse), adjoint]


_RECURRENCE = Routine("linear_recurrence", _options)
LINEAR_RECURRENCE = register(
    Op(
        name="linear_recurrence",
        attrs=Scan,
        infer=_recurrence_infer,
        evaluate=by_routine(_RECURRENCE, _recurrence_infer),
        gradient=_recurrence_gradient,
        lower=_RECURRENCE,
        doc="y[i] = a[i] y[i-1] + b[i];  db[i] = g[i] + a[i+1] db[i+1], "
        "da[i] = db[i] y[i-1]",
        batch=batch_axis,
    )
)


@public
def linear_recurrence(a: Any, b: Any, axis: int = -1, reverse: bool = False) -> Tensor:
    """Run a first-order linear recurrence along an axis, from 0.

    A discounted return is `linear_recurrence(gamma, rewards, reverse=True)`.

    Shapes:  a [N, T], b [N, T] -> [N, T]; they broadcast
    Math:    y[i] = a[i] y[i-1] + b[i], y[-1] = 0
    Raises:  ArgumentError for an axis out of range, ShapeError if a and b do not
             broadcast.
    Example:
        >>> import graphc
        >>> y = graphc.linear_recurrence(0.5, graphc.constant([1.0, 1.0, 1.0]))
        >>> graphc.evaluate(y).tolist()
        [1.0, 1.5, 1.75]
    """
    factor, term = broadcast_arguments("linear_recurrence", (a, b))
    term, at = along("linear_recurrence", term, axis)
    return make1(LINEAR_RECURRENCE, (factor, term), Scan(at, bool(reverse)))


# --- products -----------------------------------------------------------------------

register_routine(
    LibraryRoutine(
        "cumprod",
        lambda arrays, o: [
            _restored(np.cumprod(_directed(arrays[0], o), 1, dtype=arrays[0].dtype), o)
        ],
        count,
    )
)


def _cumprod_gradient(node: Node, cotangents: Any) -> Any:
    """Multiply what comes before by a recurrence over what follows: no division."""
    (g,), (x,) = cotangents, node.inputs
    if g is None or not g.dtype.is_float:
        return [None]
    axis, reverse = node.attrs.axis, node.attrs.reverse
    next_x = previous(x, axis, not reverse)
    after = make1(LINEAR_RECURRENCE, (next_x, g), Scan(axis, not reverse))
    return [previous(node.results[0], axis, reverse, 1) * after]


_PRODUCTS = Routine("cumprod", _options)
CUMPROD = register(
    Op(
        name="cumprod",
        attrs=Scan,
        infer=_infer,
        evaluate=by_routine(_PRODUCTS, _infer),
        gradient=_cumprod_gradient,
        lower=_PRODUCTS,
        doc="y[i] = product of x[j], j <= i;  "
        "dx[k] = y[k-1] s[k], s[k] = g[k] + x[k+1] s[k+1]",
        batch=batch_axis,
    )
)


@public
def cumprod(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Return the running product along an axis (None: of x flattened).

    reverse: from the end of the axis. The gradient is right where elements are 0.

    Shapes:  x [N, D], axis=1 -> [N, D]
    Math:    y[i] = x[0] ... x[i]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.cumprod(graphc.constant([1.0, 2.0, 3.0]))).tolist()
        [1.0, 2.0, 6.0]
    """
    tensor, at = along("cumprod", _numeric(x), axis)
    return make1(CUMPROD, (tensor,), Scan(at, bool(reverse)))


# --- extrema ------------------------------------------------------------------------


def _extrema_value(arrays: Any, options: Lines) -> list[Any]:
    x = _directed(arrays[0], options)
    reduce, better = (
        (np.minimum, np.less) if options["least"] else (np.maximum, np.greater)
    )
    values = reduce.accumulate(x, 1)
    before = values[:, :-1]
    wins = better(x[:, 1:], before) | (np.isnan(x[:, 1:]) & ~np.isnan(before))
    steps = np.arange(1, max(x.shape[1], 1))[None, :, None]
    found = np.zeros(x.shape, np.int32)
    found[:, 1:] = np.maximum.accumulate(np.where(wins, steps, 0), 1)
    if options["reverse"]:
        found = x.shape[1] - 1 - found
    return [_restored(values, options), _restored(found, options)]


register_routine(LibraryRoutine("cumextremum", _extrema_value, count))


def _extrema_infer(types: Types, attrs: Scan) -> Types:
    return (_infer(types, attrs), types[0].with_dtype(int32))


def _extrema_gradient(node: Node, cotangents: Any) -> Any:
    g, (x,), axis = cotangents[0], node.inputs, node.attrs.axis
    if g is None or not g.dtype.is_float:
        return [None]
    return [make1(ADD_ALONG_AXIS, (g, node.results[1]), Sized(axis, x.shape[axis]))]


def _extremum(name: str, least: bool) -> Op:
    what = "smallest" if least else "largest"
    how = Routine(
        "cumextremum", lambda types, a: (*_options(types, a), ("least", int(least)))
    )
    return register(
        Op(
            name=name,
            attrs=Scan,
            infer=_extrema_infer,
            evaluate=by_routine(how, _extrema_infer),
            gradient=_extrema_gradient,
            lower=how,
            doc=f"y[i] = {what} x[j], j <= i, NaN from the first NaN on; and its j;  "
            "dx = g summed into the places that were taken",
            batch=batch_axis,
        )
    )


CUMMAX = _extremum("cummax", False)
CUMMIN = _extremum("cummin", True)


@public
def cummax(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Return the largest element so far along an axis (None: of x flattened).

    reverse: from the end of the axis. From a NaN on all is NaN. Of equal elements the
    first counts, and gets the gradient.

    Shapes:  x [N, D], axis=1 -> [N, D]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.cummax(graphc.constant([1.0, 3.0, 2.0]))).tolist()
        [1.0, 3.0, 3.0]
    """
    tensor, at = along("cummax", _numeric(x), axis)
    return make(CUMMAX, (tensor,), Scan(at, bool(reverse)))[0]


@public
def cummin(x: Any, axis: int | None = None, reverse: bool = False) -> Tensor:
    """Return the smallest element so far along an axis (None: of x flattened).

    reverse: from the end of the axis. From a NaN on all is NaN. Of equal elements the
    first counts, and gets the gradient.

    Shapes:  x [N, D], axis=1 -> [N, D]
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.cummin(graphc.constant([2.0, 1.0, 3.0]))).tolist()
        [2.0, 1.0, 1.0]
    """
    tensor, at = along("cummin", _numeric(x), axis)
    return make(CUMMIN, (tensor,), Scan(at, bool(reverse)))[0]
