"""Random graphs mean the same at every stage, interpreted and compiled.

The meaning is `reference` on the declared graph in float64. How far float32 may be from
it is measured, not guessed: the graph, taken apart into simple ops, is run again with
every rounding replaced by a random one of float32's size, and what that changes bounds
the error, up to a factor.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from random_loops import LOOPS
from random_ops import OPS
from strategies import RULES, Sample, Value, samples

import graphc as gc
from graphc.backends.cpu import pace
from graphc.backends.reference.interpreter import run_graph
from graphc.control.cond import COND
from graphc.control.scan_op import SCAN, split
from graphc.control.while_loop import WHILE
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.interpret import run_nodes
from graphc.ir.nodes import Node, Region, Tensor, leaf_name
from graphc.ir.program import Program
from graphc.ir.program.interpret import run_program
from graphc.passes import parse_pipeline, run_pipeline
from graphc.passes.decompose import decompose
from graphc.passes.pipeline import GRAPH_PASSES

Array = np.ndarray[Any, Any]
EPS = float(np.finfo(np.float32).eps)
FACTOR = 60.0

ALL = (*RULES, *RULES, *OPS, *OPS, *LOOPS, *LOOPS)

# Ops whose results are not rounded.
EXACT = {
    "neg", "abs", "sign", "maximum", "minimum", "relu", "where",
    "broadcast_to", "reshape", "transpose", "slice", "pad", "concatenate",
    "take", "one_hot", "constant", "dim", "iota", "cast", "stop_gradient",
    "max", "min", "argmax", "equal", "not_equal", "less", "less_equal",
    "greater", "greater_equal", "logical_and", "logical_or", "logical_not",
    "random_uniform", "random_normal",
}  # fmt: skip
# Round while they add up.
INNER = {
    "sum", "matmul", "scatter_add", "conv", "conv_input_gradient", "prod", "cumsum",
    "conv_weight_gradient", "cumprod", "linear_recurrence", "window_sum", "add_at",
    "add_along_axis", "resize", "resize_gradient", "cholesky", "solve",
    "solve_triangular", "det", "slogdet",
}  # fmt: skip


def wide_values(sample: Sample) -> tuple[Graph, dict[Tensor, Array]]:
    graph = sample.graph(wide=True)
    return graph, {v.wide: v.array for v in (*sample.inputs, *sample.states)}


def truth(sample: Sample) -> list[Array]:
    """Return outputs and new states by `reference` in float64."""
    graph, given = wide_values(sample)
    outputs, updates = run_graph(graph, given, {}, sample.sizes)
    return [*outputs, *updates]


def noise(sample: Sample, expected: list[Array]) -> list[Array]:
    """Return how far float32 may take each element from the truth."""
    graph, given = wide_values(sample)
    graph = decompose(graph)
    spread = [np.zeros(e.shape) for e in expected]
    for seed in range(6):
        values = shaken(graph, given, sample.sizes, np.random.default_rng(seed))
        for most, value, e in zip(spread, values, expected, strict=True):
            if e.dtype.kind != "f":
                np.testing.assert_array_equal(value, e, "the sample is near a tie")
            else:
                np.maximum(most, np.abs(value - e), out=most)
    return [
        FACTOR * (most + most.mean() * 0.1 + EPS * np.abs(e) + 1e-30)
        if e.size
        else most
        for most, e in zip(spread, expected, strict=True)
    ]


def shaken(
    graph: Graph,
    given: Mapping[Tensor, Array],
    sizes: Mapping[str, int],
    rng: np.random.Generator,
) -> list[Array]:
    """Run a graph with random roundings of float32's size."""
    values = dict(given)
    _shake_nodes(graph.nodes, values, sizes, rng)
    return [values[t] for t in graph.roots]


def _shake(a: Array, rng: np.random.Generator) -> Array:
    if a.dtype.kind != "f":
        return a
    with np.errstate(all="ignore"):
        exact = a.astype(np.float32) == a  # what float32 holds was not rounded
        return np.where(exact, a, a * (1 + EPS * rng.uniform(-1.5, 1.5, a.shape)))


def _shake_nodes(
    nodes: Iterable[Node],
    values: dict[Tensor, Array],
    sizes: Mapping[str, int],
    rng: np.random.Generator,
) -> None:
    for node in nodes:
        name = node.op.name
        if name in _TURNS:
            given = [values[t] for t in node.inputs]

            def run(region: Region, args: Sequence[Array]) -> list[Array]:
                local = dict(zip(region.args, map(np.asarray, args), strict=True))
                _shake_nodes(region.nodes, local, sizes, rng)
                return [local[t] for t in region.outputs]

            values.update(
                zip(node.results, _TURNS[name](node, given, sizes, run), strict=True)
            )
            continue
        if name in INNER:
            local = {t: _shake(values[t], rng) for t in node.inputs}
            run_nodes([node], local, sizes)
            values.update({r: local[r] for r in node.results})
        else:
            run_nodes([node], values, sizes)
        if name not in EXACT:
            for r in node.results:
                values[r] = np.asarray(_shake(values[r], rng))


