"""Normalisation: layer, RMS, group and batch, each with its weight and bias.

Two ops do the work, with gradients of their own; the functions around them say over
which axes. Each lowers to one nest: reductions over a row, then what is written.

    standardize   y = (x - mean) / sqrt(var + eps)
    rms_scale     y = x / sqrt(mean of x^2 + eps)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import Decomposed, GradientRule, Op, Types, public, register
from graphc.ir.types import TensorType, float32
from graphc.ops.arithmetic import rsqrt
from graphc.ops.batching import batch_axis
from graphc.ops.composite import mean, var
from graphc.ops.creation import cast, constant
from graphc.ops.reduction import check_axes, normal_axes
from graphc.ops.shape import reshape


@dataclass(frozen=True, slots=True)
class Scaling:
    """The axes whose elements are scaled together, and what keeps off a zero."""

    axis: tuple[int, ...]
    eps: float


# --- the ops ------------------------------------------------------------------------


def _op(
    name: str,
    rule: Callable[[Tensor, Scaling], Tensor],
    gradient: GradientRule,
    numpy: Callable[[Any, Scaling], Any],
    doc: str,
) -> Op:
    def infer(types: Types, attrs: Scaling) -> TensorType:
        (x,) = types
        if not x.dtype.is_float:
            raise DTypeError(f"{{0}} is {x.dtype}, not a float", help="cast it")
        check_axes(attrs.axis, x.ndim)
        return x

    def evaluate(arrays: Any, meaning: Any) -> Any:
        (x,) = arrays
        if x.size == 0:
            return x
        with np.errstate(all="ignore"):
            return numpy(x, meaning.attrs).astype(x.dtype)

    return register(
        Op(
            name=name,
            attrs=Scaling,
            infer=infer,
            evaluate=evaluate,
            gradient=gradient,
            lower=Decomposed(lambda a, x: rule(x, a)),
            doc=doc,
            batch=batch_axis,
        )
    )


def _deviation(x: Tensor, attrs: Scaling) -> Tensor:
    """Return 1 / sqrt(var + eps)."""
    found: Tensor = rsqrt(var(x, attrs.axis, keepdims=True) + attrs.eps)
    return found


def _standardize_rule(x: Tensor, attrs: Scaling) -> Tensor:
    return (x - mean(x, attrs.axis, keepdims=True)) * _deviation(x, attrs)


def _standardize_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs, y = node.inputs, node.attrs, node.results[0]
    if g is None:
        return [None]
    centred = g - mean(g, attrs.axis, keepdims=True)
    along = mean(g * y, attrs.axis, keepdims=True)
    return [_deviation(x, attrs) * (centred - y * along)]


def _np_standardize(x: Any, attrs: Scaling) -> Any:
    centred = x - np.mean(x, axis=attrs.axis, keepdims=True)
    square = np.mean(centred * centred, axis=attrs.axis, keepdims=True)
    return centred / np.sqrt(square + x.dtype.type(attrs.eps))


STANDARDIZE = _op(
    "standardize",
    _standardize_rule,
    _standardize_gradient,
    _np_standardize,
    "y = (x - mean) r, r = 1 / sqrt(var + eps);  dx = r (g - mean(g) - y mean(g y))",
)


def _size(x: Tensor, attrs: Scaling) -> Tensor:
    """Return 1 / sqrt(mean of x^2 + eps)."""
    found: Tensor = rsqrt(mean(x * x, attrs.axis, keepdims=True) + attrs.eps)
    return found


def _rms_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    (x,), attrs, y = node.inputs, node.attrs, node.results[0]
    if g is None:
        return [None]
    along = mean(g * y, attrs.axis, keepdims=True)
    return [_size(x, attrs) * (g - y * along)]


def _np_rms(x: Any, attrs: Scaling) -> Any:
    square = np.mean(x * x, axis=attrs.axis, keepdims=True)
    return x / np.sqrt(square + x.dtype.type(attrs.eps))


RMS_SCALE = _op(
    "rms_scale",
    lambda x, attrs: x * _size(x, attrs),
    _rms_gradient,
    _np_rms,
    "y = x r, r = 1 / sqrt(mean(x^2) + eps);  dx = r (g - y mean(g y))",
)


# --- what the functions share -------------------------------------------------------


def _floating(x: Any) -> Tensor:
    tensor = constant(x)
    return tensor if tensor.dtype.is_float else cast(tensor, float32)


def _axes(what: str, x: Tensor, axis: Any) -> tuple[int, ...]:
    try:
        return normal_axes(axis, x.ndim)
    except ArgumentError as error:
        raise explain(error, what, [x]) from None


def _along(what: str, v: Any, x: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Return a weight, which has the sizes of some axes of x, so that it meets them."""
    tensor = constant(v)
    wanted = tuple(x.shape[a] for a in axes)
    if tensor.shape != wanted:
        error = ShapeError(
            f"{{0}} {tensor.type} must have the shape [{','.join(map(str, wanted))}], "
            f"the sizes of the axes {list(axes)} of {{1}} {x.type}"
        )
        raise explain(error, what, [tensor, x])
    ones = tuple(s if i in axes else 1 for i, s in enumerate(x.shape))
    return reshape(cast(tensor, x.dtype), ones)


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _pair(
    what: str, x: Tensor, weight: Any, bias: Any, axes: tuple[int, ...]
) -> tuple[Tensor | None, Tensor | None]:
    """Return weight and bias so that they meet the axes; None for those not given."""
    found = [None if v is None else _along(what, v, x, axes) for v in (weight, bias)]
    return found[0], found[1]


