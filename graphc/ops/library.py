"""What ops that are library routines share: lines along an axis, meaning by routine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import Dim, Size, evaluate, product
from graphc.ir.nodes import Tensor, explain
from graphc.ir.op import Arrays, Meaning, Routine, Types
from graphc.ir.program.routines import routine
from graphc.ir.types import TensorType
from graphc.ops.reduction import normal_axes
from graphc.ops.shape import reshape

Options = tuple[tuple[str, Any], ...]


def by_routine(
    how: Routine, infer: Callable[..., TensorType | Types]
) -> Callable[[Arrays, Meaning], Arrays]:
    """Return the meaning of an op that is a routine: the routine's own."""

    def value(arrays: Arrays, meaning: Meaning) -> Arrays:
        attrs, sizes = meaning.attrs, meaning.sizes
        found = infer(meaning.types, attrs)
        types = (found,) if isinstance(found, TensorType) else found
        options = {
            k: evaluate(v, sizes) if isinstance(v, Dim) else v
            for k, v in how.options(meaning.types, attrs)
        }
        made = routine(how.name).meaning(arrays, options)
        return tuple(
            np.reshape(x, tuple(evaluate(s, sizes) for s in t.shape))
            for x, t in zip(made, types, strict=True)
        )

    return value


def lines(x: TensorType, axis: int) -> Options:
    """Return the options that say how an array falls into lines along an axis."""
    return (
        ("outer", product(x.shape[:axis])),
        ("length", x.shape[axis]),
        ("inner", product(x.shape[axis + 1 :])),
    )


def as_lines(x: Any, options: Mapping[str, Any]) -> Any:
    """Return an array as outer x length x inner elements."""
    return x.reshape(options["outer"], options["length"], options["inner"])


def count(options: Mapping[str, Any]) -> Size:
    """Return how many elements all lines have."""
    return product(options[k] for k in ("outer", "length", "inner"))


def along(what: str, x: Tensor, axis: int | None) -> tuple[Tensor, int]:
    """Return a tensor and an axis of it that is not negative; None flattens it.

    Raises:  ArgumentError for an axis out of range, or one of a scalar.
    """
    if axis is None:
        return reshape(x, (-1,)), 0
    try:
        if isinstance(axis, (tuple, list)):
            raise ArgumentError(f"axis must be one axis of {{0}}, not {list(axis)}")
        (at,) = normal_axes(axis, x.ndim)
    except ArgumentError as error:
        raise explain(error, what, [x]) from None
    return x, at
