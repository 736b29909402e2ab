"""Arithmetic of SIMD vectors: operators, conversions, reductions across lanes."""

import operator
from ctypes import POINTER, c_int64

import numpy as np
import pytest
from numba import cfunc

from graphc.backends.cpu.prelude import arith, horizontal
from graphc.backends.cpu.prelude.arith import (
    beats_max,
    cast_bool,
    cast_f32,
    cast_f64,
    cast_i32,
    cast_i64,
    select,
)
from graphc.backends.cpu.prelude.horizontal import hall, hany, hargmax, hargmin, hsum
from graphc.backends.cpu.prelude.vector import (
    b8,
    f32,
    f64,
    i32,
    i64,
    iota,
    load,
    mask,
    put,
    splat_f32,
    store,
)

POINTERS = {"float32": f32, "float64": f64, "int32": i32, "int64": i64, "bool": b8}
LANES = (4, 8, 16)
SPECIAL = (0.0, -0.0, 1.0, -1.0, 2.5, -2.5, 0.5, 3e9, -3e9, np.inf, -np.inf, np.nan)


def kernel(body):
    """Compile as the emitter does, but callable from Python: body(table, n)."""
    options = {"error_model": "numpy", "fastmath": {"contract"}}
    return cfunc("void(CPointer(int64), int64)", **options)(body)


def call(compiled, n, *arrays):
    """Call with a table of the arrays' addresses."""
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    compiled.ctypes(table.ctypes.data_as(POINTER(c_int64)), n)


def apply(function, *inputs, dtype=None, lanes=16):
    """Compute function(*inputs), elementwise, through a kernel."""
    inputs = [np.ascontiguousarray(x) for x in inputs]
    out = np.zeros(inputs[0].shape, dtype or inputs[0].dtype)
    first, last = POINTERS[str(inputs[0].dtype)], POINTERS[str(out.dtype)]
    at = len(inputs)

    def unary(args, n):
        i = 0
        while i < n:
            m = mask(n - i, lanes)
            store(last(args, at), i, function(load(first(args, 0), i, m)), m)
            i += lanes

    def binary(args, n):
        i = 0
        while i < n:
            m = mask(n - i, lanes)
            a, b = load(first(args, 0), i, m), load(first(args, 1), i, m)
            store(last(args, at), i, function(a, b), m)
            i += lanes

    call(kernel(binary if at == 2 else unary), out.size, *inputs, out)
    return out


def pairs(values, dtype):
    """Return all pairs of the values, as two arrays."""
    a, b = np.meshgrid(np.array(values, dtype), np.array(values, dtype))
    return a.ravel(), b.ravel()


