"""constant-fold: what depends on constants alone is computed now.

    %1 = full() {value=2.0}
    %2 = full() {value=3.0}         %3 = full() {value=6.0}
    %3 = mul(%1, %2)        =>

The NumPy meaning of the op computes it, in the dtype of the node. Results of more
than `limit` elements stay as they are, random draws and symbolic shapes too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.graph import Graph
from graphc.ir.nodes import Array, Node, Tensor, make1
from graphc.ir.op import Meaning
from graphc.ops.creation import CONSTANT, FULL, Constant, Full
from graphc.ops.random import Draw
from graphc.passes.registry import graph_pass


@dataclass(frozen=True, slots=True)
class Options:
    """limit: the largest result that is computed, in elements."""

    limit: int = 4096


@graph_pass("constant-fold", Options)
def constant_fold(graph: Graph, options: Options) -> Graph:
    """Compute nodes whose inputs are constants."""

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        if not inputs or len(node.results) != 1 or node.regions:
            return None
        if isinstance(node.attrs, Draw):
            return None
        if any(t.node.op not in (CONSTANT, FULL) for t in inputs):
            return None
        result = node.results[0]
        if node.op.scalar is not None and all(t.node.op is FULL for t in inputs):
            value = _compute(node, [_scalar(t) for t in inputs]).item()
            return (make1(FULL, (), Full(result.dtype, result.shape, value)),)
        if not all(isinstance(s, int) for t in (*inputs, result) for s in t.shape):
            return None
        sizes = [s for s in result.shape if isinstance(s, int)]
        if math.prod(sizes) > options.limit:
            return None
        array = _compute(node, [_array(t) for t in inputs])
        if array.ndim == 0:
            return (make1(FULL, (), Full(result.dtype, (), array.item())),)
        return (make1(CONSTANT, (), Constant(Array(array))),)

    return graph.transform(change)


def _scalar(tensor: Tensor) -> np.ndarray[Any, Any]:
    return np.array(tensor.node.attrs.value, tensor.dtype.numpy)


def _array(tensor: Tensor) -> np.ndarray[Any, Any]:
    if tensor.node.op is FULL:
        return np.full(tensor.shape, tensor.node.attrs.value, tensor.dtype.numpy)
    value: np.ndarray[Any, Any] = tensor.node.attrs.value.value
    return value


def _compute(node: Node, arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    types = tuple(t.type for t in node.inputs)
    with np.errstate(all="ignore"):
        found = node.op.evaluate(tuple(arrays), Meaning(node.attrs, types, {}))
    if isinstance(found, tuple):  # of an op that may have several results
        (found,) = found
    return np.asarray(found, node.results[0].dtype.numpy)
