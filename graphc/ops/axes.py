"""Axes added, dropped, moved, joined and repeated; all by reshape and its kin.

stack, split            several tensors along an axis
expand_dims, squeeze    axes of size 1
moveaxis, swapaxes      axes in another order
ravel, flatten          one axis of all
tile, repeat            elements several times
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Dim, Size
from graphc.ir.nodes import Tensor, explain
from graphc.ir.op import public
from graphc.ir.origins import here
from graphc.ir.types import as_size
from graphc.ops.broadcast import as_tensors, broadcast_to
from graphc.ops.creation import constant
from graphc.ops.indexing import take
from graphc.ops.reduction import normal_axes
from graphc.ops.shape import concatenate, reshape, transpose

# --- axes of size 1 -----------------------------------------------------------------


def places(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes as non-negative ints in the order given.

    Raises:  ArgumentError for an axis out of range or given twice.
    """
    normal_axes(axis, ndim)
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    return tuple(int(a) % ndim for a in given)


@public
def expand_dims(x: Any, axis: Any) -> Tensor:
    """Insert axes of size 1; `axis` says where they stand in the result.

    Shapes:  x [N, D], axis=1 -> [N, 1, D];  axis=(0, -1) -> [1, N, D, 1]
    Raises:  ArgumentError for an axis out of range or given twice.
    """
    tensor = constant(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    try:
        new = normal_axes(axis if count else (), tensor.ndim + count)
    except ArgumentError as error:
        raise explain(error, "expand_dims", [tensor]) from None
    sizes = iter(tensor.shape)
    ndim = tensor.ndim + count
    return reshape(tensor, tuple(1 if i in new else next(sizes) for i in range(ndim)))


@public
def squeeze(x: Any, axis: Any = None) -> Tensor:
    """Drop axes of size 1: those named, or all of them.

    Shapes:  x [N, 1, D] -> [N, D]
    Raises:  ShapeError for an axis whose size is not 1; ArgumentError for one that is
             out of range.
    """
    tensor = constant(x)
    try:
        gone = normal_axes(axis, tensor.ndim)
        if axis is None:
            gone = tuple(i for i, s in enumerate(tensor.shape) if s == 1)
        for i in gone:
            if tensor.shape[i] != 1:
                raise ShapeError(
                    f"{{0}}[{i}] has the size {tensor.shape[i]}, not 1",
                    help="only axes of size 1 can be dropped; use x[:, 0] or a "
                    "reduction for others",
                )
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "squeeze", [tensor]) from None
    kept = tuple(s for i, s in enumerate(tensor.shape) if i not in gone)
    return reshape(tensor, kept)


# --- the order of axes --------------------------------------------------------------


@public
def moveaxis(x: Any, source: Any, destination: Any) -> Tensor:
    """Move axes to other places; the others keep their order.

    Shapes:  x [N, H, W, C], source=-1, destination=1 -> [N, C, H, W]
    Raises:  ArgumentError for axes out of range, given twice, or not as many places.
    """
    tensor = constant(x)
    try:
        start, end = (places(a, tensor.ndim) for a in (source, destination))
        if len(start) != len(end):
            raise ArgumentError(
                f"{len(start)} axes of {{0}} cannot move to {len(end)} places"
            )
    except ArgumentError as error:
        raise explain(error, "moveaxis", [tensor]) from None
    order = [i for i in range(tensor.ndim) if i not in start]
    for to, axis in sorted(zip(end, start, strict=True)):
        order.insert(to, axis)
    return transpose(tensor, tuple(order))


@public
def swapaxes(x: Any, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    Shapes:  x [N, T, D], 1, 2 -> [N, D, T]
    Raises:  ArgumentError for an axis out of range.
    """
    tensor = constant(x)
    try:
        (a,), (b,) = (places(i, tensor.ndim) for i in (axis1, axis2))
    except ArgumentError as error:
        raise explain(error, "swapaxes", [tensor]) from None
    order = list(range(tensor.ndim))
    order[a], order[b] = b, a
    return transpose(tensor, tuple(order))


@public
def ravel(x: Any) -> Tensor:
    """Join all axes to one, in row-major order.

    Shapes:  x [N, 2, 3] -> [6*N];  x [] -> [1]
    """
    return reshape(x, (-1,))


@public
def flatten(x: Any) -> Tensor:
    """Join all axes to one; the same as `ravel`."""
    return reshape(x, (-1,))


# --- several tensors ----------------------------------------------------------------


@public
def stack(arrays: Any, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis.

    Shapes:  [N, D], [N, D], axis=1 -> [N, 2, D]
    Raises:  ShapeError if shapes differ, ArgumentError for none.
    """
    tensors = as_tensors(list(arrays))
    if not tensors:
        raise ArgumentError("stack: needs at least one tensor", where=here().quoted)
    first = tensors[0]
    try:
        (at,) = normal_axes(axis, first.ndim + 1)
        for i, t in enumerate(tensors):
            if t.shape != first.shape:
                raise ShapeError(
                    f"shapes differ: {{0}} {first.type}, {{{i}}} {t.type}",
                    help="all must have one shape; use concatenate to join along "
                    "an axis that is there",
                )
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "stack", tensors) from None
    return concatenate([expand_dims(t, at) for t in tensors], at)


