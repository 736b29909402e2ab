"""Reading `x[...]` as NumPy does: slices, ints, None, Ellipsis, integer arrays.

    x[1:, ::-1, 0]          slice, flip, reshape
    x[rows, :, columns]     gather, and NumPy's rule for where the new axes stand

A key is read once into a `Key`; reading is `getitem`, writing to the same places is
in `update.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Dim, Size, prove_le
from graphc.ir.nodes import Tensor, explain, make1
from graphc.ir.op import FUNCTIONS, public
from graphc.ir.types import Shape, bool_
from graphc.ops.batching import move_axes
from graphc.ops.broadcast import broadcast_shapes, broadcast_to
from graphc.ops.creation import constant
from graphc.ops.gather import GATHER, Points
from graphc.ops.indexing import TAKE, Along, as_indices
from graphc.ops.shape import SLICE, Slices, reshape


@dataclass(frozen=True, slots=True)
class Key:
    """A key, read for one shape.

    slices, reverse: the range of each axis, and the axes that run backwards. sub: the
    shape after those, axes of ints dropped. axes, indices: the axes of `sub` that
    arrays name, and the arrays, all of one shape. front: before which other axis of
    `sub` theirs stand. shape: of the result.
    """

    slices: Slices
    reverse: tuple[int, ...]
    sub: Shape
    axes: tuple[int, ...]
    indices: tuple[Tensor, ...]
    front: int
    shape: Shape

    @property
    def inner(self) -> Shape:
        """The shape of the arrays."""
        return self.indices[0].shape if self.indices else ()

    @property
    def points(self) -> Shape:
        """The shape of what the arrays read, their axes first."""
        rest = (s for i, s in enumerate(self.sub) if i not in self.axes)
        return (*self.inner, *rest)


@public
def getitem(x: Any, key: Any) -> Tensor:
    """Read `x[key]`: ints, slices, None, Ellipsis, and arrays of integers.

    Shapes:  x [N, D]: x[0] -> [D]; x[:, 1:3] -> [N, 2]; x[:, None] -> [N, 1, D];
             x[::-1] -> [N, D]; x[rows i32[M], columns i32[M]] -> [M]
    Math:    dx = g placed into zeros, summed where arrays read an element twice
    Arrays broadcast together. Their axes stand where the first of them stands, or
    first where a slice or None stands between them, as in NumPy. In arrays a negative
    index counts from the end and one out of range is clamped.
    Raises:  ArgumentError for another kind of index, ShapeError for an int that is
             out of range, alone or in a list; a range that depends on a symbolic size
             is checked when sizes are bound.
    """
    tensor = constant(x)
    try:
        found = read_key(tensor, key)
    except (ArgumentError, DTypeError, ShapeError) as error:
        raise explain(error, "slice", [tensor]) from None
    return read_points(read_slices(tensor, found), found)


def read_slices(x: Tensor, key: Key) -> Tensor:
    """Return the part of a tensor that a key's slices and ints name."""
    a = key.slices
    whole = ((0,) * x.ndim, x.shape, (1,) * x.ndim)
    if (a.start, a.shape, a.step) != whole:
        x = make1(SLICE, (x,), a)
    if key.reverse:
        x = FUNCTIONS["flip"](x, key.reverse)
    return reshape(x, key.sub if key.indices else key.shape)


def read_points(x: Tensor, key: Key) -> Tensor:
    """Return what a key's arrays read from the part that its slices name."""
    if not key.indices:
        return x
    count = len(key.inner)
    if len(key.indices) == 1:
        (at,) = key.axes
        found = make1(TAKE, (x, *key.indices), Along(at))
    else:
        at, found = 0, make1(GATHER, (x, *key.indices), Points(key.axes))
    if at != key.front:
        found = move_axes(found, at, count, key.front)
    return reshape(found, key.shape)


# --- reading a key ------------------------------------------------------------------


