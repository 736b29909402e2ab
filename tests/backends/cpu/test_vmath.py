"""The elementary functions: float32 within 2 ulp, float64 as the C library has them.

`python backends/cpu/prelude/ulp.py` tries all float32 numbers; here it is a sample of
every exponent and the cases that are hard.
"""

import json
import math
from ctypes import POINTER, c_int64
from functools import cache

import numpy as np
import pytest
from numba import cfunc

from graphc.backends.cpu.prelude import instructions, native, ulp
from graphc.backends.cpu.prelude.arith import ceil, round_even, trunc
from graphc.backends.cpu.prelude.vector import f32, f64, load, mask, store
from graphc.backends.cpu.prelude.vpower import power

NAMES = list(ulp.REFERENCES)
HERE = ulp.kinds()  # the kinds of arithmetic that this processor has
LIMITS = (np.inf, -np.inf, np.nan, 0.0, -0.0, 3.4028235e38, -3.4028235e38)
# Where results overflow, become subnormal, vanish, saturate, or parts are joined.
JOINTS = (
    88.72283,
    88.72284,
    -87.33655,
    -103.97208,
    -103.97209,
    0.625,
    0.95,
    4.1,
    1,
    -1,
)
JOINTS += (
    0.75,
    1.5,
    -0.25,
    0.5,
    2**-126,
    2**-149,
    -(2**-149),
    -18,
    48039,
    1e-45,
    2**24,
    10.054,
    10.1,
    -3.84,
    8,
    1000,
    1e10,
)
# The float32 numbers nearest to multiples of pi / 2, where the reduction cancels most.
CLOSE_TO_PI = (3.1415927, 1.5707964, 16367173 * 2.0**72, 13176795 * 2.0**-22, 355, 710)


def sample():
    """Return numbers of all exponents, hard ones, and the neighbours of those."""
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, dtype=np.uint32)
    hard = np.array([*JOINTS, *CLOSE_TO_PI], np.float32)
    near = [hard.view(np.int32) + step for step in (-2, -1, 0, 1, 2)]
    near = np.concatenate(near).view(np.float32)
    return np.concatenate([bits.view(np.float32), near, -near, np.float32(LIMITS)])


@cache
def checker(name, kind="", lanes=16):
    """Return a function compiled once for all tests."""
    return ulp.Checker(name, lanes, kind)


def binary_kernel(pointer, lanes):
    """Compile z = x ** y over three arrays."""

    def body(args, n):
        i = 0
        while i < n:
            m = mask(n - i, lanes)
            x, y = load(pointer(args, 0), i, m), load(pointer(args, 1), i, m)
            store(pointer(args, 2), i, power(x, y), m)
            i += lanes

    options = {"error_model": "numpy", "fastmath": {"contract"}}
    return cfunc("void(CPointer(int64), int64)", **options)(body)


def call(compiled, *arrays):
    """Call with a table of addresses; the last array receives the result."""
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    compiled.ctypes(table.ctypes.data_as(POINTER(c_int64)), arrays[0].size)
    return arrays[-1]


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("name", NAMES)
def test_float32_is_within_two_ulp(name, kind):
    check = checker(name, kind)
    check.worst[:] = 0
    check(sample())
    assert check.worst[0] < 2, f"worst at {check.worst[1]!r}"


@pytest.mark.parametrize("kind", HERE)
@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_the_number_of_lanes(name, kind):
    x = sample()[-30_000:]
    for lanes in (4, 8, 32) if name == "tanh" else (8,):
        by_few = checker(name, kind, lanes)(x)
        np.testing.assert_array_equal(by_few, checker(name, kind)(x))


@pytest.mark.parametrize("kind", instructions.KINDS)
def test_all_floats_were_tried_with_these_sources(kind):
    stored = json.loads(ulp.RESULTS.read_text())[kind]
    assert set(stored) == set(NAMES)
    for name in NAMES:
        again = f"run python backends/cpu/prelude/ulp.py {name} where {kind} runs"
        assert stored[name]["hash"] == ulp.digest(name), again
        assert stored[name]["ulp"] < 2


def test_the_kind_of_arithmetic_is_that_of_the_target():
    assert instructions.kind() == instructions.native_kind()
    with instructions.using("portable"):
        assert instructions.kind() == "portable"
    features = set(native.target().features.split(","))
    wide = {"+avx512f", "+avx512dq"} <= features
    assert instructions.kind() == ("avx512" if wide else "portable")