@public
def split(x: Any, indices_or_sections: Any, axis: int = 0) -> list[Tensor]:
    """Cut a tensor along an axis, into equal pieces or at indices.

    Shapes:  x [6, D], 3 -> three of [2, D];  x [6, D], [1, 4] -> [1, D], [3, D], [2, D]
    Raises:  ShapeError if the axis is not provably a multiple of the sections;
             ArgumentError for no positive number of them, or an axis out of range.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", "4*D"))
        >>> [str(g.type) for g in graphc.split(x, 4, axis=1)]
        ['f32[N,D]', 'f32[N,D]', 'f32[N,D]', 'f32[N,D]']
    """
    tensor = constant(x)
    try:
        (at,) = normal_axes(axis, tensor.ndim)
        cuts = _cuts(tensor.shape[at], indices_or_sections, at)
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "split", [tensor]) from None
    before = (slice(None),) * at
    ends = [None, *cuts, None]
    return [tensor[(*before, slice(a, b))] for a, b in itertools.pairwise(ends)]


def _cuts(size: Size, given: Any, axis: int) -> list[Any]:
    """Return where an axis is cut."""
    if isinstance(given, (Sequence, np.ndarray)) and not isinstance(given, str):
        return [i if isinstance(i, Dim) else int(i) for i in given]
    if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < 1:
        raise ArgumentError(
            f"the sections of {{0}} must be a positive int, or a list of indices, "
            f"not {given!r}"
        )
    length = size // int(given)
    if length * int(given) != size:
        raise ShapeError(
            f"{{0}}[{axis}]={size} is not a multiple of {given}",
            help="give the indices to cut at"
            if isinstance(size, int)
            else f'declare the axis as a multiple, such as "{given}*M", or give the '
            "indices to cut at",
        )
    return [length * i for i in range(1, int(given))]


# --- repetition ---------------------------------------------------------------------


@public
def tile(x: Any, reps: Any) -> Tensor:
    """Lay copies of a tensor beside each other, `reps` of them along each axis.

    Shapes:  x [N, D], (2, 3) -> [2*N, 3*D];  the shorter of shape and reps gets ones
             in front
    Raises:  ArgumentError for a negative number of copies.
    """
    tensor = constant(x)
    given = list(reps) if isinstance(reps, (tuple, list, np.ndarray)) else [reps]
    try:
        counts: list[Size] = [as_size(r) for r in given]
    except ArgumentError as error:
        raise explain(error, "tile", [tensor]) from None
    ndim = max(len(counts), tensor.ndim)
    counts = [*[1] * (ndim - len(counts)), *counts]
    shape = [*[1] * (ndim - tensor.ndim), *tensor.shape]
    apart = [s for size in shape for s in (1, size)]
    wide = [s for pair in zip(counts, shape, strict=True) for s in pair]
    repeated = broadcast_to(reshape(tensor, apart), wide)
    return reshape(repeated, [c * s for c, s in zip(counts, shape, strict=True)])


@public
def repeat(x: Any, repeats: Any, axis: int | None = None) -> Tensor:
    """Repeat each element, or each slice along an axis (None: of x flattened).

    repeats: an int, or a number for each slice, which are known numbers.

    Shapes:  x [N, D], 2, axis=1 -> [N, 2*D];  x [3, D], [1, 0, 2], axis=0 -> [3, D]
    Raises:  ArgumentError for a negative number, ShapeError unless there is one for
             each slice.
    """
    tensor = constant(x)
    if axis is None:
        tensor, axis = ravel(tensor), 0
    try:
        (at,) = normal_axes(axis, tensor.ndim)
        size = tensor.shape[at]
        if isinstance(repeats, (tuple, list, np.ndarray)) and np.ndim(repeats) == 1:
            counts = [as_size(r) for r in repeats]
            if len(counts) != size:
                raise ShapeError(
                    f"{len(counts)} numbers of repeats for {{0}}[{at}]={size}",
                    help="give one number for each slice, or one for all",
                )
            rows = np.repeat(np.arange(len(counts), dtype=np.int32), repeats)
            return take(tensor, constant(rows), at)
        count = as_size(repeats)
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "repeat", [tensor]) from None
    before, after = tensor.shape[: at + 1], tensor.shape[at + 1 :]
    wide = broadcast_to(expand_dims(tensor, at + 1), (*before, count, *after))
    return reshape(wide, (*tensor.shape[:at], size * count, *after))
