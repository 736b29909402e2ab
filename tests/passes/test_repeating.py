"""What the readers of a group compute again, and what is stored for them."""

from __future__ import annotations

import itertools
import random

import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.passes.cut import Network


def groups(graph: Graph) -> list[list[str]]:
    """Return the ops of each group, without those that only move elements."""
    found = [[n.op.name for r in node.regions for n in r.nodes] for node in graph.nodes]
    moves = ("full", "broadcast_to", "reshape")
    return [[op for op in ops if op not in moves] for ops in found if ops]


def stored(graph: Graph) -> list[str]:
    """Return the ops whose results are stored."""
    results = [t for n in graph.nodes for r in n.regions for t in r.outputs]
    alone = [n for n in graph.nodes if not n.regions]
    return [t.node.op.name for t in results] + [n.op.name for n in alone]


def masked_sums() -> Graph:
    """Return three sums of a product, which is masked and scaled."""
    x, w = gc.input("x", ("N", 64)), gc.input("w", (64, 32))
    h, m = gc.input("h", ("N", 32)), gc.input("m", ("N", 32), dtype="bool")
    g = x @ w
    made = [gc.where(m, g, h), gc.where(m, h, g), g * h]
    return Graph.build([x, w, h, m], [gc.sum(t, 0) for t in made])


def test_sums_of_a_product_mask_it_themselves(show, apply_passes, same_values) -> None:
    graph = apply_passes("simplify,cse", masked_sums())
    fused = apply_passes("fuse", graph)
    show("repeating_sums", fused)
    same_values(graph, fused)
    same_values(graph, apply_passes("lower", fused), 1e-4)


def norm_gradients() -> Graph:
    x, g = gc.input("x", ("N", 64)), gc.input("g", ("N", 64))
    gamma, beta = gc.input("gamma", (64,)), gc.input("beta", (64,))
    y = gc.layer_norm(x, gamma, beta)
    given = [x, gamma, beta]
    return Graph.build([*given, g], [y, *gc.vjp(y, given, g)])


def test_layer_norm_leaves_two_numbers_a_row_for_its_gradients(
    apply_passes, same_values
) -> None:
    graph = apply_passes("decompose,simplify,cse,dce", norm_gradients())
    fused = apply_passes("fuse", graph)
    first, sums = fused.nodes
    assert [str(t.type) for t in first.results] == ["f32[N,1]"] * 2 + ["f32[N,64]"] * 2
    assert [str(t.type) for t in sums.results] == ["f32[64]"] * 2
    same_values(graph, fused, 1e-5)


def test_what_is_costly_is_stored(apply_passes, same_values) -> None:
    x, w = gc.input("x", ("N", 64)), gc.input("w", (64, 32))
    h = gc.tanh(x @ w)
    graph = Graph.build([x, w], [gc.sum(h, 0), gc.sum(h * h, 0)])
    fused = apply_passes("fuse", graph)
    assert stored(fused) == ["tanh", "sum", "sum"]
    same_values(graph, fused)


def test_a_mask_is_stored_if_it_is_smaller(apply_passes) -> None:
    """A bool is a quarter of the tensor that it could be computed from."""
    x, w = gc.input("x", ("N", 64)), gc.input("w", (64, 64))
    h = gc.relu(x @ w)
    g = gc.where(h > 0.0, h @ w, 0.0)
    graph = Graph.build([x, w], [gc.sum(g, 0)])
    assert "greater" in stored(apply_passes("fuse", graph))


def test_what_is_returned_or_multiplied_is_stored_once(
    apply_passes, same_values
) -> None:
    x, w = gc.input("x", ("N", 64)), gc.input("w", (64, 64))
    a = x @ w + 1.0
    graph = Graph.build([x, w], [a, gc.sum(a, 0), gc.sum(a * 2.0, 0), (a * 2.0) @ w])
    fused = apply_passes("fuse", graph)
    assert groups(fused).count(["matmul", "add", "mul"]) == 1
    assert stored(fused).count("add") == stored(fused).count("mul") == 1
    same_values(graph, fused)


@pytest.mark.parametrize("most", [1, 2, 4, 6])
def test_recipes_keep_to_the_bounds_of_a_group(most, apply_passes, same_values) -> None:
    """A chain of sums, each of which could be computed from all inputs before it."""
    w = gc.input("w", ("D", "D"))
    xs = [gc.input(f"x{i}", ("N", "D")) for i in range(6)]
    total, sums = xs[0] @ w, []
    for x in xs[1:]:
        total = total + x
        sums.append(gc.sum(gc.relu(total), 0))
    graph = Graph.build([w, *xs], sums)
    fused = apply_passes(f"fuse{{max_inputs={most + 2},max_ops={most}}}", graph)
    assert max(len(n.inputs) for n in fused.nodes) <= most + 2
    assert all(len(ops) <= most + 1 for ops in groups(fused))
    same_values(graph, fused)


def test_the_cut_is_the_cheapest_of_all() -> None:
    """Beside every way to part a few vertices, in random networks."""
    rng = random.Random(0)
    for _ in range(100):
        edges = [(a, b, rng.randrange(8)) for a in range(6) for b in range(6) if a != b]
        network = Network()
        for edge in edges:
            network.connect(*edge)
        beyond = network.beyond(0, 5)
        sides = [
            {5, *inner}
            for n in range(5)
            for inner in itertools.combinations(range(1, 5), n)
        ]
        costs = [
            sum(w for a, b, w in edges if a not in side and b in side) for side in sides
        ]
        best = [s for s, c in zip(sides, costs, strict=True) if c == min(costs)]
        assert beyond in best
        assert all(beyond <= side for side in best)
