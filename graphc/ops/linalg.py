"""Linear algebra on the last two axes: solve, inv, solve_triangular, cholesky.

Each op works on every matrix of a batch by itself. A matrix that is singular, or not
positive definite where it has to be, gives NaN in all of its result: nothing is raised
in a step. Gradients are compositions of these ops, so that they have gradients too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Size, product
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    FUNCTIONS,
    Check,
    CheckRule,
    Op,
    Routine,
    Types,
    public,
    register,
)
from graphc.ir.program.routines import LibraryRoutine, register_routine
from graphc.ir.types import TensorType, float32
from graphc.ops.batching import batch_leading
from graphc.ops.broadcast import as_tensors, broadcast_shapes, broadcast_to
from graphc.ops.creation import cast, constant, iota
from graphc.ops.diagonal import eye, tril, triu
from graphc.ops.library import Options, by_routine
from graphc.ops.linear import matmul, swap
from graphc.ops.shape import reshape

Array = np.ndarray[Any, Any]
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Triangle:
    """Which triangle is meant, whether transposed, and whether its diagonal is 1."""

    lower: bool
    trans: bool = False
    unit: bool = False


# --- what all share -----------------------------------------------------------------


def batch_axes(types: Types, i: int = 0) -> tuple[Size, ...]:
    """Return the batch axes of input i, which must hold square float matrices."""
    a = types[i]
    if not a.dtype.is_float:
        raise DTypeError(f"{{{i}}} is {a.dtype}, not a float", help="cast it")
    if a.ndim < 2:
        raise ShapeError(f"{{{i}}} {a} is no matrix: it has {a.ndim} axes, not 2")
    if a.shape[-1] != a.shape[-2]:
        raise ShapeError(
            f"{{{i}}} {a} is not square: {a.shape[-2]} rows, {a.shape[-1]} columns"
        )
    return a.shape[:-2]


def _sides(types: Types, _: Any) -> TensorType:
    """Return the type of the solutions of a x = b."""
    a, b = types
    outer = batch_axes(types)
    if a.dtype is not b.dtype:
        raise DTypeError(f"{{0}} is {a.dtype}, {{1}} is {b.dtype}", help="cast one")
    if b.ndim < 2 or b.shape[:-2] != outer:
        raise ShapeError(f"{{0}} {a} and {{1}} {b} differ in their leading axes")
    if b.shape[-2] != a.shape[-1]:
        raise ShapeError(
            f"{{0}} {a} has {a.shape[-1]} columns, {{1}} {b} has {b.shape[-2]} rows"
        )
    return b


def matrices(types: Types, _: Any) -> Options:
    """Return the options that say how many matrices input 0 holds, and of what size."""
    a = types[0]
    return (("batch", product(a.shape[:-2])), ("n", a.shape[-1]))


def _systems(types: Types, attrs: Any) -> Options:
    return (*matrices(types, attrs), ("columns", types[1].shape[-1]))


def factoring(options: Values) -> Size:
    """Return the multiplications and additions of a factorisation, and of solving."""
    n, columns = options["n"], options.get("columns", 0)
    return product((options["batch"], n, n, n + 2 * columns))


def each_matrix(options: Values, *arrays: Array) -> list[Array]:
    """Return arrays as batches of matrices."""
    batch, n = options["batch"], options["n"]
    return [a.reshape(batch, n, a.shape[-1]) for a in arrays]


def floats(*values: Any) -> list[Tensor]:
    """Return tensors of one float dtype."""
    found = as_tensors([v if isinstance(v, Tensor) else constant(v) for v in values])
    return [t if t.dtype.is_float else cast(t, float32) for t in found]


def _solved(what: str) -> CheckRule:
    """Return the check that no result is NaN; it names a matrix whose result is."""

    def rule(node: Node) -> list[Check]:
        (x,) = node.results
        if x.ndim == 2:
            return [Check(x == x, x, f"the matrix is {what}, or holds NaN")]
        outer = x.shape[:-2]
        which = reshape(iota((product(outer),), 0), outer)
        ok = FUNCTIONS["all"](x == x, (-2, -1))
        return [Check(ok, which, f"matrix {{value}} is {what}, or holds NaN")]

    return rule


_SINGULAR = _solved("singular")
_INDEFINITE = _solved("not positive definite")


# --- solve --------------------------------------------------------------------------


def _solve_value(arrays: Any, options: Values) -> list[Array]:
    a, b = each_matrix(options, *arrays)
    found = np.full_like(b, np.nan)
    for i in range(len(a)):
        try:
            found[i] = np.linalg.solve(a[i], b[i])
        except np.linalg.LinAlgError:
            continue  # singular: NaN
    return [found]


def _solve_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None, None]
    db = make1(SOLVE, (swap(node.inputs[0]), g))
    return [-matmul(db, swap(node.results[0])), db]


register_routine(LibraryRoutine("solve", _solve_value, factoring))
_SOLVE = Routine("solve", _systems)
SOLVE = register(
    Op(
        name="solve",
        infer=_sides,
        evaluate=by_routine(_SOLVE, _sides),
        gradient=_solve_gradient,
        lower=_SOLVE,
        doc="x with a x = b, NaN if a is singular;  db = a^-T g, da = -db x^T",
        batch=batch_leading,
        checks=_SINGULAR,
    )
)


def _paired(what: str, a: Any, b: Any) -> tuple[Tensor, Tensor, bool]:
    """Return matrices and right-hand sides of one batch; whether b was a vector."""
    left, right = floats(a, b)
    vector = right.ndim == 1
    sides = reshape(right, (*right.shape, 1)) if vector else right
    try:
        if left.ndim < 2 or right.ndim < 1:
            raise ShapeError(f"{{0}} {left.type} must be a matrix, {{1}} {right.type} "
                             "a matrix or a vector")  # fmt: skip
        outer = broadcast_shapes(left.shape[:-2], sides.shape[:-2])
    except ShapeError as error:
        raise explain(error, what, [left, right]) from None
    return (
        broadcast_to(left, (*outer, *left.shape[-2:])),
        broadcast_to(sides, (*outer, *sides.shape[-2:])),
        vector,
    )


def _unpaired(x: Tensor, vector: bool) -> Tensor:
    return reshape(x, x.shape[:-1]) if vector else x


@public
def solve(a: Any, b: Any) -> Tensor:
    """Solve a x = b for square matrices a; b is a matrix of columns, or a vector.

    NaN where a is singular. On the cpu it needs `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N], b [..., N, K] -> [..., N, K]; b [N] -> [..., N]
    Math:    x = a^-1 b;  db = a^-T g, da = -db x^T
    Raises:  ShapeError if a is not square or b has other rows.
    Example:
        >>> import graphc
        >>> x = graphc.solve(graphc.constant([[2.0, 0.0], [0.0, 4.0]]), [1.0, 2.0])
        >>> graphc.evaluate(x).tolist()
        [0.5, 0.5]
    """
    left, right, vector = _paired("solve", a, b)
    return _unpaired(make1(SOLVE, (left, right)), vector)


@public
def inv(a: Any) -> Tensor:
    """Invert square matrices; NaN where one is singular.

    To solve equations, `solve` is faster and more exact. On the cpu it needs
    `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N] -> [..., N, N]
    Math:    y = a^-1;  da = -y^T g y^T
    Raises:  ShapeError if a is not square.
    Example:
        >>> import graphc
        >>> a = graphc.constant([[2.0, 0.0], [0.0, 4.0]])
        >>> graphc.evaluate(graphc.inv(a)).tolist()
        [[0.5, 0.0], [0.0, 0.25]]
    """
    (tensor,) = floats(a)
    try:
        batch_axes((tensor.type,))
    except (DTypeError, ShapeError) as error:
        raise explain(error, "inv", [tensor]) from None
    return make1(SOLVE, (tensor, identity(tensor)))


def identity(a: Tensor) -> Tensor:
    """Return the identity in the shape of square matrices."""
    return broadcast_to(eye(a.shape[-1], dtype=a.dtype), a.shape)


# --- triangular systems -------------------------------------------------------------


def _triangular_value(arrays: Any, options: Values) -> list[Array]:
    a, b = each_matrix(options, *arrays)
    lower = options["lower"]
    if options["trans"]:
        a, lower = np.swapaxes(a, 1, 2), not lower
    n, x = a.shape[1], np.array(b)
    for i in range(n) if lower else reversed(range(n)):
        known = slice(0, i) if lower else slice(i + 1, n)
        x[:, i] -= np.einsum("bk,bkc->bc", a[:, i, known], x[:, known])
        if not options["unit"]:
            x[:, i] /= a[:, i, i, None]
    if not options["unit"]:
        x[np.any(np.diagonal(a, axis1=1, axis2=2) == 0, axis=1)] = np.nan
    return [x]


def _triangular_gradient(node: Node, cotangents: Any) -> Any:
    (g,), attrs = cotangents, node.attrs
    if g is None:
        return [None, None]
    other = Triangle(attrs.lower, not attrs.trans, attrs.unit)
    db = make1(SOLVE_TRIANGULAR, (node.inputs[0], g), other)
    pair = (node.results[0], db) if attrs.trans else (db, node.results[0])
    full = -matmul(pair[0], swap(pair[1]))
    inside = int(attrs.unit)  # a diagonal of ones is not read
    return [tril(full, -inside) if attrs.lower else triu(full, inside), db]


register_routine(LibraryRoutine("solve_triangular", _triangular_value, factoring))
_TRIANGULAR = Routine(
    "solve_triangular",
    lambda types, a: (
        *_systems(types, a),
        ("lower", int(a.lower)),
        ("trans", int(a.trans)),
        ("unit", int(a.unit)),
    ),
)
SOLVE_TRIANGULAR = register(
    Op(
        name="solve_triangular",
        attrs=Triangle,
        infer=_sides,
        evaluate=by_routine(_TRIANGULAR, _sides),
        gradient=_triangular_gradient,
        lower=_TRIANGULAR,
        doc="x with a x = b (trans: a^T x = b) for a triangle of a, NaN if its "
        "diagonal has a 0;  db = a^-T g, da = the triangle of -db x^T",
        batch=batch_leading,
        checks=_SINGULAR,
    )
)


@public
def solve_triangular(
    a: Any, b: Any, lower: bool = False, trans: bool = False, unit: bool = False
) -> Tensor:
    """Solve a x = b where a is triangular; the other triangle is not read.

    lower: the lower triangle, else the upper one. trans: solve a^T x = b. unit: the
    diagonal is 1, whatever stands there. NaN where the diagonal has a 0. On the cpu it
    needs `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N], b [..., N, K] -> [..., N, K]; b [N] -> [..., N]
    Raises:  ShapeError if a is not square or b has other rows.
    Example:
        >>> import graphc
        >>> a = graphc.constant([[2.0, 0.0], [1.0, 1.0]])
        >>> x = graphc.solve_triangular(a, [2.0, 3.0], lower=True)
        >>> graphc.evaluate(x).tolist()
        [1.0, 2.0]
    """
    left, right, vector = _paired("solve_triangular", a, b)
    attrs = Triangle(bool(lower), bool(trans), bool(unit))
    return _unpaired(make1(SOLVE_TRIANGULAR, (left, right), attrs), vector)


# --- cholesky -----------------------------------------------------------------------


def _cholesky_infer(types: Types, _: Any) -> TensorType:
    batch_axes(types)
    return types[0]


def _cholesky_value(arrays: Any, options: Values) -> list[Array]:
    (a,) = each_matrix(options, *arrays)
    found = np.full_like(a, np.nan)
    for i in range(len(a)):
        try:
            found[i] = np.linalg.cholesky(a[i])
        except np.linalg.LinAlgError:
            continue  # not positive definite: NaN
    return [found]


def _halved(x: Tensor) -> Tensor:
    """Return the lower triangle with half of the diagonal."""
    return (tril(x) + tril(x, -1)) * 0.5


def _cholesky_gradient(node: Node, cotangents: Any) -> Any:
    """Return the derivative by the lower triangle, all that the op reads.

    Source:  Murray, Differentiation of the Cholesky decomposition, 2016, section 5.
    """
    (g,) = cotangents
    if g is None:
        return [None]
    (y,) = node.results
    back = Triangle(lower=True, trans=True)
    inner = _halved(matmul(swap(y), tril(g)))
    left = make1(SOLVE_TRIANGULAR, (y, inner), back)
    s = swap(make1(SOLVE_TRIANGULAR, (y, swap(left)), back))
    return [_halved(s + swap(s))]


register_routine(LibraryRoutine("cholesky", _cholesky_value, factoring))
_CHOLESKY = Routine("cholesky", matrices)
CHOLESKY = register(
    Op(
        name="cholesky",
        infer=_cholesky_infer,
        evaluate=by_routine(_CHOLESKY, _cholesky_infer),
        gradient=_cholesky_gradient,
        lower=_CHOLESKY,
        doc="lower y with y y^T = a, of which the lower triangle is read, NaN if a is "
        "not positive definite;  s = y^-T h(y^T g) y^-1, da = h(s + s^T), where h "
        "takes the lower triangle and half of the diagonal",
        batch=batch_leading,
        checks=_INDEFINITE,
    )
)


@public
def cholesky(a: Any) -> Tensor:
    """Factor symmetric positive definite matrices: the lower y with y y^T = a.

    It is that of (a + a^T) / 2, so that the gradient is symmetric. NaN where a is not
    positive definite. On the cpu it needs `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N] -> [..., N, N]
    Raises:  ShapeError if a is not square.
    Example:
        >>> import graphc
        >>> a = graphc.constant([[4.0, 2.0], [2.0, 2.0]])
        >>> graphc.evaluate(graphc.cholesky(a)).tolist()
        [[2.0, 0.0], [1.0, 1.0]]
    """
    (tensor,) = floats(a)
    try:
        batch_axes((tensor.type,))
    except (DTypeError, ShapeError) as error:
        raise explain(error, "cholesky", [tensor]) from None
    return make1(CHOLESKY, ((tensor + swap(tensor)) * 0.5,))
