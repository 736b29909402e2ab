"""Tensors made of nothing, casts and random numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import make1
from graphc.ir.types import as_dtype
from graphc.ops.creation import DIM, IOTA, Iota
from ops_table.case import BOOLS, INTS, Array, Case, Oracle, Spec, X

CASES = (
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
)


# --- what NumPy says ---------------------------------------------------------------


def _iota(a: Any, *, out: Array) -> Array:
    found = np.zeros_like(out)
    for at in np.ndindex(*out.shape):
        found[at] = at[a.axis]
    return found


ORACLES: dict[str, Oracle] = {
    "full": lambda a, *, out: np.full(out.shape, a.value),
    "constant": lambda a: a.value.value,
    "dim": lambda a, *, sizes: np.array(gc.ir.dims.evaluate(a.size, sizes)),
    "iota": _iota,
    "cast": lambda a, x, *, out: x.astype(out.dtype),
}
ELSEWHERE = {
    "random_uniform": "tests/graphc/ops/test_random.py",
    "random_normal": "tests/graphc/ops/test_random.py",
}
