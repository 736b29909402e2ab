"""Passes on programs: schedule, order, place-barriers, plan-memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import graphc as gc
from graphc import passes
from graphc.ir.graph import Graph
from graphc.ir.program import Barrier, Loop, Nest, Program, Statement
from graphc.ir.program.hazards import dependencies
from graphc.ir.program.verifier import verify_program
from graphc.ir.target import Target

WIDE = Target("wide", lanes=16, tiles=True)
TO_PROGRAM = ",".join((*passes.pipeline.GRAPH_PASSES, "lower"))


def mlp_step() -> Graph:
    """Return a training step of two layers."""
    x, y = gc.input("x", ("N", 4)), gc.input("y", ("N", 3))
    shapes = {"w1": (4, 5), "b1": (5,), "w2": (5, 3), "b2": (3,)}
    w = {n: gc.parameter(n, shape) for n, shape in shapes.items()}
    h = gc.tanh(x @ w["w1"] + w["b1"])
    loss = gc.mean((h @ w["w2"] + w["b2"] - y) ** 2)
    grads = gc.grad(loss, list(w.values()))
    updates = [(p, p - 0.1 * g) for p, g in zip(w.values(), grads, strict=True)]
    return Graph.build([x, y], [loss], updates)


def three_products() -> Graph:
    """Return a graph whose values pass through three temporaries, one at a time."""
    x = gc.input("x", ("N", 4))
    h = x
    for name in ("w1", "w2", "w3", "w4"):
        h = gc.tanh(h @ gc.parameter(name, (4, 4)))
    return Graph.build([x], [h])


def swap() -> Graph:
    p, q = gc.parameter("p", (3,)), gc.parameter("q", (3,))
    return Graph.build([], [p * q], [(p, q * 2.0), (q, p + 1.0)])


def many_readers() -> Graph:
    x = gc.input("x", (4, 4))
    h = gc.exp(x)
    flat = gc.reshape(h, (16,))
    return Graph.build([x], [gc.sum(h, 0), gc.sum(h, 1), flat, gc.matmul(h, h.T)])


GRAPHS = [mlp_step, three_products, swap, many_readers]
graphs = pytest.mark.parametrize("make", GRAPHS, ids=lambda f: f.__name__)


# --- all of them ----------------------------------------------------------------------


@graphs
@pytest.mark.parametrize("name", passes.pipeline.PROGRAM_PASSES[1:])
def test_a_program_pass_is_pure_and_keeps_every_value(
    name, make, apply_passes, same_values
) -> None:
    graph = make()
    program = apply_passes(TO_PROGRAM, graph, WIDE)
    done = apply_passes(name, program, WIDE)
    verify_program(done)
    same_values(graph, done, 1e-6)
    again = apply_passes(name, done, WIDE)
    assert (again, again.plan) == (done, done.plan)


@graphs
def test_a_program_pass_with_nothing_to_do_returns_the_same_object(make, apply_passes):
    done = apply_passes("default", make(), WIDE)
    for name in passes.pipeline.PROGRAM_PASSES[1:]:
        assert apply_passes(name, done, WIDE) is done, name


# --- order and barriers ---------------------------------------------------------------


def follows_what_it_needs(before: Program, body: list[Statement]) -> bool:
    place = {id(s): i for i, s in enumerate(body)}
    for statement, needs in zip(
        before.body, dependencies(before, before.body), strict=True
    ):
        for j in needs:
            if place[id(before.body[j])] > place[id(statement)]:
                return False
    return len(body) == len(before.body)


@graphs
def test_no_statement_comes_before_what_it_needs(make, apply_passes) -> None:
    lowered = apply_passes(TO_PROGRAM, make(), WIDE)
    ordered = apply_passes("order", lowered)
    assert follows_what_it_needs(lowered, list(ordered.body))
    placed = apply_passes("place-barriers", ordered)
    plain = [s for s in placed.body if not isinstance(s, Barrier)]
    assert follows_what_it_needs(lowered, plain)


@graphs
def test_between_two_barriers_no_statement_needs_another(make, apply_passes) -> None:
    program = apply_passes(f"{TO_PROGRAM},order,place-barriers", make(), WIDE)
    shares: list[list[Statement]] = [[]]
    for s in program.body:
        if isinstance(s, Barrier):
            shares.append([])
        else:
            shares[-1].append(s)
    assert all(shares)
    for share in shares:
        assert not any(dependencies(program, share))


def depth(program: Program) -> int:
    """Return the length of the longest chain of statements that need one another."""
    level: list[int] = []
    for needs in dependencies(program, program.body):
        level.append(1 + max((level[j] for j in needs), default=0))
    return max(level)


@graphs
def test_there_are_as_many_barriers_as_the_depth_asks_for(make, apply_passes) -> None:
    lowered = apply_passes(TO_PROGRAM, make(), WIDE)
    placed = apply_passes("order,place-barriers", lowered)
    barriers = sum(isinstance(s, Barrier) for s in placed.body)
    assert barriers == depth(lowered) - 1


def test_a_training_step_of_two_layers_is_four_levels_deep(apply_passes) -> None:
    """Two forward, one back, and the updates of what the way back has read."""
    program = apply_passes("default", mlp_step(), WIDE)
    assert sum(isinstance(s, Barrier) for s in program.body) == 3


def test_order_puts_loops_behind_what_they_do_not_need(apply_passes) -> None:
    x = gc.input("x", ("N", 4))
    total, _ = gc.scan(lambda c, row: (c + row, None), gc.zeros((4,)), x)
    lowered = apply_passes(
        "lower", Graph.build([x], [total, gc.tanh(gc.exp(gc.abs(x)))])
    )
    ordered = apply_passes("order", lowered)
    names = [s.name if isinstance(s, Nest) else "loop" for s in ordered.body]
    assert names.index("loop") > names.index("tanh")
    placed = apply_passes("place-barriers", ordered).body
    before = placed[: [isinstance(s, Loop) for s in placed].index(True)]
    assert not isinstance(before[-1], Barrier)


def test_order_puts_side_by_side_what_is_independent(show, apply_passes) -> None:
    x = gc.input("x", (4, 4))
    graph = Graph.build([x], [gc.matmul(gc.exp(x), x), x * 2.0])
    lowered = apply_passes("fuse,lower", graph)
    show("order", lowered, apply_passes("order,place-barriers", lowered))


# --- plan-memory ----------------------------------------------------------------------


def test_a_lifetime_goes_from_the_first_to_the_last_use(apply_passes) -> None:
    program = apply_passes("default", three_products(), WIDE)
    lives = {x.buffer: (x.first, x.last) for x in program.plan.lifetimes}
    assert list(lives.values()) == [(0, 1), (1, 2), (2, 3)]
    sizes = dict.fromkeys(lives, 1024)
    arena = program.plan.place(sizes)
    assert (arena.bytes, arena.unshared) == (2 * 1024, 3 * 1024)


@graphs
def test_every_temporary_lives_whenever_a_statement_touches_it(make, apply_passes):
    program = apply_passes("default", make(), WIDE)
    lives = {x.buffer: (x.first, x.last) for x in program.plan.lifetimes}
    step, seen = 0, set()
    for s in program.body:
        step += isinstance(s, Barrier)
        for name in map(program.root, (*s.reads, *s.writes)):
            if program.buffers[name].space == "temp":
                seen.add(name)
                assert lives[name][0] <= step <= lives[name][1]
    assert seen == set(lives)


def test_statements_of_one_level_do_not_share_memory(apply_passes) -> None:
    """Both sums run at once, and read what lies beside each other."""
    x = gc.input("x", (4, 4))
    sides = [gc.sum(gc.reshape(f(x), (2, 8)), 0) for f in (gc.exp, gc.tanh)]
    program = apply_passes("default", Graph.build([x], sides), WIDE)
    a, b = program.plan.lifetimes
    assert (a.first, a.last) == (b.first, b.last) == (0, 1)


def test_a_view_keeps_the_buffer_that_it_shares(apply_passes) -> None:
    x = gc.input("x", (4, 4))
    view = gc.reshape(gc.exp(x), (2, 8))
    late = gc.sum(view * gc.reshape(gc.reshape(gc.sum(view, 0), (2, 4)), (8,)), 0)
    program = apply_passes("default", Graph.build([x], [late]), WIDE)
    (owner,) = {b.view_of for b in program.buffers.values() if b.shape == (2, 8)}
    life = {x.buffer: x for x in program.plan.lifetimes}
    steps = sum(isinstance(s, Barrier) for s in program.body)
    assert (life[owner].first, life[owner].last) == (0, steps)
    assert not any(program.buffers[name].view_of for name in life)


# --- schedule -------------------------------------------------------------------------


def on(*shapes: tuple[str | int, ...], dtype: str = "float32"):
    """Return a decorator: a function of inputs of these shapes becomes a graph."""

    def decorate(function: Callable[..., gc.Tensor]) -> Graph:
        inputs = [gc.input("xyz"[i], s, dtype) for i, s in enumerate(shapes)]
        return Graph.build(inputs, [function(*inputs)], name=function.__name__)

    return decorate


CHOICES: dict[str, tuple[Graph, str]] = {
    "elementwise": (on(("N", "D"))(gc.exp), "{vector i1 x16}"),
    "a scalar": (on(())(gc.exp), "{vector x16, serial}"),
    "a column beside a row": (
        on(("N", 1), ("D",))(lambda x, y: x * y),
        "{vector i1 x16}",
    ),
    "not contiguous: a transpose": (on(("N", "D"))(lambda x: x.T), "{vector i1 x16}"),
    "not contiguous: every other": (
        on((8, 10))(lambda x: x[:, ::2] * 2.0),
        "{vector i1 x16}",
    ),
    "sum of rows": (on(("N", "D"))(lambda x: gc.sum(x, 1)), "{vector k0 x16}"),
    "sum of columns": (on(("N", "D"))(lambda x: gc.sum(x, 0)), "{vector i0 x16}"),
    "sum of all": (on(("N", "D"))(gc.sum), "{vector k1 x16, serial}"),
    "softmax": (on(("N", "D"))(gc.softmax), "{vector k0 x16}"),
    "softmax of columns": (
        on(("N", "D"))(lambda x: gc.softmax(x, 0)),
        "{vector i0 x16}",
    ),
    "matmul": (on(("N", 4), (4, "K"))(gc.matmul), "{tile i0 by i1 x16}"),
    "matmul of float64": (
        on((3, 4), (4, 5), dtype="float64")(gc.matmul),
        "{tile i0 by i1 x16}",
    ),
    "matmul of ints": (
        on((3, 4), (4, 5), dtype="int32")(gc.matmul),
        "{vector i1 x16}",
    ),
    "matmul of transposes": (
        on((4, "N"), ("K", 4))(lambda x, y: gc.matmul(x.T, y.T)),
        "{tile i0 by i1 x16}",
    ),
    "matmul, bias, relu": (
        on(("N", 4), (4, "K"), ("K",))(lambda x, y, z: gc.relu(gc.matmul(x, y) + z)),
        "{tile i0 by i1 x16}",
    ),
    "a batch of matmuls": (
        on((2, "N", 4), (2, 4, "K"))(gc.matmul),
        "{tile i1 by i2 x16}",
    ),
    "a matrix times a column": (
        on(("N", 4), (4, 1))(gc.matmul),
        "{vector k0 x16}",
    ),
    "a row times a matrix": (
        on((1, 4), (4, "K"))(gc.matmul),
        "{vector i0 x16}",
    ),
}


@pytest.mark.parametrize("what", CHOICES)
def test_schedule_chooses(what, apply_passes) -> None:
    graph, expected = CHOICES[what]
    (nest,) = apply_passes(f"{TO_PROGRAM},schedule", graph, WIDE).nests
    s = nest.schedule
    found = f"{s.strategy} {s.rows} by {s.axis}" if s.rows else f"{s.strategy} {s.axis}"
    serial = "" if s.parallel else ", serial"
    assert f"{{{found.strip()} x{s.lanes}{serial}}}" == expected


def test_without_tiles_a_contraction_runs_along_vectors(apply_passes) -> None:
    graph, _ = CHOICES["matmul"]
    (nest,) = apply_passes(
        f"{TO_PROGRAM},schedule", graph, Target("narrow", lanes=4)
    ).nests
    assert (nest.schedule.strategy, nest.schedule.axis) == ("vector", "i1")
    assert nest.schedule.lanes == 4


def test_a_schedule_that_a_nest_has_stays(apply_passes) -> None:
    graph, _ = CHOICES["matmul"]
    narrow = apply_passes(f"{TO_PROGRAM},schedule", graph, Target("narrow", lanes=4))
    assert apply_passes("schedule", narrow, WIDE) is narrow


def test_schedules_in_text(show, apply_passes) -> None:
    x, w = gc.input("x", ("N", 4)), gc.input("w", (4, "K"))
    graph = Graph.build([x, w], [gc.relu(gc.matmul(x, w)), gc.max(x, 1)])
    lowered = apply_passes("fuse,lower", graph)
    show("schedule", lowered, apply_passes("schedule", lowered, WIDE))
