"""Derivatives by SymPy: a formula's, and the way back from its expressions to tensors.

SymPy differentiates the formula of an elementwise op; a fixed table turns what it
returns into tensors, and the stable forms of the ops are applied to that. Of SymPy's
plain and its simplified expression the one is taken that overflows in fewer places:
simplifying turns one formula into `tanh(x)`, another into a quotient of infinities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.ir.graph import Graph, with_inputs
from graphc.ir.interpret import run_region
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Region, Tensor
from graphc.ir.op import FUNCTIONS, Types
from graphc.ir.rewrite import rewrite, stable_rules
from graphc.ir.types import TensorType, float64

# Where candidates are compared: near 0, ordinary, and large.
TRIED = np.array([-1000.0, -50.0, -2.3, -0.7, -1e-3, 0.0, 1e-3, 0.7, 2.3, 50.0, 1000.0])

Partial = float | Region


class Derivatives:
    """The partial derivatives of a formula of `arity` scalars.

    Raises:  NotImplementedError naming a function of SymPy that has no counterpart.
    """

    def __init__(self, formula: Callable[..., Any], arity: int) -> None:
        import sympy

        self.symbols = sympy.symbols(f"x0:{arity}", real=True)
        whole = sympy.sympify(formula(*self.symbols))
        # SymPy knows no derivative of a remainder.
        whole = whole.replace(sympy.Mod, lambda a, b: a - b * sympy.floor(a / b))
        self.expressions = [self._best(sympy.diff(whole, s)) for s in self.symbols]
        self._regions = lru_cache(maxsize=64)(self._build)

    def __call__(self, inputs: Sequence[Tensor]) -> list[float | Tensor]:
        """Return the derivative with respect to each input: tensors, or numbers."""
        types = tuple(t.type for t in inputs)
        return [
            p if isinstance(p, float) else _apply(p, inputs)
            for p in self._regions(types)
        ]

    def _build(self, types: Types) -> list[Partial]:
        return [self._region(e, types) for e in self.expressions]

    def _region(self, expression: Any, types: Types) -> Partial:
        """Return an expression as a region in stable form."""
        args = make_args(types)
        named = dict(zip(self.symbols, args, strict=True))
        found = tensor_from_sympy(expression, named)
        if not isinstance(found, Tensor):
            return float(found)
        graph = rewrite(Graph("partial", (), [found]), stable_rules())
        return Region(args, graph.outputs)

    def _best(self, plain: Any) -> Any:
        """Return the plain or the simplified expression, by where they are finite."""
        import sympy

        plain = _without_jumps(plain)
        simple = sympy.simplify(plain)
        try:
            return min(simple, plain, key=self._lost)
        except NotImplementedError:
            return plain

    def _lost(self, expression: Any) -> int:
        """Return at how many points an expression is not finite."""
        grid = np.meshgrid(*[TRIED] * len(self.symbols))
        arrays = [g.ravel() for g in grid]
        found = self._region(
            expression, (TensorType(float64, arrays[0].shape),) * len(grid)
        )
        if isinstance(found, float):
            return 0
        return int(np.sum(~np.isfinite(run_region(found, arrays, {})[0])))


def _apply(region: Region, inputs: Sequence[Tensor]) -> Tensor:
    """Return a region's output for these inputs, as nodes that are declared here."""
    new: dict[Tensor, Tensor] = dict(zip(region.args, inputs, strict=True))
    for node in region.nodes:
        if node.inputs:
            made = with_inputs(node, [new[t] for t in node.inputs])
            new.update(zip(node.results, made.results, strict=True))
        else:
            new[node.results[0]] = node.results[0]
    return new[region.outputs[0]]


def tensor_from_sympy(expression: Any, symbols: dict[Any, Tensor]) -> Any:
    """Return a SymPy expression over tensors, or a number if it is constant.

    Kinks get 0 at the tie: Heaviside(0) is 0, as are sign(0) and the derivative of
    Abs, Max and Min there.

    Raises:  NotImplementedError naming a function that is not in the table.
    """
    import sympy

    return _Converter(symbols).convert(_without_jumps(sympy.sympify(expression)))


def _without_jumps(expression: Any) -> Any:
    """Return an expression with 0 for derivatives of jumps, as wherever they exist."""
    import sympy

    def is_jump(e: Any) -> bool:
        inner = e.expr if isinstance(e, sympy.Subs) else e
        return isinstance(inner, sympy.DiracDelta) or (
            isinstance(inner, sympy.Derivative)
            and isinstance(inner.expr, (sympy.floor, sympy.ceiling))
        )

    kinds = (sympy.DiracDelta, sympy.Derivative, sympy.Subs)
    return expression.xreplace({e: 0 for e in expression.atoms(*kinds) if is_jump(e)})


