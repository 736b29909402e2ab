"""check=True: what is otherwise brought into its range is refused, with its line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ops_table import CASES, Case, arrays, build

import graphc as gc
from graphc.errors import CheckError
from graphc.ir.op import OPS
from graphc.passes.checks import with_checks

BACKENDS = ["reference", "cpu"]
backends = pytest.mark.parametrize("backend", BACKENDS)


def trained(backend: str) -> tuple[Any, Any, Any]:
    """Return a step that looks rows up and trains them, its table and a counter."""
    table = gc.parameter("table", (5, 3), seed=0)
    count = gc.variable("count", np.int64(0))
    i = gc.input("i", ("N",), "int32")
    rows = gc.take(table, i, 0)  # the line of the look-up
    loss = gc.sum(rows * rows)
    updates = {table: table - 0.1 * gc.grad(loss, table), count: count + 1}
    step = gc.compile(
        [i], {"rows": rows, "loss": loss}, updates=updates, backend=backend, check=True
    )
    return step, table, count


@backends
def test_a_refused_call_changes_nothing(backend: str) -> None:
    step, table, count = trained(backend)
    before = table.value
    with pytest.raises(CheckError) as error:
        step([0, 7, 2, -9])
    text = str(error.value)
    assert "take: index 7 is out of range for axis 0, which has size 5" in text
    assert "element [1] of i : i32[N]" in text
    assert "# the line of the look-up" in text
    np.testing.assert_array_equal(table.value, before)
    assert count.value == 0
    found = step([0, 1, -5])
    np.testing.assert_array_equal(found["rows"], before[[0, 1, 0]])
    assert count.value == 1
    assert not np.array_equal(table.value, before)


@backends
def test_the_result_is_that_without_checks(backend: str) -> None:
    i = gc.input("i", ("N",), "int32")
    x = gc.input("x", ("N", 4))
    y = gc.softmax(gc.take(x, i, 0) @ x.T)
    given = [2, 0, -1], np.random.default_rng(0).normal(size=(3, 4)).astype("f")
    plain = gc.compile([i, x], [y, i + 1], backend=backend)
    checked = gc.compile([i, x], [y, i + 1], backend=backend, check=True)
    for a, b in zip(plain(*given), checked(*given), strict=True):
        np.testing.assert_array_equal(a, b)
    out = [np.empty((3, 3), "f"), np.empty(3, np.int32)]
    checked(*given, out=out)
    np.testing.assert_array_equal(out[0], plain(*given)[0])
    with pytest.raises(CheckError):
        checked([3, 0, 0], given[1], out=out)


@backends
def test_no_indices_are_in_range(backend: str) -> None:
    i = gc.input("i", ("N",), "int32")
    step = gc.compile([i], gc.take(gc.ones((3,)), i, 0), backend=backend, check=True)
    assert step(np.zeros(0, np.int32)).shape == (0,)


CHECKED = [c for c in CASES if OPS[c.op].checks is not None]


INDEXING = {
    "take", "scatter_add", "take_along_axis", "add_along_axis", "gather", "add_at",
    "set_at", "dynamic_slice", "dynamic_update_slice", "place_along_axis",
}  # fmt: skip


def test_every_op_that_reads_by_index_has_checks() -> None:
    assert {c.op for c in CHECKED} >= INDEXING


BY_INDEX = [
    c
    for c in CHECKED
    if c.op in INDEXING
    and any(s.dtype.startswith("int") and s.name in "ircst" for s in c.inputs)
]


@pytest.mark.parametrize("case", BY_INDEX, ids=lambda c: c.id)
def test_each_op_names_what_is_out_of_range(case: Case) -> None:
    graph = build(case)
    given = arrays(case)
    at = [k for k, s in enumerate(case.inputs) if s.name in "ircst"]
    inside = [np.zeros_like(a) if k in at else a for k, a in enumerate(given)]
    both = dict(zip(graph.inputs, inside, strict=True))
    wanted = gc.evaluate(list(graph.outputs), both)
    found = gc.evaluate(list(graph.outputs), both, check=True)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(a, b)
    for k in at:
        for value in (1000, -1000):
            beyond = [a.copy() if i == k else a for i, a in enumerate(inside)]
            beyond[k].reshape(-1)[-1] = value
            with pytest.raises(CheckError, match=f"{value} is out of range") as error:
                gc.evaluate(
                    list(graph.outputs),
                    dict(zip(graph.inputs, beyond, strict=True)),
                    check=True,
                )
            assert " --> " in str(error.value)


def test_every_op_is_checked_on_the_cpu() -> None:
    """One step for each would be slow; here are those that write."""
    x, i = gc.input("x", (4, 3)), gc.input("i", (2,), "int32")
    outputs = {
        "set_at": gc.index_update(x, (i, i), 0.0),
        "add_at": gc.index_add(x, (i, i), 1.0),
        "dynamic_slice": gc.dynamic_slice(x, i, (2, 2)),
        "add_along_axis": gc.grad(
            gc.sum(gc.take_along_axis(x, gc.broadcast_to(i, (4, 2)), 1) ** 2), x
        ),
    }
    for name, output in outputs.items():
        step = gc.compile([x, i], output, check=True)
        step(np.ones((4, 3), "f"), [1, 1])
        with pytest.raises(CheckError, match="3 is out of range"):
            step(np.ones((4, 3), "f"), [1, 3])
        assert len(with_checks(step.declared)[1]) >= 1, name


def test_a_start_must_leave_room() -> None:
    x, s = gc.input("x", (5,)), gc.input("s", (), "int32")
    y = gc.dynamic_slice(x, [s], (2,))
    for start in (-5, -2, 0, 3):
        gc.evaluate(y, {x: np.ones(5), s: start}, check=True)
    for start in (-6, -1, 4, 5):
        with pytest.raises(CheckError) as error:
            gc.evaluate(y, {x: np.ones(5), s: start}, check=True)
        text = f"start {start} is out of range for a slice of 2 from axis 0, which has"
        assert f"{text} size 5" in str(error.value)


# --- within other ops -----------------------------------------------------------------


@backends
def test_inside_a_custom_gradient(backend: str) -> None:
    i = gc.input("i", ("N",), "int32")
    x = gc.input("x", (4,))
    pick = gc.custom_gradient(
        lambda a: gc.take(a, i, 0).sum(), lambda g, y, a: g * gc.ones((4,))
    )
    step = gc.compile([x, i], pick(x), backend=backend, check=True)
    assert step(np.ones(4, "f"), [0, 3]) == 2
    with pytest.raises(CheckError, match="index 4 is out of range"):
        step(np.ones(4, "f"), [0, 4])


@backends
def test_inside_a_scan(backend: str) -> None:
    table, k = gc.input("table", (4,)), gc.input("k", ("T", 2), "int32")
    total = gc.variable("total", np.float32(0))

    def body(c: Any, at: Any) -> Any:
        row = gc.take(table, at, 0)  # within the loop
        return c + gc.sum(row), row

    carry, rows = gc.scan(body, gc.zeros(()), k)
    step = gc.compile(
        [table, k], [carry, rows], {total: carry}, backend=backend, check=True
    )
    values = np.arange(4, dtype="f")
    sums, seen = step(values, [[0, 1], [2, 3], [-1, -4]])
    assert sums == 9
    np.testing.assert_array_equal(seen, [[0, 1], [2, 3], [3, 0]])
    with pytest.raises(CheckError, match="index 4 is out of range") as error:
        step(values, [[0, 1], [2, 4], [0, 0]])
    assert "# within the loop" in str(error.value)
    assert total.value == 9
    assert step(values, np.zeros((0, 2), np.int32))[0] == 0


@backends
def test_only_the_branch_that_is_taken_is_checked(backend: str) -> None:
    x, i, p = gc.input("x", (3,)), gc.input("i", (), "int32"), gc.input("p", (), "bool")
    y = gc.cond(p, lambda a: gc.take(a, i, 0), lambda a: gc.sum(a), x)
    step = gc.compile([x, i, p], y, backend=backend, check=True)
    assert step(np.ones(3, "f"), 7, False) == 3
    assert step(np.ones(3, "f"), 2, True) == 1
    with pytest.raises(CheckError, match="index 7 is out of range"):
        step(np.ones(3, "f"), 7, True)


@backends
def test_inside_a_while_loop(backend: str) -> None:
    """It follows links until one says 0; one that leads outside is refused."""
    links = gc.input("links", (5,), "int32")
    last, steps = gc.while_loop(
        lambda c: gc.take(links, c[0], 0) != 0,
        lambda c: (gc.take(links, c[0], 0), c[1] + 1),
        (gc.constant(1), gc.constant(0)),
    )
    step = gc.compile([links], [last, steps], backend=backend, check=True)
    assert [int(v) for v in step([0, 3, 0, 4, 0])] == [4, 2]
    with pytest.raises(CheckError, match="index 9 is out of range"):
        step([0, 3, 0, 9, 0])


@backends
def test_loops_within_loops(backend: str) -> None:
    x, k = gc.input("x", (3,)), gc.input("k", ("T", 2), "int32")

    def inner(c: Any, at: Any) -> Any:
        return c + gc.take(x, at, 0), None

    def outer(c: Any, row: Any) -> Any:
        return gc.scan(inner, c, row)[0], None

    total = gc.scan(outer, gc.zeros(()), k)[0]
    step = gc.compile([x, k], total, backend=backend, check=True)
    assert step(np.ones(3, "f"), [[0, 1], [2, 0]]) == 4
    with pytest.raises(CheckError, match="index 3 is out of range"):
        step(np.ones(3, "f"), [[0, 1], [3, 0]])


# --- the graph ----------------------------------------------------------------------


def test_a_graph_without_checks_stays_itself() -> None:
    x = gc.input("x", ("N",))
    graph = gc.compile([x], gc.tanh(x), backend="reference").declared
    assert with_checks(graph) == (graph, [])


def test_the_checks_are_nodes_like_others() -> None:
    step, _, _ = trained("reference")
    checked, sites = with_checks(step.declared)
    assert gc.parse(checked.text()) == checked
    assert [s.op for s in sites] == ["take", "scatter_add"]
    assert all(s.origin.line for s in sites)
    assert len(checked.outputs) == len(step.declared.outputs) + 1


def test_a_parsed_graph_is_checked() -> None:
    x, i = gc.input("x", (3,)), gc.input("i", (2,), "int32")
    text = gc.compile([x, i], gc.take(x, i, 0), backend="reference").declared.text()
    step = gc.compile(gc.parse(text), backend="reference", check=True)
    with pytest.raises(CheckError, match="index 3 is out of range"):
        step(np.ones(3, "f"), [0, 3])


def test_what_the_interpreter_cannot_see_again_is_still_an_error() -> None:
    step, _, _ = trained("reference")
    error = step._broken(1, [np.zeros(2, np.int32)], {"N": 2})
    assert "take: index ? is out of range for axis 0, which has size 5" in str(error)
    assert "# the line of the look-up" in str(error)


def test_without_check_it_clamps() -> None:
    i = gc.input("i", (3,), "int32")
    y = gc.take(gc.constant([1.0, 2.0]), i, 0)
    np.testing.assert_array_equal(gc.compile([i], y)([-9, 9, -1]), [1, 2, 2])
