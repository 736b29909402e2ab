"""Graphs for NetworkX."""

import networkx

import graphc


def test_a_training_step_as_a_networkx_graph():
    x = graphc.input("x", ("N", 4))
    w = graphc.parameter("w", (4, 2))
    loss = graphc.mean((x @ w) ** 2.0)
    new = w - 0.1 * graphc.grad(loss, w)
    graph = graphc.Graph.build([x], [loss], [(w, new)])
    found = graph.networkx()
    assert len(found) == len(graph.nodes) + 2
    assert found.nodes["%w"]["op"] == "state"
    updates = [(a, b) for a, b, o in found.edges(data="operand") if o == "update"]
    assert [b for _, b in updates] == ["%w"]
    found.remove_edges_from(updates)
    assert networkx.is_directed_acyclic_graph(found)
    assert networkx.has_path(found, "%x", updates[0][0])
