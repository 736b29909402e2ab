"""Passes on scans: merge-scans, hoist, dce, and passes within bodies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.control.scan_op import SCAN
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Tensor
from graphc.ir.program.verifier import verify_program

SIMPLE = "simplify,decompose,cse"


def scans(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op is SCAN]


def inside(graph: Graph, op: str) -> int:
    return sum(n.op.name == op for s in scans(graph) for n in s.regions[0].nodes)


def network(dtype: str = "float64") -> tuple[list[Tensor], Tensor]:
    """Return inputs and loss of a recurrent network with an output at each step."""
    x = gc.input("x", ("N", 2, "D"), dtype)
    w, u, v = (
        gc.input(n, s, dtype)
        for n, s in (("w", ("D", 4)), ("u", (4, 4)), ("v", (4, "K")))
    )

    def body(h: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        new = gc.tanh(row @ w + h @ u)
        return new, gc.softmax(new @ v)

    _, ys = gc.scan(body, gc.zeros((2, 4), dtype), x)
    return [x, w, u, v], gc.mean(ys * ys)


def test_the_loops_of_a_loss_and_its_gradient_become_one(apply_passes, same_values):
    inputs, loss = network()
    graph = Graph.build(inputs, [loss, *gc.grad(loss, inputs)])
    merged = apply_passes(f"{SIMPLE},merge-scans,dce", graph)
    assert len(scans(graph)) == 3
    assert len(scans(merged)) == 2
    same_values(graph, merged)


def test_scans_that_carry_something_else_are_not_merged(apply_passes) -> None:
    x = gc.input("x", ("N", "D"))
    zero = gc.zeros((x.shape[1],))
    a, _ = gc.scan(lambda c, v: (c + v, None), zero, x)
    b, _ = gc.scan(lambda c, v: (c - v, None), zero, x)
    c, _ = gc.scan(lambda c, v: (c + v, None), zero, x, reverse=True)
    graph = Graph.build([x], [a, b, c])
    assert apply_passes("cse,merge-scans", graph) is graph


def test_a_scan_that_reads_the_other_is_not_merged(apply_passes, same_values) -> None:
    x = gc.input("x", ("N", "D"))
    zero = gc.zeros((x.shape[1],))
    last, sums = gc.scan(lambda c, v: (c + v, c + v), zero, x)
    again, _ = gc.scan(lambda c, v: (c + v[0], v[1] * last), zero, (x, sums))
    graph = Graph.build([x], [last, again])
    merged = apply_passes("cse,merge-scans", graph)
    same_values(graph, merged)


def test_one_product_a_step_is_left_in_each_loop(apply_passes, same_values) -> None:
    """That of the carry; those of inputs, outputs and weights are outside."""
    inputs, loss = network()
    graph = Graph.build(inputs, [loss, *gc.grad(loss, inputs)])
    before = apply_passes(f"{SIMPLE},merge-scans,dce", graph)
    after = apply_passes("hoist,simplify,cse,dce", before)
    assert inside(before, "matmul") == 9
    assert inside(after, "matmul") == 2
    same_values(before, after, 1e-12)


def test_a_sum_over_steps_of_a_bias_leaves_with_the_products(
    apply_passes, same_values
) -> None:
    x, w, b = gc.input("x", ("N", 2, 3)), gc.input("w", (3, 3)), gc.input("b", (3,))
    last, _ = gc.scan(lambda c, v: (gc.tanh(c @ w + v + b), None), x[0], x)
    graph = Graph.build([x, w, b], gc.grad(gc.sum(last), [w, b]))
    after = apply_passes(f"{SIMPLE},merge-scans,dce,hoist,dce", graph)
    _, backward = scans(after)
    assert backward.attrs.carries == 1
    assert inside(after, "sum") == 0
    same_values(graph, after, 1e-4)


def test_parts_that_a_product_joins_are_joined_in_the_loop(
    apply_passes, same_values
) -> None:
    """The stack is that of the whole: no copy joins stacks of the parts."""
    x, w, u = gc.input("x", ("N", 2, 4)), gc.input("w", (8, 3)), gc.input("u", (4, 4))

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        a = gc.tanh(c @ u + v)
        b = gc.sin(a)
        return a * b, gc.concatenate([a, b], axis=1) @ w

    _, ys = gc.scan(body, x[0], x)
    graph = Graph.build([x, w, u], [ys])
    after = apply_passes("cse,hoist,dce", graph)
    assert inside(after, "matmul") == inside(after, "concatenate") == 1
    (loop,) = scans(after)
    assert [t.shape[1:] for t in loop.results] == [(4,), (2, 8)]
    same_values(graph, after, 1e-5)


def test_elementwise_work_stays_in_the_loop(apply_passes) -> None:
    x = gc.input("x", ("N", "D"))
    last, ys = gc.scan(lambda c, v: (c * 0.5 + gc.exp(v), gc.log(v)), x[0], x)
    graph = Graph.build([x], [last, ys])
    assert apply_passes("cse,hoist", graph) is graph


def test_a_contraction_over_the_carry_stays(apply_passes) -> None:
    w = gc.input("w", (3, 3))
    last, _ = gc.scan(lambda c, _: (c @ w, None), gc.ones((2, 3)), length=5)
    graph = Graph.build([w], [last])
    assert apply_passes("cse,hoist", graph) is graph


def test_dce_drops_carries_results_and_inputs_that_nothing_needs(
    apply_passes, same_values
) -> None:
    x, y = gc.input("x", ("N", "D")), gc.input("y", ("N", "D"))
    zero = gc.zeros((x.shape[1],))

    def body(c: Any, v: Any) -> Any:
        return (c[0] + v[0], c[1] * v[1], c[2] + c[0]), (c[1], c[2])

    (a, _b, _c), (_d, e) = gc.scan(body, (zero, zero, zero), (x, y))
    small = apply_passes("dce", Graph.build([x, y], [e]))
    (node,) = scans(small)
    assert (node.attrs.carries, node.attrs.steps, len(node.results)) == (2, 1, 3)
    same_values(Graph.build([x, y], [e]), small)
    (node,) = scans(apply_passes("dce", Graph.build([x, y], [a])))
    assert (node.attrs.carries, node.attrs.steps, len(node.results)) == (1, 1, 1)


def test_passes_work_within_bodies(apply_passes, same_values) -> None:
    x = gc.input("x", ("N", "D"))

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        return c * 1.0 + v, gc.cond(gc.sum(v) > 0.0, lambda: v * 1.0 * 1.0, lambda: -v)

    last, ys = gc.scan(body, gc.zeros((x.shape[1],)), x)
    graph = Graph.build([x], [last, ys])
    simple = apply_passes("simplify", graph)
    assert graph.count("mul") == 3
    assert simple.count("mul") == 0
    same_values(graph, simple)


@pytest.mark.parametrize("steps", ["N", 1, 7])
def test_a_scan_lowers_to_one_loop(steps: Any, apply_passes, same_values) -> None:
    x, w = gc.input("x", (steps, 2, "D")), gc.input("w", ("D", "D"))
    last, ys = gc.scan(lambda h, v: (gc.tanh(v + h @ w), gc.sort(h, 0)), x[0], x)
    graph = Graph.build([x, w], [last, ys])
    program = apply_passes("default", graph)
    verify_program(program)
    assert [type(s).__name__ for s in program.body].count("Loop") == 1
    same_values(graph, program, 1e-5)


def test_carries_that_swap_take_a_copy(apply_passes, same_values) -> None:
    x = gc.input("x", ("N", "D"))
    zero = gc.zeros((x.shape[1],))
    (a, b), ys = gc.scan(lambda c, v: ((c[1], c[0] + v), c[0]), (zero, zero + 1.0), x)
    graph = Graph.build([x], [a, b, ys])
    same_values(graph, apply_passes("default", graph), 1e-5)
    given = np.arange(12, dtype=np.float32).reshape(6, 2)
    step = gc.compile(graph)
    for found, expected in zip(
        step(given), gc.evaluate([a, b, ys], {x: given}), strict=True
    ):
        np.testing.assert_allclose(found, expected, 1e-6)
