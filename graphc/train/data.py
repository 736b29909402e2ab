"""Data for training: arrays checked and converted once, then cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.ir.origins import here
from graphc.ir.types import TensorType, as_dtype
from graphc.nn.model import Sequential

Array = np.ndarray[Any, Any]

CHUNK_BYTES = 64 * 2**20  # how much of x is gathered at once when shuffling


@dataclass(frozen=True, slots=True)
class Data:
    """Samples and what is true of them: float32 or int32, C-contiguous."""

    x: Array
    y: Array

    def __len__(self) -> int:
        return len(self.x)

    def cut(self, start: int, stop: int) -> Data:
        """Return the samples from start to stop, without a copy."""
        return Data(self.x[start:stop], self.y[start:stop])

    def batches(
        self, size: int, order: Array | None = None
    ) -> Iterator[tuple[Array, Array]]:
        """Go through batches (x, y) in an order; the last one may be smaller.

        Many batches are gathered at a time, and each is a contiguous view of them.
        """
        if order is None:
            for start in range(0, len(self), size):
                yield self.x[start : start + size], self.y[start : start + size]
            return
        row = self.x[0].nbytes + self.y[0].nbytes
        length = max(CHUNK_BYTES // (max(row, 1) * size), 1) * size
        for start in range(0, len(order), length):
            rows = order[start : start + length]
            x, y = (
                np.take(a, rows, axis=0) for a in (self.x, self.y)
            )  # faster than []
            yield from Data(x, y).batches(size)


def as_samples(who: str, what: str, value: Any) -> Array:
    """Return data as an array with at least one row.

    Raises:  InputError for what is no array of numbers, or is empty.
    """
    try:
        array = np.asarray(value)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{who}: {what} is no array: {error}", where=here().quoted
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(
            f"{who}: {what} is an array of {array.dtype}, not of numbers",
            where=here().quoted,
            help="convert it to numbers first",
        )
    if array.ndim == 0 or len(array) == 0:
        raise InputError(
            f"{who}: {what} is empty: its shape is {list(array.shape)}",
            where=here().quoted,
            help="give at least one sample; the first axis counts samples",
        )
    return array


def convert(array: Array, dtype: str) -> Array:
    """Return an array C-contiguous and of a dtype; itself if it is both."""
    return np.ascontiguousarray(array, as_dtype(dtype).numpy)


def as_x(who: str, value: Any, model: Sequential) -> Array:
    """Return samples in the dtype that a model takes.

    Raises:  InputError if their shape is not the one that the model was built for.
    """
    array = as_samples(who, "x", value)
    known = model.input_type
    if known is not None:
        _check_shape(who, array, known)
    return convert(array, model.layers[0].input_dtype if model.layers else "float32")


def _check_shape(who: str, array: Array, known: TensorType) -> None:
    want = known.shape[1:]
    got = array.shape[1:]
    fits = len(want) == len(got) and all(
        not isinstance(w, int) or w == g for w, g in zip(want, got, strict=True)
    )
    if not fits:
        takes = ", ".join(map(str, ("N", *want)))
        raise InputError(
            f"{who}: x has the shape {list(array.shape)}, the model takes [{takes}]",
            where=here().quoted,
            help=f"give samples of shape {[*map(str, want)]}".replace("'", "")
            if want
            else "give one number for each sample",
        )


def check_lengths(who: str, x: Array, y: Array) -> None:
    """Raise an InputError unless there is one y for each x."""
    if len(x) != len(y):
        raise InputError(
            f"{who}: x has {len(x)} samples, y has {len(y)}",
            where=here().quoted,
            help="give one y for each x",
        )


def as_y(who: str, array: Array, labels: str, output: TensorType) -> Array:
    """Return what is true as float32, or as int32 where it is labels.

    labels: what the loss takes; see `graphc.nn.losses.labels_of`.

    Raises:  InputError for labels out of range.
    """
    if labels == "classes":
        return _classes(who, array, output)
    if labels == "binary":
        _check_binary(who, array)
    whole = array.dtype.kind in "biu" and labels != "values"
    return convert(array, "int32" if whole else "float32")


def _classes(who: str, array: Array, output: TensorType) -> Array:
    """Return class labels [n] as int32, or rows [n, C] as float32."""
    classes = output.shape[-1] if output.shape else 1
    if array.ndim == output.ndim and array.shape[-1] == 1 and classes != 1:
        array = array[..., 0]
    if array.ndim != output.ndim - 1:
        return convert(array, "float32")
    if array.dtype.kind == "f" and not np.array_equal(array, np.floor(array)):
        raise InputError(
            f"{who}: y is an array of {array.dtype} with shape {list(array.shape)}, "
            "not of labels",
            where=here().quoted,
            help="give ints from 0, or one-hot rows",
        )
    low, high = array.min(), array.max()
    if low < 0 or high >= classes:
        wrong = int(low if low < 0 else high)
        raise InputError(
            f"{who}: y has the label {wrong}, the model has {classes} outputs, "
            f"for the labels 0 to {classes - 1}",
            where=here().quoted,
            help="count labels from 0, or give the last layer more units",
        )
    return convert(array, "int32")


def _check_binary(who: str, array: Array) -> None:
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 1):
        wrong = low if not low >= 0 else high
        raise InputError(
            f"{who}: y has the value {wrong:g}, binary_crossentropy takes 0 to 1",
            where=here().quoted,
            help="use the labels 0 and 1, or a categorical loss for more classes",
        )


def split_off(who: str, x: Array, y: Array, share: float) -> tuple[Data, Data | None]:
    """Return what is trained on, and the share at the end that is kept from it.

    Raises:  InputError unless 0 <= share < 1 leaves samples on both sides.
    """
    if not 0 <= share < 1:
        raise InputError(
            f"{who}: validation_split must be in [0, 1), not {share!r}",
            where=here().quoted,
        )
    at = len(x) - int(len(x) * share)
    if share and at == len(x):
        raise InputError(
            f"{who}: validation_split={share} of {len(x)} samples leaves none to "
            "validate on",
            where=here().quoted,
        )
    data = Data(x, y)
    return data.cut(0, at), data.cut(at, len(x)) if share else None
