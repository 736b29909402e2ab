"""Tensors of counted values, and of one value in the shape of another tensor."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import Dim, maximum
from graphc.ir.nodes import Tensor, explain
from graphc.ir.origins import here
from graphc.ir.types import DTypeLike, as_dtype, as_size, float32, int32, int64
from graphc.ops.arithmetic import where
from graphc.ops.broadcast import broadcast_to, weak_dtype
from graphc.ops.creation import cast, constant, dim, full, iota
from graphc.ops.shape import reshape

# --- counted ------------------------------------------------------------------------


def arange(
    start: Any, stop: Any = None, step: Any = 1, dtype: DTypeLike | None = None
) -> Tensor:
    """Count from start (0 if it is the only number) up to, not including, stop.

    The numbers are known, or ints and dimensions such as `x.shape[0]`; then the step
    is a positive int.

    Shapes:  -> [ceil((stop - start) / step)]; int32, or float32 where one is a float
    Raises:  ArgumentError for a step of 0, or what is no number.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 3))
        >>> graphc.arange(x.shape[0]).type
        TensorType(i32[N])
        >>> graphc.evaluate(graphc.arange(1, 2, 0.25)).tolist()
        [1.0, 1.25, 1.5, 1.75]
    """
    if stop is None:
        start, stop = 0, start
    given = (start, stop, step)
    if any(isinstance(g, Dim) for g in given):
        return _symbolic_range(start, stop, step, dtype)
    if not all(isinstance(g, (int, float, np.integer, np.floating)) for g in given):
        raise ArgumentError(
            f"arange: start, stop and step must be numbers, not {given}",
            where=here().quoted,
            help="use graphc.iota, and compute with tensors",
        )
    if step == 0:
        raise ArgumentError("arange: the step is 0", where=here().quoted)
    whole = all(isinstance(g, (int, np.integer)) for g in given)
    kind = as_dtype(dtype) if dtype is not None else int32 if whole else float32
    count = len(np.arange(*given))
    if whole:
        return cast(_line(count, int(start), int(step)), kind)
    numbers = iota((count,), 0, kind if kind.is_float else float32)
    return cast(numbers * float(step) + float(start), kind)


def _symbolic_range(start: Any, stop: Any, step: Any, dtype: Any) -> Tensor:
    whole = isinstance(step, (int, np.integer)) and step >= 1
    if not whole or not all(
        isinstance(g, (Dim, int, np.integer)) for g in (start, stop)
    ):
        raise ArgumentError(
            f"arange: with a dimension among {(start, stop)}, start and stop must be "
            f"ints or dimensions and the step a positive int, not {step!r}",
            where=here().quoted,
        )
    count = (stop - start + int(step) - 1) // int(step)
    line = iota((count,), 0)
    if step != 1:
        line = line * int(step)
    if start != 0:
        line = line + (cast(dim(start), int32) if isinstance(start, Dim) else start)
    return cast(line, int32 if dtype is None else dtype)


def _line(count: int, start: int, step: int) -> Tensor:
    """Return start + i step; as int64 where an int32 would not hold it."""
    ends = (start, start + step * count)
    fits = all(-(2**31) <= e < 2**31 for e in ends)
    line = iota((count,), 0, int32 if fits else int64)
    if step != 1:
        line = line * step
    return line + start if start else line


def linspace(
    start: Any,
    stop: Any,
    num: Any = 50,
    endpoint: bool = True,
    dtype: DTypeLike | None = None,
) -> Tensor:
    """Return numbers at equal distances from start to stop.

    num: an int or a dimension. start and stop may be scalar tensors.

    Shapes:  -> [num]; float32, or float64 where start or stop is
    Math:    y_i = start + i (stop - start) / (num - 1), the last one exactly stop;
             divided by num without `endpoint`
    Raises:  ArgumentError for a negative number of elements.
    """
    try:
        count = as_size(num)
    except ArgumentError as error:
        raise ArgumentError(
            f"linspace: {error.message}", where=here().quoted, help=error.help
        ) from None
    kind = weak_dtype([start, stop])
    kind = kind if kind.is_float else float32
    first, last = (cast(constant(v), kind) for v in (start, stop))
    i = iota((count,), 0, kind)
    parts = maximum(count - 1, 1) if endpoint else count
    share = float(parts) if isinstance(parts, int) else cast(dim(parts), kind)
    y: Tensor = i * ((last - first) / share) + first
    if endpoint:
        y = where(i == share, last, y)
    return y if dtype is None else cast(y, dtype)


# --- in the shape of another --------------------------------------------------------


def full_like(x: Any, fill_value: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Return a tensor with one value everywhere, of the shape and dtype of another.

    Shapes:  x [...] -> [...]
    Example:
        >>> import graphc
        >>> graphc.full_like(graphc.input("x", ("N", 2)), 7).type
        TensorType(f32[N,2])
    """
    tensor = constant(x)
    kind = tensor.dtype if dtype is None else as_dtype(dtype)
    return full(tensor.shape, fill_value, kind)


def zeros_like(x: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Return zeros in the shape and dtype of another tensor."""
    return full_like(x, 0, dtype)


def ones_like(x: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Return ones in the shape and dtype of another tensor."""
    return full_like(x, 1, dtype)


# --- grids --------------------------------------------------------------------------


def meshgrid(*xi: Any, indexing: str = "xy") -> list[Tensor]:
    """Return for each vector a grid of all combinations, which it runs along.

    Shapes:  [N], [M] -> [M, N], [M, N]; with indexing="ij" [N, M], [N, M]
    Raises:  ArgumentError for what is no vector, or another indexing.
    """
    tensors = [constant(x) for x in xi]
    if indexing not in ("xy", "ij"):
        raise ArgumentError(
            f"meshgrid: indexing must be 'xy' or 'ij', not {indexing!r}",
            where=here().quoted,
        )
    for i, t in enumerate(tensors):
        if t.ndim != 1:
            error = ArgumentError(f"{{{i}}} {t.type} is no vector")
            raise explain(error, "meshgrid", tensors)
    order = list(range(len(tensors)))
    if indexing == "xy" and len(order) > 1:
        order[:2] = [1, 0]
    shape = tuple(tensors[i].shape[0] for i in order)
    found = []
    for i, t in enumerate(tensors):
        along = [1] * len(shape)
        line = [t.shape[0] if order[a] == i else one for a, one in enumerate(along)]
        found.append(broadcast_to(reshape(t, line), shape))
    return found
