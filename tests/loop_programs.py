"""Programs with loops and branches, built by hand: what passes and backends run.

Each is not scheduled yet and has no barriers; `prepare` adds them for a target.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.ir.dims import Size, dim
from graphc.ir.program import (
    Buffer,
    If,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Reduce,
    Store,
    While,
)
from graphc.ir.scalar import Expr, apply, axis, cast, const, load, ref, size_of
from graphc.ir.target import Target
from graphc.ir.types import DType, bool_, float32, int32, int64
from graphc.passes import parse_pipeline, run_pipeline
from graphc.passes.pipeline import PROGRAM_PASSES

Array = np.ndarray[Any, Any]

N, T, K = dim("N"), dim("T"), dim("K")
ROW, COL, DEEP = axis("i0"), axis("i1"), axis("k0")


@dataclass(frozen=True)
class Sample:
    """A program, and inputs and states for sizes."""

    program: Program
    given: Callable[[Mapping[str, int]], dict[str, Array]]
    sizes: tuple[dict[str, int], ...]
    rtol: float = 0.0
    tiles: tuple[str, ...] = field(default=())  # nests that run on register tiles


def turn(cell: str) -> Expr:
    return load(cell, (), int64)


def backwards(cell: str, count: Size) -> Expr:
    return apply("sub", apply("sub", size_of(count), const(1, int64)), turn(cell))


def nest(name: str, axes: tuple[Size, ...], *stores: Store) -> Nest:
    """Return a nest that stores at each point of its axes."""
    loops = tuple(LoopAxis(f"i{i}", n) for i, n in enumerate(axes))
    return Nest(name, loops, (Phase((), (), stores),))


def program(body: tuple, outputs: tuple[str, ...], *buffers: tuple) -> Program:
    known = {b[0]: Buffer(*b) for b in buffers}
    inputs = tuple(n for n, b in known.items() if b.space == "input")
    states = tuple(n for n, b in known.items() if b.space == "state")
    return Program("p", known, body, inputs, states, outputs)


def prepare(made: Program, target: Target) -> Program:
    """Return a program with schedules, barriers and a memory plan."""
    steps = parse_pipeline(",".join(PROGRAM_PASSES[1:]))
    found = run_pipeline(made, steps, target)[-1].result
    assert isinstance(found, Program)
    return found


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scalar(cell: str, dtype: DType) -> Expr:
    return load(cell, (), dtype)


# --- the programs -------------------------------------------------------------------


def running_sum(reverse: bool = False) -> Sample:
    """ys[t] = xs[0] + ... + xs[t], forwards or backwards."""
    at = backwards("t", T) if reverse else turn("t")
    add = load("total", (ROW,), float32) + load("xs", (at, ROW), float32)
    body = (
        nest("start", (N,), Store("total", (ROW,), const(0.0, float32))),
        Loop(
            "t",
            T,
            (
                nest("add", (N,), Store("next", (ROW,), add)),
                nest(
                    "keep",
                    (N,),
                    Store("total", (ROW,), load("next", (ROW,), float32)),
                    Store("ys", (at, ROW), load("next", (ROW,), float32)),
                ),
            ),
        ),
        nest("end", (N,), Store("last", (ROW,), load("total", (ROW,), float32))),
    )
    made = program(
        body,
        ("ys", "last"),
        ("xs", float32, (T, N), "input"),
        ("t", int64, (), "temp"),
        ("total", float32, (N,), "temp"),
        ("next", float32, (N,), "temp"),
        ("ys", float32, (T, N), "output"),
        ("last", float32, (N,), "output"),
    )
    sizes = tuple({"T": t, "N": n} for t in (0, 1, 7) for n in (1, 5, 40))
    return Sample(made, lambda s: {"xs": normal(s["T"], s["N"])}, sizes)


def nested() -> Sample:
    """Loops within loops: a table of what was counted, and what came of it."""
    count = turn("i") * 10 + turn("j")
    rows = load("count", (), int64) + count
    row = load("row", (ROW,), float32)
    body = (
        nest("zero", (), Store("count", (), const(0, int64))),
        Loop(
            "i",
            T,
            (
                nest("own", (K,), Store("row", (ROW,), cast(turn("i"), float32))),
                Loop(
                    "j",
                    K,
                    (
                        nest("add", (), Store("sum", (), rows)),
                        nest("keep", (), Store("count", (), scalar("sum", int64))),
                        nest(
                            "mark",
                            (),
                            Store(
                                "row",
                                (turn("j"),),
                                load("row", (turn("j"),), float32) * 2.0 + 1.0,
                            ),
                        ),
                    ),
                ),
                nest(
                    "put",
                    (K,),
                    Store("y", (turn("i"), ROW), row),
                ),
            ),
        ),
        nest("end", (), Store("total", (), scalar("count", int64))),
    )
    made = program(
        body,
        ("y", "total"),
        ("n", float32, (T, K), "input"),
        ("i", int64, (), "temp"),
        ("j", int64, (), "temp"),
        ("count", int64, (), "temp"),
        ("sum", int64, (), "temp"),
        ("row", float32, (K,), "temp"),
        ("y", float32, (T, K), "output"),
        ("total", int64, (), "output"),
    )
    sizes = tuple({"T": t, "K": k} for t in (0, 1, 7) for k in (0, 1, 7))
    return Sample(made, lambda s: {"n": normal(s["T"], s["K"])}, sizes)


def branch() -> Sample:
    """In each turn one of two, by the sign of a number; one of them changes it."""
    less = apply("less", load("xs", (turn("t"),), float32), const(0.0, float32))
    value = load("s", (ROW,), float32)
    body = (
        Loop(
            "t",
            T,
            (
                nest("ask", (), Store("below", (), less)),
                If(
                    "below",
                    (
                        nest("no", (), Store("below", (), const(False, bool_))),
                        nest("turned", (N,), Store("tmp", (ROW,), -value)),
                        nest(
                            "less",
                            (N,),
                            Store("s", (ROW,), load("tmp", (ROW,), float32) * 0.5),
                        ),
                    ),
                    (nest("more", (N,), Store("s", (ROW,), value + 1.0)),),
                ),
                nest("note", (), Store("flags", (turn("t"),), scalar("below", bool_))),
            ),
        ),
        If("flag", (nest("last", (N,), Store("s", (ROW,), value * 3.0)),)),
        nest("out", (N,), Store("y", (ROW,), value)),
    )
    made = program(
        body,
        ("y", "flags"),
        ("xs", float32, (T,), "input"),
        ("flag", bool_, (), "input"),
        ("s", float32, (N,), "state"),
        ("t", int64, (), "temp"),
        ("below", bool_, (), "temp"),
        ("tmp", float32, (N,), "temp"),
        ("y", float32, (N,), "output"),
        ("flags", bool_, (T,), "output"),
    )

    def given(s: Mapping[str, int]) -> dict[str, Array]:
        flag = np.array(s["T"] % 2 == 0)
        return {"xs": normal(s["T"], seed=1), "flag": flag, "s": normal(s["N"])}

    sizes = tuple({"T": t, "N": n} for t in (0, 1, 6, 9) for n in (3, 40))
    return Sample(made, given, sizes)


def collatz() -> Sample:
    """How many steps each number takes to 1; a `While` in a `Loop`."""
    n = scalar("n", int64)
    odd = apply("equal", n % 2, const(1, int64))
    step = apply("select", odd, n * 3 + 1, n // 2)
    here = turn("t")
    body = (
        Loop(
            "t",
            T,
            (
                nest("take", (), Store("n", (), load("xs", (here,), int64))),
                nest("zero", (), Store("steps", (), const(0, int32))),
                While(
                    "more",
                    (nest("ask", (), Store("more", (), apply("greater", n, 1))),),
                    (
                        nest("step", (), Store("next", (), step)),
                        nest("keep", (), Store("n", (), scalar("next", int64))),
                        nest(
                            "count", (), Store("steps", (), scalar("steps", int32) + 1)
                        ),
                    ),
                ),
                nest("put", (), Store("y", (here,), scalar("steps", int32))),
            ),
        ),
    )
    made = program(
        body,
        ("y",),
        ("xs", int64, (T,), "input"),
        ("t", int64, (), "temp"),
        ("n", int64, (), "temp"),
        ("next", int64, (), "temp"),
        ("more", bool_, (), "temp"),
        ("steps", int32, (), "temp"),
        ("y", int32, (T,), "output"),
    )
    sizes = tuple({"T": t} for t in (0, 1, 30))
    return Sample(made, lambda s: {"xs": np.arange(1, s["T"] + 1)}, sizes)


def newton() -> Sample:
    """Square roots by Newton's method, until the largest step is small."""
    x, a = load("x", (ROW,), float32), load("a", (ROW,), float32)
    move = apply("abs", load("new", (DEEP,), float32) - load("x", (DEEP,), float32))
    largest = Nest(
        "largest",
        (),
        (
            Phase((LoopAxis("k0", N),), (Reduce("r0", "max", (move,)),)),
            Phase(
                (),
                (),
                (
                    Store(
                        "more",
                        (),
                        apply("greater", ref("r0", float32), const(1e-6, float32)),
                    ),
                ),
            ),
        ),
    )
    better = (x + a / x) * 0.5
    body = (
        nest("start", (N,), Store("x", (ROW,), a + 1.0)),
        While(
            "more",
            (nest("better", (N,), Store("new", (ROW,), better)), largest),
            (nest("keep", (N,), Store("x", (ROW,), load("new", (ROW,), float32))),),
        ),
        nest("end", (N,), Store("y", (ROW,), x)),
    )
    made = program(
        body,
        ("y",),
        ("a", float32, (N,), "input"),
        ("x", float32, (N,), "temp"),
        ("new", float32, (N,), "temp"),
        ("more", bool_, (), "temp"),
        ("y", float32, (N,), "output"),
    )
    sizes = tuple({"N": n} for n in (1, 17, 100))
    return Sample(made, lambda s: {"a": np.abs(normal(s["N"])) + 0.5}, sizes, rtol=1e-5)


