"""keep, widen, pair-rows: rows computed once, several vectors or two rows at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.program import Nest
from graphc.ir.program.interpret import run_program
from graphc.ir.target import Target

WIDE = Target("wide", lanes=16, tiles=True)
BEFORE = "decompose,fuse,lower,schedule"


def graph(function: Callable[..., Any], *shapes: Any, dtype: str = "float32") -> Graph:
    inputs = [gc.input("xyz"[i], s, dtype) for i, s in enumerate(shapes)]
    found = function(*inputs)
    outputs = found if isinstance(found, list) else [found]
    return Graph.build(inputs, outputs, name="example")


def softmax(x: gc.Tensor) -> gc.Tensor:
    return gc.softmax(x, axis=-1)


def slope(x: gc.Tensor, g: gc.Tensor) -> list[gc.Tensor]:
    y = softmax(x)
    return [y, *gc.vjp(y, [x], g)]


EXAMPLES = {
    "softmax": graph(softmax, ("N", 40)),
    "softmax of columns": graph(lambda x: gc.softmax(x, axis=0), ("N", 40)),
    "its gradient": graph(slope, ("N", 40), ("N", 40)),
    "two outputs": graph(
        lambda x: [(y := gc.exp(x)) / gc.sum(y, 1, keepdims=True), y], ("N", 40)
    ),
    "one output twice": graph(
        lambda x: [(y := softmax(x)), y + gc.sum(y * y, 1, keepdims=True)], ("N", 40)
    ),
}


def exponentials(program: Any) -> int:
    """Count the phases that compute an exponential."""
    (nest,) = program.nests
    lines = [" ".join(map(str, p.roots)) for p in nest.phases]
    return sum("exp" in line for line in lines)


@pytest.mark.parametrize("what", EXAMPLES)
def test_keep_leaves_every_value_bit_for_bit(what: str, apply_passes: Any) -> None:
    before = apply_passes(BEFORE, EXAMPLES[what], WIDE)
    after = apply_passes("keep", before, WIDE)
    assert after is not before
    assert exponentials(after) == 1 < exponentials(before)
    rng = np.random.default_rng(0)
    given = {n: rng.normal(size=(7, 40)) for n in before.inputs}
    first, last = (run_program(p, given, {"N": 7}) for p in (before, after))
    for name in before.outputs:
        np.testing.assert_array_equal(first[name], last[name])


@pytest.mark.parametrize(
    "function",
    [
        lambda x: gc.layer_norm(x, gc.ones((40,)), gc.zeros((40,))),
        lambda x: gc.log_softmax(x, axis=-1),
        lambda x: gc.sum(gc.exp(x), 1),
    ],
    ids=["cheap", "only once", "no row"],
)
def test_keep_stores_nothing_that_is_not_costly_and_needed_again(
    function: Any, apply_passes: Any
) -> None:
    before = apply_passes(BEFORE, graph(function, ("N", 40)), WIDE)
    assert apply_passes("keep", before, WIDE) is before


def test_keep_needs_rows_that_stay_near_and_lanes(apply_passes: Any) -> None:
    far = apply_passes(BEFORE, graph(softmax, ("N", 1 << 17)), WIDE)
    assert apply_passes("keep", far, WIDE) is far
    one = Target("scalar", lanes=1)
    scalar = apply_passes(BEFORE, EXAMPLES["softmax"], one)
    assert apply_passes("keep", scalar, one) is scalar


def test_keep_leaves_what_a_nest_reads(apply_passes: Any) -> None:
    w = gc.parameter("w", (4, 40), init="zeros")
    found = Graph.build([], [gc.sum(w)], updates=[(w, softmax(w))], name="example")
    before = apply_passes(BEFORE, found, WIDE)
    assert apply_passes("keep", before, WIDE) is before


def test_keep_in_text(show: Any, apply_passes: Any) -> None:
    before = apply_passes(BEFORE, EXAMPLES["softmax"], WIDE)
    show("keep", before, apply_passes("keep", before, WIDE))


@pytest.mark.parametrize(
    ("function", "shape", "vectors"),
    [
        (lambda x: gc.sum(x, 0), ("N", 1024), 8),
        (lambda x: gc.sum(x, 0), ("N", 96), 2),
        (lambda x: gc.sum(x, 0), ("N", 16), 1),
        (lambda x: gc.max(x, 1), ("N", 1024), 4),
        (lambda x: gc.max(x, 1), ("N", 40), 2),
        (lambda x: gc.max(x, 1), ("N", 10), 1),
        (lambda x: gc.sum(gc.exp(x), 1), ("N", 1024), 1),
        (lambda x: gc.argmax(x, 1), ("N", 1024), 1),
        (lambda x: x + 1.0, ("N", 1024), 1),
    ],
)
def test_widen_takes_as_many_vectors_as_wait_for_each_other(
    function: Any, shape: Any, vectors: int, apply_passes: Any
) -> None:
    before = apply_passes(BEFORE, graph(function, shape), WIDE)
    after = apply_passes("widen", before, WIDE)
    (nest,) = after.nests
    assert isinstance(nest, Nest)
    assert nest.schedule is not None
    assert nest.schedule.vectors == vectors
    assert (after is before) == (vectors == 1)
    assert apply_passes("widen", after, WIDE) is after


def test_widen_in_text(show: Any, apply_passes: Any) -> None:
    before = apply_passes(BEFORE, graph(lambda x: gc.sum(x, 0), ("N", 1024)), WIDE)
    show("widen", before, apply_passes("widen", before, WIDE))


@pytest.mark.parametrize(
    ("function", "points"),
    [
        (softmax, 4),
        (lambda x: gc.logsumexp(x, axis=1), 4),
        (lambda x: gc.log_softmax(x, axis=-1), 4),
        (lambda x: gc.softmax(gc.concatenate([x, x], 1), axis=-1), 2),  # long ones
        (lambda x: gc.softmax(x, axis=0), 1),  # no rows: lanes lie side by side
        (lambda x: gc.softmax(x[:1], axis=-1), 1),  # one row
        (lambda x: gc.max(x, 1), 1),  # nothing costly
        (lambda x: gc.argmax(gc.exp(x), 1), 1),
        (lambda x: gc.exp(x) + 1.0, 1),
    ],
)
def test_pair_rows_takes_several_rows_where_costly_links_wait(
    function: Any, points: int, apply_passes: Any
) -> None:
    before = apply_passes(f"{BEFORE},keep,widen", graph(function, ("N", 40)), WIDE)
    after = apply_passes("pair-rows", before, WIDE)
    chosen = [nest.schedule.points for nest in after.nests]
    assert max(chosen) == points
    assert (after is before) == (points == 1)
    assert apply_passes("pair-rows", after, WIDE) is after


def test_pair_rows_needs_lanes_and_registers(apply_passes: Any) -> None:
    one = Target("scalar", lanes=1)
    scalar = apply_passes(BEFORE, EXAMPLES["softmax"], one)
    assert apply_passes("pair-rows", scalar, one) is scalar

    def sums(count: int) -> Callable[[gc.Tensor], gc.Tensor]:
        def total(x: gc.Tensor) -> gc.Tensor:
            y = gc.sum(gc.exp(x), 1)
            for k in range(1, count):
                y = y + gc.sum(gc.exp(x * float(k + 1)), 1)
            return y

        return total

    for count, fits in ((8, True), (9, False)):
        before = apply_passes(BEFORE, graph(sums(count), ("N", 40)), WIDE)
        assert len(before.nests) == 1
        assert (apply_passes("pair-rows", before, WIDE) is not before) == fits


@pytest.mark.parametrize(
    ("rows", "cache", "far"),
    [(64, 0, ""), (64, 1 << 30, ""), (64, 1 << 16, "ahead"), (64, 1 << 12, "stream")],
)
def test_a_nest_that_touches_more_than_caches_hold_is_far(
    rows: int, cache: int, far: str, apply_passes: Any
) -> None:
    target = Target("cached", lanes=16, cache=cache)
    program = apply_passes(BEFORE, graph(lambda x: x + 1.0, (rows, 16)), target)
    (nest,) = program.nests
    assert nest.schedule is not None
    assert nest.schedule.far == far
    unknown = apply_passes(BEFORE, graph(lambda x: x + 1.0, ("N", 16)), target)
    assert unknown.nests[0].schedule.far == ""
