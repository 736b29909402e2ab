"""`grad` itself: what it takes, what it returns, and what it says when it cannot."""

from __future__ import annotations

import inspect
import re
from typing import Any

import numpy as np
import pytest
import sympy
from ops_table import own

import graphc as gc
from graphc.errors import GradientError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor, topological
from graphc.ir.op import OPS, NonDifferentiable, Op
from graphc.ops.elementwise import Selected, scale
from graphc.ops.symbolic import tensor_from_sympy


def value(tensor: Any, **given: Any) -> Any:
    """Evaluate a tensor, inputs given by name."""
    leaves = [n.results[0] for n in topological([tensor]) if n.op.name == "input"]
    by_name = {t.node.attrs.name: t for t in leaves}
    return gc.evaluate(
        tensor, {by_name[k]: v for k, v in given.items() if k in by_name}
    )


def text_of(error: pytest.ExceptionInfo[Any]) -> str:
    """Return a message with line numbers and file names left out."""
    return re.sub(r"test_grad\.py:\d+", "FILE:LINE", str(error.value))


# --- errors -------------------------------------------------------------------------


def test_target_that_has_no_part_in_it() -> None:
    x, y = gc.input("x", ("N",)), gc.input("y", ("N",))
    loss = gc.sum(x * 2.0)
    with pytest.raises(GradientError) as error:
        gc.grad(loss, [x, y])
    assert text_of(error) == (
        "grad: sum does not depend on y\n"
        '  y : f32[N]  declared at FILE:LINE | x, y = gc.input("x", ("N",)), '
        'gc.input("y", ("N",))\n'
        "  sum : f32[]  made at FILE:LINE | loss = gc.sum(x * 2.0)\n"
        "  --> FILE:LINE | gc.grad(loss, [x, y])\n"
        "  help: check that it is used on the way to the loss"
    )


def test_named_tensors_are_called_by_their_name() -> None:
    x, h = gc.input("x", ("N",)), gc.input("h", ("N",))
    loss = gc.sum(x).named("loss")
    with pytest.raises(GradientError, match="grad: loss does not depend on h"):
        gc.grad(loss, h)


def test_path_that_argmax_blocks() -> None:
    x = gc.input("x", ("N", 3))
    best = gc.argmax(x, 1)
    loss = gc.sum(gc.cast(best, "float32") * 2.0)
    with pytest.raises(GradientError) as error:
        gc.grad(loss, x)
    assert text_of(error) == (
        "grad: no gradient of sum reaches x\n"
        "  argmax blocks the way: it is an index  --> FILE:LINE | "
        "best = gc.argmax(x, 1)\n"
        "  --> FILE:LINE | gc.grad(loss, x)"
    )


def test_path_that_stop_gradient_blocks() -> None:
    x = gc.input("x", ("N",))
    y = gc.stop_gradient(x)
    with pytest.raises(GradientError) as error:
        gc.grad(gc.sum(y * y), x)
    assert text_of(error) == (
        "grad: no gradient of sum reaches x\n"
        "  stop_gradient blocks the way: it stops gradients"
        "  --> FILE:LINE | y = gc.stop_gradient(x)\n"
        "  --> FILE:LINE | gc.grad(gc.sum(y * y), x)"
    )


def test_path_that_integers_block() -> None:
    x = gc.input("x", ("N",))
    whole = gc.cast(x, "int32")
    loss = gc.sum(gc.cast(whole, "float32"))
    with pytest.raises(GradientError) as error:
        gc.grad(loss, x)
    assert text_of(error) == (
        "grad: no gradient of sum reaches x\n"
        "  cast blocks the way: integers have no gradient"
        '  --> FILE:LINE | whole = gc.cast(x, "int32")\n'
        "  --> FILE:LINE | gc.grad(loss, x)"
    )


def test_all_blocks_are_named() -> None:
    x = gc.input("x", ("N",))
    a = gc.sign(x)
    b = gc.cast(x > 0, "float32")
    with pytest.raises(GradientError) as error:
        gc.grad(gc.sum(a + b), x)
    assert text_of(error) == (
        "grad: no gradient of sum reaches x\n"
        "  sign blocks the way: its derivative is 0 wherever it exists"
        "  --> FILE:LINE | a = gc.sign(x)\n"
        "  greater blocks the way: it is a truth value"
        '  --> FILE:LINE | b = gc.cast(x > 0, "float32")\n'
        "  --> FILE:LINE | gc.grad(gc.sum(a + b), x)"
    )


