"""cond: one of two branches, and the gradient of the one that was taken."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.errors import ArgumentError, DTypeError, ShapeError


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_condition_chooses_when_the_step_runs(backend: str) -> None:
    x = gc.input("x", ("N",))
    y = gc.cond(gc.sum(x) > 0.0, lambda v: gc.exp(v), lambda v: v * 2.0, x)
    step = gc.compile([x], y, backend=backend)
    up, down = np.array([1, 2], np.float32), np.array([-1, -2], np.float32)
    np.testing.assert_allclose(step(up), np.exp(up), 1e-6)
    assert step(down).tolist() == [-2, -4]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_gradient_is_that_of_the_branch_that_was_taken(backend: str) -> None:
    x, w = gc.input("x", (3,)), gc.input("w", (3,))
    y = gc.cond(gc.sum(x) > 0.0, lambda: gc.sum(gc.sqrt(x) * w), lambda: gc.sum(x))
    step = gc.compile([x, w], gc.grad(y, [x, w]), backend=backend)
    one = np.ones(3, np.float32)
    assert [g.tolist() for g in step(one * 4, one)] == [[0.25] * 3, [2.0] * 3]
    assert [g.tolist() for g in step(-one, one)] == [[1.0] * 3, [0.0] * 3]


def test_one_branch_is_run_and_not_both() -> None:
    """The loop of the other one would never end."""
    x = gc.input("x", ())
    forever = lambda v: gc.while_loop(lambda c: c < 1.0, lambda c: c - 1.0, v)  # noqa: E731
    y = gc.cond(x > 0.0, lambda v: v * 2.0, forever, x)
    assert gc.evaluate(y, {x: 3.0}) == 6
    assert gc.compile([x], y)(np.float32(3)) == 6


def test_a_mapped_condition_selects_element_by_element() -> None:
    x = gc.input("x", (4,))
    y = gc.vmap(lambda v: gc.cond(v > 0.0, lambda: v * 2.0, lambda: -v))(x)
    found = gc.evaluate(y, {x: np.array([-1, 2, -3, 4], np.float32)})
    assert found.tolist() == [1, 4, 3, 8]


def test_branches_of_different_types_are_refused_with_both_lines() -> None:
    x = gc.input("x", (3,))
    with pytest.raises(ShapeError) as found:
        gc.cond(
            gc.sum(x) > 0.0,
            lambda: gc.exp(x),
            lambda: gc.sum(x),
        )
    assert "f32[3] in one branch, f32[] in the other" in str(found.value)
    assert "lambda: gc.exp(x)" in str(found.value)
    with pytest.raises(DTypeError, match="bool scalar"):
        gc.cond(x > 0.0, lambda: x, lambda: -x)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_layers_change_their_states_in_the_branch_that_is_taken(backend: str) -> None:
    x, train = gc.input("x", ("N", 3)), gc.input("train", (), "bool")
    drop, norm = nn.Dropout(0.5, name="d"), nn.BatchNormalization(name="n")
    y = gc.cond(
        train,
        lambda v: drop(norm(v, training=True), training=True),
        lambda v: norm(v, training=False),
        x,
    )
    step = gc.compile([x, train], y, gc.state_updates(y), backend=backend)
    (counter,) = drop.states
    mean = next(s for s in norm.states if s.name == "n/moving_mean")
    given = np.arange(12).reshape(4, 3)
    step(given, False)
    assert (counter.value, mean.value.tolist()) == (0, [0, 0, 0])
    step(given, True)
    assert counter.value == 1
    np.testing.assert_allclose(mean.value, 0.01 * given.mean(0), 1e-5)


def test_branches_that_are_no_functions_of_the_operands_are_refused() -> None:
    x = gc.input("x", ())
    with pytest.raises(ArgumentError, match="first branch must be a function, not 1"):
        gc.cond(x > 0.0, 1.0, lambda v: v, x)
    with pytest.raises(ArgumentError, match="second branch is called with 1 argument"):
        gc.cond(x > 0.0, lambda v: v, lambda: 2.0, x)
