"""Turning arguments into tensors of one dtype and one shape.

Broadcasting is explicit in the graph: these functions insert `broadcast_to`, `cast`
and `full` nodes, so that elementwise nodes see equal shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.dims import Size, names
from graphc.ir.nodes import Node, Tensor, explain, make1
from graphc.ir.op import FUNCTIONS, Op, Pointwise, Site, Types, public, register
from graphc.ir.scalar import Expr, const
from graphc.ir.types import (
    DType,
    Shape,
    TensorType,
    as_shape,
    bool_,
    float32,
    int32,
    int64,
    promote,
)
from graphc.ops.creation import FULL, Full, cast, concrete, constant


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The shape to repeat to."""

    shape: Shape


def same_shape(types: Types) -> Shape:
    """Return the shape that all types share.

    Raises:  ShapeError naming the first operand that differs.
    """
    for i, other in enumerate(types):
        if other.shape != types[0].shape:
            raise ShapeError(f"shapes differ: {{0}} {types[0]}, {{{i}}} {other}")
    return types[0].shape


@lru_cache(maxsize=1 << 10)
def broadcast_shapes(*shapes: Shape) -> Shape:
    """Return the shape that shapes broadcast to, by NumPy's rule.

    Raises:  ShapeError; operand i is named {i}.
    """
    ndim = max((len(s) for s in shapes), default=0)
    out: list[Size] = []
    for axis in range(-ndim, 0):
        size: Size = 1
        owner = 0
        for i, shape in enumerate(shapes):
            if -axis > len(shape) or shape[axis] == 1:
                continue
            if size == 1:
                size, owner = shape[axis], i
            elif shape[axis] != size:
                raise mismatch(shapes, owner, i, axis)
        out.append(size)
    return tuple(out)


def mismatch(shapes: Sequence[Shape], i: int, j: int, axis: int) -> ShapeError:
    """Return the error for two dimensions that are not equal, or not provably."""
    a, b = shapes[i][axis], shapes[j][axis]
    at, bt = axis + len(shapes[i]), axis + len(shapes[j])
    what = f"{{{i}}}[{at}]={a}, {{{j}}}[{bt}]={b}"
    if names(a) or names(b):
        return ShapeError(
            f"dimensions cannot be proved equal: {what}",
            help="use one name for both if they are the same size",
        )
    return ShapeError(
        f"dimensions differ: {what}", help="only equal sizes, or a size of 1, broadcast"
    )


def _infer(types: Types, attrs: Broadcast) -> TensorType:
    (x,) = types
    try:
        fits = broadcast_shapes(x.shape, attrs.shape) == attrs.shape
    except ShapeError:
        fits = False
    if not fits:
        shape = f"[{','.join(map(str, attrs.shape))}]"
        raise ShapeError(
            f"{{0}} {x} does not broadcast to {shape}",
            help="an axis keeps its size, or is repeated from a size of 1",
        )
    return x.with_shape(attrs.shape)


def _lower(site: Site) -> Expr:
    source = site.types[0].shape
    index = site.index[len(site.index) - len(source) :]
    inner = [
        const(0, int64) if size == 1 else i
        for i, size in zip(index, source, strict=True)
    ]
    return site.load(0, inner)


def _gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    return [None if g is None else sum_to(g, node.inputs[0].shape)]


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Put the axes that are new in the shape behind the leading axis."""
    (x,) = inputs
    shape = (size, *node.attrs.shape)
    ones = (1,) * (len(shape) - x.ndim)
    aligned = FUNCTIONS["reshape"](x, (size, *ones, *x.shape[1:]))
    return [make1(BROADCAST_TO, (aligned,), Broadcast(shape))]


def sum_to(g: Tensor, shape: Shape) -> Tensor:
    """Sum a tensor over the axes along which `shape` was repeated to reach it."""
    lead = g.ndim - len(shape)
    ones = [
        i + lead for i, size in enumerate(shape) if size == 1 and g.shape[i + lead] != 1
    ]
    axes = (*range(lead), *ones)
    if not axes:
        return g
    total: Tensor = FUNCTIONS["sum"](g, axes)
    if total.shape != shape:
        total = FUNCTIONS["reshape"](total, shape)
    return total


BROADCAST_TO = register(
    Op(
        name="broadcast_to",
        attrs=Broadcast,
        infer=_infer,
        evaluate=lambda arrays, m: np.broadcast_to(
            arrays[0], concrete(m.attrs.shape, m)
        ).copy(),
        gradient=_gradient,
        lower=Pointwise(_lower, layout=True),
        doc="y[i, j] = x[j], repeating along new axes and axes of size 1",
        batch=_batch,
    )
)


@public
def broadcast_to(x: Any, shape: Any) -> Tensor:
    """Repeat along new leading axes and along axes of size 1.

    Shapes:  x [D] -> shape [..., D]
    Math:    dx = sum of g over the repeated axes.
    Raises:  ShapeError if x does not broadcast to the shape.
    """
    return _repeated(constant(x), as_shape(shape))


def _repeated(tensor: Tensor, target: Shape) -> Tensor:
    if tensor.shape == target:
        return tensor
    if tensor.node.op is FULL:
        old = tensor.node.attrs
        try:
            _infer((tensor.type,), Broadcast(target))
        except ShapeError as error:
            raise explain(error, "broadcast_to", [tensor]) from None
        return make1(FULL, (), Full(old.dtype, target, old.value))
    return make1(BROADCAST_TO, (tensor,), Broadcast(target))


def weak_dtype(values: Sequence[Any]) -> DType:
    """Return the dtype in which tensors and Python numbers compute together."""
    strong = [v.dtype for v in values if isinstance(v, Tensor)]
    found = promote(*strong) if strong else bool_
    for value in values:
        if isinstance(value, Tensor):
            continue
        if isinstance(value, float) and not found.is_float:
            found = float32
        elif isinstance(value, int) and not isinstance(value, bool) and found is bool_:
            found = int32
    return found


def as_tensors(values: Sequence[Any], shape: Shape = ()) -> list[Tensor]:
    """Turn arrays and numbers into tensors of one dtype; numbers are weak.

    shape: that of what numbers become.
    """
    known = [_known(v) for v in values]
    dtype = weak_dtype(known)
    return [
        cast(v, dtype) if isinstance(v, Tensor) else _filled(v, dtype, shape)
        for v in known
    ]


def _known(value: Any) -> Any:
    """Return a tensor, or a number, which takes its dtype from tensors beside it."""
    return value if isinstance(value, (Tensor, bool, int, float)) else constant(value)


def _filled(value: float | bool, dtype: DType, shape: Shape) -> Tensor:
    exact = {"b": bool, "i": int, "f": float}[dtype.kind](value)
    return make1(FULL, (), Full(dtype, shape, exact))


def broadcast_together(what: str, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Repeat tensors to their common shape; `what` names the op in an error."""
    try:
        shape = broadcast_shapes(*[t.shape for t in tensors])
    except ShapeError as error:
        raise explain(error, what, tensors) from None
    return [_repeated(t, shape) for t in tensors]


def broadcast_arguments(what: str, values: Sequence[Any]) -> list[Tensor]:
    """Turn arguments into tensors of one dtype and one shape."""
    known = [_known(v) for v in values]
    shapes = {v.shape for v in known if isinstance(v, Tensor)}
    shape = shapes.pop() if len(shapes) == 1 else ()
    return broadcast_together(what, as_tensors(known, shape))
