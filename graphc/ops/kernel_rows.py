"""A user's own kernel over a new leading axis: the same kernel, once for each element.

    y = waiting(x)      under vmap, x [B, N]      =>      y = waiting_rows_a_a(x)

The batched kernel is an op of its own. It loops over the leading axis and calls the
user's function with each element; an input that is not batched comes as it is. Its
gradient is the user's, batched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from graphc.ir.dims import Size
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Tensor, make
from graphc.ir.op import FUNCTIONS, OPS, BatchRule, Op, Types
from graphc.ir.types import TensorType
from graphc.ops.batching import batch_outputs

Define = Callable[..., Op]


def rows_rule(
    name: str,
    function: Callable[..., None],
    infer: Callable[..., Any],
    grad: Callable[..., Any] | None,
    evaluate: Callable[..., Any] | None,
    define: Define,
) -> BatchRule:
    """Return the batching rule of a kernel; `define` makes an op, as `kernel_op`."""

    def rule(
        node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
    ) -> Sequence[Tensor]:
        has = tuple(batched)
        code = _code([t.ndim for t in node.inputs], has)
        code += "_" + _code([t.ndim for t in node.results], (True,) * len(node.results))
        rows = f"{name}_rows_{code}"
        if rows not in OPS:
            define(
                rows,
                _loop(function, code),
                infer=lambda *types: _row_types(infer, types, has),
                grad=None if grad is None else _row_gradient(grad, has),
                evaluate=None if evaluate is None else _row_values(evaluate, has),
                doc=f"the kernel of {name}, once for each element of the leading axis",
            )
        return make(OPS[rows], inputs)

    return rule


def _code(ranks: Sequence[int], batched: Sequence[bool]) -> str:
    """Return a letter for each: w for a whole one, s for scalars, a for arrays."""
    letters = zip(ranks, batched, strict=True)
    return "".join(("a" if n else "s") if has else "w" for n, has in letters)


def _loop(function: Callable[..., None], code: str) -> Callable[..., None]:
    """Return the function that calls another for each element of the leading axis."""
    letters = code.replace("_", "")
    names = [f"x{i}" for i in range(len(letters))]
    parts = {"w": "{0}", "a": "{0}[i]", "s": "{0}[i : i + 1].reshape(())"}
    each = [parts[c].format(n) for c, n in zip(letters, names, strict=True)]
    lines = [
        f"def rows({', '.join(names)}):",
        f"    for i in range({names[-1]}.shape[0]):",
        f"        function({', '.join(each)})",
    ]
    known = {"function": _compiled(function)}
    # The text is of numbered names alone.
    exec(compile("\n".join(lines), "<graphc kernel rows>", "exec"), known)
    made: Any = known["rows"]
    made.__module__ = getattr(function, "py_func", function).__module__
    return made  # type: ignore[no-any-return]


def _compiled(function: Any) -> Any:
    """Return what Numba and plain Python can call alike."""
    if hasattr(function, "py_func"):
        return function
    import numba

    return numba.njit(error_model="numpy")(function)


def _elements(types: Sequence[TensorType], batched: Sequence[bool]) -> Types:
    return tuple(
        t.with_shape(t.shape[1:]) if has else t
        for t, has in zip(types, batched, strict=True)
    )


def _row_types(
    infer: Callable[..., Any], types: Sequence[TensorType], batched: Sequence[bool]
) -> Types:
    size = next(t.shape[0] for t, has in zip(types, batched, strict=True) if has)
    found = infer(*_elements(types, batched))
    several = (found,) if isinstance(found, TensorType) else tuple(found)
    return tuple(t.with_shape((size, *t.shape)) for t in several)


def _row_values(
    evaluate: Callable[..., Any], batched: Sequence[bool]
) -> Callable[..., Any]:
    def value(*arrays: Any) -> Any:
        pairs = list(zip(arrays, batched, strict=True))
        size = next(len(a) for a, has in pairs if has)
        made = [
            evaluate(*(a[i] if has else a for a, has in pairs)) for i in range(size)
        ]
        several = [m if isinstance(m, tuple) else (m,) for m in made]
        return tuple(np.stack(each) for each in zip(*several, strict=True))

    return value


def _row_gradient(
    grad: Callable[..., Any], batched: Sequence[bool]
) -> Callable[..., Any]:
    """Batch the user's gradient; what all elements share gets the sum of its own."""

    def rows(g: Any, y: Any, *inputs: Tensor) -> list[Tensor | None]:
        single = isinstance(g, Tensor)
        upper = [g, y] if single else [*g, *y]
        has = (*(True for _ in upper), *batched)
        outside = [*upper, *inputs]
        args = make_args(_elements([t.type for t in outside], has))
        half = len(upper) // 2
        gs, ys = args[:half], args[half : 2 * half]
        front = (gs[0], ys[0]) if single else (tuple(gs), tuple(ys))
        found = grad(*front, *args[2 * half :])
        each = list(found) if isinstance(found, (tuple, list)) else [found]
        pairs = list(zip(args, outside, has, strict=True))
        (size, *_) = upper[0].shape
        made = iter(
            batch_outputs(
                [d for d in each if d is not None],
                {arg: t for arg, t, is_batched in pairs if is_batched},
                size,
                {arg: t for arg, t, is_batched in pairs if not is_batched},
            )
        )
        whole = [None if d is None else next(made) for d in each]
        return [
            d if d is None or is_batched else FUNCTIONS["sum"](d, 0)
            for d, is_batched in zip(whole, batched, strict=False)
        ]

    return rows
