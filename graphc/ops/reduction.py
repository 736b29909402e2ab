"""Reductions by a monoid: sum, prod, max, min, any, all, argmax, argmin."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import Size, product
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    FUNCTIONS,
    Decomposed,
    GradientRule,
    NonDifferentiable,
    Op,
    Reduction,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import DType, Shape, TensorType, bool_, int32
from graphc.ops.batching import batch_axis
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, constant, iota
from graphc.ops.elementwise import Selected

ARGS = ("argmax", "argmin")


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes that are reduced, ascending, and whether they stay with size 1."""

    axis: tuple[int, ...]
    keepdims: bool = False


def normal_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes as an ascending tuple of non-negative ints; None means all.

    Raises:  ArgumentError for an axis out of range or given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for a in given:
        if not isinstance(a, (int, np.integer)) or not -ndim <= a < ndim:
            raise ArgumentError(
                f"axis {a} is out of range for {{0}}, which has {ndim} axes",
                help=f"use -{ndim} to {ndim - 1}" if ndim else "a scalar has no axes",
            )
        found.append(int(a) % ndim)
    if len(set(found)) != len(found):
        raise ArgumentError(f"an axis is given twice: {list(given)}")
    return tuple(sorted(found))


def check_axes(axis: tuple[int, ...], ndim: int) -> None:
    """Check that axes are as ops hold them: ascending, in range, each once.

    Raises:  ArgumentError for others.
    """
    if axis != normal_axes(axis, ndim):
        raise ArgumentError(f"axes {list(axis)} must be ascending and not negative")


def reduced(shape: Shape, attrs: Axes) -> Shape:
    """Return the shape after a reduction."""
    check_axes(attrs.axis, len(shape))
    if attrs.keepdims:
        return tuple(1 if i in attrs.axis else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in attrs.axis)


def keep(x: Tensor, like: Shape, axis: tuple[int, ...]) -> Tensor:
    """Repeat a reduced tensor back to the shape it was reduced from."""
    ones = tuple(1 if i in axis else s for i, s in enumerate(like))
    if x.shape != ones:
        x = FUNCTIONS["reshape"](x, ones)
    return broadcast_to(x, like)


def _site_index(site: Site, inner: tuple[Expr, ...]) -> list[Expr]:
    """Put the reduced indices back among those of the result."""
    axis = site.attrs.axis
    ndim = site.types[0].ndim
    outer = iter(
        [e for i, e in enumerate(site.index) if not (site.attrs.keepdims and i in axis)]
    )
    along = iter(inner)
    return [next(along) if i in axis else next(outer) for i in range(ndim)]


def _monoid_op(
    name: str,
    monoid: str,
    numpy: Callable[..., Any],
    gradient: GradientRule | NonDifferentiable,
    doc: str,
    result: Callable[[DType], DType] = lambda d: d,
    nonempty: bool = False,
    moves: bool = False,
) -> Op:
    def infer(types: Types, attrs: Axes) -> TensorType:
        (x,) = types
        return TensorType(result(x.dtype), reduced(x.shape, attrs))

    def rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
        found = site.load(0, _site_index(site, inner))
        return found if name in ARGS else cast_expr(found, site.result.dtype)

    def extents(types: Types, attrs: Axes) -> tuple[Size, ...]:
        return tuple(types[0].shape[a] for a in attrs.axis)

    def guards(types: Types, attrs: Axes) -> list[tuple[Size, Size]]:
        return [(size, 1) for size in extents(types, attrs)] if nonempty else []

    return register(
        Op(
            name=name,
            attrs=Axes,
            infer=infer,
            evaluate=lambda arrays, m: np.asarray(numpy(arrays[0], m.attrs)).astype(
                result(m.types[0].dtype).numpy
            ),
            gradient=gradient,
            lower=Reduction(monoid, extents, rule),
            doc=doc,
            guards=guards,
            moves=moves,
            batch=batch_axis,
        )
    )


