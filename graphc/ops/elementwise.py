"""How an elementwise op is made: one expression says all of it.

The expression is called once with scalar tracers, which gives the body that is
compiled and interpreted (its order of operations kept), and once with SymPy
symbols, which gives the derivative and the LaTeX. SymPy never supplies a body, and
it is imported only when a derivative is not given.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, GradientError, ShapeError
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import (
    FUNCTIONS,
    GradientRule,
    Meaning,
    NonDifferentiable,
    Op,
    Pointwise,
    ScalarForm,
    Site,
    Types,
    register,
)
from graphc.ir.origins import here
from graphc.ir.scalar import Expr, apply, evaluate_expr, lift, ref
from graphc.ir.types import TensorType, promote
from graphc.ops.broadcast import broadcast_arguments, same_shape


@dataclass(frozen=True, slots=True)
class When:
    """A partial derivative that is `value` where `condition` holds and 0 elsewhere.

    A cotangent times it stays a select, so that an infinity in `value` or in what
    comes after never meets a 0 of the branch that was not taken.
    """

    condition: Tensor
    value: Any = 1


def elementwise(
    name: str,
    formula: Callable[..., Any],
    *,
    stable: Callable[..., Any] | None = None,
    grad: Callable[..., Any] | NonDifferentiable | None = None,
    forms: Sequence[str] = (),
    commutative: bool = False,
    sample: tuple[float, float] = (-3.0, 3.0),
    doc: str = "",
    primitive: str | None = None,
) -> Op:
    """Define an elementwise op from one expression and return it, ready to call.

    formula: a function of scalars, written with graphc's functions and operators;
    defaults of its parameters are defaults of the op, and any may be called by name.
    stable: the same function in the form to compute, where the plain one overflows
    or cancels. grad: (*inputs, y) -> the partial derivatives, as tensors, numbers
    or `When`; without it SymPy differentiates the formula. forms: other ways of
    writing it, which `grad` and `stabilize` turn into it. sample: where tests
    sample its inputs.

    Running it again under one name replaces the op.

    Raises:  GradientError on use, where SymPy's derivative has no counterpart here.
    Example:
        >>> import graphc
        >>> from graphc import elementwise, tanh, softplus
        >>> mish = elementwise("mish", lambda x: x * tanh(softplus(x)))
        >>> x = graphc.input("x", ("N",))
        >>> mish(x).node.op.name
        'mish'
    """
    if not (name.isidentifier() and name.isascii()):
        raise ArgumentError(
            f"an op's name must be an identifier, not {name!r}", where=here().quoted
        )
    body = stable or formula
    signature = inspect.signature(formula)
    arity = len(signature.parameters)
    form = ScalarForm(body, formula, primitive, sample)

    @lru_cache(maxsize=64)
    def trace(types: Types) -> Expr:
        found = body(*(ref(f"x{i}", t.dtype) for i, t in enumerate(types)))
        return lift(found, promote(*(t.dtype for t in types)))

    @lru_cache(maxsize=1 << 10)
    def infer(types: Types, _: Any) -> TensorType:
        if len(types) != arity:
            raise ShapeError(f"takes {arity} inputs, not {len(types)}")
        shape = same_shape(types)
        scalars = tuple(t.with_shape(()) for t in types)
        return TensorType(trace(scalars).dtype, shape)

    def evaluate(arrays: Any, meaning: Meaning) -> Any:
        expr = trace(tuple(t.with_shape(()) for t in meaning.types))
        found = evaluate_expr(expr, lambda leaf: arrays[int(leaf.key[0][1:])])
        # A formula without its inputs is a constant.
        same = found.shape == arrays[0].shape
        return found if same else np.full(arrays[0].shape, found)

    def lower(site: Site) -> Expr:
        found = body(*(site.load(i, site.index) for i in range(arity)))
        return lift(found, promote(*(t.dtype for t in site.types)))

    gradient: GradientRule | NonDifferentiable
    if isinstance(grad, NonDifferentiable):
        gradient = grad
    else:
        gradient = _gradient_rule(
            name, grad or _symbolic_partials(name, formula, arity)
        )

    op = register(
        Op(
            name=name,
            infer=infer,
            evaluate=evaluate,
            gradient=gradient,
            lower=Pointwise(lower),
            doc=doc or f"y = {name}({', '.join('xyz'[:arity])})",
            commutative=commutative,
            stable=tuple(forms),
            scalar=form,
        )
    )

    def in_order(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        try:
            bound = signature.bind(*args, **named)
        except TypeError as error:
            given = len(args) + len(named)
            raise TypeError(
                f"{name}() takes {arity} arguments, {given} given: {error}"
            ) from None
        bound.apply_defaults()
        return bound.args

    def call(*args: Any, **named: Any) -> Any:
        if named or len(args) != arity:
            args = in_order(args, named)
        if any(isinstance(a, Expr) for a in args):
            return body(*args)
        if any(type(a).__module__.startswith("sympy") for a in args):
            return formula(*args)
        return make1(op, broadcast_arguments(name, args))

    call.__name__ = name
    op.function = call
    FUNCTIONS[name] = op
    return op


def primitive(
    name: str,
    *,
    symbolic: Callable[..., Any] | str,
    grad: Callable[..., Any] | NonDifferentiable,
    arity: int = 1,
    prim: str | None = None,
    **options: Any,
) -> Op:
    """Define an elementwise op that is one primitive of the scalar language.

    symbolic: the SymPy function of that meaning, by name or as a function.
    """
    prim = prim or name

    def scalars(*args: Any) -> Any:
        if any(isinstance(a, Expr) for a in args):
            return apply(prim, *args)
        import sympy

        function = getattr(sympy, symbolic) if isinstance(symbolic, str) else symbolic
        return function(*args)

    parameters = [
        inspect.Parameter(n, inspect.Parameter.POSITIONAL_ONLY) for n in "xyz"[:arity]
    ]
    scalars.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return elementwise(name, scalars, grad=grad, primitive=prim, **options)


# --- gradients ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selected:
    """A cotangent that is `value` where `condition` holds and 0 elsewhere."""

    condition: Tensor
    value: Tensor


Cotangent = Tensor | Selected


def _gradient_rule(name: str, partials: Callable[..., Any]) -> GradientRule:
    def rule(node: Node, cotangents: Sequence[Any]) -> Sequence[Any]:
        (g,) = cotangents
        if g is None:
            return [None] * len(node.inputs)
        found = partials(*node.inputs, node.results[0])
        each = found if isinstance(found, tuple) else (found,)
        return [
            scale(g, d) if t.dtype.is_float else None
            for t, d in zip(node.inputs, each, strict=True)
        ]

    rule.__name__ = f"{name}_gradient"
    return rule


def scale(g: Cotangent, partial: Any) -> Cotangent | None:
    """Return cotangent times partial derivative; selects stay outermost."""
    if partial is None or (isinstance(partial, (int, float)) and partial == 0):
        return None
    if isinstance(g, Selected):
        inner = scale(g.value, partial)
        if inner is None:
            return None
        if isinstance(inner, Selected):
            both = FUNCTIONS["logical_and"](g.condition, inner.condition)
            return Selected(both, inner.value)
        return Selected(g.condition, inner)
    if isinstance(partial, When):
        inner = scale(g, partial.value)
        assert isinstance(inner, Tensor)
        return Selected(partial.condition, inner)
    if isinstance(partial, (int, float)) and partial in (1, -1):
        return g if partial == 1 else -g
    product: Tensor = g * partial
    return product


def _symbolic_partials(
    name: str, formula: Callable[..., Any], arity: int
) -> Callable[..., Any]:
    """Differentiate the formula with SymPy when a gradient is first asked for."""

    @lru_cache(maxsize=1)
    def derivatives() -> Any:
        from graphc.ops.symbolic import Derivatives

        return Derivatives(formula, arity)

    def partials(*tensors: Tensor) -> tuple[Any, ...]:
        try:
            found = derivatives()(tensors[:-1])
        except NotImplementedError as error:
            raise GradientError(
                f"{name}: SymPy's derivative has no counterpart here: {error}",
                help=f"pass grad=lambda x, y: ... to elementwise({name!r}, ...)",
            ) from error
        return tuple(_selected(d) for d in found)

    return partials


def _selected(partial: Any) -> Any:
    """Return a derivative that a `where` masks with 0 as a `When`."""
    if isinstance(partial, Tensor) and partial.node.op.name == "where":
        condition, value, other = partial.node.inputs
        if _is_zero(other):
            return When(condition, value)
        if _is_zero(value):
            return When(FUNCTIONS["logical_not"](condition), other)
    return partial


def _is_zero(tensor: Tensor) -> bool:
    return tensor.node.op.name == "full" and tensor.node.attrs.value == 0


def latex(op: Op) -> str:
    """Return the formula of an elementwise op as LaTeX, by SymPy.

    Example:
        >>> import graphc
        >>> from graphc.ops.elementwise import latex
        >>> latex(graphc.softplus)
        '\\\\log{\\\\left(e^{x} + 1 \\\\right)}'
    """
    import sympy

    assert op.scalar is not None
    arity = len(inspect.signature(op.scalar.formula).parameters)
    return str(
        sympy.latex(op.scalar.formula(*sympy.symbols("x y z", real=True)[:arity]))
    )
