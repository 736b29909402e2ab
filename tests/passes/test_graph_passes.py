"""Passes from graphs to graphs: what each makes of a small graph, and what it keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.ir.graph import Graph
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Region, Tensor, make
from graphc.ops.regions import FUSED


@dataclass(frozen=True)
class Example:
    """A graph that a pass changes. rtol: how far values may move; 0 for no bit."""

    graph: Callable[[], Graph]
    rtol: float = 0.0


def _x() -> Tensor:
    return gc.input("x", ("N", "D"))


def double_negation() -> Graph:
    x = _x()
    return Graph.build([x], [-gc.neg(x * 1.0) + 0.0])


def log_of_a_softmax() -> Graph:
    x = _x()
    return Graph.build([x], [gc.log(gc.softmax(x)), gc.log(1 + gc.exp(x))])


def product_of_constants() -> Graph:
    x = gc.input("x", ("N", 2))
    two, table = gc.constant(2.0), gc.constant(np.array([0.0, 1.0], np.float32))
    return Graph.build([x], [x * gc.exp(two) + two * gc.exp(table)])


def mean_of_rows() -> Graph:
    x = _x()
    return Graph.build([x], [gc.mean(x, axis=0)])


def equal_halves() -> Graph:
    """Return a graph with two equal nodes; `build` would have merged them."""
    x = _x()
    return Graph("graph", [x], [gc.exp(x) + gc.exp(x)])


def half_used_group() -> Graph:
    """Return a graph whose group computes exp(x), which is used, and log(y)."""
    x, y = _x(), gc.input("y", ("N", "D"))
    a, b = make_args([x.type, y.type])
    both = make(FUSED, (x, y), regions=(Region([a, b], [gc.log(b), gc.exp(a)]),))
    return Graph.build([x, y], [both[1]])


def dense() -> Graph:
    x, w, b = _x(), gc.input("w", ("D", "K")), gc.input("b", ("K",))
    return Graph.build([x, w, b], [gc.relu(gc.matmul(x, w) + b)])


def recurrence() -> Graph:
    """Return a graph with a product of inputs, of the carry, and of outputs."""
    x, w, u, v = (
        gc.input(n, s)
        for n, s in (("x", ("N", 2, 3)), ("w", (3, 4)), ("u", (4, 4)), ("v", (4, 5)))
    )

    def body(h: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        new = gc.tanh(row @ w + h @ u)
        return new, new @ v

    _, ys = gc.scan(body, gc.zeros((2, 4)), x)
    return Graph.build([x, w, u, v], [ys])


def two_loops() -> Graph:
    """Return a graph with two scans that carry the same and stack different things."""
    x = gc.input("x", ("N", "D"))
    zero = gc.zeros((x.shape[1],))
    _, sums = gc.scan(lambda c, v: (c + v, c + v), zero, x)
    last, squares = gc.scan(lambda c, v: (c + v, c * v), zero, x)
    return Graph.build([x], [sums, last, squares])


def stacked_steps() -> Graph:
    """Return a graph of products with what a loop stacks, the batch first."""
    x, w = gc.input("x", (2, "N", 3)), gc.input("w", (3, 4))
    _, ys = gc.scan(lambda c, row: (c + row, c), gc.zeros(x.shape[1:]), x)
    rows = gc.reshape(gc.swapaxes(ys, 0, 1), (2 * x.shape[1], 3))
    return Graph.build([x, w], [gc.sum(gc.exp(rows @ w), axis=0)])


EXAMPLES = {
    "simplify": Example(double_negation),
    "stabilize": Example(log_of_a_softmax, 1e-6),
    "constant-fold": Example(product_of_constants),
    "decompose": Example(mean_of_rows, 1e-6),
    "cse": Example(equal_halves),
    "dce": Example(half_used_group),
    "merge-scans": Example(two_loops),
    "hoist": Example(recurrence, 1e-4),
    "sink": Example(stacked_steps, 1e-6),
    "fuse": Example(dense),
}


def test_every_graph_pass_of_the_default_has_an_example() -> None:
    assert set(EXAMPLES) == set(passes.pipeline.GRAPH_PASSES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_shows_what_it_does(name, apply_passes, show) -> None:
    graph = EXAMPLES[name].graph()
    show(name, graph, apply_passes(name, graph))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_keeps_every_value(name, apply_passes, same_values) -> None:
    graph = EXAMPLES[name].graph()
    same_values(graph, apply_passes(name, graph), EXAMPLES[name].rtol)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_with_nothing_to_do_returns_the_same_object(name, apply_passes) -> None:
    x = gc.input("x", ("N",))
    idle = Graph.build([x], [gc.exp(x)])
    assert apply_passes(name, idle) is idle
    done = apply_passes(name, EXAMPLES[name].graph())
    assert apply_passes(name, done) is done


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_pass_keeps_inputs_states_and_what_is_updated(name, apply_passes) -> None:
    x = gc.input("x", ("N", 3))
    w = gc.parameter("w", (3,))
    unused = gc.parameter("unused", (2,))
    loss = gc.mean(gc.log(1 + gc.exp(-gc.neg(x * w))))
    graph = Graph.build(
        [x], [loss], [(w, w - gc.grad(loss, w)), (unused, unused * 2.0)]
    )
    after = apply_passes(name, graph)
    assert [*map(id, after.inputs)] == [*map(id, graph.inputs)]
    assert [*map(id, after.states)] == [*map(id, graph.states)]
    assert [id(s) for s, _ in after.updates] == [id(s) for s, _ in graph.updates]
    assert [t.type for t in after.roots] == [t.type for t in graph.roots]


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_a_pass_makes_knows_the_users_line(name, apply_passes) -> None:
    after = apply_passes(name, EXAMPLES[name].graph())
    for node in after.nodes:
        assert after.origin(node).place.startswith("test_graph_passes.py:")


# --- simplify -------------------------------------------------------------------------


def test_simplify_drops_movement_that_moves_nothing(apply_passes) -> None:
    x = gc.input("x", (4, 3))
    same = [
        gc.reshape(x, (4, 3)),
        gc.transpose(gc.transpose(x)),
        gc.cast(x, "float32"),
        gc.broadcast_to(x, (4, 3)),
        x[:, :],
        gc.sum(x, ()),
    ]
    for y in same:
        done = apply_passes("simplify", Graph.build([x], [y]))
        assert len(done) == 0, done
        assert done.outputs[0] is x


def test_simplify_moves_the_value_of_a_full_at_once(apply_passes) -> None:
    x = gc.input("x", ("N", 3))
    one = gc.transpose(gc.broadcast_to(gc.reshape(gc.ones((3,)), (3, 1)), (3, 5)))
    done = apply_passes("simplify", Graph.build([x], [one]))
    assert [n.op.name for n in done.nodes] == ["full"]
    assert done.outputs[0].shape == (5, 3)


def test_simplify_goes_on_where_one_identity_opens_another(apply_passes) -> None:
    x = gc.input("x", ("N",))
    y = -gc.neg(x) * 1.0
    done = apply_passes(
        "simplify", Graph.build([x], [y - (gc.reshape(y, y.shape) * 0.0)])
    )
    assert [n.op.name for n in done.nodes] == ["full", "mul", "sub"]


def test_simplify_does_not_hide_a_nan(apply_passes) -> None:
    x = gc.input("x", ("N",))
    graph = Graph.build([x], [x * 0.0, x - x, x / x])
    assert apply_passes("simplify", graph) is graph


# --- constant-fold --------------------------------------------------------------------


def test_constant_fold_keeps_results_above_its_limit(apply_passes) -> None:
    x = gc.input("x", (8,))
    table = gc.exp(gc.constant(np.arange(8, dtype=np.float32)))
    graph = Graph.build([x], [x + table])
    assert apply_passes("constant-fold{limit=7}", graph) is graph
    done = apply_passes("constant-fold{limit=8}", graph)
    assert [n.op.name for n in done.nodes] == ["constant", "add"]


def test_constant_fold_computes_in_the_dtype_of_the_node(
    apply_passes, same_values
) -> None:
    x = gc.input("x", ("N",))
    third = gc.full((), 1.0, "float32") / gc.full((), 3.0, "float32")
    graph = Graph.build([x], [x * third])
    done = apply_passes("constant-fold", graph)
    (value,) = (n.attrs.value for n in done.nodes if n.op.name == "full")
    assert value == float(np.float32(1) / np.float32(3))
    same_values(graph, done)


def test_constant_fold_leaves_random_draws_alone(apply_passes) -> None:
    x = gc.input("x", ("N",))
    noise = gc.uniform((3,), seed=7, stream=0)
    graph = Graph.build([x], [gc.sum(x) + noise])
    after = apply_passes("constant-fold", graph)
    assert after.count("random_uniform") == graph.count("random_uniform") == 1


# --- cse ------------------------------------------------------------------------------


def test_cse_tells_zeros_apart_by_their_sign_and_dtypes_by_kind(apply_passes) -> None:
    x = gc.input("x", ("N",))
    zeros = [gc.full((), v, d) for v, d in ((0.0, "float32"), (-0.0, "float32"))]
    zeros += [gc.full((), 0.0, "float64"), gc.full((), 0, "int32")]
    graph = Graph("graph", [x], zeros)
    assert apply_passes("cse", graph) is graph


def test_cse_keeps_states_apart_that_look_alike(apply_passes) -> None:
    a, b = (gc.parameter(n, (2,)) for n in "ab")
    graph = Graph("graph", [], [gc.exp(a) + gc.exp(b)])
    assert apply_passes("cse", graph) is graph


# --- decompose ------------------------------------------------------------------------


def test_decompose_leaves_only_ops_with_a_nest(apply_passes, same_values) -> None:
    x = gc.input("x", ("N", "D"))
    ops = (gc.softmax, gc.log_softmax, gc.logsumexp, gc.norm, gc.var, gc.mean)
    graph = Graph.build([x], [f(x) for f in ops])
    done = apply_passes("decompose", graph)
    left = {n.op.name for n in done.nodes}
    assert not left & {f.__name__ for f in ops}
    same_values(graph, done, 1e-6)


def test_decompose_inlines_a_function_with_its_own_gradient(apply_passes) -> None:
    halve = gc.custom_gradient(lambda x: x * 0.5, lambda g, y, x: g)
    x = gc.input("x", ("N",))
    graph = Graph.build([x], [halve(x)])
    assert graph.count("custom_gradient") == 1
    done = apply_passes("decompose", graph)
    assert done.count("custom_gradient") == 0
    assert done.count("mul") == 1
