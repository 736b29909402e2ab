"""Random programs with loops and branches keep their values in the memory planned.

What lies between two barriers may run in any order, and buffers whose lifetimes are
apart share memory; so a program is run forwards and backwards between barriers, all its
temporaries in one arena full of rubbish.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from loop_programs import ROW, N, nest, prepare, program

from graphc.ir.program import (
    Barrier,
    If,
    Loop,
    Program,
    Statement,
    Store,
    While,
)
from graphc.ir.program.interpret import _run, run_program
from graphc.ir.program.program import levels_in, within
from graphc.ir.program.verifier import verify_program
from graphc.ir.scalar import Expr, apply, const, load
from graphc.ir.target import Target
from graphc.ir.types import bool_, float32, int64
from graphc.passes.recompute_choice import choose
from graphc.passes.recompute_program import Rewriter
from graphc.passes.recompute_steps import Steps

Body = tuple[Statement, ...]
WIDE = Target("wide", lanes=16, tiles=True)
VECTORS = ("a", "b", "c", "d", "e")
SIZE = 3


class Maker:
    """Draws statements that read only what is written for certain."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.buffers: list[tuple] = [(n, float32, (N,), "temp") for n in VECTORS]
        self.buffers += [("x", float32, (N,), "input"), ("y", float32, (N,), "output")]

    def fresh(self, prefix: str, dtype: Any) -> str:
        name = f"{prefix}{len(self.buffers)}"
        self.buffers.append((name, dtype, (), "temp"))
        return name

    def body(self, known: set[str], depth: int, turns: tuple[str, ...]) -> Body:
        count = self.draw(st.integers(1, 4))
        found: list[Statement] = []
        for _ in range(count):
            found += self.statement(known, depth, turns)
        return tuple(found)

    def statement(self, known: set[str], depth: int, turns: tuple[str, ...]) -> Body:
        kinds = ["set", "set", "set", "out"] + ["loop", "if", "while"] * (depth > 0)
        kind = self.draw(st.sampled_from(kinds))
        if kind in ("set", "out"):
            target = "y" if kind == "out" else self.draw(st.sampled_from(VECTORS))
            made = nest("set", (N,), Store(target, (ROW,), self.value(known, turns)))
            known.add(target)
            return (made,)
        return getattr(self, f"_{kind}")(known, depth - 1, turns)

    def value(self, known: set[str], turns: tuple[str, ...]) -> Expr:
        one, two = (
            load(self.draw(st.sampled_from(sorted(known))), (ROW,), float32)
            for _ in range(2)
        )
        value = one * 0.5 + two + float(self.draw(st.integers(-3, 3)))
        if turns and self.draw(st.booleans()):
            number = load(self.draw(st.sampled_from(turns)), (), int64)
            value = apply("select", apply("greater", number, 0), value, one)
        return value

    def _loop(self, known: set[str], depth: int, turns: tuple[str, ...]) -> Body:
        index, count = self.fresh("i", int64), self.draw(st.integers(0, 3))
        inner = set(known)
        body = self.body(inner, depth, (*turns, index))
        if count:
            known |= inner
        return (Loop(index, count, body),)

    def _if(self, known: set[str], depth: int, turns: tuple[str, ...]) -> Body:
        flag = self.fresh("f", bool_)
        first = load(
            self.draw(st.sampled_from(sorted(known))), (const(0, int64),), float32
        )
        less = apply("less", first, const(0.0, float32))
        ways = [set(known), set(known)]
        then = self.body(ways[0], depth, turns)
        other = self.body(ways[1], depth, turns) if self.draw(st.booleans()) else ()
        known |= ways[0] & ways[1]
        return nest("ask", (), Store(flag, (), less)), If(flag, then, other)

    def _while(self, known: set[str], depth: int, turns: tuple[str, ...]) -> Body:
        left, more = self.fresh("n", int64), self.fresh("f", bool_)
        number = load(left, (), int64)
        count = const(self.draw(st.integers(0, 2)), int64)
        test = (
            *self.body(known, 0, turns),
            nest("more", (), Store(more, (), apply("greater", number, 0))),
        )
        fewer = nest("fewer", (), Store(left, (), number - 1))
        body = (*self.body(set(known), depth, turns), fewer)
        return nest("count", (), Store(left, (), count)), While(more, test, body)


@st.composite
def programs(draw: Any) -> Program:
    maker = Maker(draw)
    known = {"x"}
    body = maker.body(known, 3, ())
    body += maker.body(known, 2, ())
    if "y" not in known:
        body += (nest("end", (N,), Store("y", (ROW,), maker.value(known, ()))),)
    return program(body, ("y",), *maker.buffers)


def backwards(body: Body) -> Body:
    """Return a body with what stands between two barriers in the opposite order.

    A region with barriers of its own stays behind the nests before it: no thread comes
    past its first barrier before they are done.
    """
    groups: list[list[Statement]] = [[]]
    for s in body:
        if isinstance(s, Barrier):
            groups.append([])
        else:
            at = len(groups[-1]) if levels_in(s) else 0
            groups[-1].insert(at, within(s, backwards))
    return tuple(s for group in groups for s in group)


def run_in_arena(made: Program, body: Body, x: np.ndarray) -> np.ndarray:
    assert made.plan is not None
    sizes = {
        n: b.dtype.itemsize * SIZE ** len(b.shape) for n, b in made.buffers.items()
    }
    arena = made.plan.place(sizes)
    memory = np.full(arena.bytes + 1, 0xFF, np.uint8)
    arrays = {"x": x, "y": np.full(SIZE, np.nan, np.float32)}
    for name, at in arena.offsets.items():
        buffer = made.buffers[name]
        flat = memory[at : at + sizes[name]].view(buffer.dtype.numpy)
        arrays[name] = flat.reshape((SIZE,) * len(buffer.shape))
    _run(body, arrays, {"N": SIZE})
    return arrays["y"]


@settings(max_examples=60)
@given(programs())
def test_values_stay_in_planned_memory_in_any_order(made: Program) -> None:
    verify_program(made)
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    expected = run_program(made, {"x": x}, {"N": SIZE})["y"]
    done = prepare(made, WIDE)
    verify_program(done)
    for body in (done.body, backwards(done.body)):
        np.testing.assert_array_equal(run_in_arena(done, body, x), expected)


@settings(max_examples=60)
@given(programs(), st.integers(0, 40))
def test_values_that_are_computed_again_stay_the_same(made: Program, room: int) -> None:
    x = np.array([-1.0, 0.5, 2.0], np.float32)
    expected = run_program(made, {"x": x}, {"N": SIZE})["y"]
    steps = Steps(prepare(made, WIDE), SIZE)
    done = Rewriter(steps).program(choose(steps, room, frozenset()))
    verify_program(done)
    for body in (done.body, backwards(done.body)):
        np.testing.assert_array_equal(run_in_arena(done, body, x), expected)
