"""Optimisers: against a NumPy loop, their states, their errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn, optim

Array = np.ndarray[Any, Any]
Step = Callable[[Any, Any], Any]  # (w, gradient) -> new w

RANDOM = np.random.default_rng(7)
XS = RANDOM.normal(size=(8, 4)).astype(np.float32)
YS = RANDOM.normal(size=(8, 3)).astype(np.float32)
START = RANDOM.normal(size=(4, 3)).astype(np.float32)


def numpy_sgd(rate: float, momentum: float, nesterov: bool) -> Step:
    velocity: Any = 0.0

    def step(w: Any, g: Any) -> Any:
        nonlocal velocity
        velocity = momentum * velocity - rate * g
        return w + (momentum * velocity - rate * g if nesterov else velocity)

    return step


def numpy_adam(rate: float, b1: float, b2: float, epsilon: float) -> Step:
    """Keras's form: epsilon is added to sqrt(v) before the correction."""
    m: Any = 0.0
    v: Any = 0.0
    t = 0

    def step(w: Any, g: Any) -> Any:
        nonlocal m, v, t
        t += 1
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g * g
        scaled = rate * np.sqrt(1 - b2**t) / (1 - b1**t)
        return w - scaled * m / (np.sqrt(v) + epsilon)

    return step


FAST: Any = "fast"

CASES: dict[str, Callable[[], tuple[optim.Optimizer, Step]]] = {
    "sgd": lambda: (optim.SGD(0.1), numpy_sgd(0.1, 0.0, False)),
    "momentum": lambda: (optim.SGD(0.1, 0.9), numpy_sgd(0.1, 0.9, False)),
    "nesterov": lambda: (
        optim.SGD(0.1, momentum=0.9, nesterov=True),
        numpy_sgd(0.1, 0.9, True),
    ),
    "adam": lambda: (optim.Adam(0.01), numpy_adam(0.01, 0.9, 0.999, 1e-7)),
    "adam, other numbers": lambda: (
        optim.Adam(0.1, 0.0, 0.5, 1e-3),
        numpy_adam(0.1, 0.0, 0.5, 1e-3),
    ),
}


def problem(dtype: str = "float64") -> tuple[Any, Any, graphc.Parameter, graphc.Tensor]:
    x = graphc.input("x", ("N", 4), dtype=dtype)
    y = graphc.input("y", ("N", 3), dtype=dtype)
    w = graphc.parameter("w", init=START, dtype=dtype)
    return x, y, w, nn.losses.mean_squared_error(y, x @ w)


def numpy_steps(step: Step, count: int) -> Iterator[Array]:
    w = START.astype(np.float64)
    for _ in range(count):
        gradient = 2 * XS.T.astype(np.float64) @ (XS @ w - YS) / YS.size
        w = step(w, gradient)
        yield w


@pytest.mark.parametrize("case", CASES)
def test_optimizer_follows_its_formula(case: str, backend: str) -> None:
    optimizer, formula = CASES[case]()
    x, y, w, loss = problem()
    step = graphc.compile([x, y], loss, optimizer.updates(loss), backend=backend)
    for want in numpy_steps(formula, 5):
        step(XS.astype(np.float64), YS.astype(np.float64))
        # The learning rate is a float32 state.
        np.testing.assert_allclose(w.value, want, rtol=1e-5, atol=1e-7)


def test_adam_follows_its_formula_in_float32_after_many_steps(backend: str) -> None:
    x, y, w, loss = problem("float32")
    step = graphc.compile([x, y], loss, optim.Adam(1e-3).updates(loss), backend=backend)
    want = list(numpy_steps(numpy_adam(1e-3, 0.9, 0.999, 1e-7), 200))[-1]
    for _ in range(200):
        step(XS, YS)
    np.testing.assert_allclose(w.value, want, atol=2e-6)


def test_adam_corrects_its_bias_exactly_in_float32() -> None:
    adam = optim.Adam(1.0)
    for t in (1, 2, 10, 1000, 100_000):
        adam.t.value = np.int64(t - 1)
        want = np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        assert float(graphc.evaluate(adam.rate())) == pytest.approx(want, rel=3e-7)


def test_the_learning_rate_changes_without_compiling_again(backend: str) -> None:
    x, y, w, loss = problem("float32")
    sgd = optim.SGD(0.0)
    step = graphc.compile([x, y], loss, sgd.updates(loss), backend=backend)
    step(XS, YS)
    np.testing.assert_array_equal(w.value, START)
    sgd.learning_rate = 0.1
    step(XS, YS)
    want = next(numpy_steps(numpy_sgd(0.1, 0.0, False), 1))
    np.testing.assert_allclose(w.value, want, rtol=1e-5, atol=1e-6)


