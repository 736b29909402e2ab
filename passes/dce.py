"""dce: results of groups and loops that nobody reads go away.

    %1, %2 = fused(%x) {...}        %1 = fused(%x) {...}
    return %1               =>      return %1

A Graph holds only nodes that its outputs and updates reach, so what is left to do
is inside: unused results of fused groups, and of scans those results, carries and
inputs that what is used does not need. Preserves every value bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.control.scan_op import SCAN
from graphc.control.tidy import tidy
from graphc.ir.graph import Graph, with_inputs
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ops.regions import FUSED
from graphc.passes.registry import graph_pass


@graph_pass("dce")
def dce(graph: Graph) -> Graph:
    """Drop unused results of groups, and arguments that nothing reads."""
    used = {t for n in graph.nodes for t in n.inputs} | set(graph.roots)

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        if node.op is SCAN:
            live = [i for i, r in enumerate(node.results) if r in used]
            return tidy(with_inputs(node, inputs).results, live)
        if node.op is not FUSED or all(r in used for r in node.results):
            return None
        region = node.regions[0]
        live = [i for i, r in enumerate(node.results) if r in used]
        small = Region(region.args, [region.outputs[i] for i in live])
        reads = {t for n in small.nodes for t in n.inputs} | set(small.outputs)
        kept = [i for i, a in enumerate(small.args) if a in reads]
        small = Region([small.args[i] for i in kept], small.outputs)
        types = [t.type for t in small.outputs]
        made = Node(FUSED, [inputs[i] for i in kept], node.attrs, types, [small])
        results = list(node.results)
        for i, result in zip(live, made.results, strict=True):
            results[i] = result
        return results

    return graph.transform(change)
