"""One table of small calls for every op, which drives the tests of all of them.

Each family of ops has a module here with `CASES`, small calls of its ops, and
`ORACLES`, what NumPy says of each op in some other way than its own definition does.
`ELSEWHERE` names the tests of ops that have no oracle.

Samples keep off ties: elements of one input are distinct, those of the inputs of one
case differ from each other, and none is 0 where the range is symmetric. So gradients,
comparisons and extrema can be compared without luck.
"""

from __future__ import annotations

from typing import Any

from graphc.ir.op import OPS
from ops_table import (
    activations,
    arithmetic,
    control,
    convolution,
    creation,
    indexing,
    linalg,
    movement,
    normalisation,
    order,
    reductions,
    regions,
    shapes,
)
from ops_table.case import (
    Array,
    Batch,
    Case,
    Oracle,
    Spec,
    arrays,
    batch,
    build,
    tensors,
)
from ops_table.regions import fused

__all__ = [
    "CASES",
    "ELSEWHERE",
    "ORACLES",
    "Array",
    "Batch",
    "Case",
    "Oracle",
    "Spec",
    "arrays",
    "batch",
    "build",
    "fused",
    "missing",
    "own",
    "tensors",
]

FAMILIES: tuple[Any, ...] = (
    activations,
    arithmetic,
    reductions,
    movement,
    indexing,
    shapes,
    normalisation,
    order,
    linalg,
    convolution,
    creation,
    regions,
    control,
)

CASES: tuple[Case, ...] = tuple(case for f in FAMILIES for case in f.CASES)
ORACLES: dict[str, Oracle] = {k: v for f in FAMILIES for k, v in f.ORACLES.items()}
ELSEWHERE: dict[str, str] = {
    k: v for f in FAMILIES for k, v in getattr(f, "ELSEWHERE", {}).items()
}


def missing() -> list[str]:
    """Return graphc's own ops that have no case (leaves apart)."""
    covered = {case.op for case in CASES}
    return [
        name
        for name, op in OPS.items()
        if not op.leaf and name not in covered and own(op)
    ]


def own(op: Any) -> bool:
    """Whether an op is graphc's, not one that a test has made."""
    function = op.scalar.formula if op.scalar else op.infer
    return str(getattr(function, "__module__", "")).startswith("graphc.")