Run = Callable[[Region, Sequence[Array]], list[Array]]


def _scan_turns(
    node: Node, given: list[Array], sizes: Mapping[str, int], run: Run
) -> list[Array]:
    carry, xs, consts = split(node.attrs, given)
    n, (region,) = node.attrs.carries, node.regions
    count = evaluate(node.attrs.length, sizes)
    stacks = [
        np.zeros([evaluate(s, sizes) for s in r.shape], r.dtype.numpy)
        for r in node.results[n:]
    ]
    order = range(count)
    for t in reversed(order) if node.attrs.reverse else order:
        found = run(region, [*carry, *(x[t] for x in xs), *consts])
        carry = found[:n]
        for stack, y in zip(stacks, found[n:], strict=True):
            stack[t] = y
    return [*carry, *stacks]


def _cond_turns(node: Node, given: list[Array], _: Any, run: Run) -> list[Array]:
    return run(node.regions[0 if given[0] else 1], given[1:])


def _while_turns(node: Node, given: list[Array], _: Any, run: Run) -> list[Array]:
    n = node.attrs.carries
    carry, consts = given[:n], given[n:]
    test, body = node.regions
    while run(test, [*carry, *consts])[0]:
        carry = run(body, [*carry, *consts])
    return carry


_TURNS = {SCAN.name: _scan_turns, COND.name: _cond_turns, WHILE.name: _while_turns}


def agree(
    found: list[Array], expected: list[Array], allowed: list[Array], what: str
) -> None:
    assert len(found) == len(expected)
    for i, (f, e, a) in enumerate(zip(found, expected, allowed, strict=True)):
        where = f"{what}, result {i}"
        assert f.shape == e.shape, where
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(f, e, where)
            continue
        far = ~(np.abs(f.astype(np.float64) - e) <= a)
        if far.any():
            at = np.unravel_index(int(np.argmax(far)), far.shape)
            raise AssertionError(
                f"{where}: {far.sum()} of {far.size} elements are too far off; at {at} "
                f"{f[at]!r} instead of {e[at]!r}, allowed is {a[at]:.2g}"
            )


def check(sample: Sample, threads: int | None = None) -> None:
    """Compare every stage of a sample with the truth."""
    expected = truth(sample)
    allowed = noise(sample, expected)
    declared = sample.graph()
    arrays = sample.arrays
    old = [p.value for p in sample.parameters()]
    by_tensor = dict(zip(declared.inputs, arrays, strict=True))
    held = dict(zip((v.narrow for v in sample.states), old, strict=True))
    updated = {s.narrow: v.narrow for s, v in sample.updates}

    def interpreted(graph: Graph) -> list[Array]:
        outputs, updates = run_graph(graph, by_tensor, held, sample.sizes)
        return [*outputs, *updates]

    agree(interpreted(declared), expected, allowed, "declared")
    step = gc.compile(
        list(declared.inputs),
        [v.narrow for v in sample.outputs],
        updated,
        threads=threads,
    )
    for name, level in step.stages:
        if isinstance(level, Graph):
            agree(interpreted(level), expected, allowed, f"after {name}")
        else:
            assert isinstance(level, Program)
            buffers = run_program(
                level,
                {
                    **dict(zip(level.inputs, arrays, strict=True)),
                    **{leaf_name(t): held[t] for t in level.state_tensors},
                },
                sample.sizes,
            )
            made = [buffers[n] for n in level.outputs]
            made += [buffers[leaf_name(s)] for s, _ in declared.updates]
            agree(made, expected, allowed, f"program after {name}")
    outputs = step(*arrays)
    found = [*outputs, *(p.value for p in updated if isinstance(p, gc.Parameter))]
    agree(found, expected, allowed, "cpu")
    for p, before in zip(sample.parameters(), old, strict=True):
        if p not in updated:
            np.testing.assert_array_equal(p.value, before)


def describe(sample: Sample) -> str:
    """Return what is needed to run a failing sample again by hand."""
    lines = [sample.graph().text(), f"sizes = {sample.sizes}"]
    lines += [f"{v.wide.node.attrs.name} = {v.array.tolist()!r}" for v in sample.inputs]
    return "\n".join(lines)


def explained(sample: Sample, threads: int | None = None) -> None:
    try:
        check(sample, threads)
    except Exception:
        note(describe(sample))
        raise


