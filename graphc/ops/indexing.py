"""Reading by index: take and its gradient, one-hot rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size, evaluate, names
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    Check,
    Meaning,
    NonDifferentiable,
    Op,
    Pointwise,
    ScatterAdd,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import (
    DType,
    DTypeLike,
    Shape,
    TensorType,
    as_dtype,
    as_size,
    float32,
    int64,
)
from graphc.ops.batching import align, batch_leading, move_axes, move_axis
from graphc.ops.creation import cast, concrete, constant, dim
from graphc.ops.reduction import normal_axes
from graphc.ops.shape import reshape


@dataclass(frozen=True, slots=True)
class Along:
    """The axis that indices refer to."""

    axis: int


@dataclass(frozen=True, slots=True)
class Scatter:
    """The axis that indices refer to, and the shape of the result."""

    axis: int
    shape: Shape


@dataclass(frozen=True, slots=True)
class OneHot:
    """The number of classes and the dtype of the result."""

    depth: Size
    dtype: DType


def place(index: Expr, size: Size) -> Expr:
    """Return an index as a place within an axis: negative wraps, beyond clamps."""
    wide = cast_expr(index, int64)
    n, zero = size_of(size), const(0, int64)
    wrapped = apply("select", wide < zero, wide + n, wide)
    top = n - const(1, int64)
    return apply("maximum", apply("minimum", wrapped, top), zero)


def np_place(index: Any, size: int) -> Any:
    """Return `place` on arrays."""
    wide = index.astype(np.int64)
    return np.maximum(np.minimum(np.where(wide < 0, wide + size, wide), size - 1), 0)


def need_integers(types: Types, i: int) -> None:
    """Check that input i, whose elements are indices, holds integers."""
    if types[i].dtype.kind != "i":
        raise DTypeError(
            f"indices must be integers, {{{i}}} is {types[i].dtype}", help="cast them"
        )


def in_range(indices: Tensor, size: Size, axis: int) -> list[Check]:
    """Return the check that indices lie within an axis of this size."""
    if isinstance(size, int):
        ok = (indices >= -size) & (indices < size)
    else:
        n, wide = dim(size), cast(indices, int64)
        ok = (wide >= -n) & (wide < n)
    message = f"index {{value}} is out of range for axis {axis}, which has size {{0}}"
    return [Check(ok, indices, message, (size,))]


# --- take ---------------------------------------------------------------------------


def _take_infer(types: Types, attrs: Along) -> TensorType:
    x, indices = types
    need_integers(types, 1)
    a = attrs.axis
    if not 0 <= a < x.ndim:
        raise ArgumentError(f"axis {a} of {{0}}, which has {x.ndim} axes")
    return x.with_shape((*x.shape[:a], *indices.shape, *x.shape[a + 1 :]))


def _take_lower(site: Site) -> Expr:
    x, indices = site.types
    a = site.attrs.axis
    before = site.index[:a]
    middle = site.index[a : a + indices.ndim]
    after = site.index[a + indices.ndim :]
    at = place(site.load(1, middle), x.shape[a])
    return site.load(0, (*before, at, *after))


def _take_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, indices = node.inputs
    if g is None or not x.dtype.is_float:
        return [None, None]
    attrs = Scatter(node.attrs.axis, x.shape)
    return [make1(SCATTER_ADD, (g, indices), attrs), None]


def _take_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    x, indices = inputs
    a = node.attrs.axis
    if not batched[1]:
        return [make1(TAKE, (x, indices), Along(a + 1))]
    if not batched[0]:
        return [move_axis(make1(TAKE, (x, indices), Along(a)), a, 0)]
    # An own table for each element: the axes of the indices come first.
    from graphc.ops.gather import GATHER, Points

    found = make1(GATHER, (x, indices), Points((a + 1,), 1))
    return [move_axes(found, 1, indices.ndim - 1, a + 1)]


TAKE = register(
    Op(
        name="take",
        attrs=Along,
        infer=_take_infer,
        evaluate=lambda arrays, m: np.take(
            arrays[0],
            np_place(arrays[1], arrays[0].shape[m.attrs.axis]),
            axis=m.attrs.axis,
        ),
        gradient=_take_gradient,
        lower=Pointwise(_take_lower),
        doc="y[i, j] = x[indices[i], j];  dx = g summed into the rows that were read",
        guards=lambda types, a: [(types[0].shape[a.axis], 1)],
        batch=_take_batch,
        checks=lambda node: in_range(
            node.inputs[1], node.inputs[0].shape[node.attrs.axis], node.attrs.axis
        ),
    )
)


def as_indices(given: Any, size: Size) -> Tensor:
    """Return indices as a tensor; numbers that are written down are checked.

    What a tensor holds is known when it runs, and clamped; a number out of range that
    stands in the program is a mistake.

    Raises:  ShapeError if one is out of range of an axis of this size.
    """
    indices = constant(given)
    if isinstance(given, Tensor) or indices.dtype.kind != "i" or names(size):
        return indices
    n = evaluate(size, {})
    wrong = [int(k) for k in np.asarray(given).ravel() if not -n <= k < n]
    if wrong:
        raise ShapeError(f"index {wrong[0]} is out of range for an axis of size {n}")
    return indices


@public
def take(x: Any, indices: Any, axis: int | None = None) -> Tensor:
    """Read the elements that indices name along an axis (None: of x flattened).

    Shapes:  x [V, D], indices i32[N], axis=0 -> [N, D]
    Math:    dx = g summed into the places that were read
    A negative index counts from the end; one out of range is clamped.
    Raises:  DTypeError if the indices are no integers, ShapeError if they are numbers
             out of range of an axis whose size is known.
    """
    tensor = constant(x)
    if axis is None:
        tensor, axis = reshape(tensor, (-1,)), 0
    try:
        (at,) = normal_axes(axis, tensor.ndim)
        places = as_indices(indices, tensor.shape[at])
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "take", [tensor]) from None
    return make1(TAKE, (tensor, places), Along(at))


# --- scatter-add --------------------------------------------------------------------


def _scatter_infer(types: Types, attrs: Scatter) -> TensorType:
    updates, indices = types
    need_integers(types, 1)
    a = attrs.axis
    if not 0 <= a < len(attrs.shape):
        raise ArgumentError(f"axis {a} of a shape with {len(attrs.shape)} axes")
    wanted = (*attrs.shape[:a], *indices.shape, *attrs.shape[a + 1 :])
    if updates.shape != wanted:
        raise ShapeError(f"{{0}} {updates} must have the shape {list(wanted)}")
    return updates.with_shape(attrs.shape)


def _scatter_value(arrays: Any, meaning: Meaning) -> Any:
    updates, indices = arrays
    a = meaning.attrs.axis
    found = np.zeros(concrete(meaning.attrs.shape, meaning), updates.dtype)
    if found.size == 0:
        return found
    rows = np.moveaxis(found, a, 0)
    middle = tuple(range(a, a + indices.ndim))
    lead = np.moveaxis(updates, middle, tuple(range(indices.ndim)))
    flat = lead.reshape(indices.size, *rows.shape[1:])
    np.add.at(rows, np_place(indices, rows.shape[0]).reshape(-1), flat)
    return found


def _scatter_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None, None]
    return [make1(TAKE, (g, node.inputs[1]), Along(node.attrs.axis)), None]


def _scatter_extents(types: Types, attrs: Scatter) -> tuple[Size, ...]:
    return types[1].shape


def _scatter_target(site: Site, inner: tuple[Expr, ...]) -> tuple[Expr, ...]:
    a = site.attrs.axis
    at = place(site.load(1, inner), site.attrs.shape[a])
    return (*site.index[:a], at, *site.index[a:])


def _scatter_element(site: Site, inner: tuple[Expr, ...]) -> Expr:
    a = site.attrs.axis
    return site.load(0, (*site.index[:a], *inner, *site.index[a:]))


def _scatter_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs.axis
    shape = (size, *node.attrs.shape)
    if not batched[1]:
        return [make1(SCATTER_ADD, inputs, Scatter(a + 1, shape))]
    from graphc.ops.gather import ADD_AT, IntoPoints

    updates, indices = align(inputs, batched, size)
    lead = move_axes(updates, a + 1, indices.ndim - 1, 1)
    return [make1(ADD_AT, (lead, indices), IntoPoints((a + 1,), shape, 1))]


SCATTER_ADD = register(
    Op(
        name="scatter_add",
        attrs=Scatter,
        infer=_scatter_infer,
        evaluate=_scatter_value,
        gradient=_scatter_gradient,
        lower=ScatterAdd(
            _scatter_extents,
            _scatter_target,
            _scatter_element,
            parallel=lambda types, a: tuple(
                i for i in range(len(a.shape)) if i != a.axis
            ),
        ),
        doc="y = 0, y[indices[i], j] += x[i, j]: the gradient of take",
        guards=lambda types, a: [(a.shape[a.axis], 1)],
        batch=_scatter_batch,
        checks=lambda node: in_range(
            node.inputs[1], node.attrs.shape[node.attrs.axis], node.attrs.axis
        ),
    )
)


# --- one-hot ------------------------------------------------------------------------


def _one_hot_infer(types: Types, attrs: OneHot) -> TensorType:
    need_integers(types, 0)
    return TensorType(attrs.dtype, (*types[0].shape, attrs.depth))


def _one_hot_lower(site: Site) -> Expr:
    label = cast_expr(site.load(0, site.index[:-1]), int64)
    return cast_expr(apply("equal", label, site.index[-1]), site.attrs.dtype)


def _one_hot_value(arrays: Any, meaning: Meaning) -> Any:
    (depth,) = concrete((meaning.attrs.depth,), meaning)
    hit = arrays[0][..., None] == np.arange(depth)
    return hit.astype(meaning.attrs.dtype.numpy)


ONE_HOT = register(
    Op(
        name="one_hot",
        attrs=OneHot,
        infer=_one_hot_infer,
        evaluate=_one_hot_value,
        gradient=NonDifferentiable("its input is an index"),
        lower=Pointwise(_one_hot_lower),
        doc="y[i, c] = 1 where indices[i] = c, else 0",
        batch=batch_leading,
    )
)


@public
def one_hot(indices: Any, depth: Any, dtype: DTypeLike = float32) -> Tensor:
    """Return rows with a one at each index; a row of zeros for one out of range.

    Shapes:  indices i32[N], depth C -> [N, C]
    Raises:  DTypeError if the indices are no integers.
    """
    places = constant(indices)
    return make1(ONE_HOT, (places,), OneHot(as_size(depth), as_dtype(dtype)))