def read_key(x: Tensor, key: Any) -> Key:
    """Read a key for a tensor. Errors name the tensor as {0}."""
    keys = _spread(list(key) if isinstance(key, tuple) else [key], x.ndim)
    ranges: list[tuple[Size, Size, int]] = []  # of each axis of x
    sub: list[Size] = []
    named: dict[int, Tensor] = {}  # axis of sub -> array
    others: list[Size] = []  # the axes of the result, but those of the arrays
    advanced: list[int] = []  # the places of arrays and ints in the key
    front = 0
    reverse = []
    for place, k in enumerate(keys):
        if k is None:
            others.append(1)
            continue
        if k is Ellipsis:
            continue
        axis, size = len(ranges), x.shape[len(ranges)]
        if isinstance(k, slice):
            first, count, by = _slice_range(k, size)
            if by < 0:
                reverse.append(axis)
                first, by = 0 if count == 0 else first + (count - 1) * by, -by
            ranges.append((first, count, by))
            others.append(count)
            sub.append(count)
            continue
        if not advanced:
            front = len(others)
        advanced.append(place)
        if _is_array(k):
            named[len(sub)] = _index_array(k, size)
            sub.append(size)
            ranges.append((0, size, 1))
        else:
            ranges.append((_int_index(k, size), 1, 1))
    if not _neighbours(advanced):
        front = 0
    inner = broadcast_shapes(*(t.shape for t in named.values())) if named else ()
    # Among the axes of the result that come before the arrays', None is one that is
    # not in `sub`; those are put in at the end.
    shape = (*others[:front], *inner, *others[front:])
    before = [k for k in keys[: advanced[0]] if isinstance(k, slice)] if front else []
    start, shapes, steps = zip(*ranges, strict=True) if ranges else ((), (), ())
    return Key(
        Slices(start, shapes, steps),
        tuple(reverse),
        tuple(sub),
        tuple(named),
        tuple(broadcast_to(t, inner) for t in named.values()),
        len(before),
        shape,
    )


def _spread(keys: list[Any], ndim: int) -> list[Any]:
    """Put a full slice for each axis that the Ellipsis or the end stands for."""
    wanted = sum(k is not None and k is not Ellipsis for k in keys)
    if wanted > ndim:
        raise ArgumentError(f"{wanted} indices for {{0}}, which has {ndim} axes")
    dots = [i for i, k in enumerate(keys) if k is Ellipsis]
    if len(dots) > 1:
        raise ArgumentError("only one Ellipsis is allowed")
    if dots and wanted == ndim:  # it stands for nothing, but still stands between
        return keys
    at = dots[0] if dots else len(keys)
    return [*keys[:at], *[slice(None)] * (ndim - wanted), *keys[at + 1 :]]


def _neighbours(places: Sequence[int]) -> bool:
    return not places or places[-1] - places[0] + 1 == len(places)


def _is_array(k: Any) -> bool:
    return isinstance(k, (Tensor, list, bool, np.bool_)) or (
        isinstance(k, np.ndarray) and (k.ndim > 0 or k.dtype.kind != "i")
    )


def _index_array(k: Any, size: Size) -> Tensor:
    """Return an array of indices of an axis as a tensor of integers."""
    empty = isinstance(k, list) and not k
    found = as_indices(np.array(k, np.int32) if empty else k, size)
    if found.dtype is bool_:
        raise DTypeError(
            "an index cannot be a boolean mask: how many elements it selects is known "
            "only when it runs",
            help="use graphc.where(mask, x, other), which keeps the shape",
        )
    if found.dtype.kind != "i":
        raise DTypeError(
            f"an index must be of integers, not {found.dtype}", help="cast it"
        )
    return found


def _int_index(k: Any, size: Size) -> Size:
    if isinstance(k, np.ndarray) and k.ndim == 0:
        k = k.item()
    if isinstance(k, Dim):
        return k
    if not isinstance(k, (int, np.integer)):
        raise ArgumentError(
            "an index must be an int, a slice, None, Ellipsis or an array of "
            f"integers, not {k!r}",
        )
    first = _wrap(int(k), size)
    if prove_le(first + 1, size) is False or prove_le(0, first) is False:
        raise ShapeError(f"index {k} is out of range for an axis of size {size}")
    return first


def _wrap(index: int, size: Size) -> Size:
    return index if index >= 0 else size + index


def _slice_range(k: slice, size: Size) -> tuple[Size, Size, int]:
    """Return the first index, the number of elements and the step of a slice."""
    by = 1 if k.step is None else k.step
    if isinstance(by, (bool, Dim)) or not isinstance(by, (int, np.integer)) or by == 0:
        raise ArgumentError(f"a slice's step must be an int that is not 0, not {by!r}")
    by = int(by)
    for bound in (k.start, k.stop):
        if bound is not None and not isinstance(bound, (int, np.integer, Dim)):
            raise ArgumentError(
                f"a slice's bounds must be ints, not {bound!r}",
                help="use graphc.dynamic_slice where they are computed"
                if isinstance(bound, Tensor)
                else "",
            )
    if isinstance(size, int) and not any(isinstance(b, Dim) for b in (k.start, k.stop)):
        at, end, by = k.indices(size)
        return at, len(range(at, end, by)), by
    low, high = (0, size) if by > 0 else (size - 1, -1)
    first = low if k.start is None else _bound(k.start, size)
    last = high if k.stop is None else _bound(k.stop, size)
    length = last - first if by > 0 else first - last
    count = length if abs(by) == 1 else (length + abs(by) - 1) // abs(by)
    if prove_le(length, 0):
        count = 0
    return first, count, by


def _bound(value: Any, size: Size) -> Size:
    return value if isinstance(value, Dim) else _wrap(int(value), size)
