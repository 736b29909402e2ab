"""What a contraction needs when sizes are bound, and how threads divide it."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.tile_room import TileRoom
from graphc.ir.program import Nest


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


def room_of(step: gc.Step) -> dict[str, int]:
    """Return the scratch of its only nest."""
    return TileRoom(nest_of(step), step.runner.program, {}).rooms(False)


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
    assert room_of(step)["turned"] >= 64 * width * np.dtype(dtype).itemsize
