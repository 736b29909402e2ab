"""Large nests: reads that ask ahead, stores past the caches, and shared divisors."""

from __future__ import annotations

from ctypes import POINTER, c_int64
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numba import cfunc

import graphc as gc
from graphc.backends.cpu import backend
from graphc.backends.cpu.prelude.arith import quotient
from graphc.backends.cpu.prelude.streaming import (
    drain,
    load_ahead,
    store_ahead,
    stream,
    stream_line,
)
from graphc.backends.cpu.prelude.vector import (
    b8,
    f32,
    f64,
    i32,
    i64,
    load,
    load1,
    mask,
    splat_f32,
    store,
)
from graphc.passes import DEFAULT

POINTERS = {"float32": f32, "float64": f64, "int32": i32, "int64": i64, "bool": b8}


def call(compiled: Any, n: int, *arrays: Any) -> None:
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    compiled.ctypes(table.ctypes.data_as(POINTER(c_int64)), n)


def kernel(body: Any) -> Any:
    """Compile as the emitter does, but callable from Python: body(table, n)."""
    options = {"error_model": "numpy", "fastmath": {"contract"}}
    return cfunc("void(CPointer(int64), int64)", **options)(body)


def placed(size: int, dtype: str, offset: int) -> Any:
    """Return zeros that begin so many bytes behind the beginning of a cache line."""
    raw = np.zeros(size * 8 + 192, np.uint8)
    start = -raw.ctypes.data % 64 + 64 + offset
    return raw[start : start + size * np.dtype(dtype).itemsize].view(dtype)


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("dtype", POINTERS)
def test_streams_write_what_stores_write(dtype: str, lanes: int) -> None:
    pointer = POINTERS[dtype]

    def body(args, n):  # type: ignore[no-untyped-def]
        i = 0
        while i < n:
            m = mask(n - i, lanes)
            v = load_ahead(pointer(args, 0), i, m, 512)
            stream(pointer(args, 1), i, v, m)
            store_ahead(pointer(args, 2), i, v, m, 512)
            i += lanes
        drain()

    compiled = kernel(body)
    x = (np.arange(100) % 7).astype(dtype)
    for offset in (0, 16, 32, np.dtype(dtype).itemsize):
        for n in (0, 1, lanes - 1, lanes, 67, 96):
            y, z = (placed(100, dtype, offset) for _ in range(2))
            call(compiled, n, x, y, z)
            for found in (y, z):
                np.testing.assert_array_equal(found[:n], x[:n])
                assert not found[n:].any()


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("dtype", POINTERS)
def test_streams_of_whole_lines_write_what_stores_write(dtype: str, lanes: int) -> None:
    pointer = POINTERS[dtype]

    def body(args, n):  # type: ignore[no-untyped-def]
        full = mask(lanes, lanes)
        whole = n // lanes * lanes
        i = 0
        while i < whole:
            stream_line(pointer(args, 1), i, load(pointer(args, 0), i, full), full)
            i += lanes
        m = mask(n - whole, lanes)
        stream_line(pointer(args, 1), i, load(pointer(args, 0), i, m), m)
        drain()

    compiled = kernel(body)
    x = (np.arange(100) % 7).astype(dtype)
    for n in (0, 1, lanes - 1, lanes, 67, 96):
        y = placed(100, dtype, 0)
        call(compiled, n, x, y)
        np.testing.assert_array_equal(y[:n], x[:n])
        assert not y[n:].any()


def divided(x: Any, by: float) -> Any:
    def body(args, n):  # type: ignore[no-untyped-def]
        i = 0
        b = load1(f32(args, 1), 0, mask(16, 16))
        inverse = splat_f32(1.0, mask(16, 16)) / b
        while i < n:
            m = mask(n - i, 16)
            y = quotient(load(f32(args, 0), i, m), b, inverse)
            store(f32(args, 2), i, y, m)
            i += 16

    y = np.empty_like(x)
    call(kernel(body), x.size, x, np.float32([by]), y)
    return y