def _sum_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None or not node.inputs[0].dtype.is_float:
        return [None]
    return [keep(g, node.inputs[0].shape, node.attrs.axis)]


def _extremum_gradient(node: Node, cotangents: Any) -> Any:
    """Share the cotangent among equal extrema (as JAX does)."""
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None or not x.dtype.is_float:
        return [None]
    hit = x == keep(node.results[0], x.shape, attrs.axis)
    ties = sum(cast(hit, x.dtype), attrs.axis, keepdims=attrs.keepdims)
    return [Selected(hit, keep(g / ties, x.shape, attrs.axis))]


def _counted(dtype: DType) -> DType:
    return int32 if dtype is bool_ else dtype


def _prod_gradient(node: Node, cotangents: Any) -> Any:
    """Multiply the others: no division, so zeros are right, to any order.

    Row i of a square holds x with a one in place i. It costs the square of what is
    reduced, and is never stored: the reduction reads it element by element.
    """
    (g,) = cotangents
    (x,), axis = node.inputs, node.attrs.axis
    if g is None or not x.dtype.is_float:
        return [None]
    order = (*(i for i in range(x.ndim) if i not in axis), *axis)
    moved = FUNCTIONS["transpose"](x, order)
    outer, inner = moved.shape[: x.ndim - len(axis)], moved.shape[x.ndim - len(axis) :]
    n = product(inner)
    rows = FUNCTIONS["reshape"](moved, (*outer, 1, n))
    here = iota((n, n), 0) == iota((n, n), 1)
    square = FUNCTIONS["where"](here, 1.0, broadcast_to(rows, (*outer, n, n)))
    others = FUNCTIONS["reshape"](prod(square, -1), (*outer, *inner))
    back = tuple(np.argsort(order).tolist())
    return [keep(g, x.shape, axis) * FUNCTIONS["transpose"](others, back)]


def _np_arg(search: Callable[..., Any], x: Any, attrs: Axes) -> Any:
    ndim = x.ndim
    keep_first = [i for i in range(ndim) if i not in attrs.axis]
    moved = np.transpose(x, [*keep_first, *attrs.axis])
    outer = moved.shape[: len(keep_first)]
    flat = moved.reshape(*outer, math.prod(moved.shape[len(outer) :]))
    found = search(flat, axis=-1)
    return found.reshape(reduced(x.shape, attrs))


SUM = _monoid_op(
    "sum",
    "sum",
    lambda x, a: np.sum(x, axis=a.axis, keepdims=a.keepdims, dtype=_sum_dtype(x.dtype)),
    _sum_gradient,
    "y = sum of x over the axes (bools are counted in int32);  dx = g, repeated",
    result=_counted,
    moves=True,
)
MAX = _monoid_op(
    "max",
    "max",
    lambda x, a: np.max(x, axis=a.axis, keepdims=a.keepdims),
    _extremum_gradient,
    "y = largest x over the axes, NaN if any is;  dx = g at the maxima, shared",
    nonempty=True,
)
MIN = _monoid_op(
    "min",
    "min",
    lambda x, a: np.min(x, axis=a.axis, keepdims=a.keepdims),
    _extremum_gradient,
    "y = smallest x over the axes, NaN if any is;  dx = g at the minima, shared",
    nonempty=True,
)
ARGMAX = _monoid_op(
    "argmax",
    "argmax",
    partial(_np_arg, np.argmax),
    NonDifferentiable("it is an index"),
    "y = index of the first largest x; a NaN counts as largest",
    result=lambda _: int32,
    nonempty=True,
)
ARGMIN = _monoid_op(
    "argmin",
    "argmin",
    partial(_np_arg, np.argmin),
    NonDifferentiable("it is an index"),
    "y = index of the first smallest x; a NaN counts as smallest",
    result=lambda _: int32,
    nonempty=True,
)
PROD = _monoid_op(
    "prod",
    "prod",
    lambda x, a: np.prod(
        x, axis=a.axis, keepdims=a.keepdims, dtype=_sum_dtype(x.dtype)
    ),
    _prod_gradient,
    "y = product of x over the axes;  dx = g times the product of the others",
    result=_counted,
)
ANY = _monoid_op(
    "any",
    "any",
    lambda x, a: np.any(x, axis=a.axis, keepdims=a.keepdims),
    NonDifferentiable("it is a bool"),
    "y = whether any x over the axes is true, not 0; False of none",
    result=lambda _: bool_,
)
ALL = _monoid_op(
    "all",
    "all",
    lambda x, a: np.all(x, axis=a.axis, keepdims=a.keepdims),
    NonDifferentiable("it is a bool"),
    "y = whether all x over the axes are true, not 0; True of none",
    result=lambda _: bool_,
)


