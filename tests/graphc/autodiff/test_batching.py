"""vmap: every case of the table against a loop over the elements, and its edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ops_table import CASES, Case, Spec, arrays, tensors

import graphc as gc
from graphc import nn
from graphc.errors import ArgumentError, BatchError, UpdateError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import OPS, NonDifferentiable

Array = np.ndarray[Any, Any]
B = 3

RANDOM = {"random_uniform", "random_normal"}  # each element draws its own numbers


def choices(case: Case) -> list[tuple[bool, ...]]:
    """Return which inputs to batch: all of them, and each alone."""
    n = len(case.inputs)
    alone = [tuple(i == k for i in range(n)) for k in range(n)] if n > 1 else []
    return [(True,) * n, *alone]


MAPPED = [
    pytest.param(case, which, id=f"{case.id}-{''.join('01'[w] for w in which)}")
    for case in CASES
    if case.inputs and case.op not in RANDOM
    for which in choices(case)
]


def problem(case: Case, which: tuple[bool, ...]) -> tuple[list[Tensor], list[Array]]:
    """Return inputs of which some are batched, and a sample of them."""
    specs = [
        replace(s, shape=("B", *s.shape)) if w else s
        for s, w in zip(case.inputs, which, strict=True)
    ]
    single = [arrays(case, "float64", seed) for seed in range(B)]
    given = [
        np.stack([one[k] for one in single]) if w else single[0][k]
        for k, w in enumerate(which)
    ]
    return tensors(replace(case, inputs=tuple(specs)), "float64"), given


def several(found: Any) -> tuple[Any, ...]:
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


def looped(case: Case, which: tuple[bool, ...], given: list[Array]) -> list[Array]:
    """Compute the elements one by one."""
    inputs = tensors(case, "float64")
    outputs = list(several(case.function(*inputs)))
    rows = []
    for b in range(B):
        one = [a[b] if w else a for a, w in zip(given, which, strict=True)]
        rows.append(gc.evaluate(outputs, dict(zip(inputs, one, strict=True))))
    return [np.stack(each) for each in zip(*rows, strict=True)]


@pytest.mark.parametrize(("case", "which"), MAPPED)
def test_vmap_is_a_loop(case: Case, which: tuple[bool, ...]) -> None:
    inputs, given = problem(case, which)
    axes = [0 if w else None for w in which]
    if case.op == "fused":
        with pytest.raises(BatchError, match="before it is fused"):
            gc.vmap(case.function, axes)(*inputs)
        return
    found = gc.vmap(case.function, axes)(*inputs)
    values = gc.evaluate(list(several(found)), dict(zip(inputs, given, strict=True)))
    for made, wanted in zip(values, looped(case, which, given), strict=True):
        assert made.dtype == wanted.dtype
        np.testing.assert_allclose(made, wanted, 1e-12, 1e-12)


def test_every_op_has_a_rule_or_needs_none() -> None:
    from graphc.ir.op import Decomposed

    without = {
        op.name
        for op in OPS.values()
        if op.batch is None and op.scalar is None and not op.leaf
        if not isinstance(op.lower, Decomposed)
    }
    assert without == {"full", "constant", "dim", "iota"}  # they read nothing


# Rules that do more than shift an axis, in one step on the CPU.
MOVING = [
    case
    for case in CASES
    if case.op in {"take", "scatter_add", "matmul", "concatenate", "broadcast_to"}
]


def test_cpu_computes_what_reference_does() -> None:
    inputs: list[Tensor] = []
    given: list[Array] = []
    made: dict[str, Tensor] = {}
    for k, case in enumerate(MOVING):
        for which in choices(case):
            own, sample = problem(case, which)
            names = [f"{k}{which}{i}" for i in range(len(own))]
            fresh = [
                gc.input(n, t.shape, t.dtype) for n, t in zip(names, own, strict=True)
            ]
            axes = [0 if w else None for w in which]
            found = several(gc.vmap(case.function, axes)(*fresh))
            made.update({f"{case.id}{which}{i}": t for i, t in enumerate(found)})
            inputs += fresh
            given += sample
    step = gc.compile(inputs, made)
    wanted = gc.evaluate(made, dict(zip(inputs, given, strict=True)))
    for name, value in step(*given).items():
        np.testing.assert_allclose(value, wanted[name], 1e-12, 1e-12, err_msg=name)


@pytest.mark.parametrize("op", ["take", "scatter_add", "matmul", "softmax", "slice"])
def test_gradients_go_through_a_batch(op: str) -> None:
    """The gradient of a batch is the batch of the gradients."""
    assert not isinstance(OPS[op].gradient, NonDifferentiable)
    for case in [c for c in CASES if c.op == op]:
        which = (True,) * len(case.inputs)
        inputs, given = problem(case, which)
        bound = dict(zip(inputs, given, strict=True))
        floats = [i for i, t in enumerate(inputs) if t.dtype.is_float]
        if not floats:
            continue
        target = floats[0]

        def loss(*args: Tensor, case: Case = case) -> Tensor:
            terms = [gc.sum(gc.sin(y)) for y in several(case.function(*args))]
            return sum(terms[1:], terms[0])

        def slope(*args: Tensor, at: int = target) -> Tensor:
            return gc.grad(loss(*args), args[at])

        inside = gc.vmap(slope)(*inputs)
        outside = gc.grad(gc.sum(gc.vmap(loss)(*inputs)), inputs[target])
        a, b = gc.evaluate([inside, outside], bound)
        np.testing.assert_allclose(a, b, 1e-12, 1e-12, err_msg=case.id)


def test_gradients_of_each_example() -> None:
    x, w = gc.input("x", ("B", 3), "float64"), gc.input("w", (3, 2), "float64")
    each = gc.vmap(lambda a: gc.grad(gc.sum(gc.tanh(a @ w)), w))(x)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2))
    wanted = np.stack([np.outer(row, 1 - np.tanh(row @ b) ** 2) for row in a])
    np.testing.assert_allclose(gc.compile([x, w], each)(a, b), wanted, 1e-12)


def test_twice() -> None:
    x, y = gc.input("x", ("A", 3)), gc.input("y", ("B", 3))
    each = gc.vmap(lambda a: gc.vmap(lambda b: gc.sum(a * b))(y))(x)
    assert each.shape == (*x.shape[:1], *y.shape[:1])
    a, b = np.ones((2, 3), "f") * [[1], [2]], np.arange(12, dtype="f").reshape(4, 3)
    np.testing.assert_allclose(gc.evaluate(each, {x: a, y: b}), a @ b.T)


def test_axes_of_arguments_and_outputs() -> None:
    x, w = gc.input("x", (4, "B", 2)), gc.input("w", (2,))
    made = gc.vmap(lambda a, w: (a * w, a[0]), in_axes=(1, None), out_axes=(-1, 1))
    first, second = made(x, w)
    assert str(first.type) == "f32[4,2,B]"
    assert str(second.type) == "f32[2,B]"
    a = np.arange(24, dtype="f").reshape(4, 3, 2)
    one, two = gc.evaluate([first, second], {x: a, w: [1.0, 2.0]})
    np.testing.assert_array_equal(one, (a * np.float32([1, 2])).transpose(0, 2, 1))
    np.testing.assert_array_equal(two, a[0].T)


def test_what_depends_on_no_element_is_computed_once() -> None:
    x, w = gc.input("x", ("B", 3)), gc.input("w", (3, 3))
    made = gc.vmap(lambda a: a @ gc.tanh(w @ w))(x)
    graph = Graph.build([x, w], [made])
    kinds = {(n.op.name, str(n.results[0].type)) for n in graph.nodes}
    assert ("tanh", "f32[3,3]") in kinds
    assert ("matmul", "f32[3,3]") in kinds
    assert ("matmul", "f32[B,3]") in kinds  # one contraction for all elements


@pytest.mark.parametrize(
    ("function", "shapes", "wanted"),
    [
        (lambda a, w: a @ w, ((2, 3), (3, 5)), "f32[2*B,5]"),
        (lambda a, w: w.T @ a, ((3, 2), (3, 5)), "f32[2*B,5]"),
        (lambda a, w: w.T @ a, ((3,), (3, 5)), "f32[B,5]"),
        (lambda a, w: a @ w, ((3,), (3, 5)), "f32[B,5]"),
    ],
)
def test_a_shared_matrix_stays_one_contraction(
    function: Any, shapes: Any, wanted: str
) -> None:
    x, w = gc.input("x", ("B", *shapes[0])), gc.input("w", shapes[1])
    made = gc.vmap(function, (0, None))(x, w)
    (node,) = [n for n in Graph.build([x, w], [made]).nodes if n.op.name == "matmul"]
    assert str(node.results[0].type) == wanted
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, *shapes[0])), rng.normal(size=shapes[1])
    one = np.stack([a_ @ b if "a @" in wanted else _apply(function, a_, b) for a_ in a])
    np.testing.assert_allclose(gc.evaluate(made, {x: a, w: b}), one, 1e-5, 1e-5)


def _apply(function: Any, a: Array, w: Array) -> Array:
    found: Array = function(a.astype("f"), w.astype("f"))
    return found


def test_an_output_without_an_element_is_repeated() -> None:
    x, c = gc.input("x", ("B",)), gc.input("c", (2,))
    made = gc.vmap(lambda a: {"c": c, "a": a})(x)
    assert str(made["c"].type) == "f32[B,2]"
    found = gc.evaluate(made, {x: [1.0, 2.0, 3.0], c: [5.0, 6.0]})
    np.testing.assert_array_equal(found["c"], [[5, 6]] * 3)


def test_each_element_draws_numbers_of_its_own() -> None:
    x = gc.input("x", ("B", 4))
    noise = gc.normal((4,), stream=1)
    inside = gc.vmap(lambda a: a + gc.normal((4,), stream=2))(x)
    outside = gc.vmap(lambda a: a + noise)(x)
    a, b = gc.evaluate([inside, outside], {x: np.zeros((5, 4))})
    assert len(np.unique(a)) == 20
    assert len(np.unique(b)) == 4
    nested = gc.vmap(gc.vmap(lambda a: gc.uniform((3,), stream=3)))(x)
    assert len(np.unique(gc.evaluate(nested, {x: np.zeros((5, 4))}))) == 60


def test_a_step_of_each_element_is_refused() -> None:
    x = gc.input("x", ("B",), "int32")
    with pytest.raises(BatchError, match="the step differs from element to element"):
        gc.vmap(lambda s: gc.uniform((2,), step=s))(x)


def test_dropout_and_its_gradient_use_the_same_numbers() -> None:
    x = gc.input("x", ("B", 20))

    def both(a: Tensor) -> tuple[Tensor, Tensor]:
        y = gc.dropout(a, 0.5)
        return y, gc.grad(gc.sum(y), a)

    y, d = gc.evaluate(list(gc.vmap(both)(x)), {x: np.ones((6, 20))})
    np.testing.assert_array_equal(y, d)
    assert len({row.tobytes() for row in y}) == 6


def test_nodes_keep_their_line() -> None:
    x = gc.input("x", ("B", 3))
    made = gc.vmap(lambda a: gc.softmax(a))(x)  # this line
    assert made.node.birth.quoted.endswith("# this line")


def test_an_empty_batch() -> None:
    x, w = gc.input("x", ("B", 3)), gc.input("w", (3, 2))
    step = gc.compile([x, w], gc.vmap(lambda a: gc.softmax(a @ w))(x))
    found = step(np.zeros((0, 3), "f"), np.zeros((3, 2), "f"))
    assert found.shape == (0, 2)
    assert step(np.zeros((1, 3), "f"), np.zeros((3, 2), "f")).tolist() == [[0.5, 0.5]]


def test_a_batched_graph_prints_and_parses() -> None:
    x, i = gc.input("x", ("B", 5)), gc.input("i", ("B", 2), "int32")
    made = gc.vmap(lambda a, k: gc.take(a, k, 0))(x, i)
    graph = Graph.build([x, i], [made])
    assert gc.parse(graph.text()) == graph


def test_errors() -> None:
    x, y = gc.input("x", ("B", 3)), gc.input("y", ("C", 3))
    with pytest.raises(BatchError, match="argument 0 has B elements, argument 1 C"):
        gc.vmap(gc.add)(x, y)
    with pytest.raises(BatchError, match="no argument is mapped"):
        gc.vmap(gc.neg, None)(x)
    with pytest.raises(BatchError, match="in_axes has 1 axes, 2 arguments"):
        gc.vmap(gc.add, (0,))(x, x)
    with pytest.raises(BatchError, match="out_axes has 2 axes, there are 1 outputs"):
        gc.vmap(gc.neg, 0, (0, 1))(x)
    with pytest.raises(ArgumentError, match="axis 2 is out of range for argument 0"):
        gc.vmap(gc.neg, 2)(x)
    with pytest.raises(ArgumentError, match="axis 3 is out of range for output 0"):
        gc.vmap(gc.neg, 0, 3)(x)
    with pytest.raises(BatchError, match="returned 3, not a tensor"):
        gc.vmap(lambda a: 3)(x)


def test_an_op_without_a_rule_is_named_with_its_line() -> None:
    x = gc.input("x", ("B", 3))
    rule, OPS["take"].batch = OPS["take"].batch, None
    try:
        with pytest.raises(BatchError, match="take has no batching rule") as error:
            gc.vmap(lambda a: gc.take(a, [0], 0))(x)  # here
    finally:
        OPS["take"].batch = rule
    assert "test_batching.py" in str(error.value)
    assert "# here" in str(error.value)


def test_a_single_spec_is_enough_for_a_scalar() -> None:
    """An element may have no axes at all."""
    assert Spec("x", ()).shape == ()
    x = gc.input("x", ("B",))
    made = gc.vmap(lambda a: gc.where(a > 0, a, -a) * gc.iota((2,), dtype="float32"))(x)
    found = gc.evaluate(made, {x: [-1.0, 2.0]})
    np.testing.assert_array_equal(found, [[0, 1], [0, 2]])


def test_a_layer_changes_its_state_once_for_the_batch() -> None:
    x = gc.input("x", ("B", 8))
    drop = nn.Dropout(0.5, name="drop")
    y = gc.vmap(lambda v: drop(v, training=True))(x)
    step = gc.compile([x], y, gc.state_updates(y))
    found = step(np.ones((6, 8)))
    assert [s.value.item() for s in drop.states] == [1]
    assert (found[0] != found[1:]).any()


def test_a_state_that_each_element_would_change_is_refused() -> None:
    x = gc.input("x", ("B", "N", 3))
    norm = nn.BatchNormalization(name="norm")
    with pytest.raises(UpdateError, match="'norm/moving_mean' would change within"):
        gc.vmap(lambda v: norm(v, training=True))(x)
