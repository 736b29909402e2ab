"""The SIMD vector type: what a kernel can read, compute and write with it."""

import subprocess
import sys
from ctypes import POINTER, c_int64

import numpy as np
import pytest
from numba import cfunc

from graphc.backends.cpu.prelude import vector
from graphc.backends.cpu.prelude.vector import (
    b8,
    every_other,
    f32,
    f64,
    gather,
    get,
    i32,
    i64,
    iota,
    load,
    load1,
    mask,
    mask4,
    mask8,
    mask16,
    put,
    scatter,
    splat,
    splat_f32,
    splat_i64,
    store,
    strided,
)

POINTERS = {"float32": f32, "float64": f64, "int32": i32, "int64": i64, "bool": b8}
LANES = (4, 8, 16)


def kernel(body):
    """Compile as the emitter does, but callable from Python: body(table, n)."""
    options = {"error_model": "numpy", "fastmath": {"contract"}}
    return cfunc("void(CPointer(int64), int64)", **options)(body)


def call(compiled, n, *arrays):
    """Call with a table of the arrays' addresses."""
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    compiled.ctypes(table.ctypes.data_as(POINTER(c_int64)), n)


# ---- masks and memory ----------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES)
def test_mask_sets_the_lanes_below_n(lanes):
    def body(args, n):
        inside = mask(n, lanes)
        everywhere = mask(lanes, lanes)
        store(b8(args, 0), 0, inside, everywhere)

    compiled = kernel(body)
    for n in (-(2**40), -1, 0, 1, lanes - 1, lanes, lanes + 1, 2**32 + 1, 2**62):
        out = np.zeros(lanes, bool)
        call(compiled, n, out)
        assert out.tolist() == [k < n for k in range(lanes)]


def test_mask_named_by_lanes_is_the_same():
    def body(args, n):
        store(b8(args, 0), 0, mask4(n), mask(4, 4))
        store(b8(args, 0), 4, mask8(n), mask(8, 8))
        store(b8(args, 0), 12, mask16(n), mask(16, 16))

    out = np.zeros(28, bool)
    call(kernel(body), 3, out)
    assert np.flatnonzero(out).tolist() == [0, 1, 2, 4, 5, 6, 12, 13, 14]


@pytest.mark.parametrize("dtype", POINTERS)
@pytest.mark.parametrize("lanes", LANES)
def test_load_and_store_touch_only_lanes_that_are_on(dtype, lanes):
    pointer = POINTERS[dtype]

    def body(args, n):
        m = mask(n, lanes)
        v = load(pointer(args, 0), 1, m)
        store(pointer(args, 1), 1, v, m)
        store(pointer(args, 2), 0, v, mask(lanes, lanes))

    compiled = kernel(body)
    x = np.arange(3, lanes + 5).astype(dtype)
    for n in range(lanes + 1):
        y, all_lanes = np.zeros(lanes + 2, dtype), np.ones(lanes, dtype)
        call(compiled, n, x, y, all_lanes)
        np.testing.assert_array_equal(y[1 : n + 1], x[1 : n + 1])
        assert not y[0]
        assert not y[n + 1 :].any()
        assert not all_lanes[n:].any(), "lanes that are off are zero"


@pytest.mark.parametrize(("read", "bytes_before"), [("load", 8), ("every_other", 12)])
def test_reads_do_not_go_past_the_end_of_a_page(tmp_path, read, bytes_before):
    # The two or three elements before a page that must not be read.
    script = tmp_path / "page.py"
    script.write_text(
        "import ctypes, mmap, numpy as np\n"
        "from ctypes import POINTER, c_int64\n"
        "from numba import cfunc\n"
        f"from graphc.backends.cpu.prelude.vector import f32, {read}, mask, store\n"
        "@cfunc('void(CPointer(int64), int64)', error_model='numpy')\n"
        "def k(args, n):\n"
        "    m = mask(n, 16)\n"
        f"    store(f32(args, 1), 0, {read}(f32(args, 0), 0, m), m)\n"
        "page = mmap.PAGESIZE\n"
        "libc = ctypes.CDLL(None)\n"
        "two = mmap.mmap(-1, 2 * page)\n"
        "start = ctypes.addressof(ctypes.c_char.from_buffer(two))\n"
        "assert libc.mprotect(ctypes.c_void_p(start + page), page, 0) == 0\n"
        "out = np.ones(16, np.float32)\n"
        f"table = np.array([start + page - {bytes_before}, out.ctypes.data])\n"
        "k.ctypes(table.ctypes.data_as(POINTER(c_int64)), 2)\n"
        "assert out.sum() == 14\n"
        "print('fine', flush=True)\n"
        "import os; os._exit(0)\n"
    )
    run = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False
    )
    assert run.stdout == "fine\n", run.stderr


