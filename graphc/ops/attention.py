"""Scaled dot-product attention: a contraction, a masked softmax, a contraction.

scores = q k^T scale        one nest, on register tiles; scale and mask follow
weights = softmax(scores)   one nest
y = weights v               one nest
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Size, names
from graphc.ir.nodes import Tensor, explain
from graphc.ir.op import public
from graphc.ir.types import Shape, bool_, float32
from graphc.ops.arithmetic import logical_and, rsqrt, where
from graphc.ops.broadcast import as_tensors, broadcast_shapes, broadcast_to
from graphc.ops.composite import softmax
from graphc.ops.creation import cast, constant, dim, iota
from graphc.ops.linear import matmul, swap
from graphc.ops.random import dropout as drop


@public
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    is_causal: bool = False,
    scale: Any = None,
    dropout: float = 0.0,
    *,
    seed: int = 0,
    step: Any = 0,
    stream: int | None = None,
) -> Tensor:
    """Mean of the values, weighted by how well each key answers the query.

    mask: bools, true where a query may look; or floats that are added to the scores,
    -inf where it may not. A query that may look nowhere gets zeros, and so do its
    gradients (PyTorch gives NaN). is_causal: query i sees the keys 0 to i, as well as
    what the mask says. scale: 1 / sqrt(E) unless given. dropout: the share of weights
    that are set to 0; see `graphc.dropout` for seed, step and stream.

    Shapes:  query [..., L, E]; key [..., S, E]; value [..., S, V]; mask [..., L, S]
             -> [..., L, V];  leading axes broadcast, so heads may share keys
    Math:    y = softmax(query key^T scale + mask) value
    Raises:  ShapeError for sizes that do not fit, DTypeError for a mask of ints.
    Source:  Vaswani et al., "Attention is all you need", 2017.
    Example:
        >>> import graphc
        >>> q = graphc.input("q", ("N", 4, "T", 8))
        >>> k = graphc.input("k", ("N", 1, 5, 8))
        >>> graphc.scaled_dot_product_attention(q, k, k).type
        TensorType(f32[N,4,T,8])
    """
    what = "scaled_dot_product_attention"
    operands = as_tensors([query, key, value])
    q, k, v = (t if t.dtype.is_float else cast(t, float32) for t in operands)
    allowed = None if mask is None else constant(mask)
    _check(what, q, k, v, allowed)
    size = q.shape[-1]
    if scale is None:
        scale = (
            1 / math.sqrt(max(size, 1))
            if isinstance(size, int)
            else rsqrt(cast(dim(size), q.dtype))
        )
    scores = matmul(q, swap(k)) * scale
    weights = _weights(scores, allowed, is_causal)
    weights = drop(weights, dropout, seed=seed, step=step, stream=stream)
    return matmul(weights, v)


def _check(what: str, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> None:
    tensors = [q, k, v] if mask is None else [q, k, v, mask]
    try:
        for i, t in enumerate((q, k, v)):
            if t.ndim < 2:
                raise ShapeError(
                    f"{{{i}}} {t.type} needs an axis of places and one of features"
                )
        if q.shape[-1] != k.shape[-1]:
            raise _unequal("features", 0, q.ndim - 1, q.shape[-1], 1, k)
        if k.shape[-2] != v.shape[-2]:
            raise _unequal("places", 1, k.ndim - 2, k.shape[-2], 2, v)
        lead = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
        if mask is not None:
            if mask.dtype is not bool_ and not mask.dtype.is_float:
                raise DTypeError(
                    f"the mask {{3}} is {mask.dtype}, not bool and no float",
                    help='cast it: mask.astype("bool")',
                )
            scores: Shape = (*lead, q.shape[-2], k.shape[-2])
            if not _fits(mask.shape, scores):
                raise ShapeError(
                    f"the mask {{3}} {mask.type} does not broadcast to the scores "
                    f"[{','.join(map(str, scores))}]"
                )
    except (ShapeError, DTypeError) as error:
        raise explain(error, what, tensors) from None


def _fits(shape: Shape, scores: Shape) -> bool:
    try:
        return broadcast_shapes(shape, scores) == scores
    except ShapeError:
        return False


def _unequal(what: str, i: int, axis: int, size: Size, j: int, t: Tensor) -> ShapeError:
    """Return the error for two sizes that must be equal."""
    at = t.ndim - 1 if what == "features" else t.ndim - 2
    other = t.shape[at]
    sizes = f"{{{i}}}[{axis}]={size}, {{{j}}}[{at}]={other}"
    if names(size) or names(other):
        return ShapeError(
            f"the numbers of {what} cannot be proved equal: {sizes}",
            help="use one name for both if they are the same size",
        )
    return ShapeError(f"the numbers of {what} differ: {sizes}")


def _weights(scores: Tensor, mask: Tensor | None, is_causal: bool) -> Tensor:
    """Return the softmax of scores over the places that a mask allows.

    A row that allows none gets zeros: its softmax is taken over finite numbers, and
    a select comes after it, so neither it nor its gradient meets inf - inf.
    """
    allowed = _causal(scores.shape) if is_causal else None
    if mask is None:
        if allowed is None:
            return softmax(scores)
        # Every query sees the first key.
        return softmax(where(allowed, scores, float("-inf")))
    if mask.dtype is bool_:
        open_ = mask
    else:
        open_ = mask != float("-inf")
        scores = scores + cast(mask, scores.dtype)
    open_ = broadcast_to(open_, scores.shape)
    if allowed is not None:
        open_ = logical_and(open_, allowed)
    lowest = float(np.finfo(scores.dtype.numpy).min)
    found: Tensor = where(open_, softmax(where(open_, scores, lowest)), 0.0)
    return found


def _causal(shape: Shape) -> Tensor:
    rows, columns = shape[-2:]
    below = iota((rows, columns), 1) <= iota((rows, columns), 0)
    return broadcast_to(below, shape)