def test_exponentials_have_the_same_bits_in_each_kind():
    # Both scale once, exactly; only quotients may differ from kind to kind.
    x = sample()
    found = [checker("exp", kind)(x) for kind in HERE]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@pytest.mark.parametrize(
    ("name", "x", "y"),
    [
        ("exp", 100.0, np.inf),
        ("exp", -103.5, 2.0**-149),
        ("exp", -np.inf, 0.0),
        ("expm1", -0.0, -0.0),
        ("expm1", -100.0, -1.0),
        ("log", 0.0, -np.inf),
        ("log", -0.0, -np.inf),
        ("log", -1.0, np.nan),
        ("log", 1.0, 0.0),
        ("log1p", -1.0, -np.inf),
        ("log1p", 1e-30, 1e-30),
        ("exp", 3e38, np.inf),
        ("exp", -3e38, 0.0),
        ("exp", np.inf, np.inf),
        ("exp", np.nan, np.nan),
        ("exp", -0.0, 1.0),
        ("tanh", -20.0, -1.0),
        ("tanh", 3e38, 1.0),
        ("tanh", -np.inf, -1.0),
        ("tanh", np.nan, np.nan),
        ("tanh", -0.0, -0.0),
        ("tanh", 1e-45, 1e-45),
        ("tanh", -1e-40, -1e-40),
        ("sigmoid", -100.0, math.exp(-100)),
        ("sigmoid", np.inf, 1.0),
        ("rsqrt", 0.0, np.inf),
        ("rsqrt", 4.0, 0.5),
        ("erf", np.inf, 1.0),
        ("sin", -0.0, -0.0),
        ("sin", np.inf, np.nan),
        ("cos", 0.0, 1.0),
        ("log1p", 3e38, math.log(float(np.float32(3e38)))),
        ("log2", 0.0, -np.inf),
        ("log2", -0.0, -np.inf),
        ("log2", -1.0, np.nan),
        ("log2", np.inf, np.inf),
        ("log2", 8.0, 3.0),
        ("log2", 2.0**-149, -149.0),
        ("log10", 0.0, -np.inf),
        ("log10", -np.inf, np.nan),
        ("log10", 1000.0, 3.0),
        ("log10", 1e10, 10.0),
        ("erfc", np.inf, 0.0),
        ("erfc", -np.inf, 2.0),
        ("erfc", 0.0, 1.0),
        ("erfc", 10.0, 2.088488e-45),
        ("erfc", 11.0, 0.0),
        ("arctan", -0.0, -0.0),
        ("arctan", np.inf, np.float32(np.pi / 2)),
        ("arctan", -np.inf, np.float32(-np.pi / 2)),
        ("arctan", 1e-40, 1e-40),
    ],
)
def test_special_values(name, x, y):
    for kind in HERE:
        got = checker(name, kind)(np.array([x], np.float32))[0]
        np.testing.assert_array_equal(got, np.float32(y))
        assert np.isnan(y) or np.signbit(got) == np.signbit(np.float32(y))


@pytest.mark.parametrize("name", NAMES)
def test_float64_agrees_with_the_c_library(name):
    function = getattr(ulp._prelude(ulp.REFERENCES[name][0]), name)

    @cfunc("void(CPointer(int64), int64)", error_model="numpy", fastmath={"contract"})
    def compiled(args, n):
        i = 0
        while i < n:
            m = mask(n - i, 8)
            store(f64(args, 1), i, function(load(f64(args, 0), i, m)), m)
            i += 8

    x = np.array([0.0, -0.0, 1e-300, 0.3, -0.3, 2.5, 40, 700, np.inf, np.nan, -40])
    y = call(compiled, x, np.zeros_like(x))
    expected = [ulp.REFERENCES[name][1](v) for v in x]
    np.testing.assert_allclose(y, expected, rtol=4e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "numpy"), [(ceil, np.ceil), (trunc, np.trunc), (round_even, np.rint)]
)
def test_rounding_is_numpys(function, numpy, dtype):
    pointer = {"float32": f32, "float64": f64}[dtype]

    @cfunc("void(CPointer(int64), int64)", error_model="numpy", fastmath={"contract"})
    def compiled(args, n):
        i = 0
        while i < n:
            m = mask(n - i, 8)
            store(pointer(args, 1), i, function(load(pointer(args, 0), i, m)), m)
            i += 8

    halves = np.arange(-4, 4.5, 0.5)
    near = [0.49999997, 2**22 + 0.5, 2**23 + 1, 1e30, np.inf, np.nan, -0.0, 2.0**52 + 1]
    x = np.concatenate([halves, near, -np.array(near)]).astype(dtype)
    y = call(compiled, x, np.zeros_like(x))
    np.testing.assert_array_equal(y, numpy(x))
    np.testing.assert_array_equal(np.signbit(y[:-3]), np.signbit(numpy(x)[:-3]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_power_has_every_special_case_of_numpy(dtype):
    values = (0, 1, 2, 0.5, 3, 1.5, np.inf, 1e-40, 3e38, 2**24 - 1, 2**24, 127, 0.1)
    values = np.array([*values, *(-v for v in values), np.nan], dtype)
    x, y = (a.ravel() for a in np.meshgrid(values, values))
    z = call(binary_kernel({"float32": f32, "float64": f64}[dtype], 8), x, y, x.copy())
    with np.errstate(all="ignore"):
        expected = np.power(x.astype(float), y.astype(float)).astype(dtype)
    np.testing.assert_allclose(
        z, expected, rtol=2**-23 if dtype == "float32" else 1e-15
    )
    same_sign = np.signbit(z) == np.signbit(expected)
    assert (same_sign | np.isnan(expected)).all()


def test_power_is_within_one_ulp():
    random = np.random.default_rng(0)
    bits = random.integers(1, 0x7F800000, 400_000, dtype=np.uint32)
    x = bits.view(np.float32)
    # Exponents that spread the results over the whole range, subnormal ones included.
    scale = 150 / np.maximum(np.abs(np.log2(x.astype(float))), 1e-6)
    y = (random.uniform(-1, 1, x.size) * scale).astype(np.float32)
    z = call(binary_kernel(f32, 16), x, y, np.zeros_like(x)).astype(float)
    true = np.power(x.astype(float), y.astype(float))
    inside = true < 2.0**127
    exponent = np.maximum(np.frexp(true)[1] - 1, -126)
    error = np.abs(z - true) / 2.0 ** (exponent - 23)
    assert error[inside].max() < 0.51
