"""Elementary functions of SIMD vectors that float64 inside makes exact to half an ulp.

They are the logarithms of whole bases, where log2(8) must be 3, and the complement of
the error function, whose exponential takes more digits than a float32 has.
"""

from __future__ import annotations

from .lanes import DOUBLE, FLOAT, Lanes, horner, select
from .vmath import LOG2_E, NAN, elementary, per_lane
from .vpower import exp2_wide, log2_wide

LOG10_2 = 0.30102999566398120


@elementary(per_lane("log2"))
def log2(x: Lanes) -> Lanes:
    """Compute the logarithm of base 2; log2(0) is -inf, of a negative number NaN."""
    return select(x < 0.0, NAN, log2_wide(x).convert("fptrunc", FLOAT))


@elementary(per_lane("log10"))
def log10(x: Lanes) -> Lanes:
    """Compute the logarithm of base 10; log10(0) is -inf, of a negative number NaN."""
    y = log2_wide(x) * LOG10_2
    return select(x < 0.0, NAN, y.convert("fptrunc", FLOAT))


# erfc(a) * exp(a**2) in (a - 4) / (a + 4), for 0 <= a <= 10.1; relative error 2**-32
_ERFCX = (
    0.13699945761562504,
    -0.25906804923521504,
    0.21871968147747023,
    -0.1642577882718244,
    0.1089630951870807,
    -0.06310833157148989,
    0.03129980721765634,
    -0.012839743035898467,
    0.00405868687837134,
    -0.0008151510208623072,
    -2.829240198970385e-05,
    0.00010149930891076734,
)


@elementary(per_lane("erfc"))
def erfc(x: Lanes) -> Lanes:
    """Compute 1 - erf(x) without its cancellation, down to subnormal results."""
    size = x.intrinsic("fabs").convert("fpext", DOUBLE)
    # Beyond it the result is 0; NaN passes the comparison.
    size = select(size > 10.1, 10.1, size)
    scaled = horner((size - 4.0) / (size + 4.0), _ERFCX)
    y = scaled * exp2_wide(size * size * -LOG2_E)
    y = select(x.convert("fpext", DOUBLE) < 0.0, 2.0 - y, y)
    return y.convert("fptrunc", FLOAT)
