"""Moving elements: reshape, transpose, slices, concatenate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Dim, Size, product
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    Meaning,
    Op,
    Pointwise,
    Site,
    Types,
    View,
    public,
    register,
)
from graphc.ir.origins import here
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.types import Shape, TensorType, as_shape, as_size, int64
from graphc.ops.batching import batch_axis, shift
from graphc.ops.broadcast import as_tensors
from graphc.ops.creation import concrete, constant
from graphc.ops.reduction import normal_axes


@dataclass(frozen=True, slots=True)
class Reshape:
    """The new shape."""

    shape: Shape


@dataclass(frozen=True, slots=True)
class Permutation:
    """For each axis of the result, the axis of the input that it is."""

    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slices:
    """For each axis the first index, the number of elements, and the step."""

    start: tuple[Size, ...]
    shape: Shape
    step: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Axis:
    """The axis that is joined."""

    axis: int


# --- reshape ------------------------------------------------------------------------


def _reshape_infer(types: Types, attrs: Reshape) -> TensorType:
    (x,) = types
    if product(x.shape) != product(attrs.shape):
        raise ShapeError(
            f"{{0}} {x} has {product(x.shape)} elements, "
            f"the new shape {_brackets(attrs.shape)} has {product(attrs.shape)}",
            help="use -1 for the size that follows from the others",
        )
    return x.with_shape(attrs.shape)


def _brackets(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


RESHAPE = register(
    Op(
        name="reshape",
        attrs=Reshape,
        infer=_reshape_infer,
        evaluate=lambda arrays, m: arrays[0].reshape(concrete(m.attrs.shape, m)),
        gradient=lambda node, g: [
            None if g[0] is None else reshape(g[0], node.inputs[0].shape)
        ],
        lower=View(),
        doc="the same elements in the same order under another shape",
        moves=True,
        batch=lambda node, inputs, batched, size: [
            reshape(inputs[0], (size, *node.attrs.shape))
        ],
    )
)


@public
def reshape(x: Any, shape: Any) -> Tensor:
    """Give the elements another shape, in row-major order; -1 is worked out.

    Shapes:  x [N, 28, 28], shape (-1, 784) -> [N, 784]
    Raises:  ShapeError if the numbers of elements are not provably equal.
    """
    tensor = constant(x)
    given = [shape] if isinstance(shape, (int, str, Dim)) else list(shape)
    free = [i for i, s in enumerate(given) if isinstance(s, int) and s == -1]
    if len(free) > 1:
        raise explain(ArgumentError("only one -1 is allowed"), "reshape", [tensor])
    if free:
        rest = product(as_size(s) for i, s in enumerate(given) if i != free[0])
        total = product(tensor.shape)
        missing = total // rest if rest != 0 else 0
        given[free[0]] = missing
    target = as_shape(tuple(given))
    if target == tensor.shape:
        return tensor
    return make1(RESHAPE, (tensor,), Reshape(target))


# --- transpose ----------------------------------------------------------------------


def _transpose_infer(types: Types, attrs: Permutation) -> TensorType:
    (x,) = types
    if sorted(attrs.axes) != list(range(x.ndim)):
        raise ArgumentError(
            f"axes {list(attrs.axes)} are no permutation of the {x.ndim} axes of {{0}}"
        )
    return x.with_shape(x.shape[i] for i in attrs.axes)


def _transpose_lower(site: Site) -> Expr:
    source: list[Expr | None] = [None] * len(site.index)
    for out, axis in enumerate(site.attrs.axes):
        source[axis] = site.index[out]
    return site.load(0, [i for i in source if i is not None])


TRANSPOSE = register(
    Op(
        name="transpose",
        attrs=Permutation,
        infer=_transpose_infer,
        evaluate=lambda arrays, m: np.ascontiguousarray(
            np.transpose(arrays[0], m.attrs.axes)
        ),
        gradient=lambda node, g: [
            None
            if g[0] is None
            else transpose(g[0], tuple(np.argsort(node.attrs.axes).tolist()))
        ],
        lower=Pointwise(_transpose_lower, layout=True),
        doc="y[i, j] = x[j, i];  dx = the inverse permutation of g",
        moves=True,
        batch=lambda node, inputs, batched, size: [
            transpose(inputs[0], (0, *shift(node.attrs.axes)))
        ],
    )
)


@public
def transpose(x: Any, axes: Any = None) -> Tensor:
    """Permute the axes; without `axes`, reverse them.

    Shapes:  x [N, D] -> [D, N]
    Raises:  ArgumentError if axes is no permutation.
    """
    tensor = constant(x)
    order = tuple(reversed(range(tensor.ndim))) if axes is None else tuple(axes)
    try:
        normal_axes(order, tensor.ndim)
        if len(order) != tensor.ndim:
            raise ArgumentError(
                f"axes {list(order)} are no permutation of the {tensor.ndim} axes "
                "of {0}"
            )
    except ArgumentError as error:
        raise explain(error, "transpose", [tensor]) from None
    order = tuple(int(a) % tensor.ndim for a in order)
    if order == tuple(range(tensor.ndim)):
        return tensor
    return make1(TRANSPOSE, (tensor,), Permutation(order))


# --- slices -------------------------------------------------------------------------


def _slice_value(arrays: Any, meaning: Meaning) -> Any:
    shape = concrete(meaning.attrs.shape, meaning)
    start = concrete(meaning.attrs.start, meaning)
    key = tuple(
        slice(a, a + (n - 1) * s + 1 if n else a, s)
        for a, n, s in zip(start, shape, meaning.attrs.step, strict=True)
    )
    return np.ascontiguousarray(arrays[0][key])


def _slice_lower(site: Site) -> Expr:
    a = site.attrs
    return site.load(
        0,
        [
            i * const(step, int64) + size_of(start)
            for i, start, step in zip(site.index, a.start, a.step, strict=True)
        ],
    )


def _slice_infer(types: Types, attrs: Slices) -> TensorType:
    (x,) = types
    if not x.ndim == len(attrs.start) == len(attrs.shape) == len(attrs.step):
        raise ArgumentError(f"start, shape and step must be for {x.ndim} axes")
    if any(step < 1 for step in attrs.step):
        raise ArgumentError(f"steps must be positive: {list(attrs.step)}")
    return x.with_shape(attrs.shape)


def _slice_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs
    attrs = Slices((0, *a.start), (size, *a.shape), (1, *a.step))
    return [make1(SLICE, inputs, attrs)]


def _last(attrs: Slices, i: int) -> Size:
    """One past the last index that a slice reads."""
    return attrs.start[i] + (attrs.shape[i] - 1) * attrs.step[i] + 1


def _slice_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None]
    from graphc.ops.padding import pad_with

    x, a = node.inputs[0], node.attrs
    return [pad_with(g, a.start, x.shape, a.step)]


SLICE = register(
    Op(
        name="slice",
        attrs=Slices,
        infer=_slice_infer,
        evaluate=_slice_value,
        gradient=_slice_gradient,
        lower=Pointwise(_slice_lower, layout=True),
        doc="y[i] = x[start + i step];  dx = g placed into zeros",
        guards=lambda types, a: [
            pair
            for i, size in enumerate(types[0].shape)
            if (a.start[i], a.shape[i], a.step[i]) != (0, size, 1)
            for pair in ((size, _last(a, i)), (a.start[i], 0), (a.shape[i], 0))
        ],
        moves=True,
        batch=_slice_batch,
    )
)


# --- concatenate --------------------------------------------------------------------


def _concatenate_infer(types: Types, attrs: Axis) -> TensorType:
    first = types[0]
    if not 0 <= attrs.axis < first.ndim:
        raise ArgumentError(f"axis {attrs.axis} of {{0}}, which has {first.ndim} axes")
    total: Size = 0
    for i, t in enumerate(types):
        others = [
            (a, b)
            for k, (a, b) in enumerate(zip(first.shape, t.shape, strict=False))
            if k != attrs.axis and a != b
        ]
        if t.ndim != first.ndim or t.dtype is not first.dtype or others:
            raise ShapeError(
                f"{{0}} {first} and {{{i}}} {t} differ beside axis {attrs.axis}"
            )
        total = total + t.shape[attrs.axis]
    shape = list(first.shape)
    shape[attrs.axis] = total
    return first.with_shape(shape)


def _concatenate_lower(site: Site) -> Expr:
    axis = site.attrs.axis
    at = site.index[axis]
    zero, one = const(0, int64), const(1, int64)
    found: Expr | None = None
    end: Size = 0
    pieces = []
    for k, t in enumerate(site.types):
        size = t.shape[axis]
        local = at - size_of(end)
        inside = apply("maximum", apply("minimum", local, size_of(size) - one), zero)
        end = end + size
        index = list(site.index)
        index[axis] = inside
        pieces.append((end, site.load(k, index), size))
    for end, value, _ in reversed(pieces):
        found = (
            value if found is None else apply("select", at < size_of(end), value, found)
        )
    assert found is not None
    return found


def _concatenate_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    axis = node.attrs.axis
    start: Size = 0
    found = []
    for t in node.inputs:
        size = t.shape[axis]
        begin: list[Size] = [0] * t.ndim
        begin[axis] = start
        attrs = Slices(tuple(begin), t.shape, (1,) * t.ndim)
        found.append(None if g is None else make1(SLICE, (g,), attrs))
        start = start + size
    return found


CONCATENATE = register(
    Op(
        name="concatenate",
        attrs=Axis,
        infer=_concatenate_infer,
        evaluate=lambda arrays, m: np.concatenate(arrays, axis=m.attrs.axis),
        gradient=_concatenate_gradient,
        lower=Pointwise(_concatenate_lower, pieces=lambda attrs: int(attrs.axis)),
        doc="the inputs one after another along an axis;  each gets its slice of g",
        # A load beside the piece that is chosen is clamped into its buffer, which
        # therefore must not be empty.
        guards=lambda types, a: [(t.shape[a.axis], 1) for t in types],
        batch=batch_axis,
    )
)


@public
def concatenate(arrays: Any, axis: int = 0) -> Tensor:
    """Join tensors along an axis.

    Shapes:  [N, D], [M, D] -> [N + M, D]
    Raises:  ShapeError if they differ beside the axis, ArgumentError for none.
    """
    tensors = as_tensors(list(arrays))
    if not tensors:
        raise ArgumentError(
            "concatenate: needs at least one tensor", where=here().quoted
        )
    try:
        (at,) = normal_axes(axis, tensors[0].ndim)
    except ArgumentError as error:
        raise explain(error, "concatenate", tensors) from None
    tensors = [t for t in tensors if t.ndim <= at or t.shape[at] != 0] or tensors[:1]
    if len(tensors) == 1:
        return tensors[0]
    return make1(CONCATENATE, tensors, Axis(at))
