"""What generated CUDA kernels call: arithmetic with graphc's meaning, and reductions.

Where Numba gives the meaning, as for `exp` of a float32, the function is its own.
In the simulator kernels are Python, so there NumPy's functions stand for it.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np

from graphc.backends.cuda.api import SIMULATED, cuda, types

BLOCK = 128  # threads of a block, and elements of an array for its reductions
TILE = 16  # rows and columns of a contraction's tile

# Types of a kernel's parameters: arrays by their elements, and sizes.
f32 = types.Array(types.float32, 1, "C")
f64 = types.Array(types.float64, 1, "C")
i32 = types.Array(types.int32, 1, "C")
i64 = types.Array(types.int64, 1, "C")
b8 = types.Array(types.boolean, 1, "C")
size = types.int64

_math: Any = np if SIMULATED else math
exp, log, log1p, expm1 = _math.exp, _math.log, _math.log1p, _math.expm1
log2, log10, sqrt, tanh = _math.log2, _math.log10, _math.sqrt, _math.tanh
sin, cos, fmod = _math.sin, _math.cos, _math.fmod
arctan = np.arctan if SIMULATED else math.atan
power = np.power if SIMULATED else math.pow
# Numba's math.floor and its like give integers.
floor_f32 = np.floor if SIMULATED else cuda.libdevice.floorf
floor_f64 = np.floor if SIMULATED else cuda.libdevice.floor
ceil_f32 = np.ceil if SIMULATED else cuda.libdevice.ceilf
ceil_f64 = np.ceil if SIMULATED else cuda.libdevice.ceil
trunc_f32 = np.trunc if SIMULATED else cuda.libdevice.truncf
trunc_f64 = np.trunc if SIMULATED else cuda.libdevice.trunc
round_f32 = np.rint if SIMULATED else cuda.libdevice.rintf
round_f64 = np.rint if SIMULATED else cuda.libdevice.rint


def _simulated(function: Any) -> Any:
    """Make a function that NumPy lacks from that of the standard library."""
    return lambda x: type(x)(function(x))


erf = _simulated(math.erf) if SIMULATED else math.erf
erfc = _simulated(math.erfc) if SIMULATED else math.erfc


def kernel(function: Any) -> Any:
    """Make a kernel; it is compiled when it is first launched or looked into."""
    return cuda.jit(function)


def device(function: Any) -> Any:
    """Make a function that kernels may call."""
    return cuda.jit(device=True)(function)


# --- arithmetic ---------------------------------------------------------------------


@device
def maximum(a, b):  # type: ignore[no-untyped-def]
    """Return the larger; NaN if either is."""
    return a if a != a or a >= b else b


@device
def minimum(a, b):  # type: ignore[no-untyped-def]
    """Return the smaller; NaN if either is."""
    return a if a != a or a <= b else b


@device
def sign(x):  # type: ignore[no-untyped-def]
    """Return -1, 0 or 1 for a float; NaN for NaN."""
    if x != x:
        return x
    if x > 0:
        return np.float32(1.0)
    return np.float32(-1.0) if x < 0 else np.float32(0.0)


@device
def sign_int(x):  # type: ignore[no-untyped-def]
    """Return -1, 0 or 1 for an integer."""
    if x > 0:
        return 1
    return -1 if x < 0 else 0


@device
def floor_divide(a, b):  # type: ignore[no-untyped-def]
    """Return a // b, rounded down; 0 where b is 0."""
    if b == 0:
        return b - b
    return a // b


@device
def remainder(a, b):  # type: ignore[no-untyped-def]
    """Return a % b with the sign of b; 0 where b is 0."""
    if b == 0:
        return b - b
    return a % b


@device
def floor_divide_float(a, b):  # type: ignore[no-untyped-def]
    """Return a // b of floats as NumPy has it: by 0 it is infinite, or NaN."""
    if b == 0:
        return a / b
    rest = fmod(a, b)
    exact = (a - rest) / b
    if rest != 0 and (rest < 0) != (b < 0):
        exact = exact - np.float32(1.0)
    if exact == 0:
        return (a / b) * np.float32(0.0)  # which keeps the sign
    whole = floor_f64(exact)
    return whole + np.float32(1.0) if exact - whole > np.float32(0.5) else whole


