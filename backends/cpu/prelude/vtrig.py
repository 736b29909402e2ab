"""Sine and cosine of SIMD vectors, for arguments of any size."""

from __future__ import annotations

from llvmlite import ir

from .lanes import DOUBLE, FLOAT, I32, I64, Lanes, call_shared, fma, horner, select
from .vmath import ROUNDER, Body, elementary, per_lane

TWO_OVER_PI = 0.6366197723675814
# pi / 2 in three floats, each k * part exact inside a fused multiply-add.
PI_2_HIGH, PI_2_MID, PI_2_LOW = (
    1.57079637050628662109375,
    -4.37113900018624283e-8,
    -1.71512449e-15,
)
# Up to here the three parts are enough; checked over all floats.
NEAR_LIMIT = 48039.0

# The first 192 bits of 2 / pi, which are those of 4 / pi, for `_far_reduction`.
TWO_OVER_PI_BITS = 0xA2F9836E_4E441529_FC2757D1_F534DDC0_DB629599_3C439041
# Windows of 32 bits, each 8 bits further right than the one before.
WINDOWS = [(TWO_OVER_PI_BITS >> 8 * (23 - i)) & 0xFFFFFFFF for i in range(24)]

_SIN = (
    -0.1666666716337204,
    0.008333379402756691,
    -0.000198530062334612,
    2.8312831545918016e-06,
)
_COS = (0.04166664555668831, -0.00138873013202101, 2.443066841806285e-05)


def _near_reduction(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return r in [-pi/4, pi/4] and the bits of k, x = k * pi/2 + r, for small x."""
    rounded = fma(x, TWO_OVER_PI, ROUNDER)
    k = rounded - ROUNDER
    r = fma(k, -PI_2_LOW, fma(k, -PI_2_MID, fma(k, -PI_2_HIGH, x)))
    return r, rounded.bits()


def _far_reduction(x: Lanes) -> tuple[Lanes, Lanes]:
    """Do the same for any finite x, by multiplying with the bits of 2/pi that matter.

    Source: Payne and Hanek, Radian reduction for trigonometric functions, 1983; the
    arrangement is that of sinf in Arm's optimized routines: a 24-bit significand times
    96 bits of 2/pi leaves two bits of the quadrant and 62 of the fraction.
    """
    bits = x.bits()
    wide = (bits & 0x7FFFFFFF).convert("zext", I64)
    window = (wide >> 26) & 15
    significand = (((wide & 0xFFFFFF) | 0x800000) << ((wide >> 23) & 7)) & 0xFFFFFFFF
    high, middle, low = (significand * _word(window + at) for at in (0, 4, 8))
    product = ((low.lshr(32)) | (high << 32)) + middle
    k = (product + (1 << 61)).lshr(62)
    fraction = product - (k << 62)
    scale = 3.14159265358979323846 * 2.0**-63
    r = (fraction.convert("sitofp", DOUBLE) * scale).convert("fptrunc", FLOAT)
    k = k.convert("trunc", I32)
    # The significand was taken without its sign; sine and its quadrant are odd.
    negative = bits < 0
    return select(negative, -r, r), select(negative, -k, k)


def _word(index: Lanes) -> Lanes:
    """Read words of the table WINDOWS, as int64 lanes."""
    builder, lanes = index.builder, index.type.count
    table_type = ir.ArrayType(I64, len(WINDOWS))
    name = "graphc.two_over_pi"
    table = builder.module.globals.get(name)
    if table is None:
        table = ir.GlobalVariable(builder.module, table_type, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table_type, WINDOWS)
    value = ir.Constant(index.type, ir.Undefined)
    for k in range(lanes):
        at = ir.Constant(I32, k)
        word = builder.load(
            builder.gep(table, [I64(0), builder.extract_element(index.value, at)])
        )
        value = builder.insert_element(value, word, at)
    return Lanes(builder, value)


def _quadrant_sine(r: Lanes, k: Lanes) -> Lanes:
    """Return the sine of k * pi/2 + r."""
    z = r * r
    sine = fma(horner(z, _SIN) * z, r, r)
    cosine = fma(fma(horner(z, _COS), z, -0.5), z, 1.0)
    value = select((k & 1).ne(0), cosine, sine)
    return (value.bits() ^ ((k & 2) << 30)).floats()


def _far_sine(x: Lanes) -> Lanes:
    r, k = _far_reduction(x)
    return select(x.intrinsic("fabs") < float("inf"), _quadrant_sine(r, k), x - x)


def _far_cosine(x: Lanes) -> Lanes:
    r, k = _far_reduction(x)
    return select(x.intrinsic("fabs") < float("inf"), _quadrant_sine(r, k + 1), x - x)


def _with_far(x: Lanes, near: Lanes, name: str, far_body: Body) -> Lanes:
    """Take the slow way for lanes past the limit, if there is one at all."""
    builder = x.builder
    far = ~(x.intrinsic("fabs") < NEAR_LIMIT)
    start = builder.block
    slow = builder.append_basic_block("far")
    done = builder.append_basic_block("done")
    builder.cbranch(far.any(), slow, done)
    builder.position_at_end(slow)
    lanes = x.type.count
    value = call_shared(
        builder, f"graphc.{name}.{lanes}", far_body, [x.value], inline=False
    )
    mixed = select(far, Lanes(builder, value), near)
    builder.branch(done)
    builder.position_at_end(done)
    result = builder.phi(x.type)
    result.add_incoming(near.value, start)
    result.add_incoming(mixed.value, slow)
    return Lanes(builder, result)


@elementary(per_lane("sin"))
def sin(x: Lanes) -> Lanes:
    """Compute the sine; of inf it is NaN."""
    r, k = _near_reduction(x)
    near = select(x.eq(0.0), x, _quadrant_sine(r, k))
    return _with_far(x, near, "far_sine", _far_sine)


@elementary(per_lane("cos"))
def cos(x: Lanes) -> Lanes:
    """Compute the cosine; of inf it is NaN."""
    r, k = _near_reduction(x)
    return _with_far(x, _quadrant_sine(r, k + 1), "far_cosine", _far_cosine)
