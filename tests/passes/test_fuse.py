"""What fuse puts into one group, and what it must not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node
from graphc.ir.verifier import verify


def matrix(name: str, *shape: str | int) -> gc.Tensor:
    return gc.input(name, shape)


def inside(node: Node) -> list[str]:
    """Return the ops that a node stands for."""
    return [n.op.name for r in node.regions for n in r.nodes] or [node.op.name]


def groups(graph: Graph) -> list[list[str]]:
    return [inside(n) for n in graph.nodes]


def elementwise_chain() -> Graph:
    x = matrix("x", "N", "D")
    return Graph.build([x], [gc.relu(gc.exp(x) * 2.0 + x)])


def softmax() -> Graph:
    x = matrix("x", "N", "D")
    return Graph.build([x], [gc.softmax(x)])


def dense() -> Graph:
    x, w, b = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("b", "K")
    return Graph.build([x, w, b], [gc.relu(gc.matmul(x, w) + b)])


def row_of_reductions() -> Graph:
    """Return a graph of a layer norm: two reductions of rows, one after the other."""
    x = matrix("x", "N", "D")
    mean, var = (f(x, 1, keepdims=True) for f in (gc.mean, gc.var))
    return Graph.build([x], [(x - mean) / gc.sqrt(var + 1e-5)])


def both_read_and_returned() -> Graph:
    x = matrix("x", "N", "D")
    h = gc.exp(x)
    return Graph.build([x], [h, gc.relu(h - 1.0)])


def transposed_operand() -> Graph:
    x, w = matrix("x", "N", "D"), matrix("w", "K", "D")
    return Graph.build([x, w], [gc.matmul(x, w.T) * 2.0])


ONE_GROUP = [
    elementwise_chain,
    softmax,
    dense,
    row_of_reductions,
    both_read_and_returned,
    transposed_operand,
]


@pytest.mark.parametrize("make", ONE_GROUP, ids=lambda f: f.__name__)
def test_one_group(make: Callable[[], Graph], apply_passes, same_values) -> None:
    graph = apply_passes("decompose,simplify,cse", make())
    fused = apply_passes("fuse", graph)
    assert [n.op.name for n in fused.nodes] == ["fused"]
    assert len(apply_passes("lower", fused).nests) == 1
    same_values(graph, fused)


def test_an_output_that_a_group_reads_is_one_of_its_results(show, apply_passes) -> None:
    graph = both_read_and_returned()
    show("fuse_output_inside", graph, apply_passes("fuse", graph))


def two_layers() -> Graph:
    x, w, v = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("v", "K", "D")
    h = gc.relu(gc.matmul(x, w) + 1.0)
    return Graph.build([x, w, v], [gc.relu(gc.matmul(h, v) + 1.0)])


def product_of_products() -> Graph:
    x, w, v = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("v", "D", "K")
    return Graph.build([x, w, v], [gc.matmul(x, w) * gc.matmul(x, v)])


def two_heads() -> Graph:
    x, w, v = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("v", "D", "K")
    return Graph.build([x, w, v], [gc.matmul(x, w) + 1.0, gc.matmul(x, v) + 1.0])


@pytest.mark.parametrize("make", [two_layers, product_of_products, two_heads])
def test_two_contractions_are_never_one_group(make, apply_passes, same_values) -> None:
    graph = make()
    fused = apply_passes("fuse", graph)
    counts = [names.count("matmul") for names in groups(fused)]
    assert sorted(counts) == [1, 1]
    same_values(graph, fused)


def test_what_a_contraction_reads_is_computed_once_before_it(apply_passes) -> None:
    x, w = matrix("x", "N", "D"), matrix("w", "D", "K")
    fused = apply_passes("fuse", Graph.build([x, w], [gc.matmul(gc.exp(x) + 1.0, w)]))
    assert [sorted({*g} - {"full"}) for g in groups(fused)] == [
        ["add", "exp"],
        ["matmul"],
    ]


def test_ops_that_move_elements_are_repeated_in_every_group(apply_passes, same_values):
    x, w, b = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("b", "K")
    v = matrix("v", "K", "K")
    h = gc.relu(gc.matmul(x, w) + b)
    graph = Graph.build([x, w, b, v], [gc.matmul(h, v) + b])
    assert graph.count("broadcast_to") == 1
    fused = apply_passes("fuse", graph)
    assert ["broadcast_to" in g for g in groups(fused)] == [True, True]
    same_values(graph, fused)


def test_costly_work_is_not_computed_twice(apply_passes) -> None:
    x, w = matrix("x", "N", "D"), matrix("w", "D", "D")
    h = gc.exp(x)
    graph = Graph.build([x, w], [gc.matmul(h, w), gc.sum(h, 0), gc.sum(h, 1), h * 2.0])
    assert apply_passes("fuse", graph).count("exp") == 1


def batch_norm_gradient() -> Graph:
    """Return a graph whose product is summed up in three ways behind a mask."""
    x, w = matrix("x", "N", "D"), matrix("w", "D", "K")
    y, z = matrix("y", "N", "K"), matrix("z", "N", "K")
    g = gc.where(y > 0.0, gc.matmul(x, w), 0.0)
    centred = g * 3.0 - gc.mean(g * 3.0, 0)
    sums = gc.sum(g * z, 0), gc.sum(g * 2.0, 0)
    return Graph.build([x, w, y, z], [centred, *sums])


def test_sums_compute_what_they_add_up_from_one_stored_product(
    apply_passes, same_values
) -> None:
    graph = apply_passes("decompose,simplify,cse", batch_norm_gradient())
    fused = apply_passes("fuse", graph)
    product, sums = groups(fused)
    assert "matmul" in product
    assert "mul" not in product
    assert sums.count("sum") == 3
    assert len(fused.nodes[0].results) == 1
    same_values(graph, fused)


def test_an_epilogue_stays_where_its_readers_would_read_more(apply_passes) -> None:
    x, w, b = matrix("x", "N", "D"), matrix("w", "D", "K"), matrix("b", "N", "K")
    graph = Graph.build([x, w, b], [gc.sum(gc.matmul(x, w) * b, 0)])
    assert "mul" in groups(apply_passes("fuse", graph))[0]


def test_a_path_through_an_op_outside_keeps_two_groups_apart(
    apply_passes, same_values
) -> None:
    """The ends of `exp -> reshape -> add` may not join: the group would need itself."""
    x = matrix("x", 4, 4)
    a = gc.exp(x)
    around = gc.reshape(gc.reshape(a, (2, 8)) * 2.0, (4, 4))
    graph = Graph.build([x], [gc.relu(a + around)])
    fused = apply_passes("fuse", graph)
    verify(fused)
    assert all({"exp", "add"} - {*g} for g in groups(fused))
    assert ["add", "relu"] in groups(fused)
    same_values(graph, fused)


def test_two_paths_that_cross_do_not_make_a_cycle_of_groups(
    apply_passes, same_values
) -> None:
    """Joining both pairs `a, d` and `b, c` would let each group wait for the other."""
    x, y = matrix("x", 4, 4), matrix("y", 4, 4)
    a, b = gc.exp(x), gc.tanh(y)
    c = b + gc.reshape(gc.reshape(a, (16,)), (4, 4))
    d = a + gc.reshape(gc.reshape(b, (16,)), (4, 4))
    graph = Graph.build([x, y], [c, d])
    fused = apply_passes("fuse", graph)
    verify(fused)
    same_values(graph, fused)
    same_values(graph, apply_passes("lower", fused), 1e-6)


def wide_sum() -> Graph:
    xs = [matrix(f"x{i}", "N") for i in range(8)]
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return Graph.build(xs, [total])


def ladder() -> Graph:
    """Return a graph that returns every value of a chain."""
    steps = [matrix("x", "N")]
    for _ in range(6):
        steps.append(gc.tanh(steps[-1]))
    return Graph.build(steps[:1], steps[1:])


@pytest.mark.parametrize("most", [2, 3, 5, 8])
def test_a_group_reads_at_most_max_inputs(most, apply_passes, same_values) -> None:
    graph = wide_sum()
    fused = apply_passes(f"fuse{{max_inputs={most}}}", graph)
    assert max(len(n.inputs) for n in fused.nodes) == most
    same_values(graph, fused)


@pytest.mark.parametrize("most", [1, 2, 4])
def test_a_group_writes_at_most_max_outputs(most, apply_passes, same_values) -> None:
    graph = ladder()
    fused = apply_passes(f"fuse{{max_outputs={most}}}", graph)
    assert max(len(n.results) for n in fused.nodes) == most
    same_values(graph, fused)


@pytest.mark.parametrize("most", [1, 3, 7])
def test_a_group_holds_at_most_max_ops(most, apply_passes, same_values) -> None:
    graph = wide_sum()
    fused = apply_passes(f"fuse{{max_ops={most}}}", graph)
    assert max(len(inside(n)) for n in fused.nodes) == most
    same_values(graph, fused)


def test_ops_without_a_nest_of_their_own_kind_stay_alone(apply_passes) -> None:
    x, i = matrix("x", 6, 4), gc.input("i", (3,), "int32")
    grad = gc.grad(gc.sum(gc.exp(gc.take(x, i))), x)
    fused = apply_passes("simplify,fuse", Graph.build([x, i], [grad * 2.0]))
    assert ["scatter_add"] in groups(fused)
