"""Arithmetic, comparisons, selection and conversions of SIMD vectors.

The operators of Python work on two vectors of one type. `+`, `-` and `*` of floats
carry LLVM's `contract` flag and no other: `x * y + z` becomes one fused multiply-add,
and nothing else is rearranged. Integers wrap. Comparisons give a Mask.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numba.core import types
from numba.core.extending import intrinsic, lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from .division import by_inverse, floor_divide, remainder
from .lanes import DOUBLE, FLOAT, I32, I64, Lanes, call_shared, constant
from .lanes import fma as _fma
from .lanes import select as _select
from .vector import Mask, Vec

CONTRACT = ("contract",)
Emit = Callable[..., Any]


@dataclass(frozen=True)
class Operator:
    """What one of Python's operators does with vectors of one type."""

    accepts: Callable[[Any], bool]
    emit: Emit  # (type of the operands, builder, *values) -> value
    mask: bool

    def result(self, kinds: Sequence[Any]) -> Vec | Mask | None:
        """Return the type that it makes of operands of these types, if any."""
        first = kinds[0]
        if not isinstance(first, Vec | Mask) or not self.accepts(first):
            return None
        if any(kind != first for kind in kinds[1:]):
            return None
        return Mask(first.lanes) if self.mask else first


OPERATORS: dict[Any, Operator] = {}


# ---- operators -----------------------------------------------------------------------


def _operator(
    function: Any, accepts: Callable[[Any], bool], emit: Emit, mask: bool = False
) -> None:
    """Give one of Python's operators a meaning on vectors of one type."""
    meaning = OPERATORS[function] = Operator(accepts, emit, mask)

    class Template(AbstractTemplate):
        key = function
        # The most specific target is asked first: ahead of all that Numba itself tries.
        metadata = {"target": "cpu"}  # noqa: RUF012

        def generic(self, args: Any, kws: Any) -> Any:
            result = meaning.result(args)
            if result is None:
                return None
            return signature(result, *args)  # type: ignore[no-untyped-call]

    infer_global(function)(Template)  # type: ignore[no-untyped-call]

    def lower(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        return emit(sig.args[0], builder, *values)

    for kind in (Vec, Mask):
        arity = 1 if function in (operator.neg, operator.invert) else 2
        kinds = [kind] * arity
        lower_builtin(function, *kinds)(lower)  # type: ignore[no-untyped-call]


def _is_number(type_: Any) -> bool:
    return isinstance(type_, Vec)


def _is_float(type_: Any) -> bool:
    return bool(type_.is_float)


def _is_bits(type_: Any) -> bool:
    return not type_.is_float


def _arithmetic(floating: str, integer: str) -> Emit:
    def emit(type_: Any, builder: Any, a: Any, b: Any) -> Any:
        if type_.is_float:
            return getattr(builder, floating)(a, b, flags=CONTRACT)
        return getattr(builder, integer)(a, b)

    return emit


def _comparison(sign: str) -> Emit:
    def emit(type_: Any, builder: Any, a: Any, b: Any) -> Any:
        return Lanes(builder, a)._compare(sign, Lanes(builder, b)).value

    return emit


def _shared(name: str, body: Callable[..., Lanes]) -> Emit:
    def emit(type_: Any, builder: Any, *values: Any) -> Any:
        return call_shared(builder, f"graphc.{name}.{type_.name}", body, values)

    return emit


def _negate(type_: Any, builder: Any, a: Any) -> Any:
    return (-Lanes(builder, a)).value


_operator(operator.add, _is_number, _arithmetic("fadd", "add"))
_operator(operator.sub, _is_number, _arithmetic("fsub", "sub"))
_operator(operator.mul, _is_number, _arithmetic("fmul", "mul"))
_operator(operator.truediv, _is_float, lambda t, b, x, y: b.fdiv(x, y, flags=("afn",)))
_operator(operator.floordiv, _is_number, _shared("floordiv", floor_divide))
_operator(operator.mod, _is_number, _shared("mod", remainder))
_operator(operator.neg, _is_number, _negate)
_operator(operator.and_, _is_bits, lambda t, b, x, y: b.and_(x, y))
_operator(operator.or_, _is_bits, lambda t, b, x, y: b.or_(x, y))
_operator(operator.xor, _is_bits, lambda t, b, x, y: b.xor(x, y))
_operator(operator.invert, _is_bits, lambda t, b, x: b.not_(x))
for _function, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
    (operator.ne, "!="),
):
    _operator(_function, _is_number, _comparison(_sign), mask=True)