def test_slots_are_made_once_for_each_parameter() -> None:
    loss = problem()[-1]
    adam = optim.Adam(name="critic")
    first, second = adam.updates(loss), adam.updates(loss * 2.0)
    assert list(first) == list(second)
    names = [s.node.attrs.name for s in first]
    assert names == ["critic/t", "w", "critic/w/m", "critic/w/v"]


def test_updates_include_those_that_layers_attached() -> None:
    x = graphc.input("x", ("N", 4))
    drop = nn.Dropout(0.5, name="drop")
    loss = graphc.mean(nn.Dense(3, name="d")(drop(x, training=True)))
    names = [s.node.attrs.name for s in optim.SGD().updates(loss)]
    assert names == ["d/kernel", "d/bias", "drop/step"]


def test_updates_of_chosen_parameters_leave_the_others() -> None:
    x = graphc.input("x", ("N", 4))
    layer = nn.Dense(3, name="d")
    loss = graphc.mean(layer(x) ** 2.0)
    assert list(optim.SGD().updates(loss, [layer.bias])) == [layer.bias]


def test_update_nodes_are_of_the_phase_update_and_in_the_layers_scope() -> None:
    x = graphc.input("x", ("N", 4))
    layer = nn.Dense(3, name="d")
    loss = graphc.mean(layer(x) ** 2.0)
    birth = optim.Adam().updates(loss)[layer.kernel].node.birth
    assert (birth.phase, birth.scope) == ("update", ("d",))
    assert birth.line == layer.place[1]


def test_states_that_are_not_trainable_stay() -> None:
    w = graphc.parameter("w", (3,))
    c = graphc.variable("c", 2.0)
    assert list(optim.SGD().updates(graphc.sum(w * c))) == [w]


def test_a_loss_without_parameters_is_refused() -> None:
    x = graphc.input("x", ("N",))
    with pytest.raises(graphc.GraphcError) as found:
        optim.Adam().updates(graphc.sum(x).named("total"))
    text = str(found.value)
    assert text.startswith("Adam: total reaches no trainable parameter")
    assert "test_optimizers.py" in text
    assert "help: make one with graphc.parameter" in text


def test_a_loss_that_is_no_scalar_is_refused() -> None:
    w = graphc.parameter("w", (3,))
    with pytest.raises(graphc.GraphcError, match="not a scalar"):
        optim.SGD().updates(w * 2.0)


def test_a_parameter_that_no_gradient_reaches_is_named() -> None:
    w = graphc.parameter("w", (3,))
    v = graphc.parameter("v", (3,))
    loss = graphc.sum(w * graphc.stop_gradient(v))
    with pytest.raises(graphc.GraphcError, match="stop_gradient blocks the way"):
        optim.SGD().updates(loss)
    assert list(optim.SGD().updates(loss, [w])) == [w]


def test_get_finds_optimizers_and_lists_them() -> None:
    assert isinstance(optim.get("SGD"), optim.SGD)
    mine = optim.Adam(0.5)
    assert optim.get(mine) is mine
    with pytest.raises(graphc.GraphcError, match="unknown optimizer 'adm'") as found:
        optim.get("adm")
    assert "use one of adam, sgd" in str(found.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optim.SGD(-0.1), "learning_rate must be a number in"),
        (lambda: optim.SGD(FAST), "learning_rate must be a number in"),
        (lambda: optim.SGD(momentum=1.0), r"momentum must be a number in \[0, 1\)"),
        (lambda: optim.Adam(beta_1=1.0), r"beta_1 must be a number in \[0, 1\)"),
        (lambda: optim.Adam(beta_2=-0.1), "beta_2 must be a number in"),
        (lambda: optim.Adam(epsilon=-1), "epsilon must be a number in"),
        (lambda: optim.Adam(float("nan")), "learning_rate must be a number in"),
    ],
)
def test_numbers_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(graphc.GraphcError, match=message):
        make()


def test_a_learning_rate_out_of_range_is_refused_on_assignment() -> None:
    sgd = optim.SGD(0.1)
    with pytest.raises(graphc.GraphcError, match="learning_rate must be a number"):
        sgd.learning_rate = -1.0
    assert float(sgd.learning_rate.value) == pytest.approx(0.1)


def test_an_optimizer_without_a_step_is_refused() -> None:
    w = graphc.parameter("w", (3,))
    with pytest.raises(graphc.GraphcError, match=r"define step\(self, p, g, rate\)"):
        optim.Optimizer(0.1).updates(graphc.sum(w))


def test_an_optimizer_shows_its_name_and_rate() -> None:
    assert repr(optim.Adam(1e-3)) == "<Adam 'adam', learning rate 0.001>"
