"""vmap: a function of one element as a function of many, in one graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import ArgumentError, BatchError
from graphc.ir.dims import Size
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Tensor, next_serial
from graphc.ir.origins import here
from graphc.ops.batching import batch_outputs, move_axis
from graphc.ops.creation import constant
from graphc.ops.random import draws
from graphc.ops.reduction import normal_axes
from graphc.state import lift_updates


def vmap(
    function: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0
) -> Callable[..., Any]:
    """Make a function of tensors work on batches of them.

    function: tensors -> a tensor, or a tuple, list or dict of them. in_axes: the axis
    of each argument that counts the elements, None for an argument that all elements
    share; an int for all arguments. out_axes: where that axis stands in the outputs.

    The function is called once, with arguments that stand for one element; what it
    declares is rebuilt with one more axis, so nothing is a loop. What depends on no
    element is computed once. Each element draws random numbers of its own; numbers
    drawn outside of the function are the same for all.

    Shapes:  x [B, N], function [N] -> [K] gives [B, K]
    Raises:  BatchError if sizes differ or no argument is mapped, or naming an op
             without a batching rule and its line; ArgumentError for a bad axis.
    Source:  JAX's vmap (Bradbury et al., 2018).
    Example:
        >>> import graphc
        >>> w = graphc.input("w", (3, "B"))
        >>> lengths = graphc.vmap(graphc.norm, in_axes=1)(w)
        >>> lengths.type
        TensorType(f32[B])
    """

    def call(*args: Any) -> Any:
        tensors = [constant(a) for a in args]
        axes = _axes(tensors, in_axes)
        size = _size(tensors, axes)
        fronts = [
            t if a is None else move_axis(t, a, 0)
            for t, a in zip(tensors, axes, strict=True)
        ]
        # Arguments that are mapped: one element stands for them while we trace.
        inner = make_args(
            [
                t.type.with_shape(t.shape[1:])
                for t, a in zip(fronts, axes, strict=True)
                if a is not None
            ]
        )
        rest = iter(inner)
        elements = [
            t if a is None else next(rest) for t, a in zip(fronts, axes, strict=True)
        ]
        since = next_serial()
        with draws() as own:
            found = function(*elements)
        flat = _flatten(found)
        mapped = {
            e: t
            for e, t, a in zip(elements, fronts, axes, strict=True)
            if a is not None
        }
        made = batch_outputs(flat, mapped, size, draws=own)
        lift_updates("vmap", flat, inner, made, since)
        places = _out_axes(flat, out_axes)
        made = [move_axis(t, 0, p) for t, p in zip(made, places, strict=True)]
        return _like(found, made)

    return call


def _axes(tensors: Sequence[Tensor], in_axes: Any) -> list[int | None]:
    """Return the mapped axis of each argument, not negative."""
    several = isinstance(in_axes, (tuple, list))
    given = list(in_axes) if several else [in_axes] * len(tensors)
    if len(given) != len(tensors):
        raise BatchError(
            f"vmap: in_axes has {len(given)} axes, {len(tensors)} arguments were given",
            where=here().quoted,
            help="give an axis or None for each argument",
        )
    found: list[int | None] = []
    for i, (tensor, axis) in enumerate(zip(tensors, given, strict=True)):
        if axis is None:
            found.append(None)
            continue
        try:
            (at,) = normal_axes(axis, tensor.ndim)
        except ArgumentError as error:
            raise ArgumentError(
                f"vmap: {error.message.format(f'argument {i}')}",
                details=[repr(tensor)],
                where=here().quoted,
                help=error.help,
            ) from None
        found.append(at)
    return found


def _size(tensors: Sequence[Tensor], axes: Sequence[int | None]) -> Size:
    """Return the number of elements, which all mapped arguments must agree on."""
    sizes = [
        (i, t.shape[a])
        for i, (t, a) in enumerate(zip(tensors, axes, strict=True))
        if a is not None
    ]
    if not sizes:
        raise BatchError(
            "vmap: no argument is mapped",
            where=here().quoted,
            help="call the function itself, or give in_axes an axis",
        )
    first, size = sizes[0]
    for i, other in sizes[1:]:
        if other != size:
            raise BatchError(
                f"vmap: argument {first} has {size} elements, argument {i} {other}",
                details=[f"{k} : {tensors[k].type}" for k in (first, i)],
                where=here().quoted,
                help="map axes of one size; None shares an argument",
            )
    return size


def _flatten(found: Any) -> list[Tensor]:
    if isinstance(found, dict):
        values = list(found.values())
    else:
        values = list(found) if isinstance(found, (tuple, list)) else [found]
    for value in values:
        if not isinstance(value, Tensor):
            raise BatchError(
                f"vmap: the function returned {value!r}, not a tensor",
                where=here().quoted,
                help="return a tensor, or a tuple, list or dict of tensors",
            )
    return values


def _like(found: Any, made: Sequence[Tensor]) -> Any:
    if isinstance(found, Tensor):
        return made[0]
    if isinstance(found, dict):
        return dict(zip(found, made, strict=True))
    return type(found)(made)


def _out_axes(outputs: Sequence[Tensor], out_axes: Any) -> list[int]:
    several = isinstance(out_axes, (tuple, list))
    given = list(out_axes) if several else [out_axes] * len(outputs)
    if len(given) != len(outputs):
        raise BatchError(
            f"vmap: out_axes has {len(given)} axes, there are {len(outputs)} outputs",
            where=here().quoted,
            help="give an axis for each output",
        )
    found = []
    for i, (tensor, axis) in enumerate(zip(outputs, given, strict=True)):
        if not isinstance(axis, int) or not -tensor.ndim - 1 <= axis <= tensor.ndim:
            raise ArgumentError(
                f"vmap: the axis {axis!r} is out of range for output {i}, "
                f"which has {tensor.ndim + 1} axes with the new one",
                where=here().quoted,
                help=f"use {-tensor.ndim - 1} to {tensor.ndim}",
            )
        found.append(axis % (tensor.ndim + 1))
    return found