# ---- functions of vectors of one type ------------------------------------------------


def vector_function(
    arity: int, accepts: Callable[[Any], bool], mask: bool = False
) -> Callable[[Callable[..., Lanes]], Any]:
    """Make an intrinsic of vectors of one type from a body written with `Lanes`."""

    def decorate(body: Callable[..., Lanes]) -> Any:
        def define(*args: Any) -> Any:
            first = args[0]
            if not isinstance(first, Vec | Mask) or not accepts(first):
                return None
            if any(arg != first for arg in args):
                return None

            def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
                return body(*(Lanes(builder, value) for value in values)).value

            result = Mask(first.lanes) if mask else first
            return result(*args), codegen

        # Numba reads the number of arguments from the signature of the definition.
        definition: Any = (
            lambda typingctx, a: define(a),
            lambda typingctx, a, b: define(a, b),
            lambda typingctx, a, b, c: define(a, b, c),
        )[arity - 1]
        definition.__name__ = definition.__qualname__ = body.__name__.rstrip("_")
        definition.__doc__ = body.__doc__
        definition.__module__ = body.__module__
        return intrinsic(definition)

    return decorate


@vector_function(3, _is_float)
def fma(a: Lanes, b: Lanes, c: Lanes) -> Lanes:
    """Compute a * b + c, rounded once."""
    return _fma(a, b, c)


@vector_function(3, _is_float)
def quotient(a: Lanes, b: Lanes, inverse: Lanes) -> Lanes:
    """Divide a by b, of which the inverse is known: the same b for many a."""
    return by_inverse(a, b, inverse)


@vector_function(1, _is_number)
def neg(a: Lanes) -> Lanes:
    """Negate; the sign of a zero changes too."""
    return -a


@vector_function(1, _is_number)
def absolute(a: Lanes) -> Lanes:
    """Take the absolute value; that of the least integer is itself."""
    if a.type.element in (FLOAT, DOUBLE):
        return a.intrinsic("fabs")
    return _select(a < 0, -a, a)


@vector_function(1, _is_number)
def sign(a: Lanes) -> Lanes:
    """Return -1, 0 or 1; NaN stays NaN and -0.0 gives 0.0, as in NumPy."""
    unsigned = _select(a > 0, a.like(1), a.like(0))
    result = _select(a < 0, -1, unsigned)
    if a.type.element in (FLOAT, DOUBLE):
        return _select(a.isnan(), a, result)
    return result


@vector_function(1, _is_float)
def floor(a: Lanes) -> Lanes:
    """Round down to an integer."""
    return a.intrinsic("floor")


@vector_function(1, _is_float)
def ceil(a: Lanes) -> Lanes:
    """Round up to an integer."""
    return a.intrinsic("ceil")


@vector_function(1, _is_float)
def trunc(a: Lanes) -> Lanes:
    """Round towards zero to an integer."""
    return a.intrinsic("trunc")


@vector_function(1, _is_float)
def round_even(a: Lanes) -> Lanes:
    """Round to the nearest integer, halves to the even one, as `np.rint`."""
    return a.intrinsic("rint")


@vector_function(1, _is_float)
def sqrt(a: Lanes) -> Lanes:
    """Take the square root, correctly rounded."""
    return a.intrinsic("sqrt")


@vector_function(1, _is_float, mask=True)
def isnan(a: Lanes) -> Lanes:
    """Say which lanes are NaN."""
    return a.isnan()


def maximum_body(a: Lanes, b: Lanes) -> Lanes:
    """Return the larger lanes; NaN wins."""
    # `b > a ? b : a` is x86's vmaxps, which gives a where either is NaN. Where b is a
    # constant, as in relu, the second select folds away; llvm.maximum takes four
    # instructions more to order the zeros, which NumPy leaves open.
    larger = _select(b > a, b, a)
    if a.type.element in (FLOAT, DOUBLE):
        return _select(b.isnan(), b, larger)
    return larger


def minimum_body(a: Lanes, b: Lanes) -> Lanes:
    """Return the smaller lanes; NaN wins."""
    smaller = _select(b < a, b, a)
    if a.type.element in (FLOAT, DOUBLE):
        return _select(b.isnan(), b, smaller)
    return smaller


@vector_function(2, _is_number)
def maximum(a: Lanes, b: Lanes) -> Lanes:
    """Return the larger lanes, a NaN of either passing on; of equal ones, the first.

    One instruction where the second argument is a constant: write `maximum(x, zero)`.
    """
    return maximum_body(a, b)


