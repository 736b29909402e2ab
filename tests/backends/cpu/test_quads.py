"""Narrow products take four places of their sum at a time."""

from __future__ import annotations

import ctypes
import mmap
import subprocess
import sys
from textwrap import dedent

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.prelude import gemm, native
from graphc.backends.cpu.prelude.quads_ir import QUAD
from graphc.executable import Executable

SHAPE = gemm.shape("float32")
LANES = SHAPE.lanes
AS_FOUR = pytest.mark.skipif(SHAPE.vectors != QUAD, reason="shorter tiles")


def call_quads(
    c: np.ndarray, a: np.ndarray, b: np.ndarray, rows: int, accumulate: int = 0
) -> None:
    """Call the copy and the tile on a, rows x k, and b, k x cols."""
    dtype, (k, cols) = str(a.dtype), b.shape
    lanes = gemm.shape(dtype).lanes
    panel = np.full((-(-k // QUAD) * QUAD, lanes), np.nan, dtype)
    panel[:k] = 0
    panel[:k, :cols] = b
    interleave = native.c_function(gemm.address("interleave", dtype, "whole"), 2)
    interleave(panel.ctypes.data, k)
    tile = native.c_function(gemm.address("tile_quads", dtype, f"{rows}x{QUAD}"), 11)
    steps = [x.strides[0] // x.itemsize for x in (c, a)]
    left = c.ctypes.data, steps[0], a.ctypes.data, steps[1], 1
    tile(*left, panel.ctypes.data, 0, k, cols, accumulate, 0)


@AS_FOUR
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [0, 1, 3, 4, 5, 40, 43])
def test_tile_of_every_height_and_width(dtype: str, k: int) -> None:
    shape = gemm.shape(dtype)
    rng = np.random.default_rng(k)
    tolerance = 200 * np.finfo(dtype).eps
    for rows in range(1, shape.rows + 1):
        for cols in range(1, shape.lanes + 1):
            a = rng.standard_normal((rows, k + 3)).astype(dtype)
            b = rng.standard_normal((k, cols)).astype(dtype)
            a[:, k:] = np.nan  # a place beyond the sum counts for nothing
            c = np.full((rows + 1, cols + 3), np.nan, dtype)
            call_quads(c, a, b, rows)
            exact = a[:, :k] @ b
            np.testing.assert_allclose(c[:rows, :cols], exact, tolerance, tolerance)
            call_quads(c, a, b, rows, accumulate=1)
            twice = 2 * exact
            np.testing.assert_allclose(c[:rows, :cols], twice, tolerance, tolerance)
            assert np.isnan(c[rows:]).all()  # nothing beside the tile is written
            assert np.isnan(c[:, cols:]).all()


@AS_FOUR
@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_behind_the_rows_is_read() -> None:
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 2 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(base + page), page, 0) == 0
    whole = np.frombuffer(memory, np.float32, page // 4)
    for k in (4, 5, 6, 7):
        a = whole[len(whole) - 3 * k :].reshape(3, k)
        a[:] = 1
        c = np.zeros((3, LANES), np.float32)
        call_quads(c, a, np.ones((k, LANES), np.float32), 3)
        np.testing.assert_array_equal(c, k)


def product(k: int, n: int, form: str, backend: str, threads: int = 1) -> Executable:
    """Return a step of a product of rows by k x n numbers, with a bias."""
    x = gc.input("x", ("M", k))
    w = gc.input("w", (k, n) if form == "nn" else (n, k))
    b = gc.input("b", (n,))
    y = x @ (w if form == "nn" else gc.transpose(w)) + b
    return gc.compile([x, w, b], y, backend=backend, threads=threads)


def numbers(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(map(sum, shapes)))
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def has_quads(step: Executable) -> bool:
    return any("tile_quads(" in k.source for k in step.kernels)


@AS_FOUR
def test_products_of_a_vector_of_columns_have_quads() -> None:
    assert has_quads(product(64, LANES, "nn", "cpu"))
    assert has_quads(product(64, 2, "nt", "cpu"))
    assert not has_quads(product(64, LANES + 1, "nn", "cpu"))
    assert not has_quads(product(64, 1, "nn", "cpu"))
    assert not has_quads(product(7, LANES, "nn", "cpu"))


@pytest.mark.parametrize("form", ["nn", "nt"])
@pytest.mark.parametrize("n", [2, 3, 10, LANES - 1, LANES])
@pytest.mark.parametrize("k", [8, 9, 31, 64, 514])
def test_narrow_products_agree_with_reference(k: int, n: int, form: str) -> None:
    fast, both = (product(k, n, form, "cpu", threads) for threads in (1, 2))
    slow = product(k, n, form, "reference")
    for m in (0, 1, 5, 6, 7, 100):
        given = numbers((m, k), (k, n) if form == "nn" else (n, k), (n,))
        found = fast(*given)
        np.testing.assert_array_equal(found, both(*given))
        np.testing.assert_allclose(found, slow(*given), 1e-4, 1e-4)


def test_nan_and_infinity_stay_in_their_rows_and_columns() -> None:
    x, w, b = numbers((20, 9), (9, 10), (10,))
    x[3, 8], w[8, 4] = np.inf, np.nan
    found = product(9, 10, "nn", "cpu")(x, w, b)
    strange = np.zeros_like(found, np.bool_)
    strange[3], strange[:, 4] = True, True
    np.testing.assert_array_equal(~np.isfinite(found), strange)


def test_panels_that_a_loop_keeps_are_interleaved_once() -> None:
    def rolled(backend: str) -> Executable:
        h = gc.input("h", ("M", LANES))
        w = gc.input("w", (LANES, LANES))
        last, _ = gc.scan(lambda c, _: (gc.tanh(c @ w), c), h, length=7)
        return gc.compile([h, w], last, backend=backend)

    h, w = numbers((13, LANES), (LANES, LANES))
    found, expected = (rolled(backend)(h, w) for backend in ("cpu", "reference"))
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)


def test_a_batch_of_known_rows_has_tiles_of_the_heights_that_it_needs() -> None:
    """In a process of its own, which has no tiles of others."""
    text = """
    import numpy as np, graphc as gc
    a, b = gc.input("a", (3, 85, 64)), gc.input("b", (3, 64, 7))
    step = gc.compile([a, b], a @ b, threads=1)
    print(float(step(np.ones((3, 85, 64), "f"), np.ones((3, 64, 7), "f")).sum()))
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(text)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == 3 * 85 * 64 * 7
