"""Reductions: sum, max, min, argmax, and what is made of them.

`mean`, `var`, `logsumexp`, `softmax`, `log_softmax` and `norm` are ops of their own,
with their own stable gradients; their lowering is a graph of simpler ops, which
fusion turns into one nest again.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.dims import Size, product
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    FUNCTIONS,
    Decomposed,
    GradientRule,
    NonDifferentiable,
    Op,
    Reduction,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.scalar import Expr
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import DType, Shape, TensorType, bool_, float32, int32
from graphc.ops.arithmetic import exp, log, sqrt, where
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, constant, dim, full
from graphc.ops.elementwise import Selected


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes that are reduced, ascending, and whether they stay with size 1."""

    axis: tuple[int, ...]
    keepdims: bool = False


def normal_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    """Return axes as an ascending tuple of non-negative ints; None means all.

    Raises:  ArgumentError for an axis out of range or given twice.
    """
    if axis is None:
        return tuple(range(ndim))
    given = axis if isinstance(axis, (tuple, list)) else (axis,)
    found = []
    for a in given:
        if not isinstance(a, (int, np.integer)) or not -ndim <= a < ndim:
            raise ArgumentError(
                f"axis {a} is out of range for {{0}}, which has {ndim} axes",
                help=f"use -{ndim} to {ndim - 1}" if ndim else "a scalar has no axes",
            )
        found.append(int(a) % ndim)
    if len(set(found)) != len(found):
        raise ArgumentError(f"an axis is given twice: {list(given)}")
    return tuple(sorted(found))


def check_axes(axis: tuple[int, ...], ndim: int) -> None:
    """Check that axes are as ops hold them: ascending, in range, each once.

    Raises:  ArgumentError for others.
    """
    if axis != normal_axes(axis, ndim):
        raise ArgumentError(f"axes {list(axis)} must be ascending and not negative")


def reduced(shape: Shape, attrs: Axes) -> Shape:
    """Return the shape after a reduction."""
    check_axes(attrs.axis, len(shape))
    if attrs.keepdims:
        return tuple(1 if i in attrs.axis else s for i, s in enumerate(shape))
    return tuple(s for i, s in enumerate(shape) if i not in attrs.axis)


def keep(x: Tensor, like: Shape, axis: tuple[int, ...]) -> Tensor:
    """Repeat a reduced tensor back to the shape it was reduced from."""
    ones = tuple(1 if i in axis else s for i, s in enumerate(like))
    if x.shape != ones:
        x = FUNCTIONS["reshape"](x, ones)
    return broadcast_to(x, like)


def _site_index(site: Site, inner: tuple[Expr, ...]) -> list[Expr]:
    """Put the reduced indices back among those of the result."""
    axis = site.attrs.axis
    ndim = site.types[0].ndim
    outer = iter(
        [e for i, e in enumerate(site.index) if not (site.attrs.keepdims and i in axis)]
    )
    along = iter(inner)
    return [next(along) if i in axis else next(outer) for i in range(ndim)]


def _monoid_op(
    name: str,
    monoid: str,
    numpy: Callable[..., Any],
    gradient: GradientRule | NonDifferentiable,
    doc: str,
    result: Callable[[DType], DType] = lambda d: d,
    nonempty: bool = False,
    moves: bool = False,
) -> Op:
    def infer(types: Types, attrs: Axes) -> TensorType:
        (x,) = types
        return TensorType(result(x.dtype), reduced(x.shape, attrs))

    def rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
        found = site.load(0, _site_index(site, inner))
        return found if name == "argmax" else cast_expr(found, site.result.dtype)

    def extents(types: Types, attrs: Axes) -> tuple[Size, ...]:
        return tuple(types[0].shape[a] for a in attrs.axis)

    def guards(types: Types, attrs: Axes) -> list[tuple[Size, Size]]:
        return [(size, 1) for size in extents(types, attrs)] if nonempty else []

    return register(
        Op(
            name=name,
            attrs=Axes,
            infer=infer,
            evaluate=lambda arrays, m: np.asarray(numpy(arrays[0], m.attrs)).astype(
                result(m.types[0].dtype).numpy
            ),
            gradient=gradient,
            lower=Reduction(monoid, extents, rule),
            doc=doc,
            guards=guards,
            moves=moves,
        )
    )


