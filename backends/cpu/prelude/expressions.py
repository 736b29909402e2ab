"""Expressions of a kernel as LLVM values, each typed where it is made.

The part of `direct.py` that computes; integers are those of Python but for their width.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, TypeVar

from llvmlite import ir
from numba.core import types
from numba.core.extending import _Intrinsic

from .arith import OPERATORS
from .lanes import DOUBLE, FLOAT, I1, I8, I32, I64
from .vector import Mask, Vec, llvm_type

T = TypeVar("T")


class Beyond(Exception):
    """A kernel uses more of Python than is known here."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value's type, Numba's, and its LLVM value; for a tuple a list of them."""

    type: Any
    ir: Any


# --- types -------------------------------------------------------------------------

_SCALARS = {
    types.int64: I64,
    types.int32: I32,
    types.float32: FLOAT,
    types.float64: DOUBLE,
    types.boolean: I1,
}


def value_type(kind: Any) -> ir.Type:
    """Return the LLVM type that holds a value of one of Numba's types."""
    if kind in _SCALARS:
        return _SCALARS[kind]
    if isinstance(kind, types.CPointer):
        pointed = I8 if kind.dtype == types.boolean else value_type(kind.dtype)
        return pointed.as_pointer()
    if isinstance(kind, Vec | Mask):
        return llvm_type(kind)
    raise Beyond(f"the type {kind}")


class _Context:
    """What the code of intrinsics asks of Numba's target."""

    get_value_type = staticmethod(value_type)

    @staticmethod
    def make_tuple(builder: ir.IRBuilder, kind: Any, values: Sequence[Any]) -> Any:
        return list(values)

    @staticmethod
    def get_dummy_value() -> None:
        return None


def plain(kind: Any) -> Any:
    """Return the type of a literal's values."""
    return types.int64 if isinstance(kind, types.IntegerLiteral) else kind


# --- expressions -------------------------------------------------------------------

_BINARY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_UNARY = {ast.USub: operator.neg, ast.Invert: operator.invert}
_SIGN = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_BITS = {ast.BitAnd: "and_", ast.BitOr: "or_", ast.BitXor: "xor"}
_WRAPPING = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}


def word(value: int) -> ir.Constant:
    """Return an int64."""
    return ir.Constant(I64, value)


@lru_cache(maxsize=4096)
def _literal(value: int) -> Value:
    return Value(types.IntegerLiteral(value), word(value))


@lru_cache(maxsize=4096)
def _typed(function: _Intrinsic, *kinds: Any) -> Any:
    """Return an intrinsic's signature and code for arguments of some types, or None."""
    return function._defn(None, *kinds)


