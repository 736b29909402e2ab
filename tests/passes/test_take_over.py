"""plan-memory: a nest may write where it has read for the last time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.nodes import topological
from graphc.ir.program.memory import Lifetime, MemoryPlan
from graphc.ir.target import Target

WIDE = Target("wide", lanes=16, tiles=True)
SIZE = 32  # of the matrices: 4096 bytes


def matrix(name: str) -> gc.Tensor:
    return gc.input(name, (SIZE, SIZE))


def softmax_of_a_product() -> list[gc.Tensor]:
    x = matrix("x")
    return [gc.softmax(x @ x) @ x]


def read_by_another_too() -> list[gc.Tensor]:
    x = matrix("x")
    scores = x @ x
    return [gc.softmax(scores) @ x, scores @ x]


def read_elsewhere() -> list[gc.Tensor]:
    """A row of the softmax reads one that another row writes."""
    x = matrix("x")
    scores = x @ x
    return [gc.softmax(scores + scores[::-1]) @ x]


def read_again_later() -> list[gc.Tensor]:
    x = matrix("x")
    scores = x @ x
    return [(gc.softmax(scores) @ x) @ scores]


def of_another_width() -> list[gc.Tensor]:
    x = matrix("x")
    return [gc.cast(gc.cumsum(x @ x, 0), "float64").sum(1) @ gc.cast(x, "float64")]


CASES: list[tuple[Callable[[], list[gc.Tensor]], bool]] = [
    (softmax_of_a_product, True),
    (read_by_another_too, False),
    (read_elsewhere, False),
    (read_again_later, False),
    (of_another_width, False),
]


@pytest.mark.parametrize(
    ("make", "wanted"), CASES, ids=lambda c: getattr(c, "__name__", c)
)
def test_a_buffer_lies_over_one_that_its_nest_alone_reads_last(
    make, wanted, apply_passes
) -> None:
    outputs = make()
    x = topological(outputs)[0].results[0]
    program = apply_passes("default", Graph.build([x], outputs), WIDE)
    assert any(life.over for life in program.plan.lifetimes) == wanted


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("n", [1, 7, 130])
def test_what_is_written_over_keeps_its_value(n, threads) -> None:
    x, g = gc.input("x", ("N", "N")), gc.input("g", ("N", "N"))
    y = gc.softmax(x @ g) @ x
    step = gc.compile([x, g], [y, *gc.vjp(y, [x], g)], threads=threads)
    assert any(life.over for life in step.program.plan.lifetimes)
    rng = np.random.default_rng(0)
    given = {t: rng.normal(size=(n, n)).astype(np.float32) for t in (x, g)}
    for found, t in zip(step(*given.values()), step.declared.outputs, strict=True):
        wanted = gc.evaluate(t, given)
        np.testing.assert_allclose(found, wanted, 2e-4, 2e-4 * np.abs(wanted).max())


# --- places ---------------------------------------------------------------------------


def test_buffers_that_lie_over_each_other_share_one_place() -> None:
    lives = (
        Lifetime("a", 0, 1),
        Lifetime("b", 1, 2, over="a"),
        Lifetime("c", 2, 3, over="b"),
        Lifetime("d", 1, 2),
    )
    arena = MemoryPlan(lives).place(dict.fromkeys("abcd", 1024))
    assert arena.offsets["a"] == arena.offsets["b"] == arena.offsets["c"]
    assert arena.offsets["d"] != arena.offsets["a"]
    assert (arena.bytes, arena.unshared) == (2 * 1024, 4 * 1024)


def test_no_buffer_lies_over_another_where_that_costs_memory() -> None:
    """What is placed first by its size leaves no room for one long lifetime."""
    rows = {"a": (1, 3, 128), "c": (0, 2, 128), "d": (0, 0, 192), "e": (4, 5, 192)}
    others = [Lifetime(n, first, last) for n, (first, last, _) in rows.items()]
    sizes = {"b": 128} | {n: size for n, (_, _, size) in rows.items()}
    apart = MemoryPlan((*others, Lifetime("b", 3, 5))).place(sizes)
    found = MemoryPlan((*others, Lifetime("b", 3, 5, over="a"))).place(sizes)
    assert found == apart
    assert found.offsets["a"] != found.offsets["b"]
