"""Reading and adding element by element along an axis: take_along_axis and its inverse.

Here every element has an index of its own; in `indexing.py` an index names a whole
slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    Meaning,
    Op,
    Pointwise,
    ScatterAdd,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr
from graphc.ir.types import Shape, TensorType
from graphc.ops.batching import batch_axis
from graphc.ops.broadcast import broadcast_shapes, broadcast_to
from graphc.ops.creation import concrete, constant
from graphc.ops.indexing import (
    Along,
    as_indices,
    in_range,
    need_integers,
    np_place,
    place,
)
from graphc.ops.reduction import normal_axes


@dataclass(frozen=True, slots=True)
class Sized:
    """The axis that indices refer to, and its size in the result."""

    axis: int
    size: Size


def _same_beside(types: Types, axis: int) -> None:
    """Check that an array and its indices differ along the axis alone."""
    x, indices = types
    need_integers(types, 1)
    if not 0 <= axis < x.ndim:
        raise ArgumentError(f"axis {axis} of {{0}}, which has {x.ndim} axes")
    if _beside(x.shape, axis) != _beside(indices.shape, axis):
        raise ShapeError(
            f"{{0}} {x} and {{1}} {indices} differ beside axis {axis}",
            help="give the indices the shape of the array, but for that axis",
        )


def _beside(shape: Shape, axis: int) -> tuple[int, Shape, Shape]:
    return len(shape), shape[:axis], shape[axis + 1 :]


# --- take_along_axis ----------------------------------------------------------------


def _take_infer(types: Types, attrs: Along) -> TensorType:
    _same_beside(types, attrs.axis)
    return types[0].with_shape(types[1].shape)


def _take_value(arrays: Any, meaning: Meaning) -> Any:
    x, indices = arrays
    axis = meaning.attrs.axis
    return np.take_along_axis(x, np_place(indices, x.shape[axis]), axis)


def _take_lower(site: Site) -> Expr:
    a = site.attrs.axis
    at = place(site.load(1, site.index), site.types[0].shape[a])
    return site.load(0, (*site.index[:a], at, *site.index[a + 1 :]))


def _take_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, indices = node.inputs
    if g is None or not x.dtype.is_float:
        return [None, None]
    axis = node.attrs.axis
    return [make1(ADD_ALONG_AXIS, (g, indices), Sized(axis, x.shape[axis])), None]


TAKE_ALONG_AXIS = register(
    Op(
        name="take_along_axis",
        attrs=Along,
        infer=_take_infer,
        evaluate=_take_value,
        gradient=_take_gradient,
        lower=Pointwise(_take_lower),
        doc="y[i, j] = x[i, indices[i, j]];  dx = g summed into the places read",
        guards=lambda types, a: [(types[0].shape[a.axis], 1)],
        batch=batch_axis,
        checks=lambda node: in_range(
            node.inputs[1], node.inputs[0].shape[node.attrs.axis], node.attrs.axis
        ),
    )
)


@public
def take_along_axis(x: Any, indices: Any, axis: int | None = -1) -> Tensor:
    """Read along an axis, each element by an index of its own (None: x flattened).

    Shapes:  x [N, D], indices i32[N, K], axis=1 -> [N, K]; the other axes broadcast
    Math:    y[i, j] = x[i, indices[i, j]];  dx = g summed into the places read
    A negative index counts from the end; one out of range is clamped.
    Raises:  DTypeError if the indices are no integers, ShapeError if the other axes
             do not fit.
    Example:
        >>> import graphc
        >>> x = graphc.constant([[3.0, 1.0, 2.0]])
        >>> graphc.evaluate(graphc.take_along_axis(x, [[1, 2, 0]], 1)).tolist()
        [[1.0, 2.0, 3.0]]
    """
    tensor = constant(x)
    if axis is None:
        tensor, axis = tensor.reshape((-1,)), 0
    tensor, places, at = paired("take_along_axis", tensor, indices, axis)
    return make1(TAKE_ALONG_AXIS, (tensor, places), Along(at))


def paired(what: str, x: Tensor, given: Any, axis: int) -> tuple[Tensor, Tensor, int]:
    """Broadcast an array and its indices on all axes but one, which is returned."""
    indices = constant(given)
    try:
        (at,) = normal_axes(axis, x.ndim)
        as_indices(given, x.shape[at])
        if indices.ndim != x.ndim:
            raise ShapeError(
                f"{{0}} has {x.ndim} axes, the indices {{1}} have {indices.ndim}",
                help="give the indices as many axes",
            )
        shapes = [(*t.shape[:at], 1, *t.shape[at + 1 :]) for t in (x, indices)]
        common = broadcast_shapes(*shapes)
    except (ArgumentError, ShapeError) as error:
        raise explain(error, what, [x, indices]) from None
    full = [(*common[:at], t.shape[at], *common[at + 1 :]) for t in (x, indices)]
    return broadcast_to(x, full[0]), broadcast_to(indices, full[1]), at


# --- add_along_axis, place_along_axis -----------------------------------------------


def _add_infer(types: Types, attrs: Sized) -> TensorType:
    updates, indices = types
    _same_beside(types, attrs.axis)
    if updates.shape != indices.shape:
        raise ShapeError(f"{{0}} {updates} and {{1}} {indices} must have one shape")
    shape = list(updates.shape)
    shape[attrs.axis] = attrs.size
    return updates.with_shape(shape)


def _add_value(arrays: Any, meaning: Meaning) -> Any:
    updates, indices = arrays
    axis = meaning.attrs.axis
    (size,) = concrete((meaning.attrs.size,), meaning)
    shape = list(updates.shape)
    shape[axis] = size
    found = np.zeros(shape, updates.dtype)
    at: list[Any] = list(np.indices(indices.shape, sparse=True))
    at[axis] = np_place(indices, size)
    np.add.at(found, tuple(at), updates)
    return found


def _add_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None or not g.dtype.is_float:
        return [None, None]
    along = Along(node.attrs.axis)
    return [make1(TAKE_ALONG_AXIS, (g, node.inputs[1]), along), None]


def _add_target(site: Site, inner: tuple[Expr, ...]) -> tuple[Expr, ...]:
    a = site.attrs.axis
    index = (*site.index[:a], *inner, *site.index[a:])
    at = place(site.load(1, index), site.attrs.size)
    return (*site.index[:a], at, *site.index[a:])


def _add_element(site: Site, inner: tuple[Expr, ...]) -> Expr:
    a = site.attrs.axis
    return site.load(0, (*site.index[:a], *inner, *site.index[a:]))


def _adds(accumulate: bool) -> ScatterAdd:
    return ScatterAdd(
        lambda types, a: (types[1].shape[a.axis],),
        _add_target,
        _add_element,
        parallel=lambda types, a: tuple(i for i in range(types[0].ndim) if i != a.axis),
        accumulate=accumulate,
    )


ADD_ALONG_AXIS = register(
    Op(
        name="add_along_axis",
        attrs=Sized,
        infer=_add_infer,
        evaluate=_add_value,
        gradient=_add_gradient,
        lower=_adds(accumulate=True),
        doc="y = 0, y[i, indices[i, j]] += x[i, j]: the gradient of take_along_axis",
        guards=lambda types, a: [(a.size, 1)],
        batch=batch_axis,
        checks=lambda node: in_range(node.inputs[1], node.attrs.size, node.attrs.axis),
    )
)

PLACE_ALONG_AXIS = register(
    Op(
        name="place_along_axis",
        attrs=Sized,
        infer=_add_infer,
        evaluate=_add_value,
        gradient=_add_gradient,
        lower=_adds(accumulate=False),
        doc="y = 0, y[i, indices[i, j]] = x[i, j], where no two indices of a row are "
        "equal: add_along_axis without having to add",
        guards=lambda types, a: [(a.size, 1)],
        batch=batch_axis,
        checks=lambda node: in_range(node.inputs[1], node.attrs.size, node.attrs.axis),
    )
)
