"""Write LLVM vector code as Python expressions.

`Lanes` wraps an LLVM vector value and its builder, so that a body of the prelude reads
like the formula it computes: `fma(k, -LN2, x)` instead of six builder calls. A Python
number beside a `Lanes` becomes a constant in every lane.

Arithmetic made here is exact IEEE, never contracted: where a fused multiply-add is
wanted, `fma` says so. Numba adds the `fastmath` flags of a kernel to every instruction
that has none, bodies of the prelude included; so each carries `afn`, which means
nothing on an addition or a multiplication and keeps the others away.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

EXACT = ("afn",)
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
I1, I8, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 32, 64))

_SUFFIX = {FLOAT: "f32", DOUBLE: "f64", I1: "i1", I8: "i8", I32: "i32", I64: "i64"}


def suffix(type_: ir.Type) -> str:
    """Name a scalar or vector type as LLVM's overloaded intrinsics do: `v16f32`."""
    if isinstance(type_, ir.VectorType):
        return f"v{type_.count}{_SUFFIX[type_.element]}"
    return _SUFFIX[type_]


def is_float(type_: ir.Type) -> bool:
    """Say whether a scalar or vector type holds floating-point numbers."""
    element = type_.element if isinstance(type_, ir.VectorType) else type_
    return not isinstance(element, ir.IntType)


def constant(type_: ir.Type, number: float | int) -> ir.Constant:
    """Make a constant, the same number in every lane of a vector type."""
    # The text tells 0.0 from -0.0, which are one key.
    number = float(number) if is_float(type_) else int(number)
    return _cached_constant(type_, repr(number))


@lru_cache(maxsize=4096)
def _cached_constant(type_: ir.Type, text: str) -> ir.Constant:
    # A constant keeps its own printed text, and printing is what costs.
    number = float(text) if is_float(type_) else int(text)
    if isinstance(type_, ir.VectorType):
        return Equal(type_, ir.Constant(type_.element, number))
    return ir.Constant(type_, number)


class Equal(ir.Constant):  # type: ignore[misc]
    """A vector of one number, which LLVM need not read lane by lane."""

    def __init__(self, type_: ir.VectorType, number: ir.Constant) -> None:
        """Repeat a constant."""
        super().__init__(type_, [number] * type_.count)

    def _get_reference(self) -> str:
        number = self.constant[0]
        if number.constant == 0 and str(number.constant) != "-0.0":
            return "zeroinitializer"
        if llvm.llvm_version_info[0] < 19:  # whose language has no word for it
            return str(super()._get_reference())
        return f"splat ({number})"


@cache
def vector(element: ir.Type, lanes: int) -> ir.VectorType:
    """Return a vector type; equal ones are one, which keeps its own printed text."""
    return ir.VectorType(element, lanes)


def declare(
    builder: ir.IRBuilder, name: str, result: ir.Type, arguments: Sequence[ir.Type]
) -> ir.Function:
    """Return the module's declaration of an external function or LLVM intrinsic."""
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(
            builder.module, ir.FunctionType(result, list(arguments)), name
        )
    return function


