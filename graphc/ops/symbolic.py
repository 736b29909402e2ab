"""From SymPy's expressions back to tensors: a fixed table, for derivatives only."""

from __future__ import annotations

from typing import Any

from graphc.ir.nodes import Tensor
from graphc.ir.op import FUNCTIONS


def tensor_from_sympy(expression: Any, symbols: dict[Any, Tensor]) -> Any:
    """Return a SymPy expression over tensors, or a number if it is constant.

    Kinks get 0 at the tie: Heaviside(0) is 0, as are sign(0) and the derivative of
    Abs, Max and Min there.

    Raises:  NotImplementedError naming a function that is not in the table.
    """
    import sympy

    names = {
        sympy.exp: "exp",
        sympy.log: "log",
        sympy.tanh: "tanh",
        sympy.sign: "sign",
        sympy.Abs: "abs",
    }
    relations = {
        sympy.StrictGreaterThan: "greater",
        sympy.GreaterThan: "greater_equal",
        sympy.StrictLessThan: "less",
        sympy.LessThan: "less_equal",
        sympy.Equality: "equal",
        sympy.Unequality: "not_equal",
        sympy.And: "logical_and",
        sympy.Or: "logical_or",
        sympy.Not: "logical_not",
    }
    call = FUNCTIONS

    def convert(e: Any) -> Any:
        if e in symbols:
            return symbols[e]
        if e.is_Number or e.is_NumberSymbol:
            return float(e)
        if e in (sympy.true, sympy.false):
            return bool(e)
        kind = type(e)
        if kind is sympy.Piecewise:
            return piecewise(e)
        if kind is sympy.Heaviside:
            return call["where"](call["greater"](convert(e.args[0]), 0.0), 1.0, 0.0)
        args = [convert(a) for a in e.args]
        if kind is sympy.Pow:
            return power(*args)
        if kind is sympy.cosh:
            return (call["exp"](args[0]) + call["exp"](-args[0])) * 0.5
        if kind is sympy.sinh:
            return (call["exp"](args[0]) - call["exp"](-args[0])) * 0.5
        for table in (names, relations):
            if kind in table:
                found = args[0] if len(args) == 1 else None
                if len(args) == 1:
                    return call[table[kind]](found)
                return fold(lambda a, b, n=table[kind]: call[n](a, b), args)
        for cls, name in (
            (sympy.Add, "add"),
            (sympy.Mul, "mul"),
            (sympy.Max, "maximum"),
            (sympy.Min, "minimum"),
        ):
            if kind is cls:
                return fold(lambda a, b, n=name: binary(n, a, b), args)
        raise NotImplementedError(f"{kind.__name__} in {e}")

    def binary(name: str, a: Any, b: Any) -> Any:
        if isinstance(a, Tensor) or isinstance(b, Tensor):
            return call[name](a, b)
        return {"add": a + b, "mul": a * b, "maximum": max(a, b), "minimum": min(a, b)}[
            name
        ]

    def power(base: Any, exponent: Any) -> Any:
        if not isinstance(base, Tensor) and not isinstance(exponent, Tensor):
            return base**exponent
        if exponent == -1.0 if not isinstance(exponent, Tensor) else False:
            return 1.0 / base
        if not isinstance(exponent, Tensor) and exponent == 0.5:
            return call["sqrt"](base)
        if not isinstance(exponent, Tensor) and exponent == 2.0:
            return base * base
        if not isinstance(exponent, Tensor) and exponent == -2.0:
            return 1.0 / (base * base)
        return call["pow"](base, exponent)

    def piecewise(e: Any) -> Any:
        found: Any = None
        for value, condition in reversed(e.args):
            if found is None:
                found = convert(value)
            else:
                found = call["where"](convert(condition), convert(value), found)
        return found

    def fold(function: Any, args: list[Any]) -> Any:
        found = args[0]
        for a in args[1:]:
            found = function(found, a)
        return found

    return convert(sympy.sympify(expression))
