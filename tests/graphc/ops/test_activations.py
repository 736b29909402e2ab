"""Activations, rounding, division and tests: NumPy's meaning, dtypes, bad input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, GradientError, ShapeError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import OPS

Array = np.ndarray[Any, Any]
FLOATS = ["float32", "float64"]
HARD = [0.0, -0.0, 0.5, -0.5, 1.5, 2.5, -2.5, 7.0, -7.0, 1e30, -1e30]
HARD += [0.49999997, 8388609.0, np.inf, -np.inf, np.nan]


def both(inputs: list[Tensor], outputs: Any, given: list[Array]) -> list[list[Array]]:
    """Return what `reference` and the CPU make of inputs."""
    found = gc.evaluate(outputs, dict(zip(inputs, given, strict=True)))
    return [found, gc.compile(inputs, outputs)(*given)]


# --- rounding -------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_roundings_are_numpys(dtype: str) -> None:
    x = gc.input("x", ("N",), dtype)
    names = ["floor", "ceil", "trunc", "round"]
    at = np.array(HARD, dtype)
    for found in both([x], [getattr(gc, n)(x) for n in names], [at]):
        for name, f in zip(names, found, strict=True):
            expected = getattr(np, name)(at)
            np.testing.assert_array_equal(f, expected, name)
            signs = np.signbit(f) == np.signbit(expected)
            assert (signs | np.isnan(at)).all(), name


def test_halves_round_to_the_even_number() -> None:
    assert gc.evaluate(gc.round([-1.5, -0.5, 0.5, 1.5, 2.5])).tolist() == [
        -2,
        0,
        0,
        2,
        2,
    ]


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
@pytest.mark.parametrize("name", ["floor", "ceil", "trunc", "round"])
def test_roundings_leave_integers_as_they_are(name: str, dtype: str) -> None:
    x = gc.input("x", ("N",), dtype)
    y = getattr(gc, name)(x)
    assert y.type == x.type
    at = np.array([0, 1, 2**31 - 1]).astype(dtype)
    for found in both([x], y, [at]):
        np.testing.assert_array_equal(found, at)


# --- whole division -------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_division_of_floats_is_numpys_at_zero_and_infinity(dtype: str) -> None:
    x, y = gc.input("x", ("N",), dtype), gc.input("y", ("N",), dtype)
    a, b = (g.ravel() for g in np.meshgrid(*[np.array(HARD, dtype)] * 2))
    with np.errstate(all="ignore"):
        expected = [a // b, a % b]
    for found in both([x, y], [x // y, x % y], [a, b]):
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(f, e)
            assert (np.signbit(f) == np.signbit(e))[e == 0].all()


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_division_of_integers_rounds_down_and_by_zero_is_zero(dtype: str) -> None:
    x, y = gc.input("x", ("N",), dtype), gc.input("y", ("N",), dtype)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    values = np.array([7, -7, 0, 1, -1, 3, low, high], dtype)
    a, b = (g.ravel() for g in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = [a // b, a % b]
    for found in both([x, y], [x // y, x % y], [a, b]):
        for f, e in zip(found, expected, strict=True):
            assert f.dtype == dtype
            np.testing.assert_array_equal(f, e)


def test_division_has_operators_from_both_sides() -> None:
    x = gc.input("x", ("N",), "int32")
    at = np.array([2, -3, 5], np.int32)
    made = [x // 2, 7 // x, x % 2, 7 % x, x // 2.0, x % 2.0]
    expected = [at // 2, 7 // at, at % 2, 7 % at, at // 2.0, at % 2.0]
    assert [str(t.dtype) for t in made] == ["int32"] * 4 + ["float32"] * 2
    for found in both([x], made, [at]):
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(f, e)


def test_indices_may_be_divided() -> None:
    x = gc.input("x", ("N", 4))
    rows, columns = gc.iota((6,), 0) // 4, gc.iota((6,), 0) % 4
    picked = gc.take(gc.reshape(x, (-1,)), rows * 4 + columns, 0)
    at = np.arange(8, dtype=np.float32).reshape(2, 4)
    for found in both([x], picked, [at]):
        np.testing.assert_array_equal(found, np.arange(6))


# --- limits ---------------------------------------------------------------------------


def test_clip_is_numpys() -> None:
    x = gc.input("x", ("N",))
    at = np.array(HARD, np.float32)
    limits: list[tuple[Any, Any]] = [(-1, 1), (None, 0.5), (2.0, None), (3.0, -3.0)]
    made = [gc.clip(x, low, high) for low, high in limits]
    for found in both([x], made, [at]):
        for f, (low, high) in zip(found, limits, strict=True):
            np.testing.assert_array_equal(f, np.clip(at, low, high))


def test_clip_without_limits_is_its_input() -> None:
    x = gc.input("x", ("N",))
    assert gc.clip(x) is x


def test_clip_promotes_and_broadcasts() -> None:
    i, x = gc.input("i", ("N", 3), "int32"), gc.input("x", ("N", 1))
    assert gc.clip(i, 0, 5).type == i.type
    assert str(gc.clip(i, 0.5, 5).type) == "f32[N,3]"
    assert str(gc.clip(x, gc.input("low", (3,)), 1).type) == "f32[N,3]"
    with pytest.raises(ShapeError, match=r"clip: dimensions differ") as error:
        gc.clip(i, gc.input("low", (4,), "int32"), 9)
    text = str(error.value)
    assert "i[1]=3, low[0]=4" in text
    assert "test_activations.py" in text


# --- tests of numbers -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [*FLOATS, "int32"])
def test_what_numbers_are(dtype: str) -> None:
    x = gc.input("x", ("N",), dtype)
    names = ["isnan", "isinf", "isfinite"]
    at = np.array(HARD if dtype in FLOATS else [0, -1, 2**31 - 1, -(2**31)], dtype)
    for found in both([x], [getattr(gc, n)(x) for n in names], [at]):
        for name, f in zip(names, found, strict=True):
            assert f.dtype == bool
            np.testing.assert_array_equal(f, getattr(np, name)(at), name)


def test_exclusive_or() -> None:
    x, y = gc.input("x", ("N",), "int32"), gc.input("y", ("N",), "bool")
    a, b = np.array([0, 2, -1, 0], np.int32), np.array([True, True, False, False])
    for found in both([x, y], (x != 0) ^ y, [a, b]):
        np.testing.assert_array_equal(found, np.logical_xor(a, b))
    with pytest.raises(GradientError, match="only floats have a gradient"):
        gc.grad(gc.logical_xor(x, y), y)


def test_signs_of_logic_are_for_bools() -> None:
    x, p = gc.input("x", ("N",), "int32"), gc.input("p", ("N",), "bool")
    assert ((p & True).type, (True | p).type, (~p).type) == (p.type,) * 3
    for sign, use in (
        ("&", lambda: p & x),
        ("|", lambda: x | p),
        (r"\^", lambda: p ^ 1),
        ("~", lambda: ~x),
    ):
        with pytest.raises(DTypeError, match=f"{sign} is for bools") as error:
            use()
        assert "graphc.logical_" in str(error.value)


# --- functions ------------------------------------------------------------------------


def test_log2_is_exact_for_powers_of_two() -> None:
    for dtype, least in (("float32", -149), ("float64", -1074)):
        x = gc.input("x", ("N",), dtype)
        powers = np.arange(least, 128)
        at = np.ldexp(np.ones(powers.size), powers).astype(dtype)
        for found in both([x], gc.log2(x), [at]):
            np.testing.assert_array_equal(found, powers)


def test_squares_and_reciprocals_are_products_and_quotients() -> None:
    x = gc.input("x", ("N",))
    i = gc.input("i", ("N",), "int32")
    assert gc.square(x).node.op.name == "mul"
    assert gc.square(i).type == i.type
    assert gc.reciprocal(x).node.op.name == "div"
    assert str(gc.reciprocal(i).dtype) == "float32"
    assert gc.evaluate(gc.square(3)).item() == 9
    assert gc.evaluate(gc.reciprocal([2.0, 0.0])).tolist() == [0.5, np.inf]


# --- activations ----------------------------------------------------------------------


def test_integers_become_floats_where_the_formula_has_them() -> None:
    i = gc.input("i", ("N",), "int32")
    for f in (gc.gelu, gc.silu, gc.elu, gc.selu, gc.softsign, gc.leaky_relu, gc.sin):
        y = f(i)
        assert str(y.type) == "f32[N]"
        at = np.array([-3, 0, 3], np.int32)
        x = gc.input("x", ("N",))
        expected = gc.evaluate(f(x), {x: at.astype(np.float32)})
        for found in both([i], y, [at]):
            np.testing.assert_allclose(found, expected, 1e-6)


def test_gelu_names_its_approximations() -> None:
    x = gc.input("x", ("N",))
    assert gc.gelu(x).node.op.name == "gelu"
    assert gc.gelu(x, approximate="tanh").node.op.name == "gelu_tanh"
    with pytest.raises(ArgumentError) as error:
        gc.gelu(x, approximate="erf")
    text = str(error.value)
    assert text.startswith('gelu: approximate is \'erf\', not "none" or "tanh"')
    assert "test_activations.py" in text


def test_gelu_keeps_its_digits_far_left() -> None:
    x = gc.input("x", ("N",))
    at = np.array([-4.0, -5.0, -6.0, -10.0], np.float32)
    expected = [-1.2668496e-4, -1.4332578e-6, -5.9195277e-9, -7.619853e-23]
    for found in both([x], gc.gelu(x), [at]):
        np.testing.assert_allclose(found, expected, 1e-5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x: gc.leaky_relu(), r"leaky_relu\(\) takes 2 arguments, 0 given"),
        (lambda x: gc.elu(x, 1.0, 2.0), r"elu\(\) takes 2 arguments, 3 given"),
        (lambda x: gc.elu(x, slope=1.0), r"elu\(\) takes .* 'slope'"),
        (lambda x: gc.sin(x, x), r"sin\(\) takes 1 arguments, 2 given"),
    ],
)
def test_wrong_arguments_are_named(call: Callable[[Tensor], Any], says: str) -> None:
    with pytest.raises(TypeError, match=says):
        call(gc.input("x", ("N",)))


def test_a_parameter_that_does_not_broadcast_is_named() -> None:
    x, slope = gc.input("x", ("N", 4)), gc.input("slope", (3,))
    with pytest.raises(ShapeError, match=r"leaky_relu: dimensions differ: x\[1\]=4"):
        gc.leaky_relu(x, slope)


ELEMENTWISE = "sin tan arctan sinh cosh log2 log10 erf erfc silu gelu elu selu softsign"


@pytest.mark.parametrize("size", [0, 1, 7, 31, 257])
def test_a_chain_fuses_and_runs_at_any_size(size: int) -> None:
    x = gc.input("x", ("N",))
    y = x
    for name in ELEMENTWISE.split():
        y = y + 0.1 * getattr(gc, name)(gc.clip(x, 0.5, 2.0))
    step = gc.compile([x], y)
    assert len(step.kernels) == 1
    at = np.linspace(-3, 3, size).astype(np.float32)
    np.testing.assert_allclose(step(at), gc.evaluate(y, {x: at}), 1e-5, 1e-6)


def test_parameters_and_limits_print_and_parse() -> None:
    x, a = gc.input("x", ("N", 3)), gc.input("a", (3,))
    outputs = [gc.leaky_relu(x, a), gc.elu(x), gc.clip(x, -1, a), x // 2, gc.gelu(x)]
    graph = Graph.build([x, a], outputs)
    text = graph.text()
    assert "= leaky_relu(%x, %" in text
    assert gc.parse(text) == graph


def test_ops_with_several_spellings_are_one_op_each() -> None:
    for name in ("gelu", "clip"):
        assert OPS[name].function is getattr(gc, name)
