"""Trigonometry, hyperbolic functions, logarithms of other bases, the error function."""

from __future__ import annotations

import math
from typing import Any

from graphc.ir.op import FUNCTIONS, Op
from graphc.ops.arithmetic import abs, exp, expm1, neg, where
from graphc.ops.elementwise import elementwise, primitive

LOG2_E = 1.0 / math.log(2.0)
LOG10_E = 1.0 / math.log(10.0)
TWO_BY_ROOT_PI = 2.0 / math.sqrt(math.pi)

# --- trigonometry -------------------------------------------------------------------

cos: Op
sin = primitive(
    "sin",
    symbolic="sin",
    grad=lambda x, y: cos(x),
    doc="y = sin x, x in radians;  dx = g cos(x)",
)
cos = primitive(
    "cos",
    symbolic="cos",
    grad=lambda x, y: neg(sin(x)),
    doc="y = cos x, x in radians;  dx = -g sin(x)",
)
tan = elementwise(
    "tan",
    lambda x: sin(x) / cos(x),
    grad=lambda x, y: 1 + y * y,
    sample=(-1.4, 1.4),
    doc="y = tan x, x in radians;  dx = g (1 + y^2)",
)
arctan = primitive(
    "arctan",
    symbolic="atan",
    grad=lambda x, y: 1 / (1 + x * x),
    doc="y = the angle in [-pi/2, pi/2] whose tangent is x;  dx = g / (1 + x^2)",
)

# --- hyperbolic functions -----------------------------------------------------------


def _sinh(x: Any) -> Any:
    size = abs(x)
    e = expm1(size)
    # Of large x half the exponential stands twice: e ** x overflows before sinh does.
    half = exp(0.5 * size)
    y = where(size < 20.0, 0.5 * (e + e / (e + 1)), 0.5 * half * half)
    return where(x < 0, -y, y)


def _cosh(x: Any) -> Any:
    half = exp(0.5 * abs(x))
    return 0.5 * half * half + 0.5 / half / half


cosh: Op
sinh = elementwise(
    "sinh",
    lambda x: (exp(x) - exp(-x)) / 2,
    stable=_sinh,
    grad=lambda x, y: cosh(x),
    forms=[
        "div(sub(exp(x), exp(neg(x))), 2) => sinh(x)",
        "mul(0.5, sub(exp(x), exp(neg(x)))) => sinh(x)",
    ],
    doc="y = (e ** x - e ** -x) / 2, exact near 0;  dx = g cosh(x)",
)
cosh = elementwise(
    "cosh",
    lambda x: (exp(x) + exp(-x)) / 2,
    stable=_cosh,
    grad=lambda x, y: sinh(x),
    forms=[
        "div(add(exp(x), exp(neg(x))), 2) => cosh(x)",
        "mul(0.5, add(exp(x), exp(neg(x)))) => cosh(x)",
        "div(sinh(x), cosh(x)) => tanh(x)",
    ],
    doc="y = (e ** x + e ** -x) / 2;  dx = g sinh(x)",
)

# --- logarithms ---------------------------------------------------------------------

log2 = primitive(
    "log2",
    symbolic=lambda x: FUNCTIONS["log"](x) * LOG2_E,
    grad=lambda x, y: LOG2_E / x,
    sample=(0.1, 4.0),
    doc="y = log x of base 2, exact for powers of 2;  dx = g / (x ln 2)",
)
log10 = primitive(
    "log10",
    symbolic=lambda x: FUNCTIONS["log"](x) * LOG10_E,
    grad=lambda x, y: LOG10_E / x,
    sample=(0.1, 4.0),
    doc="y = log x of base 10;  dx = g / (x ln 10)",
)

# --- the error function -------------------------------------------------------------

erf = primitive(
    "erf",
    symbolic="erf",
    grad=lambda x, y: TWO_BY_ROOT_PI * exp(-(x * x)),
    forms=["sub(1, erfc(x)) => erf(x)"],
    doc="y = 2 / sqrt(pi) times the integral of e ** -t^2 from 0 to x;  "
    "dx = g 2 / sqrt(pi) e ** -x^2",
)
erfc = primitive(
    "erfc",
    symbolic="erfc",
    grad=lambda x, y: -TWO_BY_ROOT_PI * exp(-(x * x)),
    forms=[
        "sub(1, erf(x)) => erfc(x)",
        "add(1, erf(x)) => erfc(neg(x))",
    ],
    doc="y = 1 - erf(x), exact where that cancels;  dx = -g 2 / sqrt(pi) e ** -x^2",
)
