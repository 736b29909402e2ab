"""Parts that lie beside each other: pads become a concatenate, stored by pieces."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.executable import Executable
from graphc.ir.graph import Graph
from graphc.ir.program import Nest, Program
from graphc.ir.target import Target
from graphc.passes import parse_pipeline, run_pipeline

Array = np.ndarray[Any, Any]


def ops(step: Executable) -> Counter[str]:
    """Return how often each op stands in the last graph before ops are fused."""
    found = [s for name, s in step.stages if name == "simplify"][-1]
    assert isinstance(found, Graph)
    return Counter(n.op.name for n in found.nodes)


def nests(step: Executable) -> list[Nest]:
    assert isinstance(step.program, Program)
    return list(step.program.nests)


def agrees(step: Executable, *given: Array) -> None:
    inputs = dict(zip(step.declared.inputs, given, strict=True))
    wanted = gc.evaluate(list(step.declared.outputs), inputs)
    for a, b in zip(step(*given), wanted, strict=True):
        np.testing.assert_allclose(a, b, 1e-6, 1e-6)


X = np.random.default_rng(0).standard_normal((5, 12)).astype("f")


@pytest.mark.parametrize(
    "bounds",
    [(0, 4, 8, 12), (0, 12), (0, 3, 4, 12), (4, 8, 12), (0, 6)],
    ids=lambda b: "-".join(map(str, b)),
)
@pytest.mark.parametrize("turned", [False, True])
def test_the_gradient_of_a_split_is_one_concatenate(
    bounds: tuple[int, ...], turned: bool
) -> None:
    x = gc.input("x", ("N", 12))
    pieces = [x[:, a:b] for a, b in pairwise(bounds)]
    terms = [gc.sum(gc.sin(p * (k + 1.0))) for k, p in enumerate(pieces)]
    if turned:
        terms = terms[1::2] + terms[::2]
    step = gc.compile([x], [gc.grad(sum(terms[1:], terms[0]), x)])
    found = ops(step)
    whole = (bounds[0], bounds[-1]) == (0, 12)
    assert found["concatenate"] == (len(pieces) > 1)
    assert found["pad"] == (not whole)
    assert len(nests(step)) <= 2
    agrees(step, X)


def test_pieces_that_meet_or_leave_a_gap_are_added() -> None:
    x = gc.input("x", ("N", 12))
    for a, b in ((x[:, :7], x[:, 5:]), (x[:, :3], x[:, 5:]), (x[:, :5], x[:2])):
        step = gc.compile([x], [gc.grad(gc.sum(a * a) + gc.sum(gc.sin(b)), x)])
        assert ops(step)["concatenate"] == 0
        agrees(step, X)


@pytest.mark.parametrize("axis", [0, 1])
def test_equal_pieces_are_stored_where_they_belong(axis: int) -> None:
    x, y = gc.input("x", ("N", 12)), gc.input("y", ("N", 12))
    joined = gc.concatenate([gc.exp(x), x * y, y], axis)
    step = gc.compile([x, y], [joined])
    (nest,) = nests(step)
    assert [len(p.stores) for p in nest.phases] == [3]
    assert "select" not in step.program.text()
    agrees(step, X, X[::-1].copy())


def test_pieces_of_other_sizes_are_chosen_from() -> None:
    x, y = gc.input("x", ("N", 12)), gc.input("y", ("N", 3))
    step = gc.compile([x, y], [gc.concatenate([gc.exp(x), y, x[:, :1]], 1)])
    assert "select" in step.program.text()
    agrees(step, X, X[:, :3].copy())


def test_a_concatenate_of_concatenates() -> None:
    x = gc.input("x", ("N", 12))
    both = gc.stack([x * 2.0, gc.exp(x)], 1)
    step = gc.compile([x], [gc.stack([both, gc.tanh(both)], 0), gc.sum(both, 1)])
    agrees(step, X)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_a_state_that_is_written_in_pieces_of_itself(backend: str) -> None:
    w = gc.parameter("w", (8,), np.arange(8.0), dtype="float32")
    turned = gc.concatenate([w[4:], w[:4]])
    crossed = gc.concatenate([w[1:5], w[0:4]])
    for new, wanted in (
        (turned, [4, 5, 6, 7, 0, 1, 2, 3]),
        (crossed, [1, 2, 3, 4, 0, 1, 2, 3]),
    ):
        w.value = np.arange(8.0)
        gc.compile([], gc.sum(w), updates={w: new}, backend=backend)()
        assert w.value.tolist() == wanted


def test_products_with_sequences_keep_their_epilogue() -> None:
    x, w = gc.input("x", ("N", "T", 12)), gc.input("w", (12, 12))
    b, s = gc.input("b", (12,)), gc.input("s", (1, 1, 12))
    step = gc.compile([x, w, b, s], [gc.tanh(x @ w + b) * 2.0 - s])
    assert len(nests(step)) == 1
    agrees(step, np.stack([X, X + 1]), X.T[:, :1] * X[:1], X[0], X[:1, None])


def test_what_is_repeated_along_other_axes_stays_behind_the_reshape() -> None:
    x, w = gc.input("x", ("N", "T", 12)), gc.input("w", (12, 12))
    rows, steps = gc.input("r", ("N", 1, 1)), gc.input("t", ("T", 12))
    step = gc.compile([x, w, rows, steps], [x @ w + rows, x @ w * steps])
    given = np.stack([X, X + 1])
    agrees(step, given, X.T[:, :1] * X[:1], X[:2, :1, None], X)


def test_slices_of_a_product_stay_in_the_loop_that_reads_them() -> None:
    x, w = gc.input("x", ("T", "N", 4)), gc.input("w", (4, 6))

    def body(c: gc.Tensor, row: gc.Tensor) -> tuple[gc.Tensor, None]:
        a, b = gc.split(row @ w, 2, 1)
        return gc.tanh(c * a + b), None

    last, _ = gc.scan(body, gc.zeros((x.shape[1], 3)), x)
    step = gc.compile([x, w], [last])
    assert not [n for n in nests(step) if "slice" in n.name]
    agrees(step, X.reshape(5, 3, 4), X[:4, :6].copy())


def test_a_long_sum_is_seen_through_at_once() -> None:
    x = gc.input("x", ("N", 12))
    total = x[:, :6] * 1.5
    for k in range(1500):
        total = total + gc.sin(x[:, 6:] + k)
    doubled = gc.pad(x[:, :6], ((0, 0), (0, 6)))
    for _ in range(60):
        doubled = doubled + doubled
    graph = Graph.build([x], [total, doubled])
    steps = parse_pipeline("simplify")
    done = run_pipeline(graph, steps, Target("cpu"))[-1].result
    assert isinstance(done, Graph)
    found = Counter(n.op.name for n in done.nodes)
    assert (found["add"], found["concatenate"]) == (1500 + 1499 + 60, 0)
