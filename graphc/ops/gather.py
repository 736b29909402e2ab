"""Reading at points: several index arrays at once, one for each of some axes.

    y[b, j, r] = x[b, i0[b, j], r, i1[b, j]]       axes=(1, 3), batch=1

The first `batch` axes of the array and of the indices are one and the same; the axes
that no index names come last. `add_at` is the inverse: it sums into those places.
`x[...]` with arrays, and batches of everything that reads by index, are these two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import (
    Check,
    Meaning,
    Op,
    Pointwise,
    ScatterAdd,
    Site,
    Types,
    register,
)
from graphc.ir.scalar import Expr
from graphc.ir.types import Shape, TensorType
from graphc.ops.batching import align, move_axis, shift
from graphc.ops.creation import concrete
from graphc.ops.indexing import in_range, need_integers, np_place, place


@dataclass(frozen=True, slots=True)
class Points:
    """The axes that the indices name, in their order, and how many axes are shared."""

    axes: tuple[int, ...]
    batch: int = 0


@dataclass(frozen=True, slots=True)
class IntoPoints:
    """Axes and shared axes as of `Points`, and the shape of the result."""

    axes: tuple[int, ...]
    shape: Shape
    batch: int = 0


def _rest(ndim: int, attrs: Points | IntoPoints) -> list[int]:
    """Return the axes that no index names and that are not shared."""
    return [i for i in range(attrs.batch, ndim) if i not in attrs.axes]


def check_points(shape: Shape, indices: Types, attrs: Points | IntoPoints) -> Shape:
    """Check the indices and return the shape of what is read at them."""
    for i in range(len(indices)):
        need_integers(indices, i)
    axes, first = attrs.axes, indices[0].shape if indices else ()
    good = all(attrs.batch <= a < len(shape) for a in axes)
    if not axes or len(axes) != len(indices) or len(set(axes)) != len(axes) or not good:
        raise ArgumentError(
            f"{len(indices)} indices for the axes {list(axes)} of {len(shape)}"
        )
    if any(t.shape != first for t in indices):
        raise ShapeError(f"indices differ in shape: {', '.join(map(str, indices))}")
    if first[: attrs.batch] != shape[: attrs.batch]:
        raise ShapeError(
            f"the first {attrs.batch} axes of the indices {list(first)} and of the "
            f"array {list(shape)} differ"
        )
    return (*first, *(shape[i] for i in _rest(len(shape), attrs)))


def _split(
    index: Sequence[Any], inner: int, attrs: Points | IntoPoints
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """Split an index of what is read into shared, inner and other axes."""
    b = attrs.batch
    return tuple(index[:b]), tuple(index[b : b + inner]), tuple(index[b + inner :])


def join(
    shared: Sequence[Any],
    places: Sequence[Any],
    others: Sequence[Any],
    attrs: Points | IntoPoints,
) -> tuple[Any, ...]:
    """Return an index of the array from that of shared, named and other axes."""
    named = dict(zip(attrs.axes, places, strict=True))
    rest = iter(others)
    ndim = len(shared) + len(places) + len(others)
    return tuple(
        shared[i] if i < attrs.batch else named[i] if i in named else next(rest)
        for i in range(ndim)
    )


def np_index(
    shape: Sequence[int], indices: Sequence[Any], attrs: Points | IntoPoints
) -> tuple[Any, ...]:
    """Return NumPy's key for the places; it broadcasts to what is read."""
    rest = _rest(len(shape), attrs)
    inner = indices[0].ndim - attrs.batch
    full = (*indices[0].shape, *(shape[i] for i in rest))
    lines = np.indices(full, sparse=True)
    shared, _, others = _split(lines, inner, attrs)
    ones = (1,) * len(rest)
    places = [
        np_place(i, shape[a]).reshape((*i.shape, *ones))
        for i, a in zip(indices, attrs.axes, strict=True)
    ]
    return join(shared, places, others, attrs)


def index_checks(
    indices: Sequence[Tensor], shape: Shape, attrs: Points | IntoPoints
) -> list[Check]:
    """Return the checks that each index lies within its axis."""
    return [
        check
        for i, a in zip(indices, attrs.axes, strict=True)
        for check in in_range(i, shape[a], a)
    ]


# --- gather -------------------------------------------------------------------------


def _gather_infer(types: Types, attrs: Points) -> TensorType:
    return types[0].with_shape(check_points(types[0].shape, types[1:], attrs))


def _gather_value(arrays: Any, meaning: Meaning) -> Any:
    x, *indices = arrays
    return x[np_index(x.shape, indices, meaning.attrs)]


