"""A user's op in one statement: it runs, differentiates, fuses, prints and draws."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc as gc
from graphc.errors import ArgumentError, GradientError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import FUNCTIONS, OPS, Op

Array = np.ndarray[Any, Any]

SIZES = (1, 7, 16, 33)


@pytest.fixture(autouse=True)
def same_ops_afterwards() -> Iterator[None]:
    """Forget the ops that a test defines."""
    tables = [(t, dict(t)) for t in (OPS, FUNCTIONS)]
    yield
    for table, known in tables:
        table.clear()
        table.update(known)


# Each in one statement, without a derivative: SymPy finds it.
USER_OPS: dict[str, Callable[[], Op]] = {
    "mish": lambda: gc.elementwise("mish", lambda x: x * gc.tanh(gc.softplus(x))),
    "swish_by": lambda: gc.elementwise("swish_by", lambda x, b: x * gc.sigmoid(b * x)),
    "soft_shrink": lambda: gc.elementwise(
        "soft_shrink", lambda x: gc.sign(x) * gc.maximum(gc.abs(x) - 0.5, 0)
    ),
    "hard_swish": lambda: gc.elementwise(
        "hard_swish", lambda x: x * gc.minimum(gc.maximum(x + 1.5, 0), 3) / 3
    ),
    "distance": lambda: gc.elementwise("distance", lambda x, y: gc.abs(x - y)),
    "gauss": lambda: gc.elementwise("gauss", lambda x: gc.exp(-x * x / 2)),
    "rational": lambda: gc.elementwise("rational", lambda x, y: x / (1 + y**2)),
    "root": lambda: gc.elementwise(
        "root", lambda x: gc.sqrt(x * x + 1) + gc.log1p(x * x)
    ),
    "snake": lambda: gc.elementwise("snake", lambda x: x + gc.square(gc.sin(x))),
    "wave": lambda: gc.elementwise("wave", lambda x: gc.erf(x) * gc.cos(gc.tan(x / 2))),
    "sawtooth": lambda: gc.elementwise("sawtooth", lambda x: (x % 3.0) * x),
    "stairs": lambda: gc.elementwise("stairs", lambda x: gc.ceil(x + 0.5) * x * x),
}
NUMPY: dict[str, Callable[..., Array]] = {
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "swish_by": lambda x, b: x / (1 + np.exp(-b * x)),
    "soft_shrink": lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0),
    "hard_swish": lambda x: x * np.clip(x + 1.5, 0, 3) / 3,
    "distance": lambda x, y: np.abs(x - y),
    "gauss": lambda x: np.exp(-x * x / 2),
    "rational": lambda x, y: x / (1 + y**2),
    "root": lambda x: np.sqrt(x * x + 1) + np.log1p(x * x),
    "snake": lambda x: x + np.sin(x) ** 2,
    "wave": lambda x: special.erf(x) * np.cos(np.tan(x / 2)),
    "sawtooth": lambda x: (x % 3.0) * x,
    "stairs": lambda x: np.ceil(x + 0.5) * x * x,
}
each_op = pytest.mark.parametrize("name", USER_OPS)


def arguments(name: str, size: int, seed: int = 0) -> list[Array]:
    """Return arrays for an op, away from its kinks."""
    rng = np.random.default_rng(seed)
    arity = NUMPY[name].__code__.co_argcount
    return [
        rng.uniform(0.6, 1.4, size) * rng.choice([-1, 1], size) for _ in range(arity)
    ]


def derivatives(name: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return inputs of float64, and an op's value, first and second derivatives."""
    arity = NUMPY[name].__code__.co_argcount
    inputs = [gc.input("xy"[i], ("N",), "float64") for i in range(arity)]
    value = OPS[name](*inputs)
    first = [gc.grad(gc.sum(value), x) for x in inputs]
    second = []
    for d, x in zip(first, inputs, strict=True):
        mixed = gc.sum(d * (1 + 0 * x))  # where d does not depend on x, it is 0
        second.append(gc.grad(mixed, x))
    return inputs, [value, *first, *second]


def differences(function: Callable[..., Array], at: list[Array]) -> list[Array]:
    """Return value, first and second derivatives by central differences."""
    h = 1e-4
    found: list[list[Array]] = [[], []]
    middle = function(*at)
    for k in range(len(at)):
        up, down = (
            function(*(a + s * h if i == k else a for i, a in enumerate(at)))
            for s in (1, -1)
        )
        found[0].append((up - down) / (2 * h))
        found[1].append((up - 2 * middle + down) / h**2)
    return [middle, *found[0], *found[1]]


