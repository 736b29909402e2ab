"""Inverse trigonometric functions of SIMD vectors."""

from __future__ import annotations

from .lanes import Lanes, fma, horner, select
from .vmath import elementary, per_lane
from .vtrig import PI_2_HIGH, PI_2_MID

# (atan(x) / x - 1) / x**2 in x**2, for |x| <= 1; relative error 2**-28
_ATAN = (
    -0.33333298563957214,
    0.1999853551387787,
    -0.14264124631881714,
    0.10951638966798782,
    -0.08401991426944733,
    0.05793442949652672,
    -0.03115619346499443,
    0.01090360525995493,
    -0.001791278482414782,
)


@elementary(per_lane("atan"))
def arctan(x: Lanes) -> Lanes:
    """Compute the inverse tangent; past 1 it is pi / 2 - arctan(1 / x)."""
    size = x.intrinsic("fabs")
    large = size > 1.0
    t = select(large, 1.0 / size, size)
    z = t * t
    y = fma(horner(z, _ATAN) * z, t, t)
    y = select(large, PI_2_HIGH - (y - PI_2_MID), y)
    return y.intrinsic("copysign", x)
