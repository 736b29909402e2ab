"""Activations: GELU, SiLU, ELU and their kin. (ReLU and sigmoid: `arithmetic`.)

Those that multiply x by what vanishes far to the left are 0 at -inf, where the plain
product is NaN: there `maximum` and `clip` bound the factor that grows.
"""

from __future__ import annotations

import math
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.op import FUNCTIONS
from graphc.ir.origins import here
from graphc.ops.arithmetic import abs, exp, expm1, maximum, sigmoid, sign, tanh, where
from graphc.ops.elementwise import When, elementwise
from graphc.ops.numeric import clip
from graphc.ops.transcendental import erf, erfc

# Beyond it e ** -|x| is 0 even in float64, and so is what multiplies it.
FAR = 1000.0
ROOT_HALF = math.sqrt(0.5)
DENSITY = 1.0 / math.sqrt(2.0 * math.pi)
# What makes 0.5 (1 + tanh(u)) = sigmoid(2 u) of the cubic that stands for erf.
LINEAR, CUBIC = math.sqrt(8.0 / math.pi), 0.044715


def _near(x: Any) -> Any:
    return clip(x, -FAR, FAR)


# --- smooth rectifiers --------------------------------------------------------------

silu = elementwise(
    "silu",
    lambda x: x / (1 + exp(-x)),
    stable=lambda x: maximum(x, -FAR) * sigmoid(x),
    grad=lambda x, y: _silu_slope(x),
    doc="y = x s, s = sigmoid(x); also called swish;  dx = g s (1 + x (1 - s))",
)


def _silu_slope(x: Any) -> Any:
    s = sigmoid(x)
    return s + _near(x) * s * (1 - s)


GELU = elementwise(
    "gelu",
    lambda x: 0.5 * x * (1 + erf(ROOT_HALF * x)),
    stable=lambda x: 0.5 * maximum(x, -FAR) * erfc(-ROOT_HALF * x),
    grad=lambda x, y: (
        0.5 * erfc(-ROOT_HALF * x) + _near(x) * exp(-0.5 * (x * x)) * DENSITY
    ),
    doc="y = x P(x), P the normal distribution;  dx = g (P(x) + x p(x)), p its density",
)
_gelu = GELU.function


def _gelu_inner(x: Any) -> Any:
    return x * (LINEAR + LINEAR * CUBIC * (x * x))


def _gelu_tanh_slope(x: Any) -> Any:
    near = _near(x)
    s = sigmoid(_gelu_inner(near))
    inner = LINEAR + 3 * LINEAR * CUBIC * (near * near)
    return s + near * inner * s * (1 - s)


gelu_tanh = elementwise(
    "gelu_tanh",
    lambda x: 0.5 * x * (1 + tanh(0.5 * _gelu_inner(x))),
    stable=lambda x: maximum(x, -FAR) * sigmoid(_gelu_inner(_near(x))),
    grad=lambda x, y: _gelu_tanh_slope(x),
    doc="y = 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)));  "
    "dx = g (s + x s (1 - s) u'), s = sigmoid(u), u twice the argument of tanh",
)


def gelu(x: Any, approximate: str = "none") -> Any:
    """Return x times the normal distribution at x, or its approximation by tanh.

    approximate: "none", or "tanh", which is the op `gelu_tanh`.

    Shapes:  x [...] -> [...]
    Math:    y = x P(x), P(x) = 0.5 (1 + erf(x / sqrt(2)));  dx = g (P(x) + x P'(x))
    Raises:  ArgumentError for another approximation.
    Source:  Hendrycks and Gimpel, "Gaussian error linear units", 2016.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> graphc.gelu(x, approximate="tanh").node.op.name
        'gelu_tanh'
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(
            f'gelu: approximate is {approximate!r}, not "none" or "tanh"',
            where=here().quoted,
        )
    assert _gelu is not None
    return _gelu(x) if approximate == "none" else gelu_tanh(x)


GELU.function = gelu
FUNCTIONS["gelu"] = gelu

# --- exponential and leaky rectifiers -----------------------------------------------

SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772

elu = elementwise(
    "elu",
    lambda x, alpha=1.0: where(x > 0, x, alpha * (exp(x) - 1)),
    stable=lambda x, alpha: where(x > 0, x, alpha * expm1(x)),
    grad=lambda x, alpha, y: (
        where(x > 0, 1.0, alpha * exp(x)),
        When(x <= 0, expm1(x)),
    ),
    doc="y = x where x > 0, else alpha (e ** x - 1);  dx = g, or g alpha e ** x",
)
selu = elementwise(
    "selu",
    lambda x: SELU_SCALE * where(x > 0, x, SELU_ALPHA * (exp(x) - 1)),
    stable=lambda x: SELU_SCALE * where(x > 0, x, SELU_ALPHA * expm1(x)),
    grad=lambda x, y: where(x > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * exp(x)),
    doc="y = 1.0507 elu(x, 1.6733), which keeps mean 0 and variance 1",
)
leaky_relu = elementwise(
    "leaky_relu",
    lambda x, negative_slope=0.01: where(x > 0, x, negative_slope * x),
    grad=lambda x, negative_slope, y: (
        where(x > 0, 1.0, negative_slope),
        When(x <= 0, x),
    ),
    doc="y = x where x > 0, else negative_slope x;  dx = g, or g negative_slope",
)

# --- bounded ------------------------------------------------------------------------


def _softsign_slope(x: Any) -> Any:
    r = 1 / (1 + abs(x))
    return r * r


softsign = elementwise(
    "softsign",
    lambda x: x / (1 + abs(x)),
    stable=lambda x: where(abs(x) < float("inf"), x / (1 + abs(x)), sign(x)),
    grad=lambda x, y: _softsign_slope(x),
    doc="y = x / (1 + |x|);  dx = g / (1 + |x|)^2",
)


def hardtanh(x: Any, min_val: Any = -1.0, max_val: Any = 1.0) -> Any:
    """Limit elements to an interval, [-1, 1] unless said; the same as `clip`.

    Shapes:  x [...] -> [...]
    Math:    dx = g where min_val < x < max_val, 0 at the limits.
    """
    return clip(x, min_val, max_val)