@pytest.mark.parametrize("dtype", POINTERS)
def test_indexed_access_reads_and_writes_where_the_indices_say(dtype):
    pointer = POINTERS[dtype]

    def body(args, n):
        m = mask(n, 8)
        index = load(i64(args, 1), 0, m)
        store(pointer(args, 2), 0, gather(pointer(args, 0), index, m), m)
        store(pointer(args, 2), 8, strided(pointer(args, 0), 1, 3, m), m)
        store(pointer(args, 2), 16, load1(pointer(args, 0), 5, m), m)
        store(pointer(args, 2), 24, every_other(pointer(args, 0), 1, m), m)
        scatter(pointer(args, 3), index, load(pointer(args, 0), 0, m), m)

    x = (np.arange(30) % 7).astype(dtype)
    index = np.array([9, 3, 3, 20, 0, 10**15, 10**15, 10**15])
    read, written = np.zeros(32, dtype), np.zeros(30, dtype)
    call(kernel(body), 5, x, index, read, written)
    np.testing.assert_array_equal(read[:5], x[index[:5]])
    np.testing.assert_array_equal(read[8:13], x[1:16:3])
    np.testing.assert_array_equal(read[16:21], np.repeat(x[5], 5))
    np.testing.assert_array_equal(read[24:29], x[1:11:2])
    expected = np.zeros(30, dtype)
    expected[index[:5]] = x[:5]  # NumPy too keeps the last of equal indices
    np.testing.assert_array_equal(written, expected)


def test_splat_and_iota_fill_lanes_from_scalars():
    def body(args, n):
        m = mask(n, 4)
        store(f64(args, 0), 0, splat(2.5, m), m)
        store(f32(args, 1), 0, splat_f32(0.1, m), m)
        store(i64(args, 2), 0, iota(get(i64(args, 2), 3), m) + splat_i64(1, m), m)
        put(b8(args, 3), 1, get(f64(args, 0), 0) > 2.0)

    a, b = np.zeros(4), np.zeros(4, np.float32)
    c, d = np.array([0, 0, 0, 7]), np.zeros(2, bool)
    call(kernel(body), 4, a, b, c, d)
    assert a.tolist() == [2.5] * 4
    assert b.tolist() == [np.float32(0.1)] * 4
    assert c.tolist() == [8, 9, 10, 11]
    assert d.tolist() == [False, True]


# ---- the tools around it -------------------------------------------------------------


def test_numbas_disk_cache_works_on_kernels(tmp_path):
    module = tmp_path / "kernels.py"
    module.write_text(
        "from numba import njit\n"
        "from graphc.backends.cpu.prelude.vector import f32, load, mask, store\n"
        "from graphc.backends.cpu.prelude.vmath import exp\n"
        "@njit('void(CPointer(int64), int64)', cache=True, no_cpython_wrapper=True)\n"
        "def k(args, n):\n"
        "    m = mask(n, 8)\n"
        "    store(f32(args, 1), 0, exp(load(f32(args, 0), 0, m)), m)\n"
        "print(sum(k.stats.cache_hits.values()))\n"
    )
    hits = [
        subprocess.run(
            [sys.executable, module], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert hits == ["0", "1"]


def test_vectors_of_different_types_do_not_mix():
    def body(args, n):
        m = mask(n, 4)
        a, b = load(f32(args, 0), 0, m), load(f64(args, 0), 0, m)
        store(f32(args, 0), 0, a + b, m)

    with pytest.raises(Exception, match="No implementation of function"):
        kernel(body)


def test_lanes_are_part_of_the_type():
    assert vector.Vec(vector.types.float32, 8) == vector.Vec(vector.types.float32, 8)
    assert vector.Vec(vector.types.float32, 8) != vector.Vec(vector.types.float32, 4)
    assert vector.Mask(8) != vector.Mask(16)