def call_intrinsic(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    """Call `llvm.NAME`, which returns the type of its first argument."""
    type_ = values[0].type
    function = declare(
        builder, f"llvm.{name}.{suffix(type_)}", type_, [v.type for v in values]
    )
    return builder.call(function, values)


def call_shared(
    builder: ir.IRBuilder,
    name: str,
    body: Callable[..., Any],
    arguments: Sequence[ir.Value],
    result: ir.Type | None = None,
    inline: bool = True,
) -> ir.Value:
    """Call a function of the module that `body` fills when it is first needed.

    However often a kernel uses it, a body is built, printed and parsed once. `body`
    takes and returns `Lanes`; the result has the first argument's type unless said.
    """
    function = builder.module.globals.get(name)
    if function is None:
        result = arguments[0].type if result is None else result
        function = declare(builder, name, result, [a.type for a in arguments])
        function.linkage = "internal"
        function.attributes.add("alwaysinline" if inline else "noinline")
        function.attributes.add("nounwind")
        inner = ir.IRBuilder(function.append_basic_block("entry"))
        inner.ret(body(*(Lanes(inner, a) for a in function.args)).value)
    return builder.call(function, arguments)


class Lanes:
    """An LLVM vector value with Python's operators, which append instructions.

    Integers are signed and wrap; `>>` keeps the sign, `lshr` does not. Comparisons of
    floats are ordered (false on NaN), except `ne`.
    """

    __slots__ = ("builder", "value")

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        """Wrap a value; operators append where the builder stands."""
        self.builder = builder
        self.value = value

    @property
    def type(self) -> ir.VectorType:
        """The LLVM vector type."""
        return self.value.type

    def vector(self, element: ir.Type) -> ir.VectorType:
        """Return the type with as many lanes and another element."""
        return vector(element, self.type.count)

    def lift(self, other: Lanes | float | int) -> ir.Value:
        """Return a value of this type: another's, or a number in every lane."""
        if isinstance(other, Lanes):
            return other.value
        return constant(self.type, other)

    def like(self, number: float | int) -> Lanes:
        """Return a number in every lane."""
        return Lanes(self.builder, constant(self.type, number))

    def _binary(self, floating: str, integer: str, other: Any, swap: bool) -> Lanes:
        left, right = self.value, self.lift(other)
        if swap:
            left, right = right, left
        if is_float(self.type):
            method = getattr(self.builder, floating)
            return Lanes(self.builder, method(left, right, flags=EXACT))
        return Lanes(self.builder, getattr(self.builder, integer)(left, right))

    def __add__(self, other: Any) -> Lanes:
        """Add."""
        return self._binary("fadd", "add", other, False)

    def __radd__(self, other: Any) -> Lanes:
        """Add to a number."""
        return self._binary("fadd", "add", other, True)

    def __sub__(self, other: Any) -> Lanes:
        """Subtract."""
        return self._binary("fsub", "sub", other, False)

    def __rsub__(self, other: Any) -> Lanes:
        """Subtract from a number."""
        return self._binary("fsub", "sub", other, True)

    def __mul__(self, other: Any) -> Lanes:
        """Multiply."""
        return self._binary("fmul", "mul", other, False)

    def __rmul__(self, other: Any) -> Lanes:
        """Multiply a number."""
        return self._binary("fmul", "mul", other, True)

    def __truediv__(self, other: Any) -> Lanes:
        """Divide; integers towards zero, undefined by 0."""
        return self._binary("fdiv", "sdiv", other, False)

    def __rtruediv__(self, other: Any) -> Lanes:
        """Divide a number."""
        return self._binary("fdiv", "sdiv", other, True)

    def __neg__(self) -> Lanes:
        """Negate."""
        if is_float(self.type):
            return Lanes(self.builder, self.builder.fneg(self.value))
        return 0 - self

    def _bitwise(self, name: str, other: Any) -> Lanes:
        return Lanes(
            self.builder, getattr(self.builder, name)(self.value, self.lift(other))
        )

    def __and__(self, other: Any) -> Lanes:
        """And bits."""
        return self._bitwise("and_", other)

    def __or__(self, other: Any) -> Lanes:
        """Or bits."""
        return self._bitwise("or_", other)

    def __xor__(self, other: Any) -> Lanes:
        """Exclusive-or bits."""
        return self._bitwise("xor", other)

    def __invert__(self) -> Lanes:
        """Complement bits."""
        return self ^ -1

    def __lshift__(self, other: Any) -> Lanes:
        """Shift left."""
        return self._bitwise("shl", other)

    def __rshift__(self, other: Any) -> Lanes:
        """Shift right, keeping the sign."""
        return self._bitwise("ashr", other)

    def lshr(self, other: Any) -> Lanes:
        """Shift right, zeros coming in."""
        return self._bitwise("lshr", other)

    def _compare(self, sign: str, other: Any) -> Lanes:
        other = self.lift(other)
        if not is_float(self.type):
            method = self.builder.icmp_signed
        elif sign == "!=":
            method = self.builder.fcmp_unordered
        else:
            method = self.builder.fcmp_ordered
        return Lanes(self.builder, method(sign, self.value, other))

    def __lt__(self, other: Any) -> Lanes:
        """Compare less."""
        return self._compare("<", other)

    def __le__(self, other: Any) -> Lanes:
        """Compare less or equal."""
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Lanes:
        """Compare greater."""
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Lanes:
        """Compare greater or equal."""
        return self._compare(">=", other)

    def eq(self, other: Any) -> Lanes:
        """Compare equal lanes."""
        return self._compare("==", other)

    def ne(self, other: Any) -> Lanes:
        """Compare unequal lanes, NaN being unequal to all."""
        return self._compare("!=", other)

    def isnan(self) -> Lanes:
        """Say where a float lane is NaN."""
        return self.ne(self)

    def bits(self) -> Lanes:
        """Reinterpret floats as integers of the same width."""
        element = I32 if self.type.element == FLOAT else I64
        return self.bitcast(self.vector(element))

    def floats(self) -> Lanes:
        """Reinterpret integers as floats of the same width."""
        element = FLOAT if self.type.element == I32 else DOUBLE
        return self.bitcast(self.vector(element))

    def bitcast(self, type_: ir.Type) -> Lanes:
        """Reinterpret the bits as another type of the same size."""
        return Lanes(self.builder, self.builder.bitcast(self.value, type_))

    def convert(self, name: str, element: ir.Type) -> Lanes:
        """Apply one of LLVM's conversions (`sitofp`, `fpext`, ...) to every lane."""
        method = getattr(self.builder, name)
        return Lanes(self.builder, method(self.value, self.vector(element)))

    def intrinsic(self, name: str, *others: Any) -> Lanes:
        """Call an LLVM intrinsic that maps values of this type to this type."""
        values = [self.value, *(self.lift(other) for other in others)]
        return Lanes(self.builder, call_intrinsic(self.builder, name, *values))

    def any(self) -> ir.Value:
        """Return an i1: whether any lane of a mask is set."""
        word = ir.IntType(self.type.count)
        bits = self.builder.bitcast(self.value, word)
        return self.builder.icmp_unsigned("!=", bits, ir.Constant(word, 0))


def fma(a: Lanes | float, b: Lanes | float, c: Lanes | float) -> Lanes:
    """Compute a * b + c, rounded once."""
    first = next(x for x in (a, b, c) if isinstance(x, Lanes))
    values = [first.lift(x) for x in (a, b, c)]
    return Lanes(first.builder, call_intrinsic(first.builder, "fma", *values))


def select(mask: Lanes, a: Lanes | float, b: Lanes | float) -> Lanes:
    """Take a where the mask is set, else b; one of the two may be a number."""
    first = next(x for x in (a, b) if isinstance(x, Lanes))
    value = mask.builder.select(mask.value, first.lift(a), first.lift(b))
    return Lanes(mask.builder, value)


def horner(x: Lanes, coefficients: Sequence[float]) -> Lanes:
    """Evaluate a polynomial whose coefficients are given from x**0 upwards."""
    total: Lanes | float = coefficients[-1]
    for coefficient in reversed(coefficients[:-1]):
        total = fma(total, x, coefficient)
    assert isinstance(total, Lanes)
    return total