@device
def remainder_float(a, b):  # type: ignore[no-untyped-def]
    """Return a % b of floats, with the sign of b; NaN where b is 0."""
    rest = fmod(a, b)
    if rest == 0:
        return -abs(rest) if b < 0 else abs(rest)
    return rest + b if (rest < 0) != (b < 0) else rest


@device
def to_int32(x):  # type: ignore[no-untyped-def]
    """Return a float cut to an int32: saturated, and 0 for NaN."""
    # The bounds are powers of two, so exact; as float32 they widen nothing.
    if x != x:
        return np.int32(0)
    if x >= np.float32(2147483648.0):
        return np.int32(2147483647)
    if x <= np.float32(-2147483648.0):
        return np.int32(-2147483648)
    return np.int32(x)


@device
def to_int64(x):  # type: ignore[no-untyped-def]
    """Return a float cut to an int64: saturated, and 0 for NaN."""
    if x != x:
        return np.int64(0)
    if x >= np.float32(9223372036854775808.0):
        return np.int64(9223372036854775807)
    if x <= np.float32(-9223372036854775808.0):
        return np.int64(-9223372036854775808)
    return np.int64(x)


@device
def philox_word(seed, stream, step, counter, word):  # type: ignore[no-untyped-def]
    """Return word 0 or 1 of a block of Philox4x32-10, as an int64.

    Source:  Salmon et al., 2011; graphc/ir/philox.py says how counter and key are
             made of the arguments.
    """
    low = np.int64(0xFFFFFFFF)
    bits = np.uint64(32)
    mask = np.uint64(0xFFFFFFFF)
    c0 = np.uint64(counter & low)
    c1 = np.uint64((counter >> 32) & low)
    c2 = np.uint64(step & low)
    c3 = np.uint64(stream & low)
    k0 = np.uint64(seed & low)
    k1 = np.uint64((seed >> 32) & low)
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0 = (p1 >> bits) ^ c1 ^ k0
        c1 = p1 & mask
        c2 = (p0 >> bits) ^ c3 ^ k1
        c3 = p0 & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return np.int64(c0 if word == 0 else c1)


# --- reductions ---------------------------------------------------------------------


@device
def beats_max(best, at, value, position):  # type: ignore[no-untyped-def]
    """Whether a value takes the place of the best: larger, or as large and earlier.

    NaN is larger than all numbers.
    """
    if value != value:
        return best == best or position < at
    if best != best:
        return False
    return value > best or (value == best and position < at)


@device
def beats_min(best, at, value, position):  # type: ignore[no-untyped-def]
    """Whether a value takes the place of the best: smaller, or as small and earlier.

    NaN is smaller than all numbers.
    """
    if value != value:
        return best == best or position < at
    if best != best:
        return False
    return value < best or (value == best and position < at)


def _block(combine: Any, doc: str) -> Any:
    """Make a reduction of the values of a block's threads, by halves."""

    def reduce(shared, value):  # type: ignore[no-untyped-def]
        t = cuda.threadIdx.x
        shared[t] = value
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half:
                shared[t] = combine(shared[t], shared[t + half])
            cuda.syncthreads()
            half //= 2
        found = shared[0]
        cuda.syncthreads()
        return found

    reduce.__doc__ = f"{doc} of a block's threads; all get the result."
    return device(reduce)


block_sum = _block(operator.add, "Add up the values")
block_prod = _block(operator.mul, "Multiply the values")
block_max = _block(maximum, "Return the largest of the values")
block_min = _block(minimum, "Return the smallest of the values")
block_any = _block(operator.or_, "Say whether any is true of the bools")
block_all = _block(operator.and_, "Say whether all are true of the bools")


def _arg_block(beats: Any, doc: str) -> Any:
    """Make a reduction of (value, position) to the position of the best."""

    def reduce(values, positions, value, position):  # type: ignore[no-untyped-def]
        t = cuda.threadIdx.x
        values[t] = value
        positions[t] = position
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half:
                other = t + half
                if beats(values[t], positions[t], values[other], positions[other]):
                    values[t] = values[other]
                    positions[t] = positions[other]
            cuda.syncthreads()
            half //= 2
        found = positions[0]
        cuda.syncthreads()
        return found

    reduce.__doc__ = f"Return the position of the {doc} value, the first one of equals."
    return device(reduce)


block_argmax = _arg_block(beats_max, "largest")
block_argmin = _arg_block(beats_min, "smallest")