def recurrence(reverse: bool = False) -> Sample:
    """h = tanh(x[t] + h @ w), all of them kept: z[t] = h."""
    at = backwards("t", T) if reverse else turn("t")
    product = load("h", (ROW, DEEP), float32) * load("w", (DEEP, COL), float32)
    value = apply("tanh", ref("r0", float32) + load("x", (at, ROW, COL), float32))
    step = Nest(
        "step",
        (LoopAxis("i0", N), LoopAxis("i1", K)),
        (
            Phase((LoopAxis("k0", K),), (Reduce("r0", "sum", (product,)),)),
            Phase((), (), (Store("z", (at, ROW, COL), value),)),
        ),
    )
    keep = Store("h", (ROW, COL), load("z", (at, ROW, COL), float32))
    body = (
        nest("start", (N, K), Store("h", (ROW, COL), load("h0", (ROW, COL), float32))),
        Loop("t", T, (step, nest("keep", (N, K), keep))),
    )
    made = program(
        body,
        ("z",),
        ("x", float32, (T, N, K), "input"),
        ("h0", float32, (N, K), "input"),
        ("w", float32, (K, K), "state"),
        ("t", int64, (), "temp"),
        ("h", float32, (N, K), "temp"),
        ("z", float32, (T, N, K), "output"),
    )

    def given(s: Mapping[str, int]) -> dict[str, Array]:
        k = s["K"]
        return {
            "x": normal(s["T"], s["N"], k),
            "h0": normal(s["N"], k, seed=1),
            "w": normal(k, k, seed=2) / np.float32(max(k, 1) ** 0.5),
        }

    sizes = tuple(
        {"T": t, "N": n, "K": k} for t, n, k in ((0, 2, 3), (1, 1, 1), (7, 5, 33))
    )
    return Sample(made, given, sizes, 1e-5, ("step",))


