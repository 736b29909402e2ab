"""Arithmetic, exponentials, activations, comparisons and `where`.

Each op is one statement. Derivatives are given where the formula for them is short
(so that training never imports SymPy); a test compares each with SymPy's.
"""

from __future__ import annotations

from typing import Any

from graphc.errors import DTypeError
from graphc.ir.nodes import make1
from graphc.ir.op import (
    FUNCTIONS,
    NonDifferentiable,
    Op,
    Pointwise,
    Site,
    Types,
    register,
)
from graphc.ir.scalar import Expr, apply, evaluate_expr, ref
from graphc.ir.types import TensorType, bool_
from graphc.ops.batching import batch_leading
from graphc.ops.broadcast import (
    as_tensors,
    broadcast_together,
    same_shape,
)
from graphc.ops.creation import cast, constant
from graphc.ops.elementwise import When, elementwise, primitive

STEP = NonDifferentiable("its derivative is 0 wherever it exists")
TRUTH = NonDifferentiable("it is a truth value")

# --- arithmetic ---------------------------------------------------------------------

add = primitive(
    "add",
    arity=2,
    symbolic=lambda x, y: x + y,
    grad=lambda x, y, z: (1, 1),
    commutative=True,
    doc="z = x + y;  dx = g, dy = g",
    forms=["add(x, neg(y)) => sub(x, y)"],
)
sub = primitive(
    "sub",
    arity=2,
    symbolic=lambda x, y: x - y,
    grad=lambda x, y, z: (1, -1),
    doc="z = x - y;  dx = g, dy = -g",
    forms=["sub(x, neg(y)) => add(x, y)"],
)
mul = primitive(
    "mul",
    arity=2,
    symbolic=lambda x, y: x * y,
    grad=lambda x, y, z: (y, x),
    commutative=True,
    doc="z = x * y;  dx = g y, dy = g x",
)
div = primitive(
    "div",
    arity=2,
    symbolic=lambda x, y: x / y,
    grad=lambda x, y, z: (1 / y, -z / y),
    doc="z = x / y (int / int gives float32);  dx = g / y, dy = -g z / y",
)
pow = primitive(
    "pow",
    arity=2,
    symbolic=lambda x, y: x**y,
    grad=lambda x, y, z: (_pow_base(x, y), _pow_exponent(x, z)),
    sample=(0.2, 3.0),
    doc="z = x ** y (as floats);  dx = g y x ** (y - 1), dy = g z log(x), 0 where z is",
)


def _pow_base(x: Any, y: Any) -> Any:
    if y.node.op.name == "full":
        exponent = y.node.attrs.value
        if exponent in (0.0, 1.0):
            return exponent
        if exponent == 2.0:
            return 2.0 * x
    return y * pow(x, y - 1)


def _pow_exponent(x: Any, z: Any) -> Any:
    return When(z != 0, z * log(x))


neg = primitive(
    "neg",
    symbolic=lambda x: -x,
    grad=lambda x, y: -1,
    doc="y = -x;  dx = -g",
    forms=["neg(neg(x)) => x", "mul(-1, x) => neg(x)", "sub(0, x) => neg(x)"],
)
sign: Op
abs = primitive(
    "abs",
    symbolic="Abs",
    grad=lambda x, y: sign(x),
    doc="y = |x|;  dx = g sign(x), 0 at 0",
    forms=["sqrt(mul(x, x)) => abs(x)", "sqrt(pow(x, 2)) => abs(x)"],
)
sign = primitive(
    "sign",
    symbolic="sign",
    grad=STEP,
    doc="y = -1, 0 or 1 by the sign of x; NaN stays",
)
maximum = primitive(
    "maximum",
    arity=2,
    symbolic="Max",
    grad=lambda x, y, z: (When(x > y), When(y > x)),
    commutative=True,
    doc="z = max(x, y), NaN if either is;  dx = g where x > y, 0 at ties",
)
minimum = primitive(
    "minimum",
    arity=2,
    symbolic="Min",
    grad=lambda x, y, z: (When(x < y), When(y < x)),
    commutative=True,
    doc="z = min(x, y), NaN if either is;  dx = g where x < y, 0 at ties",
)

