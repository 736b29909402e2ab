"""Every value of every choice computes the same as the reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import choices, pace
from graphc.backends.cpu.backend import CpuBackend, Runner
from graphc.backends.cpu.choices import NAMES, Place, may_tune, scheduled
from graphc.backends.cpu.prelude import team
from graphc.ir.program import Nest, Program, Schedule
from graphc.ir.program.program import with_nests

Array = np.ndarray[Any, Any]
SIZES = (1, 2, 7, 16, 33, 97, 130, 257)


def softmax(x: gc.Tensor) -> gc.Tensor:
    return gc.softmax(x, axis=1)


def rows(x: gc.Tensor) -> gc.Tensor:
    return gc.sum(x * x + x, axis=1)


def columns(x: gc.Tensor) -> gc.Tensor:
    return gc.sum(x, axis=0)


def largest(x: gc.Tensor) -> gc.Tensor:
    return gc.max(x, axis=1)


def chain(x: gc.Tensor) -> gc.Tensor:
    return gc.tanh(x * 2.0) + x


def squares(x: gc.Tensor) -> gc.Tensor:
    return gc.mean(gc.square(x - gc.mean(x, axis=1, keepdims=True)), axis=1)


def place_of(step: gc.Step, nest: Nest, sizes: dict[str, int], threads: int) -> Place:
    runner = step.runner
    words = next(
        w for c in runner._compiled.values() for t, _, w in c.steps if t == nest
    )
    return Place(nest, step.program, sizes, False, False, words, threads)


def combinations(place: Place) -> Iterator[dict[str, Any]]:
    """Yield all values of all choices with each other, as far as they go together."""
    each = [place.values(name, {}) or (None,) for name in NAMES]
    for values in product(*each):
        chosen = dict(zip(NAMES, values, strict=True))
        chosen = {k: v for k, v in chosen.items() if v is not None}
        if place.accepts(chosen):
            yield chosen


def with_schedule(program: Program, nest: Nest, schedule: Schedule | None) -> Program:
    new = nest.replace(schedule=schedule)
    return with_nests(program, lambda n: new if n is nest else n)


def runner_of(step: gc.Step, program: Program, threads: int) -> Runner:
    backend = CpuBackend(threads)
    return Runner(backend.compiled(program), step.runner.states, threads)


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small nests have all choices, and let teams share them."""
    monkeypatch.setattr(choices, "FAR_BYTES", 0)
    monkeypatch.setattr(pace, "TEAM", -1)


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("f", [softmax, rows, columns, largest, chain, squares])
def test_lanes(f: Callable[[gc.Tensor], gc.Tensor], dtype: str) -> None:
    x = gc.input("x", ("N", "M"), dtype=dtype)
    made = f(x)
    step = gc.compile([x], made)
    (nest,) = step.program.nests
    place = place_of(step, nest, {"N": max(SIZES), "M": max(SIZES)}, 2)
    schedules = {scheduled(nest, c).schedule for c in combinations(place)}
    assert nest.schedule in schedules
    assert len(schedules) >= 3
    rng = np.random.default_rng(0)
    close = 2e-6 if dtype == "float32" else 2e-14
    given = []
    for n, m in [*zip(SIZES, reversed(SIZES), strict=True), (0, 5), (300, 3)]:
        a = rng.standard_normal((n, m)).astype(dtype)
        if n == 33:
            a[3, 5], a[7, 1] = np.nan, np.inf
        given.append((a, gc.evaluate(made, {x: a})))
    for schedule in schedules:
        program = with_schedule(step.program, nest, schedule)
        one, two = (runner_of(step, program, t) for t in (1, team.threads()))
        for a, wanted in given:
            sizes = dict(zip("NM", a.shape, strict=True))
            (found,) = one.bind(sizes).run([a], None)
            scale = np.abs(a[np.isfinite(a)]).sum() / max(len(a), 1) + 1
            np.testing.assert_allclose(
                found, wanted, rtol=close, atol=close * scale, err_msg=str(schedule)
            )
            (again,) = two.bind(sizes).run([a], None)
            np.testing.assert_array_equal(found, again, err_msg=str(schedule))