def test_one_way_round_a_block_is_enough() -> None:
    x = gc.input("x", ("N",))
    d = gc.grad(gc.sum(x * gc.stop_gradient(x)), x)
    np.testing.assert_array_equal(value(d, x=[1.0, -2.0]), [1.0, -2.0])


def test_cost_that_is_no_scalar() -> None:
    x = gc.input("x", ("N", 3))
    with pytest.raises(GradientError) as error:
        gc.grad(x * x, x)
    assert text_of(error) == (
        "grad: mul is f32[N,3], not a scalar\n"
        "  --> FILE:LINE | gc.grad(x * x, x)\n"
        "  help: take its sum or mean, or pass cotangent="
    )


def test_cost_that_is_no_float() -> None:
    x = gc.input("x", ("N",), "int32")
    with pytest.raises(GradientError) as error:
        gc.grad(gc.sum(x), x)
    assert text_of(error) == (
        "grad: sum is i32[], only floats have a gradient\n"
        "  sum : i32[]  made at FILE:LINE | gc.grad(gc.sum(x), x)\n"
        "  --> FILE:LINE | gc.grad(gc.sum(x), x)\n"
        "  help: cast it, or differentiate what it was computed from"
    )


def test_target_of_integers() -> None:
    x, i = gc.input("x", ("N",)), gc.input("i", ("N",), "int32")
    with pytest.raises(GradientError) as error:
        gc.grad(gc.sum(x * i), i)
    assert text_of(error) == (
        "grad: no gradient with respect to i, which is i32[N]\n"
        '  i : i32[N]  declared at FILE:LINE | x, i = gc.input("x", ("N",)), '
        'gc.input("i", ("N",), "int32")\n'
        "  --> FILE:LINE | gc.grad(gc.sum(x * i), i)\n"
        "  help: only floats have a gradient"
    )


@pytest.mark.parametrize("wrong", ["x", None, 3.0, np.ones(3)])
def test_target_that_is_no_tensor(wrong: Any) -> None:
    x = gc.input("x", ("N",))
    with pytest.raises(GradientError, match="is no tensor"):
        gc.grad(gc.sum(x), [wrong])
    with pytest.raises(GradientError, match="is no tensor"):
        gc.grad(1.0, x)  # type: ignore[call-overload]


def test_cotangent_of_another_shape() -> None:
    x = gc.input("x", ("N", 3))
    with pytest.raises(GradientError) as error:
        gc.grad(x * 2.0, x, cotangent=gc.ones((3,)))
    assert text_of(error) == (
        "grad: the cotangent is f32[3], mul is f32[N,3]\n"
        "  --> FILE:LINE | gc.grad(x * 2.0, x, cotangent=gc.ones((3,)))\n"
        "  help: give a cotangent of the same shape and dtype"
    )


# --- what it returns ----------------------------------------------------------------


def test_one_target_gives_a_tensor_and_a_list_a_list() -> None:
    x = gc.input("x", ("N",))
    y = gc.sum(x * x)
    assert isinstance(gc.grad(y, x), Tensor)
    (only,) = gc.grad(y, [x])
    assert isinstance(only, Tensor)
    assert gc.grad(y, []) == []


def test_value_and_grad() -> None:
    x = gc.input("x", ("N",))
    y, d = gc.value_and_grad(gc.sum(x * x), x)
    assert isinstance(d, Tensor)
    assert float(value(y, x=[1.0, 2.0])) == 5.0
    np.testing.assert_array_equal(value(d, x=[1.0, 2.0]), [2.0, 4.0])


def test_with_respect_to_something_in_between() -> None:
    x = gc.input("x", ("N",))
    h = gc.tanh(x)
    k = h * 3.0
    loss = gc.sum(k * k)
    dh, dk, dx = gc.grad(loss, [h, k, x])
    at = np.array([0.5, -1.0], np.float32)
    t = np.tanh(at)
    np.testing.assert_allclose(value(dk, x=at), 6 * t, 1e-6)
    np.testing.assert_allclose(value(dh, x=at), 18 * t, 1e-6)
    np.testing.assert_allclose(value(dx, x=at), 18 * t * (1 - t * t), 1e-5)


