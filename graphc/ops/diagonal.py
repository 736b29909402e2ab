"""Diagonals and triangles of matrices.

y[..., i] = x[..., i, i + offset]          diagonal, and its inverse diagonal_place
x where row >= column, else 0              tril, triu
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size, maximum, minimum
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import Meaning, Op, Pointwise, Site, Types, public, register
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.types import (
    DTypeLike,
    Shape,
    TensorType,
    as_dtype,
    as_size,
    bool_,
    float32,
    int64,
)
from graphc.ops.arithmetic import where
from graphc.ops.axes import places
from graphc.ops.batching import batch_leading
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, concrete, constant, full, iota
from graphc.ops.reduction import sum
from graphc.ops.shape import transpose


@dataclass(frozen=True, slots=True)
class Diagonal:
    """How far right of the main diagonal; negative below it."""

    offset: int


@dataclass(frozen=True, slots=True)
class Placed:
    """How far right of the main diagonal, and the shape of the matrix."""

    offset: int
    shape: Shape


# --- the ops ------------------------------------------------------------------------


def length(rows: Size, columns: Size, offset: int) -> Size:
    """Return how many elements a diagonal of a matrix has."""
    down, right = (0, offset) if offset >= 0 else (-offset, 0)
    return maximum(minimum(rows - down, columns - right), 0)


def _start(offset: int) -> tuple[int, int]:
    return (0, offset) if offset >= 0 else (-offset, 0)


def _diagonal_infer(types: Types, attrs: Diagonal) -> TensorType:
    (x,) = types
    if x.ndim < 2:
        raise ShapeError(f"{{0}} {x} is no matrix", help="it needs two axes")
    *batch, rows, columns = x.shape
    return x.with_shape((*batch, length(rows, columns, attrs.offset)))


def _diagonal_lower(site: Site) -> Expr:
    *batch, i = site.index
    row, column = (i + const(s, int64) for s in _start(site.attrs.offset))
    return site.load(0, (*batch, row, column))


def _diagonal_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None]
    x, offset = node.inputs[0], node.attrs.offset
    if g.shape[-1] == 0:  # a diagonal beside the matrix
        return [full(x.shape, 0, x.dtype)]
    return [make1(DIAGONAL_PLACE, (g,), Placed(offset, x.shape[-2:]))]


DIAGONAL = register(
    Op(
        name="diagonal",
        attrs=Diagonal,
        infer=_diagonal_infer,
        evaluate=lambda arrays, m: np.diagonal(
            arrays[0], m.attrs.offset, -2, -1
        ).copy(),
        gradient=_diagonal_gradient,
        lower=Pointwise(_diagonal_lower, layout=True),
        doc="y[..., i] = x[..., i, i + offset];  dx = g on that diagonal, 0 beside it",
        moves=True,
        batch=batch_leading,
    )
)


def _place_infer(types: Types, attrs: Placed) -> TensorType:
    (x,) = types
    if len(attrs.shape) != 2 or x.ndim < 1:
        raise ShapeError(f"{{0}} {x} is no diagonal of {list(attrs.shape)}")
    wanted = length(*attrs.shape, attrs.offset)
    if x.shape[-1] != wanted:
        raise ShapeError(
            f"the diagonal {attrs.offset} of a matrix {list(attrs.shape)} has {wanted} "
            f"elements, {{0}} {x} has {x.shape[-1]}"
        )
    return x.with_shape((*x.shape[:-1], *attrs.shape))


def _place_value(arrays: Any, meaning: Meaning) -> Any:
    (x,) = arrays
    found = np.zeros((*x.shape[:-1], *concrete(meaning.attrs.shape, meaning)), x.dtype)
    i = np.arange(x.shape[-1])
    row, column = _start(meaning.attrs.offset)
    found[..., i + row, i + column] = x
    return found


def _place_lower(site: Site) -> Expr:
    *batch, i, j = site.index
    row, column = (const(s, int64) for s in _start(site.attrs.offset))
    # Beside the diagonal any element will do; that of an index within it is read.
    top = size_of(site.types[0].shape[-1]) - const(1, int64)
    at = apply("maximum", apply("minimum", i - row, top), const(0, int64))
    value = site.load(0, (*batch, at))
    on = apply("equal", i - row, j - column)
    return apply("select", on, value, const(0, value.dtype))


DIAGONAL_PLACE = register(
    Op(
        name="diagonal_place",
        attrs=Placed,
        infer=_place_infer,
        evaluate=_place_value,
        gradient=lambda node, g: [
            None
            if g[0] is None
            else make1(DIAGONAL, (g[0],), Diagonal(node.attrs.offset))
        ],
        lower=Pointwise(_place_lower),
        doc="y = 0, but y[..., i, i + offset] = x[..., i];  dx = that diagonal of g",
        # What is read beside the diagonal must not be an empty buffer; the main
        # diagonal is empty only where there is nothing beside it either.
        guards=lambda types, a: [(types[0].shape[-1], 1)] if a.offset else [],
        moves=True,
        batch=batch_leading,
    )
)


# --- public functions ---------------------------------------------------------------


def _matrices(what: str, x: Any, axis1: int = -2, axis2: int = -1) -> Tensor:
    """Return a tensor whose last two axes are these."""
    tensor = constant(x)
    try:
        if tensor.ndim < 2:
            raise ShapeError(f"{{0}} {tensor.type} is no matrix", help="give two axes")
        last = places((axis1, axis2), tensor.ndim)
    except (ArgumentError, ShapeError) as error:
        raise explain(error, what, [tensor]) from None
    return transpose(tensor, (*(i for i in range(tensor.ndim) if i not in last), *last))


@public
def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Return a diagonal of the matrices that two axes make; it becomes the last axis.

    Shapes:  x [N, M, B] -> [B, min(N, M)]
    Math:    y[..., i] = x[i, i + offset, ...];  dx = g on that diagonal, 0 beside it
    Raises:  ShapeError for fewer than two axes, ArgumentError for an axis out of range.
    """
    return make1(
        DIAGONAL, (_matrices("diagonal", x, axis1, axis2),), Diagonal(int(offset))
    )


