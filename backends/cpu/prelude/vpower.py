"""Powers of SIMD vectors: x**y with every special case of C99 and NumPy."""

from __future__ import annotations

from .lanes import DOUBLE, FLOAT, Lanes, fma, horner, select
from .vmath import INFINITY, NAN, elementary, per_lane

# log2((1 + s) / (1 - s)) / s in s**2, for |s| < 0.172; relative error 2**-45
_LOG2 = (
    2.8853900817778495,
    0.9617966941149695,
    0.5770779418668489,
    0.41220930467775224,
    0.3199034760486003,
    0.2829329327441749,
)
# 2**x for |x| <= 1/2; relative error 2**-34
_EXP2 = (
    0.9999999999616215,
    0.6931471807287158,
    0.24022651198754952,
    0.05550410352834061,
    0.009618027172711036,
    0.0013333922854005709,
    0.0001546931732417208,
    1.5201901505241406e-05,
)
# Adding it rounds a double to an integer, which then stands in the lowest bits.
ROUNDER64 = 6755399441055744.0


def log2_wide(x: Lanes) -> Lanes:
    """Compute log2 of non-negative float32 lanes as float64, to 40 bits.

    Of 0 it is -inf; inf and NaN stay.
    """
    tiny = x < 2.0**-126
    normal = select(tiny, x * 2.0**23, x)
    # k such that the significand lies in [sqrt(1/2), sqrt(2))
    shift = (normal.bits() - 0x3F3504F3) & -0x800000
    m = (normal.bits() - shift).floats().convert("fpext", DOUBLE)
    k = (shift >> 23).convert("sitofp", DOUBLE)
    k = select(tiny, k - 23.0, k)
    s = (m - 1.0) / (m + 1.0)
    log = fma(horner(s * s, _LOG2), s, k)
    log = select(x < INFINITY, log, x.convert("fpext", DOUBLE))
    return select(x.eq(0.0), -INFINITY, log)


def exp2_wide(t: Lanes) -> Lanes:
    """Compute 2**t of float64 lanes, |t| < 1000, to 34 bits."""
    rounded = t + ROUNDER64
    y = horner(t - (rounded - ROUNDER64), _EXP2)
    scale = ((rounded.bits() + 1023) << 52).floats()
    return y * scale


@elementary(per_lane("pow"))
def power(x: Lanes, y: Lanes) -> Lanes:
    """Compute x**y.

    As in C99: x**0 and 1**y are 1 even for NaN; a negative finite x to a power that is
    no integer is NaN; odd integer powers keep the sign of x, also of -0 and -inf.
    """
    size = x.intrinsic("fabs")
    # Doubles carry the 8 bits that the exponent takes from the logarithm's accuracy.
    t = log2_wide(size) * y.convert("fpext", DOUBLE)
    t = select(t > 300.0, 300.0, t)
    t = select(t < -300.0, -300.0, t)
    result = exp2_wide(t).convert("fptrunc", FLOAT)
    # 0 * inf above is NaN, but (-1)**inf is 1.
    result = select(size.eq(1.0) & ~y.isnan(), 1.0, result)

    half = y * 0.5
    whole = y.intrinsic("rint").eq(y)
    odd = whole & half.intrinsic("rint").ne(half)
    negative = x.bits() < 0
    result = select(negative & odd, -result, result)
    result = select((x < 0.0) & (x > -INFINITY) & ~whole, NAN, result)
    return select(x.eq(1.0) | y.eq(0.0), 1.0, result)