# ---- operators -----------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize(
    "function",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.floordiv,
        operator.mod,
        operator.lt,
        operator.le,
        operator.gt,
        operator.ge,
        operator.eq,
        operator.ne,
        arith.maximum,
        arith.minimum,
    ],
    ids=lambda f: f.__name__ if hasattr(f, "__name__") else str(f),
)
def test_binary_operators_agree_with_numpy(function, dtype):
    values = SPECIAL if dtype.startswith("float") else (0, 1, -1, 2, -2, 7, -7, 100)
    if dtype.startswith("int"):
        info = np.iinfo(dtype)
        values = (*values, info.max, info.max - 1, info.min, info.min + 1)
    a, b = pairs(values, dtype)
    meaning = {"maximum": np.maximum, "minimum": np.minimum}.get(
        getattr(function, "__name__", ""), function
    )
    with np.errstate(all="ignore"):
        expected = meaning(a, b)
    if function in (operator.floordiv, operator.mod) and dtype.startswith("int"):
        expected[b == 0] = 0
    np.testing.assert_array_equal(apply(function, a, b, dtype=expected.dtype), expected)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_floor_division_is_exact_for_integers_of_any_size(dtype):
    random = np.random.default_rng(0)
    bits = np.iinfo(dtype).bits
    shift = random.integers(0, bits, (2, 4096))
    a, b = random.integers(-(2**63), 2**63 - 1, (2, 4096)) >> (64 - bits)
    a, b = (a >> shift[0]).astype(dtype), (b >> shift[1]).astype(dtype)
    b[b == 0] = 3
    # Near multiples, where a rounded quotient goes wrong first.
    a[::3] = a[::3] // b[::3] * b[::3] - np.sign(b[::3])
    with np.errstate(over="ignore"):
        expected, rest = a // b, a % b
    np.testing.assert_array_equal(apply(operator.floordiv, a, b), expected)
    np.testing.assert_array_equal(apply(operator.mod, a, b), rest)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_division_is_that_of_ieee(dtype):
    a, b = pairs(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(apply(operator.truediv, a, b), a / b)


def test_a_product_and_a_sum_become_one_fused_multiply_add():
    def body(args, n):
        m = mask(n, 16)
        x = load(f32(args, 0), 0, m)
        store(f32(args, 1), 0, x * x - splat_f32(1.0, m), m)

    x = np.full(16, 1 + 2**-12, np.float32)
    y = np.zeros(16, np.float32)
    call(kernel(body), 16, x, y)
    assert y[0] == np.float64(x[0]) ** 2 - 1, "x * x was rounded before the sum"


def test_nothing_else_is_rearranged():
    def body(args, n):
        m = mask(n, 16)
        x, one = load(f32(args, 0), 0, m), splat_f32(1.0, m)
        store(f32(args, 1), 0, (x + one) - x, m)

    x = np.array([np.inf, np.nan, 1e9, 0.25] * 4, np.float32)
    y = np.zeros(16, np.float32)
    call(kernel(body), 16, x, y)
    np.testing.assert_array_equal(y[:4], np.float32([np.nan, np.nan, 0, 1]))


def test_masks_combine_and_choose():
    def body(args, n):
        m = mask(n, 8)
        a, b = load(b8(args, 0), 0, m), load(b8(args, 1), 0, m)
        store(b8(args, 2), 0, a & b, m)
        store(b8(args, 2), 8, a | b, m)
        store(b8(args, 2), 16, a ^ b, m)
        store(b8(args, 2), 24, ~a, m)
        store(b8(args, 2), 32, select(a, b, ~b), m)

    a = np.array([0, 0, 1, 1] * 2, bool)
    b = np.array([0, 1, 0, 1] * 2, bool)
    out = np.zeros(40, bool)
    call(kernel(body), 8, a, b, out)
    expected = np.concatenate([a & b, a | b, a ^ b, ~a, np.where(a, b, ~b)])
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    ("function", "meaning"),
    [
        (operator.neg, np.negative),
        (arith.neg, np.negative),
        (arith.absolute, np.abs),
        (arith.sign, np.sign),
        (arith.floor, np.floor),
        (arith.ceil, np.ceil),
        (arith.trunc, np.trunc),
        (arith.round_even, np.rint),
        (arith.sqrt, np.sqrt),
        (arith.isnan, np.isnan),
    ],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_unary_functions_agree_with_numpy(function, meaning, dtype):
    x = np.array([*SPECIAL, 1.5, -1.5, 3.5, 1e-40], dtype)
    with np.errstate(all="ignore"):
        expected = meaning(x)
    got = apply(function, x, dtype=expected.dtype)
    np.testing.assert_array_equal(got, expected)
    if expected.dtype != bool:
        defined = ~np.isnan(expected)
        np.testing.assert_array_equal(
            np.signbit(got[defined]), np.signbit(expected[defined])
        )


# ---- conversions ---------------------------------------------------------------------

CASTS = {
    "float32": cast_f32,
    "float64": cast_f64,
    "int32": cast_i32,
    "int64": cast_i64,
    "bool": cast_bool,
}


@pytest.mark.parametrize("target", CASTS)
@pytest.mark.parametrize("source", CASTS)
def test_casts_agree_with_numpy(source, target):
    x = np.array([0, 1, 2, 100, 127, 2**24 + 1, 2**31 - 1, 5] * 2).astype(source)
    if source != "bool":
        x[8:] = -x[8:]
    if source.startswith("float"):
        x[:4] = [0.75, -0.75, 2.5, 1e-30]
    if source.startswith("float") and target == "int32":
        x[np.abs(x) > 2**30] = 2**30
    got = apply(CASTS[target], x, dtype=target)
    np.testing.assert_array_equal(got, x.astype(target))


@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("target", ["int32", "int64"])
def test_casts_to_integers_saturate(source, target):
    x = np.array([np.inf, -np.inf, np.nan, 1e30, -1e30, 9.5e18, -9.5e18, 7.9], source)
    least, most = np.iinfo(target).min, np.iinfo(target).max
    got = apply(CASTS[target], x, dtype=target)
    assert got.tolist() == [most, least, 0, most, least, most, least, 7]


# ---- across lanes --------------------------------------------------------------------


@pytest.mark.parametrize("lanes", LANES)
def test_horizontal_sum_adds_halves_in_a_fixed_order(lanes):
    def body(args, n):
        put(f32(args, 1), 0, hsum(load(f32(args, 0), 0, mask(n, lanes))))

    x = np.random.default_rng(0).normal(size=lanes).astype(np.float32)
    out = np.zeros(1, np.float32)
    call(kernel(body), lanes, x, out)
    while x.size > 1:
        x = x[: x.size // 2] + x[x.size // 2 :]
    assert out[0] == x[0]


@pytest.mark.parametrize("name", ["hsum", "hprod", "hmax", "hmin"])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_horizontal_reductions_agree_with_numpy(name, dtype):
    reduce, pointer = getattr(horizontal, name), POINTERS[dtype]

    def body(args, n):
        put(pointer(args, 1), 0, reduce(load(pointer(args, 0), 0, mask(n, 8))))

    meaning = {"hsum": np.sum, "hprod": np.prod, "hmax": np.max, "hmin": np.min}[name]
    compiled = kernel(body)
    rows = [[1, -2, 3, 4, -5, 6, 2, 8]]
    if dtype == "float32":
        rows += [[1, 2, np.nan, 4, 5, 6, 7, 8], [1, 2, 3, 4, 5, 6, 7, np.nan]]
    for row in rows:
        x, out = np.array(row, dtype), np.zeros(1, dtype)
        call(compiled, 8, x, out)
        np.testing.assert_array_equal(out[0], meaning(x))


def test_hany_and_hall_ask_a_mask():
    def body(args, n):
        m = load(b8(args, 0), 0, mask(n, 4))
        put(b8(args, 1), 0, hany(m))
        put(b8(args, 1), 1, hall(m))

    compiled, out = kernel(body), np.zeros(2, bool)
    for row in ([0, 0, 0, 0], [0, 0, 1, 0], [1, 1, 1, 1]):
        call(compiled, 4, np.array(row, bool), out)
        assert out.tolist() == [any(row), all(row)]


ROWS = [
    [3, 1, 4, 1, 5, 9, 2, 6, 5, 9, 1],
    [0] * 11,
    [-np.inf] * 11,
    [np.inf] * 11,
    [1, np.nan, 5, np.nan, 0, 0, 0, 0, 0, np.nan, 9],
]


@pytest.mark.parametrize("name", ["argmax", "argmin"])
def test_horizontal_argmax_agrees_with_numpy(name):
    reduce = {"argmax": hargmax, "argmin": hargmin}[name]

    def body(args, n):
        m = mask(n, 16)
        v = load(f32(args, 0), 0, m)
        best, at = reduce(v, iota(0, m), m)
        put(f32(args, 1), 0, best)
        put(i64(args, 2), 0, at)

    compiled = kernel(body)
    for row in ROWS:
        x = np.array(row, np.float32)
        best, at = np.zeros(1, np.float32), np.zeros(1, np.int64)
        call(compiled, x.size, x, best, at)
        assert at[0] == getattr(np, name)(x)
        np.testing.assert_array_equal(best[0], x[at[0]])


def test_argmax_over_a_long_row_keeps_two_vectors():
    def body(args, n):
        everywhere = mask(8, 8)
        best, at = splat_f32(-np.inf, everywhere), iota(0, everywhere)
        i = 0
        while i < n:
            m = mask(n - i, 8)
            v = load(f32(args, 0), i, m)
            better = beats_max(best, v) & m
            best, at = select(better, v, best), select(better, iota(i, m), at)
            i += 8
        put(i64(args, 1), 0, hargmax(best, at, everywhere)[1])

    compiled, at = kernel(body), np.zeros(1, np.int64)
    random = np.random.default_rng(0)
    for size in (1, 7, 8, 9, 100):
        x = random.integers(0, 10, size).astype(np.float32)
        call(compiled, size, x, at)
        assert at[0] == np.argmax(x)
        x[size // 2 :: 3] = np.nan
        call(compiled, size, x, at)
        assert at[0] == np.argmax(x)