@vector_function(2, _is_number)
def minimum(a: Lanes, b: Lanes) -> Lanes:
    """Return the smaller lanes, NaN of either passing on; of equal ones, the first."""
    return minimum_body(a, b)


def larger_body(best: Lanes, value: Lanes) -> Lanes:
    """Say where value comes after best in the order that argmax uses."""
    after = value > best
    if best.type.element in (FLOAT, DOUBLE):
        return after | (value.isnan() & ~best.isnan())
    return after


def smaller_body(best: Lanes, value: Lanes) -> Lanes:
    """Say where value comes before best in the order that argmin uses."""
    before = value < best
    if best.type.element in (FLOAT, DOUBLE):
        return before | (value.isnan() & ~best.isnan())
    return before


@vector_function(2, _is_number, mask=True)
def beats_max(best: Lanes, value: Lanes) -> Lanes:
    """Say where a value replaces the best so far in argmax: larger, or the first NaN.

    The loop of an argmax keeps two vectors:
    `k = beats_max(best, v) & m; best = select(k, v, best); at = select(k, i, at)`.
    """
    return larger_body(best, value)


@vector_function(2, _is_number, mask=True)
def beats_min(best: Lanes, value: Lanes) -> Lanes:
    """Say where a value replaces the best in argmin: smaller, or the first NaN."""
    return smaller_body(best, value)


@intrinsic
def select(typingctx, m, a, b):  # type: ignore[no-untyped-def]
    """Take lanes of a where the mask is set, else of b; a and b may be masks."""
    if not (isinstance(m, Mask) and isinstance(a, Vec | Mask) and a == b):
        return None
    if a.lanes != m.lanes:
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        return builder.select(*values)

    return a(m, a, b), codegen


# ---- conversions ---------------------------------------------------------------------

_ELEMENT = {
    types.float32: FLOAT,
    types.float64: DOUBLE,
    types.int32: I32,
    types.int64: I64,
}


def _float_to_int(x: Lanes, element: Any) -> Lanes:
    """Truncate, saturating; NaN gives 0."""
    # LLVM's own conversion is undefined outside the range, and its saturating one
    # becomes scalar code for some vectors; so the range is tested here.
    bound = 2.0 ** (element.width - 1)
    inside = (x >= -bound) & (x < bound)
    whole = _select(inside, x, 0.0).convert("fptosi", element)
    top = x >= bound
    whole = _select(top, whole.like(2 ** (element.width - 1) - 1), whole)
    return _select(x < -bound, whole.like(-(2 ** (element.width - 1))), whole)


def _convert(x: Lanes, source: Any, target: Any) -> Lanes:
    element = _ELEMENT[target]
    if source == types.boolean:
        return _select(x, Lanes(x.builder, constant(x.vector(element), 1)), 0)
    if isinstance(source, types.Float):
        if isinstance(target, types.Float):
            return x.convert("fpext" if target.bitwidth == 64 else "fptrunc", element)
        return _float_to_int(x, element)
    if isinstance(target, types.Float):
        return x.convert("sitofp", element)
    return x.convert("sext" if target.bitwidth == 64 else "trunc", element)


def _cast_to(name: str, target: types.Type, doc: str) -> Any:
    def definition(typingctx, v):  # type: ignore[no-untyped-def]
        if not isinstance(v, Vec | Mask):
            return None

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            if v.dtype == target:
                return values[0]
            return _convert(Lanes(builder, values[0]), v.dtype, target).value

        return Vec(target, v.lanes)(v), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(definition)


_TO_INT = "Convert to {}: floats truncate and saturate, NaN gives 0, wider ints wrap."
cast_f32 = _cast_to("cast_f32", types.float32, "Convert to float32; a mask gives 0, 1.")
cast_f64 = _cast_to("cast_f64", types.float64, "Convert to float64; a mask gives 0, 1.")
cast_i32 = _cast_to("cast_i32", types.int32, _TO_INT.format("int32"))
cast_i64 = _cast_to("cast_i64", types.int64, _TO_INT.format("int64"))


@intrinsic
def cast_bool(typingctx, v):  # type: ignore[no-untyped-def]
    """Return the mask of lanes that are not zero; NaN is not zero."""
    if not isinstance(v, Vec | Mask):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        if isinstance(v, Mask):
            return values[0]
        return Lanes(builder, values[0]).ne(0).value

    return Mask(v.lanes)(v), codegen
