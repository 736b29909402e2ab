"""What CUDA kernels are compared in; run as a program, in the simulator.

    NUMBA_ENABLE_CUDASIM=1 python scenarios.py training

Each function raises where `backend="cuda"` and `backend="reference"` differ.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.backends.cuda.backend import CudaBackend
from graphc.errors import CheckError, CompileError
from graphc.ir.program import Buffer, Call, LoopAxis, Nest, Phase, Program, Store
from graphc.ir.program.interpret import run_program
from graphc.ir.scalar import PRIMITIVES, apply, axis, cast, load
from graphc.ir.target import Target
from graphc.ir.types import DType, bool_, float32, float64, int32, int64
from graphc.passes import parse_pipeline, run_pipeline

Array = np.ndarray[Any, Any]


def compare(found: Any, expected: Any, what: str = "", ulps: int = 16) -> None:
    """Compare two results within some roundings; NaN is equal to NaN."""
    found, expected = np.asarray(found), np.asarray(expected)
    assert found.dtype == expected.dtype, (what, found.dtype, expected.dtype)
    assert found.shape == expected.shape, (what, found.shape, expected.shape)
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, what)
        return
    eps = float(np.finfo(expected.dtype).eps)
    finite = np.abs(expected[np.isfinite(expected)])
    np.testing.assert_allclose(
        found,
        expected,
        rtol=ulps * eps,
        atol=ulps * eps * float(min(finite.max(initial=1.0), 10.0)),
        err_msg=what,
    )


def agree(inputs: Sequence[Any], outputs: Any, arrays: Sequence[Array]) -> None:
    """Compare a function's outputs on both backends."""
    cuda = graphc.compile(inputs, outputs, backend="cuda")(*arrays)
    reference = graphc.compile(inputs, outputs, backend="reference")(*arrays)
    for i, (c, r) in enumerate(zip(cuda, reference, strict=True)):
        compare(c, r, f"output {i}")


