"""Loops and branches on the CPU: values, threads, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from loop_programs import (
    SAMPLES,
    Sample,
    T,
    collatz,
    nest,
    prepare,
    program,
    recurrence,
    running_sum,
)

import graphc as gc
from graphc.backends.cpu import pace, tile_room
from graphc.backends.cpu.backend import Bound, CpuBackend
from graphc.backends.cpu.module import write_module
from graphc.backends.cpu.prelude import layout, team
from graphc.errors import CompileError
from graphc.ir.graph import Graph
from graphc.ir.program import Loop, Program
from graphc.ir.program.interpret import run_program
from graphc.ir.program.verifier import verify_program
from graphc.ir.target import Target
from graphc.ir.types import int64

Array = np.ndarray[Any, Any]
EMPTY = Graph.build([], [])

needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")


class State:
    """What a runner knows of a Parameter."""

    def __init__(self, array: Array) -> None:
        self.array = array


def build(sample: Sample, given: Mapping[str, Array], threads: int = 1) -> Any:
    """Compile a sample; its states hold what is given."""
    cpu = CpuBackend(threads)
    made = prepare(sample.program, cpu.target)
    verify_program(made)
    states = [State(np.array(given[n])) for n in made.states]
    return cpu.build(EMPTY, made, states), states


def run(
    sample: Sample, sizes: Mapping[str, int], threads: int = 1
) -> tuple[dict[str, Array], Bound]:
    """Run a sample twice from the start, with rubbish in memory."""
    given = sample.given(sizes)
    runner, states = build(sample, given, threads)
    bound = runner.bind(sizes)
    for _ in range(2):
        for name, state in zip(sample.program.states, states, strict=True):
            state.array[...] = given[name]
        bound._memory.fill(-1)
        found = bound.run([given[n] for n in sample.program.inputs], None)
    named = dict(zip(sample.program.outputs, found, strict=True))
    named |= {n: s.array for n, s in zip(sample.program.states, states, strict=True)}
    return named, bound


@pytest.mark.parametrize("name", SAMPLES)
def test_a_program_gives_what_its_meaning_says(name):
    sample = SAMPLES[name]()
    for sizes in sample.sizes:
        found, _ = run(sample, sizes)
        expected = run_program(sample.program, sample.given(sizes), sizes)
        for name_, array in found.items():
            tolerance = {"rtol": sample.rtol, "atol": sample.rtol}
            np.testing.assert_allclose(
                array, expected[name_], **tolerance, err_msg=f"{name_} {sizes}"
            )


@needs_two
@pytest.mark.parametrize("barrier", [0, 20, 200, 10**9])
@pytest.mark.parametrize("name", SAMPLES)
def test_two_threads_give_the_bits_of_one(name, barrier, monkeypatch):
    """However much of it one of them does alone."""
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", barrier)
    sample = SAMPLES[name]()
    for sizes in sample.sizes:
        one, _ = run(sample, sizes)
        two, bound = run(sample, sizes, 2)
        assert bound.team.nt == 2
        assert {n: a.tobytes() for n, a in one.items()} == {
            n: a.tobytes() for n, a in two.items()
        }


def test_a_table_is_as_long_for_a_thousand_turns_as_for_one():
    sample = running_sum()
    runner, _ = build(sample, sample.given({"T": 1, "N": 3}))
    assert len(runner.bind({"T": 1, "N": 3})._table) == 6
    assert len(runner.bind({"T": 1000, "N": 3})._table) == 6
    assert len(runner.bind({"T": 0, "N": 3})._table) == 6


@pytest.mark.parametrize("name", [n for n in SAMPLES if SAMPLES[n]().tiles])
def test_products_of_slices_run_on_tiles_and_read_neighbours(name):
    sample = SAMPLES[name]()
    runner, _ = build(sample, sample.given(sample.sizes[-1]))
    tiled = {
        task.name: task.schedule.strategy for k in runner.kernels for task in k.tasks
    }
    assert [n for n, strategy in tiled.items() if strategy == "tile"] == [*sample.tiles]
    for kernel in runner.kernels:
        assert "gather" not in kernel.source, kernel.source
        assert "scatter" not in kernel.source, kernel.source


@needs_two
def test_a_step_of_many_short_turns_runs_on_one_thread():
    """Where threads would wait for each other longer than they work."""
    sample = recurrence()
    sizes = {"T": 3000, "N": 4, "K": 8}
    runner, _ = build(sample, sample.given(sizes), 2)
    assert runner.bind(sizes).team.nt == 1
    assert runner.bind({"T": 60, "N": 128, "K": 256}).team.nt == 2


def test_the_module_shows_what_stands_in_loops(golden):
    made = prepare(collatz().program, Target("cpu", lanes=16, tiles=True))
    text = write_module(made, {}).text
    steps = text[text.index("STEPS = [") :]
    golden("cpu/loops", steps)
    assert max(map(len, steps.splitlines())) <= 88


def test_a_step_with_many_turns_is_much_work():
    sample = recurrence()
    runner, _ = build(sample, sample.given({"T": 1, "N": 8, "K": 8}))
    bound = [runner.bind({"T": t, "N": 8, "K": 8}) for t in (1, 101)]
    one, many = (b._sharing(2, pace.BARRIER).serial(b.program.body) for b in bound)
    made = prepare(sample.program, CpuBackend().target)
    assert one > 0
    per_turn = (many - one) / 100
    # Slices count, not all that the inputs and outputs hold.
    sizes = {"T": 1, "N": 8, "K": 8}
    expected = sum(pace.nanoseconds(s, made, sizes) for s in made.nests[1:])
    assert per_turn == pytest.approx(expected)


def test_loops_too_deep_are_refused_by_name():
    names = [f"i{d}" for d in range(layout.COUNTERS + 1)]
    deepest: tuple = (nest("stop", ()),)

    def loops(depth: int) -> Program:
        body = deepest
        for name in reversed(names[:depth]):
            body = (Loop(name, T, body),)
        return program(body, (), *((n, int64, (), "temp") for n in names))

    CpuBackend().build(EMPTY, prepare(loops(8), CpuBackend().target), [])
    with pytest.raises(CompileError, match=r"9 loops stand within each other.*i0, i1"):
        CpuBackend().build(EMPTY, prepare(loops(9), CpuBackend().target), [])


# --- what stays from turn to turn -----------------------------------------------------


def products(which: str) -> tuple[list[gc.Tensor], gc.Tensor]:
    """Return inputs and a scan of products with a matrix that a turn may change."""
    h, u = gc.input("h", ("N", 40)), gc.input("u", (40, 40))
    x = gc.input("x", ("T", "N", 40))

    def body(c: Any, row: gc.Tensor) -> Any:
        if which == "carried":
            c, v = c
            return (gc.tanh(c @ v + row), v * 0.5), None
        if which == "chosen":
            on = gc.sum(row) > 0.0
            return gc.cond(on, lambda a: gc.tanh(a @ u), lambda a: a + row, c), None
        if which == "nested":
            inner, _ = gc.scan(lambda b, _: (gc.tanh(b @ u), None), c, length=3)
            return inner + row, None
        return gc.tanh(c @ u + row), None

    last, _ = gc.scan(body, (h, u) if which == "carried" else h, x)
    return [h, u, x], last[0] if which == "carried" else last


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("which", ["kept", "carried", "chosen", "nested"])
def test_a_matrix_is_copied_once_for_a_loop_that_leaves_it_as_it_is(
    which: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    inputs, last = products(which)
    step = gc.compile(inputs, last, threads=threads)
    text = "\n".join(k.source for k in step.kernels)
    assert ("missing = " in text) == (which in ("kept", "nested"))
    rng = np.random.default_rng(3)
    for n, turns in ((1, 4), (2, 1), (15, 5), (33, 3), (29, 0)):
        given = [
            rng.standard_normal(shape).astype("f") / 4
            for shape in ((n, 40), (40, 40), (turns, n, 40))
        ]
        wanted = gc.evaluate(last, dict(zip(inputs, given, strict=True)))
        np.testing.assert_allclose(step(*given), wanted, 1e-5, 1e-5)


def test_panels_that_are_too_large_are_copied_each_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tile_room, "KEPT_BYTES", 1000)
    inputs, last = products("kept")
    rng = np.random.default_rng(3)
    given = [
        rng.standard_normal(s).astype("f") for s in ((9, 40), (40, 40), (4, 9, 40))
    ]
    wanted = gc.evaluate(last, dict(zip(inputs, given, strict=True)))
    step = gc.compile(inputs, last)
    assert step.memory(N=9, T=4).scratch < 40 * 64 * 4 * 2
    np.testing.assert_allclose(step(*given), wanted, 1e-5, 1e-5)
