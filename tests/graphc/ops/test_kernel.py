"""A user's own kernel is an op: it runs, has a gradient, prints, says what fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
import pytest

import graphc as gc
from graphc.errors import (
    ArgumentError,
    CompileError,
    GradientError,
    GraphcError,
    ParseError,
)
from graphc.ir.op import FUNCTIONS, OPS, Op
from graphc.ir.program.routines import ROUTINES

Array = np.ndarray[Any, Any]


@pytest.fixture(autouse=True)
def same_ops_afterwards() -> Iterator[None]:
    """Forget the ops that a test defines."""
    tables: list[Any] = [(t, dict(t)) for t in (OPS, FUNCTIONS, ROUTINES)]
    yield
    for table, known in tables:
        table.clear()
        table.update(known)


def waiting(x: Any, y: Any) -> None:
    """Fill y with the times that customers wait: Lindley's recursion."""
    total = 0.0
    for i in range(x.shape[0]):
        total = max(total + x[i], 0.0)
        y[i] = total


def waiting_slope(g: Any, y: Any, d: Any) -> None:
    """Fill d with the gradient of `waiting`."""
    total = 0.0
    for i in range(y.shape[0] - 1, -1, -1):
        total = (total + g[i]) * (y[i] > 0)
        d[i] = total


def lindley() -> Op:
    back = gc.kernel_op("waiting_slope", waiting_slope, infer=lambda g, y: y)
    return gc.kernel_op(
        "waiting", waiting, infer=lambda x: x, grad=lambda g, y, x: back(g, y)
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_kernel_runs_and_differentiates(backend: str, dtype: str) -> None:
    op = lindley()
    x = gc.input("x", ("N",), dtype)
    y = op(x * 2.0) + 1.0
    slope = gc.grad(gc.sum(y * y), x)
    step = gc.compile([x], [y, slope], backend=backend)
    for n in (0, 1, 7, 100):
        a = np.random.default_rng(n).normal(size=n).astype(dtype)
        expected = np.zeros(n, dtype)
        waiting(2 * a, expected)
        found, d = step(a)
        np.testing.assert_allclose(found, expected + 1.0, 1e-6)
        assert d.dtype == np.dtype(dtype)
        for i in range(min(n, 7) if dtype == "float64" else 0):
            ends = []
            for side in (1e-6, -1e-6):
                moved = a.copy()
                moved[i] += side
                ends.append(np.sum(step(moved)[0] ** 2))
            np.testing.assert_allclose(d[i], (ends[0] - ends[1]) / 2e-6, 1e-6)


def split_signs(x: Any, s: Any, up: Any, count: Any) -> None:
    """Fill the positive part times a scalar, and the number of rows that have any."""
    rows = np.zeros(x.shape[0])  # a kernel may allocate
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            up[i, j] = max(x[i, j], 0) * s[()]
            rows[i] += x[i, j] > 0
    count[()] = np.sum(rows > 0)


def test_several_inputs_and_outputs_of_any_rank_and_dtype() -> None:
    op = gc.kernel_op(
        "split_signs",
        split_signs,
        infer=lambda x, s: (
            x,
            x.with_shape(()).with_dtype(gc.input("i", (), "int32").dtype),
        ),
    )
    x = gc.input("x", ("N", 3))
    up, count = op(x.T, 2.0)  # a transposed array arrives contiguous
    step = gc.compile([x], [up, count])
    a = np.array([[1.0, -1.0, -2.0], [-3.0, -5.0, 4.0]], np.float32)
    found, n = step(a)
    np.testing.assert_array_equal(found, 2 * np.maximum(a.T, 0))
    assert n == 2
    assert n.dtype == np.int32
    for f, e in zip((found, n), gc.evaluate([up, count], {x: a}), strict=True):
        np.testing.assert_array_equal(f, e)


def test_a_numba_function_is_taken_as_it_is() -> None:
    op = gc.kernel_op("waiting", numba.njit(fastmath=False)(waiting), infer=lambda x: x)
    x = gc.input("x", ("N",))
    given = np.array([1.0, -3.0, 2.0], np.float32)
    assert gc.compile([x], op(x))(given).tolist() == [1.0, 0.0, 2.0]
    assert gc.evaluate(op(x), {x: given}).tolist() == [1.0, 0.0, 2.0]


def test_evaluate_stands_in_for_the_plain_function() -> None:
    op = gc.kernel_op("doubled", waiting, infer=lambda x: x, evaluate=lambda x: 2 * x)
    x = gc.input("x", ("N",))
    assert gc.evaluate(op(x), {x: [-1.0]}).tolist() == [-2.0]


def test_a_kernel_may_update_a_state() -> None:
    op = lindley()
    w = gc.variable("w", np.array([1.0, -3.0, 2.0], np.float32))
    step = gc.compile([], gc.sum(w), updates={w: op(w)})
    assert step() == 0.0
    assert w.value.tolist() == [1.0, 0.0, 2.0]
    assert step() == 3.0


def test_text_goes_both_ways_once_the_op_is_there() -> None:
    op = lindley()
    x = gc.input("x", ("N",))
    graph = gc.compile([x], op(x), backend="reference").declared
    text = graph.text()
    assert "waiting(%x)" in text
    assert gc.parse(text).text() == text
    assert "call kernel.waiting(x) -> out0" in gc.compile([x], op(x)).program.text()
    del OPS["waiting"]
    with pytest.raises(ParseError, match="unknown op 'waiting'") as error:
        gc.parse(text)
    assert "graphc.kernel_op" in str(error.value) or "did you mean" in str(error.value)


def test_a_step_keeps_the_kernel_it_was_made_of() -> None:
    x = gc.input("x", ("N",))
    first = gc.compile([x], lindley()(x))

    def nothing(x: Any, y: Any) -> None:
        y[:] = 0.0

    again = gc.kernel_op("waiting", nothing, infer=lambda x: x)
    second = gc.compile([x], again(x))
    assert first([1.0, 1.0]).tolist() == [1.0, 2.0]
    assert second([1.0, 1.0]).tolist() == [0.0, 0.0]
    assert "kernel.waiting.1" in second.program.text()


def test_vmap_runs_the_kernel_for_each_element() -> None:
    op = lindley()
    x, w = gc.input("x", ("B", "N"), "float64"), gc.input("w", ("N",), "float64")
    y = gc.vmap(lambda row: op(row * w))(x)
    loss = gc.sum(y * y * y)
    made = {"y": y, "slope": gc.grad(loss, x), "shared": gc.grad(loss, w)}
    step = gc.compile([x, w], made)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 5)), rng.normal(size=5)
    found = step(a, b)
    expected = gc.evaluate(made, {x: a, w: b})
    r = gc.input("r", ("N",), "float64")
    one = gc.evaluate(op(r * w), {r: a[2], w: b})
    np.testing.assert_array_equal(found["y"][2], one)
    plain = gc.grad(gc.sum(op(r * w) ** 3), [r, w])
    rows = [gc.evaluate(plain, {r: row, w: b}) for row in a]
    np.testing.assert_allclose(found["slope"], [d for d, _ in rows], 1e-12)
    np.testing.assert_allclose(found["shared"], sum(d for _, d in rows), 1e-12)
    for name, e in expected.items():
        np.testing.assert_allclose(found[name], e, 1e-12, err_msg=name)