def test_a_target_that_a_stable_form_would_swallow() -> None:
    """exp(x) is wanted itself, so log(sum(exp(x))) is not taken apart at x."""
    x = gc.input("x", ("N",))
    e = gc.exp(x)
    loss = gc.log(gc.sum(e))
    de, dx = gc.grad(loss, [e, x])
    at = np.array([0.0, 1.0], np.float32)
    s = np.exp(at).sum()
    np.testing.assert_allclose(value(de, x=at), [1 / s, 1 / s], 1e-6)
    np.testing.assert_allclose(value(dx, x=at), np.exp(at) / s, 1e-6)


def test_the_cost_itself_as_a_target() -> None:
    x = gc.input("x", ("N",))
    y = gc.sum(x)
    assert float(value(gc.grad(y, y), x=[1.0])) == 1.0


def test_the_same_target_twice() -> None:
    x = gc.input("x", ("N",))
    a, b = gc.grad(gc.sum(x * x), [x, x])
    np.testing.assert_array_equal(value(a, x=[1.0]), value(b, x=[1.0]))


def test_a_tensor_used_many_times() -> None:
    x = gc.input("x", ())
    y = x
    for _ in range(6):
        y = y * y + y
    d = gc.grad(y, x)
    at = 0.3
    expected, slope = at, 1.0
    for _ in range(6):
        slope *= 2 * expected + 1
        expected = expected * expected + expected
    np.testing.assert_allclose(value(d, x=at), slope, 1e-5)


def test_a_deep_graph_needs_no_recursion() -> None:
    x = gc.input("x", ())
    y = x
    for _ in range(3000):
        y = y + 1.0
    assert float(value(gc.grad(y * y, x), x=0.0)) == 6000.0


def test_gradient_of_a_gradient() -> None:
    x = gc.input("x", ("N",))
    first = gc.grad(gc.sum(x**4), x)
    second = gc.grad(gc.sum(first), x)
    third = gc.grad(gc.sum(second), x)
    np.testing.assert_allclose(value(second, x=[2.0, -1.0]), [48, 12], 1e-6)
    np.testing.assert_allclose(value(third, x=[2.0, -1.0]), [48, -24], 1e-6)


def test_gradient_penalty() -> None:
    """A cost that holds a gradient, as in a critic's penalty, is differentiated."""
    x = gc.input("x", ("N", 2))
    w = gc.parameter("w", (2, 1), init=[[1.0], [2.0]])
    out = gc.sum(gc.tanh(x @ w))
    penalty = gc.mean((gc.norm(gc.grad(out, x), 1) - 1.0) ** 2)
    d = gc.grad(penalty, w)
    at = np.array([[0.3, -0.1], [0.2, 0.4]], np.float32)

    def cost(v: np.ndarray[Any, Any]) -> float:
        slope = 1 - np.tanh(at @ v) ** 2
        return float(np.mean((np.sqrt((slope * v.T) ** 2 @ np.ones(2)) - 1) ** 2))

    base = np.array([[1.0], [2.0]])
    found = gc.evaluate(d, {x: at})
    for i in range(2):
        step = np.zeros_like(base)
        step[i] = 1e-5
        expected = (cost(base + step) - cost(base - step)) / 2e-5
        np.testing.assert_allclose(found[i, 0], expected, 1e-3)


def test_cotangent_argument() -> None:
    x, g = gc.input("x", ("N", 3)), gc.input("g", ("N", 3))
    d = gc.grad(x * x, x, cotangent=g)
    a, b = np.full((2, 3), 3.0, np.float32), np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(value(d, x=a, g=b), 6 * b)


def test_cotangent_that_depends_on_the_target_is_a_constant() -> None:
    x = gc.input("x", ("N",))
    d = gc.grad(x * 2.0, x, cotangent=x)
    np.testing.assert_array_equal(value(d, x=[1.0, 5.0]), [2.0, 10.0])


def test_gradients_bear_the_lines_of_what_they_are_of() -> None:
    x = gc.input("x", ("N",))
    y = gc.exp(gc.tanh(x) * 0.5)
    d = gc.grad(gc.sum(y), x)
    graph = Graph.build([x], [d])
    for node in graph.nodes:
        origin = graph.origin(node)
        if origin.phase == "backward" and origin.derived in ("exp", "tanh"):
            assert origin.line == graph.origin(y.node).line


# --- custom gradients ---------------------------------------------------------------


