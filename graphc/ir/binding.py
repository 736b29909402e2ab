"""Binding a call: arrays to input types, dimensions to sizes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from graphc.errors import GuardError, InputError
from graphc.ir.dims import DimError, evaluate, names, solve
from graphc.ir.graph import Guard, broken_guards
from graphc.ir.nodes import Tensor, leaf_name


def fit_input(tensor: Tensor, value: Any) -> np.ndarray[Any, Any]:
    """Return a value as a C-contiguous array of the input's dtype and rank.

    NumPy's same-kind casts are made (float64 to float32), and integers that fit
    (int64 labels to int32); the rest is refused.

    Raises:  InputError naming the input, what was given and what it takes.
    """
    name, want = leaf_name(tensor), tensor.type
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        raise InputError(
            f"input {name!r} takes {want}, got what is no array: {_short(value)}",
            details=_declared(tensor),
            help="give an array of numbers; lists must be of equal lengths",
        ) from None
    if array.ndim != want.ndim:
        raise InputError(
            f"input {name!r} takes {want}, got an array of shape {list(array.shape)}",
            details=_declared(tensor),
            help=f"give an array with {want.ndim} ax{'i' if want.ndim == 1 else 'e'}s",
        )
    if array.dtype != want.dtype.numpy:
        array = _converted(array, tensor, python=not _is_array(value))
    return np.ascontiguousarray(array) if array.ndim else array.copy()


def _is_array(value: Any) -> bool:
    return isinstance(value, (np.ndarray, np.generic))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else f"{text[:56]}..."


def _declared(tensor: Tensor) -> list[str]:
    place = tensor.node.birth.place
    return (
        [f"{leaf_name(tensor)} : {tensor.type}  declared at {place}"] if place else []
    )


def _converted(
    array: np.ndarray[Any, Any], tensor: Tensor, python: bool
) -> np.ndarray[Any, Any]:
    name, want = leaf_name(tensor), tensor.dtype
    target = want.numpy
    if array.size == 0 and python:
        return array.astype(target)
    # Lists have no dtype of their own: [0, 1] is good for a float input.
    weak = python and array.dtype.kind in "bi" and target.kind == "f"
    if not weak and not np.can_cast(array.dtype, target, "same_kind"):
        raise InputError(
            f"input {name!r} takes {want}, got {array.dtype}",
            details=_declared(tensor),
            help=f"if that loses nothing, convert it with .astype({want.name!r})"
            if array.dtype.kind in "biufc"
            else "give an array of numbers",
        )
    if target.kind == "i" and array.dtype.kind == "i" and array.size:
        info = np.iinfo(target)
        low, high = array.min(), array.max()
        if low < info.min or high > info.max:
            raise InputError(
                f"input {name!r} takes {want}, and the value "
                f"{low if low < info.min else high} does not fit",
                details=_declared(tensor),
                help="declare the input as int64",
            )
    return array.astype(target)


def bind_sizes(
    given: Iterable[tuple[Tensor, tuple[int, ...]]],
    guards: Iterable[Guard] = (),
    extra: Mapping[str, int] | None = None,
) -> dict[str, int]:
    """Return the size of each dimension, from the shapes of the arrays.

    Raises:  InputError if an array does not fit its type, naming both inputs where
             one dimension is bound twice differently; GuardError if an inequality
             that the graph requires does not hold.
    """
    sizes: dict[str, int] = dict(extra or {})
    source: dict[str, Tensor] = {}
    axes = [
        (tensor, axis, want, got)
        for tensor, shape in given
        for axis, (want, got) in enumerate(zip(tensor.shape, shape, strict=True))
    ]
    for tensor, axis, want, got in axes:
        found = solve(want, got)
        if found is None:
            continue
        dim, size = found
        if sizes.setdefault(dim, size) != size:
            first = source.get(dim)
            other = f"{leaf_name(first)!r}" if first is not None else "sizes="
            raise InputError(
                f"the dimension {dim} is bound twice: it is {sizes[dim]} by the input "
                f"{other}, and {size} by axis {axis} of {leaf_name(tensor)!r}",
                details=[
                    d for t in (first, tensor) if t is not None for d in _declared(t)
                ],
                help="one name is one size within a call",
            )
        source.setdefault(dim, tensor)
    for tensor, axis, want, got in axes:
        name = leaf_name(tensor)
        try:
            needed = evaluate(want, sizes)
        except DimError as error:
            raise InputError(
                f"input {name!r}: its size {want} cannot be worked out: {error}",
                details=_declared(tensor),
                help="have an input with an axis that is just "
                + ", ".join(sorted(names(want))),
            ) from None
        if needed != got:
            raise InputError(
                f"input {name!r} takes {tensor.type}: axis {axis} must be {needed}, "
                f"got {got}",
                details=_declared(tensor),
                help="give an array of that shape",
            )
    broken = broken_guards(guards, sizes)
    if broken:
        first_broken = broken[0]
        raise GuardError(
            f"the sizes break what the graph requires: {first_broken}",
            details=[f"{k} = {v}" for k, v in sorted(sizes.items())],
            where=first_broken.origin.quoted,
            help="give larger arrays",
        )
    return sizes
