"""The op `scan`: its type, its meaning, and where its rules are.

    %1, %2 = scan(%h0, %x, %w) {carries=1, steps=1, length=T} {
      (%h, %x_t, %w): ...  yield %h_new, %y_t
    }

`roles.py` says which input is what, the rules have files of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.control.roles import Scan, sliced, split, stacked
from graphc.control.scan_batch import scan_batch
from graphc.control.scan_gradient import scan_gradient
from graphc.errors import ShapeError
from graphc.ir.interpret import run_region
from graphc.ir.nodes import Region
from graphc.ir.op import Controlled, Op, Types, register
from graphc.ops.creation import concrete


def _infer(types: Types, attrs: Scan, regions: Sequence[Region]) -> Types:
    (region,) = regions
    inits, xs, consts = split(attrs, types)
    if len(inits) < attrs.carries or len(xs) < attrs.steps:
        raise ShapeError(
            f"takes {attrs.carries} carries and {attrs.steps} stepped inputs, "
            f"{len(types)} are given"
        )
    for i, x in enumerate(xs):
        if x.ndim == 0 or x.shape[0] != attrs.length:
            raise ShapeError(
                f"{{{attrs.carries + i}}} {x} must have {attrs.length} steps on its "
                "first axis"
            )
    wanted = (*inits, *map(sliced, xs), *consts)
    given = tuple(a.type for a in region.args)
    if given != wanted:
        raise ShapeError(
            f"the body takes {', '.join(map(str, given))}; "
            f"given: {', '.join(map(str, wanted))}"
        )
    outputs = tuple(t.type for t in region.outputs)
    if outputs[: attrs.carries] != inits:
        raise ShapeError(
            f"the body returns the carries {', '.join(map(str, outputs))}; "
            f"it takes {', '.join(map(str, inits))}"
        )
    return (*inits, *(stacked(t, attrs.length) for t in outputs[attrs.carries :]))


def _evaluate(arrays: Any, meaning: Any) -> Any:
    attrs: Scan = meaning.attrs
    (region,) = meaning.regions
    carry, xs, consts = split(attrs, arrays)
    (length,) = concrete((attrs.length,), meaning)
    stacks = [
        np.zeros(concrete((length, *t.shape), meaning), t.dtype.numpy)
        for t in region.outputs[attrs.carries :]
    ]
    order = range(length)
    for t in reversed(order) if attrs.reverse else order:
        found = run_region(
            region, (*carry, *(x[t] for x in xs), *consts), meaning.sizes
        )
        carry = found[: attrs.carries]
        for stack, y in zip(stacks, found[attrs.carries :], strict=True):
            stack[t] = y
    return (*carry, *stacks)


SCAN = register(
    Op(
        name="scan",
        attrs=Scan,
        infer=_infer,
        evaluate=_evaluate,
        gradient=scan_gradient,
        lower=Controlled(),
        doc="carry, y[t] = body(carry, x[t]) for each step t, in order",
        regions=True,
        batch=scan_batch,
    )
)
