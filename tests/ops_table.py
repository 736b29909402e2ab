"""One table of small calls for every op, which drives the tests of all of them.

    for case in CASES: build(case) is its Graph, arrays(case) are inputs for it

Samples keep off ties: elements of one input are distinct, those of the inputs of one
case differ from each other, and none is 0 where the range is symmetric. So gradients,
comparisons and extrema can be compared without luck.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Region, Tensor, make, make1
from graphc.ir.op import OPS
from graphc.ir.types import as_dtype
from graphc.ops.creation import DIM, IOTA, Iota
from graphc.ops.indexing import SCATTER_ADD, Scatter
from graphc.ops.regions import FUSED
from graphc.ops.shape import UNSLICE, Unslice

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Spec:
    """An input: name, shape, dtype, and the range of its sample (ints: below high)."""

    name: str
    shape: tuple[int | str, ...]
    dtype: str = "float32"
    low: float = -3.0
    high: float = 3.0


@dataclass(frozen=True)
class Case:
    """A call of an op. function: tensors, one for each spec -> a tensor or several."""

    op: str
    name: str
    function: Callable[..., Tensor | tuple[Tensor, ...]]
    inputs: tuple[Spec, ...] = ()
    sizes: Mapping[str, int] = field(default_factory=lambda: {"N": 5, "M": 3})

    @property
    def id(self) -> str:
        """The name of the test."""
        return f"{self.op}-{self.name}"


def tensors(case: Case, dtype: str | None = None, prefix: str = "") -> list[Tensor]:
    """Return fresh inputs; `dtype` replaces the float dtypes."""
    return [gc.input(prefix + s.name, s.shape, _dtype(s, dtype)) for s in case.inputs]


def build(case: Case, dtype: str | None = None) -> Graph:
    """Return the graph of a case."""
    inputs = tensors(case, dtype)
    found = case.function(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    return Graph.build(inputs, outputs, name=case.op)


def arrays(case: Case, dtype: str | None = None, seed: int = 0) -> list[Array]:
    """Return a sample of the inputs, by the case's own sizes."""
    start = zlib.crc32(case.id.encode()) + seed
    rng = np.random.default_rng(start)
    return [_sample(s, i, case.sizes, rng, dtype) for i, s in enumerate(case.inputs)]


def _dtype(spec: Spec, dtype: str | None) -> str:
    return dtype if dtype and spec.dtype.startswith("float") else spec.dtype


def _sample(
    spec: Spec,
    which: int,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    dtype: str | None,
) -> Array:
    shape = tuple(sizes[s] if isinstance(s, str) else s for s in spec.shape)
    kind = as_dtype(_dtype(spec, dtype)).numpy
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if not spec.dtype.startswith("float"):
        return rng.integers(int(spec.low), int(spec.high), shape).astype(kind)
    # One element in each of n equal parts of the range, each input at its own place.
    n = int(np.prod(shape))
    within = 0.1 + 0.15 * (which % 3) + rng.uniform(0, 0.05, n)
    parts = (rng.permutation(n) + within) / max(n, 1)
    return (spec.low + (spec.high - spec.low) * parts).reshape(shape).astype(kind)


# --- the table ----------------------------------------------------------------------

X = Spec("x", ("N", 4))
Y = Spec("y", ("N", 4))
ROW = Spec("y", (4,))
FIXED = Spec("x", (3, 4))
CUBE = Spec("x", (2, "N", 3))
SCALAR = Spec("x", ())
WIDE = Spec("x", ("N", 4), "float64")
INTS = Spec("x", ("N", 4), "int32", -5, 6)
MORE_INTS = Spec("y", ("N", 4), "int32", -5, 6)
LONGS = Spec("x", ("N", 4), "int64", -5, 6)
BOOLS = Spec("x", ("N", 4), "bool")
MORE_BOOLS = Spec("y", ("N", 4), "bool")


def _unary() -> list[Case]:
    floats = "neg abs sign exp log log1p expm1 sqrt rsqrt tanh sigmoid relu softplus"
    found = []
    for name in floats.split():
        op = OPS[name]
        assert op.scalar is not None
        low, high = op.scalar.sample
        for case, spec in (("symbolic", X), ("static", FIXED), ("scalar", SCALAR)):
            ranged = Spec(spec.name, spec.shape, spec.dtype, low, high)
            found.append(Case(name, case, op, (ranged,)))
        ranged = Spec("x", ("N",), "float64", low, high)
        found.append(Case(name, "double", op, (ranged,)))
    found += [Case(n, "ints", OPS[n], (INTS,)) for n in ("neg", "abs", "sign", "relu")]
    found.append(Case("logical_not", "symbolic", gc.logical_not, (BOOLS,)))
    return found