def test_vmap_of_scalars_and_of_what_all_elements_share() -> None:
    op = gc.kernel_op(
        "split_signs",
        split_signs,
        infer=lambda x, s: (x, x.with_shape(()).with_dtype(gc.constant(1).dtype)),
    )
    x, s = gc.input("x", ("N", 3)), gc.input("s", ("B",))
    up, count = gc.vmap(lambda s: op(x, s))(s)
    a = np.array([[1.0, -1.0, -2.0], [-3.0, -5.0, 4.0]], np.float32)
    scales = np.array([1.0, 0.5, 2.0], np.float32)
    found, n = gc.compile([x, s], [up, count])(a, scales)
    expected = scales[:, None, None] * np.maximum(a, 0)
    np.testing.assert_array_equal(found, expected)
    assert n.tolist() == [2, 2, 2]
    twice = gc.vmap(gc.vmap(lambda s: op(x, s)[0]))(gc.reshape(s, (-1, 1)))
    np.testing.assert_array_equal(
        gc.evaluate(twice, {x: a, s: scales}), expected[:, None]
    )


def test_vmap_takes_the_rule_that_is_given() -> None:
    op = gc.kernel_op(
        "waiting",
        waiting,
        infer=lambda x: x,
        batch=lambda node, inputs, batched, size: [gc.cumsum(inputs[0], 1)],
    )
    x = gc.input("x", ("B", "N"))
    found = gc.compile([x], gc.vmap(op)(x))([[1.0, 2.0], [-1.0, 2.0]])
    assert found.tolist() == [[1.0, 3.0], [-1.0, 1.0]]


