"""Pooling, padding, resizing: geometry, bad input, ties, special values, batching."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import ArgumentError, DTypeError, GraphcError, GuardError, ShapeError

Array = np.ndarray[Any, Any]
RNG = np.random.default_rng(5)


def image(*shape: Any, dtype: str = "float32") -> gc.Tensor:
    return gc.input("x", shape, dtype)


def numbers(*shape: int) -> Array:
    return RNG.normal(size=shape).astype(np.float32)


# --- maximum --------------------------------------------------------------------------


def test_the_first_of_equal_maxima_gets_the_gradient() -> None:
    x = image("N", 1, 4, 4)
    y, at = gc.max_pool2d(x, 2, return_indices=True)
    step = gc.compile([x], [y, at, gc.grad(gc.sum(y), x)])
    a = np.array([[3, 3, 1, 2], [3, 0, 2, 2], [0, 0, 5, 4], [0, 0, 4, 5]], np.float32)
    found, index, slope = step(a[None, None])
    assert found[0, 0].tolist() == [[3, 2], [0, 5]]
    assert index[0, 0].tolist() == [[0, 3], [8, 10]]
    expected = np.zeros(16)
    expected[index.ravel()] = 1
    np.testing.assert_array_equal(slope.ravel(), expected)


def test_overlapping_windows_add_their_gradients_up() -> None:
    x = image(1, 1, 5)
    y = gc.max_pool1d(x, 3, 1)
    slope = gc.grad(gc.sum(y), x)
    a = np.array([[[0, 1, 9, 2, 1]]], np.float32)
    for found in (gc.evaluate(slope, {x: a}), gc.compile([x], slope)(a)):
        assert found.tolist() == [[[0, 0, 3, 0, 0]]]


def test_nan_is_largest_and_infinities_stand() -> None:
    x = image("N", 1, 6)
    y, at = gc.max_pool1d(x, 3, 3, return_indices=True)
    step = gc.compile([x], [y, at])
    a = np.array([[[1, np.nan, 2, -np.inf, -np.inf, -np.inf]]], np.float32)
    found, index = step(a)
    np.testing.assert_array_equal(found, [[[np.nan, -np.inf]]])
    assert index.tolist() == [[[1, 3]]]


def test_an_index_never_lies_in_the_padding() -> None:
    x = image(1, 1, 4, 4)
    _, at = gc.max_pool2d(x, 2, padding=1, return_indices=True)
    for a in (np.full((1, 1, 4, 4), -np.inf), numbers(1, 1, 4, 4)):
        found = gc.evaluate(at, {x: a.astype(np.float32)})
        assert (found >= 0).all()
        assert (found < 16).all()


def test_ceil_mode_keeps_the_last_elements_but_no_window_in_the_padding() -> None:
    assert gc.max_pool1d(image(1, 1, 7), 2).shape[2] == 3
    assert gc.max_pool1d(image(1, 1, 7), 2, ceil_mode=True).shape[2] == 4
    # The fifth window would begin behind x.
    assert gc.max_pool1d(image(1, 1, 7), 2, 2, 1, ceil_mode=True).shape[2] == 4
    y = gc.avg_pool1d(np.array([[[1.0, 2.0, 6.0]]]), 2, ceil_mode=True)
    assert gc.evaluate(y).tolist() == [[[1.5, 6.0]]]


def test_a_symbolic_image_is_checked_and_pooled() -> None:
    x = image("N", 2, "H", "W")
    y = gc.max_pool2d(x, (2, 3), ceil_mode=True)
    step = gc.compile([x], y)
    for h, w in ((2, 3), (5, 7), (13, 17)):
        a = numbers(2, 2, h, w)
        wide = np.full((2, 2, -(-h // 2) * 2, -(-w // 3) * 3), -np.inf, np.float32)
        wide[:, :, :h, :w] = a
        blocks = wide.reshape(2, 2, -(-h // 2), 2, -(-w // 3), 3)
        np.testing.assert_array_equal(step(a), blocks.max((3, 5)))
    with pytest.raises(GuardError, match="H >= 2"):
        gc.evaluate(gc.max_pool2d(x, 2), {x: numbers(1, 2, 1, 5)})


def test_unpooling_puts_maxima_back() -> None:
    x = image("N", 2, 5, 6)
    y, at = gc.max_pool2d(x, 2, return_indices=True)
    back = gc.max_unpool2d(y, at, 2, output_size=(5, 6))
    step = gc.compile([x], [y, back, gc.grad(gc.sum(back * back), x)])
    a = numbers(3, 2, 5, 6)
    pooled, found, slope = step(a)
    np.testing.assert_array_equal(np.where(found != 0, a, 0), found)
    assert np.count_nonzero(found) == pooled.size
    np.testing.assert_allclose(slope, 2 * found, 1e-6)
    assert gc.max_unpool2d(y, at, 2).shape[2:] == (4, 6)


def test_global_pools_take_all_spatial_axes() -> None:
    a = numbers(2, 3, 4, 5)
    largest, mean = gc.global_max_pool(a), gc.global_average_pool(a, keepdims=True)
    np.testing.assert_array_equal(gc.evaluate(largest), a.max((2, 3)))
    np.testing.assert_allclose(gc.evaluate(mean), a.mean((2, 3), keepdims=True), 1e-6)
    last = gc.global_max_pool(np.moveaxis(a, 1, -1), layout="NHWC")
    np.testing.assert_array_equal(gc.evaluate(last), a.max((2, 3)))


def test_a_maximum_and_its_index_are_one_kernel() -> None:
    x = image("N", 3, 8, 8)
    y = gc.relu(gc.max_pool2d(x, 2))
    step = gc.compile([x], [y, gc.grad(gc.sum(y * y), x)])
    reduced = [
        [r.monoid for p in n.phases for r in p.reduces] for n in step.program.nests
    ]
    assert ["max", "argmax"] in reduced
    assert sum("max" in each for each in reduced) == 1


# --- padding --------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["edge", "reflect", "symmetric", "wrap"])
@pytest.mark.parametrize("widths", [0, 1, (2, 0), ((0, 3), (2, 1)), ((3, 2),)])
def test_pad_is_numpys(mode: str, widths: Any) -> None:
    a = numbers(4, 5)
    found = gc.evaluate(gc.pad(a, widths, mode))
    np.testing.assert_array_equal(found, np.pad(a, widths, mode))


@pytest.mark.parametrize("values", [0, 1.5, (1, 2), ((1, 2), (3, 4)), float("-inf")])
def test_pad_with_values_is_numpys(values: Any) -> None:
    a = numbers(2, 3)
    found = gc.evaluate(gc.pad(a, ((1, 0), (2, 3)), constant_values=values))
    expected = np.pad(a, ((1, 0), (2, 3)), constant_values=values)
    np.testing.assert_array_equal(found, expected)


def test_padding_keeps_dtypes_and_may_be_symbolic() -> None:
    x = gc.input("x", ("N",), "bool")
    y = gc.pad(x, (0, x.shape[0]), constant_values=True)
    assert str(y.type) == "bool[2*N]"
    assert gc.evaluate(y, {x: np.array([False])}).tolist() == [False, True]


# --- resizing -------------------------------------------------------------------------


def test_resize_to_the_same_size_is_x_itself() -> None:
    x = image("N", 1, 3, 4)
    assert gc.resize(x, (3, 4), "bilinear") is x


@pytest.mark.parametrize(("n", "m"), [(1, 5), (7, 3), (3, 7), (49, 98), (98, 49)])
def test_nearest_is_the_element_that_holds_the_place(n: int, m: int) -> None:
    line = np.arange(n, dtype=np.float32)
    found = gc.evaluate(gc.resize(line[None, None], m))[0, 0]
    np.testing.assert_array_equal(found, [i * n // m for i in range(m)])


def test_linear_keeps_straight_lines_and_constants() -> None:
    line = np.arange(7, dtype=np.float64)[None, None]
    found = gc.evaluate(gc.resize(line, 13, "linear", align_corners=True))
    np.testing.assert_allclose(found[0, 0], np.linspace(0, 6, 13), 1e-12, 1e-12)
    ones = gc.evaluate(gc.resize(np.ones((1, 1, 5, 3)), (2, 8), "bilinear"))
    np.testing.assert_allclose(ones, 1, 1e-12)


def test_symbolic_sizes_are_resized() -> None:
    x = image(1, 1, "W")
    step = gc.compile([x], gc.resize(x, 2 * x.shape[2], "linear"))
    for n in (1, 2, 9):
        a = numbers(1, 1, n)
        places = np.clip((np.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        expected = np.interp(places, np.arange(n), a[0, 0])
        np.testing.assert_allclose(step(a)[0, 0], expected, 1e-5, 1e-6)


# --- bad input ------------------------------------------------------------------------

MISTAKES: dict[str, tuple[Callable[[], Any], type[GraphcError], str]] = {
    "window larger": (
        lambda: gc.max_pool2d(image("N", 1, 9, 2), 3),
        ShapeError,
        "max_pool2d: a window of 3 spans 3, but spatial axis 1 of x has 2",
    ),
    "no stride": (
        lambda: gc.avg_pool2d(image("N", 1, 9, 9), 3, 0),
        ArgumentError,
        "avg_pool2d: stride must be ints of at least 1, not 0",
    ),
    "size of a kind": (
        lambda: gc.max_pool1d(image("N", 1, 9), 2.5),
        ArgumentError,
        "max_pool1d: size must be ints of at least 1, not 2.5",
    ),
    "padding of a window": (
        lambda: gc.max_pool1d(image("N", 1, 9), 3, padding=2),
        ArgumentError,
        "max_pool1d: padding 2 is more than half of the window's 3",
    ),
    "axes": (
        lambda: gc.max_pool2d(image("N", 9, 9), 3),
        ShapeError,
        "max_pool2d: x f32[N,9,9] has 3 axes, not 4",
    ),
    "indices of another shape": (
        lambda: gc.max_unpool1d(image(1, 1, 3), np.zeros((1, 1, 2), np.int32), 2),
        ShapeError,
        "max_unpool1d: x f32[1,1,3] and constant i32[1,1,2] must have one shape",
    ),
    "indices that are no integers": (
        lambda: gc.max_unpool1d(image(1, 1, 3), image(1, 1, 3), 2),
        DTypeError,
        "max_unpool1d: indices must be integers, x is float32",
    ),
    "no spatial axes": (
        lambda: gc.global_max_pool(image("N", 3)),
        ShapeError,
        "global_max_pool: x f32[N,3] has 2 axes",
    ),
    "a method for other axes": (
        lambda: gc.resize(image(1, 1, 3), 4, "bilinear"),
        ArgumentError,
        "resize: unknown method 'bilinear' for 1 spatial axes",
    ),
    "sizes for other axes": (
        lambda: gc.resize(image(1, 1, 3), (4, 4)),
        ArgumentError,
        "resize: size (4, 4) does not fit the 1 spatial axes of x",
    ),
    "negative width": (
        lambda: gc.pad(image(2, 3), -1),
        ArgumentError,
        "pad: a width must be an int that is not negative, not -1",
    ),
    "widths for other axes": (
        lambda: gc.pad(image(2, 3), ((1, 1), (2, 2), (3, 3))),
        ArgumentError,
        "pad: pad_width ((1, 1), (2, 2), (3, 3)) does not fit x, which has 2 axes",
    ),
    "unknown mode": (
        lambda: gc.pad(image(2, 3), 1, "mirror"),
        ArgumentError,
        "pad: unknown mode 'mirror'",
    ),
    "too little to reflect": (
        lambda: gc.pad(image(2, 3), ((0, 0), (0, 3)), "reflect"),
        ArgumentError,
        "pad: mode 'reflect' cannot add 3 elements to axis 1 of x, which has 3",
    ),
    "a float into ints": (
        lambda: gc.pad(image(2, 3, dtype="int32"), 1, constant_values=0.5),
        ArgumentError,
        "pad: the value 0.5 is no int32, as x is",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_bad_input_names_both_values_and_the_line(what: str) -> None:
    make, kind, message = MISTAKES[what]
    with pytest.raises(kind) as found:
        make()
    assert str(found.value).startswith(message), found.value
    assert re.search(r"--> test_pooling\.py:\d+ \|", str(found.value))


def test_a_symbolic_axis_that_is_too_short_to_reflect_is_refused_at_the_call() -> None:
    x = gc.input("x", ("N",))
    y = gc.pad(x, (2, 0), "reflect")
    np.testing.assert_array_equal(gc.evaluate(y, {x: np.arange(3.0)}), [2, 1, 0, 1, 2])
    with pytest.raises(GuardError, match="N >= 3"):
        gc.evaluate(y, {x: np.arange(2.0)})


# --- batching -------------------------------------------------------------------------

BATCHED: dict[str, Callable[[gc.Tensor], gc.Tensor]] = {
    "max_pool": lambda x: gc.max_pool2d(x, 3, 2, 1),
    "indices": lambda x: gc.max_pool2d(x, 2, return_indices=True)[1],
    "slope": lambda x: gc.grad(gc.sum(gc.max_pool2d(x, 2) ** 2), x),
    "avg_pool": lambda x: gc.avg_pool2d(x, 2, 1),
    "pad": lambda x: gc.pad(x, 1, constant_values=2),
    "reflect": lambda x: gc.pad(x, ((0, 0), (0, 0), (1, 0), (0, 2)), "reflect"),
    "resize": lambda x: gc.resize(x, (3, 9), "bilinear"),
}


@pytest.mark.parametrize("what", BATCHED)
def test_vmap_is_a_loop_over_examples(what: str) -> None:
    function = BATCHED[what]
    x, xs = image(2, 1, 5, 4), gc.input("xs", ("B", 2, 1, 5, 4))
    a = numbers(3, 2, 1, 5, 4)
    found = gc.evaluate(gc.vmap(function)(xs), {xs: a})
    for i in range(3):
        np.testing.assert_allclose(
            found[i], gc.evaluate(function(x), {x: a[i]}), 1e-6, 1e-6
        )
