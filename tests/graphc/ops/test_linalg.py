"""Linear algebra: what has no solution, batches, threads, and what errors say."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import CheckError, DTypeError, ShapeError

Array = np.ndarray[Any, Any]
BACKENDS = ["cpu", "reference"]


def matrices(n: int, batch: int, seed: int = 0) -> Array:
    """Return matrices that are well-conditioned, and not symmetric."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(batch, n, n)) / np.sqrt(max(n, 1)) + 3.0 * np.eye(n)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 33, 130])
def test_solutions_solve(n: int, dtype: str) -> None:
    a = gc.input("a", ("B", "N", "N"), dtype)
    b = gc.input("b", ("B", "N", 3), dtype)
    factor = gc.cholesky(a @ gc.swapaxes(a, 1, 2))
    sign, size = gc.slogdet(a)
    outputs = [gc.solve(a, b), gc.inv(a), factor, gc.det(a / 3.0), sign, size]
    outputs.append(gc.solve_triangular(a, b, lower=True, trans=True))
    step = gc.compile([a, b], outputs)
    for batch in (1, 5):
        m = matrices(n, batch).astype(dtype)
        v = np.random.default_rng(1).normal(size=(batch, n, 3)).astype(dtype)
        x, y, f, d, s, log, t = step(m, v)
        close = 1e-4 if dtype == "float32" else 1e-11
        np.testing.assert_allclose(m @ x, v, close, close)
        np.testing.assert_allclose(m @ y, np.tile(np.eye(n), (batch, 1, 1)), 0, close)
        squares = m @ m.swapaxes(1, 2)
        np.testing.assert_allclose(f @ f.swapaxes(1, 2), squares, close, close)
        np.testing.assert_array_equal(f, np.tril(f))
        np.testing.assert_allclose(d, np.linalg.det(m / 3.0), close)
        np.testing.assert_allclose(s * np.exp(log - log), np.ones(batch))
        np.testing.assert_allclose(log, np.linalg.slogdet(m)[1], close, close)
        np.testing.assert_allclose(np.tril(m).swapaxes(1, 2) @ t, v, close, close)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_has_no_solution_is_nan_and_spoils_no_other(backend: str) -> None:
    a, b = gc.input("a", ("B", 3, 3)), gc.input("b", ("B", 3, 2))
    made = {
        "solve": gc.solve(a, b),
        "inv": gc.inv(a),
        "cholesky": gc.cholesky(a),
        "triangular": gc.solve_triangular(a, b),
        "det": gc.det(a),
        "sign": gc.slogdet(a)[0],
        "log": gc.slogdet(a)[1],
    }
    step = gc.compile([a, b], made, backend=backend)
    m = np.stack([np.eye(3), np.diag([1.0, 0.0, -2.0]), 2 * np.eye(3)])
    found = step(m.astype(np.float32), np.ones((3, 3, 2), np.float32))
    for name in ("solve", "inv", "cholesky", "triangular"):
        lost = np.isnan(found[name])
        assert lost[1].all(), name
        assert not lost[0].any(), name
        assert not lost[2].any(), name
    assert found["det"].tolist() == [1.0, 0.0, 8.0]
    assert found["sign"].tolist() == [1.0, 0.0, 1.0]
    assert found["log"][1] == -np.inf


def test_an_indefinite_matrix_has_no_factor() -> None:
    a = gc.input("a", (2, 2))
    for backend in BACKENDS:
        step = gc.compile([a], gc.cholesky(a), backend=backend)
        assert np.isnan(step([[1.0, 2.0], [2.0, 1.0]])).all()


def test_the_gradient_of_cholesky_is_symmetric() -> None:
    a = gc.input("a", (3, 3), "float64")
    slope = gc.grad(gc.sum(gc.cholesky(a) ** 3), a)
    m = matrices(3, 1)[0]
    found = gc.compile([a], slope)(m @ m.T)
    np.testing.assert_allclose(found, found.T, 1e-12)


def test_log_determinant_trains_a_covariance() -> None:
    """The most probable covariance of samples is their own."""
    rng = np.random.default_rng(0)
    samples = rng.normal(size=(200, 2)) @ np.array([[1.0, 0.5], [0.0, 0.6]])
    x = gc.input("x", ("N", 2), "float64")
    root = gc.variable("root", np.eye(2))
    cov = root @ root.T
    white = gc.solve(cov, x.T)
    loss = gc.slogdet(cov)[1] + gc.mean(gc.sum(white * x.T, 0))
    step = gc.compile([x], loss, updates={root: root - 0.05 * gc.grad(loss, root)})
    for _ in range(400):
        step(samples)
    found = root.value @ root.value.T
    np.testing.assert_allclose(found, samples.T @ samples / 200, 0, 1e-6)


