"""Padding: elements put into a larger tensor, with a value around and between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.dims import Dim, Size, prove_le
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    FUNCTIONS,
    Meaning,
    Op,
    Pointwise,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.types import DType, Shape, TensorType, int64
from graphc.ops.creation import concrete, constant
from graphc.ops.shape import SLICE, Slices, concatenate


@dataclass(frozen=True, slots=True)
class Pad:
    """Where elements go, and the value of all others.

    start, step: element i along an axis becomes element start + i step of the result.
    """

    start: tuple[Size, ...]
    shape: Shape
    step: tuple[int, ...]
    value: float | int | bool


KINDS: dict[str, type] = {"b": bool, "i": int, "f": float}


def _infer(types: Types, attrs: Pad) -> TensorType:
    (x,) = types
    if not x.ndim == len(attrs.start) == len(attrs.shape) == len(attrs.step):
        raise ArgumentError(f"start, shape and step must be for {x.ndim} axes")
    if any(step < 1 for step in attrs.step):
        raise ArgumentError(f"steps must be positive: {list(attrs.step)}")
    if type(attrs.value) is not KINDS[x.dtype.kind]:
        raise DTypeError(f"the value {attrs.value!r} is no {x.dtype}, as {{0}} is")
    return x.with_shape(attrs.shape)


def _evaluate(arrays: Any, meaning: Meaning) -> Any:
    (x,) = arrays
    shape = concrete(meaning.attrs.shape, meaning)
    found = np.full(shape, meaning.attrs.value, x.dtype)
    start = concrete(meaning.attrs.start, meaning)
    key = tuple(
        slice(a, a + (n - 1) * s + 1 if n else a, s)
        for a, n, s in zip(start, x.shape, meaning.attrs.step, strict=True)
    )
    found[key] = x
    return found


def _lower(site: Site) -> Expr:
    a, source = site.attrs, site.types[0].shape
    index: list[Expr] = []
    inside: Expr | None = None
    for i, start, step, size, full_size in zip(
        site.index, a.start, a.step, source, a.shape, strict=True
    ):
        if start == 0 and step == 1 and size == full_size:
            index.append(i)
            continue
        offset = i - size_of(start)
        at = offset // const(step, int64)
        tests = [offset >= const(0, int64), at < size_of(size)]
        if step != 1:
            tests.append(apply("equal", offset % const(step, int64), const(0, int64)))
        for test in tests:
            inside = test if inside is None else apply("logical_and", inside, test)
        top = size_of(size) - const(1, int64)
        clamped = apply("maximum", apply("minimum", at, top), const(0, int64))
        index.append(clamped)
    value = site.load(0, index)
    if inside is None:
        return value
    return apply("select", inside, value, const(a.value, value.dtype))


def _gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None]
    a = node.attrs
    return [make1(SLICE, (g,), Slices(a.start, node.inputs[0].shape, a.step))]


def _guards(types: Types, attrs: Pad) -> list[tuple[Size, Size]]:
    found: list[tuple[Size, Size]] = []
    for start, size, full_size, step in zip(
        attrs.start, types[0].shape, attrs.shape, attrs.step, strict=True
    ):
        if (start, size, step) != (0, full_size, 1):
            found += [(start, 0), (full_size, start + (size - 1) * step + 1)]
    return found


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    a = node.attrs
    attrs = Pad((0, *a.start), (size, *a.shape), (1, *a.step), a.value)
    return [make1(PAD, inputs, attrs)]


PAD = register(
    Op(
        name="pad",
        attrs=Pad,
        infer=_infer,
        evaluate=_evaluate,
        gradient=_gradient,
        lower=Pointwise(_lower),
        doc="y = value, but y[start + i step] = x[i];  dx = g[start + i step]",
        guards=_guards,
        moves=True,
        batch=_batch,
    )
)


def pad_with(
    x: Tensor,
    start: Sequence[Size],
    shape: Sequence[Size],
    step: Sequence[int] | None = None,
    value: float | None = None,
) -> Tensor:
    """Put a tensor into a larger one of this shape; nothing to do gives it back.

    value: of the elements around it, converted to the dtype; 0 unless given.
    """
    steps = tuple(step) if step is not None else (1,) * x.ndim
    if all(s == 0 for s in start) and tuple(shape) == x.shape and set(steps) <= {1}:
        return x
    exact = KINDS[x.dtype.kind](value or 0)
    return make1(PAD, (x,), Pad(tuple(start), tuple(shape), steps, exact))


def lowest(dtype: DType) -> float | int | bool:
    """Return the value that is below all others: what a maximum is padded with."""
    if dtype.is_float:
        return float("-inf")
    return int(np.iinfo(dtype.numpy).min) if dtype.kind == "i" else False


# --- as NumPy -------------------------------------------------------------------------

# For each mode the indices of what comes before and behind an axis, and how many
# elements the axis must have for them: (low, high) counted from its two ends.
Pieces = Callable[[int], tuple[list[int], int]]
LOW: dict[str, Pieces] = {
    "edge": lambda n: ([0] * n, 1),
    "reflect": lambda n: (list(range(n, 0, -1)), n + 1),
    "symmetric": lambda n: (list(range(n - 1, -1, -1)), n),
    "wrap": lambda n: (list(range(-n, 0)), n),
}
HIGH: dict[str, Pieces] = {
    "edge": lambda n: ([-1] * n, 1),
    "reflect": lambda n: (list(range(-2, -n - 2, -1)), n + 1),
    "symmetric": lambda n: (list(range(-1, -n - 1, -1)), n),
    "wrap": lambda n: (list(range(n)), n),
}


@public
def pad(
    x: Any, pad_width: Any, mode: str = "constant", constant_values: Any = 0
) -> Tensor:
    """Add elements before and behind each axis, as NumPy.

    pad_width: one number, one pair (before, after), or a pair for each axis.
    mode: "constant" (constant_values: a number, or as pad_width), "edge" (the last
    element again), "reflect" (mirrored, without the edge), "symmetric" (mirrored with
    it), "wrap" (from the other end). The last three add at most what the axis has.

    Shapes:  x [N, D], pad_width ((0, 0), (1, 2)) -> [N, D + 3]
    Math:    dx = g without what was added, whose cotangents the other modes add to
             the elements that they repeat
    Raises:  ArgumentError for a negative width, for another mode, or for an axis that
             is too short for the mode.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.pad([1.0, 2.0, 3.0], (1, 2), "reflect")).tolist()
        [2.0, 1.0, 2.0, 3.0, 2.0, 1.0]
    """
    tensor = constant(x)
    try:
        widths = _pairs(pad_width, tensor.ndim, "pad_width", _width)
        if mode == "constant":
            return _pad_constant(tensor, widths, constant_values)
        if mode not in LOW:
            raise ArgumentError(
                f"unknown mode {mode!r}", help=f"use constant, {', '.join(LOW)}"
            )
        for axis, (low, high) in enumerate(widths):
            tensor = _pad_from_itself(tensor, axis, low, high, mode)
    except ArgumentError as error:
        raise explain(error, "pad", [constant(x)]) from None
    return tensor


def _pairs(given: Any, ndim: int, what: str, one: Callable[[Any], Any]) -> list[Any]:
    """Return a pair for each axis, from a number, a pair, or a list of pairs."""
    if not isinstance(given, (tuple, list, np.ndarray)):
        return [(one(given), one(given))] * ndim
    rows = list(given)
    if not any(isinstance(r, (tuple, list, np.ndarray)) for r in rows):
        rows = [rows]
    pairs = [tuple(r) if isinstance(r, (tuple, list, np.ndarray)) else () for r in rows]
    pairs = [p * 2 if len(p) == 1 else p for p in pairs]
    if len(pairs) == 1:
        pairs = pairs * ndim
    if len(pairs) != ndim or any(len(p) != 2 for p in pairs):
        raise ArgumentError(
            f"{what} {given!r} does not fit {{0}}, which has {ndim} axes",
            help="give one number, one pair, or a pair (before, after) for each axis",
        )
    return [(one(a), one(b)) for a, b in pairs]


def _width(value: Any) -> Size:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if isinstance(value, Dim) or (whole and value >= 0):
        return value if isinstance(value, Dim) else int(value)
    raise ArgumentError(
        f"a width must be an int that is not negative, not {value!r}",
        help="cut off elements with a slice",
    )


def _number(value: Any) -> Any:
    if isinstance(value, (bool, int, float, np.number, np.bool_)):
        return value.item() if isinstance(value, np.generic) else value
    raise ArgumentError(f"constant_values must be numbers, not {value!r}")


def _pad_constant(x: Tensor, widths: list[tuple[Size, Size]], values: Any) -> Tensor:
    fills = _pairs(values, x.ndim, "constant_values", _number)
    for fill in {f for pair in fills for f in pair}:
        if isinstance(fill, float) and not x.dtype.is_float:
            raise ArgumentError(
                f"the value {fill!r} is no {x.dtype}, as {{0}} is", help="cast {0}"
            )
    if len({repr(f) for pair in fills for f in pair}) <= 1:
        shape = [low + n + high for n, (low, high) in zip(x.shape, widths, strict=True)]
        value = fills[0][0] if fills else 0
        return pad_with(x, [low for low, _ in widths], shape, value=value)
    for axis, (pair, both) in enumerate(zip(fills, widths, strict=True)):
        for side in (0, 1):
            start: list[Size] = [0] * x.ndim
            shape = list(x.shape)
            start[axis] = both[0] if side == 0 else 0
            shape[axis] = shape[axis] + both[side]
            x = pad_with(x, start, shape, value=pair[side])
    return x


def _pad_from_itself(x: Tensor, axis: int, low: Any, high: Any, mode: str) -> Tensor:
    """Add elements of x itself before and behind one axis."""
    size = x.shape[axis]
    pieces = []
    for width, table in ((low, LOW), (high, HIGH)):
        if not isinstance(width, int):
            raise ArgumentError(
                f"mode {mode!r} needs widths that are ints, not {width}"
            )
        indices, least = table[mode](width)
        if width and prove_le(least, size) is False:
            raise ArgumentError(
                f"mode {mode!r} cannot add {width} elements to axis {axis} of {{0}}, "
                f"which has {size}: it needs {least}",
                help="pad less, or several times",
            )
        # Reading through a slice of what is needed makes that a guard.
        first = 0 if not indices or indices[0] >= 0 else size - least
        start: list[Size] = [0] * x.ndim
        shape = list(x.shape)
        start[axis], shape[axis] = first, least
        steps = (1,) * x.ndim
        part = make1(SLICE, (x,), Slices(tuple(start), tuple(shape), steps))
        found = FUNCTIONS["take"](part, np.array(indices, np.int32), axis)
        pieces.append(found if width else None)
    before, behind = pieces
    return concatenate([p for p in (before, x, behind) if p is not None], axis)
