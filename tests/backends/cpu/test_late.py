"""Rows that go past the caches, a turn late: the same bits as rows that stay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import backend
from graphc.backends.cpu.late import LONG

FORMULAS: dict[str, Callable[[Any, Any], Any]] = {
    "softmax": lambda x, y: gc.softmax(x, axis=-1),
    "softmax with its gradient": lambda x, y: [
        gc.softmax(x, axis=-1),
        *gc.vjp(gc.softmax(x, axis=-1), [x], y),
    ],
    "what is read again": lambda x, y: gc.softmax(x, axis=-1) * y,
    "layer norm with its gradient": lambda x, y: [
        gc.layer_norm(x),
        *gc.vjp(gc.layer_norm(x), [x], y),
    ],
    "a row and its sum": lambda x, y: [
        gc.exp(x) / gc.sum(gc.exp(x), -1, keepdims=True),
        gc.sum(gc.exp(x), -1),
    ],
}
# Of two results as large as their rows one goes past, and only where rows are long.
TWO = ("softmax with its gradient", "layer norm with its gradient")
SHAPES = [(67, 193), (1, 1), (8, 64), (3, 1025)]


def placed(shape: tuple[int, ...], dtype: str, offset: int) -> Any:
    """Return ones that begin so many elements behind the beginning of a line."""
    size, item = int(np.prod(shape)), np.dtype(dtype).itemsize
    raw = np.ones(size + 256, dtype)
    start = -raw.ctypes.data % 64 // item + 16 + offset
    return raw[start : start + size].reshape(shape)


def built(
    what: str, shape: tuple[int, int], dtype: str, threads: int
) -> tuple[Any, list[Any]]:
    x, y = (gc.input(n, shape, dtype=dtype) for n in "xy")
    made = FORMULAS[what](x, y)
    outputs = made if isinstance(made, list) else [made]
    return gc.compile([x, y], outputs, threads=threads), outputs


CASES = [*((what, "float32") for what in FORMULAS), ("softmax", "float64")]


@pytest.mark.parametrize(("what", "dtype"), CASES)
def test_late_rows_hold_what_others_do(
    what: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = {shape: built(what, shape, dtype, 1)[0] for shape in SHAPES}
    target = replace(backend.target(), cache=4)
    monkeypatch.setattr(backend, "target", lambda: target)
    rng = np.random.default_rng(0)
    late = 0
    for shape in SHAPES:
        given = [rng.standard_normal(shape).astype(dtype) for _ in "xy"]
        given[0][0, 0], given[0][-1, -1] = 300, np.nan
        given[0][shape[0] // 2] = -np.inf
        expected = near[shape](*given)
        for threads in (1, 2):
            step, outputs = built(what, shape, dtype, threads)
            late += sum("behind" in k.source for k in step.kernels)
            for offset in (0, 1, 4):
                out = [
                    placed(t.shape, dtype, offset + i) for i, t in enumerate(outputs)
                ]
                step(*given, out=out)
                for found, right in zip(out, expected, strict=True):
                    np.testing.assert_array_equal(found, right)
                    flat = found.base
                    start = (found.ctypes.data - flat.ctypes.data) // found.itemsize
                    assert (flat[:start] == 1).all()
                    assert (flat[start + found.size :] == 1).all()
    shortest = LONG // 4 if what in TWO else 2
    assert late == 2 * sum(n >= shortest for _, n in SHAPES)
