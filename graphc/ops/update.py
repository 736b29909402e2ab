"""Writing by index: scatter_add, put_along_axis, index_add, index_update.

Nothing is changed in place: each returns a new tensor. What adds is `x` plus the
gradient of reading; what overwrites is the op `set_at`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size, product
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Tensor, explain, make1, topological
from graphc.ir.op import (
    Meaning,
    Op,
    ScatterAdd,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr
from graphc.ir.types import TensorType, float32, int32, int64
from graphc.ops.along import paired
from graphc.ops.arithmetic import where
from graphc.ops.batching import align, move_axes, move_axis, shift
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, constant, full, iota, ones, zeros
from graphc.ops.gather import (
    ADD_AT,
    GATHER,
    IntoPoints,
    Points,
    check_points,
    index_checks,
    join,
    np_index,
)
from graphc.ops.getitem import Key, read_key, read_slices
from graphc.ops.indexing import SCATTER_ADD, Scatter, as_indices, place
from graphc.ops.reduction import normal_axes
from graphc.ops.shape import reshape

# --- set_at -------------------------------------------------------------------------


def _set_infer(types: Types, attrs: Points) -> TensorType:
    x, updates = types[:2]
    wanted = check_points(x.shape, types[2:], attrs)
    if updates.shape != wanted or updates.dtype is not x.dtype:
        raise ShapeError(
            f"{{1}} {updates} must be {TensorType(x.dtype, wanted)}, to go into {{0}}"
        )
    return x


def _set_value(arrays: Any, meaning: Meaning) -> Any:
    x, updates, *indices = arrays
    found = x.copy()
    key = np.broadcast_arrays(*np_index(x.shape, indices, meaning.attrs))
    # One by one where places repeat, so that the last update wins.
    found[tuple(k.reshape(-1) for k in key)] = updates.reshape(-1)
    return found


def _set_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, updates, *indices = node.inputs
    none = [None] * len(indices)
    if g is None or not x.dtype.is_float:
        return [None, None, *none]
    blank = zeros(updates.shape, g.dtype)
    read = make1(GATHER, (g, *indices), node.attrs)
    wins = _wins(x, indices, node.attrs)
    if wins.ndim < read.ndim:
        ones_ = (1,) * (read.ndim - wins.ndim)
        wins = broadcast_to(reshape(wins, (*wins.shape, *ones_)), read.shape)
    return [
        make1(SET_AT, (g, blank, *indices), node.attrs),
        where(wins, read, 0.0),
        *none,
    ]


def _wins(x: Tensor, indices: Sequence[Tensor], attrs: Points) -> Tensor:
    """Return which updates stay: those that no later one overwrites.

    Each update writes its number; it stays if it then reads that number.
    """
    b, shape = attrs.batch, indices[0].shape
    count = product(shape[b:])
    numbers = reshape(iota((count,), dtype=int64), shape[b:])
    numbers = broadcast_to(numbers, shape)
    # Only the shared axes and those that indices name matter.
    sizes = (*x.shape[:b], *(x.shape[a] for a in attrs.axes))
    dense = Points(tuple(range(b, b + len(attrs.axes))), b)
    board = full(sizes, -1, int64)
    board = make1(SET_AT, (board, numbers, *indices), dense)
    found: Tensor = make1(GATHER, (board, *indices), dense) == numbers
    return found


def _set_target(site: Site, inner: tuple[Expr, ...]) -> tuple[Expr, ...]:
    a, x = site.attrs, site.types[0]
    shared, others = site.index[: a.batch], site.index[a.batch :]
    places = [
        place(site.load(k + 2, (*shared, *inner)), x.shape[axis])
        for k, axis in enumerate(a.axes)
    ]
    return join(shared, places, others, a)


def _set_element(site: Site, inner: tuple[Expr, ...]) -> Expr:
    b = site.attrs.batch
    return site.load(1, (*site.index[:b], *inner, *site.index[b:]))


def _set_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs
    if a.batch == 0 and not any(batched[2:]):
        x, updates = align(inputs[:2], batched[:2], size)
        updates = move_axis(updates, 0, inputs[2].ndim)
        return [make1(SET_AT, (x, updates, *inputs[2:]), Points(shift(a.axes)))]
    attrs = Points(shift(a.axes), a.batch + 1)
    return [make1(SET_AT, align(inputs, batched, size), attrs)]


SET_AT = register(
    Op(
        name="set_at",
        attrs=Points,
        infer=_set_infer,
        evaluate=_set_value,
        gradient=_set_gradient,
        lower=ScatterAdd(
            lambda types, a: types[2].shape[a.batch :],
            _set_target,
            _set_element,
            parallel=lambda types, a: tuple(
                i for i in range(types[0].ndim) if i not in a.axes
            ),
            start=lambda site, index: site.load(0, index),
            accumulate=False,
        ),
        doc="y = x, y[i0[j], i1[j], r] = u[j, r], the last one stays;  "
        "dx = g, 0 at the places written, du = g read there",
        guards=lambda types, a: [(types[0].shape[i], 1) for i in a.axes],
        batch=_set_batch,
        checks=lambda node: index_checks(
            node.inputs[2:], node.inputs[0].shape, node.attrs
        ),
    )
)


# --- by an axis ---------------------------------------------------------------------


@public
def scatter_add(x: Any, indices: Any, updates: Any, axis: int = 0) -> Tensor:
    """Add updates to the slices of x that indices name along an axis.

    Shapes:  x [V, D], indices i32[N], updates [N, D], axis=0 -> [V, D]; updates
             broadcast to the shape of `take(x, indices, axis)`
    Math:    y = x, y[indices[i]] += updates[i];  dx = g, dupdates = g[indices]
    A negative index counts from the end; one out of range is clamped.
    Raises:  DTypeError if the indices are no integers, ShapeError if the updates do
             not broadcast.
    Example:
        >>> import graphc
        >>> y = graphc.scatter_add(graphc.zeros((3,)), [0, 2, 0], [1.0, 2.0, 5.0])
        >>> graphc.evaluate(y).tolist()
        [6.0, 0.0, 2.0]
    """
    tensor = constant(x)
    try:
        (at,) = normal_axes(axis, tensor.ndim)
        places = as_indices(indices, tensor.shape[at])
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "scatter_add", [tensor]) from None
    shape = (*tensor.shape[:at], *places.shape, *tensor.shape[at + 1 :])
    values = _values("scatter_add", tensor, updates, shape)
    found: Tensor = tensor + make1(
        SCATTER_ADD, (values, places), Scatter(at, tensor.shape)
    )
    return found


@public
def put_along_axis(x: Any, indices: Any, values: Any, axis: int | None) -> Tensor:
    """Return x with values put in along an axis, each at an index of its own.

    As NumPy's, but x stays as it is. The last of several values for one place stays.

    Shapes:  x [N, D], indices i32[N, K], values [N, K], axis=1 -> [N, D]
    Math:    y = x, y[i, indices[i, j]] = values[i, j]
    A negative index counts from the end; one out of range is clamped.
    Raises:  DTypeError if the indices are no integers, ShapeError if shapes do not
             fit.
    """
    tensor = constant(x)
    if axis is None:
        flat = reshape(tensor, (-1,))
        return reshape(put_along_axis(flat, indices, values, 0), tensor.shape)
    wide, places, at = paired("put_along_axis", tensor, indices, axis)
    if wide.shape != tensor.shape:
        error = ShapeError("the indices {1} have more elements beside the axis")
        raise explain(error, "put_along_axis", [tensor, places])
    new = _values("put_along_axis", tensor, values, places.shape)
    last = tensor.ndim - 1
    parts = [move_axis(t, at, last) if at != last else t for t in (wide, new, places)]
    found = make1(SET_AT, parts, Points((last,), last))
    return move_axis(found, last, at) if at != last else found


# --- by a key -----------------------------------------------------------------------


@public
def index_add(x: Any, key: Any, values: Any) -> Tensor:
    """Return x with values added at `x[key]`; an element named twice gets both.

    key: as in `x[key]`: ints, slices, None, Ellipsis, arrays of integers. values
    broadcast to the shape of `x[key]`.

    Shapes:  x [N, D], key (rows i32[M], 0), values [M] -> [N, D]
    Math:    y = x, y[key] += values;  dx = g, dvalues = g[key]
    Raises:  as `x[key]`; ShapeError if the values do not broadcast.
    Example:
        >>> import graphc
        >>> y = graphc.index_add(graphc.zeros((4,)), slice(None, None, 2), 3.0)
        >>> graphc.evaluate(y).tolist()
        [3.0, 0.0, 3.0, 0.0]
    """
    tensor = constant(x)
    found = _key("index_add", tensor, key)
    new = _values("index_add", tensor, values, found.shape)
    rows = _as_points(new, found)
    if found.indices:
        attrs = IntoPoints(found.axes, found.sub)
        rows = make1(ADD_AT, (rows, *found.indices), attrs)
    total: Tensor = tensor + _into_slices(rows, tensor, found)
    return total


@public
def index_update(x: Any, key: Any, values: Any) -> Tensor:
    """Return x with `x[key]` replaced by values.

    key: as in `x[key]`: ints, slices, None, Ellipsis, arrays of integers. values
    broadcast to the shape of `x[key]`. Where arrays name an element twice the last
    value stays.

    Shapes:  x [N, D], key (rows i32[M], 0), values [M] -> [N, D]
    Math:    y = x, y[key] = values;  dx = g, but 0 at the key;  dvalues = g[key]
    Raises:  as `x[key]`; ShapeError if the values do not broadcast.
    Example:
        >>> import graphc
        >>> y = graphc.index_update(graphc.zeros((3,)), -1, 7.0)
        >>> graphc.evaluate(y).tolist()
        [0.0, 0.0, 7.0]
    """
    tensor = constant(x)
    found = _key("index_update", tensor, key)
    new = _values("index_update", tensor, values, found.shape)
    rows = _as_points(new, found)
    if found.indices:
        part = read_slices(tensor, found)
        rows = make1(SET_AT, (part, rows, *found.indices), Points(found.axes))
    if rows.shape == tensor.shape and not found.reverse:
        return rows  # the slices name all of it
    mask = _into_slices(ones(rows.shape, int32), tensor, found)
    updated: Tensor = where(mask > 0, _into_slices(rows, tensor, found), tensor)
    return updated


def _key(what: str, x: Tensor, key: Any) -> Key:
    try:
        return read_key(x, key)
    except (ArgumentError, DTypeError, ShapeError) as error:
        raise explain(error, what, [x]) from None


def _values(what: str, x: Tensor, values: Any, shape: Any) -> Tensor:
    """Return what is written, of x's dtype and of this shape."""
    given = constant(values)
    kinds = "bif"
    if kinds.index(given.dtype.kind) > kinds.index(x.dtype.kind):
        raise explain(
            DTypeError(
                f"values of {given.dtype} do not fit {{0}}, which is {x.dtype}",
                help="cast one of them",
            ),
            what,
            [x],
        )
    tensor = cast(values, x.dtype) if values is given else constant(values, x.dtype)
    try:
        return broadcast_to(tensor, shape)
    except ShapeError as error:
        written = f"[{','.join(map(str, shape))}]"
        raise explain(
            ShapeError(
                f"values {tensor.type} do not broadcast to what is written, {written}",
                help=error.help,
            ),
            what,
            [x],
        ) from None


def _as_points(values: Tensor, key: Key) -> Tensor:
    """Return values, which have the shape of `x[key]`, in the order of `add_at`."""
    if not key.indices:
        return reshape(values, key.sub)
    front, count = key.front, len(key.inner)
    rest = [s for i, s in enumerate(key.sub) if i not in key.axes]
    tensor = reshape(values, (*rest[:front], *key.inner, *rest[front:]))
    return move_axes(tensor, front, count, 0)


def _into_slices(values: Tensor, like: Tensor, key: Key) -> Tensor:
    """Put values into zeros of a tensor's shape, where a key's slices say.

    That is the transpose of reading them: the gradients of those ops, which move
    elements and so serve any dtype. The chain is built on a stand-in of floats.
    """
    (stand_in,) = make_args([like.type.with_dtype(float32)])
    found = values
    for node in reversed(topological([reshape(read_slices(stand_in, key), key.sub)])):
        gradient: Any = node.op.gradient
        if not node.op.leaf:
            (found,) = gradient(node, [found])
    return found
