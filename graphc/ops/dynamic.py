"""Slices that start where a tensor says: dynamic_slice, dynamic_update_slice.

Their sizes are fixed, so the result has a shape; a start that leaves too little room
is moved back until the slice fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size, prove_le
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import Check, Meaning, Op, Pointwise, Site, Types, public, register
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import Shape, TensorType, as_shape, int32, int64
from graphc.ops.arithmetic import maximum, minimum, where
from graphc.ops.batching import align, lead
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, concrete, constant, dim, full, iota, zeros
from graphc.ops.gather import GATHER, Points
from graphc.ops.shape import reshape


@dataclass(frozen=True, slots=True)
class Window:
    """The shape of the slice."""

    shape: Shape


def _check(types: Types, first: int, shape: Shape) -> None:
    """Check the starts, which are the inputs from `first` on, and a slice's shape."""
    x, starts = types[0], types[first:]
    if len(starts) != x.ndim or len(shape) != x.ndim:
        raise ShapeError(
            f"{len(starts)} starts and {len(shape)} sizes for {{0}}, which has "
            f"{x.ndim} axes",
            help="give one of each for each axis",
        )
    for i, t in enumerate(starts, first):
        if t.shape != () or t.dtype.kind != "i":
            raise DTypeError(f"a start must be an integer scalar, {{{i}}} is {t}")
    for axis, (size, n) in enumerate(zip(x.shape, shape, strict=True)):
        if prove_le(n, size) is False:
            raise ShapeError(f"a slice of {n} from axis {axis} of {{0}}, which is {x}")


def _fits(x: Shape, window: Shape) -> list[tuple[Size, Size]]:
    """Return what must hold of the sizes; a slice of nothing has no place to start."""
    pairs = zip(x, window, strict=True)
    return [p for size, n in pairs for p in ((size, n), (n, 1))]


def _start(index: Expr, size: Size, n: Size) -> Expr:
    """Return where a slice of n starts: negative wraps, then it is moved to fit."""
    wide, zero = cast_expr(index, int64), const(0, int64)
    wrapped = apply("select", wide < zero, wide + size_of(size), wide)
    last = size_of(size) - size_of(n)
    return apply("maximum", apply("minimum", wrapped, last), zero)


def _np_starts(starts: Any, shape: Sequence[int], window: Sequence[int]) -> Any:
    found = []
    for start, size, n in zip(starts, shape, window, strict=True):
        at = int(start) + size if start < 0 else int(start)
        found.append(max(min(at, size - n), 0))
    return tuple(slice(at, at + n) for at, n in zip(found, window, strict=True))


def _starts_in_range(
    starts: Sequence[Tensor], shape: Shape, window: Shape
) -> list[Check]:
    found = []
    for axis, (start, size, n) in enumerate(zip(starts, shape, window, strict=True)):
        wide = cast(start, int64)
        # One that counts from the end must leave room as well.
        at = where(wide < 0, wide + dim(size), wide)
        ok = (at >= 0) & (at <= dim(size) - dim(n))
        message = (
            f"start {{value}} is out of range for a slice of {{1}} from axis {axis}, "
            "which has size {0}"
        )
        found.append(Check(ok, start, message, (size, n)))
    return found


def _places(starts: Sequence[Tensor], shape: Shape, window: Shape) -> list[Tensor]:
    """Return `_start` of batched starts, as tensors [B, 1, ...]."""
    found = []
    for start, size, n in zip(starts, shape, window, strict=True):
        wide = cast(start, int64)
        wrapped = where(wide < 0, wide + dim(size), wide)
        at = maximum(minimum(wrapped, dim(size - n)), full((), 0, int64))
        found.append(reshape(at, (at.shape[0], *(1,) * len(shape))))
    return found


# --- dynamic_slice ------------------------------------------------------------------


def _slice_infer(types: Types, attrs: Window) -> TensorType:
    _check(types, 1, attrs.shape)
    return types[0].with_shape(attrs.shape)


def _slice_value(arrays: Any, meaning: Meaning) -> Any:
    x, *starts = arrays
    return x[_np_starts(starts, x.shape, concrete(meaning.attrs.shape, meaning))].copy()


