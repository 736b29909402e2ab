"""Sorting, searching and scans: NaN, ties, edges, states, and what errors say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, CompileError, GuardError, ShapeError
from graphc.ir.program import Call

NAN, INF = float("nan"), float("inf")
HARD = [2.0, NAN, -0.0, INF, 0.0, -INF, NAN, -1.0, 2.0, 1e-45, -1e-45]


def both(outputs: dict[str, Any], given: dict[Any, Any]) -> dict[str, Any]:
    """Return what the cpu computes, which is what reference does."""
    found = gc.compile(list(given), outputs)(*given.values())
    expected = gc.evaluate(outputs, given)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, name)
    return dict(found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_nan_is_above_all_and_zeros_are_equal(dtype: str) -> None:
    x = gc.input("x", ("N",), dtype)
    made = {
        "up": gc.sort(x),
        "where": gc.argsort(x),
        "down": gc.argsort(x, descending=True),
        "top": gc.top_k(x, 4)[1],
        "search": gc.searchsorted(gc.sort(x), x, "right"),
    }
    a = np.array(HARD, dtype)
    found = both(made, {x: a})
    np.testing.assert_array_equal(found["up"], np.sort(a, kind="stable"))
    order = np.argsort(a, kind="stable")
    np.testing.assert_array_equal(found["where"], order)
    assert found["down"].tolist() == [1, 6, 3, 0, 8, 9, 2, 4, 10, 7, 5]
    assert found["top"].tolist() == [1, 6, 3, 0]
    np.testing.assert_array_equal(
        found["search"], np.searchsorted(np.sort(a), a, "right")
    )


@pytest.mark.parametrize("n", [0, 1, 2, 11, 12, 13, 24, 25, 97, 1009, 20011])
def test_lines_of_any_length_are_sorted_stably(n: int) -> None:
    x = gc.input("x", ("N",), "int64")
    a = np.random.default_rng(n).integers(-9, 9, n)
    a[: n // 3] -= 2**62  # keys that differ in their upper half alone
    found = both({"sort": gc.sort(x), "argsort": gc.argsort(x)}, {x: a})
    np.testing.assert_array_equal(found["sort"], np.sort(a))
    np.testing.assert_array_equal(found["argsort"], np.argsort(a, kind="stable"))


@pytest.mark.parametrize("k", [1, 2, 47, 48, 49, 300])
def test_top_k_is_the_head_of_the_order(k: int) -> None:
    x = gc.input("x", (3, "N"))
    a = np.random.default_rng(k).integers(0, 50, (3, 300)).astype(np.float32)
    values, indices = gc.top_k(x, k)
    found = both({"values": values, "indices": indices}, {x: a})
    order = np.argsort(-a, 1, kind="stable")[:, :k]
    np.testing.assert_array_equal(found["indices"], order)
    np.testing.assert_array_equal(found["values"], np.take_along_axis(a, order, 1))


def test_a_sort_and_its_argsort_and_gradient_are_one_call() -> None:
    x, g = gc.input("x", ("N", 3)), gc.input("g", ("N", 3))
    slope = gc.grad(gc.sum(gc.sort(x, 0) * g), x)
    step = gc.compile([x, g], [gc.sort(x, 0), gc.argsort(x, 0), slope])
    calls = [s for s in step.program.body if isinstance(s, Call)]
    assert [c.routine for c in calls] == ["sort"]
    a, b = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
    _, order, found = step(a, b)
    expected = np.zeros_like(a)
    np.put_along_axis(expected, order, b, 0)
    np.testing.assert_array_equal(found, expected)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    x = gc.input("x", ("N", "M"))
    made = [gc.sort(x, 1), gc.cumsum(x, 0), gc.top_k(x, 3)[0]]
    a = np.random.default_rng(0).normal(size=(600, 900)).astype(np.float32)
    one = gc.compile([x], made, threads=1)(a)
    for f, e in zip(gc.compile([x], made)(a), one, strict=True):
        np.testing.assert_array_equal(f, e)


def test_a_routine_may_write_a_state_that_it_reads() -> None:
    w = gc.variable("w", np.array([3.0, 1.0, 2.0], np.float32))
    x = gc.input("x", (3,))
    step = gc.compile([x], gc.sum(w * x), updates={w: gc.cumsum(w)})
    assert step([1.0, 1.0, 1.0]) == 6.0
    assert w.value.tolist() == [3.0, 4.0, 6.0]
    step([1.0, 1.0, 1.0])
    assert w.value.tolist() == [3.0, 7.0, 13.0]


def test_two_states_may_swap_through_routines() -> None:
    a = gc.variable("a", np.array([2.0, 1.0], np.float32))
    b = gc.variable("b", np.array([4.0, 3.0], np.float32))
    step = gc.compile([], [], updates={a: gc.sort(b), b: gc.cumsum(a)})
    step()
    assert a.value.tolist() == [3.0, 4.0]
    assert b.value.tolist() == [2.0, 3.0]


# --- scans --------------------------------------------------------------------------


def test_the_gradient_of_cumprod_is_right_at_zeros() -> None:
    x = gc.input("x", (4,), "float64")
    y = gc.sum(gc.cumprod(x) * gc.constant(np.array([1.0, 10.0, 100.0, 1000.0])))
    slope = gc.grad(y, x)
    made = {"first": slope, "second": gc.grad(gc.sum(slope), x)}
    found = both(made, {x: np.array([2.0, 0.0, 3.0, 0.0])})
    # y = x0 + 10 x0 x1 + 100 x0 x1 x2 + 1000 x0 x1 x2 x3
    assert found["first"].tolist() == [1.0, 620.0, 0.0, 0.0]
    assert found["second"].tolist() == [310.0, 6510.0, 200.0, 6000.0]


def test_running_extrema_keep_nan_and_the_first_of_equals() -> None:
    x = gc.input("x", ("N",))
    a = np.array([1.0, 3.0, 3.0, NAN, 5.0], np.float32)
    top = gc.cummax(x)
    made = {
        "max": top,
        "min": gc.cummin(x, reverse=True),
        "slope": gc.grad(gc.sum(gc.cummax(x[:3])), x),
    }
    found = both(made, {x: a})
    np.testing.assert_array_equal(found["max"], [1.0, 3.0, 3.0, NAN, NAN])
    np.testing.assert_array_equal(found["min"], [NAN, NAN, NAN, NAN, 5.0])
    assert found["slope"].tolist() == [1.0, 2.0, 0.0, 0.0, 0.0]


def test_integers_wrap_and_bools_are_counted() -> None:
    x, c = gc.input("x", ("N",), "int32"), gc.input("c", ("N",), "bool")
    high = 2**31 - 1
    made = {"sum": gc.cumsum(x), "count": gc.cumsum(c), "product": gc.cumprod(x)}
    given = {x: np.array([high, 1, 2], np.int32), c: np.array([True, False, True])}
    found = both(made, given)
    assert found["sum"].tolist() == [high, -(2**31), -(2**31) + 2]
    assert found["count"].tolist() == [1, 1, 2]
    assert found["count"].dtype == np.int32


def test_a_discounted_return() -> None:
    r = gc.input("r", ("T",))
    rewards = np.array([1.0, 0.0, 2.0], np.float32)
    total = gc.linear_recurrence(0.5, r, reverse=True)
    assert both({"y": total}, {r: rewards})["y"].tolist() == [1.5, 1.0, 2.0]


# --- what is refused ----------------------------------------------------------------


def test_errors_name_both_values_and_the_line() -> None:
    x = gc.input("x", (3, "N"))
    with pytest.raises(ArgumentError, match=r"sort: axis 2 is out of range for x"):
        gc.sort(x, 2)
    with pytest.raises(ArgumentError, match=r"top_k: k=4 elements of axis 0 of x") as e:
        gc.top_k(x, 4, 0)
    assert "test_order.py" in str(e.value)
    assert "at most 3" in str(e.value)
    with pytest.raises(ArgumentError, match="cannot be negative"):
        gc.top_k(x, -1)
    with pytest.raises(ArgumentError, match="unknown side 'middle'"):
        gc.searchsorted(x, x, "middle")
    with pytest.raises(ShapeError, match="axes before the sorted one"):
        gc.searchsorted(x, gc.input("y", (2, "N")))
    with pytest.raises(ShapeError):
        gc.linear_recurrence(x, gc.input("z", (2, "N")))


def test_a_k_that_may_be_too_large_is_a_guard() -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.top_k(x, 3)[0])
    assert step([1.0, 4.0, 2.0, 3.0]).tolist() == [4.0, 3.0, 2.0]
    with pytest.raises(GuardError, match="N >= 3"):
        step([1.0, 2.0])


def test_cuda_refuses_routines_by_name() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    x = gc.input("x", ("N",))
    with pytest.raises(CompileError, match="no routine 'sort'") as error:
        gc.compile([x], gc.sort(x), backend="cuda")
    assert "test_order.py" in str(error.value)
    assert 'backend="cpu"' in str(error.value)
