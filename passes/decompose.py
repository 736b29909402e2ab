"""decompose: ops that are graphs of simpler ops become those graphs.

    %1 = mean(%x) {axis=[0]}        %1 = sum(%x) {axis=[0]}
                            =>      %2 = div(%1, N)

softmax, mean, var and their kind have a stable form and a gradient of their own,
and need neither any more when the graph is lowered; as simpler ops they join their
neighbours in fusion. Functions with a custom gradient are inlined. Values agree
within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Tensor
from graphc.ir.op import Decomposed
from graphc.ops.regions import CUSTOM_GRADIENT, inline
from graphc.passes.registry import graph_pass


@graph_pass("decompose")
def decompose(graph: Graph) -> Graph:
    """Replace decomposed ops by their graphs, until none is left."""
    while True:
        done = graph.transform(_pieces)
        if done is graph:
            return graph
        graph = done


def _pieces(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
    if node.op is CUSTOM_GRADIENT:
        return inline(node.regions[0], inputs)
    if isinstance(node.op.lower, Decomposed):
        return (node.op.lower.rule(node.attrs, *inputs),)
    return None
