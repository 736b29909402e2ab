"""Passes on programs with loops and branches: order, barriers, lifetimes, schedules."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from loop_programs import (
    ROW,
    SAMPLES,
    N,
    T,
    nest,
    prepare,
    program,
    recurrence,
    turn,
)

from graphc.ir.program import (
    Barrier,
    If,
    Loop,
    Program,
    Region,
    Statement,
    Store,
    While,
)
from graphc.ir.program.hazards import dependencies
from graphc.ir.program.interpret import run_program
from graphc.ir.program.program import flat
from graphc.ir.program.verifier import verify_program
from graphc.ir.scalar import const, load
from graphc.ir.target import Target
from graphc.ir.types import bool_, float32, int64
from graphc.passes.pipeline import PROGRAM_PASSES

WIDE = Target("wide", lanes=16, tiles=True)
PASSES = PROGRAM_PASSES[1:]
samples = pytest.mark.parametrize("name", SAMPLES)


def bodies(body: tuple[Statement, ...]) -> Iterator[tuple[Statement, ...]]:
    yield body
    for s in flat(body):
        if isinstance(s, Region):
            yield from s.bodies


def set_to(name: str, value: float = 1.0) -> Statement:
    return nest(name, (N,), Store(name, (ROW,), const(value, float32)))


def copy(source: str, target: str) -> Statement:
    return nest("copy", (N,), Store(target, (ROW,), load(source, (ROW,), float32)))


def loop_of(*body: Statement, count: int = 3) -> Loop:
    return Loop("t", count, body)


def of(*body: Statement) -> Program:
    """Return a program over vectors a, b, c, an input x, an output y, a flag."""
    rows = [(n, float32, (N,), "temp") for n in "abc"]
    rows += [("x", float32, (N,), "input"), ("y", float32, (N,), "output")]
    rows += [("t", int64, (), "temp"), ("u", int64, (), "temp")]
    rows += [("flag", bool_, (), "input"), ("ask", bool_, (), "temp")]
    rows += [("ys", float32, (T, N), "temp")]
    return program(body, ("y",), *rows)


# --- all of them ----------------------------------------------------------------------


@samples
def test_passes_keep_every_value_and_what_they_have_done(name, apply_passes) -> None:
    sample = SAMPLES[name]()
    made = sample.program
    for each in PASSES:
        made = apply_passes(each, made, WIDE)
        verify_program(made)
        assert apply_passes(each, made, WIDE) is made, each
    for sizes in sample.sizes:
        given = sample.given(sizes)
        old, new = (run_program(p, given, sizes) for p in (sample.program, made))
        for out in (*made.outputs, *made.states):
            np.testing.assert_array_equal(new[out], old[out])


@samples
def test_in_no_body_does_a_statement_need_another_between_two_barriers(name) -> None:
    made = prepare(SAMPLES[name]().program, WIDE)
    for body in bodies(made.body):
        group: list[Statement] = []
        for s in (*body, Barrier()):
            if isinstance(s, Barrier):
                assert not any(dependencies(made, group))
                group = []
            else:
                assert not (group and isinstance(group[-1], Region))
                group.append(s)


@samples
def test_every_nest_has_a_schedule(name) -> None:
    made = prepare(SAMPLES[name]().program, WIDE)
    assert all(n.schedule is not None for n in made.nests)


def test_a_recurrence_in_text(golden) -> None:
    golden("passes/recurrence", prepare(recurrence().program, WIDE).text())


# --- barriers -------------------------------------------------------------------------


def test_a_branch_that_writes_its_own_condition_waits_until_all_have_asked() -> None:
    no = nest("no", (), Store("ask", (), const(False, bool_)))
    made = of(no, If("ask", (no,), (set_to("a"),)), set_to("y"))
    placed = prepare(made, WIDE).body
    branch = next(s for s in placed if isinstance(s, If))
    assert isinstance(branch.then[0], Barrier)
    assert not isinstance(branch.otherwise[0], Barrier)


def test_a_barrier_follows_what_some_threads_may_leave_early(apply_passes) -> None:
    """Nothing needs the other, and yet threads must not leave the branch one by one."""
    body = of(If("flag", (set_to("a"),)), set_to("y"))
    kinds = [type(s).__name__ for s in apply_passes("place-barriers", body).body]
    assert kinds == ["If", "Barrier", "Nest"]
    kinds = [type(s).__name__ for s in prepare(body, WIDE).body]
    assert kinds == ["Nest", "If"]  # in the order that `order` makes


def test_order_sorts_within_a_turn(apply_passes) -> None:
    turn_ = (set_to("a"), copy("a", "b"), set_to("y"))
    (loop,) = apply_passes("order", of(loop_of(*turn_))).body
    assert [s.writes for s in loop.body] == [("a",), ("y",), ("b",)]


# --- lifetimes ------------------------------------------------------------------------


def lives(made: Program) -> dict[str, tuple[int, int]]:
    plan = prepare(made, WIDE).plan
    assert plan is not None
    return {x.buffer: (x.first, x.last) for x in plan.lifetimes}


def test_what_a_turn_writes_before_it_reads_lives_within_the_turn() -> None:
    found = lives(
        of(loop_of(copy("x", "a"), copy("a", "b"), copy("b", "c"), copy("c", "y")))
    )
    assert found == {"t": (0, 3), "a": (0, 1), "b": (1, 2), "c": (2, 3)}


def test_what_a_turn_leaves_to_the_next_lives_over_the_loop() -> None:
    turn_ = (copy("a", "b"), copy("b", "a"), copy("a", "c"), copy("c", "y"))
    found = lives(of(set_to("a"), loop_of(*turn_)))
    assert found == {"t": (1, 4), "a": (0, 4), "b": (1, 2), "c": (3, 4)}


def test_what_is_needed_after_a_loop_or_before_it_lives_over_all_of_it() -> None:
    found = lives(
        of(set_to("b"), loop_of(copy("b", "a"), copy("a", "c")), copy("c", "y"))
    )
    assert found == {"b": (0, 2), "t": (1, 2), "a": (1, 2), "c": (1, 3)}


def test_what_only_some_turns_write_is_carried() -> None:
    """The branch leaves the old value, and the loop over no turns does."""
    for some in (
        If("flag", (set_to("a"),)),
        Loop("u", N, (set_to("a"),)),
        While(
            "ask",
            (nest("ask", (), Store("ask", (), const(False, bool_))),),
            (set_to("a"),),
        ),
        nest("part", (N,), Store("a", (const(0, int64),), const(1.0, float32))),
    ):
        body = (some, copy("a", "b"), copy("b", "y"))
        found = lives(of(set_to("a"), copy("a", "y"), loop_of(*body)))
        inside = lives(of(loop_of(set_to("c"), copy("c", "y"), *body)))
        assert found["a"][1] == found["t"][1]
        assert inside["a"] == inside["t"], some
        assert inside["c"][1] < inside["t"][1]


def test_what_both_branches_write_lives_within_a_turn() -> None:
    both = If("flag", (set_to("a"),), (set_to("a", 2.0),))
    found = lives(of(loop_of(both, copy("a", "b"), copy("b", "y"))))
    assert (found["t"], found["a"], found["b"]) == ((0, 2), (0, 1), (1, 2))


def test_branches_begin_on_the_same_level() -> None:
    """What one of them uses last must not lie where the other one begins."""
    branch = If(
        "flag", (copy("x", "a"), copy("a", "y")), (copy("x", "b"), copy("b", "y"))
    )
    found = lives(of(branch, copy("y", "c")))
    assert found == {"a": (0, 1), "b": (0, 1), "c": (2, 2)}


@pytest.mark.parametrize("backwards", [False, True])
def test_slices_of_all_turns_of_an_inner_loop_are_the_whole(backwards: bool) -> None:
    at = const(4, int64) - turn("u") if backwards else turn("u")
    ys = Store("ys", (at, ROW), load("x", (ROW,), float32))
    first = load("ys", (const(0, int64), ROW), float32)
    use = nest("use", (N,), Store("b", (ROW,), first))

    def made(count: int) -> Program:
        inner = Loop("u", count, (nest("put", (N,), ys),))
        of_five = of(loop_of(inner, use, copy("b", "y")))
        shape = dict(of_five.buffers)
        shape["ys"] = shape["ys"].__class__("ys", float32, (5, N), "temp")
        return of_five.replace(buffers=shape)

    whole, part = lives(made(5)), lives(made(4))
    assert whole["ys"] == (0, 1)
    assert part["ys"] == part["t"] == (0, 2)


def test_what_a_while_asks_lives_as_long_as_it() -> None:
    ask = nest("ask", (), Store("ask", (), const(False, bool_)))
    asking = While(
        "ask", (copy("x", "a"), copy("a", "b"), ask), (copy("b", "c"), copy("c", "y"))
    )
    found = lives(of(asking))
    assert found == {"a": (0, 1), "ask": (0, 3), "b": (1, 2), "c": (2, 3)}
