"""scan: what it computes, its gradient, what it keeps, and what it refuses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.control.scan_op import SCAN
from graphc.errors import (
    ArgumentError,
    DTypeError,
    GraphcError,
    InputError,
    ShapeError,
    UpdateError,
)
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Tensor

Array = np.ndarray[Any, Any]
rng = np.random.default_rng(0)


def add(c: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return c + x, c + x


def scans(graph: Graph) -> list[Node]:
    return [n for n in graph.nodes if n.op is SCAN]


# --- values -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("steps", [0, 1, 2, 7, 100])
def test_a_running_sum(backend: str, steps: int) -> None:
    x = gc.input("x", ("T", 3))
    step = gc.compile([x], list(gc.scan(add, gc.zeros((3,)), x)), backend=backend)
    given = rng.normal(size=(steps, 3)).astype(np.float32)
    last, sums = step(given)
    np.testing.assert_allclose(sums, np.cumsum(given, 0), 1e-5, 1e-5)
    np.testing.assert_allclose(last, given.sum(0), 1e-5, 1e-5)


def test_backwards_the_outputs_keep_the_order_of_the_steps() -> None:
    x = gc.input("x", (3,))
    last, sums = gc.scan(add, 0.0, x, reverse=True)
    found = gc.evaluate([last, sums], {x: np.array([1, 10, 100], np.float32)})
    assert found[0] == 111
    assert found[1].tolist() == [111, 110, 100]


class State(NamedTuple):
    h: Any
    n: Any


def test_carries_and_outputs_may_be_structures() -> None:
    x = gc.input("x", ("T", 2))

    def body(s: State, step: dict[str, Tensor]) -> tuple[State, dict[str, Any]]:
        new = State(s.h + step["x"], [s.n[0] + 1])
        return new, {"h": new.h, "both": (step["x"], s.n[0])}

    last, ys = gc.scan(body, State(gc.zeros((2,)), [0]), {"x": x})
    assert isinstance(last, State)
    given = np.arange(6, dtype=np.float32).reshape(3, 2)
    found = gc.evaluate([last.h, last.n[0], ys["h"], ys["both"][1]], {x: given})
    assert found[0].tolist() == [6, 9]
    assert found[1] == 3
    assert found[2].tolist() == np.cumsum(given, 0).tolist()
    assert found[3].tolist() == [0, 1, 2]


def test_a_number_of_steps_without_anything_to_step_over() -> None:
    last, powers = gc.scan(lambda c, _: (c * 2.0, c), 1.0, length=5)
    found = gc.evaluate([last, powers], {})
    assert found[0] == 32
    assert found[1].tolist() == [1, 2, 4, 8, 16]


def test_sequences_of_several_lengths_hold_their_carry_and_return_zeros() -> None:
    x, n = gc.input("x", ("T", "N")), gc.input("n", ("N",), "int32")
    for reverse in (False, True):
        last, sums = gc.scan(add, gc.zeros(("N",)), x, lengths=n, reverse=reverse)
        given = np.ones((4, 3), np.float32)
        found = gc.evaluate([last, sums], {x: given, n: np.array([1, 4, 0])})
        assert found[0].tolist() == [1, 4, 0]
        assert found[1][:, 0].tolist() == [1, 0, 0, 0]
        assert found[1][:, 1].tolist() == ([4, 3, 2, 1] if reverse else [1, 2, 3, 4])
        assert found[1][:, 2].tolist() == [0, 0, 0, 0]


def test_each_step_draws_its_own_random_numbers() -> None:
    def body(_: Any, __: Any) -> tuple[Any, Any]:
        inner = gc.scan(lambda c, _: (c, gc.uniform((4,), stream=1)), (), length=3)[1]
        return (), (gc.uniform((4,), stream=2), inner)

    _, (outer, inner) = gc.scan(body, (), length=5)
    step = gc.compile([], [outer, inner])
    found = step()
    expected = gc.evaluate([outer, inner], {})
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_array_equal(f, e)
        assert len(np.unique(f)) == f.size


def test_a_dropout_mask_declared_outside_is_the_same_in_each_step() -> None:
    mask = gc.uniform((4,), stream=3)
    _, ys = gc.scan(lambda c, _: (c, mask * 1.0), (), length=3)
    found = gc.evaluate(ys, {})
    assert len(np.unique(found)) == 4


def test_what_does_not_depend_on_a_step_is_computed_outside() -> None:
    x, a, b = (
        gc.input(n, s) for n, s in (("x", ("T", 4)), ("a", (4, 4)), ("b", (4, 4)))
    )

    def body(c: Tensor, row: Tensor) -> tuple[Tensor, None]:
        return gc.tanh(c @ (a @ b) + row), None

    last, _ = gc.scan(body, gc.zeros((4,)), x)
    graph = Graph.build([x, a, b], [last])
    (node,) = scans(graph)
    inside = [n.op.name for n in node.regions[0].nodes]
    assert graph.count("matmul") == 2
    assert inside.count("matmul") == 1


def test_states_are_captured_and_updated_after_the_loop() -> None:
    x = gc.input("x", ("T",))
    w = gc.parameter("w", (), init="ones")
    last, _ = gc.scan(lambda c, v: (c * w + v, None), 0.0, x)
    for backend in ("reference", "cpu"):
        w.value = 1.0
        step = gc.compile([x], last, updates={w: w + last}, backend=backend)
        assert step(np.array([1, 2, 3], np.float32)) == 6
        assert w.value == 7
        assert step(np.array([1, 1], np.float32)) == 8


# --- gradients ----------------------------------------------------------------------


def unrolled(h: Tensor, x: Tensor, w: Tensor, steps: range) -> tuple[Tensor, list[Any]]:
    ys = []
    for t in steps:
        h = gc.tanh(x[t] + h @ w)
        ys.append(h)
    return h, ys


@pytest.mark.parametrize("reverse", [False, True])
def test_the_gradient_is_that_of_the_unrolled_loop(reverse: bool) -> None:
    h, x, w = (
        gc.input(n, s, "float64")
        for n, s in (("h", (2, 3)), ("x", (5, 2, 3)), ("w", (3, 3)))
    )

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        new = gc.tanh(v + c @ w)
        return new, new

    last, ys = gc.scan(body, h, x, reverse=reverse)
    loss = gc.sum(last) + gc.sum(ys * ys)
    steps = range(4, -1, -1) if reverse else range(5)
    plain, each = unrolled(h, x, w, steps)
    other = gc.sum(plain) + sum(gc.sum(y * y) for y in each)
    given = {t: rng.normal(size=t.shape) * 0.5 for t in (h, x, w)}
    found = gc.evaluate([loss, *gc.grad(loss, [h, x, w])], given)
    expected = gc.evaluate([other, *gc.grad(other, [h, x, w])], given)
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, 1e-12, 1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_truncated_back_propagation_goes_through_the_last_steps_only(
    reverse: bool,
) -> None:
    x, w = gc.input("x", ("T",), "float64"), gc.input("w", (), "float64")
    h = gc.input("h", (), "float64")

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, None]:
        return c * w + v, None

    last, _ = gc.scan(body, h, x, truncate=2, reverse=reverse)
    steps = np.array([1.0, 2.0, 3.0, 4.0])
    given = {x: steps, w: np.array(0.5), h: np.array(9.0)}
    dx, dw, dh = gc.evaluate(gc.grad(last, [x, w, h]), given)
    order = steps[::-1] if reverse else steps
    carry = [9.0]
    for v in order:
        carry.append(carry[-1] * 0.5 + v)
    assert dh == 0
    assert dx.tolist() == ([1, 0.5, 0, 0] if reverse else [0, 0, 0.5, 1])
    assert dw == pytest.approx(carry[3] + 0.5 * carry[2])


def test_a_window_longer_than_the_sequence_is_the_whole_gradient() -> None:
    x = gc.input("x", (3,))
    last, _ = gc.scan(lambda c, v: (c * v, None), 1.0, x, truncate=9)
    found = gc.evaluate(gc.grad(last, x), {x: np.array([2, 3, 5], np.float32)})
    assert found.tolist() == [15, 10, 6]


def test_a_truncated_gradient_takes_sequences_shorter_than_its_window() -> None:
    x = gc.input("x", ("T",))
    last, _ = gc.scan(lambda c, v: (c * 0.5 + v, None), 0.0, x, truncate=4)
    step = gc.compile([x], gc.grad(last, x))
    for n in (0, 1, 4, 6):
        wanted = [0] * (n - 4) + [0.5**k for k in reversed(range(min(n, 4)))]
        assert step(np.ones(n)).tolist() == wanted


def test_only_what_the_backward_pass_needs_is_kept() -> None:
    x, w = gc.input("x", ("T", 4)), gc.input("w", (4, 4))

    def body(c: Tensor, row: Tensor) -> tuple[Tensor, None]:
        a = c @ w + row
        b = a * 2.0 + 1.0
        return gc.tanh(b), None  # whose derivative is of its result alone

    last, _ = gc.scan(body, gc.zeros((4,)), x)
    graph = Graph.build([x, w], [gc.grad(gc.sum(last), w)])
    forward, _backward = scans(graph)
    assert [t.size for t in forward.types[1:]] == [4 * x.shape[0]] * 2  # c, tanh


def test_a_gradient_through_masked_infinities_is_finite() -> None:
    x = gc.input("x", ("T",))

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, None]:
        return c + gc.where(v > 0.0, gc.sqrt(v), 0.0), None

    last, _ = gc.scan(body, 0.0, x)
    given = np.array([4, 0, -1], np.float32)
    for backend in ("reference", "cpu"):
        step = gc.compile([x], gc.grad(last, x), backend=backend)
        assert step(given).tolist() == [0.25, 0, 0]


def test_a_loop_without_floats_blocks_the_gradient_by_name() -> None:
    x = gc.input("x", ("T",))
    n, _ = gc.scan(lambda c, v: (c + gc.cast(v > 0.0, "int32"), None), 0, x)
    with pytest.raises(GraphcError, match="scan"):
        gc.grad(gc.cast(n, "float32"), x)


# --- size ---------------------------------------------------------------------------


def test_neither_graph_nor_program_grows_with_the_number_of_steps() -> None:
    sizes = []
    for steps in (10, 1000):
        x, w = gc.input("x", (steps, 2, 3)), gc.parameter("w", (3, 3))
        last, _ = gc.scan(lambda c, v, w=w: (gc.tanh(v + c @ w), None), x[0], x)
        loss = gc.sum(last)
        step = gc.compile([x], loss, updates={w: w - gc.grad(loss, w)})
        sizes.append((len(step.graph), len(step.program.tasks), len(step.kernels)))
    assert sizes[0] == sizes[1]


def test_any_number_of_steps_and_threads_without_compiling_again() -> None:
    x, w = gc.input("x", ("T", "N", 40)), gc.input("w", (40, 40))
    last, ys = gc.scan(lambda c, v: (gc.tanh(v + c @ w), c), x[0], x)
    steps = [gc.compile([x, w], [last, ys], threads=n) for n in (1, 2)]
    weights = rng.normal(size=(40, 40)).astype(np.float32) * 0.1
    for t, n in ((1, 1), (2, 300), (31, 17), (3, 257)):
        given = rng.normal(size=(t, n, 40)).astype(np.float32)
        expected = gc.evaluate([last, ys], {x: given, w: weights})
        one, two = (step(given, weights) for step in steps)
        for a, b, e in zip(one, two, expected, strict=True):
            np.testing.assert_array_equal(a, b)
            np.testing.assert_allclose(a, e, 1e-4, 1e-5)


# --- errors -------------------------------------------------------------------------


def message(error: type[GraphcError], declare: Any) -> str:
    with pytest.raises(error) as found:
        declare()
    return str(found.value)


def test_a_carry_that_changes_its_shape_shows_both_types_and_both_lines() -> None:
    x = gc.input("x", ("T", 3))
    first = gc.zeros((1,))
    text = message(ShapeError, lambda: gc.scan(add, first, x))
    assert "f32[1] at first" in text
    assert "f32[3] after a step" in text
    assert "first = gc.zeros((1,))" in text
    assert "return c + x, c + x" in text


def test_a_carry_that_changes_its_dtype() -> None:
    x = gc.input("x", ("T",))
    text = message(DTypeError, lambda: gc.scan(add, 0, x))
    assert "i32[] at first, f32[] after a step" in text


def test_steps_of_different_numbers() -> None:
    x, y = gc.input("x", (3, 2)), gc.input("y", (4, 2))
    text = message(
        ShapeError, lambda: gc.scan(lambda c, s: (c, s[0] + s[1]), (), (x, y))
    )
    assert "3 steps" in text
    assert "4 by" in text


def test_other_bad_input() -> None:
    x = gc.input("x", ("T", 3))
    s = gc.input("s", ())
    n = gc.input("n", ("N",), "int32")
    zero = gc.zeros((3,))
    assert "how many steps" in message(ArgumentError, lambda: gc.scan(add, zero))
    assert "no steps" in message(ShapeError, lambda: gc.scan(add, s, s))
    assert "(carry, y)" in message(
        ArgumentError, lambda: gc.scan(lambda c, x: c, zero, x)
    )
    assert "(., .)" in message(
        ArgumentError, lambda: gc.scan(lambda c, x: ((c, c), x), zero, x)
    )
    assert "at least 1" in message(
        ArgumentError, lambda: gc.scan(add, zero, x, truncate=0)
    )
    assert "sequences" in message(ShapeError, lambda: gc.scan(add, zero, x, lengths=n))
    assert "nothing" in message(
        ArgumentError, lambda: gc.scan(lambda c, x: ((), None), (), x)
    )


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_length_beyond_the_sequence_is_an_error_under_check(backend: str) -> None:
    x, n = gc.input("x", ("T", "N")), gc.input("n", ("N",), "int32")
    w = gc.parameter("w", (), init="zeros")
    last, _ = gc.scan(add, gc.zeros(("N",)), x, lengths=n)
    given = np.ones((4, 2), np.float32)
    for check in (False, True):
        step = gc.compile(
            [x, n], last, updates={w: w + 1.0}, backend=backend, check=check
        )
        assert step(given, np.array([4, 0])).tolist() == [4, 0]
    with pytest.raises(GraphcError, match="a length of 5, where sequences have 0 to 4"):
        step(given, np.array([4, 5]))
    assert w.value == 2
    step = gc.compile([x, n], last, backend=backend)
    assert step(given, np.array([4, 5])).tolist() == [4, 4]


# --- layers in a body ---------------------------------------------------------------


def test_a_layer_in_the_body_changes_its_state_once_a_step_of_training() -> None:
    x = gc.input("x", ("T", 8))
    drop = nn.Dropout(0.5, name="drop")
    _, ys = gc.scan(lambda c, v: (c, drop(v, training=True)), 0.0, x)
    (counter,) = drop.states
    step = gc.compile([x], ys, updates=gc.state_updates(gc.sum(ys)))
    first, second = (step(np.ones((6, 8))) for _ in range(2))
    assert counter.value == 2
    assert (first != second).any()
    assert (first[0] != first[1:]).any()


def test_a_state_that_each_step_would_change_is_refused() -> None:
    x = gc.input("x", ("T", "N", 3))
    norm = nn.BatchNormalization(name="norm")
    with pytest.raises(UpdateError, match="'norm/moving_mean' would change within"):
        gc.scan(lambda c, v: (c, norm(v, training=True)), 0.0, x)


def test_functions_that_do_not_fit_are_refused_before_they_are_called() -> None:
    x = gc.input("x", ("T",))
    assert "must be a function, not 3" in message(
        ArgumentError, lambda: gc.scan(3, 0.0, x)
    )
    found = message(ArgumentError, lambda: gc.scan(lambda c: c, 0.0, x))
    assert "called with 2 arguments" in found
    assert "the body takes (c)" in found
    for wrong in (1.5, "a", True):
        found = message(ArgumentError, lambda w=wrong: gc.scan(add, 0.0, x, truncate=w))
        assert f"truncate must be an int of at least 1, not {wrong!r}" in found


def test_a_value_of_the_body_does_not_leave_it() -> None:
    x = gc.input("x", ("T",))
    kept: list[Tensor] = []

    def body(c: Tensor, v: Tensor) -> tuple[Tensor, None]:
        kept.append(c * 2.0)
        return c + v, None

    gc.scan(body, 0.0, x)
    with pytest.raises(InputError, match="only within the body of a loop") as error:
        gc.compile([x], kept[0])
    assert "kept.append(c * 2.0)" in str(error.value)