# --- what is refused ----------------------------------------------------------------


def test_errors_of_numba_name_the_op_and_the_file() -> None:
    def wrong(x: Any, y: Any) -> None:
        y[:] = x.no_such_thing()

    op = gc.kernel_op("wrong", wrong, infer=lambda x: x)
    x = gc.input("x", ("N",))
    with pytest.raises(CompileError) as error:
        gc.compile([x], op(x) + 1.0)
    text = str(error.value)
    assert "wrong: the kernel wrong: Numba cannot compile it" in text
    assert "no_such_thing" in text
    assert text.count("test_kernel.py") >= 2  # where it is defined, and used


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_an_input_cannot_be_written(backend: str) -> None:
    def greedy(x: Any, y: Any) -> None:
        x[0] = 1.0
        y[:] = x

    x = gc.input("x", ("N",))
    op = gc.kernel_op("greedy", greedy, infer=lambda x: x)
    with pytest.raises(GraphcError, match=r"readonly|read-only"):
        gc.compile([x], op(x), backend=backend)([1.0, 2.0])


def test_an_exception_in_a_kernel_is_an_error_of_the_step() -> None:
    def picky(x: Any, y: Any) -> None:
        for i in range(x.shape[0]):
            if x[i] < 0:
                raise ValueError("negative")
            y[i] = x[i]

    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.kernel_op("picky", picky, infer=lambda x: x)(x))
    assert step([1.0]).tolist() == [1.0]
    with pytest.raises(GraphcError, match="picky: its kernel raised") as error:
        step([-1.0])
    assert "test_kernel.py" in str(error.value)
    assert step([2.0]).tolist() == [2.0]


def test_a_parallel_kernel_is_refused() -> None:
    op = gc.kernel_op("side", numba.njit(parallel=True)(waiting), infer=lambda x: x)
    x = gc.input("x", ("N",))
    with pytest.raises(CompileError, match="parallel=True"):
        gc.compile([x], op(x))


def test_cuda_refuses_it_by_name() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")
    x = gc.input("x", ("N",))
    with pytest.raises(CompileError, match=r"no routine 'kernel\.waiting'"):
        gc.compile([x], lindley()(x), backend="cuda")


def test_declarations_that_do_not_fit_say_so() -> None:
    x = gc.input("x", ("N",))
    with pytest.raises(ArgumentError, match="must be an identifier"):
        gc.kernel_op("no name", waiting, infer=lambda x: x)
    with pytest.raises(ArgumentError, match="add is an op already"):
        gc.kernel_op("add", waiting, infer=lambda x: x)
    with pytest.raises(ArgumentError, match="must be a Python function"):
        gc.kernel_op("maxima", np.maximum, infer=lambda x: x)  # type: ignore[arg-type]
    op = gc.kernel_op("waiting", waiting, infer=lambda x: x)
    with pytest.raises(ArgumentError, match="infer does not take 2 types") as error:
        op(x, x)
    assert "test_kernel.py" in str(error.value)
    with pytest.raises(GradientError, match="was given no grad"):
        gc.grad(gc.sum(op(x)), x)
    odd = gc.kernel_op("odd", waiting, infer=lambda x: 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="returned 3, which is no type"):
        odd(x)
    short = gc.kernel_op(
        "short", waiting, infer=lambda x: x, grad=lambda g, y, x: gc.sum(g)
    )
    with pytest.raises(GradientError, match=r"short: grad returned f32\[\] for inputs"):
        gc.grad(gc.sum(short(x)), x)