class Expressions:
    """Append the instructions of expressions where `builder` stands."""

    def __init__(self, names: dict[str, Any], builder: ir.IRBuilder) -> None:
        self.globals, self.builder = names, builder

    def variable(self, name: str) -> Value | None:
        """Return a local variable; a name that is none is looked up in the module."""
        raise NotImplementedError

    def beyond(self, node: ast.AST) -> NoReturn:
        """Refuse a node of the tree."""
        raise Beyond(f"{type(node).__name__} in line {getattr(node, 'lineno', 0)}")

    def _name(self, node: ast.Name) -> Value:
        return self.variable(node.id) or self.number(self.globals.get(node.id))

    def value(self, node: ast.expr) -> Value:
        """Append what computes an expression."""
        write = getattr(self, f"_{type(node).__name__.lower()}", None)
        if write is None:
            self.beyond(node)
        found: Value = write(node)
        return found

    def number(self, value: object) -> Value:
        """Return a Python number as a constant."""
        if isinstance(value, bool):
            return Value(types.boolean, ir.Constant(I1, int(value)))
        if isinstance(value, int) and -(2**63) <= value < 2**63:
            return _literal(value)
        if isinstance(value, float):
            return Value(types.float64, ir.Constant(DOUBLE, value))
        raise Beyond(f"the value {value!r}")

    def _constant(self, node: ast.Constant) -> Value:
        return self.number(node.value)

    def integer(self, node: ast.expr) -> ir.Value:
        """Append an expression that must be an integer, as an int64."""
        found = self.widened(self.value(node))
        if plain(found.type) != types.int64:
            self.beyond(node)
        return found.ir

    def widened(self, value: Value) -> Value:
        """Return a narrower integer as the int64 that Python computes with."""
        if value.type != types.int32:
            return value
        return Value(types.int64, self.builder.sext(value.ir, I64))

    def truth(self, node: ast.expr) -> ir.Value:
        """Append a condition: a bool, or an int64 that is not 0."""
        found = self.widened(self.value(node))
        if found.type == types.boolean:
            return found.ir
        if plain(found.type) != types.int64:
            self.beyond(node)
        return self.builder.icmp_signed("!=", found.ir, word(0))

    def _unaryop(self, node: ast.UnaryOp) -> Value:
        if isinstance(node.op, ast.Not):
            return Value(types.boolean, self.builder.not_(self.truth(node.operand)))
        found = self.widened(self.value(node.operand))
        if isinstance(found.ir, ir.Constant) and not isinstance(found.type, Vec | Mask):
            if isinstance(node.op, ast.USub) and found.type != types.boolean:
                return self.number(-found.ir.constant)
            self.beyond(node)
        if plain(found.type) == types.int64:
            if isinstance(node.op, ast.USub):
                return Value(types.int64, self.builder.neg(found.ir))
            if isinstance(node.op, ast.Invert):
                return Value(types.int64, self.builder.not_(found.ir))
        return self.operation(_UNARY.get(type(node.op)), node, found)

    def _binop(self, node: ast.BinOp) -> Value:
        left = self.widened(self.value(node.left))
        right = self.widened(self.value(node.right))
        kinds = plain(left.type), plain(right.type)
        if kinds == (types.int64, types.int64):
            return Value(types.int64, self.integers(node, left.ir, right.ir))
        if kinds == (types.boolean, types.boolean) and type(node.op) in _BITS:
            write = getattr(self.builder, _BITS[type(node.op)])
            return Value(types.boolean, write(left.ir, right.ir))
        return self.operation(_BINARY.get(type(node.op)), node, left, right)

    def integers(self, node: ast.BinOp, a: ir.Value, b: ir.Value) -> ir.Value:
        """Append an operation of two int64."""
        kind = type(node.op)
        if kind in _WRAPPING or kind in _BITS:
            return getattr(self.builder, (_WRAPPING | _BITS)[kind])(a, b)
        if kind not in (ast.FloorDiv, ast.Mod):
            self.beyond(node)
        return self.divided(a, b, kind is ast.Mod)

    def divided(self, a: ir.Value, b: ir.Value, remainder: bool) -> ir.Value:
        """Append a // b or a % b, with Python's signs; by 0 they are 0."""
        w, zero = self.builder, word(0)
        if isinstance(b, ir.Constant) and b.constant > 0:
            n = b.constant
            if n & (n - 1) == 0:
                if remainder:
                    return w.and_(a, word(n - 1))
                return w.ashr(a, word(n.bit_length() - 1))
            none, safe = None, b
        else:
            none = w.icmp_signed("==", b, zero)
            safe = w.select(none, word(1), b)
        rest = w.srem(a, safe)
        # Rounded towards 0 so far; down, where the rest and b have other signs.
        other = w.icmp_signed("<", w.xor(rest, safe), zero)
        lower = w.and_(w.icmp_signed("!=", rest, zero), other)
        if remainder:
            found = w.add(rest, w.select(lower, safe, zero))
        else:
            found = w.sub(w.sdiv(a, safe), w.zext(lower, I64))
        return found if none is None else w.select(none, zero, found)

    def _compare(self, node: ast.Compare) -> Value:
        if len(node.ops) != 1:
            self.beyond(node)
        (op,), (second,) = node.ops, node.comparators
        left = self.widened(self.value(node.left))
        right = self.widened(self.value(second))
        if plain(left.type) == plain(right.type) == types.int64 and type(op) in _SIGN:
            test = self.builder.icmp_signed(_SIGN[type(op)], left.ir, right.ir)
            return Value(types.boolean, test)
        return self.operation(_BINARY.get(type(op)), node, left, right)

    def operation(self, function: Any, node: ast.AST, *operands: Value) -> Value:
        """Append an operation of vectors."""
        found = OPERATORS.get(function)
        result = found.result([v.type for v in operands]) if found else None
        if found is None or result is None:
            self.beyond(node)
        values = [v.ir for v in operands]
        return Value(result, found.emit(operands[0].type, self.builder, *values))

    def _boolop(self, node: ast.BoolOp) -> Value:
        # What follows is computed only if it decides.
        b = self.builder
        ends = isinstance(node.op, ast.Or)
        after = b.append_basic_block("decided")
        known = []
        for k, part in enumerate(node.values):
            found = self.truth(part)
            known.append((found, b.block))
            if k + 1 == len(node.values):
                b.branch(after)
                break
            further = b.append_basic_block("further")
            b.cbranch(found, *((after, further) if ends else (further, after)))
            b.position_at_end(further)
        b.position_at_end(after)
        result = b.phi(I1)
        for found, block in known:
            result.add_incoming(found, block)
        return Value(types.boolean, result)

    def _ifexp(self, node: ast.IfExp) -> Value:
        ways = self.branches(
            node.test,
            lambda: self.widened(self.value(node.body)),
            lambda: self.widened(self.value(node.orelse)),
        )
        (one, _), (second, _) = ways
        if plain(one.type) != plain(second.type) or isinstance(one.ir, list):
            self.beyond(node)
        result = self.builder.phi(one.ir.type)
        for value, block in ways:
            result.add_incoming(value.ir, block)
        return Value(plain(one.type), result)

    def branches(
        self, test: ast.expr, then: Callable[[], T], other: Callable[[], T]
    ) -> list[tuple[T, ir.Block]]:
        """Append one of two pieces of code, by a condition, and go on behind both.

        Returns what each piece returned, and the block in which it ended.
        """
        b = self.builder
        first, second, after = (
            b.append_basic_block(n) for n in ("then", "else", "end")
        )
        b.cbranch(self.truth(test), first, second)
        ways = []
        for block, write in ((first, then), (second, other)):
            b.position_at_end(block)
            ways.append((write(), b.block))
            b.branch(after)
        b.position_at_end(after)
        return ways

    def _subscript(self, node: ast.Subscript) -> Value:
        whole = self.value(node.value)
        if not isinstance(whole.type, types.CPointer):
            self.beyond(node)
        if whole.type.dtype == types.boolean:
            self.beyond(node)
        place = self.builder.gep(whole.ir, [self.integer(node.slice)])
        return Value(whole.type.dtype, self.builder.load(place))

    # --- calls ------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Value:
        if not isinstance(node.func, ast.Name) or node.keywords:
            self.beyond(node)
        name = node.func.id
        function = self.globals.get(name)
        if isinstance(function, _Intrinsic):
            return self.intrinsic(function, node, [self.value(a) for a in node.args])
        if function is not None:
            self.beyond(node)
        if name in ("min", "max") and len(node.args) == 2:
            a, b = (self.integer(x) for x in node.args)
            takes_a = self.builder.icmp_signed("<=" if name == "min" else ">=", a, b)
            return Value(types.int64, self.builder.select(takes_a, a, b))
        text = node.args[0]
        if name != "float" or not isinstance(text, ast.Constant):
            self.beyond(node)
        return self.number(float(str(text.value)))

    def intrinsic(
        self, function: _Intrinsic, node: ast.Call, given: Sequence[Value]
    ) -> Value:
        """Append a call of an intrinsic, by its own typing and code."""
        literal = [v.type for v in given]
        general = [plain(t) for t in literal]
        tries = [literal, general] if function._prefer_literal else [general, literal]
        for kinds in tries:
            try:
                found = _typed(function, *kinds)
            except TypeError:  # another number of arguments
                self.beyond(node)
            if found is not None:
                break
        else:
            self.beyond(node)
        sig, code = found
        values = [
            self.converted(v, plain(kind), node)
            for v, kind in zip(given, sig.args, strict=True)
        ]
        made = code(_Context, self.builder, sig, values)
        return Value(sig.return_type, made)

    def converted(self, value: Value, kind: Any, node: ast.AST) -> ir.Value:
        """Return a value as an argument of another scalar type takes it."""
        source = plain(value.type)
        if source == kind:
            return value.ir
        if source not in _SCALARS or kind not in _SCALARS:
            self.beyond(node)
        b, type_ = self.builder, _SCALARS[kind]
        if isinstance(value.ir, ir.Constant):
            number = value.ir.constant
            return ir.Constant(type_, _as(kind, number))
        if kind == types.boolean:
            self.beyond(node)
        if isinstance(source, types.Float):
            if not isinstance(kind, types.Float):
                return b.fptosi(value.ir, type_)
            wider = kind.bitwidth > source.bitwidth
            return (b.fpext if wider else b.fptrunc)(value.ir, type_)
        if isinstance(kind, types.Float):
            signed = source != types.boolean
            return (b.sitofp if signed else b.uitofp)(value.ir, type_)
        if source == types.boolean:
            return b.zext(value.ir, type_)
        wider = kind.bitwidth > source.bitwidth
        return (b.sext if wider else b.trunc)(value.ir, type_)


def _as(kind: Any, number: float) -> float | int:
    if kind == types.boolean:
        return int(bool(number))
    return float(number) if isinstance(kind, types.Float) else int(number)
