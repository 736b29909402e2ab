"""Resizing images: nearest and linear interpolation along the spatial axes.

Place i of m along an axis of n elements lies at a fraction p / q of whole numbers, so
that no rounding decides which elements it is between:

    nearest                   p / q = i n / m
    linear                    ((2 i + 1) n - m) / (2 m), at least 0
    linear, align_corners     i (n - 1) / (m - 1)

`resize` and `resize_gradient` are linear, and each the gradient of the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import FUNCTIONS, Decomposed, Meaning, Op, Types, public, register
from graphc.ir.types import Shape, TensorType, as_size, float32, int64
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, concrete, constant, dim, iota
from graphc.ops.indexing import SCATTER_ADD, TAKE, Along, Scatter
from graphc.ops.shape import reshape, transpose
from graphc.ops.windows import channels_last


@dataclass(frozen=True, slots=True)
class Resize:
    """The spatial sizes of the result; source: those of x, for the gradient."""

    size: Shape
    source: Shape
    method: str
    align_corners: bool


METHODS = ("nearest", "linear")
NAMES = {"bilinear": (2, "linear"), "trilinear": (3, "linear")}


def _check(x: TensorType, sizes: Shape, attrs: Resize) -> None:
    if attrs.method not in METHODS:
        raise ArgumentError(
            f"unknown method {attrs.method!r}", help=f"use {' or '.join(METHODS)}"
        )
    if x.ndim != len(sizes) + 2 or x.shape[2:] != sizes:
        raise ShapeError(f"{{0}} {x} must have the spatial sizes {list(sizes)}")
    if len(attrs.size) != len(attrs.source):
        raise ShapeError(f"sizes {list(attrs.source)} to {list(attrs.size)} differ")


def _infer(types: Types, attrs: Resize) -> TensorType:
    (x,) = types
    _check(x, attrs.source, attrs)
    return x.with_shape((*x.shape[:2], *attrs.size))


def _back_infer(types: Types, attrs: Resize) -> TensorType:
    (g,) = types
    _check(g, attrs.size, attrs)
    return g.with_shape((*g.shape[:2], *attrs.source))


# --- where places lie -----------------------------------------------------------------


def _fraction(i: Any, n: Any, m: Any, attrs: Resize, larger: Any) -> tuple[Any, Any]:
    """Return p and q of the places i; for ints, arrays and tensors."""
    if attrs.method == "nearest":
        return i * n, m
    if attrs.align_corners:
        return i * (n - 1), larger(m - 1, 1)
    return larger((i * 2 + 1) * n - m, 0), m * 2


def _lines(n: Size, m: Size, attrs: Resize, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for an axis the elements before and behind each place, and how far."""
    larger, i = FUNCTIONS["maximum"], iota((m,), 0, int64)
    p, q = _fraction(i, dim(n), dim(m), attrs, larger)
    before = FUNCTIONS["floor_divide"](p, q)
    rest = cast(p - before * q, x.dtype) / cast(q, x.dtype)
    return before, FUNCTIONS["minimum"](before + 1, dim(n) - 1), rest


def _np_lines(n: int, m: int, attrs: Resize) -> tuple[Any, Any, Any]:
    p, q = _fraction(np.arange(m), n, m, attrs, np.maximum)
    before = p // q
    return before, np.minimum(before + 1, n - 1), (p - before * q) / q


def _along(x: Tensor, t: Tensor, axis: int) -> Tensor:
    """Repeat a line of numbers to the shape of x."""
    ones: list[Size] = [1] * x.ndim
    ones[axis] = x.shape[axis]
    return broadcast_to(reshape(t, tuple(ones)), x.shape)


def _axes(attrs: Resize) -> Iterator[tuple[int, Size, Size]]:
    for i, (n, m) in enumerate(zip(attrs.source, attrs.size, strict=True)):
        if n != m:
            yield i + 2, n, m


def _pieces(attrs: Resize, x: Tensor) -> Tensor:
    for axis, n, m in _axes(attrs):
        before, behind, t = _lines(n, m, attrs, x)
        first = make1(TAKE, (x, before), Along(axis))
        if attrs.method == "nearest":
            x = first
            continue
        second = make1(TAKE, (x, behind), Along(axis))
        t = _along(first, t, axis)
        x = (1.0 - t) * first + t * second
    return x


def _back_pieces(attrs: Resize, g: Tensor) -> Tensor:
    for axis, n, m in reversed(list(_axes(attrs))):
        before, behind, t = _lines(n, m, attrs, g)
        shape = list(g.shape)
        shape[axis] = n
        into = Scatter(axis, tuple(shape))
        if attrs.method == "nearest":
            g = make1(SCATTER_ADD, (g, before), into)
            continue
        t = _along(g, t, axis)
        first = make1(SCATTER_ADD, (g * (1.0 - t), before), into)
        g = first + make1(SCATTER_ADD, (g * t, behind), into)
    return g


