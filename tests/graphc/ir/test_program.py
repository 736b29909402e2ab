"""Programs: text, verifier, meaning, hazards, memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.errors import VerifyError
from graphc.ir.dims import dim
from graphc.ir.program import (
    Barrier,
    Buffer,
    Call,
    If,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Reduce,
    Schedule,
    Store,
    While,
)
from graphc.ir.program.hazards import dependencies, depends_on_itself
from graphc.ir.program.interpret import run_program
from graphc.ir.program.memory import ALIGN, Lifetime, MemoryPlan
from graphc.ir.program.verifier import verify_program
from graphc.ir.scalar import (
    Linear,
    affine,
    apply,
    axis,
    cast,
    const,
    is_uniform,
    linear,
    load,
    ref,
    size_of,
)
from graphc.ir.types import bool_, float32, int64

N = dim("N")
ROW, K = axis("i0"), axis("k0")


def buffers(*rows: tuple) -> dict[str, Buffer]:
    return {row[0]: Buffer(*row) for row in rows}


def row_sums() -> Nest:
    """Return `out[i] = sum over k of x[i, k]`."""
    total = Reduce("r0", "sum", (load("x", (ROW, K), float32),))
    return Nest(
        "sums",
        (LoopAxis("i0", N),),
        (
            Phase((LoopAxis("k0", 4),), reduces=(total,)),
            Phase((), stores=(Store("out", (ROW,), ref("r0", float32)),)),
        ),
        Schedule("vector", "k0", lanes=16),
    )


def program(*body, extra: dict[str, Buffer] | None = None) -> Program:
    known = buffers(
        ("x", float32, (N, 4), "input"),
        ("flag", bool_, (), "input"),
        ("s", float32, (N,), "state"),
        ("t", float32, (N,), "temp"),
        ("i", int64, (), "temp"),
        ("more", bool_, (), "temp"),
        ("out", float32, (N,), "output"),
    )
    return Program(
        "p", known | (extra or {}), tuple(body), ("x", "flag"), ("s",), ("out",)
    )


def add_to_state(by: float = 1.0) -> Nest:
    value = load("s", (ROW,), float32) + by
    return Nest(
        "count", (LoopAxis("i0", N),), (Phase((), stores=(Store("s", (ROW,), value),)),)
    )


def set_scalar(name: str, value: float | bool) -> Nest:
    dtype = {"more": bool_, "flag": bool_, "i": int64}[name]
    return Nest(
        f"set_{name}", (), (Phase((), stores=(Store(name, (), const(value, dtype)),)),)
    )


def copy(source: str, target: str) -> Nest:
    store = Store(target, (ROW,), load(source, (ROW,), float32))
    return Nest(
        f"{source}_{target}", (LoopAxis("i0", N),), (Phase((), stores=(store,)),)
    )


def every_statement() -> Program:
    return program(
        row_sums(),
        Barrier(),
        Loop("i", 3, (add_to_state(),)),
        If("flag", (add_to_state(10.0),), (add_to_state(20.0),)),
        While("more", (set_scalar("more", False),), (add_to_state(),)),
        Call("sort", ("out",), ("s",), (("axis", 0),)),
    )


def test_text_shows_every_kind_of_statement(golden):
    golden("ir/program", every_statement().text())


def test_every_kind_of_statement_passes_the_verifier():
    verify_program(every_statement())


def test_loops_and_branches_run():
    p = program(
        row_sums(),
        Loop("i", 3, (add_to_state(),)),
        If("flag", (add_to_state(10.0),), (add_to_state(20.0),)),
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    for flag, added in ((True, 13), (False, 23)):
        given = {"x": x, "flag": flag, "s": np.zeros(2)}
        found = run_program(p, given, {"N": 2})
        assert found["out"].tolist() == [6, 22]
        assert found["s"].tolist() == [added, added]


def test_a_while_tests_once_more_than_it_turns():
    less = apply("less", load("s", (const(0, int64),), float32), const(3.5, float32))
    test = Nest("test", (), (Phase((), stores=(Store("more", (), less),)),))
    p = program(row_sums(), While("more", (test,), (add_to_state(),)))
    for start, end in ((0.0, 4.0), (3.0, 4.0), (9.0, 9.0)):
        given = {"x": np.zeros((2, 4)), "flag": True, "s": np.full(2, start)}
        assert run_program(p, given, {"N": 2})["s"].tolist() == [end, end]


BROKEN = {
    "no such buffer": Nest(
        "n", (), (Phase((), stores=(Store("y", (), const(0, float32)),)),)
    ),
    "rank": Nest("n", (), (Phase((), stores=(Store("out", (), const(0, float32)),)),)),
    "dtype": Nest(
        "n",
        (LoopAxis("i0", N),),
        (Phase((), stores=(Store("out", (ROW,), const(0, int64)),)),),
    ),
    "axis": Nest(
        "n", (), (Phase((), stores=(Store("out", (ROW,), const(0, float32)),)),)
    ),
    "result": Nest(
        "n",
        (LoopAxis("i0", N),),
        (Phase((), stores=(Store("out", (ROW,), ref("r0", float32)),)),),
    ),
    "writes an input": Nest(
        "n",
        (LoopAxis("i0", N),),
        (Phase((), stores=(Store("x", (ROW, const(0, int64)), const(0, float32)),)),),
    ),
    "schedule": row_sums().replace(schedule=Schedule("vector", "j9")),
    "monoid": row_sums().replace(
        phases=(Phase((LoopAxis("k0", 4),), reduces=(Reduce("r0", "xor", (ROW,)),)),)
    ),
    "any of numbers": row_sums().replace(
        phases=(Phase((LoopAxis("k0", 4),), reduces=(Reduce("r0", "any", (ROW,)),)),)
    ),
    "branch": If("s", ()),
    "early branch": If("more", (add_to_state(),)),
    "loop": Loop("flag", 3, (add_to_state(),)),
    "loop over itself": Loop("i", 3, (set_scalar("i", 0),)),
    "while": While("more", (), (set_scalar("more", False),)),
    "carry": Loop("i", 3, (copy("t", "out"), copy("out", "t"))),
}


@pytest.mark.parametrize("what", BROKEN)
def test_the_verifier_refuses(what, golden):
    with pytest.raises(VerifyError) as error:
        verify_program(program(BROKEN[what]))
    golden(f"ir/program_{what.replace(' ', '_')}", str(error.value))


def test_the_verifier_refuses_an_output_that_nothing_writes():
    with pytest.raises(VerifyError, match="the output out is never written"):
        verify_program(program(add_to_state()))


def test_a_nest_may_overwrite_the_element_it_reads_and_no_other():
    assert not depends_on_itself(add_to_state(), "s")
    shifted = load("s", (apply("sub", const(3, int64), ROW),), float32)
    reverse = Nest(
        "reverse",
        (LoopAxis("i0", 4),),
        (Phase((), stores=(Store("s", (ROW,), shifted),)),),
    )
    assert depends_on_itself(reverse, "s")


def test_the_turn_of_a_loop_is_the_same_slice_at_every_point():
    at, n = load("i", (), int64), size_of(N)
    for first in (at, n - 1 - at):
        here, there = (first, ROW), (first + 1, ROW)

        def to(index, source):
            value = load("s", source, float32) * 2.0
            phase = Phase((), stores=(Store("s", index, value),))
            return Nest("n", (LoopAxis("i0", 4),), (phase,))

        assert not depends_on_itself(to(here, here), "s")
        assert depends_on_itself(to(here, there), "s")


def test_an_index_is_a_sum_over_axes_and_what_no_axis_moves():
    at, n = load("i", (), int64), size_of(N)
    found = linear(n - 1 - at + ROW * 3)
    assert found == Linear({"": N - 1, "i0": 3}, {at: -1})
    assert affine(n - 1 - at) is None
    assert affine(n - 1 - ROW) == {"": N - 1, "i0": -1}
    twice = linear((at + 2) * n)
    assert twice == Linear({"": 2 * N}, {at: N})
    clamped = apply("minimum", at, n)
    assert linear(clamped + ROW) == Linear({"i0": 1}, {clamped: 1})
    moved = load("x", (ROW, ROW), int64)
    floats = cast(load("s", (at,), float32), int64)
    for other in (moved, at * ROW, ROW * ROW, floats, apply("minimum", ROW, at)):
        assert linear(other + at) is None
    assert is_uniform(clamped)
    assert not is_uniform(floats)


def test_dependencies_name_writes_before_reads_and_reads_before_writes():
    copy = Nest(
        "copy",
        (LoopAxis("i0", N),),
        (
            Phase(
                (),
                stores=(
                    Store("out", (ROW,), cast(load("s", (ROW,), float32), float32)),
                ),
            ),
        ),
    )
    p = program(copy, add_to_state(), copy)
    assert dependencies(p, p.body) == [set(), {0}, {0, 1}]


lifetimes = st.lists(
    st.tuples(st.integers(0, 20), st.integers(0, 6), st.integers(0, 5000)), max_size=24
)


@given(lifetimes)
def test_buffers_that_live_at_once_never_overlap(rows):
    lives = tuple(Lifetime(f"b{i}", a, a + n) for i, (a, n, _) in enumerate(rows))
    sizes = {f"b{i}": size for i, (_, _, size) in enumerate(rows)}
    arena = MemoryPlan(lives).place(sizes)
    for i, a in enumerate(lives):
        assert arena.offsets[a.buffer] % ALIGN == 0
        assert arena.offsets[a.buffer] + sizes[a.buffer] <= arena.bytes
        for b in lives[:i]:
            if a.first <= b.last and b.first <= a.last:
                start, other = arena.offsets[a.buffer], arena.offsets[b.buffer]
                apart = start + sizes[a.buffer] <= other or (
                    other + sizes[b.buffer] <= start
                )
                assert apart or 0 in (sizes[a.buffer], sizes[b.buffer])


def test_memory_is_used_again_after_a_lifetime_ends():
    lives = (Lifetime("a", 0, 1), Lifetime("b", 1, 2), Lifetime("c", 2, 3))
    arena = MemoryPlan(lives).place({"a": 1024, "b": 64, "c": 1024})
    assert arena.offsets["a"] == arena.offsets["c"]
    assert arena.bytes == 1024 + 64
    assert arena.unshared == 2 * 1024 + 64