# --- exponentials and roots ---------------------------------------------------------

exp = primitive("exp", symbolic="exp", grad=lambda x, y: y, doc="y = e ** x;  dx = g y")
log = primitive(
    "log",
    symbolic="log",
    grad=lambda x, y: 1 / x,
    sample=(0.1, 4.0),
    forms=[
        "log(exp(x)) => x",
        "log(div(1, x)) => neg(log(x))",
        "log(reshape(x)) => reshape(log(x))",
        "log(transpose(x)) => transpose(log(x))",
    ],
    doc="y = ln x;  dx = g / x",
)
log1p = primitive(
    "log1p",
    symbolic=lambda x: FUNCTIONS["log"](1 + x),
    grad=lambda x, y: 1 / (1 + x),
    sample=(-0.9, 4.0),
    forms=["log(add(1, x)) => log1p(x)", "log(sub(1, x)) => log1p(neg(x))"],
    doc="y = ln(1 + x), exact near 0;  dx = g / (1 + x)",
)
expm1 = primitive(
    "expm1",
    symbolic=lambda x: FUNCTIONS["exp"](x) - 1,
    grad=lambda x, y: exp(x),
    forms=[
        "sub(exp(x), 1) => expm1(x)",
        "add(exp(x), -1) => expm1(x)",
        "sub(1, exp(x)) => neg(expm1(x))",
    ],
    doc="y = e ** x - 1, exact near 0;  dx = g e ** x",
)
sqrt = primitive(
    "sqrt",
    symbolic="sqrt",
    grad=lambda x, y: 0.5 / y,
    sample=(0.1, 4.0),
    forms=["pow(x, 0.5) => sqrt(x)"],
    doc="y = square root of x;  dx = g / (2 y)",
)
rsqrt = primitive(
    "rsqrt",
    symbolic=lambda x: 1 / FUNCTIONS["sqrt"](x),
    grad=lambda x, y: -0.5 * y / x,
    sample=(0.1, 4.0),
    doc="y = 1 / sqrt(x);  dx = -g y / (2 x)",
)

# --- activations --------------------------------------------------------------------

tanh = primitive(
    "tanh",
    symbolic="tanh",
    grad=lambda x, y: 1 - y * y,
    forms=[
        "div(sub(exp(x), exp(neg(x))), add(exp(x), exp(neg(x)))) => tanh(x)",
        # What `forms` of expm1 have made of exp(2 x) - 1 and of 1 - exp(-2 x).
        "div(expm1(x), add(1, exp(x))) => tanh(mul(0.5, x))",
        "div(neg(expm1(x)), add(1, exp(x))) => tanh(mul(-0.5, x))",
        "sub(mul(2, sigmoid(x)), 1) => tanh(mul(0.5, x))",
        "add(mul(2, sigmoid(x)), -1) => tanh(mul(0.5, x))",
        "sub(1, mul(2, sigmoid(x))) => tanh(mul(-0.5, x))",
    ],
    doc="y = tanh x;  dx = g (1 - y^2)",
)
sigmoid = elementwise(
    "sigmoid",
    lambda x: 1 / (1 + exp(-x)),
    grad=lambda x, y: y * (1 - y),
    forms=[
        "div(1, add(1, exp(neg(x)))) => sigmoid(x)",
        "div(exp(x), add(1, exp(x))) => sigmoid(x)",
        "div(1, add(1, exp(x))) => sigmoid(neg(x))",
        "div(x, add(1, exp(y))) => mul(x, sigmoid(neg(y)))",
        "pow(add(1, exp(x)), -1) => sigmoid(neg(x))",
        "sub(1, sigmoid(x)) => sigmoid(neg(x))",
    ],
    doc="y = 1 / (1 + e ** -x);  dx = g y (1 - y)",
)
relu = elementwise(
    "relu",
    lambda x: maximum(x, 0),
    grad=lambda x, y: When(y > 0),
    doc="y = max(x, 0);  dx = g where x > 0, 0 at 0",
)
softplus = elementwise(
    "softplus",
    lambda x: log(1 + exp(x)),
    stable=lambda x: maximum(x, 0) + log1p(exp(-abs(x))),
    grad=lambda x, y: sigmoid(x),
    forms=[
        "log(add(1, exp(x))) => softplus(x)",
        "log1p(exp(x)) => softplus(x)",
        "log(sigmoid(x)) => neg(softplus(neg(x)))",
        "log(sub(1, sigmoid(x))) => neg(softplus(x))",
        "sub(x, softplus(x)) => neg(softplus(neg(x)))",
        "sub(softplus(x), x) => softplus(neg(x))",
    ],
    doc="y = ln(1 + e ** x);  dx = g sigmoid(x)",
)

