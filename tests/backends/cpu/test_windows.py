"""Convolutions on the register tile: ragged sizes and strides, against reference."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import pace, tile_windows

Array = np.ndarray

# N, C, F, H, W, the window's height and width, stride, padding
SIZES = [
    (2, 3, 5, 9, 11, 3, 3, 1, 1),
    (2, 16, 16, 8, 8, 3, 3, 1, 1),
    (3, 4, 7, 7, 5, 3, 2, 2, 0),
    (1, 1, 8, 28, 28, 5, 5, 1, 0),
    (2, 8, 16, 8, 8, 1, 1, 2, 0),
    (3, 2, 13, 17, 37, 3, 3, 1, 2),
    (1, 2, 3, 1, 70, 1, 7, 1, 3),
    (0, 2, 3, 6, 6, 3, 3, 1, 1),
    (2, 5, 37, 9, 19, 3, 2, 1, 1),
    (3, 7, 70, 12, 5, 3, 3, 2, 1),
]


def all_of_it(case: tuple[int, ...]) -> tuple[list[gc.Tensor], list[gc.Tensor]]:
    """Return inputs, and a convolution with its epilogue and its gradients."""
    _, c, f, h, w, kh, kw, stride, padding = case
    x = gc.input("x", ("N", c, h, w))
    weight, b = gc.input("w", (f, c, kh, kw)), gc.input("b", (f, 1, 1))
    y = gc.relu(gc.conv2d(x, weight, stride=stride, padding=padding) + b)
    return [x, weight, b], [y, *gc.grad(gc.sum(y * y), [x, weight, b])]


def numbers(case: tuple[int, ...]) -> list[Array]:
    n, c, f, h, w, kh, kw, *_ = case
    rng = np.random.default_rng(0)
    shapes = (n, c, h, w), (f, c, kh, kw), (f, 1, 1)
    return [rng.standard_normal(shape).astype("f") for shape in shapes]


@pytest.mark.parametrize("case", SIZES, ids=lambda case: "x".join(map(str, case)))
def test_windows_of_ragged_sizes(case: tuple[int, ...]) -> None:
    inputs, outputs = all_of_it(case)
    step = gc.compile(inputs, outputs)
    exact = gc.compile(inputs, outputs, backend="reference")
    given = numbers(case)
    for found, wanted in zip(step(*given), exact(*given), strict=True):
        size = np.abs(wanted).max(initial=1e-30)
        np.testing.assert_allclose(found, wanted, 1e-4, 3e-5 * size)


def test_convolutions_run_on_the_tile() -> None:
    step = gc.compile(*all_of_it(SIZES[0]))
    strategies = {n.name: n.schedule.strategy for n in step.program.nests if n.schedule}
    assert strategies["conv_weight_gradient"] == "tile"
    assert sum(s == "tile" for s in strategies.values()) == 3


def test_pictures_that_are_not_finite_spoil_their_own_windows_alone() -> None:
    x, w = gc.input("x", (2, 1, 8, 20)), gc.input("w", (3, 1, 3, 3))
    step = gc.compile([x, w], gc.conv2d(x, w, padding=1))
    given = np.ones((2, 1, 8, 20), "f")
    given[0, 0, 4, 7], given[1, 0, 0, 19] = np.nan, np.inf
    found = step(given, np.ones((3, 1, 3, 3), "f"))
    assert np.isnan(found).sum() == 3 * 9
    assert np.isinf(found).sum() == 3 * 4


# In, out, size, window, stride, dilation, padding before and behind each axis.
SIDES = [
    (3, 7, (6, 9), (3, 2), (1, 1), (2, 1), ((1, 3), (0, 2))),
    (2, 40, (11, 37), (3, 3), (2, 3), (1, 1), ((2, 0), (1, 1))),
    (17, 9, (7, 16), (1, 4), (3, 1), (1, 2), ((0, 0), (3, 3))),
    (2, 2, (2, 33), (2, 2), (1, 2), (1, 1), ((1, 0), (0, 0))),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", SIDES)
def test_padding_of_any_kind_is_read_where_windows_are(case, dtype: str) -> None:
    c, f, size, window, stride, dilation, padding = case
    x = gc.input("x", ("N", c, *size), dtype)
    w = gc.input("w", (f, c, *window), dtype)
    y = gc.conv2d(x, w, stride=stride, padding=padding, dilation=dilation)
    g = gc.input("g", y.shape, dtype)
    outputs = [y, *gc.grad(gc.sum(y * g), [x, w])]
    step = gc.compile([x, w, g], outputs)
    assert "pad" not in {nest.name for nest in step.program.nests}
    rng = np.random.default_rng(8)
    shapes = (2, c, *size), (f, c, *window), (2, *y.shape[1:])
    given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    given[0][0, 0, 0, 0], given[2][1, 0, -1, -1] = np.nan, np.inf
    exact = gc.compile([x, w, g], outputs, backend="reference")
    with np.errstate(invalid="ignore"):
        wanted = exact(*given)
    for found, value in zip(step(*given), wanted, strict=True):
        np.testing.assert_array_equal(np.isfinite(found), np.isfinite(value))
        np.testing.assert_array_equal(np.isnan(found), np.isnan(value))
        finite = np.isfinite(value)
        size = np.abs(value[finite]).max(initial=1e-30)
        np.testing.assert_allclose(found[finite], value[finite], 1e-4, 3e-5 * size)


def test_windows_lie_in_copies_of_their_picture() -> None:
    x, w = gc.input("x", ("N", 3, 9, 21)), gc.input("w", (8, 3, 3, 4))
    for padding in (0, ((1, 0), (2, 3))):
        step = gc.compile([x, w], gc.conv2d(x, w, padding=padding, dilation=2))
        (kernel,) = step.kernels
        assert "tile_columns" in kernel.source
        assert "gather_panel" not in kernel.source
    # Where a window moves by more than one, they are no neighbours.
    (kernel,) = gc.compile([x, w], gc.conv2d(x, w, stride=2)).kernels
    assert "tile_columns" not in kernel.source


# Out, in, size, window, stride, dilation, padding of convolutions whose weights fill
# the columns of a tile, so that windows with neighbours are its rows too.
ROWS = [
    (64, 24, (7, 11), (3, 3), (1, 1), (1, 1), 1),
    (60, 23, (6, 13), (3, 3), (1, 1), (1, 1), 0),
    (128, 43, (1, 37), (3, 3), (1, 1), (1, 2), ((1, 2), (2, 1))),
    (64, 128, (5, 9), (3, 3), (1, 1), (1, 1), 1),
    (64, 150, (8, 19), (1, 8), (1, 1), (1, 1), 0),
    (64, 64, (17, 18), (3, 3), (2, 1), (1, 1), 1),
    (64, 200, (30,), (2,), (3,), (1,), 0),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("case", ROWS, ids=lambda case: "x".join(map(str, case[:2])))
def test_windows_are_rows_where_weights_fill_columns(
    case, n: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(tile_windows, "NEAR", 0)
    f, c, size, window, stride, dilation, padding = case
    conv = {1: gc.conv1d, 2: gc.conv2d}[len(size)]
    x, w = gc.input("x", ("N", c, *size), dtype), gc.input("w", (f, c, *window), dtype)
    b = gc.input("b", (f, *[1] * len(size)), dtype)
    y = gc.relu(conv(x, w, stride=stride, padding=padding, dilation=dilation) + b)
    inputs, outputs = [x, w, b], [y, *gc.grad(gc.sum(y * y), [x, w])]
    rng = np.random.default_rng(13)
    shapes = (n, c, *size), (f, c, *window), b.shape
    given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    if n > 1:
        given[0][1, -1, 0, ...], given[0][-1, 0, -1, ...] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        wanted = gc.compile(inputs, outputs, backend="reference")(*given)
    once = gc.compile(inputs, outputs, threads=1)
    assert any("tile_rows" in k.source for k in gc.compile(inputs, y).kernels)
    close = 1e-4 if dtype == "float32" else 1e-12
    for found, value in zip(once(*given), wanted, strict=True):
        size = np.abs(value[np.isfinite(value)]).max(initial=1e-30)
        np.testing.assert_allclose(found, value, close, close * size)
    twice = gc.compile(inputs, outputs, threads=2)(*given)
    for a, b in zip(once(*given), twice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_windows_are_rows_where_copies_would_fill_the_second_cache() -> None:
    w = gc.input("w", (64, 64, 3, 3))
    for side, rows in ((16, False), (32, True), (56, True)):
        x = gc.input("x", (2, 64, side, side))
        (kernel,) = gc.compile([x, w], gc.conv2d(x, w, padding=1)).kernels
        assert ("tile_rows" in kernel.source) == rows


def test_windows_of_a_part_of_a_picture_lie_in_copies_of_that_part() -> None:
    x, w = gc.input("x", ("N", 4, 12, 40)), gc.input("w", (3, 2, 3, 2))
    y = gc.conv2d(x[:, 1:3, 2:9, 5:38], w)
    step = gc.compile([x, w], y)
    rng = np.random.default_rng(12)
    given = [rng.standard_normal(s).astype("f") for s in ((3, 4, 12, 40), (3, 2, 3, 2))]
    wanted = gc.evaluate(y, dict(zip([x, w], given, strict=True)))
    np.testing.assert_allclose(step(*given), wanted, 1e-4, 1e-5)
    (kernel,) = step.kernels
    assert "tile_columns" in kernel.source


# Out, in, size, window, stride, dilation, padding of convolutions whose gradient by the
# image would multiply mostly zeros.
ZEROS = [
    (20, 10, (12, 12), (5, 5), (1, 1), (1, 1), 0),
    (32, 16, (32, 32), (3, 3), (2, 2), (1, 1), 1),
    (17, 5, (13, 19), (3, 2), (2, 3), (2, 1), ((1, 0), (2, 1))),
    (16, 7, (9, 40), (4, 3), (1, 3), (1, 2), ((0, 3), (1, 1))),
    (19, 3, (23,), (5,), (3,), (2,), 2),
    (16, 2, (7, 8, 9), (3, 3, 3), (2, 2, 2), (1, 1, 1), 1),
    (40, 9, (11, 11), (3, 3), (4, 4), (1, 1), 0),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("case", ZEROS, ids=lambda case: "x".join(map(str, case[:2])))
def test_what_is_not_zero_is_spread(
    case, n: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    f, c, size, window, stride, dilation, padding = case
    conv = {1: gc.conv1d, 2: gc.conv2d, 3: gc.conv3d}[len(size)]
    x, other = (gc.input(name, ("N", c, *size), dtype) for name in ("x", "other"))
    w = gc.input("w", (f, c, *window), dtype)
    y = conv(x, w, stride=stride, padding=padding, dilation=dilation)
    g = gc.input("g", y.shape, dtype)
    made = gc.relu(gc.grad(gc.sum(y * g), x) * 2 + other)
    inputs = [w, g, other]
    rng = np.random.default_rng(10)
    shapes = (f, c, *window), (n, *y.shape[1:]), (n, c, *size)
    given = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    wanted = gc.compile(inputs, made, backend="reference")(*given)
    once = gc.compile(inputs, made, threads=1)
    assert any("spread_panel" in kernel.source for kernel in once.kernels)
    close = 1e-4 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(once(*given), wanted, close, close)
    twice = gc.compile(inputs, made, threads=2)(*given)
    np.testing.assert_array_equal(twice, once(*given))


def test_zeros_are_multiplied_where_there_are_few() -> None:
    """The result is no larger than what is spread, or windows are single elements."""
    w = gc.input("w", (32, 16, 3, 3))
    x, g = gc.input("x", (2, 16, 32, 32)), gc.input("g", (2, 32, 32, 32))
    dx = gc.grad(gc.sum(gc.conv2d(x, w, padding=1) * g), x)
    (kernel,) = gc.compile([w, g], dx).kernels
    assert "spread_panel" not in kernel.source


def test_spread_gradients_in_a_loop() -> None:
    """A step of a loop that reads one cotangent after the other."""
    gs, w = gc.input("gs", (4, 2, 16, 8, 8)), gc.input("w", (16, 3, 4, 4))
    x = gc.input("x", (2, 3, 18, 18))

    def body(x: gc.Tensor, g: gc.Tensor) -> tuple[gc.Tensor, gc.Tensor]:
        y = gc.conv2d(x, w, stride=2)
        return gc.tanh(gc.grad(gc.sum(y * y * g), x)), gc.sum(y)

    outputs = list(gc.scan(body, x, gs))
    rng = np.random.default_rng(11)
    given = [0.3 * rng.standard_normal(t.shape).astype("f") for t in (x, gs, w)]
    exact = gc.compile([x, gs, w], outputs, backend="reference")(*given)
    for a, b in zip(gc.compile([x, gs, w], outputs)(*given), exact, strict=True):
        np.testing.assert_allclose(a, b, 1e-3, 1e-4 * np.abs(b).max())


def test_windows_in_a_loop_move_over_each_step_of_a_sequence() -> None:
    xs, h = gc.input("xs", (4, 3, 2, 16, 16)), gc.input("h", (3, 2, 16, 16))
    w = gc.input("w", (2, 2, 3, 3))

    def body(h: gc.Tensor, x: gc.Tensor) -> tuple[gc.Tensor, gc.Tensor]:
        h = gc.tanh(gc.conv2d(h, w, padding=1) + gc.conv2d(x, w, padding=1))
        return h, h

    _, ys = gc.scan(body, h, xs)
    outputs = [ys, *gc.grad(gc.sum(ys * ys), [xs, h, w])]
    rng = np.random.default_rng(9)
    given = [0.3 * rng.standard_normal(t.shape).astype("f") for t in (xs, h, w)]
    exact = gc.compile([xs, h, w], outputs, backend="reference")(*given)
    found = gc.compile([xs, h, w], outputs)(*given)
    for a, b in zip(found, exact, strict=True):
        np.testing.assert_allclose(a, b, 1e-4, 1e-4 * np.abs(b).max())


@pytest.mark.parametrize("case", [SIZES[5], SIZES[-1]])
def test_windows_have_equal_bits_for_any_number_of_threads(
    case: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    inputs, outputs = all_of_it(case)
    given = numbers(case)
    once = gc.compile(inputs, outputs, threads=1)(*given)
    twice = gc.compile(inputs, outputs, threads=2)(*given)
    for a, b in zip(once, twice, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_transposed_and_sliced_operand_is_gathered() -> None:
    """What lies in no matrix: a sum over two axes that are not one."""
    x, y = gc.input("x", (5, 6, 7, 4)), gc.input("y", (6, 9, 4, 3))
    out = gc.einsum("abcd,bedf->acef", x, y)
    given = [
        np.random.default_rng(1).standard_normal(s).astype("f")
        for s in ((5, 6, 7, 4), (6, 9, 4, 3))
    ]
    wanted = np.einsum("abcd,bedf->acef", *given)
    np.testing.assert_allclose(gc.compile([x, y], out)(*given), wanted, 1e-4, 1e-5)