# --- meaning --------------------------------------------------------------------------


def _matrices(meaning: Meaning) -> Iterator[tuple[int, Any]]:
    """Yield for each axis the matrix [m, n] that resizes it."""
    a = meaning.attrs
    dtype = meaning.types[0].dtype.numpy
    for axis, n, m in _axes(a):
        rows, columns = concrete((m, n), meaning)
        before, behind, t = _np_lines(columns, rows, a)
        found = np.zeros((rows, columns), dtype)
        if a.method == "nearest":
            t = 0
        np.add.at(found, (np.arange(rows), before), 1 - t)
        np.add.at(found, (np.arange(rows), behind), t)
        yield axis, found


def _value(arrays: Any, meaning: Meaning) -> Any:
    (x,) = arrays
    for axis, matrix in _matrices(meaning):
        x = np.moveaxis(np.tensordot(matrix, x, ((1,), (axis,))), 0, axis)
    return np.ascontiguousarray(x)


def _back_value(arrays: Any, meaning: Meaning) -> Any:
    (g,) = arrays
    for axis, matrix in _matrices(meaning):
        g = np.moveaxis(np.tensordot(matrix, g, ((0,), (axis,))), 0, axis)
    return np.ascontiguousarray(g)


def _gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None or not node.inputs[0].dtype.is_float:
        return [None]
    other = RESIZE_GRADIENT if node.op is RESIZE else RESIZE
    return [make1(other, (g,), node.attrs)]


def _guards(_: Types, attrs: Resize) -> list[tuple[Size, Size]]:
    return [(n, 1) for _, n, _ in _axes(attrs)]


RESIZE: Op = register(
    Op(
        name="resize",
        attrs=Resize,
        infer=_infer,
        evaluate=_value,
        gradient=_gradient,
        lower=Decomposed(_pieces),
        doc="y = x at places between its elements, along each spatial axis;  dx = g "
        "shared among the elements that were read",
        guards=_guards,
    )
)

RESIZE_GRADIENT: Op = register(
    Op(
        name="resize_gradient",
        attrs=Resize,
        infer=_back_infer,
        evaluate=_back_value,
        gradient=_gradient,
        lower=Decomposed(_back_pieces),
        doc="dx = g shared among the elements that resize reads;  dg = resize",
        guards=_guards,
    )
)


@public
def resize(
    x: Any,
    size: Any,
    method: str = "nearest",
    align_corners: bool = False,
    layout: str | None = None,
) -> Tensor:
    """Resize images to other spatial sizes.

    size: of each spatial axis, or one for all. method: "nearest", or "linear", which
    is also called "bilinear" for two axes and "trilinear" for three; it does not
    smooth when it makes smaller, and makes float32 of ints. align_corners: whether
    linear interpolation puts the corner elements onto each other, not the corners.

    Shapes:  x [N, C, H, W], size (K, L) -> [N, C, K, L]
             layout="NHWC": x [N, H, W, C] -> [N, K, L, C]
    Math:    y[i] = x[i H // K];  linear: between the elements around
             (i + 1/2) H / K - 1/2, or around i (H - 1) / (K - 1) with align_corners
    Raises:  ShapeError unless x has one to three spatial axes; ArgumentError for
             another method, or for sizes that do not fit the axes.
    Source:  PyTorch's `interpolate`; here the places are exact, not rounded.
    Example:
        >>> import graphc
        >>> y = graphc.resize([[[1.0, 3.0]]], 4, "linear")
        >>> graphc.evaluate(y).tolist()
        [[[1.0, 1.5, 2.5, 3.0]]]
    """
    tensor = constant(x)
    ndim = tensor.ndim - 2
    try:
        if not 1 <= ndim <= 3:
            raise ShapeError(
                f"{{0}} {tensor.type} has {tensor.ndim} axes, not batch, channels and "
                "one to three spatial ones"
            )
        axes, kind = NAMES.get(method, (ndim, method))
        if axes != ndim or kind not in METHODS:
            raise ArgumentError(
                f"unknown method {method!r} for {ndim} spatial axes",
                help=f"use {' or '.join(METHODS)}",
            )
        given = list(size) if isinstance(size, (tuple, list)) else [size] * ndim
        if len(given) != ndim:
            raise ArgumentError(
                f"size {size!r} does not fit the {ndim} spatial axes of {{0}}"
            )
        sizes = tuple(as_size(s) for s in given)
        last = channels_last(layout, ndim)
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "resize", [tensor]) from None
    if kind == "linear" and not tensor.dtype.is_float:
        tensor = cast(tensor, float32)
    if last:
        tensor = transpose(tensor, (0, ndim + 1, *range(1, ndim + 1)))
    attrs = Resize(sizes, tensor.shape[2:], kind, bool(align_corners))
    y = make1(RESIZE, (tensor,), attrs) if sizes != attrs.source else tensor
    return transpose(y, (0, *range(2, ndim + 2), 1)) if last else y
