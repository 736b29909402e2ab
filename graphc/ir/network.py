"""Graphs as NetworkX graphs, for whoever wants to analyse one with its algorithms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor, leaf_name
from graphc.ir.printer import value_names

if TYPE_CHECKING:
    import networkx


def to_networkx(graph: Graph) -> networkx.MultiDiGraph[str]:
    """Return a graph as a NetworkX multigraph; edges run from producers to users.

    Nodes are named by their first result in the graph's text (`%3`, `%x`) and have
    the attributes `op`, `type`, `phase`, `line` and `node` (the Node itself). An edge
    has `type` and `operand`, the place it takes among its user's inputs. Updates are
    edges from a value to its state with `operand="update"`.

    Example (the longest chain of ops):
        >>> import graphc, networkx
        >>> x = graphc.input("x", ("N",))
        >>> graph = graphc.Graph.build([x], [graphc.exp(x) + x])
        >>> networkx.dag_longest_path(to_networkx(graph))
        ['%x', '%0', '%1']
    """
    import networkx

    names = value_names(graph)
    found: networkx.MultiDiGraph[str] = networkx.MultiDiGraph(name=graph.name)

    def name(tensor: Tensor) -> str:
        return names[tensor.node.results[0]]

    for leaf in (*graph.inputs, *graph.states):
        found.add_node(
            name(leaf),
            op=leaf.node.op.name,
            type=str(leaf.type),
            label=leaf_name(leaf),
            phase="forward",
            line=leaf.node.birth.place,
            node=leaf.node,
        )
    for node in graph.nodes:
        origin = graph.origin(node)
        at = names[node.results[0]]
        found.add_node(
            at,
            op=node.op.name,
            type=str(node.types[0]),
            label=origin.label,
            phase=origin.phase,
            line=origin.place,
            node=node,
        )
        for i, tensor in enumerate(node.inputs):
            found.add_edge(name(tensor), at, type=str(tensor.type), operand=i)
    for state, value in graph.updates:
        attributes: dict[str, Any] = {"type": str(value.type), "operand": "update"}
        found.add_edge(name(value), name(state), **attributes)
    return found