def _slice_lower(site: Site) -> Expr:
    sizes = zip(site.types[0].shape, site.attrs.shape, strict=True)
    starts = [_start(site.load(k + 1, ()), *pair) for k, pair in enumerate(sizes)]
    return site.load(0, [s + i for s, i in zip(starts, site.index, strict=True)])


def _slice_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, *starts = node.inputs
    none = [None] * len(starts)
    if g is None or not x.dtype.is_float:
        return [None, *none]
    return [make1(UPDATE, (zeros(x.shape, g.dtype), g, *starts)), *none]


def _slice_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    x, *starts = inputs
    shape = node.attrs.shape
    if not any(batched[1:]):
        attrs = Window((size, *shape))
        return [make1(SLICE, (x, full((), 0, int32), *starts), attrs)]
    whole = node.inputs[0].shape
    places = _places(align(starts, batched[1:], size), whole, shape)
    indices = [
        broadcast_to(at + iota((1, *shape), axis + 1, int64), (size, *shape))
        for axis, at in enumerate(places)
    ]
    shared = int(batched[0])
    axes = tuple(a + shared for a in range(len(shape)))
    return [make1(GATHER, (x, *indices), Points(axes, shared))]


SLICE = register(
    Op(
        name="dynamic_slice",
        attrs=Window,
        infer=_slice_infer,
        evaluate=_slice_value,
        gradient=_slice_gradient,
        lower=Pointwise(_slice_lower),
        doc="y[i] = x[start + i], the start moved to fit;  dx = g placed there",
        guards=lambda types, a: _fits(types[0].shape, a.shape),
        batch=_slice_batch,
        checks=lambda node: _starts_in_range(
            node.inputs[1:], node.inputs[0].shape, node.attrs.shape
        ),
    )
)


@public
def dynamic_slice(x: Any, starts: Any, sizes: Any) -> Tensor:
    """Read a slice of fixed sizes that starts where integer tensors say.

    starts: an integer scalar for each axis, or one integer vector. sizes: an int or a
    symbolic size for each axis.

    Shapes:  x [N, D], starts (i32[], i32[]), sizes (2, 3) -> [2, 3]
    Math:    y[i, j] = x[s + i, t + j];  dx = g placed into zeros
    A negative start counts from the end; one that leaves too little room is moved
    back until the slice fits, as in JAX.
    Raises:  ShapeError for a slice larger than x, or not one start and size for each
             axis; DTypeError if a start is no integer.
    Example:
        >>> import graphc
        >>> x, at = graphc.input("x", (5,)), graphc.input("at", (), "int32")
        >>> y = graphc.dynamic_slice(x, [at], (2,))
        >>> graphc.evaluate(y, {x: [0, 1, 2, 3, 4], at: 4}).tolist()
        [3.0, 4.0]
    """
    tensor = constant(x)
    inputs = (tensor, *_as_starts("dynamic_slice", tensor, starts))
    try:
        shape = as_shape(sizes)
    except ArgumentError as error:
        raise explain(error, "dynamic_slice", [tensor]) from None
    return make1(SLICE, inputs, Window(shape))


def _as_starts(what: str, x: Tensor, starts: Any) -> list[Tensor]:
    if isinstance(starts, (tuple, list)):
        return [constant(s) for s in starts]
    vector = constant(starts)
    if vector.ndim == 0:
        return [vector]
    if vector.ndim != 1 or not isinstance(vector.shape[0], int):
        error = ShapeError(
            "the starts {1} must be a vector of known length", help="or a list"
        )
        raise explain(error, what, [x, vector])
    return [vector[i] for i in range(vector.shape[0])]


# --- dynamic_update_slice -----------------------------------------------------------


def _update_infer(types: Types, _: Any) -> TensorType:
    x, update = types[:2]
    if update.dtype is not x.dtype:
        raise DTypeError(f"{{1}} {update} and {{0}} {x} have other dtypes")
    _check(types, 2, update.shape)
    return x


