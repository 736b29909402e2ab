"""The register tile, the panel copy, and a kernel such as the emitter writes."""

from __future__ import annotations

import ctypes
import itertools
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest

PRELUDE_PARENT = Path(__file__).parents[3] / "backends" / "cpu"
sys.path.insert(0, str(PRELUDE_PARENT))

from prelude import gemm, native  # noqa: E402
from prelude.arith import maximum  # noqa: E402
from prelude.gemm_calls import at, pack, tile  # noqa: E402
from prelude.gemm_ir import AHEAD  # noqa: E402
from prelude.kernel import kernel  # noqa: E402
from prelude.layout import aligned_words  # noqa: E402
from prelude.vector import f32, load, mask, splat_f32, store  # noqa: E402

SHAPE = gemm.shape("float32")
MR, NR, LANES = SHAPE.rows, SHAPE.columns, SHAPE.lanes
RAGGED = [1, 2, 5, 6, 7, 15, 16, 17, 31, 64, 65, 100, 128, 257]


@kernel
def dense_relu(args, t, nt):
    """%3 = relu(x @ w + b): out f32[M, N]; a share takes panels of columns or rows."""
    tile_at, pack_at = args[0], args[1]
    x, w, b, out = f32(args, 4), f32(args, 5), f32(args, 6), f32(args, 7)
    M, N, K = args[8], args[9], args[10]
    x_i, x_k, w_k, w_j = args[11], args[12], args[13], args[14]
    panels, tiles = (N + NR - 1) // NR, (M + MR - 1) // MR
    # Shares come from sizes; a tile's bits do not depend on who computes it.
    p0, p1, r0, r1 = 0, panels, 0, tiles
    if panels >= nt:
        p0, p1 = t * panels // nt, (t + 1) * panels // nt
    else:
        r0, r1 = t * tiles // nt, (t + 1) * tiles // nt
    c = at(f32(args, 2), t * MR * NR)
    panel = at(f32(args, 3), t * K * NR)
    for p in range(p0, p1):
        j = p * NR
        cols = min(NR, N - j)
        w_p, w_s = at(w, j * w_j), w_k
        if args[15]:
            pack(pack_at, panel, NR, w_p, w_k, w_j, K, cols)
            w_p, w_s = panel, NR
        zero = splat_f32(0.0, mask(LANES, LANES))
        for r in range(r0, r1):
            i = r * M // tiles
            rows = (r + 1) * M // tiles - i
            rows_of_x = at(x, i * x_i)
            tile(tile_at, c, NR, rows_of_x, x_i, x_k, rows, w_p, w_s, K, cols, 0, 0)
            for q in range(rows):
                for v in range(0, cols, LANES):
                    m = mask(cols - v, LANES)
                    h = load(c, q * NR + v, m) + load(b, j + v, m)  # %2 add
                    store(out, (i + q) * N + j + v, maximum(h, zero), m)  # %3 relu


