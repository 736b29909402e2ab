"""while_loop: as many steps as it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.errors import (
    ArgumentError,
    DTypeError,
    GradientError,
    ShapeError,
    UpdateError,
)


def collatz(n: Any) -> Any:
    """Return how many steps it takes to come to 1, by graphc."""

    def body(c: Any) -> Any:
        half = c[0] // 2
        return gc.where(gc.equal(half * 2, c[0]), half, 3 * c[0] + 1), c[1] + 1

    return gc.while_loop(lambda c: c[0] > 1, body, (n, 0))[1]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_number_of_steps_is_found_when_it_runs(backend: str) -> None:
    n = gc.input("n", (), "int32")
    step = gc.compile([n], collatz(n), backend=backend)
    assert [int(step(np.int32(i))) for i in (1, 2, 3, 27)] == [0, 1, 7, 111]


def test_newtons_method_for_a_square_root() -> None:
    a = gc.input("a", ("N",))
    root = gc.while_loop(
        lambda x: gc.max(gc.abs(x * x - a) / a) > 1e-5,
        lambda x: 0.5 * (x + a / x),
        gc.ones(a.shape),
    )
    given = np.array([2, 100, 0.01], np.float32)
    np.testing.assert_allclose(gc.compile([a], root)(given), np.sqrt(given), 1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loop_within_a_scan_within_a_loop(threads: int) -> None:
    x = gc.input("x", ("T", 70))

    def row(total: Any, r: Any) -> Any:
        small = gc.while_loop(lambda v: gc.max(v) > 1.0, lambda v: v * 0.5, gc.abs(r))
        return total + small, gc.max(small)

    def body(c: Any) -> Any:
        total, tops = gc.scan(row, c[0], x)
        return total, c[1] + gc.sum(tops)

    total, tops = gc.while_loop(
        lambda c: c[1] < 10.0, body, (gc.zeros((70,)), gc.constant(0.0))
    )
    step = gc.compile([x], [total, tops], threads=threads)
    given = np.random.default_rng(1).normal(size=(5, 70)).astype(np.float32) * 9
    expected = gc.evaluate([total, tops], {x: given})
    for f, e in zip(step(given), expected, strict=True):
        np.testing.assert_allclose(f, e, 1e-5)


def test_under_vmap_it_runs_until_the_last_element_is_done() -> None:
    n = gc.input("n", (5,), "int32")
    found = gc.evaluate(gc.vmap(collatz)(n), {n: np.array([1, 2, 3, 27, 6])})
    assert found.tolist() == [0, 1, 7, 111, 8]


def test_it_is_forward_only_and_says_what_to_use() -> None:
    x = gc.input("x", ())
    y = gc.while_loop(lambda v: v > 1.0, lambda v: v * 0.5, x)
    with pytest.raises(GradientError, match="scan has a gradient"):
        gc.grad(y, x)


def test_bad_input() -> None:
    x = gc.input("x", (3,))
    with pytest.raises(DTypeError, match="bool scalar"):
        gc.while_loop(lambda v: v > 1.0, lambda v: v, x)
    with pytest.raises(ShapeError, match="changes its type"):
        gc.while_loop(lambda v: gc.sum(v) > 1.0, lambda v: gc.sum(v), x)
    with pytest.raises(ArgumentError, match="body returns"):
        gc.while_loop(lambda v: gc.sum(v) > 1.0, lambda v: (v, v), x)
    with pytest.raises(ArgumentError, match="nothing to carry"):
        gc.while_loop(lambda v: True, lambda v: v, ())


def test_a_layer_that_would_change_a_state_is_refused() -> None:
    x = gc.input("x", (3,))
    drop = nn.Dropout(0.5, name="drop")
    with pytest.raises(UpdateError, match="the state 'drop/step' would change within"):
        gc.while_loop(lambda v: v[0] > 1.0, lambda v: drop(v, training=True), x)


def test_a_condition_that_no_step_changes_is_refused() -> None:
    x = gc.input("x", ())
    for condition in (lambda v: True, lambda v: x > 0.0):
        with pytest.raises(ArgumentError, match="does not depend on the carry"):
            gc.while_loop(condition, lambda v: v + 1.0, 0.0)
