"""Layers for images: values, parameters, names, errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn
from graphc.errors import ArgumentError, GraphcError, ShapeError

RNG = np.random.default_rng(1)


def image(*shape: Any) -> graphc.Tensor:
    return graphc.input("x", ("N", *shape))


def numbers(*shape: int) -> np.ndarray[Any, Any]:
    return RNG.normal(size=shape).astype(np.float32)


def test_conv_computes_activation_of_convolution_and_bias() -> None:
    layer = nn.Conv2D(
        4, 3, 2, "same", activation="relu", bias_initializer="ones", name="c"
    )
    x = image(3, 7, 6)
    y = layer(x)
    assert [(p.name, p.shape) for p in layer.parameters] == [
        ("c/kernel", (4, 3, 3, 3)),
        ("c/bias", (4,)),
    ]
    a = numbers(2, 3, 7, 6)
    plain = graphc.evaluate(graphc.conv2d(a, layer.kernel.value, 2, "same"))
    np.testing.assert_allclose(
        graphc.evaluate(y, {x: a}), np.maximum(plain + 1, 0), 1e-5, 1e-5
    )


@pytest.mark.parametrize("kind", [nn.Conv2D, nn.Conv2DTranspose])
def test_both_data_formats_compute_the_same(kind: Any) -> None:
    first = kind(4, (3, 2), 2, groups=2, bias_initializer="uniform", name="c")
    last = kind(
        4,
        (3, 2),
        2,
        groups=2,
        data_format="channels_last",
        bias_initializer="uniform",
        name="c",
    )
    x, z = image(6, 7, 5), image(7, 5, 6)
    ys, zs = first(x), last(z)
    a = numbers(2, 6, 7, 5)
    found = graphc.evaluate(ys, {x: a})
    moved = graphc.evaluate(zs, {z: np.moveaxis(a, 1, -1)})
    np.testing.assert_allclose(np.moveaxis(moved, -1, 1), found, 1e-5, 1e-5)


def test_kernels_start_within_the_limits_of_their_fans() -> None:
    layer = nn.Conv2D(40, 5, name="c")
    layer(image(30, 9, 9))
    limit = np.sqrt(6 / (25 * (30 + 40)))
    largest = np.abs(layer.kernel.value).max()
    assert 0.99 * limit < largest <= limit
    fixed = nn.Conv2D(2, 1, kernel_initializer=np.ones((2, 3, 1, 1)), name="f")
    fixed(image(3, 4, 4))
    assert (fixed.kernel.value == 1).all()


SHAPES: dict[str, tuple[nn.Layer, tuple[int, ...], tuple[int, ...]]] = {
    "conv1d": (nn.Conv1D(4, 3, dilation_rate=2), (2, 10), (4, 6)),
    "conv3d": (nn.Conv3D(4, 2, padding="same"), (1, 5, 6, 7), (4, 5, 6, 7)),
    "conv1d_transpose": (nn.Conv1DTranspose(2, 3, 2), (4, 5), (2, 11)),
    "conv2d_transpose": (
        nn.Conv2DTranspose(3, 4, 2, "same", 0),
        (8, 7, 7),
        (3, 14, 14),
    ),
    "longer": (nn.Conv2DTranspose(3, 3, 2, 1, 1), (8, 7, 7), (3, 14, 14)),
    "conv3d_transpose": (nn.Conv3DTranspose(1, 2), (1, 2, 3, 4), (1, 3, 4, 5)),
    "max_pool1d": (nn.MaxPool1D(3, 2), (2, 9), (2, 4)),
    "max_pool2d": (nn.MaxPool2D(3, 2, "same"), (2, 9, 8), (2, 5, 4)),
    "max_pool3d": (nn.MaxPool3D((1, 2, 3)), (2, 4, 4, 7), (2, 4, 2, 2)),
    "avg_pool1d": (nn.AvgPool1D(), (2, 9), (2, 4)),
    "avg_pool2d": (nn.AvgPool2D(2, 1), (2, 9, 8), (2, 8, 7)),
    "avg_pool3d": (nn.AvgPool3D(), (2, 4, 4, 6), (2, 2, 2, 3)),
    "global_max_pooling2d": (nn.GlobalMaxPooling2D(), (2, 9, 8), (2,)),
    "global_average_pooling2d": (
        nn.GlobalAveragePooling2D(keepdims=True),
        (2, 9, 8),
        (2, 1, 1),
    ),
}


@pytest.mark.parametrize("what", SHAPES)
def test_shapes_are_as_told_and_computed(what: str) -> None:
    layer, before, after = SHAPES[what]
    x = image(*before)
    y = layer(x)
    assert y.shape[1:] == after
    assert graphc.evaluate(y, {x: numbers(2, *before)}).shape == (2, *after)


def test_names_are_keras_names() -> None:
    layers = [
        nn.Conv2D(2, 3),
        nn.Conv2DTranspose(2, 3),
        nn.MaxPooling2D(),
        nn.Flatten(),
    ]
    model = nn.Sequential([*layers, nn.SpatialDropout2D(0.5), nn.Dense(3)])
    assert [layer.name for layer in model.layers] == [
        "conv2d_1",
        "conv2d_transpose_1",
        "max_pool2d_1",
        "flatten_1",
        "dropout2d_1",
        "dense_1",
    ]


def test_padding_of_a_mean_does_not_count() -> None:
    x = image(1, 2, 2)
    y = nn.AvgPool2D(2, 1, "same")(x)
    found = graphc.evaluate(y, {x: np.ones((1, 1, 2, 2), np.float32)})
    np.testing.assert_array_equal(found, np.ones((1, 1, 2, 2)))


def test_dropout2d_drops_whole_channels_and_keeps_the_mean() -> None:
    drop = nn.Dropout2D(0.25, name="d")
    x = image(50, 4, 3)
    assert drop(x) is x
    step = graphc.compile(
        [x],
        drop(x, training=True),
        updates=graphc.state_updates(drop(x, training=True)),
    )
    first, second = (step(np.ones((40, 50, 4, 3), np.float32)) for _ in range(2))
    assert (first != second).any()
    for found in (first, second):
        assert (found == found[:, :, :1, :1]).all()
        assert set(np.unique(found)) == {np.float32(0), np.float32(4 / 3)}
        assert abs(found[:, :, 0, 0].mean() - 1) < 0.05


MISTAKES: dict[str, tuple[Callable[[], Any], type[GraphcError], str]] = {
    "filters": (
        lambda: nn.Conv2D(0, 3),
        ArgumentError,
        "Conv2D: filters must be a positive int, not 0",
    ),
    "strides": (
        lambda: nn.Conv1D(2, 3, strides=0),
        ArgumentError,
        "Conv1D: strides must be ints of at least 1, not 0",
    ),
    "groups": (
        lambda: nn.Conv2D(5, 3, groups=2),
        ArgumentError,
        "Conv2D: 5 filters, which 2 groups do not divide",
    ),
    "padding": (
        lambda: nn.MaxPool2D(2, padding="full"),
        ArgumentError,
        "MaxPool2D: padding 'full' does not fit 2 spatial axes",
    ),
    "data_format": (
        lambda: nn.AvgPool2D(data_format="NHWC"),
        ArgumentError,
        "AvgPool2D: unknown data_format 'NHWC'",
    ),
    "rate": (
        lambda: nn.Dropout2D(1.0),
        ArgumentError,
        "Dropout2D: the rate must be in [0, 1), not 1.0",
    ),
    "axes": (
        lambda: nn.Conv2D(2, 3, name="c")(image(4, 4)),
        ShapeError,
        "c: x is f32[N,4,4], it needs 4 axes, NCHW",
    ),
    "symbolic channels": (
        lambda: nn.Conv2D(2, 3, name="c")(image("C", 4, 4)),
        ShapeError,
        "c: x is f32[N,C,4,4], its channels are C, not a number",
    ),
    "kernel": (
        lambda: nn.Conv2D(2, 5, name="c")(image(1, 4, 4)),
        ShapeError,
        "conv2d: a window of 5 spans 5, but spatial axis 0 of x has 4",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_bad_input_names_the_layer_and_the_line(what: str) -> None:
    make, kind, message = MISTAKES[what]
    with pytest.raises(kind) as found:
        make()
    assert str(found.value).startswith(message), found.value
    assert re.search(r"--> test_convolution\.py:\d+ \|", str(found.value))


def test_a_small_network_learns_which_half_is_bright() -> None:
    model = nn.Sequential(
        [
            nn.Conv2D(4, 3, activation="relu"),
            nn.MaxPool2D(),
            nn.Flatten(),
            nn.Dense(2, activation="softmax"),
        ],
        seed=0,
    )
    images = RNG.uniform(size=(200, 1, 8, 8)).astype(np.float32)
    labels = RNG.integers(0, 2, 200)
    for picture, label in zip(images, labels, strict=True):
        picture[0, :, 4 * label : 4 * label + 4] += 0.7
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(images, labels, epochs=15, verbose=0)
    _, accuracy = model.evaluate(images, labels, verbose=0)
    assert accuracy > 0.95
