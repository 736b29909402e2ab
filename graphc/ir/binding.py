"""Binding a call: arrays to input types, dimensions to sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from graphc.errors import GuardError, InputError
from graphc.ir.dims import DimError, evaluate, names, solve
from graphc.ir.graph import Guard, broken_guards
from graphc.ir.nodes import Tensor, leaf_name
from graphc.ir.types import DType, TensorType

Given = tuple[str, TensorType, tuple[int, ...]]


def fit_input(tensor: Tensor, value: Any) -> np.ndarray[Any, Any]:
    """Return a value as a C-contiguous array of the input's dtype and rank.

    NumPy's same-kind casts are made (float64 to float32), and integers that fit
    (int64 labels to int32); the rest is refused.

    Raises:  InputError naming the input, what was given and what it takes.
    """
    name, want = leaf_name(tensor), tensor.type
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(f"input {name!r} is no array: {error}") from None
    if array.ndim != want.ndim:
        raise InputError(
            f"input {name!r} takes {want}, got an array of shape {list(array.shape)}",
            details=[f"{name} declared at {tensor.node.birth.place}"],
            help=f"give an array with {want.ndim} axes",
        )
    if array.dtype != want.dtype.numpy:
        array = _converted(array, name, want.dtype, python=not _is_array(value))
    return np.ascontiguousarray(array) if array.ndim else array.copy()


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def _converted(
    array: np.ndarray[Any, Any], name: str, want: DType, python: bool
) -> np.ndarray[Any, Any]:
    target = want.numpy
    if array.size == 0 and python:
        return array.astype(target)
    # Lists have no dtype of their own: [0, 1] is good for a float input.
    weak = python and array.dtype.kind in "bi" and target.kind == "f"
    if not weak and not np.can_cast(array.dtype, target, "same_kind"):
        raise InputError(
            f"input {name!r} takes {want}, got {array.dtype}",
            help=f"convert it with .astype({want.name!r})"
            if array.dtype.kind in "biufc"
            else "give an array of numbers",
        )
    if target.kind == "i" and array.dtype.kind == "i" and array.size:
        info = np.iinfo(target)
        low, high = array.min(), array.max()
        if low < info.min or high > info.max:
            raise InputError(
                f"input {name!r} takes {want}, and the value "
                f"{low if low < info.min else high} does not fit"
            )
    return array.astype(target)


def bind_sizes(
    given: Sequence[Given],
    guards: Iterable[Guard] = (),
    extra: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return the size of each dimension, from the shapes of the arrays.

    Raises:  InputError if an array does not fit its type, naming both inputs where
             one dimension is bound twice differently; GuardError if an inequality
             that the graph requires does not hold.
    """
    sizes: dict[str, int] = dict(extra or {})
    source: dict[str, str] = {}
    waiting = [
        (name, axis, want, got)
        for name, type, shape in given
        for axis, (want, got) in enumerate(zip(type.shape, shape, strict=True))
    ]
    for name, axis, want, got in waiting:
        found = solve(want, got)
        if found is None:
            continue
        dim, size = found
        if sizes.setdefault(dim, size) != size:
            raise InputError(
                f"the dimension {dim} is bound twice: {sizes[dim]} by "
                f"{source.get(dim, 'sizes')}, {size} by {name}[{axis}]",
                help="one name is one size within a call",
            )
        source.setdefault(dim, f"{name}[{axis}]")
    for name, axis, want, got in waiting:
        try:
            needed = evaluate(want, sizes)
        except DimError as error:
            raise InputError(
                f"input {name!r}: its size {want} cannot be worked out: {error}",
                help=f"have an input whose axis is just {', '.join(names(want))}",
            ) from None
        if needed != got:
            shape = next(t for n, t, _ in given if n == name)
            raise InputError(
                f"input {name!r} takes {shape}: axis {axis} must be {needed}, got {got}"
                if not isinstance(want, int)
                else f"input {name!r} takes {shape}, got {got} along axis {axis}",
            )
    broken = broken_guards(guards, sizes)
    if broken:
        first = broken[0]
        raise GuardError(
            f"the sizes break what the graph requires: {first}",
            details=[f"{k} = {v}" for k, v in sorted(sizes.items())],
            where=first.origin.quoted,
            help="give larger arrays",
        )
    return sizes