@pytest.mark.parametrize(
    "by",
    [1.0, 3.0, -7.5, 1000.1, 2.0**126, 0.3, 0.0, -0.0, 1e-40, 3e38, np.inf, np.nan],
)
def test_a_quotient_by_a_shared_divisor_is_that_of_a_division(by: float) -> None:
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    # Below, a remainder is no longer exact; the last bit may differ there.
    bits = bits[~(np.abs(bits) < 2.0**-100)]
    hard = np.float32([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4028235e38, by, -by])
    x = np.concatenate([bits, hard, rng.uniform(0, 1, 9_999).astype(np.float32)])
    y = divided(x, by)
    with np.errstate(all="ignore"):
        expected = x / np.float32(by)
    np.testing.assert_array_equal(y, expected)
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(y[there]), np.signbit(expected[there]))


def test_tiny_quotients_are_off_by_one_bit_at_most() -> None:
    x = np.arange(1, 1 << 25, 997, dtype=np.int32).view(np.float32)
    y, expected = divided(x, 3.7), x / np.float32(3.7)
    assert np.abs(y.view(np.int32) - expected.view(np.int32)).max() <= 1


# Sums in blocks of rows are another sum, and only of what is far.
WHOLE = ",".join(p for p in DEFAULT if p != "split-sums")

FORMULAS = {
    "elementwise": (lambda x, y: gc.tanh(x * y) + gc.exp(-x), (67, 193)),
    "two outputs": (lambda x, y: [x * y, x + y], (67, 193)),
    "softmax": (lambda x, y: gc.softmax(x + y, axis=-1), (67, 193)),
    "columns": (lambda x, y: gc.sum(x * y, 0), (67, 1024)),
    "layer norm": (lambda x, y: gc.layer_norm(x) * y, (67, 193)),
    "broadcast": (lambda x, y: x + gc.sum(y, 0), (67, 193)),
}


@pytest.mark.parametrize("what", FORMULAS)
def test_far_nests_compute_what_near_ones_do(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, shape = FORMULAS[what]
    x, y = (gc.input(n, shape) for n in "xy")
    made = function(x, y)
    outputs = made if isinstance(made, list) else [made]
    near = gc.compile([x, y], outputs, passes=WHOLE)
    target = replace(backend.target(), cache=1 << 10)
    monkeypatch.setattr(backend, "target", lambda: target)
    far = gc.compile([x, y], outputs, passes=WHOLE)
    assert any("ahead" in k.source or "stream" in k.source for k in far.kernels)
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(shape).astype(np.float32) for _ in "xy"]
    for offset in (0, 4, 16):
        out = [
            placed(np.prod(t.shape), "float32", offset).reshape(t.shape)
            for t in outputs
        ]
        far(*given, out=out)
        for found, expected in zip(out, near(*given), strict=True):
            np.testing.assert_array_equal(found, expected)


def updated(shape: tuple[int, int], dtype: str, threads: int) -> tuple[Any, Any, Any]:
    """Return a step that updates weights with momentum, the weights, and its slot."""
    m, n = shape
    x, g = (gc.input(name, ("N", k), dtype=dtype) for name, k in (("x", m), ("g", n)))
    w, v = (gc.parameter(name, shape, "normal", dtype=dtype) for name in "wv")
    slot = 0.9 * v + gc.transpose(x) @ g
    updates = {w: w - slot / (gc.sqrt(slot * slot) + 1), v: slot}
    step = gc.compile([x, g], [], updates=updates, threads=threads, passes=WHOLE)
    return step, w, v


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(6, 64), (7, 130), (61, 256), (97, 259), (1, 64)])
def test_tiles_that_ask_for_lines_change_nothing(
    shape: tuple[int, int], dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    near = updated(shape, dtype, 1)
    target = replace(backend.target(), cache=1 << 4)
    monkeypatch.setattr(backend, "target", lambda: target)
    far = [updated(shape, dtype, threads) for threads in (1, 2)]
    if shape[0] > 1:
        assert "load_later" in far[0][0].kernels[0].source
    rng = np.random.default_rng(0)
    for deep in (0, 1, 2, 31, 128, 300):
        given = [rng.standard_normal((deep, k)).astype(dtype) for k in shape]
        for step, *_ in (near, *far):
            step(*given)
        for at in (1, 2):
            for other in far:
                np.testing.assert_array_equal(near[at].value, other[at].value)