def _sum_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None or not node.inputs[0].dtype.is_float:
        return [None]
    return [keep(g, node.inputs[0].shape, node.attrs.axis)]


def _extremum_gradient(node: Node, cotangents: Any) -> Any:
    """Share the cotangent among equal extrema (as JAX does)."""
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None or not x.dtype.is_float:
        return [None]
    hit = x == keep(node.results[0], x.shape, attrs.axis)
    ties = sum(cast(hit, x.dtype), attrs.axis, keepdims=attrs.keepdims)
    return [Selected(hit, keep(g / ties, x.shape, attrs.axis))]


def _counted(dtype: DType) -> DType:
    return int32 if dtype is bool_ else dtype


def _np_argmax(x: Any, attrs: Axes) -> Any:
    ndim = x.ndim
    keep_first = [i for i in range(ndim) if i not in attrs.axis]
    moved = np.transpose(x, [*keep_first, *attrs.axis])
    outer = moved.shape[: len(keep_first)]
    flat = moved.reshape(*outer, math.prod(moved.shape[len(outer) :]))
    found = np.argmax(flat, axis=-1)
    return found.reshape(reduced(x.shape, attrs))


SUM = _monoid_op(
    "sum",
    "sum",
    lambda x, a: np.sum(x, axis=a.axis, keepdims=a.keepdims, dtype=_sum_dtype(x.dtype)),
    _sum_gradient,
    "y = sum of x over the axes (bools are counted in int32);  dx = g, repeated",
    result=_counted,
    moves=True,
)
MAX = _monoid_op(
    "max",
    "max",
    lambda x, a: np.max(x, axis=a.axis, keepdims=a.keepdims),
    _extremum_gradient,
    "y = largest x over the axes, NaN if any is;  dx = g at the maxima, shared",
    nonempty=True,
)
MIN = _monoid_op(
    "min",
    "min",
    lambda x, a: np.min(x, axis=a.axis, keepdims=a.keepdims),
    _extremum_gradient,
    "y = smallest x over the axes, NaN if any is;  dx = g at the minima, shared",
    nonempty=True,
)
ARGMAX = _monoid_op(
    "argmax",
    "argmax",
    _np_argmax,
    NonDifferentiable("it is an index"),
    "y = index of the first largest x; a NaN counts as largest",
    result=lambda _: int32,
    nonempty=True,
)


def _sum_dtype(dtype: Any) -> Any:
    return np.int32 if dtype.kind == "b" else dtype


def _numeric(what: str, x: Any) -> Tensor:
    tensor = constant(x)
    if what in ("max", "min") and tensor.dtype is bool_:
        tensor = cast(tensor, int32)
    return tensor


def _floating(what: str, x: Any) -> Tensor:
    tensor = constant(x)
    return tensor if tensor.dtype.is_float else cast(tensor, float32)


def _reduce(op: Op, x: Tensor, axis: Any, keepdims: bool) -> Tensor:
    try:
        attrs = Axes(normal_axes(axis, x.ndim), bool(keepdims))
    except ArgumentError as error:
        raise explain(error, op.name, [x]) from None
    if not attrs.axis and op.name != "argmax" and not isinstance(op.lower, Decomposed):
        return cast(x, op.infer((x.type,), attrs).dtype)  # type: ignore[union-attr]
    return make1(op, (x,), attrs)


