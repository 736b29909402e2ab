"""What the tests of passes share: run one, show it, and compare values."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from graphc.backends.reference.interpreter import run_graph
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor, leaf_name
from graphc.ir.program import Program
from graphc.ir.program.interpret import run_program
from graphc.ir.target import GENERIC, Target
from graphc.passes import parse_pipeline, run_pipeline

Array = np.ndarray[Any, Any]
Level = Graph | Program

SIZES = {"N": 5, "D": 4, "K": 3}
ORIGIN = re.compile(r"\s+@ .*$", re.M)


def run(passes: str, level: Level, target: Target = GENERIC) -> Any:
    """Run passes; their input must stay as it was."""
    before = level.text()
    found = run_pipeline(level, parse_pipeline(passes), target)[-1].result
    assert level.text() == before, "a pass changed its input"
    return found


def plain(level: Level) -> str:
    """Return a level as text without origins."""
    return ORIGIN.sub("", level.text())


def random_values(graph: Graph, seed: int = 0) -> dict[Tensor, Array]:
    """Return arrays for the inputs and states of a graph."""
    rng = np.random.default_rng(seed)
    values: dict[Tensor, Array] = {}
    for t in (*graph.inputs, *graph.states):
        shape = tuple(evaluate(s, SIZES) for s in t.shape)
        if t.dtype.is_float:
            values[t] = rng.normal(size=shape).astype(t.dtype.numpy)
        else:
            values[t] = rng.integers(0, 2, shape).astype(t.dtype.numpy)
    return values


def graph_values(graph: Graph, given: Mapping[Tensor, Array]) -> list[Array]:
    """Return a graph's outputs and new states by `reference`."""
    outputs, updates = run_graph(graph, given, {}, SIZES)
    return [*outputs, *updates]


def program_values(
    program: Program, graph: Graph, given: Mapping[Tensor, Array]
) -> list[Array]:
    """Return the same of a program that a graph was lowered to."""
    found = run_program(program, {leaf_name(t): a for t, a in given.items()}, SIZES)
    updated = [leaf_name(s) for s, _ in graph.updates]
    return [found[n] for n in (*program.outputs, *updated)]


@pytest.fixture
def apply_passes() -> Callable[..., Any]:
    """Return `apply_passes(text, level, target)`, which checks that it is pure."""
    return run


@pytest.fixture
def show(golden: Callable[[str, str], None]) -> Callable[..., None]:
    """Return `show(name, before, after)`, golden texts without origins."""

    def compare(name: str, *levels: Level) -> None:
        texts = [plain(level) for level in levels]
        assert all(t.count("\n") < 20 for t in texts), "a golden text shows 20 lines"
        golden(f"passes/{name}", "\n\n=>\n\n".join(texts))

    return compare


@pytest.fixture
def same_values() -> Callable[..., None]:
    """Return `same_values(graph, after, rtol)`: bits are compared where rtol is 0."""

    def compare(graph: Graph, after: Level, rtol: float = 0.0) -> None:
        given = random_values(graph)
        old = graph_values(graph, given)
        if isinstance(after, Graph):
            new = graph_values(after, given)
        else:
            new = program_values(after, graph, given)
        for a, b in zip(old, new, strict=True):
            assert a.dtype == b.dtype
            assert a.shape == b.shape
            if rtol:
                np.testing.assert_allclose(b, a, rtol, rtol)
            else:
                np.testing.assert_array_equal(b, a)

    return compare