def _update_value(arrays: Any, meaning: Meaning) -> Any:
    x, update, *starts = arrays
    found = x.copy()
    found[_np_starts(starts, x.shape, update.shape)] = update
    return found


def _update_lower(site: Site) -> Expr:
    x, update = site.types[:2]
    zero, one = const(0, int64), const(1, int64)
    inside: Expr | None = None
    index = []
    sizes = zip(site.index, x.shape, update.shape, strict=True)
    for k, (i, size, n) in enumerate(sizes):
        if n == size:
            index.append(i)
            continue
        at = i - _start(site.load(k + 2, ()), size, n)
        test = apply("logical_and", at >= zero, at < size_of(n))
        inside = test if inside is None else apply("logical_and", inside, test)
        index.append(apply("maximum", apply("minimum", at, size_of(n) - one), zero))
    new = site.load(1, index)
    if inside is None:
        return new
    return apply("select", inside, new, site.load(0, site.index))


def _update_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, update, *starts = node.inputs
    none = [None] * len(starts)
    if g is None or not x.dtype.is_float:
        return [None, None, *none]
    return [
        make1(UPDATE, (g, zeros(update.shape, g.dtype), *starts)),
        make1(SLICE, (g, *starts), Window(update.shape)),
        *none,
    ]


def _update_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    x, update, *starts = inputs
    x = x if batched[0] else lead(x, size)
    if not any(batched[2:]):
        update = update if batched[1] else lead(update, size)
        return [make1(UPDATE, (x, update, full((), 0, int32), *starts))]
    # Each element asks: where in the update am I, and is that inside?
    shape, window = x.shape, node.inputs[1].shape
    inside: Tensor | None = None
    indices = []
    places = _places(align(starts, batched[2:], size), shape[1:], window)
    for axis, (at, n) in enumerate(zip(places, window, strict=True)):
        local = broadcast_to(iota((1, *shape[1:]), axis + 1, int64) - at, shape)
        test = (local >= 0) & (local < dim(n))
        inside = test if inside is None else inside & test
        indices.append(maximum(local, full((), 0, int64)))
    if inside is None:
        return [update if batched[1] else lead(update, size)]
    shared = int(batched[1])
    axes = tuple(a + shared for a in range(len(window)))
    new = make1(GATHER, (update, *indices), Points(axes, shared))
    return [where(inside, new, x)]


UPDATE = register(
    Op(
        name="dynamic_update_slice",
        infer=_update_infer,
        evaluate=_update_value,
        gradient=_update_gradient,
        lower=Pointwise(_update_lower),
        doc="y = x, y[start + i] = u[i], the start moved to fit;  "
        "dx = g, 0 where u went, du = g read there",
        guards=lambda types, a: _fits(types[0].shape, types[1].shape),
        batch=_update_batch,
        checks=lambda node: _starts_in_range(
            node.inputs[2:], node.inputs[0].shape, node.inputs[1].shape
        ),
    )
)


@public
def dynamic_update_slice(x: Any, update: Any, starts: Any) -> Tensor:
    """Return x with a slice replaced that starts where integer tensors say.

    starts: an integer scalar for each axis, or one integer vector.

    Shapes:  x [N, D], update [2, 3], starts (i32[], i32[]) -> [N, D]
    Math:    y = x, y[s + i, t + j] = u[i, j]
    A negative start counts from the end; one that leaves too little room is moved
    back until the update fits, as in JAX.
    Raises:  ShapeError for an update larger than x, or not one start for each axis;
             DTypeError if a start is no integer.
    Example:
        >>> import graphc
        >>> x, at = graphc.zeros((4,)), graphc.input("at", (), "int32")
        >>> y = graphc.dynamic_update_slice(x, [1.0, 2.0], at)
        >>> graphc.evaluate(y, {at: 1}).tolist()
        [0.0, 1.0, 2.0, 0.0]
    """
    tensor = constant(x)
    python = not isinstance(update, Tensor)
    new = constant(update, tensor.dtype if python else None)
    found = _as_starts("dynamic_update_slice", tensor, starts)
    return make1(UPDATE, (tensor, cast(new, tensor.dtype), *found))
