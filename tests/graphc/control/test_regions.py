"""Graphs with regions: guards, names of sizes, text, states, debugging."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import GuardError, VerifyError
from graphc.ir.graph import Graph
from graphc.ir.text_files import large_constants, load_text, save_text

rng = np.random.default_rng(0)
BACKENDS = pytest.mark.parametrize("backend", ["reference", "cpu"])


# --- sizes --------------------------------------------------------------------------


def test_what_a_body_needs_of_sizes_is_a_guard_with_its_line() -> None:
    x = gc.input("x", ("T", "N"))

    def body(c: Any, row: Any) -> tuple[Any, Any]:
        return c, (gc.max(row), row[2:])

    _, ys = gc.scan(body, (), x)
    graph = Graph.build([x], list(ys))
    assert [str(g) for g in graph.guards] == ["N >= 1", "N >= 2"]
    assert "row[2:]" in graph.guards[1].origin.quoted
    for backend in ("reference", "cpu"):
        step = gc.compile([x], list(ys), backend=backend)
        with pytest.raises(GuardError, match="N >= 2") as found:
            step(np.ones((3, 1), np.float32))
        assert "row[2:]" in str(found.value)
    with pytest.raises(GuardError, match="N >= 2"):
        gc.evaluate(list(ys), {x: np.ones((0, 1), np.float32)})


def test_branches_and_inner_loops_guard_their_sizes_too() -> None:
    x, p = gc.input("x", ("T", "N")), gc.input("p", (), "bool")
    y = gc.cond(p, lambda: gc.sum(x[:, 3:]), lambda: gc.sum(x))
    assert [str(g) for g in Graph.build([x, p], [y]).guards] == ["N >= 3"]
    deep = gc.scan(lambda c, _: gc.scan(lambda d, r: (d + r[1:], None), c, x), x[0, 1:],
                   length=2)[0]  # fmt: skip
    assert [str(g) for g in Graph.build([x], [deep]).guards][:2] == ["T >= 1", "N >= 1"]
    w = gc.while_loop(
        lambda c: c[0] < 2, lambda c: (c[0] + 1, c[1] + gc.min(x)), (0, 0.0)
    )
    assert {"N*T >= 1", "T*N >= 1", "N >= 1", "T >= 1"} & {
        str(g) for g in Graph.build([x], [w[1]]).guards
    }


def test_dims_are_those_of_regions_and_attributes_too() -> None:
    x = gc.input("x", (3,))
    graph = Graph.build([x], [gc.scan(lambda c, _: (c * x, None), x, length="K")[0]])
    assert graph.dims == ("K",)
    inside = gc.scan(lambda c, _: (c + gc.sum(gc.ones(("M",))), None), x, length=2)[0]
    assert Graph.build([x], [inside]).dims == ("M",)


@pytest.mark.parametrize("where", ["attribute length", "type", "attribute size"])
def test_a_size_that_no_input_has_is_found_in_regions(where: str) -> None:
    x = gc.input("x", (3,))
    last = {
        "attribute length": lambda: gc.scan(lambda c, _: (c * x, None), x, length="K"),
        "type": lambda: gc.scan(
            lambda c, _: (c + gc.sum(gc.ones(("K",))), None), x, length=2
        ),
        "attribute size": lambda: gc.scan(
            lambda c, _: (c + gc.cast(gc.dim("K"), "float32"), None), x, length=2
        ),
    }[where]()[0]
    with pytest.raises(VerifyError, match=f"no input has the size K of the {where}"):
        gc.compile([x], last)


@pytest.mark.parametrize("steps", [0, 1, 3, 4, 5, 9])
def test_truncation_by_more_than_there_are_steps(steps: int) -> None:
    x, h = gc.input("x", ("T", 3)), gc.input("h", (3,))
    w = gc.parameter("w", (3,), init="ones")

    def last(**how: Any) -> Any:
        c, _ = gc.scan(lambda c, r: (gc.tanh(c * w + r), None), h, x, **how)
        return gc.grad(gc.sum(c), [w, h])

    given = {x: rng.normal(size=(steps, 3)), h: np.full(3, 0.5)}
    given = {t: v.astype(np.float32) for t, v in given.items()}
    short, whole = (gc.evaluate(last(**how), given) for how in ({"truncate": 4}, {}))
    found = gc.compile([x, h], last(truncate=4))(*given.values())
    for i in range(2):
        np.testing.assert_allclose(found[i], short[i], 1e-5, 1e-6)
        if steps <= 4:
            np.testing.assert_allclose(short[i], whole[i], 1e-5, 1e-6)
    if steps > 4:
        assert not short[1].any()
        assert not np.allclose(short[0], whole[0], 1e-5)


# --- text and debugging -------------------------------------------------------------


def test_symbolic_sizes_and_large_constants_in_regions_print_and_parse(
    tmp_path: Path,
) -> None:
    x = gc.input("x", ("T", "N", 20))
    k = rng.normal(size=(20, 20)).astype(np.float32)

    def body(c: Any, row: Any) -> tuple[Any, Any]:
        y = gc.cond(
            gc.sum(row) > 0.0,
            lambda: row @ gc.constant(k),
            lambda: gc.sum(row[1:], 0, keepdims=True) + row @ gc.constant(k * 2),
        )
        return c, y

    _, ys = gc.scan(body, (), x)
    step = gc.compile([x], ys)
    given = rng.normal(size=(4, 3, 20)).astype(np.float32)
    for name, level in step.stages:
        if isinstance(level, Graph):
            text, constants = level.text(), large_constants(level)
            assert len(constants) == 2, name
            again = gc.parse(text, constants)
            gc.verify(again)
            assert again.text() == text
            save_text(level, tmp_path / "g.gc")
            assert load_text(tmp_path / "g.gc") == again
            np.testing.assert_allclose(gc.compile(again)(given), step(given), 1e-5)


def test_debug_goes_through_loops_without_stopping_in_them() -> None:
    x, w = gc.input("x", ("T", 3)), gc.parameter("w", (3,))
    c, ys = gc.scan(lambda c, r: (gc.tanh(c + r * w), c), gc.zeros((3,)), x)
    last = c.named("last")
    step = gc.compile([x], gc.sum(last), {w: w - ys[0]})
    before = w.value
    found = step.debug(np.ones((5, 3), np.float32))
    np.testing.assert_allclose(found["last"], gc.evaluate(c, {x: np.ones((5, 3))}))
    np.testing.assert_array_equal(found["w"], before)
    np.testing.assert_allclose(found["out0"], step(np.ones((5, 3), np.float32)), 1e-5)


# --- states that loops and branches write -------------------------------------------


@BACKENDS
def test_a_stack_may_be_the_next_value_of_what_the_body_reads(backend: str) -> None:
    start = np.arange(9, dtype=np.float32).reshape(3, 3)
    w, x = gc.parameter("w", (3, 3), start), gc.input("x", (3, 3))
    _, ys = gc.scan(lambda c, r: (c, gc.sum(w, 0) + r), (), x)
    step = gc.compile([x], [], {w: ys}, backend=backend)
    step(np.eye(3, dtype=np.float32))
    np.testing.assert_array_equal(w.value, start.sum(0) + np.eye(3))


@BACKENDS
def test_a_branch_reads_the_old_value_of_what_it_gives_a_new_one(backend: str) -> None:
    b, p = gc.parameter("b", (3, 3), init="ones"), gc.input("p", (), "bool")
    new, total = gc.cond(
        p, lambda: (b * 2.0, gc.sum(b, 0)), lambda: (b + 1.0, gc.sum(b, 1))
    )
    # A second branch that reads the old value needs the first one's result.
    more = gc.cond(p, lambda: total * gc.sum(b), lambda: total - gc.sum(b))
    step = gc.compile([p], [total, more], {b: new}, backend=backend)
    found = step(True)
    np.testing.assert_array_equal(found, [[3, 3, 3], [27, 27, 27]])
    np.testing.assert_array_equal(b.value, np.full((3, 3), 2))
    found = step(False)
    np.testing.assert_array_equal(found, [[6, 6, 6], [-12, -12, -12]])
    np.testing.assert_array_equal(b.value, np.full((3, 3), 3))


@BACKENDS
@pytest.mark.parametrize("what", ["routine", "scatter", "scan", "cond", "elementwise"])
def test_two_states_may_get_the_same_new_value(backend: str, what: str) -> None:
    """What is written once is copied to the other, and not the old value."""
    a, b = gc.parameter("a", (3,), init="ones"), gc.parameter("b", (3,), init="zeros")
    x = gc.input("x", (3,))
    new = {
        "routine": lambda: gc.cumsum(x),
        "scatter": lambda: gc.scatter_add(gc.zeros((3,)), np.array([0, 1, 2]), x),
        "scan": lambda: gc.scan(lambda c, v: (c, v * 2.0), (), x)[1],
        "cond": lambda: gc.cond(x[0] > 0.0, lambda: x * 2.0, lambda: x),
        "elementwise": lambda: gc.exp(x),
    }[what]()
    step = gc.compile([x], [], {a: new, b: new}, backend=backend)
    given = np.array([1, 2, 4], np.float32)
    step(given)
    expected = gc.evaluate(new, {x: given})
    np.testing.assert_allclose(a.value, expected, 1e-6)
    np.testing.assert_allclose(b.value, expected, 1e-6)
