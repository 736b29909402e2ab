"""Reading and writing by index: against NumPy, at the edges, and its errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, GuardError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor

Array = np.ndarray[Any, Any]
A = np.arange(60, dtype=np.float64).reshape(3, 4, 5)
ROWS, COLUMNS = np.array([0, 2, 1]), np.array([3, 0, -1])
GRID = np.array([[0, 1], [-1, 2]])

# Every kind of key, alone and together.
KEYS: dict[str, Any] = {
    "int": 1,
    "negative_int": -1,
    "numpy_int": np.int64(2),
    "slice": slice(1, 3),
    "step": slice(None, None, 2),
    "backwards": slice(None, None, -1),
    "backwards_by_two": (slice(None), slice(None, None, -2)),
    "backwards_from": (slice(None), slice(2, None, -1)),
    "backwards_to": (slice(None), slice(None, 1, -1)),
    "backwards_nothing": (slice(0, 2, -1),),
    "nothing": slice(2, 2),
    "beyond": slice(1, 100),
    "none": (None, 0, None),
    "ellipsis": (..., 0),
    "ellipsis_between": (0, ..., slice(1, 3)),
    "all": ...,
    "array": ROWS,
    "list": [0, 2],
    "empty_list": [],
    "second_axis": (slice(None), COLUMNS),
    "last_axis": (..., COLUMNS),
    "two": (ROWS, COLUMNS),
    "three": (ROWS, COLUMNS, COLUMNS),
    "broadcast": (ROWS[:, None], COLUMNS),
    "grid": (slice(None), GRID),
    "apart": (ROWS, slice(None), COLUMNS),
    "together": (slice(None), ROWS, COLUMNS),
    "int_beside": (0, slice(None), COLUMNS),
    "int_next": (slice(None), 1, COLUMNS),
    "none_between": (ROWS, None, COLUMNS),
    "none_before": (None, slice(None), COLUMNS),
    "slice_first": (slice(None, None, -1), None, ROWS),
    "empty_ellipsis_between": (ROWS, 0, ..., COLUMNS),
    "scalar_array": (np.array(1), slice(None), ROWS),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_reading_is_numpys(key: Any) -> None:
    for shape in ((3, 4, 5), ("N", 4, "M")):
        x = gc.input("x", shape, "float64")
        try:
            y = x[key]
        except ShapeError:  # it depends on N, which is not known
            assert shape[0] == "N"
            continue
        assert len(y.shape) == A[key].ndim
        try:
            found = gc.evaluate(y, {x: A})
        except GuardError:
            assert shape[0] == "N"
            continue
        np.testing.assert_array_equal(found, A[key])


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_adding_and_putting_are_numpys(key: Any) -> None:
    x = gc.input("x", A.shape, "float64")
    new = np.random.default_rng(0).normal(size=A[key].shape)
    added, put = A.copy(), A.copy()
    np.add.at(added, key, new)
    put[key] = new
    v = gc.input("v", new.shape, "float64")
    made = [gc.index_add(x, key, v), gc.index_update(x, key, v)]
    one, two = gc.evaluate(made, {x: A, v: new})
    np.testing.assert_allclose(one, added)
    np.testing.assert_array_equal(two, put)


def test_all_keys_on_the_cpu() -> None:
    x = gc.input("x", A.shape, "float64")
    made: dict[str, Tensor] = {}
    for name, key in KEYS.items():
        made[f"{name} read"] = x[key]
        made[f"{name} add"] = gc.index_add(x, key, 2.0)
        made[f"{name} put"] = gc.index_update(x, key, -1.0)
        made[f"{name} grad"] = gc.grad(gc.sum(gc.sin(x[key] * x[key])), x)
    wanted = gc.evaluate(made, {x: A})
    for name, value in gc.compile([x], made)(A).items():
        np.testing.assert_allclose(value, wanted[name], 1e-12, 1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("key", "size"), [(slice(None, None, -1), 0), (slice(-2, None, -1), 2)]
)
def test_backwards_over_a_symbolic_axis(key: slice, size: int) -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], x[key])
    for n in range(size, 6):
        given = np.arange(n, dtype="f")
        np.testing.assert_array_equal(step(given), given[key])


def test_tensors_as_indices() -> None:
    x, i = gc.input("x", ("N", 3)), gc.input("i", ("M",), "int32")
    j = gc.argmax(x, 1)
    step = gc.compile([x, i], [x[i], x[gc.iota(x.shape[:1]), j], x[i[0], 1]])
    a = np.random.default_rng(0).normal(size=(4, 3)).astype("f")
    rows, best, one = step(a, [3, -1, 9, -9])
    np.testing.assert_array_equal(rows, a[[3, 3, 3, 0]])  # beyond is clamped
    np.testing.assert_array_equal(best, a.max(1))
    assert one == a[3, 1]


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_single_indices_on_every_axis(backend: str) -> None:
    x = gc.input("x", (3, 4))
    i, j = gc.input("i", (), "int32"), gc.input("j", (), "int32")
    made = [x[i, j], gc.index_update(x, (i, j), 7.0), gc.index_add(x, (i, j), 7.0)]
    a = np.arange(12, dtype="f").reshape(3, 4)
    one, put, added = gc.compile([x, i, j], made, backend=backend)(a, 2, -1)
    assert one == 11
    assert put.sum() == a.sum() - 11 + 7
    assert (added - a)[2, 3] == 7


def test_numbers_out_of_range_are_refused_where_they_are_written() -> None:
    x = gc.input("x", (3, 4))
    for use in (
        lambda: gc.take(x, [0, 3], 0),
        lambda: x[[0, -4]],
        lambda: x[:, np.array([4])],
        lambda: gc.scatter_add(x, [3], gc.ones((1, 4))),
        lambda: gc.take_along_axis(x, [[9, 0, 0, 0]], 0),
        lambda: gc.index_add(x, [3], 1.0),
    ):
        with pytest.raises(ShapeError, match="is out of range for an axis of size"):
            use()
    assert gc.take(gc.input("y", ("N",)), [9]).type == x[0, :1].type


def test_keys_that_are_refused() -> None:
    x = gc.input("x", (3, 4))
    mask = gc.input("m", (3,), "bool")
    for key in (mask, x > 0, [True, False, True], True, (0, np.ones(4, bool))):
        with pytest.raises(DTypeError, match="cannot be a boolean mask") as error:
            x[key]
        assert "graphc.where(mask" in str(error.value)
        assert "test_indexing.py" in str(error.value)
    for key, what in (
        (1.5, "must be an int, a slice"),
        ("a", "must be an int, a slice"),
        (slice(0, 1.5), "bounds must be ints"),
        (slice(None, None, 0), "step must be an int that is not 0"),
        ((0, 0, 0), "3 indices for x, which has 2 axes"),
        ((..., ...), "only one Ellipsis"),
    ):
        with pytest.raises(ArgumentError, match=what):
            x[key]
    with pytest.raises(DTypeError, match="must be of integers, not float32"):
        x[x]
    with pytest.raises(ShapeError, match="index 3 is out of range for an axis of size"):
        x[3]
    with pytest.raises(ShapeError, match="dimensions differ"):
        x[[0, 1], [0, 1, 2]]
    at = gc.input("at", (), "int32")
    with pytest.raises(ArgumentError, match="bounds must be ints") as error:
        x[slice(at, None)]
    assert "dynamic_slice" in str(error.value)


def test_the_last_of_several_values_stays() -> None:
    x, v = gc.input("x", (4,), "float64"), gc.input("v", (5,), "float64")
    i = gc.constant(np.array([1, 3, 1, 1, -1]))
    y = gc.index_update(x, i, v)
    w = np.array([1.0, 10.0, 100.0, 1000.0])
    loss = gc.sum(y * w)
    step = gc.compile([x, v], [y, gc.grad(loss, x), gc.grad(loss, v)])
    for found in (
        step(np.zeros(4), np.arange(1.0, 6.0)),
        gc.evaluate(
            [y, *gc.grad(loss, [x, v])], {x: np.zeros(4), v: np.arange(1.0, 6.0)}
        ),
    ):
        np.testing.assert_array_equal(found[0], [0, 4, 0, 5])
        np.testing.assert_array_equal(found[1], [1, 0, 100, 0])
        # Only the values that stay have a gradient.
        np.testing.assert_array_equal(found[2], [0, 0, 0, 10, 1000])


def test_writing_has_second_derivatives() -> None:
    x, v = gc.input("x", (4,), "float64"), gc.input("v", (3,), "float64")
    i = gc.constant(np.array([2, 0, 2]))
    y = gc.sum(gc.index_update(x, i, v * v) ** 3) + gc.sum(gc.index_add(x, i, v) ** 3)
    h = gc.hessian(y, [x, v])
    given = {x: np.array([0.3, 1.0, -0.5, 2.0]), v: np.array([0.7, -1.1, 0.4])}
    flat = gc.evaluate([b for row in h for b in row], given)
    whole = np.block([[flat[0], flat[1]], [flat[2], flat[3]]])
    np.testing.assert_allclose(whole, whole.T, 1e-12, 1e-12)
    first = gc.grad(y, [x, v])
    z = np.concatenate([given[x], given[v]])
    for k in range(7):
        ends = []
        for side in (1, -1):
            moved = z.copy()
            moved[k] += side * 1e-6
            at = {x: moved[:4], v: moved[4:]}
            ends.append(np.concatenate(gc.evaluate(first, at)))
        wanted = (ends[0] - ends[1]) / 2e-6
        np.testing.assert_allclose(whole[k], wanted, 1e-6, 1e-6)


def test_embeddings_have_no_dense_one_hot() -> None:
    """The gradient touches the rows that were read, not a [N, V] matrix."""
    table, i = gc.input("t", ("V", 8)), gc.input("i", ("N",), "int32")
    loss = gc.sum(gc.take(table, i, 0) ** 2)
    graph = Graph.build([table, i], [gc.grad(loss, table)])
    assert graph.count("scatter_add") == 1
    assert graph.count("one_hot") == graph.count("matmul") == 0
    assert all("N*V" not in str(r.type) for n in graph.nodes for r in n.results)


def test_scatter_add() -> None:
    x, u = gc.input("x", (4, 2)), gc.input("u", (3, 2))
    y = gc.scatter_add(x, gc.constant([0, -1, 9]), u)
    a, b = np.ones((4, 2), "f"), np.arange(6, dtype="f").reshape(3, 2)
    wanted = a.copy()
    np.add.at(wanted, [0, 3, 3], b)
    np.testing.assert_array_equal(gc.compile([x, u], y)(a, b), wanted)
    counts = gc.scatter_add(gc.zeros((3,), "int32"), [0, 2, 0, 0], 1)
    assert gc.evaluate(counts).tolist() == [3, 0, 1]
    columns = gc.scatter_add(x, gc.constant([1]), gc.ones((4, 1)), axis=1)
    assert gc.evaluate(columns, {x: a}).sum() == 12
    with pytest.raises(ShapeError, match=r"values f32\[3,2\] do not broadcast"):
        gc.scatter_add(x, [0, 1], u)
    with pytest.raises(DTypeError, match="indices must be integers"):
        gc.scatter_add(x, [0.5], u[:1])
    with pytest.raises(DTypeError, match="values of float32 do not fit"):
        gc.scatter_add(gc.zeros((3,), "int32"), [0], [0.5])
    with pytest.raises(ArgumentError, match="axis 2 is out of range for x"):
        gc.scatter_add(x, [0], u, axis=2)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_along_an_axis_is_numpys(axis: int) -> None:
    rng = np.random.default_rng(0)
    x = gc.input("x", A.shape, "float64")
    order = np.argsort(rng.normal(size=A.shape), axis=axis)
    i = gc.input("i", A.shape, "int64")
    read = gc.take_along_axis(x, i, axis)
    new = gc.put_along_axis(x, i, gc.sin(x), axis)
    put = A.copy()
    np.put_along_axis(put, order, np.sin(A), axis)
    step = gc.compile([x, i], [read, new])
    for one, two in (step(A, order), gc.evaluate([read, new], {x: A, i: order})):
        np.testing.assert_array_equal(one, np.take_along_axis(A, order, axis))
        np.testing.assert_allclose(two, put, 1e-12)


def test_along_an_axis_errors() -> None:
    x, i = gc.input("x", (3, 4)), gc.input("i", (2, 2), "int32")
    with pytest.raises(ShapeError, match="dimensions differ"):
        gc.take_along_axis(x, i, 1)
    with pytest.raises(ShapeError, match="has 2 axes, the indices k have 1"):
        gc.take_along_axis(x, gc.input("k", (2,), "int32"), 1)
    with pytest.raises(DTypeError, match="indices must be integers"):
        gc.take_along_axis(x, x, 1)
    with pytest.raises(ArgumentError, match="axis 2 is out of range"):
        gc.take_along_axis(x, i, 2)
    with pytest.raises(ShapeError, match="more elements beside the axis"):
        gc.put_along_axis(gc.zeros((1, 4)), i, 1.0, 1)


def test_dynamic_slices_move_to_fit() -> None:
    x, s = gc.input("x", ("N",)), gc.input("s", (), "int32")
    read = gc.dynamic_slice(x, [s], (2,))
    put = gc.dynamic_update_slice(x, [7.0, 8.0], [s])
    step = gc.compile([x, s], [read, put])
    for n in (2, 3, 5):
        a = np.arange(n, dtype="f")
        for start in range(-n - 3, n + 3):
            at = min(max(start + n if start < 0 else start, 0), n - 2)
            wanted = a.copy()
            wanted[at : at + 2] = [7, 8]
            one, two = step(a, start)
            np.testing.assert_array_equal(one, a[at : at + 2])
            np.testing.assert_array_equal(two, wanted)
    with pytest.raises(GuardError, match="N >= 2"):
        step(np.ones(1, "f"), 0)


def test_dynamic_slice_errors() -> None:
    x, s = gc.input("x", (3, 4)), gc.input("s", (), "int32")
    with pytest.raises(ShapeError, match="a slice of 5 from axis 1 of x"):
        gc.dynamic_slice(x, [s, s], (1, 5))
    with pytest.raises(ShapeError, match="1 starts and 2 sizes for x, which has 2"):
        gc.dynamic_slice(x, [s], (1, 1))
    with pytest.raises(DTypeError, match="a start must be an integer scalar, cast is"):
        gc.dynamic_slice(x, [gc.cast(s, "float32"), s], (1, 1))
    with pytest.raises(ShapeError, match="a slice of 4 from axis 0 of x"):
        gc.dynamic_update_slice(x, gc.zeros((4, 4)), [s, s])
    with pytest.raises(ShapeError, match="must be a vector of known length"):
        gc.dynamic_slice(x, gc.input("v", ("N",), "int32"), (1, 1))


def test_reading_prints_and_parses() -> None:
    x, i = gc.input("x", ("N", 4)), gc.input("i", ("M",), "int32")
    y = gc.index_update(x, (slice(None, None, -1), i), x[::-1][:, i] * 2.0)
    graph = Graph.build([x, i], [y, x[i, i], gc.dynamic_slice(x, [i[0], 0], (1, 4))])
    assert gc.parse(graph.text()) == graph