def elements(array: np.ndarray) -> list[int]:
    return [stride // array.itemsize for stride in array.strides]


def run_dense_relu(x, w, b, *, packed: bool, nt: int = 1) -> np.ndarray:
    (m, k), n = x.shape, w.shape[1]
    out = np.full((m, n), np.nan, np.float32)
    scratch = aligned_words(nt * MR * NR)
    panel = aligned_words(nt * k * NR + 16)
    args = np.zeros(16, np.int64)
    for i, which in enumerate(("tile", "pack")):
        args[i] = gemm.table(which, "float32", gemm.pieces(which, "float32"))
    args[2:8] = [array.ctypes.data for array in (scratch, panel, x, w, b, out)]
    args[8:15] = [m, n, k, *elements(x), *elements(w)]
    args[15] = packed
    for t in range(nt):
        dense_relu(args, t, nt)
    return out


def random(rng, rows: int, columns: int, transposed: bool) -> np.ndarray:
    shape = (columns, rows) if transposed else (rows, columns)
    values = rng.standard_normal(shape).astype(np.float32)
    return values.T if transposed else values


def assert_close(out, x, w, b):
    exact = np.maximum(x.astype(np.float64) @ w + b, 0)
    scale = np.abs(x).astype(np.float64) @ np.abs(w) + np.abs(b)
    assert np.all(np.abs(out - exact) <= 4e-7 * scale * np.log2(2 + x.shape[1]))


@pytest.mark.parametrize("w_transposed", [False, True])
@pytest.mark.parametrize("x_transposed", [False, True])
def test_dense_relu_of_ragged_sizes(x_transposed, w_transposed):
    rng = np.random.default_rng(0)
    for m, n in itertools.product(RAGGED, RAGGED):
        k = int(rng.choice(RAGGED))
        x = random(rng, m, k, x_transposed)
        w = random(rng, k, n, w_transposed)
        b = rng.standard_normal(n).astype(np.float32)
        # A tile of several rows reads whole vectors of w.
        whole = m == 1 or n % LANES == 0
        for packed in (
            (False, True) if whole and (not w_transposed or n == 1) else (True,)
        ):
            assert_close(run_dense_relu(x, w, b, packed=packed), x, w, b)


@pytest.mark.parametrize(("m", "k", "n"), [(33, 100, 256), (100, 31, 48), (1, 64, 33)])
def test_bits_do_not_depend_on_threads_or_packing(m, k, n):
    rng = np.random.default_rng(1)
    x, w = random(rng, m, k, False), random(rng, k, n, False)
    b = rng.standard_normal(n).astype(np.float32)
    once = run_dense_relu(x, w, b, packed=False)
    for nt, packed in itertools.product((1, 2, 3, 4), (False, True)):
        np.testing.assert_array_equal(
            run_dense_relu(x, w, b, packed=packed, nt=nt), once
        )


def test_nan_and_infinity_reach_the_output():
    x = np.array([[np.nan, 1], [np.inf, 1], [1, 1]], np.float32)
    out = run_dense_relu(
        x, np.ones((2, 1), np.float32), np.zeros(1, np.float32), packed=True
    )
    np.testing.assert_array_equal(out, [[np.nan], [np.inf], [2]])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("low", [-4, 0, 1, 20])
def test_a_frame_is_zeros_but_for_the_lines_that_stand_in_it(low, step, dtype):
    function = native.c_function(gemm.address("frame", dtype, "whole"), 10)
    rng = np.random.default_rng(7)
    image = rng.standard_normal((6, 40)).astype(dtype)
    lines = np.array([-1, 80, 0, -1, 40], np.int64)
    for width, size in itertools.product((1, 17, 32), (0, 1, 9, 40)):
        to = np.full(5 * width + 2 * LANES, np.nan, dtype)
        tables = (lines.ctypes.data, len(lines), low, step, size, 1, 0)
        function(to.ctypes.data, width, image.ctypes.data, *tables)
        wanted = np.zeros((5, width), dtype)
        for r, i in itertools.product((1, 2, 4), range(size)):
            if 0 <= low + i * step < width:
                wanted[r, low + i * step] = image.reshape(-1)[lines[r] + i]
        np.testing.assert_array_equal(to[: 5 * width].reshape(5, width), wanted)
        assert np.isnan(to[5 * width :]).all()


# --- the two functions by themselves -----------------------------------------------


def a_tile(which, dtype, rows, cols, asking=""):
    """Return the tile of so many rows and columns."""
    shape = gemm.shape(dtype)
    long = cols > shape.columns
    vectors = 2 * shape.vectors if long else -(-cols // shape.lanes)
    piece = f"{rows}x{vectors}{asking}"
    return native.c_function(gemm.address(which, dtype, piece), 11)


def call_tile(c, a, b, rows, cols, k, accumulate=0):
    function = a_tile("tile", str(a.dtype), rows, cols)
    (sa_i, sa_k), (sb_k, _) = elements(a), elements(b)
    (sc, _), pointers = elements(c), [array.ctypes.data for array in (c, a, b)]
    left, right = (pointers[1], sa_i, sa_k), (pointers[2], sb_k, k, cols)
    function(pointers[0], sc, *left, *right, accumulate, 0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tile_of_every_height_and_width(dtype):
    shape = gemm.shape(dtype)
    rng = np.random.default_rng(2)
    tolerance = 200 * np.finfo(dtype).eps
    for rows in range(1, shape.rows + 1):
        widths = range(1, shape.columns + 1)
        for cols in [*widths, *([shape.row_columns] if rows == 1 else [])]:
            k = int(rng.integers(1, 40))
            a = rng.standard_normal((rows, k)).astype(dtype)
            b = rng.standard_normal((k, 2 * shape.columns)).astype(dtype)
            c = np.full((rows + 1, cols + 3), np.nan, dtype)
            call_tile(c, a, b, rows, cols, k)
            exact = a @ b[:, :cols]
            np.testing.assert_allclose(c[:rows, :cols], exact, tolerance, tolerance)
            assert np.isnan(c[rows:]).all()  # nothing beside the tile is written
            assert np.isnan(c[:, cols:]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tile_of_rows_that_lie_where_tables_say(dtype):
    shape = gemm.shape(dtype)
    rng = np.random.default_rng(6)
    image = rng.standard_normal(3000).astype(dtype)
    deep = np.add.outer(np.arange(3) * 40, np.arange(11)).reshape(-1)
    for rows, cols in itertools.product((1, 2, shape.rows), (1, shape.columns)):
        across = rng.integers(0, 2000, rows)
        b = rng.standard_normal((len(deep), shape.columns)).astype(dtype)
        c = np.full((rows, cols), np.nan, dtype)
        longer = np.append(deep, [0] * AHEAD)  # for those that ask
        tables = across.ctypes.data, longer.ctypes.data
        left = (image.ctypes.data, *tables)
        right = (b.ctypes.data, shape.columns, len(deep), cols)
        exact = image[np.add.outer(across, deep)] @ b[:, :cols]
        for asking in ("", "_asking") if cols == shape.columns else ("",):
            function = a_tile("tile_rows", dtype, rows, cols, asking)
            for adds in (0, 1):
                function(c.ctypes.data, cols, *left, *right, adds, len(asking))
                np.testing.assert_allclose(c, (1 + adds) * exact, 1e-4, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tile_of_columns_that_begin_where_a_table_says(dtype):
    shape = gemm.shape(dtype)
    rng = np.random.default_rng(7)
    image = rng.standard_normal(3000).astype(dtype)
    deep = rng.integers(0, 2000, 37)
    for rows, cols in itertools.product((1, 2, shape.rows), (1, 5, shape.columns)):
        a = rng.standard_normal((rows, len(deep))).astype(dtype)
        c = np.full((rows, cols), np.nan, dtype)
        function = a_tile("tile_columns", dtype, rows, cols)
        left = a.ctypes.data, len(deep), 1
        right = image.ctypes.data, deep.ctypes.data, len(deep), cols
        exact = a @ image[np.add.outer(deep, np.arange(cols))]
        for adds in (0, 1):
            function(c.ctypes.data, cols, *left, *right, adds, 0)
            np.testing.assert_allclose(c, (1 + adds) * exact, 1e-4, 1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_spread_adds_elements_where_tables_say(dtype):
    function = native.c_function(gemm.address("spread", dtype, "whole"), 7)
    rng = np.random.default_rng(8)
    where = np.array([0, 300, 1, 301, 40, 340, 2])
    places = np.add.outer(np.arange(4) * 20, np.arange(19)).reshape(-1)[:70]
    a = rng.standard_normal((len(where), 80)).astype(dtype)
    to = rng.standard_normal(500).astype(dtype)
    wanted = to.copy()
    np.add.at(wanted, np.add.outer(where, places), a[:, : len(places)])
    tables = where.ctypes.data, len(where), places.ctypes.data
    function(to.ctypes.data, *tables, a.ctypes.data, 80, len(places))
    np.testing.assert_allclose(to, wanted, 1e-5, 1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("step", "low"), [(1, 2), (1, -1), (2, 1), (3, -4)])
def test_copies_of_a_frame_are_moved(dtype, step, low):
    function = native.c_function(gemm.address("frame", dtype, "whole"), 10)
    rng = np.random.default_rng(9)
    for size, width, n, copies in ((5, 9, 3, 1), (40, 37, 70, 3), (1, 16, 2, 2)):
        image = rng.standard_normal((n, size)).astype(dtype)
        lines = np.where(np.arange(n) % 3 == 1, -1, np.arange(n) * size)
        to = np.full(copies * n * width + 1, np.nan, dtype)
        wanted = np.zeros((copies, n, width), dtype)
        for copy, r, i in itertools.product(range(copies), range(n), range(size)):
            place = low - 2 * copy + i * step
            if lines[r] >= 0 and 0 <= place < width:
                wanted[copy, r, place] = image[r, i]
        source = image.ctypes.data, lines.ctypes.data, n
        function(to.ctypes.data, width, *source, low, step, size, copies, 2)
        np.testing.assert_array_equal(to[:-1].reshape(wanted.shape), wanted)
        assert np.isnan(to[-1])  # nothing behind is written


def test_accumulating_blocks_of_k_changes_no_bit():
    rng = np.random.default_rng(3)
    k = 300
    a = rng.standard_normal((MR, k)).astype(np.float32)
    b = rng.standard_normal((k, NR)).astype(np.float32)
    whole, parts = np.empty((2, MR, NR), np.float32)
    call_tile(whole, a, b, MR, NR, k)
    for start in range(0, k, 128):
        stop = min(k, start + 128)
        call_tile(parts, a[:, start:], b[start:], MR, NR, stop - start, start)
    np.testing.assert_array_equal(parts, whole)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pack_pads_with_zeros(dtype):
    shape = gemm.shape(dtype)
    rng = np.random.default_rng(4)
    for k, cols, width in itertools.product(
        (1, 2, 15, 16, 17, 40),
        (1, 3, shape.lanes, shape.lanes + 1, shape.columns),
        (shape.lanes, shape.columns),
    ):
        if cols > width:
            continue
        big = rng.standard_normal((3 * max(k, cols), 3 * max(k, cols))).astype(dtype)
        for way, b in (
            ("copy", big[:k, :cols]),
            ("transpose", big.T[:k, :cols]),
            ("single", big[: 2 * k : 2, : 3 * cols : 3]),
        ):
            function = native.c_function(gemm.address("pack", dtype, way), 7)
            to = np.full((k, width), np.nan, dtype)
            function(to.ctypes.data, width, b.ctypes.data, *elements(b), k, cols)
            np.testing.assert_array_equal(to[:, :cols], b)
            np.testing.assert_array_equal(to[:, cols:], 0)


@pytest.mark.skipif(sys.platform != "linux", reason="needs mprotect")
def test_nothing_behind_the_buffers_is_read():
    page = mmap.PAGESIZE
    memory = mmap.mmap(-1, 3 * page)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(base + 2 * page), page, 0) == 0
    whole = np.frombuffer(memory, np.float32, 2 * page // 4)

    def at_the_end(rows: int, columns: int) -> np.ndarray:
        array = whole[len(whole) - rows * columns :].reshape(rows, columns)
        array[:] = 1
        return array

    c = np.empty((MR, 2 * NR), np.float32)
    to = np.empty((20, 2 * NR), np.float32)
    for rows, cols in ((1, 1), (3, 5), (1, NR - 1), (MR, NR), (2, LANES), (1, 2 * NR)):
        k = 7
        a = np.ones((rows, k), np.float32)
        if rows == 1 or cols % LANES == 0:
            call_tile(c, a, at_the_end(k, cols), rows, cols, k)
            assert np.all(c[:rows, :cols] == k)
        b = np.ones((k, 2 * NR), np.float32)
        call_tile(c, at_the_end(rows, k), b, rows, cols, k)
        assert np.all(c[:rows, :cols] == k)
        for way, b in (
            ("copy", at_the_end(k, cols)),
            ("transpose", at_the_end(cols, k).T),
        ):
            copy = native.c_function(gemm.address("pack", "float32", way), 7)
            copy(to.ctypes.data, 2 * NR, b.ctypes.data, *elements(b), k, cols)
            assert np.all(to[:k, :cols] == 1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gather_finds_runs_of_neighbours_along_and_across(dtype):
    rng = np.random.default_rng(5)
    image = rng.standard_normal(4000).astype(dtype)
    windows = np.add.outer(np.arange(3) * 100, np.arange(3)).reshape(-1)
    pixels = np.add.outer(np.arange(5) * 40, np.arange(33)).reshape(-1)
    tables = (windows, pixels, np.array([7]), np.arange(20)[::-1] * 3)
    for deep, across, turn in itertools.product(tables, tables, (0, 1)):
        deep, across = deep.astype(np.int64), across.astype(np.int64)
        k, cols = len(deep), len(across)
        width = -(-cols // LANES) * LANES
        to = np.full((k, width), np.nan, dtype)
        way = ("runs", "turned")[turn]
        function = native.c_function(gemm.address("gather", dtype, way), 7)
        places = (deep.ctypes.data, k, across.ctypes.data, cols)
        function(to.ctypes.data, width, image.ctypes.data, *places)
        np.testing.assert_array_equal(to[:, :cols], image[deep[:, None] + across])


def test_packing_pays_where_rows_off_a_line_are_read_often():
    deep, flat = 256, 16  # a panel larger than the first cache, and a small one
    for k, enough in ((deep, 4), (flat, 12)):
        for m in (enough * MR, enough * MR + 1):
            packs = gemm.should_pack_b(m, NR, k, 1, "float32", lines_up=False)
            assert packs == (m > enough * MR)
    assert not gemm.should_pack_b(1000, NR, 64, 1)


def test_packing_pays_where_panels_are_read_often():
    assert gemm.should_pack_b(5 * MR, 512, 64, 1)
    assert not gemm.should_pack_b(MR, 512, 64, 1)
    assert not gemm.should_pack_b(1000, NR, 64, 1)
    assert gemm.should_pack_b(2, 10, 64, 1)  # rows of b that are no whole vectors
    assert not gemm.should_pack_b(1, 10, 64, 1)
    assert gemm.should_pack_b(1, 10, 64, 512)
    assert gemm.should_pack_a(784, 512, 784)
    assert not gemm.should_pack_a(784, 512, 1)