# --- comparisons and logic ----------------------------------------------------------

_COMPARE: dict[str, tuple[str, str]] = {
    "equal": ("Eq", "=="),
    "not_equal": ("Ne", "!="),
    "less": ("Lt", "<"),
    "less_equal": ("Le", "<="),
    "greater": ("Gt", ">"),
    "greater_equal": ("Ge", ">="),
}
equal, not_equal, less, less_equal, greater, greater_equal = (
    primitive(
        name,
        arity=2,
        symbolic=symbolic,
        grad=TRUTH,
        commutative=name.endswith("equal") and len(name) < 10,
        doc=f"z = x {sign_} y",
    )
    for name, (symbolic, sign_) in _COMPARE.items()
)
logical_and = primitive(
    "logical_and",
    arity=2,
    symbolic="And",
    grad=TRUTH,
    commutative=True,
    doc="z = x and y",
)
logical_or = primitive(
    "logical_or",
    arity=2,
    symbolic="Or",
    grad=TRUTH,
    commutative=True,
    doc="z = x or y",
)
logical_not = primitive("logical_not", symbolic="Not", grad=TRUTH, doc="y = not x")

# --- where --------------------------------------------------------------------------


def _where_infer(types: Types, _: Any) -> TensorType:
    condition, x, y = types
    if condition.dtype is not bool_ or x.dtype is not y.dtype:
        raise DTypeError(
            f"takes a bool and two of one dtype, not {', '.join(map(str, types))}"
        )
    return TensorType(x.dtype, same_shape(types))


def _where_lower(site: Site) -> Expr:
    condition, x, y = (site.load(i, site.index) for i in range(3))
    return apply("select", condition, x, y)


def _where_gradient(node: Any, cotangents: Any) -> Any:
    from graphc.ops.elementwise import scale

    (g,) = cotangents
    condition = node.inputs[0]
    if g is None:
        return [None, None, None]
    return [
        None,
        scale(g, When(condition)),
        scale(g, When(logical_not(condition))),
    ]


WHERE = register(
    Op(
        name="where",
        infer=_where_infer,
        evaluate=lambda arrays, m: evaluate_expr(
            apply("select", *(ref(f"x{i}", t.dtype) for i, t in enumerate(m.types))),
            lambda leaf: arrays[int(leaf.key[0][1:])],
        ),
        gradient=_where_gradient,
        lower=Pointwise(_where_lower),
        doc="z = x where c, else y;  dx = where(c, g, 0), dy = where(c, 0, g)",
        batch=batch_leading,
    )
)


def where(condition: Any, x: Any, y: Any) -> Any:
    """Choose elements of x where the condition holds, else of y; all broadcast.

    Shapes:  condition bool[...], x [...], y [...] -> [...]
    Math:    dx = where(c, g, 0), dy = where(c, 0, g): selects, never products, so
             the branch that is not taken may be infinite or NaN.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> graphc.where(x > 0, x, 0.0).type
        TensorType(f32[N])
    """
    if any(isinstance(a, Expr) for a in (condition, x, y)):
        return apply("select", condition, x, y)
    if any(type(a).__module__.startswith("sympy") for a in (condition, x, y)):
        import sympy

        return sympy.Piecewise((x, condition), (y, True))
    truth = cast(constant(condition), bool_)
    branches = as_tensors([x, y])
    return make1(WHERE, broadcast_together("where", [truth, *branches]))


WHERE.function = where
FUNCTIONS["where"] = where