def _gather_lower(site: Site) -> Expr:
    x, *indices = site.types
    inner = indices[0].ndim - site.attrs.batch
    shared, middle, others = _split(site.index, inner, site.attrs)
    places = [
        place(site.load(k + 1, (*shared, *middle)), x.shape[a])
        for k, a in enumerate(site.attrs.axes)
    ]
    return site.load(0, join(shared, places, others, site.attrs))


def _gather_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, *indices = node.inputs
    none = [None] * len(indices)
    if g is None or not x.dtype.is_float:
        return [None, *none]
    attrs = IntoPoints(node.attrs.axes, x.shape, node.attrs.batch)
    return [make1(ADD_AT, (g, *indices), attrs), *none]


def _gather_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs
    if a.batch == 0 and not any(batched[1:]):
        found = make1(GATHER, inputs, Points(shift(a.axes)))
        return [move_axis(found, inputs[1].ndim, 0)]
    if a.batch == 0 and not batched[0]:
        return [make1(GATHER, [inputs[0], *align(inputs[1:], batched[1:], size)], a)]
    attrs = Points(shift(a.axes), a.batch + 1)
    return [make1(GATHER, align(inputs, batched, size), attrs)]


GATHER = register(
    Op(
        name="gather",
        attrs=Points,
        infer=_gather_infer,
        evaluate=_gather_value,
        gradient=_gather_gradient,
        lower=Pointwise(_gather_lower),
        doc="y[j, r] = x[i0[j], i1[j], r];  dx = g summed into the places read",
        guards=lambda types, a: [(types[0].shape[i], 1) for i in a.axes],
        batch=_gather_batch,
        checks=lambda node: index_checks(
            node.inputs[1:], node.inputs[0].shape, node.attrs
        ),
    )
)


# --- add_at -------------------------------------------------------------------------


def _add_infer(types: Types, attrs: IntoPoints) -> TensorType:
    updates = types[0]
    wanted = check_points(attrs.shape, types[1:], attrs)
    if updates.shape != wanted:
        raise ShapeError(f"{{0}} {updates} must have the shape {list(wanted)}")
    return updates.with_shape(attrs.shape)


def _add_value(arrays: Any, meaning: Meaning) -> Any:
    updates, *indices = arrays
    found = np.zeros(concrete(meaning.attrs.shape, meaning), updates.dtype)
    np.add.at(found, np_index(found.shape, indices, meaning.attrs), updates)
    return found


def _add_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    indices = node.inputs[1:]
    none = [None] * len(indices)
    if g is None or not g.dtype.is_float:
        return [None, *none]
    attrs = Points(node.attrs.axes, node.attrs.batch)
    return [make1(GATHER, (g, *indices), attrs), *none]


def _add_extents(types: Types, attrs: IntoPoints) -> tuple[Size, ...]:
    return types[1].shape[attrs.batch :]


def _add_target(site: Site, inner: tuple[Expr, ...]) -> tuple[Expr, ...]:
    a = site.attrs
    shared, others = site.index[: a.batch], site.index[a.batch :]
    places = [
        place(site.load(k + 1, (*shared, *inner)), a.shape[axis])
        for k, axis in enumerate(a.axes)
    ]
    return join(shared, places, others, a)


def _add_element(site: Site, inner: tuple[Expr, ...]) -> Expr:
    b = site.attrs.batch
    return site.load(0, (*site.index[:b], *inner, *site.index[b:]))


def _add_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs
    shape = (size, *a.shape)
    if a.batch == 0 and not any(batched[1:]):
        updates = move_axis(inputs[0], 0, inputs[1].ndim)
        attrs = IntoPoints(shift(a.axes), shape)
        return [make1(ADD_AT, [updates, *inputs[1:]], attrs)]
    attrs = IntoPoints(shift(a.axes), shape, a.batch + 1)
    return [make1(ADD_AT, align(inputs, batched, size), attrs)]


ADD_AT = register(
    Op(
        name="add_at",
        attrs=IntoPoints,
        infer=_add_infer,
        evaluate=_add_value,
        gradient=_add_gradient,
        lower=ScatterAdd(
            _add_extents,
            _add_target,
            _add_element,
            parallel=lambda types, a: tuple(
                i for i in range(len(a.shape)) if i not in a.axes
            ),
        ),
        doc="y = 0, y[i0[j], i1[j], r] += x[j, r]: the gradient of gather",
        guards=lambda types, a: [(a.shape[i], 1) for i in a.axes],
        batch=_add_batch,
        checks=lambda node: index_checks(node.inputs[1:], node.attrs.shape, node.attrs),
    )
)