@public
def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """Sum a diagonal of the matrices that two axes make.

    Shapes:  x [N, N] -> [];  x [N, M, B] -> [B]
    Raises:  ShapeError for fewer than two axes.
    """
    return sum(
        make1(DIAGONAL, (_matrices("trace", x, axis1, axis2),), Diagonal(int(offset))),
        -1,
    )


@public
def diag(v: Any, k: int = 0) -> Tensor:
    """Make a matrix with a vector on a diagonal, or take the diagonal of a matrix.

    Shapes:  v [N], k=1 -> [N + 1, N + 1];  v [N, M] -> [min(N, M)]
    Raises:  ShapeError unless v has one axis or two.
    """
    tensor = constant(v)
    if tensor.ndim == 2:
        return diagonal(tensor, k)
    if tensor.ndim != 1:
        error = ShapeError(
            f"{{0}} {tensor.type} is no vector and no matrix",
            help="use graphc.diagonal for matrices within more axes",
        )
        raise explain(error, "diag", [tensor])
    n = tensor.shape[0] + abs(int(k))
    return make1(DIAGONAL_PLACE, (tensor,), Placed(int(k), (n, n)))


def _lower_mask(shape: Shape, k: int) -> Tensor:
    """Return where column <= row + k."""
    rows = iota(shape[-2:], 0)
    return iota(shape[-2:], 1) <= (rows + k if k else rows)


@public
def tril(x: Any, k: int = 0) -> Tensor:
    """Keep the lower triangles of matrices: 0 right of the diagonal k.

    Shapes:  x [..., N, M] -> [..., N, M]
    Raises:  ShapeError for fewer than two axes.
    """
    tensor = _matrices("tril", x)
    mask = broadcast_to(_lower_mask(tensor.shape, int(k)), tensor.shape)
    found: Tensor = where(mask, tensor, full((), 0, tensor.dtype))
    return found


@public
def triu(x: Any, k: int = 0) -> Tensor:
    """Keep the upper triangles of matrices: 0 left of the diagonal k.

    Shapes:  x [..., N, M] -> [..., N, M]
    Raises:  ShapeError for fewer than two axes.
    """
    tensor = _matrices("triu", x)
    mask = broadcast_to(_lower_mask(tensor.shape, int(k) - 1), tensor.shape)
    found: Tensor = where(mask, full((), 0, tensor.dtype), tensor)
    return found


def eye(N: Any, M: Any = None, k: int = 0, dtype: DTypeLike = float32) -> Tensor:
    """Return a matrix with ones on a diagonal and zeros beside it.

    Shapes:  -> [N, M]; N and M are ints or dimensions, M is N unless given
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.eye(2)).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    rows = as_size(N)
    shape = (rows, rows if M is None else as_size(M))
    first = iota(shape, 0)
    found: Tensor = (first + int(k) if k else first) == iota(shape, 1)
    kind = as_dtype(dtype)
    return found if kind is bool_ else cast(found, kind)