def test_custom_gradient_replaces_what_would_be_derived() -> None:
    double = gc.custom_gradient(gc.tanh, lambda g, y, x: g * 10.0)
    x = gc.input("x", ("N",))
    y = double(x)
    d = gc.grad(gc.sum(y), x)
    step = gc.compile([x], [y, d])
    at = np.array([0.5, -1.0], np.float32)
    for f, e in zip(step(at), [np.tanh(at), [10, 10]], strict=True):
        np.testing.assert_allclose(f, e, 1e-6)


def test_custom_gradient_may_use_result_and_inputs() -> None:
    product = gc.custom_gradient(
        lambda x, y: x * y, lambda g, z, x, y: (g * z, g * (x - y))
    )
    x, y = gc.input("x", ("N",)), gc.input("y", ("N",))
    d = gc.grad(gc.sum(product(x, y)), [x, y])
    found = gc.compile([x, y], d)(np.array([2.0], "f"), np.array([3.0], "f"))
    assert [f.tolist() for f in found] == [[6.0], [-1.0]]


def test_straight_through_rounding() -> None:
    """The usual trick of quantised training: round forward, pass the gradient on."""
    rounded = gc.custom_gradient(
        lambda x: gc.cast(gc.cast(x, "int32"), "float32"), lambda g, y, x: g
    )
    x = gc.input("x", ("N",))
    y = rounded(x)
    d = gc.grad(gc.sum(y * y), x)
    found = gc.compile([x], [y, d])(np.array([1.7, -2.2], np.float32))
    assert [f.tolist() for f in found] == [[1.0, -2.0], [2.0, -4.0]]


def test_custom_gradient_of_the_wrong_shape() -> None:
    bad = gc.custom_gradient(lambda x: x * 2.0, lambda g, y, x: gc.sum(g))
    x = gc.input("x", ("N",))
    with pytest.raises(GradientError) as error:
        bad(x)
    assert text_of(error) == (
        "custom_gradient: backward returned ['f32[]'], the inputs are ['f32[N]']\n"
        "  --> FILE:LINE | bad(x)\n"
        "  help: return one cotangent of the same type for each input"
    )


def test_custom_gradient_captures_parameters_without_a_gradient() -> None:
    w = gc.parameter("w", (3,), init="ones")
    scaled = gc.custom_gradient(lambda x: x * w, lambda g, y, x: g * 5.0)
    x = gc.input("x", ("N", 3))
    loss = gc.sum(scaled(x))
    found = gc.evaluate(gc.grad(loss, x), {x: np.ones((1, 3))})
    np.testing.assert_array_equal(found, [[5.0] * 3])
    with pytest.raises(GradientError, match="no gradient of sum reaches w"):
        gc.grad(loss, w)


# --- explicit derivatives against SymPy's -------------------------------------------

SYMBOLIC = [
    op
    for op in OPS.values()
    if op.scalar is not None
    and own(op)
    and not isinstance(op.gradient, NonDifferentiable)
]


@pytest.mark.parametrize("op", SYMBOLIC, ids=lambda op: op.name)
def test_explicit_derivative_is_sympys(op: Op) -> None:
    assert op.scalar is not None
    arity = len(inspect.signature(op.scalar.formula).parameters)
    symbols = sympy.symbols(f"x0:{arity}", real=True)
    formula = sympy.sympify(op.scalar.formula(*symbols))
    low, high = op.scalar.sample
    rng = np.random.default_rng(len(op.name))
    inputs = [gc.input(f"x{i}", (64,), "float64") for i in range(arity)]
    given = {t: rng.uniform(low, high, 64) for t in inputs}
    one = gc.ones((64,), "float64")
    assert not isinstance(op.gradient, NonDifferentiable)
    own = op.gradient(op(*inputs).node, [one])
    for symbol, mine in zip(symbols, own, strict=True):
        theirs = tensor_from_sympy(
            sympy.diff(formula, symbol), dict(zip(symbols, inputs, strict=True))
        )
        expected = gc.evaluate(theirs, given) if isinstance(theirs, Tensor) else theirs
        found = 0.0
        if mine is not None:
            whole = (
                gc.where(mine.condition, mine.value, 0.0)
                if (isinstance(mine, Selected))
                else mine
            )
            found = gc.evaluate(whole, given)
        np.testing.assert_allclose(found, np.broadcast_to(expected, (64,)), 1e-9, 1e-12)


def test_scaling_by_one_builds_nothing() -> None:
    x = gc.input("x", ("N",))
    assert scale(x, 1) is x
    assert scale(x, 0) is None
    assert scale(x, None) is None
