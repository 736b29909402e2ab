"""Layers: values, parameters, names, origins, errors."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn


def line() -> int:
    """Return the caller's line."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def x_input(*features: Any, dtype: str = "float32") -> graphc.Tensor:
    return graphc.input("x", ("N", *features), dtype=dtype)


# --- Dense --------------------------------------------------------------------------


def test_dense_computes_activation_of_product_and_bias() -> None:
    layer = nn.Dense(3, activation="relu", bias_initializer="ones", name="d")
    x = x_input(4)
    y = layer(x)
    xs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    want = np.maximum(xs @ layer.kernel.value + 1, 0)
    np.testing.assert_allclose(graphc.evaluate(y, {x: xs}), want, rtol=1e-6, atol=1e-6)


def test_dense_works_on_more_axes() -> None:
    layer = nn.Dense(3, name="d")
    x = x_input("T", 4)
    y = layer(x)
    assert str(y.type) == "f32[N,T,3]"
    xs = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
    np.testing.assert_allclose(
        graphc.evaluate(y, {x: xs}), xs @ layer.kernel.value, rtol=1e-5, atol=1e-6
    )


def test_dense_makes_its_parameters_once() -> None:
    layer = nn.Dense(3, name="d")
    assert layer.parameters == []
    first = layer(x_input(4))
    kept = layer.parameters
    second = layer(x_input(4))
    assert first is not second
    assert [p.name for p in kept] == ["d/kernel", "d/bias"]
    assert all(a is b for a, b in zip(layer.parameters, kept, strict=True))


def test_dense_without_bias_has_a_kernel_alone() -> None:
    layer = nn.Dense(3, use_bias=False, name="d")
    layer(x_input(4))
    assert [p.name for p in layer.parameters] == ["d/kernel"]


def test_dense_has_the_dtype_of_its_input_and_makes_floats_of_ints() -> None:
    assert nn.Dense(2)(x_input(4, dtype="float64")).dtype.name == "float64"
    assert nn.Dense(2)(x_input(4, dtype="int32")).dtype.name == "float32"


def test_initial_values_depend_on_name_and_seed() -> None:
    def kernel(name: str, seed: int) -> Any:
        layer = nn.Dense(3, name=name, seed=seed)
        layer(x_input(4))
        return layer.kernel.value

    assert (kernel("a", 0) == kernel("a", 0)).all()
    assert (kernel("a", 0) != kernel("b", 0)).any()
    assert (kernel("a", 0) != kernel("a", 1)).any()


@pytest.mark.parametrize("units", [0, -1, 2.5, True, "3"])
def test_dense_refuses_units_that_are_no_positive_int(units: Any) -> None:
    with pytest.raises(graphc.GraphcError, match="units must be a positive int"):
        nn.Dense(units)


def test_dense_refuses_a_symbolic_last_axis() -> None:
    x = x_input("D")
    layer = nn.Dense(3, name="d")
    with pytest.raises(graphc.GraphcError) as found:
        layer(x)
    text = str(found.value)
    assert text.startswith("d: the last axis of x is D, not a number")
    assert "x : f32[N,D]  made at test_layers.py:" in text
    assert "layer = nn.Dense(3" in text
    assert "help: a kernel needs a known number of features" in text
    assert layer.parameters == []


def test_dense_refuses_an_input_without_a_feature_axis() -> None:
    with pytest.raises(graphc.GraphcError, match="needs a batch axis and a feature"):
        nn.Dense(3)(x_input())


def test_dense_refuses_other_features_at_a_later_call() -> None:
    layer = nn.Dense(3, name="d")
    layer(x_input(4))
    with pytest.raises(graphc.GraphcError, match=r"x\[1\]=5, d/kernel\[0\]=4"):
        layer(x_input(5))


def test_dense_keeps_no_parameters_when_making_them_fails() -> None:
    layer = nn.Dense(3, bias_initializer="zeroes", name="d")
    with pytest.raises(graphc.GraphcError, match="unknown init 'zeroes'"):
        layer(x_input(4))
    assert layer.states == []
    assert not layer.built


# --- Dropout ------------------------------------------------------------------------


def test_dropout_is_the_identity_outside_training() -> None:
    x = x_input(4)
    layer = nn.Dropout(0.5)
    assert layer(x) is x
    assert graphc.state_updates(layer(x)) == {}


