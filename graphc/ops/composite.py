"""Ops that are graphs of simpler ones: mean, var, std, logsumexp, softmax, norm.

They are ops of their own, with their own stable gradients and NumPy meaning; their
lowering is a graph of simpler ops, which fusion turns into one nest again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.dims import product
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import (
    FUNCTIONS,
    Decomposed,
    GradientRule,
    Op,
    Types,
    public,
    register,
)
from graphc.ir.types import DType, Shape, TensorType, float32
from graphc.ops.arithmetic import exp, log, sqrt, where
from graphc.ops.batching import batch_axis
from graphc.ops.creation import cast, constant, dim, full
from graphc.ops.elementwise import Selected
from graphc.ops.reduction import (
    Axes,
    check_axes,
    keep,
    max,
    normal_axes,
    reduce_over,
    reduced,
    sum,
)


def _floating(what: str, x: Any) -> Tensor:
    tensor = constant(x)
    return tensor if tensor.dtype.is_float else cast(tensor, float32)


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
            batch=batch_axis,
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


def _std_rule(x: Tensor, attrs: Variance) -> Tensor:
    found: Tensor = sqrt(_var_rule(x, attrs))
    return found


def _std_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs = node.inputs, node.attrs
    if g is None:
        return [None]
    y = node.results[0]
    n = _freedom(x.shape, attrs, x.dtype)
    centred = x - mean(x, attrs.axis, keepdims=True)
    slope = keep(g / (n * y), x.shape, attrs.axis) * centred
    return [Selected(keep(y > 0, x.shape, attrs.axis), slope)]


STD = _decomposed(
    "std",
    _std_rule,
    _std_gradient,
    lambda x, a: np.std(x, axis=a.axis, keepdims=a.keepdims, ddof=a.ddof),
    "y = sqrt(var(x));  dx = g (x - mean) / ((n - ddof) y), 0 where y is 0",
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
    top = np.max(x, axis=attrs.axis, keepdims=True, initial=-np.inf)
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
    top = np.max(x, axis=attrs.axis, keepdims=True, initial=-np.inf)
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
    return reduce_over(MEAN, _floating("mean", x), axis, keepdims)


@public
def var(x: Any, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Variance over axes, divided by n - ddof.

    Math:    y = sum (x - mean)^2 / (n - ddof);  dx = 2 g (x - mean) / (n - ddof)
    """
    return _spread(VAR, x, axis, keepdims, ddof)


@public
def std(x: Any, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
    """Standard deviation over axes: the square root of the variance.

    Math:    y = sqrt(sum (x - mean)^2 / (n - ddof))
             dx = g (x - mean) / ((n - ddof) y), 0 where all are equal
    """
    return _spread(STD, x, axis, keepdims, ddof)


def _spread(op: Op, x: Any, axis: Any, keepdims: bool, ddof: int) -> Tensor:
    tensor = _floating(op.name, x)
    try:
        axes = normal_axes(axis, tensor.ndim)
    except ArgumentError as error:
        raise explain(error, op.name, [tensor]) from None
    return make1(op, (tensor,), Variance(axes, bool(keepdims), int(ddof)))


@public
def logsumexp(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Logarithm of the sum of exponentials, exact for large elements.

    Math:    y = ln sum e ** x;  dx = g softmax(x)
    """
    return reduce_over(LOGSUMEXP, _floating("logsumexp", x), axis, keepdims)


@public
def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Tensor:
    """Euclidean norm over axes; its gradient at 0 is 0.

    Math:    y = sqrt(sum x^2);  dx = g x / y
    """
    return reduce_over(NORM, _floating("norm", x), axis, keepdims)


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
