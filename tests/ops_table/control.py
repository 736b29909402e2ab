"""Loops and branches."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.interpret import run_region
from ops_table.case import FIXED, SCALAR, Array, Case, Oracle, Spec

STEPS = Spec("x", ("N", 3))
FIRST = Spec("h", (3,))
SQUARE = Spec("w", (3, 3), "float32", -0.5, 0.5)
BATCHES = Spec("x", ("N", 2, 3))
LENGTHS = Spec("n", (2,), "int32", 1, 5)
ROWS = Spec("h", (2, 3))


def _recurrent(h: Any, x: Any, w: Any, **how: Any) -> Any:
    def body(state: Any, x: Any) -> Any:
        new = gc.tanh(x + state @ w)
        return new, new * x

    carry, ys = gc.scan(body, h, x, **how)
    return carry, ys


def _table(h: Any, x: Any) -> Any:
    """Each step runs over all steps in a loop of its own."""

    def outer(total: Any, row: Any) -> Any:
        inner, all_ = gc.scan(lambda c, r: (c * 0.5 + r * row, gc.sum(c)), total, x)
        return inner, all_

    return gc.scan(outer, h, x)


def _halved(x: Any) -> Any:
    """Halve until all elements are at most 1; count the turns."""
    return gc.while_loop(
        lambda c: gc.max(c[0]) > 1.0, lambda c: (c[0] * 0.5, c[1] + 1), (x, 0)
    )


CASES = (
    Case("scan", "recurrent", _recurrent, (FIRST, STEPS, SQUARE)),
    Case(
        "scan",
        "reverse",
        lambda h, x, w: _recurrent(h, x, w, reverse=True),
        (FIRST, STEPS, SQUARE),
    ),
    Case(
        "scan",
        "lengths",
        lambda h, x, w, n: _recurrent(h, x, w, lengths=n),
        (ROWS, BATCHES, SQUARE, LENGTHS),
    ),
    Case("scan", "nested", _table, (FIRST, STEPS)),
    Case(
        "scan",
        "several_carries",
        lambda h, x: gc.scan(
            lambda c, r: ((c[1], c[0] + r), (c[0] * r, c[1])), (h, h * 0.5), x
        )[1],
        (FIRST, STEPS),
    ),
    Case(
        "scan",
        "without_carry",
        lambda x: gc.scan(lambda c, r: (c, gc.exp(r)), (), x)[1],
        (STEPS,),
    ),
    Case(
        "scan",
        "without_steps",
        lambda h: gc.scan(lambda c, _: (gc.tanh(c) * 2.0, c), h, length=4),
        (FIRST,),
    ),
    Case(
        "cond",
        "taken",
        lambda x: gc.cond(gc.sum(x) < 1e9, lambda v: v * v, lambda v: v + 1.0, x),
        (FIXED,),
    ),
    Case(
        "cond",
        "not_taken",
        lambda x: gc.cond(gc.sum(x) > 1e9, lambda v: v * v, lambda v: v + 1.0, x),
        (FIXED,),
    ),
    Case(
        "cond",
        "in_a_scan",
        lambda h, x: gc.scan(
            lambda c, r: (gc.cond(gc.sum(r) > 0.0, lambda: c * r, lambda: c - r), c),
            h,
            x,
        ),
        (FIRST, STEPS),
    ),
    Case("while_loop", "halved", _halved, (FIXED,)),
    Case(
        "while_loop",
        "scalar",
        lambda x: gc.while_loop(lambda v: v > 1.0, lambda v: v - 0.7, x),
        (SCALAR,),
    ),
)


def _scan(
    a: Any, *inputs: Array, regions: Any, sizes: dict[str, int]
) -> tuple[Array, ...]:
    """Take the steps one by one, and stack what they return."""
    n, m = a.carries, a.carries + a.steps
    carry, xs, consts = inputs[:n], inputs[n:m], inputs[m:]
    length = gc.ir.dims.evaluate(a.length, sizes)
    rows: list[Any] = [None] * length
    for k in range(length):
        t = length - 1 - k if a.reverse else k
        found = run_region(regions[0], [*carry, *(x[t] for x in xs), *consts], sizes)
        carry, rows[t] = found[:n], found[n:]
    return (*carry, *(np.stack(column) for column in zip(*rows, strict=True)))


def _cond(
    a: Any, condition: Array, *inputs: Array, regions: Any, sizes: dict[str, int]
) -> tuple[Array, ...]:
    both = [run_region(r, inputs, sizes) for r in regions]
    return tuple(np.where(condition, x, y) for x, y in zip(*both, strict=True))


ORACLES: dict[str, Oracle] = {"scan": _scan, "cond": _cond}
ELSEWHERE = {"while_loop": "tests/graphc/control/test_while_loop.py"}
