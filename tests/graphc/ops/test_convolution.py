"""Convolutions: geometry, bad input, special values, batching."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, GraphcError, GuardError, ShapeError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(3)


def image(*shape: Any, dtype: str = "float32") -> gc.Tensor:
    return gc.input("x", shape, dtype)


def weights(*shape: int, dtype: str = "float32") -> gc.Tensor:
    return gc.input("w", shape, dtype)


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


# --- geometry -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 13])
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(1, 1, 1), (3, 2, 1), (2, 3, 2)]
)
def test_same_stands_at_as_many_places_as_there_are_elements(
    size: int, kernel: int, stride: int, dilation: int
) -> None:
    y = gc.conv1d(image(1, 1, size), weights(1, 1, kernel), stride, "same", dilation)
    assert y.shape[2] == -(-size // stride)
    shape = (y.shape[0], 1, y.shape[2])
    back = gc.conv_transpose1d(
        gc.input("g", shape), weights(1, 1, kernel), stride, "same", dilation=dilation
    )
    assert back.shape[2] == y.shape[2] * stride


def test_same_of_a_symbolic_size() -> None:
    x, w = image(1, 1, "W"), weights(1, 1, 3)
    y = gc.conv1d(x, w, 2, "same")
    step = gc.compile([x, w], y)
    kernel = numbers(1, 1, 3)
    for n in (1, 2, 5, 16, 31):
        a = numbers(1, 1, n)
        low = max((-(-n // 2) - 1) * 2 + 3 - n, 0) // 2
        wide = np.pad(a[0, 0], (low, 4))
        expected = [wide[2 * i : 2 * i + 3] @ kernel[0, 0] for i in range(-(-n // 2))]
        np.testing.assert_allclose(step(a, kernel)[0, 0], expected, 1e-5, 1e-6)


def test_symbolic_sizes_become_those_of_the_result() -> None:
    y = gc.conv2d(image("N", 3, "H", "W"), weights(4, 3, 3, 5), (1, 2), (1, 0))
    assert str(y.type) == "f32[N,4,H,(W+1)//2-2]"
    back = gc.conv_transpose2d(y, weights(4, 3, 3, 5), (1, 2), (1, 0))
    assert back.shape[2] == y.shape[2]


def test_no_images_give_no_results_and_a_gradient_of_zero() -> None:
    x, w = image("N", 2, 5, 5), weights(3, 2, 3, 3)
    y = gc.conv2d(x, w)
    step = gc.compile([x, w], [y, *gc.grad(gc.sum(y), [x, w])])
    found, dx, dw = step(numbers(0, 2, 5, 5), numbers(3, 2, 3, 3))
    assert found.shape == (0, 3, 3, 3)
    assert dx.shape == (0, 2, 5, 5)
    assert not dw.any()


def test_a_symbolic_image_may_be_too_small() -> None:
    x, w = image(1, 1, "W"), weights(1, 1, 4)
    for each in (gc.conv1d(x, w), gc.conv1d(x, w, dilation=2, padding=1)):
        with pytest.raises(GuardError, match="W >= "):
            gc.evaluate(each, {x: numbers(1, 1, 3), w: numbers(1, 1, 4)})


def test_channels_last_is_the_same_convolution_with_axes_moved() -> None:
    a, k = numbers(2, 3, 6, 5), numbers(4, 3, 3, 2)
    first = gc.evaluate(gc.conv2d(a, k, 2, 1))
    last = gc.conv2d(
        np.moveaxis(a, 1, -1), np.transpose(k, (2, 3, 1, 0)), 2, 1, layout="NHWC"
    )
    np.testing.assert_allclose(np.moveaxis(gc.evaluate(last), -1, 1), first, 1e-6, 1e-6)
    g, k = numbers(2, 3, 4, 5), numbers(3, 2, 2, 3)
    first = gc.evaluate(gc.conv_transpose2d(g, k, 2))
    last = gc.conv_transpose2d(
        np.moveaxis(g, 1, -1), np.transpose(k, (2, 3, 1, 0)), 2, layout="NHWC"
    )
    np.testing.assert_allclose(np.moveaxis(gc.evaluate(last), -1, 1), first, 1e-6, 1e-6)


def test_ints_promote_and_bools_are_counted() -> None:
    y = gc.conv1d(np.ones((1, 1, 4), bool), np.ones((1, 1, 2), bool))
    assert gc.evaluate(y).tolist() == [[[2, 2, 2]]]
    assert gc.conv1d(np.ones((1, 1, 4), np.int32), numbers(1, 1, 2)).dtype.is_float


# --- bad input ------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[], Any], type[GraphcError], str]] = {
    "kernel larger": (
        lambda: gc.conv2d(image("N", 1, 4, 28), weights(2, 1, 5, 5)),
        ShapeError,
        "conv2d: a window of 5 spans 5, but spatial axis 0 of x has 4",
    ),
    "kernel larger when padded and dilated": (
        lambda: gc.conv1d(image(1, 1, 4), weights(2, 1, 3), padding=1, dilation=3),
        ShapeError,
        "conv1d: a window of 3 with dilation 3 spans 7, but spatial axis 0 of the "
        "padded x has 6",
    ),
    "stride 0": (
        lambda: gc.conv2d(image("N", 1, 9, 9), weights(2, 1, 3, 3), stride=0),
        ArgumentError,
        "conv2d: stride must be ints of at least 1, not 0",
    ),
    "dilation 0": (
        lambda: gc.conv2d(image("N", 1, 9, 9), weights(2, 1, 3, 3), dilation=(1, 0)),
        ArgumentError,
        "conv2d: dilation must be ints of at least 1, not 0",
    ),
    "three strides": (
        lambda: gc.conv2d(image("N", 1, 9, 9), weights(2, 1, 3, 3), stride=(1, 1, 1)),
        ArgumentError,
        "conv2d: stride has 3 numbers, there are 2 spatial axes",
    ),
    "groups and x": (
        lambda: gc.conv2d(image("N", 5, 9, 9), weights(4, 2, 3, 3), groups=2),
        ShapeError,
        "conv2d: x has 5 channels, which 2 groups do not divide",
    ),
    "groups and w": (
        lambda: gc.conv2d(image("N", 4, 9, 9), weights(5, 2, 3, 3), groups=2),
        ShapeError,
        "conv2d: the result has 5 channels, which 2 groups do not divide",
    ),
    "no groups": (
        lambda: gc.conv2d(image("N", 4, 9, 9), weights(5, 2, 3, 3), groups=0),
        ArgumentError,
        "conv2d: groups must be at least 1, not 0",
    ),
    "channels": (
        lambda: gc.conv2d(image("N", 3, 9, 9), weights(4, 2, 3, 3)),
        ShapeError,
        "conv2d: x has 3 channels, w takes 2",
    ),
    "axes": (
        lambda: gc.conv2d(image("N", 9, 9), weights(4, 2, 3, 3)),
        ShapeError,
        "conv2d: x f32[N,9,9] has 3 axes, not 4",
    ),
    "an empty kernel": (
        lambda: gc.conv1d(image(1, 1, 4), weights(2, 1, 0)),
        ShapeError,
        "conv1d: the window has size 0 along spatial axis 0",
    ),
    "padding by name": (
        lambda: gc.conv1d(image(1, 1, 4), weights(2, 1, 1), padding="full"),
        ArgumentError,
        "conv1d: padding 'full' does not fit 1 spatial axes",
    ),
    "negative padding": (
        lambda: gc.conv1d(image(1, 1, 4), weights(2, 1, 1), padding=-1),
        ArgumentError,
        "conv1d: padding must be ints of at least 0, not -1",
    ),
    "layout": (
        lambda: gc.conv2d(image(1, 1, 4, 4), weights(2, 1, 1, 1), layout="CHWN"),
        ArgumentError,
        "conv2d: unknown layout 'CHWN'",
    ),
    "transposed channels": (
        lambda: gc.conv_transpose2d(image(1, 3, 4, 4), weights(2, 1, 1, 1)),
        ShapeError,
        "conv_transpose2d: x has 3 channels, w takes 2",
    ),
    "nothing left": (
        lambda: gc.conv_transpose1d(image(1, 1, 2), weights(1, 1, 2), padding=2),
        ArgumentError,
        "conv_transpose1d: padding 2 and 2 leaves nothing of the 3 elements along "
        "spatial axis 0",
    ),
    "output padding": (
        lambda: gc.conv_transpose1d(
            image(1, 1, 2), weights(1, 1, 2), 2, output_padding=2
        ),
        ArgumentError,
        "conv_transpose1d: output_padding 2 is not below the stride 2 or the dilation",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_impossible_geometry_names_both_values_and_the_line(what: str) -> None:
    make, kind, message = MISTAKES[what]
    with pytest.raises(kind) as found:
        make()
    assert str(found.value).startswith(message), found.value
    assert re.search(r"--> test_convolution\.py:\d+ \|", str(found.value))
    assert re.search(r"x *: ", str(found.value))  # what the operands are


def test_dtypes_must_agree_in_a_graph_that_is_read() -> None:
    from graphc.ir.nodes import make1
    from graphc.ops.convolution import CONV, Conv

    with pytest.raises(DTypeError, match="dtypes differ"):
        make1(
            CONV, (image(1, 1, 4), weights(1, 1, 2, dtype="float64")), Conv((1,), (1,))
        )


# --- special values -------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_reach_all_windows_that_hold_them_and_no_others(
    value: float,
) -> None:
    x, w = image("N", 1, 7, 37), weights(3, 1, 3, 3)
    step = gc.compile([x, w], gc.conv2d(x, w, padding=1))
    kernel = np.abs(numbers(3, 1, 3, 3)) + 0.1
    for at in ((0, 0), (3, 15), (3, 16), (6, 36)):
        a = numbers(2, 1, 7, 37)
        a[(1, 0, *at)] = value
        found = step(a, kernel)
        hit = np.zeros((7, 37), bool)
        for i, j in itertools.product((-1, 0, 1), repeat=2):
            if 0 <= at[0] + i < 7 and 0 <= at[1] + j < 37:
                hit[at[0] + i, at[1] + j] = True
        for o in range(3):
            np.testing.assert_array_equal(np.isfinite(found[1, o]), ~hit)
        assert np.isfinite(found[0]).all()


# --- batching -------------------------------------------------------------------------


@pytest.mark.parametrize("which", [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("groups", [1, 2])
def test_vmap_is_a_loop_over_examples(which: tuple[bool, bool], groups: int) -> None:
    k = 3
    x, w = (
        image("N", 4, 6, 5, dtype="float64"),
        weights(6, 4 // groups, 3, 2, dtype="float64"),
    )

    def slopes(a: Any, b: Any) -> Any:
        y = gc.conv2d(a, b, 2, 1, groups=groups)
        return (y, *gc.grad(gc.sum(y * y), [a, b]))

    shapes = ((2, 4, 6, 5), (6, 4 // groups, 3, 2))
    given = [
        RNG.normal(size=(k, *s) if has else s)
        for s, has in zip(shapes, which, strict=True)
    ]
    axes = tuple(0 if has else None for has in which)
    inputs = [gc.input(f"a{i}", a.shape, "float64") for i, a in enumerate(given)]
    made = gc.vmap(slopes, axes)(*inputs)
    found = gc.evaluate(list(made), dict(zip(inputs, given, strict=True)))
    single = list(slopes(x, w))
    for i in range(k):
        each = [a[i] if has else a for a, has in zip(given, which, strict=True)]
        expected = gc.evaluate(single, dict(zip((x, w), each, strict=True)))
        for f, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(f[i], e, 1e-10, 1e-10)
