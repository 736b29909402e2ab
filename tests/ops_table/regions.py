"""Ops with regions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import graphc as gc
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Region, Tensor, make
from graphc.ops.regions import FUSED
from ops_table.case import Case, Oracle, X, Y


def fused(function: Callable[..., Any], *inputs: Tensor) -> tuple[Tensor, ...]:
    """Return a fused group that computes a function of its inputs."""
    args = make_args([t.type for t in inputs])
    found = function(*args)
    outputs = found if isinstance(found, tuple) else (found,)
    return make(FUSED, inputs, regions=(Region(args, outputs),))


CASES = (
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
)


ORACLES: dict[str, Oracle] = {"stop_gradient": lambda a, x: x}
ELSEWHERE = {
    "fused": "test_region_means_its_inside",
    "custom_gradient": "test_region_means_its_inside",
}