@public
def sum(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over axes; bools are counted in int32.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims
    Math:    dx = g, repeated along the axes.
    Raises:  ArgumentError for an axis out of range.
    Example:
        >>> import graphc
        >>> float(graphc.evaluate(graphc.sum(graphc.constant([1.0, 2.0]))))
        3.0
    """
    return _reduce(SUM, _numeric("sum", x), axis, keepdims)


@public
def max(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Largest element over axes; NaN if any is NaN. Ties share the gradient.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims. An axis of size 0 is
             refused when sizes are bound.
    """
    return _reduce(MAX, _numeric("max", x), axis, keepdims)


@public
def min(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Smallest element over axes; NaN if any is NaN. Ties share the gradient."""
    return _reduce(MIN, _numeric("min", x), axis, keepdims)


@public
def argmax(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Index (int32) of the first largest element over axes; NaN counts as largest.

    Shapes:  x [N, D], axis=1 -> i32[N]; over several axes, the row-major index
    """
    return _reduce(ARGMAX, _numeric("max", x), axis, keepdims)


# --- ops that are graphs of simpler ones --------------------------------------------


def _decomposed(
    name: str,
    rule: Callable[[Tensor, Any], Tensor],
    gradient: GradientRule,
    numpy: Callable[[Any, Any], Any],
    doc: str,
    keeps_shape: bool = False,
    attrs: type[Any] = Axes,
    forms: tuple[str, ...] = (),
    nonempty: bool = False,
) -> Op:
    def infer(types: Types, a: Any) -> TensorType:
        (x,) = types
        if not x.dtype.is_float:
            raise DTypeError(f"{{0}} is {x.dtype}, not a float", help="cast it")
        check_axes(a.axis, x.ndim)
        return x if keeps_shape else x.with_shape(reduced(x.shape, a))

    return register(
        Op(
            name=name,
            attrs=attrs,
            infer=infer,
            evaluate=lambda arrays, m: _quiet(numpy, arrays[0], m.attrs),
            gradient=gradient,
            lower=Decomposed(lambda a, x: rule(x, a)),
            doc=doc,
            stable=forms,
            guards=(lambda types, a: [(types[0].shape[i], 1) for i in a.axis])
            if nonempty
            else None,
        )
    )


def _quiet(numpy: Callable[[Any, Any], Any], x: Any, attrs: Any) -> Any:
    import warnings

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # mean of an empty axis: NaN
        return np.asarray(numpy(x, attrs)).astype(x.dtype)


def count(shape: Shape, axis: tuple[int, ...], dtype: DType) -> Tensor:
    """Return how many elements the axes hold, as a scalar."""
    size = product(shape[a] for a in axis)
    if isinstance(size, int):
        return full((), float(size), dtype)
    return cast(dim(size), dtype)


def _mean_rule(x: Tensor, attrs: Axes) -> Tensor:
    total = sum(x, attrs.axis, attrs.keepdims)
    return total / count(x.shape, attrs.axis, x.dtype)


def _mean_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None:
        return [None]
    return [keep(g / count(x.shape, attrs.axis, x.dtype), x.shape, attrs.axis)]


MEAN = _decomposed(
    "mean",
    _mean_rule,
    _mean_gradient,
    lambda x, a: np.mean(x, axis=a.axis, keepdims=a.keepdims),
    "y = sum of x / n;  dx = g / n, repeated",
)


@dataclass(frozen=True, slots=True)
class Variance:
    """Axes as of a reduction, and what is taken from the count."""

    axis: tuple[int, ...]
    keepdims: bool = False
    ddof: int = 0


def _freedom(shape: Shape, attrs: Variance, dtype: DType) -> Tensor:
    """Return what a variance is divided by: 0, and so NaN, with too few elements."""
    n = count(shape, attrs.axis, dtype)
    return n if attrs.ddof == 0 else FUNCTIONS["maximum"](n - float(attrs.ddof), 0.0)


def _var_rule(x: Tensor, attrs: Variance) -> Tensor:
    centred = x - mean(x, attrs.axis, keepdims=True)
    n = _freedom(x.shape, attrs, x.dtype)
    return sum(centred * centred, attrs.axis, attrs.keepdims) / n


def _var_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None:
        return [None]
    n = _freedom(x.shape, attrs, x.dtype)
    centred = x - mean(x, attrs.axis, keepdims=True)
    return [keep(g * 2.0 / n, x.shape, attrs.axis) * centred]


VAR = _decomposed(
    "var",
    _var_rule,
    _var_gradient,
    lambda x, a: np.var(x, axis=a.axis, keepdims=a.keepdims, ddof=a.ddof),
    "y = sum of (x - mean)^2 / (n - ddof);  dx = 2 g (x - mean) / (n - ddof)",
    attrs=Variance,
)


def finite_max(x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """Return the maximum with infinities as 0, to be subtracted before `exp`.

    So that a row of -inf gives a sum of 0, not NaN; as JAX and SciPy do.
    """
    top = max(x, axis, keepdims=True)
    found: Tensor = where(FUNCTIONS["abs"](top) < float("inf"), top, 0.0)
    return found


def _logsumexp_rule(x: Tensor, attrs: Axes) -> Tensor:
    top = finite_max(x, attrs.axis)
    total: Tensor = log(sum(exp(x - top), attrs.axis, keepdims=True)) + top
    if not attrs.keepdims:
        total = FUNCTIONS["reshape"](total, reduced(x.shape, attrs))
    return total


def _logsumexp_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None:
        return [None]
    return [keep(g, x.shape, attrs.axis) * softmax(x, attrs.axis)]


def _np_logsumexp(x: Any, attrs: Axes) -> Any:
    top = np.max(x, axis=attrs.axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    total = np.log(np.sum(np.exp(x - top), axis=attrs.axis, keepdims=True)) + top
    return total.reshape(reduced(x.shape, attrs))


LOGSUMEXP = _decomposed(
    "logsumexp",
    _logsumexp_rule,
    _logsumexp_gradient,
    _np_logsumexp,
    "y = ln sum e ** x, exact for large x;  dx = g softmax(x)",
    forms=("log(sum(exp(x))) => logsumexp(x)",),
    nonempty=True,
)


@dataclass(frozen=True, slots=True)
class Along:
    """The axes along which elements sum to one."""

    axis: tuple[int, ...]


def _softmax_rule(x: Tensor, attrs: Along) -> Tensor:
    e: Tensor = exp(x - finite_max(x, attrs.axis))
    return e / sum(e, attrs.axis, keepdims=True)


def _softmax_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None]
    y = node.results[0]
    return [y * (g - sum(g * y, node.attrs.axis, keepdims=True))]


def _np_softmax(x: Any, attrs: Along) -> Any:
    e = np.exp(_np_shifted(x, attrs))
    return e / np.sum(e, axis=attrs.axis, keepdims=True)


def _np_log_softmax(x: Any, attrs: Along) -> Any:
    shifted = _np_shifted(x, attrs)
    return shifted - np.log(np.sum(np.exp(shifted), axis=attrs.axis, keepdims=True))


def _np_shifted(x: Any, attrs: Along) -> Any:
    top = np.max(x, axis=attrs.axis, keepdims=True)
    return x - np.where(np.isfinite(top), top, 0).astype(x.dtype)


SOFTMAX = _decomposed(
    "softmax",
    _softmax_rule,
    _softmax_gradient,
    _np_softmax,
    "y = e ** x / sum e ** x;  dx = y (g - sum(g y))",
    keeps_shape=True,
    attrs=Along,
    forms=(
        "div(exp(x), broadcast_to(sum(exp(x)))) => softmax(x) if aligned",
        "div(exp(x), broadcast_to(reshape(sum(exp(x))))) => softmax(x) if aligned",
        "mul(exp(x), broadcast_to(div(1, sum(exp(x))))) => softmax(x) if aligned",
    ),
    nonempty=True,
)


def _log_softmax_rule(x: Tensor, attrs: Along) -> Tensor:
    shifted = x - finite_max(x, attrs.axis)
    total: Tensor = log(sum(exp(shifted), attrs.axis, keepdims=True))
    return shifted - total


def _log_softmax_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    if g is None:
        return [None]
    y = node.results[0]
    return [g - exp(y) * sum(g, node.attrs.axis, keepdims=True)]


LOG_SOFTMAX = _decomposed(
    "log_softmax",
    _log_softmax_rule,
    _log_softmax_gradient,
    _np_log_softmax,
    "y = x - logsumexp(x);  dx = g - e ** y sum(g)",
    keeps_shape=True,
    attrs=Along,
    forms=(
        "log(softmax(x)) => log_softmax(x)",
        "log(slice(softmax(x))) => slice(log_softmax(x))",
        "log(take(softmax(x), i)) => take(log_softmax(x), i)",
        "sub(x, broadcast_to(logsumexp(x))) => log_softmax(x) if aligned",
        "sub(x, broadcast_to(reshape(logsumexp(x)))) => log_softmax(x) if aligned",
        "sub(broadcast_to(logsumexp(x)), x) => neg(log_softmax(x)) if aligned",
    ),
    nonempty=True,
)


def _norm_rule(x: Tensor, attrs: Axes) -> Tensor:
    found: Tensor = sqrt(sum(x * x, attrs.axis, attrs.keepdims))
    return found


def _norm_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None:
        return [None]
    y = node.results[0]
    unit = Selected(
        keep(y > 0, x.shape, attrs.axis), keep(g / y, x.shape, attrs.axis) * x
    )
    return [unit]


NORM = _decomposed(
    "norm",
    _norm_rule,
    _norm_gradient,
    lambda x, a: np.sqrt(np.sum(x * x, axis=a.axis, keepdims=a.keepdims)),
    "y = sqrt(sum x^2);  dx = g x / y, 0 at 0",
    forms=("sqrt(sum(mul(x, x))) => norm(x)", "sqrt(sum(pow(x, 2))) => norm(x)"),
)


@public
def mean(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over axes; ints become float32; NaN over an empty axis.

    Shapes:  x [N, D], axis=1 -> [N]; [N, 1] with keepdims
    Math:    dx = g / n, repeated.
    """
    return _reduce(MEAN, _floating("mean", x), axis, keepdims)


@public
def var(x: Any, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Variance over axes, divided by n - ddof.

    Math:    y = sum (x - mean)^2 / (n - ddof);  dx = 2 g (x - mean) / (n - ddof)
    """
    tensor = _floating("var", x)
    try:
        axes = normal_axes(axis, tensor.ndim)
    except ArgumentError as error:
        raise explain(error, "var", [tensor]) from None
    return make1(VAR, (tensor,), Variance(axes, bool(keepdims), int(ddof)))


@public
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials, exact for large elements.

    Math:    y = ln sum e ** x;  dx = g softmax(x)
    """
    return _reduce(LOGSUMEXP, _floating("logsumexp", x), axis, keepdims)


@public
def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Euclidean norm over axes; its gradient at 0 is 0.

    Math:    y = sqrt(sum x^2);  dx = g x / y
    """
    return _reduce(NORM, _floating("norm", x), axis, keepdims)


def _along(op: Op, x: Any, axis: Any) -> Tensor:
    tensor = _floating(op.name, x)
    try:
        axes = normal_axes(axis, tensor.ndim)
    except ArgumentError as error:
        raise explain(error, op.name, [tensor]) from None
    return make1(op, (tensor,), Along(axes))


@public
def softmax(x: Any, axis: Any = -1) -> Tensor:
    """Exponentials scaled to sum to one along an axis; exact for large elements.

    Shapes:  x [N, D] -> [N, D]
    Math:    y = e ** x / sum e ** x;  dx = y (g - sum(g y))
    """
    return _along(SOFTMAX, x, axis)


@public
def log_softmax(x: Any, axis: Any = -1) -> Tensor:
    """Logarithm of softmax along an axis, exact where softmax underflows.

    Shapes:  x [N, D] -> [N, D]
    Math:    y = x - logsumexp(x);  dx = g - e ** y sum(g)
    """
    return _along(LOG_SOFTMAX, x, axis)
