"""An elementwise op of the user's own: one statement, and it does all that others do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import elementwise, exp, log, maximum, softplus, sqrt, tanh, where
from graphc.errors import ArgumentError, GradientError, VerifyError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import FUNCTIONS, OPS, NonDifferentiable, Op
from graphc.ops.elementwise import When, latex

Array = np.ndarray[Any, Any]
AT = np.array([-2.5, -1.1, -0.3, 0.4, 0.9, 1.7, 2.2, 3.1], np.float64)
OTHER = np.array([0.5, 1.5, 0.7, 1.2, 2.1, 0.9, 1.8, 0.6], np.float64)


@pytest.fixture(autouse=True)
def _keep_the_tables() -> Iterator[None]:
    """Leave the tables of ops as they were."""
    ops, functions = dict(OPS), dict(FUNCTIONS)
    yield
    OPS.clear()
    OPS.update(ops)
    FUNCTIONS.clear()
    FUNCTIONS.update(functions)


# name -> how a user defines it, and what it is in NumPy.
Definition = tuple[Callable[[], Op], Callable[..., Array]]


def _np_softplus(x: Array) -> Array:
    return np.logaddexp(0, x)


DEFINITIONS: dict[str, Definition] = {
    "mish": (
        lambda: elementwise("mish", lambda x: x * tanh(softplus(x))),
        lambda x: x * np.tanh(_np_softplus(x)),
    ),
    "swish_with_beta": (
        lambda: elementwise("swish_with_beta", lambda x, beta: x / (1 + exp(-beta * x))),
        lambda x, b: x / (1 + np.exp(-b * x)),
    ),
    "elu": (
        lambda: elementwise("elu", lambda x: where(x > 0, x, exp(x) - 1)),
        lambda x: np.where(x > 0, x, np.expm1(x)),
    ),
    "leaky": (
        lambda: elementwise("leaky", lambda x: maximum(x, 0.1 * x)),
        lambda x: np.maximum(x, 0.1 * x),
    ),
    "huber": (
        lambda: elementwise(
            "huber", lambda x: where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5)
        ),
        lambda x: np.where(np.abs(x) < 1, x * x / 2, np.abs(x) - 0.5),
    ),
    "bump": (
        lambda: elementwise("bump", lambda x: exp(-x * x) * gc.sign(x) + abs(x) ** 1.5),
        lambda x: np.exp(-x * x) * np.sign(x) + np.abs(x) ** 1.5,
    ),
    "softsign": (
        lambda: elementwise("softsign", lambda x: x / (1 + abs(x))),
        lambda x: x / (1 + np.abs(x)),
    ),
    "log_cosh": (
        lambda: elementwise(
            "log_cosh",
            lambda x: log((exp(x) + exp(-x)) / 2),
            stable=lambda x: abs(x) + softplus(-2 * abs(x)) - float(np.log(2)),
        ),
        lambda x: np.logaddexp(x, -x) - np.log(2),
    ),
    "with_own_gradient": (
        lambda: elementwise(
            "with_own_gradient", lambda x: sqrt(x * x + 1), grad=lambda x, y: x / y
        ),
        lambda x: np.sqrt(x * x + 1),
    ),
    "masked": (
        lambda: elementwise(
            "masked", lambda x: maximum(x, 0) ** 2, grad=lambda x, y: When(x > 0, 2 * x)
        ),
        lambda x: np.maximum(x, 0) ** 2,
    ),
    "distance": (
        lambda: elementwise("distance", lambda x, y: sqrt((x - y) ** 2 + 0.25)),
        lambda x, y: np.sqrt((x - y) ** 2 + 0.25),
    ),
}


def defined(name: str) -> tuple[Op, Callable[..., Array], list[Tensor], list[Array]]:
    """Define an op; return it, its meaning in NumPy, inputs and arrays for them."""
    define, meaning = DEFINITIONS[name]
    op = define()
    two = name in ("swish_with_beta", "distance")
    given = [AT, OTHER] if two else [AT]
    inputs = [gc.input(f"x{i}", ("N",), "float64") for i in range(len(given))]
    return op, meaning, inputs, given


def numeric(f: Callable[..., Array], given: list[Array], which: int) -> Array:
    """Return the derivative of an elementwise function by central differences."""
    step = 1e-5
    ends = []
    for side in (step, -step):
        moved = [a + side if i == which else a for i, a in enumerate(given)]
        ends.append(f(*moved))
    return (ends[0] - ends[1]) / (2 * step)


def slope_of(y: Tensor, x: Tensor) -> Tensor:
    """Return the derivative of an elementwise result, zeros where it is constant."""
    try:
        return gc.grad(gc.sum(y), x)
    except GradientError:
        return x * 0.0


@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_computes_and_differentiates_on_both_backends(name: str) -> None:
    op, meaning, inputs, given = defined(name)
    y = op(*inputs)
    firsts = gc.grad(gc.sum(y), inputs)
    seconds = [slope_of(d, x) for d, x in zip(firsts, inputs, strict=True)]
    step = gc.compile(inputs, [y, *firsts, *seconds])
    by_input = dict(zip(inputs, given, strict=True))
    for found in (step(*given), gc.evaluate([y, *firsts, *seconds], by_input)):
        np.testing.assert_allclose(found[0], meaning(*given), 1e-12, 1e-14)
        for i in range(len(inputs)):
            slope = numeric(meaning, given, i)
            np.testing.assert_allclose(found[1 + i], slope, 1e-7, 1e-8)

            def derivative(*at: Array, i: int = i) -> Array:
                return gc.evaluate(firsts[i], dict(zip(inputs, at, strict=True)))

            curve = numeric(derivative, given, i)
            np.testing.assert_allclose(found[1 + len(inputs) + i], curve, 1e-6, 1e-7)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_it_prints_and_parses(name: str) -> None:
    op, _, inputs, given = defined(name)
    graph = Graph.build(inputs, [op(*inputs), gc.grad(gc.sum(op(*inputs)), inputs[0])])
    text = graph.text()
    assert f"= {name}(" in text
    again = gc.parse(text)
    assert again.text() == text
    step = gc.compile(again)
    np.testing.assert_allclose(
        step(*given)[0], gc.compile(inputs, op(*inputs))(*given), 1e-15
    )


def test_it_fuses_with_its_neighbours() -> None:
    mish = DEFINITIONS["mish"][0]()
    x, w = gc.input("x", ("N", 8)), gc.parameter("w", (8, 5))
    step = gc.compile([x], mish(x @ w + 1.0) * 2.0)
    assert len(step.kernels) == 1
    assert "mish" in step.kernels[0].source
    at = np.linspace(-1, 1, 24, dtype=np.float32).reshape(3, 8)
    h = at @ w.value + 1
    np.testing.assert_allclose(step(at), 2 * h * np.tanh(_np_softplus(h)), 1e-5, 1e-6)


def test_it_draws() -> None:
    mish = DEFINITIONS["mish"][0]()
    x = gc.input("x", ("N",))
    assert "mish" in gc.compile([x], mish(x), backend="reference").graph.dot()
    assert latex(mish) == r"x \tanh{\left(\log{\left(e^{x} + 1 \right)} \right)}"


def test_it_takes_numbers_and_broadcasts() -> None:
    op = DEFINITIONS["distance"][0]()
    x = gc.input("x", ("N", 3))
    assert op(x, 1).type == x.type
    assert op(gc.input("y", (3,)), x).type == x.type
    at = np.zeros((2, 3), np.float32)
    np.testing.assert_allclose(gc.evaluate(op(x, 2.0), {x: at}), np.sqrt(4.25), 1e-6)
    with pytest.raises(TypeError, match=r"distance\(\) takes 2 arguments, 1 given"):
        op(x)


def test_a_stable_form_is_what_is_computed() -> None:
    op = DEFINITIONS["log_cosh"][0]()
    x = gc.input("x", ("N",))
    d = gc.grad(gc.sum(op(x)), x)
    at = np.array([-1000.0, 0.0, 1000.0], np.float32)
    value = gc.compile([x], op(x))(at)
    np.testing.assert_allclose(value, [1000 - np.log(2), 0, 1000 - np.log(2)], 1e-6, 1e-6)
    assert gc.evaluate(d, {x: np.zeros(1)}).tolist() == [0.0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_derivatives_do_not_overflow_where_the_formula_does_not(dtype: str) -> None:
    at = np.array([-1000.0, -100.0, 0.0, 100.0, 1000.0], dtype)
    slopes = {"mish": [0, 0, 0.6, 1, 1], "elu": [0, 0, 1, 1, 1], "leaky": [0.1, 0.1, 0, 1, 1]}
    slopes["softsign"] = [1e-6, 1 / 101**2, 1, 1 / 101**2, 1e-6]
    slopes["log_cosh"] = [-1, -1, 0, 1, 1]
    x = gc.input("x", ("N",), dtype)
    for name, expected in slopes.items():
        d = gc.grad(gc.sum(DEFINITIONS[name][0]()(x)), x)
        for found in (gc.evaluate(d, {x: at}), gc.compile([x], d)(at)):
            np.testing.assert_allclose(found, expected, 3e-3, 1e-6, err_msg=name)


def test_a_masked_derivative_is_a_select() -> None:
    """An infinity that comes back to the flat side of a kink is no NaN."""
    mine = elementwise("mine", lambda x: maximum(x, 0) * 2)
    hinge = elementwise("hinge", lambda x: where(x > 0, x, 0))
    x = gc.input("x", ("N",))
    at = np.array([-1.0, 0.0, 4.0], np.float32)
    for op, slope in ((mine, 0.5 * 2 / 8**0.5), (hinge, 0.25)):
        d = gc.grad(gc.sum(sqrt(op(x))), x)
        for found in (gc.evaluate(d, {x: at}), gc.compile([x], d)(at)):
            np.testing.assert_allclose(found, [0, 0, slope], 1e-6)


def test_forms_of_its_own_are_found() -> None:
    elementwise("twice", lambda x: 2 * x, forms=["add(x, x) => twice(x)"])
    x = gc.input("x", ("N",))
    step = gc.compile([x], x + x)
    assert step.graph.count("twice") == 1
    assert step(np.array([3.0])).tolist() == [6.0]


def test_running_the_statement_again_replaces_it() -> None:
    x = gc.input("x", ("N",))
    first = elementwise("mine", lambda x: x + 1)
    old = first(x)
    old_step = gc.compile([x], old)
    second = elementwise("mine", lambda x: x + 2)
    assert OPS["mine"] is second
    at = np.zeros(2, np.float32)
    assert gc.compile([x], second(x))(at).tolist() == [2.0, 2.0]
    assert old_step(at).tolist() == [1.0, 1.0]
    with pytest.raises(VerifyError, match="the op mine was defined again"):
        gc.compile([x], old)


def test_bodies_that_are_the_same_share_their_kernel() -> None:
    x = gc.input("x", ("N",))
    one = elementwise("one_name", lambda x: x * 3.0 + 0.125)
    two = elementwise("other_name", lambda x: x * 3.0 + 0.125)
    step = gc.compile([x], [one(x), two(gc.exp(x)[0:1])])
    assert step(np.ones(2))[0].tolist() == [3.125, 3.125]


def test_it_can_refuse_to_be_differentiated() -> None:
    op = elementwise(
        "floorish", lambda x: x - x, grad=NonDifferentiable("it is flat where it is not steep")
    )
    x = gc.input("x", ("N",))
    with pytest.raises(GradientError, match="floorish blocks the way: it is flat where"):
        gc.grad(gc.sum(op(x)), x)


def test_a_derivative_that_sympy_cannot_give_asks_for_one() -> None:
    import sympy

    def odd(x: Any) -> Any:
        if isinstance(x, sympy.Expr):
            return sympy.gamma(x)
        return x

    op = elementwise("odd", odd)
    x = gc.input("x", ("N",))
    with pytest.raises(GradientError) as error:
        gc.grad(gc.sum(op(x)), x)
    first, _, rest = str(error.value).partition("\n")
    assert first.startswith("odd: SymPy's derivative has no counterpart here: ")
    assert "help: pass grad=lambda x, y: ... to elementwise('odd', ...)" in rest


@pytest.mark.parametrize("name", ["", "2x", "a b", "a-b", "näme", "x.y"])
def test_a_name_must_be_an_identifier(name: str) -> None:
    with pytest.raises(ArgumentError, match="an op's name must be an identifier"):
        elementwise(name, lambda x: x)


def test_a_name_never_reaches_the_code_unescaped() -> None:
    op = elementwise("exec", lambda x: x * 5.0)  # a name of Python's own
    other = elementwise("lambda", lambda x: x * 7.0)  # a keyword
    x = gc.input("x", ("N",))
    found = gc.compile([x], [op(x), other(gc.exp(x))])(np.zeros(1))
    assert [f.tolist() for f in found] == [[0.0], [7.0]]


def test_constants_and_other_dtypes() -> None:
    flat = elementwise("flat", lambda x: 3.0)
    x, i = gc.input("x", ("N",)), gc.input("i", ("N",), "int32")
    assert gc.evaluate(flat(x), {x: np.zeros(2)}).tolist() == [3.0, 3.0]
    square = elementwise("squared", lambda x: x * x)
    assert square(i).dtype.name == "int32"
    assert gc.compile([i], square(i))(np.array([3, -4], np.int32)).tolist() == [9, 16]
    assert square(gc.input("d", (), "float64")).dtype.name == "float64"