def _sum_dtype(dtype: Any) -> Any:
    return np.int32 if dtype.kind == "b" else dtype


def _numeric(what: str, x: Any) -> Tensor:
    tensor = constant(x)
    if what != "sum" and tensor.dtype is bool_:
        tensor = cast(tensor, int32)
    return tensor


def reduce_over(op: Op, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """Apply an op whose attributes are `Axes`; over no axis nothing is left to do."""
    try:
        attrs = Axes(normal_axes(axis, x.ndim), bool(keepdims))
    except ArgumentError as error:
        raise explain(error, op.name, [x]) from None
    if not attrs.axis and op.name not in ARGS and not isinstance(op.lower, Decomposed):
        return cast(x, op.infer((x.type,), attrs).dtype)  # type: ignore[union-attr]
    return make1(op, (x,), attrs)


@public
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over axes; bools are counted in int32.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims
    Math:    dx = g, repeated along the axes.
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> float(graphc.evaluate(graphc.sum(graphc.constant([1.0, 2.0]))))
        3.0
    """
    return reduce_over(SUM, _numeric("sum", x), axis, keepdims)


@public
def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes; NaN if any is NaN. Ties share the gradient.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims. An axis of size 0 is
             refused when sizes are bound.
    """
    return reduce_over(MAX, _numeric("max", x), axis, keepdims)


@public
def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes; NaN if any is NaN. Ties share the gradient."""
    return reduce_over(MIN, _numeric("min", x), axis, keepdims)


@public
def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Index (int32) of the first largest element over axes; NaN counts as largest.

    Shapes:  x [N, D], axis=1 -> i32[N]; over several axes, the row-major index
    """
    return reduce_over(ARGMAX, _numeric("max", x), axis, keepdims)


@public
def argmin(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Index (int32) of the first smallest element over axes; NaN counts as smallest.

    Shapes:  x [N, D], axis=1 -> i32[N]; over several axes, the row-major index
    """
    return reduce_over(ARGMIN, _numeric("min", x), axis, keepdims)


@public
def prod(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Product over axes; 1 of none. Bools count as int32.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims
    Math:    dx_i = g times the product of the others, right where elements are 0;
             it takes time with the square of the number of factors.
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> slope = graphc.grad(graphc.prod(x), x)
        >>> graphc.evaluate(slope, {x: [2.0, 0.0, 4.0]}).tolist()
        [0.0, 8.0, 0.0]
    """
    return reduce_over(PROD, _numeric("prod", x), axis, keepdims)


@public
def any(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether any element over axes is true, or not 0; False of none.

    Shapes:  x [N, D], axis=1 -> bool[N]; bool[N, 1] with keepdims
    """
    return reduce_over(ANY, cast(x, bool_), axis, keepdims)


@public
def all(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over axes are true, or not 0; True of none.

    Shapes:  x [N, D], axis=1 -> bool[N]; bool[N, 1] with keepdims
    """
    return reduce_over(ALL, cast(x, bool_), axis, keepdims)
