"""Elements in another order along an axis: flip and roll."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor, explain, make1
from graphc.ir.op import Op, Pointwise, Site, Types, public, register
from graphc.ir.scalar import Expr, apply, const, size_of
from graphc.ir.types import TensorType, int64
from graphc.ops.axes import places, ravel
from graphc.ops.batching import batch_axis
from graphc.ops.creation import constant
from graphc.ops.reduction import check_axes, normal_axes
from graphc.ops.shape import reshape


@dataclass(frozen=True, slots=True)
class Flip:
    """The axes that are reversed, ascending."""

    axis: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Roll:
    """The axis, and how many places elements move up along it."""

    axis: int
    shift: int


# --- flip ---------------------------------------------------------------------------


def _flip_infer(types: Types, attrs: Flip) -> TensorType:
    (x,) = types
    check_axes(attrs.axis, x.ndim)
    return x


def _flip_lower(site: Site) -> Expr:
    index = list(site.index)
    for a in site.attrs.axis:
        index[a] = size_of(site.result.shape[a]) - const(1, int64) - index[a]
    return site.load(0, index)


FLIP: Op = register(
    Op(
        name="flip",
        attrs=Flip,
        infer=_flip_infer,
        evaluate=lambda arrays, m: np.ascontiguousarray(
            np.flip(arrays[0], m.attrs.axis)
        ),
        gradient=lambda node, g: [
            None if g[0] is None else make1(FLIP, (g[0],), node.attrs)
        ],
        lower=Pointwise(_flip_lower, layout=True),
        doc="y[i] = x[n - 1 - i];  dx = g reversed",
        moves=True,
        batch=batch_axis,
    )
)


@public
def flip(x: Any, axis: Any = None) -> Tensor:
    """Reverse the order of elements along axes; along all without `axis`.

    Shapes:  x [N, D] -> [N, D]
    Math:    y[i] = x[n - 1 - i];  dx = g reversed
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.flip([1, 2, 3])).tolist()
        [3, 2, 1]
    """
    tensor = constant(x)
    try:
        axes = normal_axes(axis, tensor.ndim)
    except ArgumentError as error:
        raise explain(error, "flip", [tensor]) from None
    return make1(FLIP, (tensor,), Flip(axes)) if axes else tensor


# --- roll ---------------------------------------------------------------------------


def _roll_infer(types: Types, attrs: Roll) -> TensorType:
    (x,) = types
    check_axes((attrs.axis,), x.ndim)
    return x


def _roll_lower(site: Site) -> Expr:
    a, shift = site.attrs.axis, site.attrs.shift
    n, zero, one = size_of(site.result.shape[a]), const(0, int64), const(1, int64)
    turn = apply("remainder", const(shift, int64), apply("maximum", n, one))
    at = site.index[a] - turn
    index = list(site.index)
    index[a] = apply("select", at < zero, at + n, at)
    return site.load(0, index)


ROLL: Op = register(
    Op(
        name="roll",
        attrs=Roll,
        infer=_roll_infer,
        evaluate=lambda arrays, m: np.roll(arrays[0], m.attrs.shift, m.attrs.axis),
        gradient=lambda node, g: [
            None
            if g[0] is None
            else make1(ROLL, (g[0],), Roll(node.attrs.axis, -node.attrs.shift))
        ],
        lower=Pointwise(_roll_lower),
        doc="y[(i + shift) mod n] = x[i];  dx = g rolled back",
        moves=True,
        batch=batch_axis,
    )
)


@public
def roll(x: Any, shift: Any, axis: Any = None) -> Tensor:
    """Move elements along axes; those pushed out at one end enter at the other.

    shift: how far, an int or one for each axis. Without `axis`, x is rolled as if it
    were flat.

    Shapes:  x [N, D] -> [N, D]
    Math:    y[(i + shift) mod n] = x[i];  dx = g rolled back
    Raises:  ArgumentError for an axis out of range, or shifts that are not as many.
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.roll([1, 2, 3, 4], 1)).tolist()
        [4, 1, 2, 3]
    """
    tensor = constant(x)
    try:
        shifts = _shifts(shift)
        if axis is None:
            (by,) = shifts if len(shifts) == 1 else (sum(shifts),)
            flat = make1(ROLL, (ravel(tensor),), Roll(0, by))
            return reshape(flat, tensor.shape)
        axes = places(axis, tensor.ndim)
        if len(shifts) == 1:
            shifts *= len(axes)
        if len(shifts) != len(axes):
            raise ArgumentError(f"{len(shifts)} shifts for {len(axes)} axes of {{0}}")
    except ArgumentError as error:
        raise explain(error, "roll", [tensor]) from None
    for a, by in zip(axes, shifts, strict=True):
        tensor = make1(ROLL, (tensor,), Roll(a, by))
    return tensor


def _shifts(shift: Any) -> list[int]:
    given = list(shift) if isinstance(shift, (Sequence, np.ndarray)) else [shift]
    for s in given:
        if isinstance(s, bool) or not isinstance(s, (int, np.integer)):
            raise ArgumentError(f"a shift of {{0}} must be an int, not {s!r}")
    return [int(s) for s in given]
