"""Floor division and remainder of SIMD vectors, as Python and NumPy define them.

No CPU divides vectors of integers, and LLVM turns such a division into one scalar
`idiv` a lane, which traps on 0 and on INT_MIN // -1. So the quotient comes from a
division of doubles, which is exact enough to need one correction at most.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from .lanes import DOUBLE, I32, Lanes, declare, fma, is_float, select

# Below this, an int64 is exactly a double.
EXACT_LIMIT = 2**52


def floor_divide(a: Lanes, b: Lanes) -> Lanes:
    """Round a / b down. Integers: x // 0 is 0, and INT_MIN // -1 wraps to INT_MIN."""
    if is_float(a.type):
        return _float_floor_divide(a, b)
    return _integer_floor_divide(a, b)


def remainder(a: Lanes, b: Lanes) -> Lanes:
    """Return a - b * (a // b), of the sign of b. Integers: x % 0 is 0."""
    if is_float(a.type):
        return _float_remainder(a, b)
    return select(b.eq(0), 0, a - b * _integer_floor_divide(a, b))


def _integer_floor_divide(a: Lanes, b: Lanes) -> Lanes:
    zero, minus_one = b.eq(0), b.eq(-1)
    # Divided by 1 instead, these lanes cannot trap or overflow; their results follow.
    safe = select(zero | minus_one, 1, b)
    divide = _by_doubles if a.type.element == I32 else _wide_divide
    quotient = divide(a, safe)
    return select(zero, 0, select(minus_one, -a, quotient))


def _by_doubles(a: Lanes, b: Lanes) -> Lanes:
    """Divide integers that doubles hold exactly.

    The double quotient is rounded, and may reach the next integer above the true one,
    never fall below its floor: then the remainder has the wrong sign, and one is taken.
    """
    element = a.type.element
    exact = a.convert("sitofp", DOUBLE) / b.convert("sitofp", DOUBLE)
    quotient = exact.intrinsic("floor").convert("fptosi", element)
    rest = a - quotient * b
    wrong = rest.ne(0) & ((rest ^ b) < 0)
    return select(wrong, quotient - 1, quotient)


def _wide_divide(a: Lanes, b: Lanes) -> Lanes:
    """Divide int64 lanes: by doubles, unless some lane is too large for that."""
    builder = a.builder
    limit = 2 * EXACT_LIMIT - 1
    large = (((a + EXACT_LIMIT) & ~limit) | ((b + EXACT_LIMIT) & ~limit)).ne(0)
    fast = builder.append_basic_block("exact")
    slow = builder.append_basic_block("large")
    done = builder.append_basic_block("done")
    builder.cbranch(large.any(), slow, fast)
    builder.position_at_end(fast)
    by_doubles = _by_doubles(a, b)
    builder.branch(done)
    builder.position_at_end(slow)
    by_scalars = _by_scalars(a, b)
    builder.branch(done)
    builder.position_at_end(done)
    quotient = builder.phi(a.type)
    quotient.add_incoming(by_doubles.value, fast)
    quotient.add_incoming(by_scalars.value, slow)
    return Lanes(builder, quotient)


def _by_scalars(a: Lanes, b: Lanes) -> Lanes:
    quotient = a / b
    rest = a - quotient * b
    return select(rest.ne(0) & ((rest ^ b) < 0), quotient - 1, quotient)


def _float_remainder(a: Lanes, b: Lanes) -> Lanes:
    rest = _fmod(a, b)
    adjusted = select((rest < 0) ^ (b < 0), rest + b, rest)
    # A zero takes the sign of the divisor; NaN is unequal to 0 and passes through.
    return select(rest.ne(0), adjusted, rest.like(0.0).intrinsic("copysign", b))


def _float_floor_divide(a: Lanes, b: Lanes) -> Lanes:
    # NumPy's npy_divmod: the quotient of the exact multiple, snapped to an integer.
    rest = _fmod(a, b)
    quotient = (a - rest) / b
    borrowed = rest.ne(0) & ((rest < 0) ^ (b < 0))
    quotient = select(borrowed, quotient - 1.0, quotient)
    down = quotient.intrinsic("floor")
    whole = select(quotient - down > 0.5, down + 1.0, down)
    signed_zero = (a / b).like(0.0).intrinsic("copysign", a / b)
    whole = select(quotient.ne(0.0), whole, signed_zero)
    return select(b.eq(0.0), a / b, whole)


def _fmod(a: Lanes, b: Lanes) -> Lanes:
    """Call the C library's fmod on each lane; it is exact."""
    builder = a.builder
    element = a.type.element
    name = "fmod" if element == DOUBLE else "fmodf"
    function = declare(builder, name, element, [element, element])
    value: Any = ir.Constant(a.type, ir.Undefined)
    for k in range(a.type.count):
        at = ir.Constant(I32, k)
        lanes = [builder.extract_element(x.value, at) for x in (a, b)]
        value = builder.insert_element(value, builder.call(function, lanes), at)
    return Lanes(builder, value)


def by_inverse(a: Lanes, b: Lanes, inverse: Lanes) -> Lanes:
    """Divide floats by multiplying; `inverse` is 1 / b, rounded once.

    A division keeps its unit busy for 16 cycles, these four operations take two. The
    remainder is exact, so the result is rounded as that of a division is (it may be
    off by one bit where a is below 2**-100). That takes b from 1 to 2**126; else it
    divides.
    Source: Markstein, Computation of elementary functions on the IBM RISC System/6000
    processor, 1990.
    """
    builder, size = a.builder, b.intrinsic("fabs")
    beyond = (~((size >= 1.0) & (size <= 2.0**126))).any()
    start = builder.block
    slow, done = (builder.append_basic_block(n) for n in ("divide", "divided"))
    y = a * inverse
    rest = fma(-y, b, a)
    # Not where it is 0, which would cost -0 its sign, nor NaN: then y is inf or NaN.
    fast = select((rest < 0.0) | (rest > 0.0), fma(rest, inverse, y), y)
    builder.cbranch(beyond, slow, done)
    builder.position_at_end(slow)
    divided = a / b
    builder.branch(done)
    builder.position_at_end(done)
    result = builder.phi(a.type)
    result.add_incoming(fast.value, start)
    result.add_incoming(divided.value, slow)
    return Lanes(builder, result)