def test_dropout_keeps_the_mean_and_drops_the_rate() -> None:
    x = x_input(100)
    y = nn.Dropout(0.25, name="drop")(x, training=True)
    found = graphc.evaluate(y, {x: np.ones((200, 100), np.float32)})
    assert set(np.unique(found)) == {np.float32(0), np.float32(1 / 0.75)}
    assert abs(found.mean() - 1) < 0.02


def test_dropout_counts_its_steps_and_draws_anew_in_each() -> None:
    x = x_input(50)
    layer = nn.Dropout(0.5, name="drop")
    y = layer(x, training=True)
    updates = graphc.state_updates(y)
    assert [s.node.attrs.name for s in updates] == ["drop/step"]
    step = graphc.compile([x], y, updates, backend="reference")
    ones = np.ones((2, 50), np.float32)
    first, second = step(ones), step(ones)
    assert (first != second).any()
    assert layer.step.value == 2
    layer.step.value = np.int64(0)
    assert (step(ones) == first).all()


def test_dropout_draws_depend_on_name_and_seed() -> None:
    def drawn(name: str, seed: int) -> Any:
        x = x_input(50)
        y = nn.Dropout(0.5, name=name, seed=seed)(x, training=True)
        return graphc.evaluate(y, {x: np.ones((2, 50), np.float32)})

    assert (drawn("a", 0) == drawn("a", 0)).all()
    assert (drawn("a", 0) != drawn("b", 0)).any()
    assert (drawn("a", 0) != drawn("a", 1)).any()


def test_dropout_may_be_called_twice_in_one_step() -> None:
    x = x_input(4)
    layer = nn.Dropout(0.5, name="drop")
    y = layer(x, training=True) + layer(x * 2.0, training=True)
    assert len(graphc.state_updates(y)) == 1


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "half"])
def test_dropout_refuses_a_rate_that_is_none(rate: Any) -> None:
    with pytest.raises(graphc.GraphcError, match=r"the rate must be in \[0, 1\)"):
        nn.Dropout(rate)


# --- Flatten and Activation ---------------------------------------------------------


def test_flatten_joins_all_axes_but_the_first() -> None:
    assert str(nn.Flatten()(x_input(2, 3, 4)).type) == "f32[N,24]"
    assert str(nn.Flatten()(x_input()).type) == "f32[N,1]"


def test_flatten_refuses_a_scalar() -> None:
    with pytest.raises(graphc.GraphcError, match="is a scalar"):
        nn.Flatten()(graphc.input("x", ()))


def test_activation_takes_a_name_or_a_function() -> None:
    x = x_input(2)
    xs = np.array([[-1.0, 2.0]], np.float32)
    for layer in (nn.Activation("relu"), nn.Activation(lambda v: graphc.maximum(v, 0))):
        assert graphc.evaluate(layer(x), {x: xs}).tolist() == [[0.0, 2.0]]


# --- Layer --------------------------------------------------------------------------


class Scale(nn.Layer):
    def __init__(self) -> None:
        super().__init__(name="scale")

    def make_parameters(self, x: graphc.Tensor) -> None:
        self.factor = self.parameter("factor", x.shape[-1:], "ones")

    def call(self, x: graphc.Tensor, training: bool) -> graphc.Tensor:
        return x * self.factor


def test_nodes_bear_the_line_that_made_the_layer() -> None:
    layer, made = nn.Dense(3, name="d"), line()
    y = layer(x_input(4))
    birth = y.node.birth
    assert Path(birth.file).name == "test_layers.py"
    assert (birth.line, birth.scope) == (made, ("d",))
    assert layer.kernel.node.birth.line == made


def test_nodes_of_a_users_layer_bear_the_line_that_made_it() -> None:
    layer, made = Scale(), line()
    assert layer(x_input(4)).node.birth.line == made


def test_layers_outside_a_model_get_different_names() -> None:
    one, two = nn.Dense(3), nn.Dense(3)
    assert one.name != two.name
    assert one.name.startswith("dense_")


@pytest.mark.parametrize("name", ["", "a/b", 3])
def test_layer_refuses_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(graphc.GraphcError, match="a layer's name is a text without"):
        nn.Dense(3, name=name)


def test_a_layer_that_computes_no_tensor_is_refused() -> None:
    with pytest.raises(graphc.GraphcError, match=r"define call\(self, x, training\)"):
        nn.Layer()(x_input(4))
    with pytest.raises(graphc.GraphcError, match="call returned None, not a tensor"):
        nn.Activation(lambda _: None)(x_input(4))