def _binary() -> list[Case]:
    found = []
    for name in ("add", "sub", "mul", "div", "maximum", "minimum"):
        op = OPS[name]
        other = Spec("y", ("N", 4), "float32", 0.5, 3.0) if name == "div" else Y
        row = Spec("y", (4,), "float32", other.low, other.high)
        scalar = Spec("y", (), "float32", other.low, other.high)
        ints = Spec("y", ("N", 4), "int32", 1, 6)
        found += [
            Case(name, "same_shape", op, (X, other)),
            Case(name, "broadcast_row", op, (X, row)),
            Case(name, "broadcast_scalar", op, (X, scalar)),
            Case(name, "broadcast_both", op, (Spec("x", ("N", 1)), row)),
            Case(name, "ints", op, (INTS, ints)),
            Case(name, "int_with_float", op, (INTS, other)),
        ]
    positive = Spec("x", ("N", 4), "float32", 0.2, 3.0)
    found += [
        Case("pow", "same_shape", gc.pow, (positive, Y)),
        Case("pow", "square", lambda x: x**2, (X,)),
        Case("pow", "cube", lambda x: x**3, (FIXED,)),
        Case("pow", "broadcast_row", gc.pow, (positive, ROW)),
    ]
    comparisons = "equal not_equal less less_equal greater greater_equal"
    for name in comparisons.split():
        op = OPS[name]
        found += [
            Case(name, "floats", op, (X, Y)),
            Case(name, "ints", op, (INTS, MORE_INTS)),
            Case(name, "broadcast_row", op, (X, ROW)),
        ]
    for name in ("logical_and", "logical_or"):
        found.append(Case(name, "symbolic", OPS[name], (BOOLS, MORE_BOOLS)))
    return found


CONDITION = Spec("c", ("N", 4), "bool")
WHERE = [
    Case("where", "same_shape", gc.where, (CONDITION, X, Y)),
    Case("where", "broadcast", gc.where, (Spec("c", ("N", 1), "bool"), X, ROW)),
    Case("where", "number", lambda c, x: gc.where(c, x, 0.0), (CONDITION, X)),
    Case("where", "ints", gc.where, (CONDITION, INTS, MORE_INTS)),
]


def _reductions() -> list[Case]:
    found = []
    for name in ("sum", "max", "min", "argmax", "mean", "var", "logsumexp", "norm"):
        f: Any = getattr(gc, name)
        found += [
            Case(name, "all", lambda x, f=f: f(x), (X,)),
            Case(name, "axis", lambda x, f=f: f(x, 1), (X,)),
            Case(name, "first_axis", lambda x, f=f: f(x, 0), (X,)),
            Case(name, "keepdims", lambda x, f=f: f(x, 1, keepdims=True), (X,)),
            Case(name, "several_axes", lambda x, f=f: f(x, (0, 2)), (CUBE,)),
            Case(name, "several_kept", lambda x, f=f: f(x, (0, 1), True), (CUBE,)),
            Case(name, "static", lambda x, f=f: f(x, -1), (FIXED,)),
            Case(name, "double", lambda x, f=f: f(x, 0), (WIDE,)),
        ]
    for name in ("sum", "max", "min", "argmax"):
        f = getattr(gc, name)
        found.append(Case(name, "ints", lambda x, f=f: f(x, 1), (INTS,)))
    found += [
        Case("sum", "bools", lambda x: gc.sum(x, 1), (BOOLS,)),
        Case("sum", "longs", lambda x: gc.sum(x), (LONGS,)),
        Case("var", "ddof", lambda x: gc.var(x, 0, ddof=1), (X,)),
    ]
    for name in ("softmax", "log_softmax"):
        f = getattr(gc, name)
        found += [
            Case(name, "last_axis", lambda x, f=f: f(x), (X,)),
            Case(name, "first_axis", lambda x, f=f: f(x, 0), (X,)),
            Case(name, "several_axes", lambda x, f=f: f(x, (0, 2)), (CUBE,)),
            Case(name, "static", lambda x, f=f: f(x), (FIXED,)),
        ]
    return found


INDICES = Spec("i", ("M",), "int32", -7, 8)  # some are negative, some beyond the end
GRID = Spec("i", ("M", 2), "int32", 0, 4)

