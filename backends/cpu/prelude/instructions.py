"""Steps of the elementary functions for which AVX-512 has an instruction of its own.

There are two kinds of arithmetic: "avx512", and "portable" for all other processors.
Which one code is made for follows from the target, so the functions' bits may differ
between targets; each kind is proved by itself (docs/adr/0015).

An instruction takes vectors of 16 float32; other vectors pass through it 16 at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from . import native
from .lanes import FLOAT, I32, Lanes, constant, declare, select

KINDS = ("portable", "avx512")
WIDE = ir.VectorType(FLOAT, 16)
I16 = ir.IntType(16)
ALL = ir.Constant(I16, -1)
CURRENT = ir.Constant(I32, 4)  # round as the processor is set to: to nearest
SMALLER_SIZE = ir.Constant(I32, 2)  # of two numbers, with the sign of the first

_chosen: list[str] = []


def kind() -> str:
    """Return the kind of arithmetic that code is being made for."""
    return _chosen[-1] if _chosen else native_kind()


def native_kind() -> str:
    """Return the kind that suits the processor of this process."""
    features = native.target().features.split(",")
    has_all = {"+avx512f", "+avx512dq"}.issubset(features)
    return "avx512" if has_all else "portable"


@contextmanager
def using(kind: str) -> Iterator[None]:
    """Make code for another kind of arithmetic; a check of it needs that."""
    _chosen.append(kind)
    try:
        yield
    finally:
        _chosen.pop()


def scaled(y: Lanes, k: Lanes, bits: Lanes) -> Lanes:
    """Return y * 2**k, rounded once, for whole k that `bits` are the same as integers.

    portable: only where -150 <= k <= 128. avx512: any k, NaN too, but y not inf or NaN.
    """
    if kind() == "avx512":
        return _call("mask.scalef.ps.512", y, k, "pass", ALL, CURRENT)
    # In two halves, for k reaches past the exponents; only the last product rounds.
    half = bits >> 1
    return y * power_of_two(half) * power_of_two(bits - half)


def power_of_two(k: Lanes) -> Lanes:
    """Return 2**k for integers k from -126 to 127."""
    return ((k + 127) << 23).floats()


def kept_within(x: Lanes, least: float, most: float) -> Lanes:
    """Return x, or the bound that it is beyond; NaN stays."""
    x = select(x > most, most, x)
    return select(x < least, least, x)


def kept_small(x: Lanes, size: float) -> Lanes:
    """Return x, or -size or size where |x| is larger or x is NaN; avx512 only."""
    return _call("mask.range.ps.512", x, size, SMALLER_SIZE, "pass", ALL, CURRENT)


def near_inverse(x: Lanes) -> Lanes:
    """Return 1 / x within 2**-14 of it at least, for x from 2**-126 to 2**126."""
    if kind() == "avx512":
        return _call("rcp14.ps.512", x, "pass", ALL)
    return 1.0 / x


def _call(name: str, x: Lanes, *others: Any) -> Lanes:
    """Call an instruction on x and others; "pass" is what lanes that are off become."""
    builder, lanes = x.builder, x.type.count

    def argument(other: Any, first: int) -> ir.Value:
        if isinstance(other, Lanes):
            return _sixteen(other, first)
        if isinstance(other, float):
            return constant(WIDE, other)
        return ir.Constant(WIDE, None) if other == "pass" else other

    parts = []
    for first in range(0, lanes, 16):
        values = [argument(other, first) for other in (x, *others)]
        function = declare(
            builder, f"llvm.x86.avx512.{name}", WIDE, [v.type for v in values]
        )
        parts.append(builder.call(function, values))
    return Lanes(builder, _joined(builder, parts, lanes))


def _sixteen(x: Lanes, first: int) -> ir.Value:
    """Return 16 lanes, undefined ones behind the last."""
    lanes = x.type.count
    if lanes == 16:
        return x.value
    numbers = [min(first + k, lanes - 1) for k in range(16)]
    return _shuffled(x.builder, x.value, x.value, numbers)


def _joined(builder: ir.IRBuilder, parts: list[ir.Value], lanes: int) -> ir.Value:
    """Return so many lanes of vectors of 16, one behind the other."""
    if lanes < 16:
        return _shuffled(builder, parts[0], parts[0], list(range(lanes)))
    whole = parts
    while len(whole) > 1:
        pairs = zip(whole[::2], whole[1::2], strict=True)
        whole = [
            _shuffled(builder, a, b, list(range(2 * a.type.count))) for a, b in pairs
        ]
    return whole[0]


def _shuffled(
    builder: ir.IRBuilder, a: ir.Value, b: ir.Value, numbers: list[int]
) -> ir.Value:
    places = ir.Constant(ir.VectorType(I32, len(numbers)), numbers)
    return builder.shuffle_vector(a, b, places)