@lru_cache(maxsize=1)
def _table() -> dict[Any, str]:
    """Return graphc's names of SymPy's functions and relations."""
    import sympy

    return {
        sympy.exp: "exp",
        sympy.log: "log",
        sympy.tanh: "tanh",
        sympy.sin: "sin",
        sympy.cos: "cos",
        sympy.tan: "tan",
        sympy.atan: "arctan",
        sympy.erf: "erf",
        sympy.erfc: "erfc",
        sympy.floor: "floor",
        sympy.ceiling: "ceil",
        sympy.sign: "sign",
        sympy.Abs: "abs",
        sympy.Max: "maximum",
        sympy.Min: "minimum",
        sympy.Add: "add",
        sympy.StrictGreaterThan: "greater",
        sympy.GreaterThan: "greater_equal",
        sympy.StrictLessThan: "less",
        sympy.LessThan: "less_equal",
        sympy.Equality: "equal",
        sympy.Unequality: "not_equal",
        sympy.And: "logical_and",
        sympy.Or: "logical_or",
        sympy.Not: "logical_not",
        sympy.Xor: "logical_xor",
    }


_NUMBERS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "maximum": max,
    "minimum": min,
}


class _Converter:
    def __init__(self, symbols: dict[Any, Tensor]) -> None:
        self.symbols = symbols

    def convert(self, e: Any) -> Any:
        import sympy

        if e in self.symbols:
            return self.symbols[e]
        if e.is_Number or e.is_NumberSymbol:
            return float(e)
        if e in (sympy.true, sympy.false):
            return bool(e)
        kind = type(e)
        if kind is sympy.Piecewise:
            return self.piecewise(e)
        if kind is sympy.Mul:
            return self.product(e)
        if kind is sympy.Pow:
            return self.power(self.convert(e.base), self.convert(e.exp))
        if kind is sympy.Heaviside:
            return call("where", self.positive(e), 1.0, 0.0)
        if kind in (sympy.cosh, sympy.sinh):
            up, down = (self.convert(sympy.exp(s * e.args[0])) for s in (1, -1))
            both = up + down if kind is sympy.cosh else up - down
            return both * 0.5
        if kind not in _table():
            raise NotImplementedError(f"{kind.__name__} in {e}")
        return self.fold(_table()[kind], [self.convert(a) for a in e.args])

    def positive(self, step: Any) -> Any:
        """Return where a Heaviside is 1."""
        return call("greater", self.convert(step.args[0]), 0.0)

    def product(self, e: Any) -> Any:
        """Return a product as one quotient, a Heaviside in it as a select."""
        import sympy

        steps = [a for a in e.args if isinstance(a, sympy.Heaviside)]
        if steps:
            rest = sympy.Mul(*(a for a in e.args if a not in steps))
            truths = [self.positive(s) for s in steps]
            return call(
                "where", self.fold("logical_and", truths), self.convert(rest), 0.0
            )
        above: list[Any] = []
        below: list[Any] = []
        for a in e.args:
            if a.is_Pow and a.exp.could_extract_minus_sign():
                turns = -a.exp
                whole = int(turns) if turns.is_Integer and turns < 4 else 1
                below += [
                    a.base if turns.is_Integer and turns < 4 else a.base**turns
                ] * whole
            else:
                above.append(a)
        found: Any = None
        # a / (1 + a) stays together: it is a logistic function where a is exp(x).
        for b in list(below):
            partner = next((a for a in above if b == a + 1), None)
            if partner is not None:
                above.remove(partner)
                below.remove(b)
                found = self.times(found, self.over(partner, b))
        for a in above:
            found = self.times(found, self.convert(a))
        for b in below:
            found = binary("div", 1.0 if found is None else found, self.convert(b))
        return found

    def over(self, a: Any, b: Any) -> Any:
        return binary("div", self.convert(a), self.convert(b))

    @staticmethod
    def times(a: Any, b: Any) -> Any:
        return b if a is None else binary("mul", a, b)

    @staticmethod
    def power(base: Any, exponent: Any) -> Any:
        if isinstance(exponent, Tensor) or not isinstance(base, Tensor):
            return base**exponent
        if exponent < 0:
            return 1.0 / _Converter.power(base, -exponent)
        if exponent == 1.0:
            return base
        if exponent == 2.0:
            return base * base
        return call("sqrt", base) if exponent == 0.5 else call("pow", base, exponent)

    def piecewise(self, e: Any) -> Any:
        *cases, last = e.args
        found = self.convert(last[0])
        for value, condition in reversed(cases):
            found = call("where", self.convert(condition), self.convert(value), found)
        return found

    @staticmethod
    def fold(name: str, args: list[Any]) -> Any:
        if len(args) == 1 and name not in _NUMBERS and name[:8] != "logical_":
            return call(name, args[0])
        if name == "logical_not":
            return call(name, args[0])
        found = args[0]
        for a in args[1:]:
            found = binary(name, found, a)
        return found


def call(name: str, *args: Any) -> Any:
    """Apply the public function of a name."""
    return FUNCTIONS[name](*args)


def binary(name: str, a: Any, b: Any) -> Any:
    """Apply an op to two operands, of which both may be numbers."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return call(name, a, b)
    return _NUMBERS[name](a, b)
