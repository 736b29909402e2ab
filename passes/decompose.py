"""decompose: ops that are graphs of simpler ops become those graphs.

    %1 = mean(%x) {axis=[0]}        %1 = sum(%x) {axis=[0]}
                            =>      %2 = div(%1, N)

softmax, mean, var and their kind have a stable form and a gradient of their own,
and need neither any more when the graph is lowered; as simpler ops they join their
neighbours in fusion. Functions with a custom gradient are inlined, and so are groups
within groups. Values agree within rounding.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.graph import Graph, with_inputs
from graphc.ir.nodes import Node, Region, Tensor, make
from graphc.ir.op import Decomposed
from graphc.ops.regions import CUSTOM_GRADIENT, FUSED, inline
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
        found = node.op.lower.rule(node.attrs, *inputs)
        return (found,) if isinstance(found, Tensor) else found
    if node.op is FUSED:
        region = _flat(node.regions[0])
        if region is not node.regions[0]:
            return make(FUSED, inputs, regions=(region,))
    return None


def _flat(region: Region) -> Region:
    """Return a group's region with its own pieces taken apart."""
    if not any(map(_has_pieces, region.nodes)):
        return region
    new: dict[Tensor, Tensor] = {}
    for node in region.nodes:
        inputs = tuple(new.get(t, t) for t in node.inputs)
        if node.op is FUSED:
            results: Sequence[Tensor] = inline(node.regions[0], inputs)
        else:
            results = _pieces(node, inputs) or with_inputs(node, inputs).results
        new.update(zip(node.results, results, strict=True))
    return Region(region.args, [new.get(t, t) for t in region.outputs])


def _has_pieces(node: Node) -> bool:
    return node.op in (FUSED, CUSTOM_GRADIENT) or isinstance(node.op.lower, Decomposed)
