"""Every op is whole, and means on `reference` what NumPy says of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import ops_table
import pytest
from ops_table import CASES, Case, arrays, batch, build

import graphc as gc
from graphc.backends.reference.interpreter import run_graph
from graphc.ir.binding import bind_sizes
from graphc.ir.interpret import Values
from graphc.ir.nodes import Node
from graphc.ir.op import (
    OPS,
    Decomposed,
    NonDifferentiable,
    Op,
    Pointwise,
    Reduction,
    ScatterAdd,
    Unsupported,
    View,
)
from graphc.ops.regions import inline

Array = np.ndarray[Any, Any]
OWN = [op for op in OPS.values() if not op.leaf and ops_table._own(op)]
LOWERINGS = (Pointwise, Reduction, Decomposed, View, ScatterAdd, Unsupported)

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

Oracle = Callable[..., Any]


def _elementwise() -> dict[str, Oracle]:
    same = (
        "add maximum minimum exp log log1p expm1 sqrt tanh sign abs equal not_equal "
        "less less_equal greater greater_equal logical_and logical_or logical_not where"
    )
    found: dict[str, Oracle] = {}
    for name in same.split():
        found[name] = lambda a, *x, f=name: getattr(np, f)(*x)
    found |= {
        "sub": lambda a, x, y: np.subtract(x, y),
        "mul": lambda a, x, y: np.multiply(x, y),
        "div": lambda a, x, y: np.true_divide(x, y),
        "pow": lambda a, x, y: np.float_power(x, y),
        "neg": lambda a, x: np.negative(x),
        "rsqrt": lambda a, x: 1 / np.sqrt(x),
        "sigmoid": lambda a, x: np.exp(-np.logaddexp(0, -x)),
        "relu": lambda a, x: np.where(x > 0, x, 0),
        "softplus": lambda a, x: np.logaddexp(0, x),
    }
    return found


def _axes(f: Callable[..., Any]) -> Oracle:
    return lambda a, x: f(x, axis=a.axis, keepdims=a.keepdims)


def _argmax(a: Any, x: Array) -> Array:
    """Search row by row."""
    outer = [n for i, n in enumerate(x.shape) if i not in a.axis]
    found = np.zeros(outer, np.int32)
    for point in np.ndindex(*outer):
        rest = iter(point)
        key = tuple(slice(None) if i in a.axis else next(rest) for i in range(x.ndim))
        found[point] = max(enumerate(x[key].ravel()), key=lambda item: item[1])[0]
    return np.expand_dims(found, a.axis) if a.keepdims else found


def _normalised(x: Array, axis: Any) -> Array:
    e = np.exp(x.astype(np.float64))
    return e / e.sum(axis=axis, keepdims=True)


def _place(i: int, n: int) -> int:
    return min(max(i + n if i < 0 else i, 0), n - 1)


def _take(a: Any, x: Array, i: Array) -> Array:
    wrapped = np.array([_place(int(j), x.shape[a.axis]) for j in i.ravel()], int)
    return np.take(x, wrapped.reshape(i.shape), axis=a.axis)


def _scatter_add(a: Any, x: Array, i: Array, *, out: Array) -> Array:
    found = np.zeros_like(out)
    middle = slice(a.axis, a.axis + i.ndim)
    for at in np.ndindex(*x.shape):
        row = _place(int(i[at[middle]]), out.shape[a.axis])
        found[(*at[: a.axis], row, *at[a.axis + i.ndim :])] += x[at]
    return found


def _slice(a: Any, x: Array, *, out: Array, sizes: dict[str, int]) -> Array:
    found = np.zeros_like(out)
    start = [gc.ir.dims.evaluate(s, sizes) for s in a.start]
    for at in np.ndindex(*out.shape):
        source = tuple(b + i * s for b, i, s in zip(start, at, a.step, strict=True))
        found[at] = x[source]
    return found


def _unslice(a: Any, x: Array, *, out: Array, sizes: dict[str, int]) -> Array:
    found = np.zeros_like(out)
    start = [gc.ir.dims.evaluate(s, sizes) for s in a.start]
    for at in np.ndindex(*x.shape):
        target = tuple(b + i * s for b, i, s in zip(start, at, a.step, strict=True))
        found[target] = x[at]
    return found


def _iota(a: Any, *, out: Array) -> Array:
    found = np.zeros_like(out)
    for at in np.ndindex(*out.shape):
        found[at] = at[a.axis]
    return found


ORACLES: dict[str, Oracle] = {
    **_elementwise(),
    "sum": lambda a, x: np.sum(x, axis=a.axis, keepdims=a.keepdims),
    "max": _axes(np.max),
    "min": _axes(np.min),
    "mean": _axes(np.mean),
    "argmax": _argmax,
    "var": lambda a, x: np.var(x, axis=a.axis, keepdims=a.keepdims, ddof=a.ddof),
    "logsumexp": lambda a, x: np.log(
        np.sum(np.exp(x), axis=a.axis, keepdims=a.keepdims)
    ),
    "norm": lambda a, x: np.sqrt(np.sum(x**2, axis=a.axis, keepdims=a.keepdims)),
    "softmax": lambda a, x: _normalised(x, a.axis),
    "log_softmax": lambda a, x: np.log(_normalised(x, a.axis)),
    "broadcast_to": lambda a, x, *, out: np.broadcast_to(x, out.shape),
    "reshape": lambda a, x, *, out: x.reshape(out.shape),
    "transpose": lambda a, x: np.transpose(x, a.axes),
    "slice": _slice,
    "unslice": _unslice,
    "concatenate": lambda a, *x: np.concatenate(x, a.axis),
    "take": _take,
    "scatter_add": _scatter_add,
    "one_hot": lambda a, i, *, out: (
        np.eye(out.shape[-1])[np.clip(i, 0, 3)] * ((i >= 0) & (i < 4))[..., None]
    ),
    "matmul": lambda a, x, y: np.einsum("...ij,...jk->...ik", x, y),
    "full": lambda a, *, out: np.full(out.shape, a.value),
    "constant": lambda a: a.value.value,
    "dim": lambda a, *, sizes: np.array(gc.ir.dims.evaluate(a.size, sizes)),
    "iota": _iota,
    "cast": lambda a, x, *, out: x.astype(out.dtype),
    "stop_gradient": lambda a, x: x,
}
ELSEWHERE = {
    "random_uniform": "tests/graphc/ops/test_random.py",
    "random_normal": "tests/graphc/ops/test_random.py",
    "fused": "test_region_means_its_inside",
    "custom_gradient": "test_region_means_its_inside",
}


def test_every_op_is_compared_with_numpy() -> None:
    assert {op.name for op in OWN} == set(ORACLES) | set(ELSEWHERE)


def nodes_with_values(
    case: Case,
) -> list[tuple[Node, list[Array], Array, dict[str, int]]]:
    """Return each node of a case's graph with what it reads and makes on reference."""
    graph = build(case, "float64")
    given = arrays(case, "float64")
    shapes = [a.shape for a in given]
    sizes = bind_sizes(zip(graph.inputs, shapes, strict=True), graph.guards)
    found = []

    def watch(node: Node, values: Values) -> None:
        read = [values[t] for t in node.inputs]
        found.append((node, read, values[node.results[0]], sizes))

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
        more = {k: v for k, v in {"out": made, "sizes": sizes}.items() if k in wanted}
        expected = np.asarray(oracle(node.attrs, *read, **more))
        assert made.shape == expected.shape
        assert made.dtype == node.results[0].dtype.numpy
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
        outside = inline(node.regions[0], inputs)[0]
        found = gc.evaluate(outside, dict(zip(inputs, read, strict=True)))
        np.testing.assert_array_equal(found, made)


def test_batches_hold_all_their_cases() -> None:
    cases = [c for c in CASES if c.op == "add"]
    both = batch(cases)
    assert list(both.labels) == [c.id for c in cases]
    sizes = {"N": 2, "M": 2}
    given = dict(zip(both.inputs, both.arrays(sizes), strict=True))
    assert len(gc.evaluate(list(both.outputs), given)) == len(cases)