COMMON: dict[str, Any] = {
    "deadline": None,
    "derandomize": True,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@settings(max_examples=25, **COMMON)
@given(samples())
def test_random_graphs_mean_the_same_at_every_stage(sample: Sample) -> None:
    explained(sample)


@settings(max_examples=15, **COMMON)
@given(samples(ALL))
def test_random_loops_and_new_ops_mean_the_same_at_every_stage(sample: Sample) -> None:
    explained(sample)


@pytest.mark.long
@settings(max_examples=int(os.environ.get("GRAPHC_FUZZ", "500")), **COMMON)
@given(samples(ALL))
def test_many_random_graphs_mean_the_same_at_every_stage(sample: Sample) -> None:
    explained(sample)


def run(sample: Sample, wide: bool = False, **options: Any) -> list[Array]:
    """Compile a sample for the CPU and run it once; returns outputs and new states."""

    def side(v: Value) -> Tensor:
        return v.wide if wide else v.narrow

    step = gc.compile(
        [side(v) for v in sample.inputs],
        [side(v) for v in sample.outputs],
        {side(s): side(v) for s, v in sample.updates},
        **options,
    )
    arrays = [v.array for v in sample.inputs] if wide else sample.arrays
    outputs = step(*arrays)
    return [*outputs, *(side(s).value for s, _ in sample.updates)]  # type: ignore[attr-defined]


@settings(max_examples=40, **COMMON)
@given(samples(ALL))
def test_random_graphs_print_and_parse_at_every_stage(sample: Sample) -> None:
    note(describe(sample))
    declared = sample.graph()
    for level in (
        declared,
        *(s.result for s in run_pipeline(declared, parse_pipeline("default"))),
    ):
        text = level.text()
        if isinstance(level, Graph) and "#" not in text:  # no constant beside the text
            again = gc.parse(text)
            gc.verify(again)
            assert again.text() == text


PASSES = [*GRAPH_PASSES, "fuse{max_inputs=2, max_outputs=1}", "fuse{max_ops=3}"]


@pytest.mark.long
@settings(max_examples=100, **COMMON)
@given(samples(ALL), st.lists(st.sampled_from(PASSES), max_size=6))
def test_any_passes_in_any_order_keep_the_meaning(
    sample: Sample, names: list[str]
) -> None:
    note(describe(sample))
    expected = truth(sample)
    found = run(
        sample, passes=[*names, "lower", "schedule", "place-barriers", "plan-memory"]
    )
    agree(found, expected, noise(sample, expected), f"cpu, {','.join(names)}")


def again(sample: Sample) -> str:
    """Return what a float64 function finds when it is compiled, and run, once more."""
    inputs, outputs = (
        [v.wide for v in side] for side in (sample.inputs, sample.outputs)
    )
    arrays = [v.array for v in sample.inputs]
    step = gc.compile(inputs, outputs)
    found = [step(*arrays), step(*arrays)]
    found.append(gc.compile(inputs, outputs, threads=1)(*arrays))
    values = [str([a.ravel()[:4].tolist() for a in f]) for f in found]
    return "\n".join([*values, step.program.text()])


@pytest.mark.long
@settings(max_examples=60, **COMMON)
@given(samples(ALL))
def test_random_graphs_are_as_good_in_float64(sample: Sample) -> None:
    note(describe(sample))
    expected = truth(sample)
    narrow = EPS / np.finfo(np.float64).eps
    allowed = [2 * a / narrow for a in noise(sample, expected)]
    try:
        agree(run(sample, wide=True), expected, allowed, "cpu, float64")
    except AssertionError as error:
        # What a person who cannot make it fail again needs to know.
        error.add_note(f"once more:\n{again(sample)}")
        raise


@pytest.mark.long
@settings(max_examples=60, **COMMON)
@given(samples(ALL), st.integers(0, 2**16))
def test_nan_and_infinities_go_where_reference_takes_them(
    sample: Sample, seed: int
) -> None:
    note(describe(sample))
    rng = np.random.default_rng(seed)
    arrays = sample.arrays
    for a in arrays:
        if a.size:
            a.flat[rng.integers(a.size)] = rng.choice([np.nan, np.inf, -np.inf])
    step = gc.compile(
        [v.narrow for v in sample.inputs], [v.narrow for v in sample.outputs]
    )
    held = {v.narrow: v.array.astype(np.float32) for v in sample.states}
    given_by = dict(zip(step.graph.inputs, arrays, strict=True))
    expected, _ = run_graph(step.graph, given_by, held, sample.sizes)
    for f, e in zip(step(*arrays), expected, strict=True):
        if e.dtype.kind != "f":
            np.testing.assert_array_equal(f, e)
            continue
        np.testing.assert_array_equal(np.isnan(f), np.isnan(e))
        np.testing.assert_array_equal(f[np.isinf(f)], e[np.isinf(e)])


@pytest.mark.long
@settings(max_examples=60, **COMMON)
@given(samples(ALL))
def test_random_graphs_have_equal_bits_on_two_threads(sample: Sample) -> None:
    note(describe(sample))
    results = []
    old = [p.value for p in sample.parameters()]
    limits = pace.TEAM, pace.BARRIER
    pace.TEAM, pace.BARRIER = -1, 0
    try:
        for threads in (1, 2):
            for p, value in zip(sample.parameters(), old, strict=True):
                p.value = value
            results.append(run(sample, threads=threads))
    finally:
        pace.TEAM, pace.BARRIER = limits
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)
