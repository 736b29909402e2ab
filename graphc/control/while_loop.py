"""while_loop: a loop that ends when a condition does.

    n, x = while_loop(lambda n, x: x > 1.0, lambda n, x: (n + 1, x / 2.0), (0, x))

How many steps it takes is known only when it has run, so what a gradient would need
cannot be kept: it is forward only. `scan` takes a known number of steps and has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from graphc.control.capture import enclose_together
from graphc.control.scan import check_carries
from graphc.control.structure import call_body, flatten, shape_of
from graphc.errors import ArgumentError, DTypeError, ShapeError, UpdateError
from graphc.ir.interpret import run_region
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, next_serial, topological
from graphc.ir.op import FUNCTIONS, Controlled, NonDifferentiable, Op, Types, register
from graphc.ir.origins import here
from graphc.ir.types import bool_
from graphc.ops.arithmetic import where
from graphc.ops.batching import batch_region, lead
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import constant
from graphc.ops.regions import inline
from graphc.ops.shape import reshape
from graphc.state import state_updates

# --- the op -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class While:
    """How many inputs are carries; what comes after them is captured."""

    carries: int


def _infer(types: Types, attrs: While, regions: Sequence[Region]) -> Types:
    if len(regions) != 2:
        raise ShapeError(f"takes two regions, not {len(regions)}")
    for region in regions:
        wanted = tuple(a.type for a in region.args)
        if wanted != types:
            raise ShapeError(
                f"a region takes {', '.join(map(str, wanted))}; "
                f"given: {', '.join(map(str, types))}"
            )
    test, body = (tuple(t.type for t in r.outputs) for r in regions)
    if len(test) != 1 or test[0].dtype is not bool_ or test[0].shape != ():
        raise DTypeError(
            f"the condition must be one bool scalar, it is {', '.join(map(str, test))}",
            help="reduce it with graphc.all or graphc.any",
        )
    if body != types[: attrs.carries]:
        raise ShapeError(
            f"the body returns {', '.join(map(str, body))}; "
            f"it takes {', '.join(map(str, types[: attrs.carries]))}"
        )
    return body


def _evaluate(arrays: Any, meaning: Any) -> Any:
    n = meaning.attrs.carries
    carry, consts = tuple(arrays[:n]), tuple(arrays[n:])
    test, body = meaning.regions
    while run_region(test, (*carry, *consts), meaning.sizes)[0]:
        carry = run_region(body, (*carry, *consts), meaning.sizes)
    return carry


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Any
) -> list[Tensor]:
    """Run until the last element is done; those that are done keep their carry."""
    n = node.attrs.carries
    carries = [
        x if has else lead(x, size)
        for x, has in zip(inputs[:n], batched[:n], strict=True)
    ]
    flags = [*[True] * n, *batched[n:]]
    test, body = (batch_region(region, flags, size) for region in node.regions)
    given = [*carries, *inputs[n:]]
    args = make_args([t.type for t in given])
    (runs,) = inline(test, args)
    go_on = FUNCTIONS["any"](runs)
    new = []
    for old, now in zip(args, inline(body, args), strict=False):
        column = reshape(runs, (size, *[1] * (now.ndim - 1)))
        new.append(where(broadcast_to(column, now.shape), now, old))
    regions = [Region(args, [go_on]), Region(args, new)]
    return list(make(WHILE, given, node.attrs, regions))


WHILE = register(
    Op(
        name="while_loop",
        attrs=While,
        infer=_infer,
        evaluate=_evaluate,
        gradient=NonDifferentiable(
            "the number of its steps is not known before it runs; scan has a gradient"
        ),
        lower=Controlled(),
        doc="carry = the second region's outputs while the first region's is true",
        regions=True,
        batch=_batch,
    )
)


# --- declaring one ------------------------------------------------------------------


def while_loop(
    condition: Callable[[Any], Any], body: Callable[[Any], Any], init: Any
) -> Any:
    """Apply `carry = body(carry)` as long as `condition(carry)` is true.

    init and what the body returns are tensors, or tuples, lists and dicts of them.

    Raises:  ShapeError or DTypeError if a carry's type changes, with both lines, or if
             the condition is no bool scalar; UpdateError if the body changes a state.
    Source:  the interface is that of JAX's `lax.while_loop`.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ())
        >>> small = graphc.while_loop(lambda v: v > 1.0, lambda v: v / 2.0, x)
        >>> float(graphc.evaluate(small, {x: 10.0}))
        0.625
    """
    given, rebuild = flatten(init)
    inits = [constant(v) for v in given]
    if not inits:
        raise ArgumentError(
            "while_loop: there is nothing to carry", where=here().quoted
        )
    args = make_args([t.type for t in inits])
    since = next_serial()
    test = constant(call_body("while_loop", "the condition", condition, rebuild(args)))
    if test.type.dtype is not bool_ or test.shape != ():
        raise DTypeError(
            f"while_loop: the condition must be a bool scalar, it is {test.type}",
            where=test.node.birth.quoted or here().quoted,
            help="reduce it with graphc.all or graphc.any",
        )
    if not {a.node for a in args} & set(topological([test])):
        raise ArgumentError(
            "while_loop: the condition does not depend on the carry, so the loop "
            "would never end, or never begin",
            where=here().quoted,
            help="compare what the body changes; graphc.cond decides once",
        )
    found = call_body("while_loop", "the body", body, rebuild(args))
    if shape_of(found) != shape_of(init):
        raise ArgumentError(
            f"while_loop: the carry is {shape_of(init)} at first, the body returns "
            f"{shape_of(found)}",
            where=here().quoted,
            help="return the carries in the form of init",
        )
    leaves, _ = flatten(found)
    new = [
        v if isinstance(v, Tensor) else constant(v, t.dtype)
        for v, t in zip(leaves, inits, strict=True)
    ]
    check_carries("while_loop", inits, new)
    for state in state_updates(test, *new, since=since):
        raise UpdateError(
            f"while_loop: the state {state.node.attrs.name!r} would change within it",
            where=here().quoted,
            help="it may take no step at all; carry the value, and update the state "
            "with what comes out",
        )
    regions, captured = enclose_together(args, [[test], new])
    return rebuild(make(WHILE, [*inits, *captured], While(len(inits)), regions))
