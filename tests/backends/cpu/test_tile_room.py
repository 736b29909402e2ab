"""What a contraction needs when sizes are bound, and how threads divide it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import pace
from graphc.backends.cpu.prelude import team
from graphc.backends.cpu.tile_room import TileRoom
from graphc.ir.program import Nest

needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")


def product(
    m: int, k: int, n: int, dtype: str = "float32", threads: int = 1
) -> tuple[gc.Step, list[np.ndarray]]:
    """Return the step transpose(a) @ b, and what goes in."""
    rng = np.random.default_rng(m + n)
    given = [rng.standard_normal(shape).astype(dtype) for shape in ((k, m), (k, n))]
    a, b = (
        gc.input(name, x.shape, dtype=dtype)
        for name, x in zip("ab", given, strict=True)
    )
    return gc.compile([a, b], gc.transpose(a) @ b, threads=threads), given


def room_of(step: gc.Step, threads: int) -> dict[str, int]:
    """Return the scratch of its only nest."""
    return tile_room(step, {}).rooms(False, threads)


def tile_room(step: gc.Step, sizes: dict[str, int]) -> TileRoom:
    """Return what decides about the scratch of its only nest."""
    ((_, _, words),) = step.runner.bind(sizes).steps
    return TileRoom(nest_of(step), step.runner.program, sizes, words)


def nest_of(step: gc.Step) -> Nest:
    """Return its only nest."""
    (nest,) = step.runner.program.tasks
    assert isinstance(nest, Nest)
    return nest


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [8, 13, 16, 200, 201])
def test_turned_rows_have_room_for_what_the_copy_writes(dtype: str, k: int) -> None:
    step, _ = product(64, k, 256, dtype)
    schedule = nest_of(step).schedule
    assert schedule is not None
    lanes = schedule.lanes
    (kernel,) = step.kernels
    assert f"(n_k0 + {lanes - 1}) // {lanes} * {lanes}" in kernel.source
    width = (k + lanes - 1) // lanes * lanes
    assert room_of(step, 1)["turned"] >= 64 * width * np.dtype(dtype).itemsize


def test_threads_that_divide_rows_copy_but_their_own() -> None:
    step, _ = product(600, 96, 300)
    room = room_of(step, 1)["turned"]
    assert room == 600 * 96 * 4
    assert room_of(step, 2)["turned"] == room // 2
    wide, _ = product(300, 96, 600)
    assert room_of(wide, 2) == room_of(wide, 1)


@pytest.mark.parametrize(
    ("m", "k", "n", "near"),
    [
        (32, 128, 512, True),
        (128, 512, 256, True),
        (129, 128, 512, False),  # a copy serves many rows
        (32, 784, 512, False),  # a panel spans more than the cache
        (32, 128, 500, False),  # rows begin anywhere in a line
    ],
)
def test_weights_are_read_as_they_lie_by_few_rows(
    m: int, k: int, n: int, near: bool
) -> None:
    rng = np.random.default_rng(0)
    x, v = gc.input("x", (m, k)), gc.input("v", (k, n))
    w = gc.parameter("w", (k, n))
    step, other = gc.compile([x], x @ w), gc.compile([x, v], x @ v)
    assert (room_of(step, 1)["panel"] == 0) == near
    assert room_of(other, 1)["panel"] > 0  # NumPy's rows begin anywhere
    a = rng.standard_normal((m, k)).astype(np.float32)
    np.testing.assert_array_equal(step(a), other(a, w.value))


@needs_two
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("m", "k", "n"), [(600, 97, 300), (251, 83, 241), (199, 64, 64), (300, 50, 600)]
)
def test_bits_are_the_same_however_rows_are_divided(
    m: int, k: int, n: int, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    step, given = product(m, k, n, dtype)
    once = step(*given)
    a, b = (x.astype(np.float64) for x in given)
    close = 1e-6 if dtype == "float32" else 1e-14
    assert np.all(np.abs(once - a.T @ b) <= close * (np.abs(a).T @ np.abs(b)))
    step, given = product(m, k, n, dtype, threads=2)
    np.testing.assert_array_equal(step(*given), once)
    # A team that does not come together leaves everything to one thread.
    (bound,) = step._bound.values()
    assert bound.team.nt == 2
    bound.team._set_nt(1)
    np.testing.assert_array_equal(step(*given), once)


@needs_two
def test_a_sum_in_parts_keeps_room_for_all_rows(
    monkeypatch: pytest.MonkeyPatch, guarded: Callable[[], int]
) -> None:
    """One thread alone may compute rows that a team would have divided."""
    monkeypatch.setattr(pace, "TEAM", -1)
    shapes = (2, 70, 50, 50), (2, 600, 50, 50), (600, 70, 1, 1)
    x, g, w = (gc.input(n, s) for n, s in zip("xgw", shapes, strict=True))
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(s).astype("f") for s in shapes]
    made = gc.grad(gc.sum(gc.conv2d(x, w) * g), w) * w
    once = gc.compile([x, g, w], made, threads=1)(*given)
    step = gc.compile([x, g, w], made, threads=2)
    room = tile_room(step, {})
    assert room.roles.blocks
    assert room.rowwise(2)
    assert room_of(step, 2)["c"] == room_of(step, 1)["c"]
    np.testing.assert_array_equal(step(*given), once)
    (bound,) = step._bound.values()
    bound.team._set_nt(1)
    np.testing.assert_array_equal(step(*given), once)
    guarded()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [2, 10, 17, 63, 65])
def test_panels_of_few_columns_are_no_wider(n: int, dtype: str) -> None:
    step, (a, b) = product(50, 37, n, dtype)
    schedule = nest_of(step).schedule
    assert schedule is not None
    lanes = schedule.lanes
    room = tile_room(step, {})
    width = min(-(-n // lanes) * lanes, room.shape.columns)
    size = 37 * width * np.dtype(dtype).itemsize
    assert room.packs_b
    assert room.rooms(False, 1)["panel"] == -(-size // 64) * 64
    np.testing.assert_allclose(step(a, b), a.T @ b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("epilogue", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("m", "n", "k"), [(97, 259, 1501), (192, 256, 1600)])
def test_long_sums_are_added_up_in_layers(
    m: int, n: int, k: int, dtype: str, epilogue: bool
) -> None:
    rng = np.random.default_rng(k)
    given = [rng.standard_normal((k, size)).astype(dtype) for size in (m, n)]
    a, b = (
        gc.input(name, ("K", size), dtype=dtype) for name, size in (("a", m), ("b", n))
    )
    made = gc.transpose(a) @ b
    made = gc.tanh(made / k) + 1 if epilogue else made
    steps = [gc.compile([a, b], made, threads=threads) for threads in (1, 2)]
    room = tile_room(steps[0], {"K": k})
    assert room.layers > 1
    # A team may leave all to one thread, whose scratch then holds all sums.
    for threads in (1, 2):
        assert room.rooms(False, threads)["c"] >= m * n * np.dtype(dtype).itemsize
    exact = given[0].T.astype("float64") @ given[1]
    exact = np.tanh(exact / k) + 1 if epilogue else exact
    first, second = (step(*given) for step in steps)
    np.testing.assert_array_equal(first, second)
    tolerance = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(first, exact, rtol=tolerance, atol=tolerance * k**0.5)
    short = [x[:3] for x in given]  # the same kernels, in one layer
    np.testing.assert_array_equal(*(step(*short) for step in steps))


def test_a_loop_that_keeps_its_panels_has_room_for_the_whole_depth() -> None:
    # The first operand is turned, the sum long: layers, were it not for the loop.
    rng = np.random.default_rng(5)
    xs = rng.standard_normal((3, 600, 100)).astype(np.float32)
    weights = rng.standard_normal((600, 1030)).astype(np.float32)
    x, w = gc.input("x", xs.shape), gc.input("w", weights.shape)

    def turn(h: gc.Tensor, a: gc.Tensor) -> tuple[gc.Tensor, gc.Tensor]:
        made = gc.transpose(a + h) @ w
        return h + gc.mean(made), made

    _, made = gc.scan(turn, gc.zeros((600, 100)), x)
    h, exact = 0.0, []
    for a in xs.astype(np.float64):
        exact.append((a + h).T @ weights)
        h = h + exact[-1].mean()
    for threads in (1, 2):
        step = gc.compile([x, w], made, threads=threads)
        rooms = [
            TileRoom(task, step.runner.program, {}, words)
            for task, _, words in step.runner.bind({}).steps
            if isinstance(task, Nest) and task.is_tiled
        ]
        assert [(room.packs_a, room.layers) for room in rooms] == [(True, 1)]
        np.testing.assert_allclose(step(xs, weights), exact, rtol=1e-4, atol=1e-2)
