"""Determinants of matrices, and their logarithms."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.ir.nodes import Node, Tensor, make, make1
from graphc.ir.op import Op, Routine, Types, public, register
from graphc.ir.program.routines import LibraryRoutine, register_routine
from graphc.ir.types import TensorType
from graphc.ops.batching import batch_leading
from graphc.ops.broadcast import broadcast_to
from graphc.ops.library import by_routine
from graphc.ops.linalg import (
    SOLVE,
    batch_axes,
    each_matrix,
    factoring,
    floats,
    identity,
    matrices,
)
from graphc.ops.linear import swap
from graphc.ops.shape import reshape


def _det_infer(types: Types, _: Any) -> TensorType:
    return types[0].with_shape(batch_axes(types))


def _slogdet_infer(types: Types, attrs: Any) -> Types:
    return (_det_infer(types, attrs), _det_infer(types, attrs))


def _spread(g: Tensor, like: Tensor) -> Tensor:
    return broadcast_to(reshape(g, (*g.shape, 1, 1)), like.shape)


def _inverse_transposed(a: Tensor) -> Tensor:
    return make1(SOLVE, (swap(a), identity(a)))


def _det_gradient(node: Node, cotangents: Any) -> Any:
    (g,), (a,) = cotangents, node.inputs
    if g is None:
        return [None]
    return [_spread(g * node.results[0], a) * _inverse_transposed(a)]


def _slogdet_gradient(node: Node, cotangents: Any) -> Any:
    (_, g), (a,) = cotangents, node.inputs
    if g is None:
        return [None]
    return [_spread(g, a) * _inverse_transposed(a)]


register_routine(
    LibraryRoutine(
        "det", lambda arrays, o: [np.linalg.det(each_matrix(o, *arrays)[0])], factoring
    )
)
register_routine(
    LibraryRoutine(
        "slogdet",
        lambda arrays, o: list(np.linalg.slogdet(each_matrix(o, *arrays)[0])),
        factoring,
    )
)
_DET, _SLOGDET = Routine("det", matrices), Routine("slogdet", matrices)
DET = register(
    Op(
        name="det",
        infer=_det_infer,
        evaluate=by_routine(_DET, _det_infer),
        gradient=_det_gradient,
        lower=_DET,
        doc="y = determinant of a;  da = g y a^-T, NaN if a is singular",
        batch=batch_leading,
    )
)
SLOGDET = register(
    Op(
        name="slogdet",
        infer=_slogdet_infer,
        evaluate=by_routine(_SLOGDET, _slogdet_infer),
        gradient=_slogdet_gradient,
        lower=_SLOGDET,
        doc="s, y = sign of the determinant of a, log of its magnitude;  da = g a^-T",
        batch=batch_leading,
    )
)


@public
def det(a: Any) -> Tensor:
    """Return the determinant of square matrices.

    Its gradient is NaN where a is singular. On the cpu it needs
    `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N] -> [...]
    Math:    da = g det(a) a^-T
    Raises:  ShapeError if a is not square.
    Example:
        >>> import graphc
        >>> a = graphc.constant([[2.0, 0.0], [0.0, 4.0]])
        >>> float(graphc.evaluate(graphc.det(a)))
        8.0
    """
    return make1(DET, floats(a))


@public
def slogdet(a: Any) -> tuple[Tensor, Tensor]:
    """Return the sign of determinants, and the logarithm of their magnitudes.

    (0, -inf) for a singular matrix. On the cpu it needs `pip install "graphc[linalg]"`.

    Shapes:  a [..., N, N] -> [...], [...]
    Math:    det(a) = sign exp(y);  da = g a^-T
    Raises:  ShapeError if a is not square.
    Example:
        >>> import graphc
        >>> sign, y = graphc.slogdet(graphc.constant([[-1.0, 0.0], [0.0, 1.0]]))
        >>> float(graphc.evaluate(sign)), float(graphc.evaluate(y))
        (-1.0, 0.0)
    """
    sign, y = make(SLOGDET, floats(a))
    return sign, y