@each_op
@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_value_and_two_derivatives_are_right_at_ragged_sizes(name, backend) -> None:
    USER_OPS[name]()
    inputs, outputs = derivatives(name)
    step = gc.compile(inputs, outputs, backend=backend)
    for size in SIZES:
        at = arguments(name, size, seed=size)
        expected = differences(NUMPY[name], at)
        close = [1e-12, *[1e-6] * len(at), *[1e-5] * len(at)]
        for found, wanted, tolerance in zip(step(*at), expected, close, strict=True):
            np.testing.assert_allclose(found, wanted, tolerance, tolerance)


@each_op
def test_it_fuses_with_its_neighbours_into_one_kernel(name) -> None:
    op = USER_OPS[name]()
    inputs = [gc.input(f"x{i}", ("N",)) for i, _ in enumerate(arguments(name, 1))]
    step = gc.compile(inputs, gc.relu(op(*(x * 2.0 for x in inputs)) + 1.0))
    assert len(step.kernels) == 1
    at = [a.astype(np.float32) for a in arguments(name, 33)]
    expected = np.maximum(NUMPY[name](*(a * 2 for a in at)) + 1, 0)
    np.testing.assert_allclose(step(*at), expected, 1e-5, 1e-6)


@each_op
def test_it_prints_parses_and_draws(name) -> None:
    op = USER_OPS[name]()
    inputs = [gc.input(f"x{i}", ("N",)) for i, _ in enumerate(arguments(name, 1))]
    graph = Graph.build(inputs, [op(*inputs)])
    assert f"= {name}(%x0" in graph.text()
    assert gc.parse(graph.text()) == graph
    assert name in graph.dot()


def test_it_broadcasts_and_promotes_as_other_ops_do() -> None:
    swish_by = USER_OPS["swish_by"]()
    x = gc.input("x", ("N", 3))
    assert swish_by(x, 2).type == x.type
    assert swish_by(x, gc.input("b", (3,))).type == x.type
    with pytest.raises(TypeError, match=r"swish_by\(\) takes 2 arguments, 1 given"):
        swish_by(x)


def test_defaults_of_the_formula_are_defaults_of_the_op() -> None:
    shifted = gc.elementwise(
        "shifted", lambda x, by=2.0, scale=1.0: scale * gc.tanh(x + by)
    )
    x = gc.input("x", ("N",), "float64")
    at = np.array([-3.0, 0.5])
    for made, expected in (
        (shifted(x), np.tanh(at + 2)),
        (shifted(x, -1), np.tanh(at - 1)),
        (shifted(x, scale=3), 3 * np.tanh(at + 2)),
        (shifted(scale=x, x=0.25), at * np.tanh(2.25)),
    ):
        assert made.node.op is shifted
        for found in (gc.evaluate(made, {x: at}), gc.compile([x], made)(at)):
            np.testing.assert_allclose(found, expected, 1e-14)
    d = gc.grad(gc.sum(shifted(x, scale=2.0)), x)
    np.testing.assert_allclose(gc.evaluate(d, {x: at}), 2 / np.cosh(at + 2) ** 2, 1e-12)
    with pytest.raises(
        TypeError, match=r"shifted\(\) takes 3 arguments, 2 given.*slope"
    ):
        shifted(x, slope=1.0)


# --- kinks ----------------------------------------------------------------------------


def slopes(op: Op, *at: list[float]) -> list[list[float]]:
    inputs = [gc.input("xy"[i], ("N",), "float64") for i in range(len(at))]
    grads = gc.grad(gc.sum(op(*inputs)), inputs)
    found = gc.evaluate(grads, dict(zip(inputs, at, strict=True)))
    compiled = gc.compile(inputs, grads)(*(np.array(a) for a in at))
    for a, b in zip(found, compiled, strict=True):
        np.testing.assert_array_equal(a, b)
    return [g.tolist() for g in found]


