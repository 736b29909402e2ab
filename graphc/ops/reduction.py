"""Reductions by a monoid: sum, max, min, argmax."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import Size
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
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, constant
from graphc.ops.elementwise import Selected


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
        return found if name == "argmax" else cast_expr(found, site.result.dtype)

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


def _np_argmax(x: Any, attrs: Axes) -> Any:
    ndim = x.ndim
    keep_first = [i for i in range(ndim) if i not in attrs.axis]
    moved = np.transpose(x, [*keep_first, *attrs.axis])
    outer = moved.shape[: len(keep_first)]
    flat = moved.reshape(*outer, math.prod(moved.shape[len(outer) :]))
    found = np.argmax(flat, axis=-1)
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
    _np_argmax,
    NonDifferentiable("it is an index"),
    "y = index of the first largest x; a NaN counts as largest",
    result=lambda _: int32,
    nonempty=True,
)


def _sum_dtype(dtype: Any) -> Any:
    return np.int32 if dtype.kind == "b" else dtype


def _numeric(what: str, x: Any) -> Tensor:
    tensor = constant(x)
    if what in ("max", "min") and tensor.dtype is bool_:
        tensor = cast(tensor, int32)
    return tensor


def reduce_over(op: Op, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    """Apply an op whose attributes are `Axes`; over no axis nothing is left to do."""
    try:
        attrs = Axes(normal_axes(axis, x.ndim), bool(keepdims))
    except ArgumentError as error:
        raise explain(error, op.name, [x]) from None
    if not attrs.axis and op.name != "argmax" and not isinstance(op.lower, Decomposed):
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
