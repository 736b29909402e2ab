"""Passes inside regions: the bodies of loops and branches are graphs too."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ir.op import Controlled

Change = Callable[[Graph], Graph]


def everywhere(graph: Graph, change: Change) -> Graph:
    """Apply a change to the bodies of loops and branches, then to the graph itself.

    A body is changed as a graph from its arguments to its outputs. Inner ones come
    first; the same object is returned if nothing changed.
    """
    if not any(isinstance(n.op.lower, Controlled) for n in graph.nodes):
        return change(graph)

    def rebuilt(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        if not isinstance(node.op.lower, Controlled):
            return None
        regions = [_inside(r, change) for r in node.regions]
        if all(a is b for a, b in zip(regions, node.regions, strict=True)):
            return None
        return Node(node.op, inputs, node.attrs, node.types, regions).results

    return change(graph.transform(rebuilt))


def _inside(region: Region, change: Change) -> Region:
    body = Graph("body", region.args, region.outputs)
    done = everywhere(body, change)
    return region if done is body else Region(region.args, done.outputs)
