"""A small call of an op, and samples of its inputs.

    build(case) is its Graph, arrays(case) are inputs for it

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
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.types import as_dtype, as_size

Array = np.ndarray[Any, Any]

# What NumPy says of an op: (attributes, *arrays) -> an array, or several. It is also
# given what it asks for of out=, sizes= and regions=.
Oracle = Callable[..., Any]


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
    shape = tuple(evaluate(as_size(s), sizes) for s in spec.shape)
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


# --- common inputs -----------------------------------------------------------------

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
INDICES = Spec("i", ("M",), "int32", -7, 8)  # some are negative, some beyond the end
GRID = Spec("i", ("M", 2), "int32", 0, 4)


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
