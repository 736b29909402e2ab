"""States and outputs of a step: who sees which value, and whose memory it is."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.errors import InputError


def test_updates_are_simultaneous() -> None:
    x = gc.input("x", ())
    a = gc.parameter("a", (300,), init="zeros")
    b = gc.parameter("b", (300,), init="ones")
    c = gc.parameter("c", (300,), init=np.full(300, 2.0))
    step = gc.compile([x], [a, b], updates={a: b, b: c, c: a})  # a cycle of three
    for i in range(4):
        old_a, old_b = step(np.float32(0))
        assert (old_a[0], old_b[0]) == (i % 3, (i + 1) % 3)
    assert [p.value[0] for p in (a, b, c)] == [1, 2, 0]


def test_swap_with_arithmetic() -> None:
    x = gc.input("x", ())
    a = gc.parameter("a", (4, 3), init="zeros")
    b = gc.parameter("b", (4, 3), init="ones")
    step = gc.compile([x], None, updates={a: b * 2.0 + x, b: a - x})
    step(np.float32(1))
    assert a.value.tolist() == np.full((4, 3), 3.0).tolist()
    assert b.value.tolist() == np.full((4, 3), -1.0).tolist()


def test_an_update_by_its_own_transpose_or_rows() -> None:
    x = gc.input("x", ())
    start = np.arange(9.0, dtype=np.float32).reshape(3, 3)
    for change, expected in (
        (lambda w: w.T, start.T),
        (lambda w: w[0:1] + w * 0.0, start[0:1] + start * 0),
        (lambda w: w @ w, start @ start),
        (lambda w: gc.take(w, gc.constant([2, 1, 0]), 0), start[::-1]),
        (lambda w: w - gc.mean(w, 0, keepdims=True), start - start.mean(0)),
        (lambda w: w - gc.mean(w), start - start.mean()),
        (lambda w: gc.concatenate([w[1:], w[:1]]), np.roll(start, -1, 0)),
        (lambda w: gc.softmax(w, 0), np.exp(start) / np.exp(start).sum(0)),
    ):
        w = gc.parameter("w", (3, 3), init=start)
        step = gc.compile([x], w, updates={w: change(w)})
        np.testing.assert_array_equal(step(np.float32(0)), start)
        np.testing.assert_allclose(w.value, expected, 1e-6)


def test_one_new_value_for_two_states_and_an_output() -> None:
    x = gc.input("x", (5,))
    a = gc.parameter("a", (5,), init="zeros")
    b = gc.parameter("b", (5,), init="ones")
    new = a + b + x
    later = gc.sum(new * 2.0)
    step = gc.compile([x], [new, later, b], updates={a: new, b: new})
    one = np.ones(5, np.float32)
    new_value, later_value, old_b = step(one)
    assert new_value.tolist() == [2.0] * 5
    assert later_value == 20.0
    assert old_b.tolist() == [1.0] * 5
    assert a.value.tolist() == b.value.tolist() == [2.0] * 5


def test_a_new_value_that_other_outputs_read() -> None:
    x = gc.input("x", (5,))
    w = gc.parameter("w", (5,), init="ones")
    new = gc.softmax(w * 3.0 + x)
    step = gc.compile([x], [new[1:3], w * 10.0, gc.sum(new)], updates={w: new})
    part, old, total = step(np.arange(5.0))
    np.testing.assert_allclose(part, w.value[1:3])
    assert old.tolist() == [10.0] * 5
    np.testing.assert_allclose(total, 1, 1e-6)


def test_an_output_is_the_old_value_of_its_state() -> None:
    x = gc.input("x", ())
    w = gc.parameter("w", (2,), init="ones")
    step = gc.compile([x], [w, w * 2.0], updates={w: w + x})
    for i in range(3):
        old, double = step(np.float32(1))
        assert old.tolist() == [1.0 + i] * 2
        assert double.tolist() == [2.0 + 2 * i] * 2


def test_a_value_is_the_callers_own_copy() -> None:
    w = gc.parameter("w", (3,), init="ones")
    first = w.value
    first[:] = 7
    assert w.value.tolist() == [1.0] * 3
    given = np.zeros(3, np.float32)
    w.value = given
    given[:] = 9
    assert w.value.tolist() == [0.0] * 3


def test_outputs_are_the_callers_own() -> None:
    x = gc.input("x", ("N",))
    w = gc.parameter("w", (3,), init="ones")
    step = gc.compile([x], [w, x * 2.0, x], updates={w: w * 2.0})
    at = np.ones(4, np.float32)
    first = step(at)
    kept = [f.copy() for f in first]
    second = step(at * 5)
    for f, k in zip(first, kept, strict=True):
        np.testing.assert_array_equal(f, k)
    for f in (*first, *second):
        f[...] = -1  # changes nothing that the step holds
    assert w.value.tolist() == [4.0] * 3
    assert at.tolist() == [1.0] * 4


def test_two_steps_share_a_parameter() -> None:
    x = gc.input("x", (2,))
    w = gc.parameter("w", (2,), init="zeros")
    up = gc.compile([x], None, updates={w: w + x})
    read = gc.compile([x], w * x)
    slow = gc.compile([x], None, updates={w: w + x}, backend="reference")
    one = np.ones(2, np.float32)
    up(one)
    slow(one)
    assert read(one * 3).tolist() == [6.0, 6.0]
    w.value = [1, 2]
    assert read(one).tolist() == [1.0, 2.0]
    up(one)
    assert w.value.tolist() == [2.0, 3.0]


def test_a_state_that_passes_find_unneeded() -> None:
    x = gc.input("x", (2,))
    w = gc.parameter("w", (2,), init="ones")
    v = gc.parameter("v", (2,), init="zeros")
    same_either_way = gc.where(w > 0.0, x, x)
    step = gc.compile([x], same_either_way, updates={v: v + x})
    assert step(np.ones(2)).tolist() == [1.0, 1.0]
    assert v.value.tolist() == [1.0, 1.0]


def test_learning_rate_is_set_without_compiling_again() -> None:
    x = gc.input("x", ())
    rate = gc.variable("rate", 0.5)
    w = gc.parameter("w", (), init="zeros")
    step = gc.compile([x], None, updates={w: w + rate * x})
    step(np.float32(1))
    rate.value = 0.25
    step(np.float32(1))
    assert w.value == 0.75


# --- out= ---------------------------------------------------------------------------


def test_results_go_where_out_says() -> None:
    x = gc.input("x", ("N",))
    at = np.arange(5, dtype=np.float32)
    single = gc.compile([x], x * 2.0)
    here = np.empty(5, np.float32)
    assert single(at, out=here) is here
    assert here.tolist() == [0, 2, 4, 6, 8]
    several = gc.compile([x], {"a": x + 1.0, "sum": gc.sum(x)})
    there = {"a": np.empty(5, np.float32), "sum": np.empty((), np.float32)}
    found = several(at, out=there)
    assert found["a"] is there["a"]
    assert there["a"].tolist() == [1, 2, 3, 4, 5]
    assert there["sum"] == 10


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_out_that_does_not_fit_is_refused_and_changes_nothing(name: str) -> None:
    x = gc.input("x", ("N",))
    w = gc.parameter("w", (), init="zeros")
    step = gc.compile([x], x * 2.0, updates={w: w + 1.0}, backend=name)
    at = np.arange(5, dtype=np.float32)
    frozen = np.empty(5, np.float32)
    frozen.setflags(write=False)
    for bad in (
        np.empty(4, np.float32),
        np.empty((5, 1), np.float32),
        np.empty(5, np.float64),
        np.empty(10, np.float32)[::2],
        frozen,
        [0.0] * 5,
        at,  # the input itself
        np.array(5.0, np.float32),
    ):
        with pytest.raises(InputError):
            step(at, out=bad)
    assert w.value == 0
    assert at.tolist() == [0, 1, 2, 3, 4]


def test_out_takes_as_many_arrays_as_there_are_outputs() -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], [x + 1.0, x + 2.0])
    at = np.arange(3, dtype=np.float32)
    for bad in ([np.empty(3, np.float32)], [np.empty(3, np.float32)] * 2, []):
        with pytest.raises(InputError):
            step(at, out=bad)


def test_a_state_begins_at_a_cache_line() -> None:
    for n in (1, 3, 1000, 100_000):
        for dtype in ("float32", "float64", "int64", "bool"):
            w = gc.parameter("w", init=np.ones(n, dtype), dtype=dtype)
            assert w.array.ctypes.data % 64 == 0
            assert w.array.flags.c_contiguous
            assert w.value.tolist() == [1] * n
