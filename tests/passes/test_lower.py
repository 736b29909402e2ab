"""From graphs to programs: nests, views, and states that are written in place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.backends.reference.interpreter import run_graph
from graphc.errors import LoweringError
from graphc.ir.graph import Graph
from graphc.ir.program import Nest
from graphc.ir.program.verifier import verify_program

PASSES = "decompose,simplify,cse,fuse,lower"


def vector(name: str) -> gc.Parameter:
    return gc.parameter(name, (3,))


def square(name: str) -> gc.Parameter:
    return gc.parameter(name, (4, 4))


# --- states ---------------------------------------------------------------------------


def step_of_descent() -> Graph:
    w, g = vector("w"), gc.input("g", (3,))
    return Graph.build([g], [], [(w, w - 0.1 * g)])


def softmax_of_rows() -> Graph:
    w = square("w")
    return Graph.build([], [], [(w, gc.softmax(w))])


def old_value_returned() -> Graph:
    p = vector("p")
    return Graph.build([], [p], [(p, p + 1.0)])


def old_value_through_a_view() -> Graph:
    p = vector("p")
    return Graph.build([], [gc.reshape(p, (3, 1))], [(p, p + 1.0)])


def old_value_summed() -> Graph:
    p, q = vector("p"), vector("q")
    return Graph.build([], [gc.sum(p * q)], [(p, p + q)])


def old_value_in_another_update() -> Graph:
    p, q = vector("p"), vector("q")
    return Graph.build([], [], [(p, p + 1.0), (q, q * p)])


def new_value_returned() -> Graph:
    p = vector("p")
    new = p + 1.0
    return Graph.build([], [new, new * 2.0], [(p, new)])


def one_value_for_two() -> Graph:
    p, q = vector("p"), vector("q")
    new = p * q
    return Graph.build([], [new, new], [(p, new), (q, new)])


def unchanged() -> Graph:
    p = vector("p")
    return Graph.build([], [p * 2.0], [(p, p)])


def given_by_an_input() -> Graph:
    p, x = vector("p"), gc.input("x", (3,))
    return Graph.build([x], [x, p], [(p, x)])


def swap() -> Graph:
    p, q = vector("p"), vector("q")
    return Graph.build([], [], [(p, q), (q, p)])


def swap_with_arithmetic() -> Graph:
    p, q = vector("p"), vector("q")
    return Graph.build([], [], [(p, q + 1.0), (q, p * 2.0)])


def ring_of_three() -> Graph:
    p, q, r = (vector(n) for n in "pqr")
    return Graph.build([], [p - q], [(p, q), (q, r * 2.0), (r, p + 1.0)])


def own_transpose() -> Graph:
    w = square("w")
    return Graph.build([], [], [(w, w.T + 1.0)])


def own_square() -> Graph:
    w = square("w")
    return Graph.build([], [], [(w, gc.matmul(w, w))])


def own_first_row() -> Graph:
    w = square("w")
    return Graph.build([], [], [(w, w + w[0])])


def own_sum_of_columns() -> Graph:
    w = square("w")
    return Graph.build([], [], [(w, w - gc.mean(w, 0))])


@dataclass(frozen=True)
class Update:
    """A graph that updates states. copies: nests that only copy."""

    graph: Callable[[], Graph]
    beside: bool  # whether a new value is written beside its state first
    copies: int


UPDATES = [
    Update(step_of_descent, beside=False, copies=0),
    Update(softmax_of_rows, beside=False, copies=0),
    Update(old_value_returned, beside=False, copies=1),
    Update(old_value_through_a_view, beside=False, copies=1),
    Update(old_value_summed, beside=False, copies=0),
    Update(old_value_in_another_update, beside=False, copies=0),
    Update(new_value_returned, beside=False, copies=0),
    Update(one_value_for_two, beside=False, copies=0),
    Update(unchanged, beside=False, copies=0),
    Update(given_by_an_input, beside=False, copies=3),
    Update(swap, beside=True, copies=3),
    Update(swap_with_arithmetic, beside=True, copies=1),
    Update(ring_of_three, beside=True, copies=2),
    Update(own_transpose, beside=True, copies=1),
    Update(own_square, beside=True, copies=1),
    Update(own_first_row, beside=True, copies=1),
    Update(own_sum_of_columns, beside=False, copies=0),
]


@pytest.mark.parametrize("update", UPDATES, ids=lambda u: u.graph.__name__)
def test_updates_see_old_values_and_write_in_place_where_they_can(
    update: Update, apply_passes, same_values
) -> None:
    graph = update.graph()
    program = apply_passes(PASSES, graph)
    verify_program(program)
    same_values(graph, program, 1e-6)
    assert any(b.endswith(".next") for b in program.buffers) == update.beside
    assert [n.summary for n in program.nests].count("copy") == update.copies


def test_a_step_of_descent_writes_its_state_and_needs_no_memory(show, apply_passes):
    graph = step_of_descent()
    program = apply_passes(PASSES, graph)
    assert [b for b in program.buffers.values() if b.space == "temp"] == []
    show("lower_in_place", graph, program)


def test_a_swap_takes_one_copy_first(show, apply_passes) -> None:
    graph = swap_with_arithmetic()
    show("lower_swap", graph, apply_passes(PASSES, graph))


@pytest.mark.parametrize(
    "make",
    [softmax_of_rows, own_square, own_first_row, ring_of_three, old_value_summed],
)
def test_a_compiled_update_writes_what_the_reference_says(make) -> None:
    """The interpreter reads a whole nest before it writes; a backend does not."""
    graph = make()
    expected = run_graph(graph, {}, {s: s.value.copy() for s in graph.states}, {})[1]
    gc.compile(graph)()
    for (state, _), value in zip(graph.updates, expected, strict=True):
        np.testing.assert_allclose(state.value, value, 1e-5)


# --- buffers --------------------------------------------------------------------------


def test_a_reshape_is_a_view_and_moves_nothing(apply_passes, same_values) -> None:
    x, w = gc.input("x", ("N", 2, 3)), gc.input("w", (6, "K"))
    graph = Graph.build([x, w], [gc.matmul(gc.reshape(gc.exp(x), ("N", 6)), w)])
    program = apply_passes("fuse,lower", graph)
    (view,) = [b for b in program.buffers.values() if b.view_of]
    assert program.buffers[view.view_of].shape == x.shape
    assert [n.name for n in program.nests] == ["exp", "matmul"]
    same_values(graph, program, 1e-6)


def test_a_reshape_that_only_adds_axes_needs_no_view(apply_passes, same_values) -> None:
    x, b = gc.input("x", ("N", "D")), gc.input("b", ("N",))
    graph = Graph.build([x, b], [x * gc.reshape(b * 2.0, ("N", 1))])
    program = apply_passes("fuse,lower", graph)
    assert len(program.nests) == 1
    assert not any(b.view_of for b in program.buffers.values())
    same_values(graph, program)


def test_outputs_that_nothing_computes_are_copied(apply_passes, same_values) -> None:
    x, p = gc.input("x", ("N", 2)), vector("p")
    table = gc.constant(np.arange(3, dtype=np.float32))
    graph = Graph.build([x], [x, gc.reshape(x, (-1,)), p, table, x])
    program = apply_passes("lower", graph)
    assert program.outputs == ("out0", "out1", "out2", "out3", "out4")
    assert {n.summary for n in program.nests} == {"copy"}
    same_values(graph, program)


def test_a_large_constant_is_a_buffer_and_a_full_is_a_number(apply_passes) -> None:
    x = gc.input("x", ("N", 3))
    table = np.arange(3, dtype=np.float32)
    program = apply_passes("lower", Graph.build([x], [x * 2.0 + gc.constant(table)]))
    (name,) = program.constants
    assert program.buffers[name].space == "constant"
    assert program.constants[name].tolist() == table.tolist()


# --- nests ----------------------------------------------------------------------------


def one_nest(graph: Graph, apply_passes) -> Nest:
    (nest,) = apply_passes(PASSES, graph).nests
    return nest


def test_a_softmax_reduces_twice_and_stores_once(apply_passes) -> None:
    x = gc.input("x", ("N", "D"))
    nest = one_nest(Graph.build([x], [gc.softmax(x)]), apply_passes)
    assert [a.name for a in nest.axes] == ["i0"]
    assert [[r.monoid for r in p.reduces] for p in nest.phases] == [
        ["max"],
        ["sum"],
        [],
    ]
    assert [len(p.stores) for p in nest.phases] == [0, 0, 1]


def test_axes_of_size_one_are_no_loops(apply_passes) -> None:
    x = gc.input("x", (1, "N", 1))
    nest = one_nest(Graph.build([x], [gc.exp(x) + 1.0]), apply_passes)
    assert [str(a.extent) for a in nest.axes] == ["N"]


def test_a_scatter_clears_its_result_first(apply_passes, same_values) -> None:
    x, i = gc.input("x", (2, 3)), gc.input("i", (4,), "int32")
    taken = gc.take(x, i)
    graph = Graph.build([x, i], [gc.grad(gc.sum(taken * taken), x)])
    program = apply_passes(PASSES, graph)
    nest = next(n for n in program.nests if n.name == "scatter_add")
    assert [[s.accumulate for s in p.stores] for p in nest.phases] == [[False], [True]]
    same_values(graph, program, 1e-6)


def test_nests_know_the_lines_and_the_nodes_they_come_from(apply_passes) -> None:
    x, w = gc.input("x", ("N", "D")), gc.input("w", ("D", "K"))
    h = gc.matmul(x, w)
    y = gc.relu(h)
    nest = one_nest(Graph.build([x, w], [y]), apply_passes)
    assert nest.summary == "%0 matmul, relu"
    assert [n.op.name for n in nest.nodes] == ["matmul", "relu"]
    lines = {o.line for o in nest.origins}
    assert lines == {t.node.birth.line for t in (h, y)}


CROSSED = """graph by_hand(%x: f32[4,4]) -> (f32[4], f32[4]) {
  %0: f32[4], %1: f32[4] = fused(%x) {
    (%a0: f32[4,4]):
    %b0: f32[4] = sum(%a0) {axis=[0], keepdims=false}
    %b1: f32[4,4] = broadcast_to(%b0) {shape=[4, 4]}
    %b2: f32[4] = sum(%b1) {axis=[1], keepdims=false}
    yield %b0, %b2
  }  @ model.py:7
  return %0, %1
}"""


def test_a_group_that_is_not_one_nest_is_refused_by_name(golden) -> None:
    with pytest.raises(LoweringError) as error:
        passes.lower.lower(gc.parse(CROSSED))
    golden("passes/lower_errors", str(error.value))
