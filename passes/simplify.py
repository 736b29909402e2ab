"""simplify: identities of arithmetic and of moving elements.

    %1 = mul(%x, 1)
    %2 = neg(%1)            =>      return %x
    %3 = neg(%2)

The equations stand in `rules/`, with what they do to inf and NaN beside them. Nodes
that need no work at all go too: a reshape or a slice to the same shape, a cast to
the same dtype, a sum over no axis. Pieces that lie beside each other are joined, and
windows that are cut off not computed (see `joining.py` and `windows.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.rewrite import rewrite
from graphc.ops.creation import FULL, Full
from graphc.passes.joining import joined_pads, lowered_reshape
from graphc.passes.registry import graph_pass
from graphc.passes.rules import SIMPLIFY
from graphc.passes.windows import narrowed_windows


@graph_pass("simplify")
def simplify(graph: Graph) -> Graph:
    """Apply identities until none is left."""
    while True:
        done = rewrite(graph.transform(_trivial), SIMPLIFY)
        if done is graph:
            return graph
        graph = done


def _trivial(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
    """Drop movement that moves nothing; move a `full` instead of its elements."""
    name = node.op.name
    result = node.results[0]
    if name in ("reshape", "broadcast_to", "transpose", "slice"):
        source = inputs[0].node
        if source.op is FULL:
            old = source.attrs
            return (make1(FULL, (), Full(old.dtype, result.shape, old.value)),)
    if name in ("reshape", "broadcast_to") and inputs[0].type == result.type:
        return (inputs[0],)
    if name == "cast" and inputs[0].node.op is FULL:
        value = result.dtype.numpy.type(inputs[0].node.attrs.value).item()
        if not result.dtype.is_float or inputs[0].dtype.kind != "f":
            return (make1(FULL, (), Full(result.dtype, result.shape, value)),)
    for join in (joined_pads, lowered_reshape, narrowed_windows):
        found = join(node, inputs)
        if found is not None:
            return (found,)
    return None
