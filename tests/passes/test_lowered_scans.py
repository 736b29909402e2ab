"""How scans are lowered: carries whose values are stacked are the stack."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.program import Loop, Nest, Program

PROGRAM = "fuse,lower,schedule,place-barriers,plan-memory"
Body = Callable[[Any, Tensor], tuple[Any, Any]]


def scanned(body: Body, first: Any, reverse: bool = False) -> tuple[Tensor, Any, Any]:
    """Return x, what is carried last and what is stacked of a scan over x [N, 3, 4]."""
    x = gc.input("x", ("N", 3, 4), "float64")
    return x, *gc.scan(body, first, x, reverse=reverse)


def zeros() -> Tensor:
    return gc.zeros((3, 4), "float64")


def both(c: Tensor, row: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Stack what a turn begins with and what it ends with."""
    new = gc.tanh(c + row)
    return new, (c, new)


def of_rows(reverse: bool) -> Graph:
    x, last, (old, new) = scanned(both, zeros() + 0.5, reverse)
    return Graph.build([x], [last, old * 2.0, gc.exp(new), gc.sum(old * new, 0)])


def as_results() -> Graph:
    x, last, (old, new) = scanned(both, zeros())
    return Graph.build([x], [new, last, old])


def merged_rows() -> Graph:
    x, _, (old, new) = scanned(both, zeros())
    rows = 3 * x.shape[0]
    flat = [gc.reshape(t, (rows, 4)) for t in (old, new)]
    return Graph.build([x], [gc.exp(flat[0]), gc.matmul(flat[0].T, flat[1])])


def other_rows() -> Graph:
    """Reshape stacks to rows that begin within a step."""
    x, _, (old, new) = scanned(both, zeros())
    wide = [gc.reshape(t, (4, x.shape[0], 3)) for t in (old, new)]
    one = gc.reshape(new, (1, *new.shape))
    return Graph.build([x], [gc.exp(wide[0]), gc.sum(wide[1], 1), one * 2.0])


def swapped() -> Graph:
    def body(c: Any, row: Tensor) -> tuple[Any, Any]:
        a, b = c
        return (b, a + row), (a, b, a + row)

    x, last, stacks = scanned(body, (zeros(), zeros() + 1.0))
    return Graph.build([x], [*last, *(gc.exp(s) for s in stacks)])


def one_for_two() -> Graph:
    def body(c: Any, row: Tensor) -> tuple[Any, Any]:
        new = c[0] * 0.5 + c[1] + row
        return (new, new), (new, c[1])

    x, last, stacks = scanned(body, (zeros(), zeros() + 1.0))
    return Graph.build([x], [*last, *(gc.exp(s) for s in stacks)])


def given() -> Graph:
    """Carry what is stepped over, and what no nest makes."""

    def body(c: Any, row: Tensor) -> tuple[Any, Any]:
        return (row, zeros() + 2.0), (c[0], row, c[1])

    x, last, stacks = scanned(body, (zeros(), zeros()))
    return Graph.build([x], [*last, *(gc.exp(s) for s in stacks)])


def stepped_over_again() -> Graph:
    x, _, (old, new) = scanned(both, zeros())
    _, ends = gc.scan(
        lambda c, rows: (c + rows[0] * rows[1], c), zeros(), (old, new), reverse=True
    )
    return Graph.build([x], [gc.exp(ends)])


def within_another() -> Graph:
    def outer(c: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        def inner(d: Tensor, part: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
            new = d + part * 0.5
            return new, (d, new)

        _, (old, new) = gc.scan(inner, c[0], row)
        made = gc.tanh(old * new + c)
        return made, made

    x, last, stack = scanned(outer, zeros())
    return Graph.build([x], [last, gc.exp(stack)])


def read_in_its_turn() -> Graph:
    """Read what a turn ends with in a nest of its own."""

    def body(c: Tensor, row: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        new = c @ gc.ones((4, 4), "float64") + row
        return new * 0.1, (new, gc.matmul(new * 0.1, gc.ones((4, 4), "float64")))

    x, last, stacks = scanned(body, zeros())
    return Graph.build([x], [last, *(gc.exp(s) for s in stacks)])


GRAPHS: Sequence[Callable[[], Graph]] = [
    lambda: of_rows(reverse=False),
    lambda: of_rows(reverse=True),
    as_results,
    merged_rows,
    other_rows,
    swapped,
    one_for_two,
    given,
    stepped_over_again,
    within_another,
    read_in_its_turn,
]


@pytest.mark.parametrize("make", GRAPHS)
def test_values_stay(make: Callable[[], Graph], apply_passes, same_values) -> None:
    graph = make()
    same_values(graph, apply_passes(PROGRAM, graph), 1e-12)


@pytest.mark.parametrize("make", GRAPHS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_values_are_those_of_reference(make: Callable[[], Graph], steps: int) -> None:
    graph = make()
    x = np.random.default_rng(steps).normal(size=(steps, 3, 4))
    run = gc.compile(graph.inputs, graph.outputs)
    wanted = gc.compile(graph.inputs, graph.outputs, backend="reference")
    for a, b in zip(run(x), wanted(x), strict=True):
        np.testing.assert_allclose(a, b, 1e-9, 1e-9)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_stacked_carry_is_stored_once(reverse: bool, apply_passes) -> None:
    graph = of_rows(reverse)
    program: Program = apply_passes(PROGRAM, graph)
    (loop,) = [s for s in program.body if isinstance(s, Loop)]
    (nest,) = [s for s in loop.body if isinstance(s, Nest)]
    stores = [s for p in nest.phases for s in p.stores]
    assert len(stores) == 1
    assert program.buffers[stores[0].buffer].shape[0] == graph.inputs[0].shape[0] + 1
