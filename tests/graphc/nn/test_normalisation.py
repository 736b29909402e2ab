"""Normalising layers: both forms, running statistics, parameters, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn, optim
from graphc.errors import ArgumentError, ShapeError, UpdateError

Array = np.ndarray[Any, Any]


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(2, 3, shape).astype(np.float32)


# --- batch --------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [1, -1])
def test_batch_normalisation_in_training_and_inference(axis: int) -> None:
    layer = nn.BatchNormalization(axis, momentum=0.9, name="norm")
    x = graphc.input("x", ("N", 3, 4, 3))
    y = layer(x, training=True)
    step = graphc.compile([x], y, updates=graphc.state_updates(y))
    others = tuple(i for i in range(4) if i != axis % 4)
    a = sample(8, 3, 4, 3)
    found = step(a)
    np.testing.assert_allclose(found.mean(others), 0, atol=1e-5)
    np.testing.assert_allclose(found.var(others), 1, atol=1e-3)
    mean, variance = 0.1 * a.mean(others), 0.9 + 0.1 * a.var(others)
    np.testing.assert_allclose(layer.moving_mean.value, mean, 1e-5)
    np.testing.assert_allclose(layer.moving_variance.value, variance, 1e-5)
    along = [1] * 4
    along[axis] = 3
    expected = a - mean.reshape(along)
    expected /= np.sqrt(variance.reshape(along) + 1e-3)
    predict = graphc.compile([x], layer(x))
    np.testing.assert_allclose(predict(a), expected, 1e-4, 1e-5)
    np.testing.assert_allclose(layer.moving_mean.value, mean, 1e-5)


def test_running_statistics_come_to_those_of_the_data() -> None:
    layer = nn.BatchNormalization(momentum=0.8, name="norm")
    x = graphc.input("x", ("N", 2))
    y = layer(x, training=True)
    step = graphc.compile([x], y, updates=graphc.state_updates(y))
    for seed in range(60):
        step(sample(400, 2, seed=seed))
    np.testing.assert_allclose(layer.moving_mean.value, 2, atol=0.2)
    np.testing.assert_allclose(layer.moving_variance.value, 9, rtol=0.1)


def test_an_optimiser_trains_gamma_and_beta_and_moves_the_statistics() -> None:
    layer = nn.BatchNormalization(name="norm")
    x, t = graphc.input("x", ("N", 3)), graphc.input("t", ("N", 3))
    y = layer(x, training=True)
    loss = graphc.mean((y - t) * (y - t))
    assert [p.name for p in layer.parameters] == ["norm/gamma", "norm/beta"]
    assert len(layer.states) == 4
    updates = optim.SGD(0.5).updates(loss)
    step = graphc.compile([x, t], loss, updates=updates)
    a = sample(64, 3)
    target = (a - a.mean(0)) / a.std(0) * 2 + 1
    losses = [step(a, target) for _ in range(60)]
    assert losses[-1] < 1e-3 < losses[0]
    np.testing.assert_allclose(layer.gamma.value, 2, rtol=0.02)
    np.testing.assert_allclose(layer.beta.value, 1, rtol=0.02)
    assert np.abs(layer.moving_mean.value).min() > 0.1


def test_two_training_calls_in_one_step_are_two_updates() -> None:
    layer = nn.BatchNormalization(name="norm")
    x = graphc.input("x", ("N", 3))
    y = layer(layer(x, training=True), training=True)
    with pytest.raises(UpdateError, match="norm/moving_mean"):
        graphc.state_updates(y)


def test_it_trains_within_a_model() -> None:
    model = nn.Sequential(
        [nn.Dense(8), nn.BatchNormalization(), nn.Activation("relu"), nn.Dense(1)]
    )
    model.compile(optimizer=optim.Adam(0.05), loss="mse")
    a = sample(64, 4)
    before = model.fit(a, a[:, :1], epochs=1, verbose=0).history["loss"][0]
    after = model.fit(a, a[:, :1], epochs=30, verbose=0).history["loss"][-1]
    assert after < before / 4
    norm = model.layers[1]
    assert isinstance(norm, nn.BatchNormalization)
    assert norm.moving_mean.name == "batch_normalization_1/moving_mean"
    assert np.abs(norm.moving_mean.value).max() > 0


# --- layer, RMS, group --------------------------------------------------------------


def test_layer_and_rms_normalisation() -> None:
    x = graphc.input("x", ("N", "T", 4))
    a = sample(2, 3, 4)
    layer = nn.LayerNormalization(name="a", gamma_initializer=np.arange(4.0))
    found = graphc.evaluate(layer(x), {x: a})
    centred = a - a.mean(-1, keepdims=True)
    expected = centred / np.sqrt(a.var(-1, keepdims=True) + 1e-3) * np.arange(4)
    np.testing.assert_allclose(found, expected, 1e-4, 1e-5)
    rms = nn.RMSNormalization(name="b")
    found = graphc.evaluate(rms(x), {x: a})
    square = (a * a).mean(-1, keepdims=True)
    np.testing.assert_allclose(found, a / np.sqrt(square + 1e-6), 1e-4, 1e-5)
    assert [p.name for p in (*layer.parameters, *rms.parameters)] == [
        "a/gamma",
        "a/beta",
        "b/gamma",
    ]


def test_several_axes_have_a_weight_for_each_place() -> None:
    layer = nn.LayerNormalization(axis=(1, 2), name="a")
    x = graphc.input("x", ("N", 3, 4))
    y = layer(x)
    assert layer.gamma.shape == (3, 4)
    found = graphc.evaluate(y, {x: sample(2, 3, 4)})
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-5)


@pytest.mark.parametrize(("groups", "axis"), [(2, 1), (-1, 1), (4, -1)])
def test_group_normalisation(groups: int, axis: int) -> None:
    layer = nn.GroupNormalization(groups, axis, name="g", epsilon=0.0)
    x = graphc.input("x", ("N", 4, 5, 4))
    a = sample(2, 4, 5, 4)
    found = graphc.evaluate(layer(x), {x: a})
    first = np.moveaxis(found, axis, 1)
    rows = first.reshape(2, 4 if groups == -1 else groups, -1)
    np.testing.assert_allclose(rows.mean(2), 0, atol=1e-5)
    np.testing.assert_allclose(rows.var(2), 1, atol=1e-4)


def test_center_and_scale_may_be_left_out() -> None:
    x = graphc.input("x", ("N", 3))
    for kind in (nn.BatchNormalization, nn.LayerNormalization, nn.GroupNormalization):
        options = {"groups": 1} if kind is nn.GroupNormalization else {}
        layer = kind(center=False, scale=False, name="n", **options)
        layer(x)
        assert layer.parameters == []


# --- errors -------------------------------------------------------------------------


def test_sizes_that_are_not_known_are_named() -> None:
    x = graphc.input("x", ("N", "D"))
    with pytest.raises(ShapeError, match="norm: axis 1 of x is D, not a number"):
        nn.LayerNormalization(name="norm")(x)
    with pytest.raises(ShapeError, match="norm: axis 2 is out of range for x"):
        nn.BatchNormalization(2, name="norm")(x)
    image = graphc.input("image", ("N", 6, 5))
    with pytest.raises(ShapeError, match=r"4 groups do not divide image\[1\]=6"):
        nn.GroupNormalization(4)(image)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: nn.BatchNormalization(momentum=1.5), "momentum must be in"),
        (lambda: nn.BatchNormalization(epsilon=-1.0), "epsilon must be"),
        (lambda: nn.LayerNormalization(epsilon="small"), "epsilon must be"),
        (lambda: nn.GroupNormalization(0), "groups must be a positive int or -1"),
    ],
)
def test_settings_that_make_no_sense(make: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as raised:
        make()
    assert "test_normalisation.py:" in str(raised.value)