def history() -> Sample:
    """h[t + 1] = h[t] @ w in one buffer: both operand and result are slices."""
    now, after = turn("t"), turn("t") + 1
    product = load("h", (now, ROW, DEEP), float32) * load("w", (DEEP, COL), float32)
    step = Nest(
        "step",
        (LoopAxis("i0", N), LoopAxis("i1", K)),
        (
            Phase((LoopAxis("k0", K),), (Reduce("r0", "sum", (product,)),)),
            Phase((), (), (Store("h", (after, ROW, COL), ref("r0", float32)),)),
        ),
    )
    first = load("h0", (ROW, COL), float32)
    every = (axis("i0"), axis("i1"), axis("i2"))
    body = (
        nest("start", (N, K), Store("h", (const(0, int64), ROW, COL), first)),
        Loop("t", T, (step,)),
        nest(
            "out",
            (T, N, K),
            Store("z", every, load("h", (every[0] + 1, *every[1:]), float32)),
        ),
    )
    made = program(
        body,
        ("z",),
        ("x", float32, (T,), "input"),
        ("h0", float32, (N, K), "input"),
        ("w", float32, (K, K), "input"),
        ("t", int64, (), "temp"),
        ("h", float32, (T + 1, N, K), "temp"),
        ("z", float32, (T, N, K), "output"),
    )

    def given(s: Mapping[str, int]) -> dict[str, Array]:
        k = s["K"]
        return {
            "x": normal(s["T"]),
            "h0": normal(s["N"], k, seed=1),
            "w": normal(k, k, seed=2) / np.float32(max(k, 1) ** 0.5),
        }

    sizes = tuple({"T": t, "N": n, "K": k} for t, n, k in ((1, 1, 1), (6, 17, 35)))
    return Sample(made, given, sizes, 1e-5, ("step",))


SAMPLES: dict[str, Callable[[], Sample]] = {
    "running sum": running_sum,
    "running sum backwards": lambda: running_sum(reverse=True),
    "nested": nested,
    "branch": branch,
    "collatz": collatz,
    "newton": newton,
    "recurrence": recurrence,
    "recurrence backwards": lambda: recurrence(reverse=True),
    "history": history,
}
