"""The op `scan`: its type, its meaning, and where its rules are.

    %1, %2 = scan(%h0, %x, %w) {carries=1, steps=1, length=T} {
      (%h, %x_t, %w): ...  yield %h_new, %y_t
    }

Inputs, arguments of the region and results come in the same order: carries first, then
what is stepped over (results: what is stacked), then what is captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ShapeError
from graphc.ir.dims import Size
from graphc.ir.interpret import run_region
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ir.op import Controlled, Op, Types, register
from graphc.ir.types import TensorType
from graphc.ops.creation import concrete


@dataclass(frozen=True, slots=True)
class Scan:
    """How many inputs are carries and how many are stepped over, and which way.

    What comes after those is captured: the same in each step. truncate: through how
    many steps the gradient goes back, 0 for all.
    """

    carries: int
    steps: int
    length: Size
    reverse: bool = False
    truncate: int = 0


def split(attrs: Scan, items: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Return the carries, the stepped ones and the captured ones of inputs or args."""
    a, b = attrs.carries, attrs.carries + attrs.steps
    return tuple(items[:a]), tuple(items[a:b]), tuple(items[b:])


def sliced(type: TensorType) -> TensorType:
    """Return the type of one step of what is stepped over."""
    return type.with_shape(type.shape[1:])


def stacked(type: TensorType, length: Size) -> TensorType:
    """Return the type of what a step returns, over all steps."""
    return type.with_shape((length, *type.shape))


# --- the op -------------------------------------------------------------------------


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


def _gradient(node: Node, cotangents: Sequence[Any]) -> Sequence[Any]:
    from graphc.control.scan_gradient import scan_gradient

    return scan_gradient(node, cotangents)


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    from graphc.control.scan_batch import scan_batch

    return scan_batch(node, inputs, batched, size)


SCAN = register(
    Op(
        name="scan",
        attrs=Scan,
        infer=_infer,
        evaluate=_evaluate,
        gradient=_gradient,
        lower=Controlled(),
        doc="carry, y[t] = body(carry, x[t]) for each step t, in order",
        regions=True,
        batch=_batch,
    )
)