# --- public functions ---------------------------------------------------------------


@public
def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, axis: Any = -1, eps: float = 1e-5
) -> Tensor:
    """Scale the elements along axes to mean 0 and variance 1, then by weight and bias.

    Shapes:  x [..., D], axis=-1; weight, bias [D] -> [..., D];  with several axes,
             weight and bias have the sizes of those axes
    Math:    y = (x - mean) / sqrt(var + eps) * weight + bias
    Raises:  ShapeError for a weight of another shape, ArgumentError for an axis out
             of range.
    Source:  Ba, Kiros and Hinton, "Layer normalization", 2016.
    Example:
        >>> import graphc
        >>> y = graphc.layer_norm([[1.0, 3.0]], eps=0.0)
        >>> graphc.evaluate(y).tolist()
        [[-1.0, 1.0]]
    """
    tensor = _floating(x)
    axes = _axes("layer_norm", tensor, axis)
    pair = _pair("layer_norm", tensor, weight, bias, axes)
    return _affine(make1(STANDARDIZE, (tensor,), Scaling(axes, float(eps))), *pair)


@public
def rms_norm(x: Any, weight: Any = None, axis: Any = -1, eps: float = 1e-6) -> Tensor:
    """Scale the elements along axes to a mean square of 1, then by weight.

    Shapes:  x [..., D], axis=-1; weight [D] -> [..., D]
    Math:    y = x / sqrt(mean(x^2) + eps) * weight
    Raises:  ShapeError for a weight of another shape, ArgumentError for an axis out
             of range.
    Source:  Zhang and Sennrich, "Root mean square layer normalization", 2019.
    """
    tensor = _floating(x)
    axes = _axes("rms_norm", tensor, axis)
    pair = _pair("rms_norm", tensor, weight, None, axes)
    return _affine(make1(RMS_SCALE, (tensor,), Scaling(axes, float(eps))), *pair)


