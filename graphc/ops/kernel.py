"""A user's own kernel as an op: a function over arrays that Numba compiles."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, GradientError
from graphc.ir.nodes import Node, Tensor, make
from graphc.ir.op import (
    FUNCTIONS,
    OPS,
    Arrays,
    BatchRule,
    GradientRule,
    NonDifferentiable,
    Op,
    Routine,
    Types,
    register,
)
from graphc.ir.origins import here
from graphc.ir.program.routines import ROUTINES, LibraryRoutine, register_routine
from graphc.ir.types import TensorType, as_dtype
from graphc.ops.creation import constant, zeros
from graphc.ops.kernel_rows import rows_rule

Array = np.ndarray[Any, Any]


def kernel_op(
    name: str,
    function: Callable[..., None],
    *,
    infer: Callable[..., TensorType | Sequence[TensorType]],
    grad: Callable[..., Any] | None = None,
    evaluate: Callable[..., Any] | None = None,
    batch: BatchRule | None = None,
    doc: str = "",
) -> Op:
    """Make an op of a function over NumPy arrays that Numba can compile.

    function: (*inputs, *outputs) -> None. It fills the outputs, writes to no input, and
    raises nothing. `reference` runs it as plain Python, the cpu backend compiles it
    when a step is compiled. All arrays are C-contiguous.
    infer: (*types of the inputs) -> the type of the output, or a tuple of types; a type
    has `dtype`, `shape`, `with_shape(...)` and `with_dtype(...)`, and sizes may be
    symbolic.
    grad: (g, y, *inputs) -> the cotangent of each input, or None where it has none (a
    tuple if there are several inputs); with several outputs g and y are tuples.
    evaluate: (*inputs) -> the outputs, for `reference` instead of the plain function.
    batch: the rule for `graphc.vmap`; without it, the kernel runs for each element.

    The op is run by one thread. Running it again under one name replaces the op.

    Raises:  ArgumentError for a name that is no identifier or one of graphc's own;
             CompileError, on compiling, where Numba refuses the function.
    Example:
        >>> import numpy as np
        >>> import graphc
        >>> def count_up(x, y):
        ...     total = 0.0
        ...     for i in range(x.shape[0]):
        ...         total = max(total + x[i], 0.0)
        ...         y[i] = total
        >>> waiting = graphc.kernel_op("waiting", count_up, infer=lambda x: x)
        >>> x = graphc.input("x", ("N",))
        >>> step = graphc.compile([x], waiting(x) * 2.0)
        >>> step(np.array([1.0, -3.0, 2.0], np.float32)).tolist()
        [2.0, 0.0, 4.0]
    """
    plain = getattr(function, "py_func", function)  # of a Numba dispatcher
    _check(name, plain)

    def infer_rule(types: Types, _: Any) -> Types:
        return _inferred(infer, types)

    infer_rule.__module__ = plain.__module__

    def run(arrays: Arrays) -> Arrays:
        if evaluate is not None:
            made = evaluate(*arrays)
            return made if isinstance(made, tuple) else (made,)
        types = tuple(TensorType(as_dtype(a.dtype), a.shape) for a in arrays)
        outputs = tuple(
            np.zeros(tuple(map(int, t.shape)), t.dtype.numpy)  # type: ignore[arg-type]
            for t in _inferred(infer, types)
        )
        plain(*map(_protected, arrays), *outputs)
        return outputs

    routine = register_routine(
        LibraryRoutine(
            _fresh(f"kernel.{name}"),
            lambda arrays, options: run(arrays),
            lambda options: 0,  # nobody knows
            parallel=False,
            function=function,
        )
    )
    op = register(
        Op(
            name=name,
            infer=infer_rule,
            evaluate=lambda arrays, meaning: run(arrays),
            gradient=_gradient_rule(name, grad),
            lower=Routine(routine.name, lambda types, attrs: ()),
            doc=doc or f"the kernel {plain.__name__} in {plain.__module__}",
            batch=batch or rows_rule(name, function, infer, grad, evaluate, kernel_op),
        )
    )

    def call(*args: Any) -> Tensor | tuple[Tensor, ...]:
        found = make(op, [constant(a) for a in args])
        return found[0] if len(found) == 1 else found

    call.__name__ = name
    op.function = call
    FUNCTIONS[name] = op
    return op


def _check(name: str, function: Any) -> None:
    """Check that a name may be given to a kernel of this function."""
    if not inspect.isfunction(function):
        raise ArgumentError(
            f"kernel_op: {name} must be a Python function, not {function!r}",
            where=here().quoted,
        )
    if not (name.isidentifier() and name.isascii()):
        raise ArgumentError(
            f"an op's name must be an identifier, not {name!r}", where=here().quoted
        )
    known = OPS.get(name)
    again = known is not None and (
        isinstance(known.lower, Routine)
        and ROUTINES[known.lower.name].function is not None
    )
    if name in FUNCTIONS and not again:
        raise ArgumentError(
            f"{name} is an op already", where=here().quoted, help="use another name"
        )


def _fresh(name: str) -> str:
    """Return a name that no routine has: steps keep the kernel they were made of."""
    found, i = name, 1
    while found in ROUTINES:
        found, i = f"{name}.{i}", i + 1
    return found


def _inferred(infer: Callable[..., Any], types: Types) -> Types:
    """Return the types of the outputs.

    Raises:  ArgumentError if `infer` takes another number of inputs, or returns
             something else than types.
    """
    try:
        inspect.signature(infer).bind(*types)
    except TypeError as error:
        raise ArgumentError(
            f"infer does not take {len(types)} types: {error}",
            help="give infer one parameter for each input",
        ) from None
    found = infer(*types)
    several = (found,) if isinstance(found, TensorType) else found
    if not isinstance(several, (tuple, list)) or not all(
        isinstance(t, TensorType) for t in several
    ):
        raise ArgumentError(
            f"infer returned {found!r}, which is no type",
            help="return an input's type, x.with_shape(...) or x.with_dtype(...), or a "
            "tuple of such",
        )
    return tuple(several)


def _protected(array: Array) -> Array:
    """Return a C-contiguous array that cannot be written to."""
    found = np.ascontiguousarray(array).reshape(array.shape).view()
    found.setflags(write=False)
    return found


def _gradient_rule(
    name: str, grad: Callable[..., Any] | None
) -> GradientRule | NonDifferentiable:
    if grad is None:
        return NonDifferentiable(f"kernel_op({name!r}, ...) was given no grad")

    def rule(node: Node, cotangents: Sequence[Any]) -> Sequence[Any]:
        if all(c is None for c in cotangents):
            return [None] * len(node.inputs)
        g = tuple(
            zeros(r.shape, r.dtype) if c is None else c
            for r, c in zip(node.results, cotangents, strict=True)
        )
        single = len(g) == 1
        found = grad(
            g[0] if single else g,
            node.results[0] if single else node.results,
            *node.inputs,
        )
        each = tuple(found) if isinstance(found, (tuple, list)) else (found,)
        made = [None if d is None else d.type for d in each]
        fits = len(made) == len(node.inputs) and all(
            t is None or t == x.type for t, x in zip(made, node.inputs, strict=True)
        )
        if not fits:
            raise GradientError(
                f"{name}: grad returned {', '.join(map(str, made))} for inputs "
                f"{', '.join(str(x.type) for x in node.inputs)}",
                where=node.birth.quoted,
                help="return for each input a tensor of its type, or None",
            )
        return each

    rule.__name__ = f"{name}_gradient"
    return rule