MOVEMENT = [
    Case("broadcast_to", "new_axis", lambda x: gc.broadcast_to(x, (5, 4)), (ROW,)),
    Case(
        "broadcast_to",
        "kept_axis",
        lambda x: gc.broadcast_to(x, (*x.shape[:1], 4)),
        (Spec("x", ("N", 1)),),
    ),
    Case("broadcast_to", "scalar", lambda x: gc.broadcast_to(x, (2, 3)), (SCALAR,)),
    Case("reshape", "merge", lambda x: gc.reshape(x, (-1,)), (X,)),
    Case(
        "reshape",
        "split",
        lambda x: gc.reshape(x, (2, 2, "N", 3)),
        (Spec("x", (4, "N", 3)),),
    ),
    Case("reshape", "static", lambda x: gc.reshape(x, (2, 6)), (FIXED,)),
    Case("transpose", "matrix", lambda x: x.T, (X,)),
    Case("transpose", "cycle", lambda x: gc.transpose(x, (2, 0, 1)), (CUBE,)),
    Case("slice", "row", lambda x: x[1], (FIXED,)),
    Case("slice", "columns", lambda x: x[:, 1:3], (X,)),
    Case("slice", "symbolic", lambda x: x[1:], (X,)),
    Case("slice", "last", lambda x: x[-1], (X,)),
    Case("slice", "steps", lambda x: x[::2, ::3], (X,)),
    Case(
        "unslice",
        "columns",
        lambda x: make1(UNSLICE, (x,), Unslice((0, 1), (*x.shape[:1], 7), (1, 1))),
        (X,),
    ),
    Case(
        "unslice",
        "steps",
        lambda x: make1(UNSLICE, (x,), Unslice((1, 0), (8, 7), (3, 2))),
        (FIXED,),
    ),
    Case(
        "concatenate",
        "rows",
        lambda x, y: gc.concatenate([x, y]),
        (X, Spec("y", ("M", 4))),
    ),
    Case(
        "concatenate",
        "columns",
        lambda x, y, z: gc.concatenate([x, y, z], 1),
        (X, Y, Spec("z", ("N", 1))),
    ),
    Case("take", "rows", lambda x, i: gc.take(x, i, 0), (X, INDICES)),
    Case("take", "columns", lambda x, i: gc.take(x, i, 1), (X, GRID)),
    Case("take", "flat", lambda x, i: gc.take(x, i), (FIXED, INDICES)),
    Case(
        "scatter_add",
        "rows",
        lambda x, i: make1(SCATTER_ADD, (x, i), Scatter(0, (6, 4))),
        (Spec("x", ("M", 4)), INDICES),
    ),
    Case(
        "scatter_add",
        "columns",
        lambda x, i: make1(SCATTER_ADD, (x, i), Scatter(1, (*x.shape[:1], 4))),
        (Spec("x", ("N", "M", 2)), GRID),
    ),
    Case("one_hot", "floats", lambda i: gc.one_hot(i, 4), (INDICES,)),
    Case("one_hot", "grid", lambda i: gc.one_hot(i, 4, "int64"), (GRID,)),
    Case("matmul", "matrices", gc.matmul, (X, Spec("y", (4, 3)))),
    Case("matmul", "static", gc.matmul, (FIXED, Spec("y", (4, 2)))),
    Case("matmul", "vectors", gc.matmul, (Spec("x", ("N",)), Spec("y", ("N",)))),
    Case("matmul", "batches", gc.matmul, (CUBE, Spec("y", (2, 3, 4)))),
    Case("matmul", "batch_broadcast", gc.matmul, (CUBE, Spec("y", (3, 4)))),
    Case("matmul", "ints", gc.matmul, (INTS, Spec("y", (4, 3), "int32", -5, 6))),
]

