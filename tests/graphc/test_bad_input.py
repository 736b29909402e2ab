"""Bad input gets a clear error, and loses nothing.

Each mistake is a function; its whole message stands in tests/golden/errors, with the
numbers of lines left out.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import graphc
from graphc.ir.graph import Graph


def model():
    """Return x [N, 3], a label y [N], a weight and a loss that uses all of them."""
    x = graphc.input("x", ("N", 3))
    y = graphc.input("y", ("N",), dtype="int32")
    w = graphc.parameter("w", (3, 2))
    loss = graphc.mean(x @ w) + graphc.mean(graphc.cast(y, "float32"))
    return x, y, w, loss


def step(**named):
    x, y, w, loss = model()
    return graphc.compile([x, y], loss, updates={w: w * 0.5}, **named)


GOOD = (np.zeros((2, 3), np.float32), np.zeros(2, np.int32))


# --- declarations -------------------------------------------------------------------


def matmul_of_different_sizes():
    x = graphc.input("x", ("N", 784))
    w = graphc.parameter("w1", (128, 10))
    x @ w


def sum_of_different_sizes():
    graphc.input("x", ("N", 3)) + graphc.input("y", ("N", 4))


def sizes_with_different_names():
    graphc.input("x", ("N", 3)) + graphc.input("y", ("M", 3))


def reshape_to_another_number_of_elements():
    graphc.input("x", ("N", 3)).reshape(4, -1)


def axis_out_of_range():
    graphc.sum(graphc.input("x", ("N", 3)), axis=2)


def unknown_dtype():
    graphc.input("x", ("N",), dtype="flaot32")


def negative_size():
    graphc.input("x", (-1, 3))


def truth_of_a_tensor():
    x = graphc.input("x", ())
    bool(x > 0)


def gradient_that_does_not_exist():
    _, _, _, loss = model()
    graphc.grad(loss, graphc.parameter("other", (3, 2)))


def gradient_that_is_blocked():
    x, _, w, _ = model()
    best = graphc.argmax(x @ w, axis=1)
    graphc.grad(graphc.mean(graphc.cast(best, "float32")), w)


def gradient_of_a_matrix():
    x, _, w, _ = model()
    graphc.grad(x @ w, w)


def gradient_with_respect_to_ints():
    _, y, _, loss = model()
    graphc.grad(loss, y)


def update_of_another_shape():
    x, y, w, loss = model()
    graphc.compile([x, y], loss, updates={w: graphc.zeros((2, 3))})


def update_of_another_dtype():
    x, y, w, loss = model()
    graphc.compile([x, y], loss, updates={w: graphc.cast(w, "float64")})


def update_of_an_input():
    x, y, _, loss = model()
    graphc.compile([x, y], loss, updates={x: x * 2.0})


def two_updates_of_one_state():
    x, y, w, loss = model()
    Graph.build([x, y], [loss], [(w, w * 0.5), (w, w * 2.0)])


def a_name_used_twice():
    x, y, _, loss = model()
    again = graphc.parameter("w", (3, 2))
    graphc.compile([x, y], loss + graphc.mean(x @ again))


def an_input_that_is_not_listed():
    x, _, _, loss = model()
    graphc.compile([x], loss)


def an_unknown_backend():
    step(backend="gpu")


def an_unknown_pass():
    step(passes="simplfy,fuse")


def an_unknown_option():
    step(passes="fuse{max_input=3}")


def broadcast_to_another_shape():
    graphc.broadcast_to(graphc.input("x", ("N", 3)), (4, 4))


def a_size_that_no_input_has():
    graphc.compile([], graphc.zeros(("N",)))


def an_evaluation_without_a_size():
    graphc.evaluate(graphc.zeros(("N",)))


def numpys_function_of_a_tensor():
    np.mean(np.asarray(graphc.input("x", ("N",))))


def a_dtype_that_there_is_not():
    graphc.cast(graphc.input("x", ("N",)), "complex64")


def nothing_to_join():
    graphc.concatenate([])


def an_update_by_a_number():
    x, y, w, loss = model()
    graphc.compile([x, y], loss, updates={w: 3.0})


def no_threads():
    step(threads=0)


def a_cotangent_of_another_shape():
    x, _, w, _ = model()
    graphc.grad(x @ w, w, cotangent=graphc.ones((2,)))


# --- calls --------------------------------------------------------------------------


def missing_input():
    step()(GOOD[0])


def one_input_too_many():
    step()(*GOOD, GOOD[0])


def misnamed_input():
    step()(GOOD[0], labels=GOOD[1])


def an_input_given_twice():
    step()(*GOOD, x=GOOD[0])


def wrong_rank():
    step()(np.zeros(3), GOOD[1])


def wrong_size():
    step()(np.zeros((2, 4)), GOOD[1])


def one_dimension_bound_twice():
    step()(GOOD[0], np.zeros(3, np.int32))


def floats_for_ints():
    step()(GOOD[0], np.zeros(2))


def ints_that_do_not_fit():
    step()(GOOD[0], np.array([0, 2**40]))


def complex_numbers():
    step()(np.zeros((2, 3), complex), GOOD[1])


def an_array_of_objects():
    step()(np.array([[None] * 3] * 2), GOOD[1])


def lists_of_different_lengths():
    step()([[1, 2, 3], [1]], GOOD[1])


def too_short_for_a_slice():
    x = graphc.input("x", ("N", 3))
    graphc.compile([x], x[0:3])(np.zeros((2, 3)))


def maximum_of_nothing():
    x = graphc.input("x", ("N", 3))
    graphc.compile([x], graphc.max(x, axis=0))(np.zeros((0, 3)))


def an_output_array_of_another_dtype():
    step()(*GOOD, out=np.zeros(()))


def an_output_array_of_another_shape():
    x = graphc.input("x", ("N",))
    graphc.compile([x], x * 2.0)(np.zeros(3), out=np.zeros(4, np.float32))


def an_output_array_that_is_an_input():
    x = graphc.input("x", ("N",))
    at = np.zeros(3, np.float32)
    graphc.compile([x], x * 2.0)(at, out=at)


def too_few_output_arrays():
    x = graphc.input("x", ("N",))
    graphc.compile([x], [x, x * 2.0])(np.zeros(3), out=[np.zeros(3, np.float32)])


def a_value_of_another_shape():
    graphc.parameter("w", (3, 2)).value = np.zeros(3)


def memory_without_sizes():
    step().memory()


MISTAKES = [
    f for name, f in list(globals().items())
    if callable(f) and getattr(f, "__module__", "") == __name__
    and name not in ("model", "step")
]  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda f: f.__name__)
def test_a_mistake_gets_a_whole_message(mistake, golden):
    with pytest.raises(graphc.GraphcError) as error:
        mistake()
    text = f"{type(error.value).__name__}: {error.value}"
    golden(f"errors/{mistake.__name__}", re.sub(r"\.py:\d+", ".py:LINE", text))


REFUSED = {
    "rank": (np.zeros(3), GOOD[1]),
    "size": (np.zeros((2, 4)), GOOD[1]),
    "twice": (GOOD[0], np.zeros(3, np.int32)),
    "dtype": (GOOD[0], np.zeros(2)),
    "missing": (GOOD[0],),
}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_call_changes_no_state(what, backend):
    x, y, w, loss = model()
    run = graphc.compile([x, y], loss, updates={w: w * 0.5}, backend=backend)
    before = w.value
    with pytest.raises(graphc.GraphcError):
        run(*REFUSED[what])
    assert np.array_equal(w.value, before)
    run(*GOOD)
    assert np.array_equal(w.value, before * 0.5)


def test_casts_that_numpy_calls_same_kind_are_made():
    x = graphc.input("x", ("N",))
    y = graphc.input("y", ("N",), dtype="int32")
    run = graphc.compile([x, y], {"x": x * 2.0, "y": y + 1})
    found = run(np.array([1.0, 2.0]), np.array([3, 4]))  # float64, int64
    assert found["x"].dtype == np.float32
    assert found["y"].dtype == np.int32
    assert found["y"].tolist() == [4, 5]
    assert run([1, 2], [3, 4])["x"].tolist() == [2.0, 4.0]


def test_arrays_need_not_be_contiguous():
    x = graphc.input("x", ("N", "M"))
    run = graphc.compile([x], graphc.sum(x, axis=1))
    whole = np.arange(48, dtype=np.float32).reshape(6, 8)
    for view in (
        whole.T,
        whole[::2, 1::3],
        whole[::-1],
        np.broadcast_to(whole[:1], (4, 8)),
    ):
        assert np.allclose(run(view), view.sum(axis=1))


def test_an_empty_batch_works():
    x = graphc.input("x", ("N", 3))
    w = graphc.parameter("w", (3, 2))
    run = graphc.compile(
        [x], {"rows": graphc.relu(x @ w), "sum": graphc.sum(x), "mean": graphc.mean(x)}
    )
    found = run(np.zeros((0, 3)))
    assert found["rows"].shape == (0, 2)
    assert found["sum"] == 0
    assert np.isnan(found["mean"])


def test_a_symbol_is_no_number():
    x = graphc.input("x", (3, "N"))
    for use, what in (
        (lambda: float(x), "no float value"),
        (lambda: int(x), "no int value"),
        (lambda: f"{x:.2f}", "no value to format as '.2f'"),
        (lambda: x.__setitem__(0, 1.0), "cannot be assigned to"),
        (lambda: len(x[0]), "the symbolic length N"),
        (lambda: len(x[0, 0]), "has no axes"),
    ):
        with pytest.raises(graphc.errors.DTypeError, match=what) as error:
            use()
        assert "test_bad_input.py" in str(error.value)
    assert len(x) == 3
    assert f"{x}" == repr(x)


def test_a_symbolic_size_is_a_number_to_compute_with():
    x = graphc.input("x", ("N", 3))
    n = x.shape[0]
    mean = graphc.sum(x) / n
    assert mean.dtype.name == "float32"
    assert graphc.compile([x], [mean, n * x[0, 0]])(np.ones((4, 3))) == [3, 4]
