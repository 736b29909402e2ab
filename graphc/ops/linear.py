"""The matrix product, with batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import DTypeError, ShapeError
from graphc.ir.dims import Size, names
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import FUNCTIONS, Op, Reduction, Site, Types, public, register
from graphc.ir.scalar import Expr
from graphc.ir.types import TensorType, bool_, int32
from graphc.ops.batching import batch_leading, fold, unfold
from graphc.ops.broadcast import as_tensors, broadcast_shapes, broadcast_to
from graphc.ops.creation import cast


def _infer(types: Types, _: Any) -> TensorType:
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"dtypes differ: {{0}} {a}, {{1}} {b}", help="cast one")
    if a.ndim < 2 or b.ndim < 2 or a.shape[:-2] != b.shape[:-2]:
        raise ShapeError(f"needs matrices with equal batches, got {a} and {b}")
    if a.shape[-1] != b.shape[-2]:
        raise _inner(a, b)
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def _inner(a: TensorType, b: TensorType) -> ShapeError:
    k, rows = a.shape[-1], b.shape[-2] if b.ndim > 1 else b.shape[0]
    where_b = b.ndim - 2 if b.ndim > 1 else 0
    what = f"{{0}}[{a.ndim - 1}]={k}, {{1}}[{where_b}]={rows}"
    if names(k) or names(rows):
        return ShapeError(
            f"inner dimensions cannot be proved equal: {what}",
            help="use one name for both if they are the same size",
        )
    return ShapeError(
        f"inner dimensions differ: {what}",
        help=f"the second operand must have {k} rows"
        + (", or use {1}.T" if b.shape[-1] == k else ""),
    )


def _rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
    *batch, i, j = site.index
    (k,) = inner
    return site.load(0, (*batch, i, k)) * site.load(1, (*batch, k, j))


def _extents(types: Types, _: Any) -> tuple[Size, ...]:
    return (types[0].shape[-1],)


def _gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    a, b = node.inputs
    if g is None or not a.dtype.is_float:
        return [None, None]
    # The gradient of an operand that is a transpose is transposed again: it is
    # computed the other way round, so that the two cancel.
    if _is_swapped(a):
        first = swap(make1(MATMUL, (b, swap(g))))
    else:
        first = make1(MATMUL, (g, swap(b)))
    if _is_swapped(b):
        second = swap(make1(MATMUL, (swap(g), a)))
    else:
        second = make1(MATMUL, (swap(a), g))
    return [first, second]


def _is_swapped(x: Tensor) -> bool:
    """Whether a tensor is a transpose of the last two axes of another."""
    if x.node.op.name != "transpose":
        return False
    order: tuple[int, ...] = x.node.attrs.axes
    return order == (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Keep one contraction where one operand is the same matrix for all elements."""
    a, b = inputs
    if all(batched) or node.inputs[0].ndim != 2:
        return batch_leading(node, inputs, batched, size)
    if batched[0]:
        return [unfold(make1(MATMUL, (fold(a), b)), size, a.shape[1])]
    if b.shape[2] == 1:  # a matrix times B vectors: the vectors become rows
        rows = FUNCTIONS["reshape"](b, b.shape[:2])
        found = make1(MATMUL, (rows, swap(a)))
        return [FUNCTIONS["reshape"](found, (*found.shape, 1))]
    # c^T = b^T a^T, with the columns of all B operands as rows.
    found = make1(MATMUL, (fold(swap(b)), swap(a)))
    return [swap(unfold(found, size, b.shape[2]))]


def swap(x: Tensor) -> Tensor:
    """Transpose the last two axes."""
    order = (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2)
    found: Tensor = FUNCTIONS["transpose"](x, order)
    return found


MATMUL = register(
    Op(
        name="matmul",
        infer=_infer,
        evaluate=lambda arrays, m: np.matmul(*arrays),
        gradient=_gradient,
        lower=Reduction("sum", _extents, _rule),
        doc="c[i, j] = sum over k of a[i, k] b[k, j];  da = g b^T, db = a^T g",
        batch=_batch,
    )
)


@public
def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product; leading axes are batches and broadcast, as NumPy's `@`.

    Shapes:  a [..., N, K], b [..., K, D] -> [..., N, D]; a vector [K] on either
             side stands for a row or a column, which is dropped from the result
    Math:    da = g b^T;  db = a^T g
    Raises:  ShapeError if the inner dimensions differ, or for a scalar.
    """
    left, right = as_tensors([a, b])
    if left.dtype is bool_:
        left, right = cast(left, int32), cast(right, int32)
    operands = (left, right)
    if left.ndim == 0 or right.ndim == 0:
        scalar = 0 if left.ndim == 0 else 1
        error = ShapeError(f"{{{scalar}}} is a scalar", help="use * to scale")
        raise explain(error, "matmul", operands)
    if left.shape[-1] != (right.shape[-2] if right.ndim > 1 else right.shape[0]):
        raise explain(_inner(left.type, right.type), "matmul", operands)
    reshape = FUNCTIONS["reshape"]
    row, column = left.ndim == 1, right.ndim == 1
    if row:
        left = reshape(left, (1, left.shape[0]))
    if column:
        right = reshape(right, (right.shape[0], 1))
    try:
        batch = broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ShapeError as error:
        raise explain(error, "matmul", operands) from None
    left = broadcast_to(left, (*batch, *left.shape[-2:]))
    right = broadcast_to(right, (*batch, *right.shape[-2:]))
    found = make1(MATMUL, (left, right))
    if row or column:
        kept = found.shape[:-2] + (() if row else found.shape[-2:-1])
        kept += () if column else found.shape[-1:]
        found = reshape(found, kept)
    return found
