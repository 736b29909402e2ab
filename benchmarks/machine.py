"""The machine's limits, measured: multiply-adds a second, and bytes from memory.

And its weather: a host that lends cores lends two halves of one at times.

Both loops are written in LLVM's terms through Numba, since their vectors, accumulators
and stores past the cache are the point, and no compiler should choose them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

ACCUMULATORS = 12  # an FMA takes 4 or 5 cycles and 2 start in each: 10 at the least
TURNS = 400_000  # about a millisecond
SECONDS = 1.0  # for each of the limits
PROBES, FREE = 3, 0.85  # the best of so many probes must reach this share of the limit
ELEMENTS = 1 << 25  # of each of three arrays, 128 MiB: far more than any cache holds

FLOAT, WORD = ir.FloatType(), ir.IntType(64)


@dataclass(frozen=True)
class Limits:
    """flops of one core and of all, bytes: a second."""

    flops_of_one: float
    flops: float
    bytes: float
    threads: int

    def seconds(self, flops: int, bytes: int) -> tuple[float, str]:
        """Return the time that work takes at least, and what limits it.

        What stays in the caches from step to step can be faster than its bytes allow.
        """
        computing, moving = flops / self.flops, bytes / self.bytes
        return max((computing, "flops"), (moving, "bytes"))


@cache
def lanes() -> int:
    """Return how many floats a vector of this machine holds."""
    features = llvm.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8 if features.get("avx") else 4


def _vector() -> Any:
    return ir.VectorType(FLOAT, lanes())


def _splat(builder: Any, value: Any) -> Any:
    vector = ir.Constant(_vector(), ir.Undefined)
    for i in range(lanes()):
        vector = builder.insert_element(vector, value, ir.IntType(32)(i))
    return vector


def _fma(builder: Any, x: Any, y: Any, z: Any) -> Any:
    """Return x y + z; llvmlite's own method takes no vectors."""
    signature = ir.FunctionType(_vector(), [_vector()] * 3)
    name = f"llvm.fma.v{lanes()}f32"
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [x, y, z])


@intrinsic
def _multiply_adds(context: Any, start: Any, turns: Any) -> Any:
    """Return the sum of accumulators after x = x / 2 + start, so many times."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start, turns = args
        half, added = (_splat(builder, v) for v in (FLOAT(0.5), start))
        places = []
        value = added
        for _ in range(ACCUMULATORS):  # different, or LLVM would keep one of them
            value = builder.fadd(value, added)
            places.append(cgutils.alloca_once_value(builder, value))
        with cgutils.for_range(builder, turns):
            for place in places:
                builder.store(_fma(builder, builder.load(place), half, added), place)
        total = builder.load(places[0])
        for place in places[1:]:
            total = builder.fadd(total, builder.load(place))
        return builder.extract_element(total, ir.IntType(32)(0))

    return types.float32(types.float32, types.int64), generate


@intrinsic
def _triad(context: Any, a: Any, b: Any, c: Any, count: Any) -> Any:
    """Do a[i] = b[i] + 3 c[i] at addresses that vectors divide; a passes the cache."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        *addresses, count = args
        a, b, c = (builder.inttoptr(x, _vector().as_pointer()) for x in addresses)
        factor = _splat(builder, FLOAT(3))
        passing = builder.module.add_metadata([ir.IntType(32)(1)])
        with cgutils.for_range(builder, builder.udiv(count, WORD(lanes()))) as loop:
            x, y = (builder.load(builder.gep(p, [loop.index])) for p in (b, c))
            made = _fma(builder, y, factor, x)
            stored = builder.store(made, builder.gep(a, [loop.index]))
            stored.set_metadata("nontemporal", passing)
        return context.get_dummy_value()

    word = types.int64
    return types.void(word, word, word, word), generate


class Machine:
    """So many threads of this machine: its limits, and whether they are to be had."""

    def __init__(self, threads: int) -> None:
        """Measure the limits, for some seconds."""
        self._compute = _compute(threads)
        one, every = _best(_compute(1)), _best(self._compute)
        # On a busy machine all cores may never be free at once.
        self.limits = Limits(one, max(one, every), _bytes(threads), threads)
        self._most = self.limits.flops

    def is_free(self) -> bool:
        """Tell whether the cores do now nearly what they can do; takes 3 ms."""
        now = max(self._compute() for _ in range(PROBES))
        self._most = max(now, self._most)
        return now > FREE * self._most


def _best(rate: Callable[[], float]) -> float:
    rate()  # compiles
    end, found = time.perf_counter() + SECONDS, 0.0
    while time.perf_counter() < end:
        found = max(found, rate())
    return found


def _rate(work: int, run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return work / (time.perf_counter() - start)


def _compute(threads: int) -> Callable[[], float]:
    """Return what computes for a millisecond and returns operations a second."""
    found = np.zeros(threads, np.float32)

    @numba.njit(parallel=threads > 1)
    def run(found: Any, turns: int) -> None:
        for i in numba.prange(len(found)):
            found[i] = _multiply_adds(np.float32(i), turns)

    operations = 2 * TURNS * ACCUMULATORS * lanes() * threads
    return lambda: _rate(operations, lambda: run(found, TURNS))


def _bytes(threads: int) -> float:
    a, b, c = (_aligned(ELEMENTS) for _ in range(3))

    @numba.njit(parallel=threads > 1)
    def run(a: Any, b: Any, c: Any, parts: int) -> None:
        size = len(a) // parts // 64 * 64
        for i in numba.prange(parts):
            at = 4 * size * i
            _triad(a.ctypes.data + at, b.ctypes.data + at, c.ctypes.data + at, size)

    moved = 3 * 4 * (ELEMENTS // threads // 64 * 64) * threads
    return _best(lambda: _rate(moved, lambda: run(a, b, c, threads)))


def _aligned(size: int) -> np.ndarray[Any, Any]:
    raw = np.ones(size + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + size]