@public
def group_norm(
    x: Any,
    groups: int,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
    axis: int = 1,
) -> Tensor:
    """Scale each group of channels of each image to mean 0 and variance 1.

    axis: the channels; the first axis is the batch. One group is a layer norm of the
    image, as many groups as channels an instance norm.

    Shapes:  x [N, C, H, W]; weight, bias [C] -> [N, C, H, W]
    Math:    y = (x - mean) / sqrt(var + eps) * weight + bias, over C / groups
             channels and all of their places
    Raises:  ShapeError unless groups divides C; ArgumentError for no positive int.
    Source:  Wu and He, "Group normalization", 2018.
    """
    tensor = _floating(x)
    (at,) = _axes("group_norm", tensor, axis)
    try:
        if isinstance(groups, bool) or not isinstance(groups, (int, np.integer)):
            raise ArgumentError(f"groups must be a positive int, not {groups!r}")
        if groups < 1 or at == 0:
            raise ArgumentError(
                f"{groups} groups of axis {at} of {{0}}",
                help="groups must be positive, and axis 0 is the batch",
            )
        channels = tensor.shape[at]
        each = channels // int(groups)
        if each * int(groups) != channels:
            raise ShapeError(f"{groups} groups do not divide {{0}}[{at}]={channels}")
    except (ArgumentError, ShapeError) as error:
        raise explain(error, "group_norm", [tensor]) from None
    pair = _pair("group_norm", tensor, weight, bias, (at,))
    split = (*tensor.shape[:at], int(groups), each, *tensor.shape[at + 1 :])
    axes = tuple(a for a in range(1, len(split)) if a != at)
    y = make1(STANDARDIZE, (reshape(tensor, split),), Scaling(axes, float(eps)))
    ones = tuple(s if i in (at, at + 1) else 1 for i, s in enumerate(split))
    y = _affine(y, *(None if v is None else reshape(v, ones) for v in pair))
    return reshape(y, tensor.shape)


@public
def batch_norm(
    x: Any,
    mean: Any,
    var: Any,
    weight: Any = None,
    bias: Any = None,
    axis: int = 1,
    eps: float = 1e-5,
) -> Tensor:
    """Scale channels by means and variances that are known, as in inference.

    axis: the channels. See `batch_norm_training` for the statistics of a batch.

    Shapes:  x [N, C, H, W]; mean, var, weight, bias [C] -> [N, C, H, W]
    Math:    y = (x - mean) / sqrt(var + eps) * weight + bias
    Raises:  ShapeError for statistics of another shape, ArgumentError for an axis out
             of range.
    Source:  Ioffe and Szegedy, "Batch normalization", 2015.
    """
    tensor = _floating(x)
    axes = _axes("batch_norm", tensor, axis)
    middle = _along("batch_norm", mean, tensor, axes)
    spread: Tensor = rsqrt(_along("batch_norm", var, tensor, axes) + float(eps))
    pair = _pair("batch_norm", tensor, weight, bias, axes)
    return _affine((tensor - middle) * spread, *pair)


@public
def batch_norm_training(
    x: Any, weight: Any = None, bias: Any = None, axis: int = 1, eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """Scale channels by the statistics of the batch; returns (y, mean, variance).

    axis: the channels; means go over all others. The variance is divided by the
    number of elements.

    Shapes:  x [N, C, H, W]; weight, bias [C] -> [N, C, H, W], [C], [C]
    Math:    y = (x - mean) / sqrt(var + eps) * weight + bias; gradients pass through
             mean and var
    Raises:  ShapeError for a weight of another shape, ArgumentError for an axis out
             of range.
    Source:  Ioffe and Szegedy, "Batch normalization", 2015.
    """
    tensor = _floating(x)
    axes = _axes("batch_norm_training", tensor, axis)
    others = tuple(i for i in range(tensor.ndim) if i not in axes)
    pair = _pair("batch_norm_training", tensor, weight, bias, axes)
    y = _affine(make1(STANDARDIZE, (tensor,), Scaling(others, float(eps))), *pair)
    # With their axes kept they are the sums that `standardize` takes as well.
    kept = (f(tensor, others, keepdims=True) for f in (mean, var))
    middle, spread = (reshape(t, tuple(tensor.shape[a] for a in axes)) for t in kept)
    return y, middle, spread
