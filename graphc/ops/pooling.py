"""Pooling: the largest, the sum or the mean of each window.

    max_pool          y = largest element of each window
    max_pool_index    where it is, counted through the padded spatial axes
    window_sum        y = sum of each window

The gradient of `max_pool` adds each cotangent where its window's first maximum is, so
it is linear in the cotangent and differentiable again; the gradient of `window_sum` is
another one, over the cotangent spread out. All work on padded x.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.dims import Size, product
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import (
    Meaning,
    NonDifferentiable,
    Op,
    Reduction,
    Site,
    Types,
    register,
)
from graphc.ir.scalar import Expr, size_of
from graphc.ir.types import Shape, TensorType, int32
from graphc.ops.along import ADD_ALONG_AXIS, PLACE_ALONG_AXIS, Sized
from graphc.ops.batching import fold, unfold
from graphc.ops.padding import pad_with
from graphc.ops.shape import reshape
from graphc.ops.windows import counts, element, fits, np_windows


@dataclass(frozen=True, slots=True)
class Window:
    """The size of a window, how it moves, and how far apart its elements are."""

    size: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]


def _infer(types: Types, attrs: Window) -> TensorType:
    (x,) = types
    ndim = len(attrs.size)
    if x.ndim != ndim + 2:
        raise ShapeError(
            f"{{0}} {x} has {x.ndim} axes, not {ndim + 2}: batch, channels and {ndim} "
            "spatial ones"
        )
    places = counts(x.shape[2:], attrs.size, attrs.stride, attrs.dilation)
    return x.with_shape((*x.shape[:2], *places))


def _index_infer(types: Types, attrs: Window) -> TensorType:
    return _infer(types, attrs).with_dtype(int32)


def _extents(_: Types, attrs: Window) -> tuple[Size, ...]:
    return attrs.size


def _place(site: Site, inner: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return element(site.index[2:], inner, site.attrs.stride, site.attrs.dilation)


def _rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
    return site.load(0, (*site.index[:2], *_place(site, inner)))


def _position(site: Site, inner: tuple[Expr, ...]) -> Expr:
    """Return the row-major index in the spatial axes of x."""
    first, *rest = _place(site, inner)
    found = first
    for at, size in zip(rest, site.types[0].shape[3:], strict=True):
        found = found * size_of(size) + at
    return found


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Join the new axis with the batch."""
    (x,) = inputs
    return [unfold(make1(node.op, (fold(x),), node.attrs), size, x.shape[1])]


def _guards(types: Types, attrs: Window) -> list[tuple[Size, Size]]:
    return fits(types[0].shape[2:], attrs.size, attrs.dilation)


def _flat_windows(x: Any, attrs: Window) -> Any:
    """Return an array's windows with their elements along one last axis."""
    view = np_windows(x, attrs.size, attrs.stride, attrs.dilation)
    return view.reshape(*view.shape[: x.ndim], int(np.prod(attrs.size)))


def _index_value(arrays: Any, meaning: Meaning) -> Any:
    (x,), a = arrays, meaning.attrs
    best = np.argmax(_flat_windows(x, a), axis=-1)
    within = np.unravel_index(best, a.size)
    found: Any = 0
    for i, (k, s, d) in enumerate(zip(within, a.stride, a.dilation, strict=True)):
        ones = [1] * x.ndim
        ones[2 + i] = best.shape[2 + i]
        place = np.arange(best.shape[2 + i]).reshape(ones) * s + k * d
        found = found * x.shape[2 + i] + place
    return found.astype(np.int32)


# --- gradients ------------------------------------------------------------------------


def planes(x: Tensor, ndim: int) -> Tensor:
    """Join the spatial axes: [N, C, H, W] -> [N, C, H*W]."""
    return reshape(x, (*x.shape[:2], product(x.shape[x.ndim - ndim :])))


def put(g: Tensor, index: Tensor, sizes: Shape, *, distinct: bool = False) -> Tensor:
    """Add elements up at their places within spatial axes of these sizes.

    distinct: whether no two of an image have one place.
    """
    ndim = len(sizes)
    op = PLACE_ALONG_AXIS if distinct else ADD_ALONG_AXIS
    attrs = Sized(2, product(sizes))
    found = make1(op, (planes(g, ndim), planes(index, ndim)), attrs)
    return reshape(found, (*g.shape[:2], *sizes))


def _max_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,) = node.inputs
    if g is None or not x.dtype.is_float:
        return [None]
    index = make1(MAX_POOL_INDEX, (x,), node.attrs)
    return [put(g, index, x.shape[2:], distinct=_are_apart(node.attrs))]


def _are_apart(attrs: Window) -> bool:
    """Whether no two windows share an element."""
    return all(
        s > (k - 1) * d
        for k, s, d in zip(attrs.size, attrs.stride, attrs.dilation, strict=True)
    )


def _sum_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), a = node.inputs, node.attrs
    if g is None or not x.dtype.is_float:
        return [None]
    around = [(k - 1) * d for k, d in zip(a.size, a.dilation, strict=True)]
    full = [n + more for n, more in zip(x.shape[2:], around, strict=True)]
    spread = pad_with(g, (0, 0, *around), (*x.shape[:2], *full), (1, 1, *a.stride))
    ones = (1,) * len(a.size)
    return [make1(WINDOW_SUM, (spread,), Window(a.size, ones, a.dilation))]


# --- the ops --------------------------------------------------------------------------


MAX_POOL = register(
    Op(
        name="max_pool",
        attrs=Window,
        infer=_infer,
        evaluate=lambda arrays, m: _flat_windows(arrays[0], m.attrs).max(axis=-1),
        gradient=_max_gradient,
        lower=Reduction("max", _extents, _rule),
        doc="y = largest x of each window, NaN if any is;  dx = g at the first maximum",
        guards=_guards,
        batch=_batch,
    )
)

MAX_POOL_INDEX = register(
    Op(
        name="max_pool_index",
        attrs=Window,
        infer=_index_infer,
        evaluate=_index_value,
        gradient=NonDifferentiable("it is an index"),
        lower=Reduction("argmax", _extents, _rule, _position),
        doc="y = where the first largest x of each window is, row-major in the spatial "
        "axes of x",
        guards=_guards,
        batch=_batch,
    )
)

WINDOW_SUM = register(
    Op(
        name="window_sum",
        attrs=Window,
        infer=_infer,
        evaluate=lambda arrays, m: _flat_windows(arrays[0], m.attrs).sum(
            axis=-1, dtype=arrays[0].dtype
        ),
        gradient=_sum_gradient,
        lower=Reduction("sum", _extents, _rule),
        doc="y = sum of x over each window;  dx = window_sum of g, spread out",
        guards=_guards,
        batch=_batch,
    )
)