CREATION = [
    Case("full", "symbolic", lambda x: gc.full(x.shape, 1.5), (X,)),
    Case("full", "static", lambda: gc.full((2, 3), -0.0)),
    Case("full", "infinite", lambda: gc.full((), float("-inf"))),
    Case("full", "int", lambda: gc.full((2,), 7, "int64")),
    Case("full", "bool", lambda: gc.full((2,), True)),
    Case("constant", "floats", lambda: gc.constant([[1.0, 0.1], [-0.0, 1e-20]])),
    Case("constant", "doubles", lambda: gc.constant(np.array([0.1, 1e300]))),
    Case("constant", "ints", lambda: gc.constant([1, -2, 3])),
    Case("constant", "bools", lambda: gc.constant([True, False])),
    Case("constant", "large", lambda: gc.constant(np.arange(100.0).reshape(4, 25))),
    Case("dim", "symbolic", lambda x: gc.dim(x.shape[0] * 2 + 1), (X,)),
    Case("dim", "static", lambda: make1(DIM, (), DIM.attrs(7))),
    Case("iota", "symbolic", lambda x: gc.iota(x.shape, 0), (X,)),
    Case("iota", "floats", lambda: gc.iota((2, 3), 1, "float32")),
    Case("iota", "line", lambda: make1(IOTA, (), Iota(as_dtype("int64"), (4,), 0))),
    Case("cast", "to_int", lambda x: gc.cast(x, "int32"), (X,)),
    Case("cast", "to_double", lambda x: gc.cast(x, "float64"), (X,)),
    Case("cast", "to_float", lambda x: gc.cast(x, "float32"), (INTS,)),
    Case("cast", "to_bool", lambda x: gc.cast(x, "bool"), (INTS,)),
    Case("cast", "from_bool", lambda x: gc.cast(x, "float32"), (BOOLS,)),
    Case("random_uniform", "static", lambda: gc.uniform((2, 3), seed=1, stream=2)),
    Case(
        "random_uniform",
        "symbolic",
        lambda x, s: gc.uniform(x.shape, seed=1, step=s, stream=2),
        (X, Spec("s", (), "int64", 0, 9)),
    ),
    Case(
        "random_uniform",
        "double",
        lambda: gc.uniform((7,), dtype="float64", seed=3, stream=0),
    ),
    Case("random_normal", "static", lambda: gc.normal((3, 5), seed=1, stream=2)),
    Case("random_normal", "symbolic", lambda x: gc.normal(x.shape, stream=0), (X,)),
]


def fused(function: Callable[..., Any], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return a fused group that computes a function of its inputs."""
    args = make_args([t.type for t in inputs])
    found = function(*args)
    outputs = found if isinstance(found, tuple) else (found,)
    return make(FUSED, inputs, regions=(Region(args, outputs),))


REGIONS = [
    Case(
        "fused",
        "chain",
        lambda x, y: fused(lambda a, b: gc.relu(a + b), x, y)[0],
        (X, Y),
    ),
    Case(
        "fused",
        "several_results",
        lambda x: fused(lambda a: (gc.exp(a), gc.sum(gc.exp(a), 1)), x),
        (X,),
    ),
    Case(
        "fused",
        "nested",
        lambda x: fused(lambda a: fused(lambda b: gc.tanh(b) * 2.0, -a)[0] + a, x)[0],
        (X,),
    ),
    Case(
        "custom_gradient",
        "clipped",
        gc.custom_gradient(gc.tanh, lambda g, y, x: g * (1.0 - y * y)),
        (X,),
    ),
    Case(
        "custom_gradient",
        "two_inputs",
        gc.custom_gradient(lambda x, y: x * y, lambda g, z, x, y: (g * y, g * x)),
        (X, Y),
    ),
    Case("stop_gradient", "symbolic", gc.stop_gradient, (X,)),
]

CASES: tuple[Case, ...] = (
    *_unary(),
    *_binary(),
    *WHERE,
    *_reductions(),
    *MOVEMENT,
    *CREATION,
    *REGIONS,
)


def missing() -> list[str]:
    """Return graphc's own ops that have no case (leaves apart)."""
    covered = {case.op for case in CASES}
    return [
        name
        for name, op in OPS.items()
        if not op.leaf and name not in covered and _own(op)
    ]


def _own(op: Any) -> bool:
    function = op.scalar.formula if op.scalar else op.infer
    return str(getattr(function, "__module__", "")).startswith("graphc.")


# --- several cases as one function --------------------------------------------------


@dataclass(frozen=True)
class Batch:
    """Several cases as one function, so that they are compiled in one go.

    The inputs of each case bear its number, so that they do not meet.
    """

    cases: tuple[Case, ...]
    dtype: str | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    labels: tuple[str, ...]

    def arrays(self, sizes: Mapping[str, int], seed: int = 0) -> list[Array]:
        """Return a sample of all inputs for these sizes."""
        cases = [replace(case, sizes=sizes) for case in self.cases]
        return [a for case in cases for a in arrays(case, self.dtype, seed)]


def batch(cases: Iterable[Case], dtype: str | None = None) -> Batch:
    """Return the cases as one function; `dtype` replaces the float dtypes."""
    chosen = tuple(cases)
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    labels: list[str] = []
    for k, case in enumerate(chosen):
        own = tensors(case, dtype, f"{k}_")
        found = case.function(*own)
        several = found if isinstance(found, tuple) else (found,)
        inputs += own
        outputs += several
        labels += [case.id] * len(several)
    return Batch(chosen, dtype, tuple(inputs), tuple(outputs), tuple(labels))