def test_results_do_not_depend_on_the_number_of_threads() -> None:
    a, b = gc.input("a", ("B", "N", "N")), gc.input("b", ("B", "N", "K"))
    m = matrices(40, 60).astype(np.float32)
    v = np.random.default_rng(1).normal(size=(60, 40, 5)).astype(np.float32)
    made = [gc.solve(a, b), gc.det(a)]
    one = gc.compile([a, b], made, threads=1)(m, v)
    for f, e in zip(gc.compile([a, b], made)(m, v), one, strict=True):
        np.testing.assert_array_equal(f, e)


def test_the_threads_of_blas_are_as_before_after_steps() -> None:
    from graphc.backends.cpu import lapack

    a = gc.input("a", ("N", "N"))
    step = gc.compile([a], gc.inv(a))
    m = matrices(200, 1)[0].astype(np.float32)
    step(m)
    before = [c.get_num_threads() for c in lapack._libraries()]
    second = gc.compile([a], gc.inv(a))
    other = threading.Thread(target=lambda: [second(m) for _ in range(5)])
    other.start()
    for _ in range(5):
        step(m)
    other.join()
    assert [c.get_num_threads() for c in lapack._libraries()] == before
    with lapack.ONE_THREAD, lapack.ONE_THREAD:
        assert {c.get_num_threads() for c in lapack._libraries()} == {1}
    assert [c.get_num_threads() for c in lapack._libraries()] == before


WITHOUT_SCIPY = """
    import sys
    sys.modules["scipy"] = None
    import importlib.util
    find = importlib.util.find_spec
    importlib.util.find_spec = lambda n, *a: None if n == "scipy" else find(n, *a)
    import graphc
    a = graphc.input("a", (2, 2))
    y = graphc.inv(a)
    print(graphc.evaluate(y, {a: [[2.0, 0.0], [0.0, 4.0]]}).tolist())
    try:
        graphc.compile([a], y)
    except graphc.GraphcError as error:
        print(error)
    """


def test_without_scipy_compile_says_what_to_install() -> None:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_SCIPY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "[[0.5, 0.0], [0.0, 0.25]]" in run.stdout
    assert "solve on the cpu needs LAPACK" in run.stdout
    assert 'pip install "graphc[linalg]"' in run.stdout


def test_scipy_is_not_imported_without_need() -> None:
    code = """
    import sys, numpy, graphc
    a = graphc.input("a", (2, 2))
    graphc.compile([a], graphc.sort(a) + 1.0)(numpy.eye(2, dtype="float32"))
    print("scipy.linalg.cython_lapack" in sys.modules)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.strip() == "False"


# --- what is refused ----------------------------------------------------------------


def test_errors_name_both_values_and_the_line() -> None:
    a, b = gc.input("a", ("N", 3)), gc.input("b", ("N", 4))
    with pytest.raises(ShapeError, match=r"inv: a f32\[N,3\] is not square") as error:
        gc.inv(a)
    assert "test_linalg.py" in str(error.value)
    with pytest.raises(ShapeError, match="N rows, 3 columns"):
        gc.cholesky(a)
    with pytest.raises(ShapeError, match="it has 1 axes, not 2"):
        gc.det(a[0])
    square = gc.input("s", (3, 3))
    with pytest.raises(ShapeError, match=r"s f32\[3,3\] has 3 columns, .* has N rows"):
        gc.solve(square, b)
    with pytest.raises(ShapeError):
        gc.solve(gc.input("c", (2, 3, 3)), gc.input("d", (5, 3, 1)))


def test_integers_are_solved_as_floats() -> None:
    a = gc.constant([[2, 0], [0, 4]])
    x = gc.solve(a, [1, 2])
    assert x.dtype.name == "float32"
    assert gc.evaluate(x).tolist() == [0.5, 0.5]
    from graphc.ir.nodes import make1
    from graphc.ops.determinant import DET

    with pytest.raises(DTypeError, match="not a float"):
        make1(DET, (a,))


@pytest.mark.parametrize("backend", BACKENDS)
def test_checked_steps_name_the_matrix(backend: str) -> None:
    a = gc.input("a", ("B", 2, 2))
    m = np.tile(np.eye(2, dtype=np.float32), (3, 1, 1))
    m[1] = [[1.0, 2.0], [2.0, 1.0]]
    y = gc.cholesky(a)
    step = gc.compile([a], y, backend=backend, check=True)
    assert not np.isnan(step(np.abs(m[:1]))).any()
    with pytest.raises(CheckError, match="matrix 1 is not positive definite") as error:
        step(m)
    assert "y = gc.cholesky(a)" in str(error.value)
    one = gc.input("one", (2, 2))
    step = gc.compile([one], gc.inv(one), backend=backend, check=True)
    with pytest.raises(CheckError, match="solve: the matrix is singular"):
        step([[1.0, 2.0], [2.0, 4.0]])