def random(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- a training step ----------------------------------------------------------------


def network(widths: Sequence[int], backend: str) -> tuple[Any, list[Any]]:
    """Return a training step with momentum, and its states."""
    x = graphc.input("x", ("N", widths[0]))
    y = graphc.input("y", ("N",), dtype="int32")
    weights, slots = [], []
    h: Any = x
    for i, (n, m) in enumerate(itertools.pairwise(widths)):
        w = graphc.parameter(f"w{i}", (n, m), seed=1)
        b = graphc.parameter(f"b{i}", (m,), init="zeros")
        h = h @ w + b
        h = graphc.relu(h) if i < len(widths) - 2 else h
        weights += [w, b]
        slots += [
            graphc.variable(f"{v.name}.slot", np.zeros(v.shape, np.float32))
            for v in (w, b)
        ]
    rows = graphc.log_softmax(h, axis=1) * graphc.one_hot(y, widths[-1])
    loss = -graphc.mean(graphc.sum(rows, axis=1))
    new = [0.9 * v + g for v, g in zip(slots, graphc.grad(loss, weights), strict=True)]
    updates = dict(zip(slots, new, strict=True))
    updates |= {w: w - 0.1 * v for w, v in zip(weights, new, strict=True)}
    outputs = [loss, graphc.argmax(h, axis=1)]
    step = graphc.compile([x, y], outputs, updates=updates, backend=backend)
    return step, [*weights, *slots]


def training() -> None:
    """Two steps of a small network, the second of another size."""
    steps = {b: network((6, 4, 3), b) for b in ("cuda", "reference")}
    for n in (5, 2):
        xs, ys = random(n, 6, seed=n), (np.arange(n) % 3).astype(np.int32)
        found = [steps[b][0](xs, ys) for b in ("cuda", "reference")]
        for a, b in zip(*found, strict=True):
            compare(a, b, f"N={n}")
        for a, b in zip(steps["cuda"][1], steps["reference"][1], strict=True):
            compare(a.value, b.value, f"{a.name}, N={n}")


# --- the primitives -----------------------------------------------------------------

# (Not 0.5: NumPy's power of the scalars -inf and 0.5 is NaN, that of arrays inf.)
HARD = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.25, -2.5, 3.0, -7.0, 88.0]
HARD += [-88.0, 1e-30, 4e9, -4e9, 1e19, -1e19]
HARD_INTS = [0, 1, -1, 2, -2, 7, -7, 100, -(2**31), 2**31 - 1]
FLOATS_ONLY = {"exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "tanh", "cos", "pow"}
FLOATS_ONLY |= {"log2", "log10", "sin", "arctan", "erf", "erfc"}
FLOATS_ONLY |= {"floor", "ceil", "trunc", "round"}
UNARY = [p for p in PRIMITIVES.values() if p.arity == 1]
BINARY = [p for p in PRIMITIVES.values() if p.arity == 2]


def primitive_program(dtype: DType) -> Program:
    """Return a program whose only nest applies every primitive of a dtype."""
    i = axis("i0")
    a, b = load("a", (i,), dtype), load("b", (i,), dtype)
    values: dict[str, Any] = {}
    for p in (*UNARY, *BINARY):
        logical = p.name.startswith("logical")
        if logical or (p.name in FLOATS_ONLY and not dtype.is_float):
            continue
        if p.name == "div" and not dtype.is_float:
            continue
        values[p.name] = apply(p.name, *(a, b)[: p.arity])
    for p in ("logical_and", "logical_or"):
        values[p] = apply(p, apply("less", a, b), apply("equal", a, a))
    values["logical_not"] = apply("logical_not", apply("less", a, b))
    values["select"] = apply("select", apply("less", a, b), a, b)
    for other in (float32, float64, int32, int64, bool_):
        if other is not dtype:
            values[f"to_{other}"] = cast(a, other)
    if dtype is int64:
        for word in (0, 1):
            values[f"philox{word}"] = apply(f"philox{word}", 2**40 + 5, 3, 2**33 + 1, a)
    buffers = {n: Buffer(n, dtype, ("N",), "input") for n in ("a", "b")}
    stores = []
    for name, value in values.items():
        buffers[name] = Buffer(name, value.dtype, ("N",), "output")
        stores.append(Store(name, (i,), value))
    nest = Nest(
        "primitives", (LoopAxis("i0", "N"),), (Phase((), stores=tuple(stores)),)
    )
    outputs = tuple(values)
    program = Program(
        "step", _sized(buffers), (_sized_nest(nest),), ("a", "b"), (), outputs
    )
    target = Target("cuda", tiles=True)
    steps = parse_pipeline("schedule,place-barriers,plan-memory")
    found = run_pipeline(program, steps, target)[-1].result
    assert isinstance(found, Program)
    return found


def _size() -> Any:
    return graphc.input("size", ("N",)).shape[0]


def _sized(buffers: dict[str, Buffer]) -> dict[str, Buffer]:
    n = _size()
    return {k: Buffer(k, b.dtype, (n,), b.space) for k, b in buffers.items()}


def _sized_nest(nest: Nest) -> Nest:
    return nest.replace(axes=(LoopAxis("i0", _size()),))


def hard_pairs(dtype: DType) -> tuple[Array, Array]:
    """Return all pairs of hard values of a dtype."""
    if dtype.is_float:
        values = np.array(HARD, dtype.numpy)
    else:
        values = np.array(HARD_INTS, dtype.numpy)
    a, b = np.meshgrid(values, values)
    return a.ravel(), b.ravel()


def primitives() -> None:
    """Every primitive on hard values, for each dtype."""
    from graphc.backends.cuda.backend import CudaBackend

    for dtype in (float32, float64, int32, int64):
        program = primitive_program(dtype)
        a, b = hard_pairs(dtype)
        runner = CudaBackend().build(None, program, ())  # type: ignore[arg-type]
        found = runner.bind({"N": a.size}).run([a, b], None)
        expected = run_program(program, {"a": a, "b": b}, {"N": a.size})
        for name, array in zip(program.outputs, found, strict=True):
            ulps = 4 if name in FLOATS_ONLY else 0
            compare(array, expected[name], f"{name} of {dtype}", ulps)


# --- shapes of kernels --------------------------------------------------------------


def tiles() -> None:
    """Contractions whose sizes are no multiples of a tile's."""
    x, w = graphc.input("x", ("N", "K")), graphc.input("w", ("K", "M"))
    b = graphc.input("b", ("M",))
    outputs = [graphc.relu(x @ w + b)]
    cuda = graphc.compile([x, w, b], outputs, backend="cuda")
    reference = graphc.compile([x, w, b], outputs, backend="reference")
    for n, k, m in ((1, 1, 1), (15, 17, 16), (17, 33, 1), (1, 15, 33), (3, 0, 2)):
        given = random(n, k, seed=1), random(k, m, seed=2), random(m, seed=3)
        compare(cuda(*given)[0], reference(*given)[0], f"{n} x {k} x {m}")
    assert len(cuda.kernels) == 1


def batches() -> None:
    """Batched contractions, their gradients, and one in float64."""
    x, w = graphc.input("x", ("B", 3, 4)), graphc.input("w", ("B", 4, 5))
    loss = graphc.sum(graphc.tanh(x @ w))
    wide = graphc.input("wide", (2, 3), "float64")
    outputs = [loss, *graphc.grad(loss, [x, w]), wide.T @ wide]
    given = (random(2, 3, 4), random(2, 4, 5, seed=1), random(2, 3).astype(np.float64))
    agree([x, w, wide], outputs, given)


def rows() -> None:
    """Rows longer and shorter than a block, and of one element."""
    x = graphc.input("x", ("N", "D"))
    outputs = [
        graphc.softmax(x),
        graphc.argmax(x, 1),
        graphc.sum(x),
        graphc.min(x, 0),
        graphc.var(x, 1),
        graphc.argmin(x, 1),
        graphc.prod(x, 1),
        graphc.any(x > 8, 1),
        graphc.all(x < 8),
    ]
    cuda = graphc.compile([x], outputs, backend="cuda")
    reference = graphc.compile([x], outputs, backend="reference")
    for n, d in ((3, 17), (4, 1), (1, 16)):
        _equal_rows(cuda, reference, n, d)
    outputs = [graphc.sum(x, 1), graphc.argmax(x, 1)]
    cuda = graphc.compile([x], outputs, backend="cuda")
    reference = graphc.compile([x], outputs, backend="reference")
    _equal_rows(cuda, reference, 1, 130)


def _equal_rows(cuda: Any, reference: Any, n: int, d: int) -> None:
    given = random(n, d)
    given[:, d // 2] = given[:, -1] = 9.0  # equal elements: the first one counts
    for a, b in zip(cuda(given), reference(given), strict=True):
        compare(a, b, f"{n} x {d}")


def nonfinite() -> None:
    """NaN and infinities through reductions, maxima and relu."""
    x = graphc.input("x", ("N", 5))
    outputs = [
        graphc.max(x, 1),
        graphc.min(x, 1),
        graphc.argmax(x, 1),
        graphc.argmin(x, 1),
        graphc.prod(x, 1),
        graphc.any(x, 1),
        graphc.relu(x),
        graphc.maximum(x, 0.5),
        graphc.softmax(x),
        graphc.logsumexp(x, 1),
    ]
    given = np.zeros((6, 5), np.float32)
    given[0, 3] = given[0, 4] = np.nan
    given[1, 2] = np.inf
    given[2] = -np.inf
    given[3, 1] = -np.inf
    given[4] = np.nan
    agree([x], outputs, [given])


def indexing() -> None:
    """Gathers, their gradients, and concatenation with its own."""
    table, i = graphc.input("table", ("V", 3)), graphc.input("i", ("M",), "int32")
    taken = graphc.take(table, i, axis=0)
    both = graphc.concatenate([taken, table], axis=0)
    loss = graphc.sum(both * both)
    outputs = [taken, both, graphc.one_hot(i, 4), *graphc.grad(loss, [table])]
    given = random(4, 3), np.array([0, 2, 2, -1, 9, 2], np.int32)
    agree([table, i], outputs, given)


def checks() -> None:
    """Writing by index, where the last one stays; a refused call changes nothing."""
    table = graphc.parameter("table", (4, 3), seed=0)
    i = graphc.input("i", ("M",), "int32")
    put = graphc.index_update(table, i, graphc.iota((*i.shape, 3), 0, "float32"))
    loss = graphc.sum(table[i, i % 3] ** 2)
    updates = {table: put - graphc.grad(loss, table)}
    step = graphc.compile([i], [put, loss], updates, backend="cuda", check=True)
    expected = graphc.evaluate([put, loss], {i: [1, 3, 1, -1]})
    for a, b in zip(step([1, 3, 1, -1]), expected, strict=True):
        compare(a, b)
    before = table.value
    with pytest.raises(CheckError, match="index 4 is out of range for axis 0"):
        step([0, 4])
    np.testing.assert_array_equal(table.value, before)


def draws() -> None:
    """Random numbers have equal bits; normal ones agree within roundings."""
    x, s = graphc.input("x", ("N", 7)), graphc.input("s", (), "int64")
    exact = [
        graphc.dropout(x, 0.4, seed=7, step=s, stream=3),
        graphc.uniform(x.shape, seed=2**40 + 1, step=s, stream=5),
        graphc.uniform((9,), dtype="float64", seed=1, stream=6),
        graphc.bernoulli(0.3, (11,), step=s, stream=8),
    ]
    near = [graphc.normal(x.shape, seed=3, stream=4, step=s)]
    given = random(5, 7), np.array(2**33 + 12, np.int64)
    found = [
        graphc.compile([x, s], [*exact, *near], backend=b)(*given)
        for b in ("cuda", "reference")
    ]
    for k, (a, b) in enumerate(zip(*found, strict=True)):
        compare(a, b, f"draw {k}", ulps=0 if k < len(exact) else 4)


def states() -> None:
    """A swap of two states; a step that fails leaves them; no PTX in the simulator."""
    a = graphc.parameter("a", init=np.array([1, 2], np.float32))
    b = graphc.parameter("b", init=np.array([3, 4], np.float32))
    x = graphc.input("x", (2,))
    step = graphc.compile([x], a + x, updates={a: b, b: a}, backend="cuda")
    assert step([10.0, 20.0]).tolist() == [11.0, 22.0]
    assert (a.value.tolist(), b.value.tolist()) == ([3.0, 4.0], [1.0, 2.0])
    out = np.zeros(2, np.float32)
    assert step([0.0, 0.0], out=out) is out
    assert out.tolist() == [3.0, 4.0]
    with pytest.raises(graphc.GraphcError, match="simulator"):
        _ = step.kernels[0].ptx


def loops() -> None:
    """Programs with loops and branches, built by hand."""
    found = _shared_module("loop_programs")
    for name, make in found.SAMPLES.items():
        sample = make()
        cuda = CudaBackend()
        made = found.prepare(sample.program, cuda.target)
        for sizes in sample.sizes:
            if max(sizes.values()) > 20:
                continue
            given = sample.given(sizes)
            held = [SimpleNamespace(array=given[n].copy()) for n in made.states]
            runner = cuda.build(graphc.Graph.build([], []), made, held)
            out = runner.bind(sizes).run([given[n] for n in made.inputs], None)
            expected = run_program(sample.program, given, sizes)
            for n, a in (
                *zip(made.outputs, out, strict=True),
                *((n, s.array) for n, s in zip(made.states, held, strict=True)),
            ):
                compare(a, expected[n], f"{name}, {n}, {sizes}", ulps=64)


def ops() -> None:
    """Every case of the table of ops; those that need a routine are refused."""
    table = _shared_module("ops_table")
    for case in table.CASES:
        graph, given = table.build(case), table.arrays(case)
        step = graphc.compile(graph, backend="reference")
        calls = [t.routine for t in step.program.tasks if isinstance(t, Call)]
        if calls:
            with pytest.raises(CompileError, match=f"no routine '{calls[0]}'"):
                graphc.compile(graph, backend="cuda")
            continue
        cuda = graphc.compile(graph, backend="cuda")(*given)
        reference = step(*given)
        if not isinstance(reference, list):
            cuda, reference = [cuda], [reference]
        for a, b in zip(cuda, reference, strict=True):
            compare(a, b, case.id, ulps=32)


def _shared_module(name: str) -> Any:
    """Return a module or package of the folder `tests`."""
    folder = Path(__file__).parents[2] / name
    package = folder.is_dir()
    spec = importlib.util.spec_from_file_location(
        name,
        folder / "__init__.py" if package else folder.with_suffix(".py"),
        submodule_search_locations=[str(folder)] if package else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


QUICK = (indexing, checks, draws, states, nonfinite, loops)
LONG = (training, primitives, tiles, batches, rows, ops)
SCENARIOS = {f.__name__: f for f in (*QUICK, *LONG)}

if __name__ == "__main__":
    for name in sys.argv[1:]:
        SCENARIOS[name]()