def test_the_slope_at_a_kink_is_zero() -> None:
    larger = gc.elementwise("larger", lambda x, y: gc.maximum(x, y))
    assert slopes(larger, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [[0, 0, 1], [1, 0, 0]]
    distance = USER_OPS["distance"]()
    assert slopes(distance, [1.0, 2.0, 3.0], [2.0, 2.0, 2.0]) == [
        [-1, 0, 1],
        [1, 0, -1],
    ]
    ramp = gc.elementwise("ramp", lambda x: gc.maximum(x, 0) + gc.minimum(x, 0) * 0.5)
    assert slopes(ramp, [-1.0, 0.0, 1.0]) == [[0.5, 0, 1]]
    size = gc.elementwise("size", lambda x: gc.abs(x))
    assert slopes(size, [-2.0, 0.0, -0.0, 2.0]) == [[-1, 0, 0, 1]]


# --- derivatives that SymPy does not have ---------------------------------------------


def log_gamma(**options: Any) -> Op:
    """Define ln gamma(x) by Stirling's series; its derivative is not elementary."""
    import sympy

    return gc.elementwise(
        "log_gamma",
        lambda x: sympy.loggamma(x),
        stable=lambda x: (x - 0.5) * gc.log(x) - x + 0.9189385332 + 1 / (12 * x),
        **options,
    )


def test_a_derivative_without_counterpart_asks_for_grad() -> None:
    x = gc.input("x", ("N",), "float64")
    y = gc.sum(log_gamma()(x))  # it runs; only its gradient is missing
    assert gc.evaluate(y, {x: [11.0]}) == pytest.approx(np.log(3628800), rel=1e-6)
    with pytest.raises(GradientError) as error:
        gc.grad(y, x)
    text = str(error.value)
    assert "log_gamma: SymPy's derivative has no counterpart here: polygamma" in text
    assert "help: pass grad=lambda x, y: ... to elementwise('log_gamma', ...)" in text


def test_a_derivative_of_ones_own_is_used_and_sympy_is_not_asked() -> None:
    op = log_gamma(grad=lambda x, y: gc.log(x) - 1 / (2 * x))
    expected = np.log([10.0, 20.0]) - 1 / np.array([20.0, 40.0])
    assert slopes(op, [10.0, 20.0]) == [pytest.approx(expected.tolist(), rel=1e-12)]


def test_an_op_without_derivative_says_why() -> None:
    reason = gc.ir.op.NonDifferentiable("it counts")
    count = gc.elementwise("count_up", lambda x: gc.sign(x) + 1, grad=reason)
    x = gc.input("x", ("N",))
    with pytest.raises(GradientError, match="it counts"):
        gc.grad(gc.sum(count(x)), x)


# --- stable forms, and defining again -------------------------------------------------


def test_a_stable_form_is_what_runs_and_the_plain_one_what_is_differentiated() -> None:
    log_cosh = gc.elementwise(
        "log_cosh",
        lambda x: gc.log((gc.exp(x) + gc.exp(-x)) / 2),
        stable=lambda x: (
            gc.abs(x) + gc.log1p(gc.exp(-2 * gc.abs(x))) - float(np.log(2))
        ),
    )
    x = gc.input("x", ("N",), "float64")
    at = np.array([-1000.0, -1.0, 0.0, 1.0, 1000.0])
    for found in (gc.evaluate(log_cosh(x), {x: at}), gc.compile([x], log_cosh(x))(at)):
        expected = np.logaddexp(at, -at) - np.log(2)
        np.testing.assert_allclose(found, expected, 1e-12, 1e-15)
    assert slopes(log_cosh, [-1.0, 0.0, 1.0]) == [
        pytest.approx(np.tanh([-1.0, 0.0, 1.0]).tolist(), abs=1e-12)
    ]


def test_running_the_statement_again_replaces_the_op() -> None:
    def define(factor: float) -> Op:
        return gc.elementwise("scaled", lambda x: x * factor)

    x = gc.input("x", ("N",), "float64")
    for factor in (2.0, 3.0):
        scaled = define(factor)
        assert OPS["scaled"] is scaled
        assert slopes(scaled, [1.0]) == [[factor]]
        assert gc.compile([x], scaled(x))([1.0]).tolist() == [factor]
        assert gc.parse(Graph.build([x], [scaled(x)]).text()).nodes[0].op is scaled


@pytest.mark.parametrize("name", ["soft plus", "2x", "", "größer", "a-b"])
def test_a_name_that_is_no_identifier_is_refused(name) -> None:
    with pytest.raises(ArgumentError) as error:
        gc.elementwise(name, lambda x: x + 1)
    text = str(error.value)
    assert text.startswith(f"an op's name must be an identifier, not {name!r}\n")
    assert "--> test_user_op.py:" in text
    assert name not in OPS


# --- what is not imported -------------------------------------------------------------

TRAIN = """
    import sys
    import numpy as np
    import graphc as gc

    x, y = gc.input("x", ("N", 4)), gc.input("y", ("N",), "int32")
    w, v = gc.parameter("w", (4, 8)), gc.parameter("v", (8, 3))
    h = gc.softplus(gc.matmul(x, w)) + gc.sigmoid(gc.matmul(x, w))
    scores = gc.log_softmax(gc.matmul(gc.dropout(h, 0.5), v))
    loss = -gc.mean(scores * gc.one_hot(y, 3)) + gc.norm(w) + gc.var(v)
    grads = gc.grad(loss, [w, v])
    step = gc.compile([x, y], loss, {p: p - 0.1 * g for p, g in zip([w, v], grads)})
    for _ in range(2):
        step(np.ones((5, 4), np.float32), np.zeros(5, np.int32))
    print(",".join(m for m in ("sympy", "networkx") if m in sys.modules))
"""


def test_training_with_graphcs_own_ops_imports_neither_sympy_nor_networkx() -> None:
    for _ in ("cold or warm", "warm"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(TRAIN)],
            capture_output=True,
            text=True,
            env=os.environ,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == ""
