"""Rounding, whole division, limits, and tests of what numbers are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.ir.op import FUNCTIONS, Op, public
from graphc.ir.scalar import Expr, apply
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import bool_
from graphc.ops.arithmetic import (
    STEP,
    TRUTH,
    abs,
    equal,
    less,
    maximum,
    minimum,
    not_equal,
)
from graphc.ops.creation import constant
from graphc.ops.elementwise import When, elementwise, primitive

INFINITY = float("inf")

# --- rounding -----------------------------------------------------------------------


def _rounding(name: str, symbolic: Callable[[Any, Any], Any], doc: str) -> Op:
    """Define a rounding of floats to whole numbers; integers are whole already."""

    def formula(x: Any) -> Any:
        import sympy

        return symbolic(sympy, x)

    def body(x: Expr) -> Expr:
        return apply(name, x) if x.dtype.is_float else x

    return elementwise(name, formula, stable=body, grad=STEP, doc=doc)


floor = _rounding(
    "floor", lambda sp, x: sp.floor(x), "y = the largest whole number up to x"
)
ceil = _rounding(
    "ceil", lambda sp, x: sp.ceiling(x), "y = the smallest whole number from x on"
)
trunc = _rounding(
    "trunc",
    lambda sp, x: sp.sign(x) * sp.floor(sp.Abs(x)),
    "y = x without its fraction",
)
round = _rounding(
    "round",
    lambda sp, x: sp.floor(x + sp.Rational(1, 2)),
    "y = the whole number nearest to x, of two the even one",
)

# --- whole division -----------------------------------------------------------------

floor_divide = primitive(
    "floor_divide",
    arity=2,
    symbolic=lambda x, y: x // y,
    grad=STEP,
    doc="z = the largest whole number up to x / y; of ints, 0 where y is 0",
)
remainder = primitive(
    "remainder",
    arity=2,
    symbolic=lambda x, y: x - y * (x // y),
    grad=lambda x, y, z: (1, -floor_divide(x, y)),
    sample=(0.5, 3.0),
    doc="z = x - y floor(x / y), of the sign of y; of ints, 0 where y is 0;  "
    "dx = g, dy = -g floor(x / y)",
)

# --- limits -------------------------------------------------------------------------

CLIP = elementwise(
    "clip",
    lambda x, min, max: minimum(maximum(x, min), max),
    grad=lambda x, min, max, y: (
        When((x > min) & (x < max)),
        When((x < min) & (min < max)),
        When(maximum(x, min) > max),
    ),
    doc="y = x, but at least min, and at most max;  dx = g where min < x < max",
)
_clip = CLIP.function


def clip(x: Any, min: Any = None, max: Any = None) -> Any:
    """Limit elements to an interval; a limit that is None is none.

    Shapes:  x [...], min [...], max [...] -> [...]
    Math:    y = minimum(maximum(x, min), max);  dx = g where min < x < max, 0 at the
             limits; dmin, dmax = g where y is that limit and x lies beyond it
    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.clip([-2.0, 0.5, 2.0], -1, 1)).tolist()
        [-1.0, 0.5, 1.0]
    """
    assert _clip is not None
    if min is not None and max is not None:
        return _clip(x, min, max)
    if min is not None:
        return maximum(x, min)
    return constant(x) if max is None else minimum(x, max)


CLIP.function = clip
FUNCTIONS["clip"] = clip

# --- powers that have names ---------------------------------------------------------

# Functions, not ops: so the equations that know x * x and 1 / x know these too, and
# `sqrt(sum(square(x)))` is the norm, with its gradient at 0.


@public
def square(x: Any) -> Any:
    """Multiply each element by itself.

    Shapes:  x [...] -> [...]
    Math:    y = x^2;  dx = 2 g x
    """
    x = _operand(x)
    return x * x


@public
def reciprocal(x: Any) -> Any:
    """Divide 1 by each element; ints become float32, as in any division.

    Shapes:  x [...] -> [...]
    Math:    y = 1 / x;  dx = -g / x^2
    """
    return 1 / _operand(x)


def _operand(x: Any) -> Any:
    """Return what has operators: a tensor, or a scalar of a formula."""
    scalar = isinstance(x, Expr) or type(x).__module__.startswith("sympy")
    return x if scalar else constant(x)


# --- tests --------------------------------------------------------------------------

isnan = elementwise(
    "isnan", lambda x: not_equal(x, x), grad=TRUTH, doc="y = whether x is NaN"
)
isinf = elementwise(
    "isinf",
    lambda x: equal(abs(x), INFINITY),
    grad=TRUTH,
    doc="y = whether x is an infinity of either sign",
)
isfinite = elementwise(
    "isfinite",
    lambda x: less(abs(x), INFINITY),
    grad=TRUTH,
    doc="y = whether x is neither infinite nor NaN",
)


def _either(x: Any, y: Any) -> Any:
    import sympy

    return sympy.Xor(x, y)


logical_xor = elementwise(
    "logical_xor",
    _either,
    stable=lambda x, y: not_equal(cast_expr(x, bool_), cast_expr(y, bool_)),
    grad=TRUTH,
    commutative=True,
    doc="z = either x or y, not both",
)
