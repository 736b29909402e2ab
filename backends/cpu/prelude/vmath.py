"""Elementary functions of SIMD vectors: exp, log, tanh, erf and their kin.

float32: polynomials of our own, within 2 ulp over all inputs; `python ulp.py` proves it
by trying all of them. They use exact IEEE operations, fused multiply-adds and what
`instructions.py` offers, so they give the same bits on every CPU of one kind.
float64: the C library's function, lane by lane.

The coefficients are minimax fits (iteratively reweighted least squares at Chebyshev
nodes), rounded to float32 one after the other, the rest fitted again each time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core.extending import intrinsic

from .instructions import (
    kept_small,
    kept_within,
    kind,
    near_inverse,
    power_of_two,
    scaled,
)
from .lanes import DOUBLE, I32, Lanes, call_shared, declare, fma, horner, select
from .vector import Vec

Body = Callable[..., Lanes]

INFINITY, NAN = float("inf"), float("nan")
LOG2_E = 1.4426950408889634
# ln 2 = HI + LO, HI short enough for k * HI to be exact inside a fused multiply-add.
LN2_HI, LN2_LO = 0.693145751953125, 1.42860682030941723212e-6
# Adding 1.5 * 2**23 rounds a float to an integer, which then stands in the lowest bits.
# (LLVM's conversion to int is undefined for NaN and large numbers; this is not.)
ROUNDER = 12582912.0


def per_lane(name: str) -> Body:
    """Make a float64 body that calls a C library function on each lane."""

    def body(*vectors: Lanes) -> Lanes:
        builder, type_ = vectors[0].builder, vectors[0].type
        function = declare(builder, name, DOUBLE, [DOUBLE] * len(vectors))
        function.attributes.add("readnone")
        function.attributes.add("nounwind")
        value: Any = ir.Constant(type_, ir.Undefined)
        for k in range(type_.count):
            at = ir.Constant(I32, k)
            lanes = [builder.extract_element(x.value, at) for x in vectors]
            value = builder.insert_element(value, builder.call(function, lanes), at)
        return Lanes(builder, value)

    return body


def elementary(double: Body) -> Callable[[Body], Any]:
    """Make an intrinsic of a float32 body (decorated) and a float64 body.

    A module that uses it holds one function per vector type, always inlined.
    """

    def decorate(single: Body) -> Any:
        name = single.__name__

        def define(*args: Any) -> Any:
            first = args[0]
            if not isinstance(first, Vec) or not first.is_float:
                return None
            if any(arg != first for arg in args):
                return None
            body = single if first.dtype.bitwidth == 32 else double

            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return call_shared(builder, f"graphc.{name}.{first.name}", body, values)

            return first(*args), codegen

        # Numba reads the number of arguments from the signature of the definition.
        definition: Any = (
            lambda typingctx, x: define(x),
            lambda typingctx, x, y: define(x, y),
        )[single.__code__.co_argcount - 1]
        definition.__name__ = definition.__qualname__ = name
        definition.__doc__ = single.__doc__
        definition.__module__ = single.__module__
        return intrinsic(definition)

    return decorate


# ---- exponentials --------------------------------------------------------------------

_EXP = (
    0.4999999403953552,
    0.1666651964187622,
    0.04166828840970993,
    0.008368892595171928,
    0.0013819391606375575,
)


def exp_body(x: Lanes) -> Lanes:
    """Compute exp of float32 lanes: 2**k * exp(r) with |r| <= ln(2) / 2."""
    wide = kind() == "avx512"
    # Beyond these the result is inf and 0. An instruction that scales by any power of
    # two needs no such bounds, if only what it scales stays near 1.
    x = x if wide else kept_within(x, -104.0, 89.0)
    rounded, k, r = _reduced(x)
    r = kept_small(r, 0.35) if wide else r
    y = horner(r, (1.0, 1.0, *_EXP))
    return scaled(y, k, rounded.bits() - 0x4B400000)


def _reduced(x: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    """Return ROUNDER + k, k and r such that x = k * ln(2) + r, |r| <= ln(2) / 2."""
    rounded = fma(x, LOG2_E, ROUNDER)
    k = rounded - ROUNDER
    return rounded, k, fma(k, -LN2_LO, fma(k, -LN2_HI, x))


@elementary(per_lane("exp"))
def exp(x: Lanes) -> Lanes:
    """Compute e**x; overflow gives inf, underflow subnormal numbers, then 0."""
    return exp_body(x)


_EXPM1 = (
    0.5,
    0.1666666567325592,
    0.041666485369205475,
    0.008333541452884674,
    0.0013933228328824043,
    0.00019766994228120893,
)


@elementary(per_lane("expm1"))
def expm1(x: Lanes) -> Lanes:
    """Compute e**x - 1 without the cancellation near 0."""
    return expm1_body(x)


def expm1_body(x: Lanes) -> Lanes:
    """Compute expm1 of float32 lanes: 2**k * expm1(r) + (2**k - 1)."""
    small = x
    rounded, k, r = _reduced(kept_within(x, -18.0, 89.0))
    t = fma(horner(r, _EXPM1), r * r, r)
    # k reaches 128, where 2**k is no float: both terms are halved, the sum doubled.
    scale = power_of_two((rounded.bits() - 0x4B400000) - 1)
    y = fma(t, scale, scale - 0.5)
    y = y + y
    # For k = 0 this is t, but the detour would cost tiny results bits and -0 its sign.
    return select(k.eq(0.0), select(small.eq(0.0), small, t), y)


@elementary(lambda x: _logistic(x, per_lane("exp")))
def sigmoid(x: Lanes) -> Lanes:
    """Compute 1 / (1 + e**-x), right down to subnormal results."""
    return _logistic(x, exp_body)


def _logistic(x: Lanes, exponential: Body) -> Lanes:
    # exp of a negative number never overflows: e / (1 + e) on the left side.
    e = exponential(-x.intrinsic("fabs"))
    total = e + 1.0
    lost = e - (total - 1.0)
    # One Newton step takes in what the sum lost, else errors would add up past 2 ulp.
    inverse = 1.0 / total
    rest = fma(-inverse, lost, fma(-inverse, total, 1.0))
    inverse = fma(inverse, rest, inverse)
    return select(x < 0.0, e, x.like(1.0)) * inverse


@elementary(per_lane("tanh"))
def tanh(x: Lanes) -> Lanes:
    """Compute the hyperbolic tangent: t / (t + 2), t = expm1(2 |x|)."""
    size = x.intrinsic("fabs")
    # Past 9.02 the result is 1; NaN passes the comparison.
    size = select(size > 9.02, 9.02, size)
    rounded, _, r = _reduced(size + size)
    t = fma(horner(r, _EXP), r * r, r)
    scale = power_of_two(rounded.bits() - 0x4B400000)
    t = fma(t, scale, scale - 1.0)
    inverse = near_inverse(t + 2.0)
    y = t * inverse
    # What is left of t, as if t + 2 were not rounded.
    rest = fma(-t, y, fma(-2.0, y, t))
    return fma(rest, inverse, y).intrinsic("copysign", x)


# ---- logarithms ----------------------------------------------------------------------

_LOG = (
    0.33333340287208557,
    -0.2500016391277313,
    0.19999581575393677,
    -0.16655315458774567,
    0.14276684820652008,
    -0.12728232145309448,
    0.11698091775178909,
    -0.09109799563884735,
    0.037630874663591385,
)


def _log_of_parts(m: Lanes, k: Lanes) -> Lanes:
    """Compute log(1 + m) + k * ln 2 for m in [-1/4, 1/2]."""
    y = fma(m * m, fma(horner(m, _LOG), m, -0.5), m)
    return fma(k, LN2_HI, fma(k, LN2_LO, y))


def _exponent_above(x: Lanes) -> Lanes:
    """Return bits k << 23 such that x / 2**k lies in [3/4, 3/2)."""
    return (x.bits() - 0x3F400000) & -0x800000


def _log_limits(x: Lanes, y: Lanes, zero_at: float) -> Lanes:
    """Put in what a logarithm is at its pole, left of it, at inf and for NaN."""
    y = select(x < INFINITY, y, x)
    y = select(x.eq(zero_at), -INFINITY, y)
    return select(x < zero_at, NAN, y)


@elementary(per_lane("log"))
def log(x: Lanes) -> Lanes:
    """Compute the natural logarithm; log(0) is -inf, of a negative number NaN."""
    tiny = x < 2.0**-126
    normal = select(tiny, x * 2.0**23, x)
    shift = _exponent_above(normal)
    m = (normal.bits() - shift).floats() - 1.0
    k = (shift >> 23).convert("sitofp", x.type.element)
    k = select(tiny, k - 23.0, k)
    return _log_limits(x, _log_of_parts(m, k), 0.0)


@elementary(per_lane("log1p"))
def log1p(x: Lanes) -> Lanes:
    """Compute log(1 + x) without the rounding of 1 + x."""
    shift = _exponent_above(x + 1.0)
    # (1 + x) / 2**k - 1, exact where it could cancel. The scale is 4 / 2**k, because k
    # reaches 128 and 2**-128 is subnormal.
    scale = (x.like(4.0).bits() - shift).floats()
    m = fma(x * 0.25, scale, fma(scale, 0.25, -1.0))
    k = (shift >> 23).convert("sitofp", x.type.element)
    # A quarter of a tiny x may lose bits, but there the result is x.
    tiny = x.intrinsic("fabs") < 2.0**-24
    y = select(tiny, x, _log_of_parts(m, k))
    return _log_limits(x, y, -1.0)


# ---- roots and the error function ----------------------------------------------------


def _rsqrt(x: Lanes) -> Lanes:
    return 1.0 / x.intrinsic("sqrt")


@elementary(_rsqrt)
def rsqrt(x: Lanes) -> Lanes:
    """Compute 1 / sqrt(x) with a true root and a true division."""
    return _rsqrt(x)


# erf(x) / x - 1 in x**2, for |x| < 0.95
_ERF_NEAR = (
    0.12837916612625122,
    -0.3761262893676758,
    0.11283624917268753,
    -0.026855673640966415,
    0.005192265845835209,
    -0.000804855371825397,
    7.993834879016504e-05,
)
# -log(1 - erf(x)) for 0.95 <= x < 4.1
_ERF_FAR = (
    -0.0001824593637138605,
    1.1295520067214966,
    0.6332725286483765,
    0.10836140066385269,
    -0.025171712040901184,
    0.0041908263228833675,
    -0.0004385264473967254,
    2.1445519450935535e-05,
)


@elementary(per_lane("erf"))
def erf(x: Lanes) -> Lanes:
    """Compute the error function: by a polynomial, or as 1 - exp(-q(|x|))."""
    size = x.intrinsic("fabs")
    near = fma(horner(x * x, _ERF_NEAR), x, x)
    near = select(x.eq(0.0), x, near)
    # Past 4 the result is 1, and the polynomial is not asked.
    bounded = select(size > 4.1, 4.1, size)
    far = 1.0 - exp_body(-horner(bounded, _ERF_FAR))
    return select(size > 0.95, far.intrinsic("copysign", x), near)
