"""Every op is whole, and means on `reference` what NumPy says of it."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import ops_table
import pytest
from ops_table import CASES, ELSEWHERE, ORACLES, Case, arrays, batch, build

import graphc as gc
from graphc.backends.reference.interpreter import run_graph
from graphc.ir.binding import bind_sizes
from graphc.ir.interpret import Values
from graphc.ir.nodes import Node
from graphc.ir.op import (
    OPS,
    Controlled,
    Decomposed,
    NonDifferentiable,
    Op,
    Pointwise,
    Reduction,
    Routine,
    ScatterAdd,
    Unsupported,
    View,
)
from graphc.ops.regions import inline

Array = np.ndarray[Any, Any]
OWN = [op for op in OPS.values() if not op.leaf and ops_table.own(op)]
LOWERINGS = (
    Pointwise, Reduction, Decomposed, View, ScatterAdd, Routine, Controlled,
    Unsupported,
)  # fmt: skip

# Ops without lowering, and why that is no gap.
NOT_LOWERED = {"constant": "a buffer", "fused": "lower", "custom_gradient": "decompose"}


# --- definitions --------------------------------------------------------------------


@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_op_is_whole(op: Op) -> None:
    assert callable(op.infer)
    assert callable(op.evaluate)
    if isinstance(op.gradient, NonDifferentiable):
        assert op.gradient.reason
    else:
        assert callable(op.gradient)
    assert isinstance(op.lower, LOWERINGS)
    if isinstance(op.lower, Unsupported):
        assert NOT_LOWERED[op.name] in op.lower.reason
    assert op.doc
    assert not op.doc.endswith(".")


def test_every_op_has_a_case() -> None:
    assert ops_table.missing() == []


@pytest.mark.parametrize("op", [o for o in OWN if o.scalar], ids=lambda op: op.name)
def test_elementwise_op_says_how_to_sample_it(op: Op) -> None:
    assert op.scalar is not None
    low, high = op.scalar.sample
    assert low < high
    arity = len(inspect.signature(op.scalar.formula).parameters)
    assert op.commutative <= (arity == 2)


# --- meaning ------------------------------------------------------------------------


def test_every_op_is_compared_with_numpy() -> None:
    assert {op.name for op in OWN} == set(ORACLES) | set(ELSEWHERE)


def nodes_with_values(
    case: Case,
) -> list[tuple[Node, list[Array], list[Array], dict[str, int]]]:
    """Return each node of a case's graph with what it reads and makes on reference."""
    graph = build(case, "float64")
    given = arrays(case, "float64")
    shapes = [a.shape for a in given]
    sizes = bind_sizes(zip(graph.inputs, shapes, strict=True), graph.guards)
    found = []

    def watch(node: Node, values: Values) -> None:
        read = [values[t] for t in node.inputs]
        found.append((node, read, [values[r] for r in node.results], sizes))

    run_graph(graph, dict(zip(graph.inputs, given, strict=True)), {}, sizes, watch)
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)
def test_reference_means_what_numpy_says(case: Case) -> None:
    for node, read, made, sizes in nodes_with_values(case):
        oracle = ORACLES.get(node.op.name)
        if oracle is None:
            assert node.op.name in ELSEWHERE
            continue
        wanted = inspect.signature(oracle).parameters
        known = {"out": made[0], "sizes": sizes, "regions": node.regions}
        more = {k: v for k, v in known.items() if k in wanted}
        expected = oracle(node.attrs, *read, **more)
        several = expected if isinstance(expected, tuple) else (expected,)
        for result, m, e in zip(node.results, made, several, strict=True):
            same_values(m, np.asarray(e), result.dtype.numpy)


def same_values(made: Array, expected: Array, dtype: Any) -> None:
    """Compare what reference made with what an oracle says."""
    assert made.shape == expected.shape
    assert made.dtype == dtype
    if made.dtype.kind == "f":
        close = 1e-13 if made.dtype == np.float64 else 1e-6
        np.testing.assert_allclose(made, expected, close, close)
    else:
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.op in ("fused", "custom_gradient")],
    ids=lambda c: c.id,
)
def test_region_means_its_inside(case: Case) -> None:
    for node, read, made, _ in nodes_with_values(case):
        if not node.regions:
            continue
        inputs = [
            gc.input(f"a{i}", t.shape, t.dtype) for i, t in enumerate(node.inputs)
        ]
        outside = inline(node.regions[0], inputs)
        found = gc.evaluate(list(outside), dict(zip(inputs, read, strict=True)))
        for f, m in zip(found, made, strict=True):
            np.testing.assert_array_equal(f, m)


def test_batches_hold_all_their_cases() -> None:
    cases = [c for c in CASES if c.op == "add"]
    both = batch(cases)
    assert list(both.labels) == [c.id for c in cases]
    sizes = {"N": 2, "M": 2}
    given = dict(zip(both.inputs, both.arrays(sizes), strict=True))
    assert len(gc.evaluate(list(both.outputs), given)) == len(cases)