@pytest.mark.usefixtures("near")
@pytest.mark.parametrize("form", ["nn", "tn", "nt", "state", "epilogue"])
def test_tiles(form: str) -> None:
    a_shape = ("K", "M") if form == "tn" else ("M", "K")
    b_shape = ("N", "K") if form == "nt" else ("K", "N")
    a, b = gc.input("a", a_shape), gc.input("b", b_shape)
    if form == "state":
        a, b = gc.input("a", ("M", 48)), gc.parameter("b", (48, 96))
    left = gc.transpose(a) if form == "tn" else a
    right = gc.transpose(b) if form == "nt" else b
    made = gc.tanh(left @ right + 1.0) if form == "epilogue" else left @ right
    inputs = [a] if form == "state" else [a, b]
    step = gc.compile(inputs, made)
    (nest,) = step.program.nests
    rng = np.random.default_rng(0)
    answers: set[Any] = set()
    for m, k, n in [(1, 40, 64), (1, 3, 200), (5, 1, 16), (97, 33, 96), (64, 48, 61)]:
        sizes = {"M": m, "K": k, "N": n}
        if form == "state":
            k, n, sizes = 48, 96, {"M": m}
        shapes = [[sizes.get(str(s), s) for s in t.shape] for t in inputs]
        given = [rng.standard_normal(s).astype("f") for s in shapes]
        wanted = gc.evaluate(made, dict(zip(inputs, given, strict=True)))
        place = place_of(step, nest, sizes, 2)
        for chosen in combinations(place):
            answers.update(chosen.items())
            program = with_schedule(
                step.program, nest, scheduled(nest, chosen).schedule
            )
            found, again = (
                runner_of(step, program, t).bind(sizes).run(given, None)[0]
                for t in (1, team.threads())
            )
            np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6 * (k + 4))
            np.testing.assert_array_equal(found, again, err_msg=str(chosen))
    for name, is_open in (
        ("copies_a", form == "tn"),
        ("copies_b", form != "nt"),
        ("by_rows", True),
    ):
        values = {value for choice, value in answers if choice == name}
        assert not is_open or values == {False, True}
    assert form == "tn" or "copies_a" not in dict(answers)


@pytest.mark.usefixtures("near")
def test_tiles_of_sums_in_parts() -> None:
    shapes = (2, 70, 50, 50), (2, 600, 50, 50), (600, 70, 1, 1)
    x, g, w = (gc.input(n, s) for n, s in zip("xgw", shapes, strict=True))
    made = gc.grad(gc.sum(gc.conv2d(x, w) * g), w) * w
    step = gc.compile([x, g, w], made)
    (nest,) = step.program.nests
    rng = np.random.default_rng(0)
    given = [rng.standard_normal(s).astype("f") for s in shapes]
    wanted = gc.evaluate(made, dict(zip((x, g, w), given, strict=True)))
    every = list(combinations(place_of(step, nest, {}, 2)))
    assert len(every) >= 2
    for chosen in every:
        program = with_schedule(step.program, nest, scheduled(nest, chosen).schedule)
        for threads in (1, 2):
            bound = runner_of(step, program, threads).bind({})
            (found,) = bound.run(given, None)
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-3)


def test_an_operand_that_a_tile_cannot_read_is_copied_whatever_is_said() -> None:
    a, b = gc.input("a", ("M", 40)), gc.input("b", (40, 61))
    step = gc.compile([a, b], a @ b)
    (nest,) = step.program.nests
    assert not place_of(step, nest, {"M": 30}, 1).values("copies_b", {})
    said = scheduled(nest, {"copies_b": False}).schedule
    program = with_schedule(step.program, nest, said)
    given = [np.ones((30, 40), "f"), np.ones((40, 61), "f")]
    (found,) = runner_of(step, program, 1).bind({"M": 30}).run(given, None)
    np.testing.assert_array_equal(found, np.full((30, 61), 40, "f"))


def test_no_rows_are_divided_by_none() -> None:
    a, b = gc.input("a", ("M", 40)), gc.input("b", (40, 64))
    step = gc.compile([a, b], a @ b)
    (nest,) = step.program.nests
    said = scheduled(nest, {"by_rows": True, "copies_a": True}).schedule
    program = with_schedule(step.program, nest, said)
    given = [np.ones((0, 40), "f"), np.ones((40, 64), "f")]
    (found,) = runner_of(step, program, 2).bind({"M": 0}).run(given, None)
    assert found.shape == (0, 64)


@pytest.mark.usefixtures("near")
def test_what_others_read_does_not_go_past_the_caches() -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.exp(x))
    (nest,) = step.program.nests
    place = place_of(step, nest, {"N": 1000}, 1)
    assert set(place.values("far", {})) == {"", "ahead", "stream"}
    assert set(replace(place, is_read=True).values("far", {})) == {"", "ahead"}


def test_near_nests_ask_for_nothing_early() -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.exp(x))
    (nest,) = step.program.nests
    assert place_of(step, nest, {"N": 1000}, 1).values("far", {}) == ("",)


def test_nests_that_read_indices_are_not_tuned() -> None:
    x, i = gc.input("x", ("N", 8)), gc.input("i", ("M",), dtype="int32")
    step = gc.compile([x, i], gc.take(x, i, 0))
    assert not any(map(may_tune, step.program.nests))
    turns, _ = gc.scan(lambda h, row: (h + row, None), gc.zeros((8,)), x)
    step = gc.compile([x], turns)
    assert all(map(may_tune, step.program.nests))


@pytest.mark.parametrize(
    "chosen",
    [
        {"vectors": 3},
        {"vectors": 64},
        {"vectors": True},
        {"points": 3},
        {"far": "away"},
        {"far": 1},
        {"copies_b": True},
        {"lanes": 8},
        {"strategy": "tile"},
    ],
)
def test_what_a_nest_cannot_do_is_not_accepted(chosen: dict[str, Any]) -> None:
    x = gc.input("x", ("N", 512))
    step = gc.compile([x], gc.sum(x, axis=1))
    (nest,) = step.program.nests
    place = place_of(step, nest, {"N": 512}, 1)
    assert place.accepts({"far": "ahead", "vectors": 2})
    assert not place.accepts(chosen)
