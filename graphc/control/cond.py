"""cond: one of two computations, chosen when the step runs.

    y = cond(p, lambda a: a * 2.0, lambda a: a + 1.0, x)

Both branches are declared, one is run. (`where` computes both sides for every element;
`cond` chooses by one bool for the whole.) It lowers to an `If`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.autodiff.reverse import carry_back, stable_form
from graphc.control.capture import enclose_together
from graphc.control.structure import call_body, flatten, shape_of
from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.interpret import run_region
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, next_serial
from graphc.ir.op import Controlled, Op, Types, register
from graphc.ir.origins import here
from graphc.ir.types import bool_
from graphc.ops.arithmetic import where
from graphc.ops.batching import batch_region
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import constant, zeros
from graphc.ops.regions import inline
from graphc.ops.shape import reshape
from graphc.state import attach_update, state_updates

# --- the op -------------------------------------------------------------------------


def _infer(types: Types, _: Any, regions: Sequence[Region]) -> Types:
    if len(regions) != 2:
        raise ShapeError(f"takes two regions, not {len(regions)}")
    condition, *rest = types
    if condition.dtype is not bool_ or condition.shape != ():
        raise DTypeError(
            f"the condition must be a bool scalar, {{0}} is {condition}",
            help="reduce it with graphc.all or graphc.any, or choose by element with "
            "graphc.where",
        )
    for region in regions:
        wanted = tuple(a.type for a in region.args)
        if wanted != tuple(rest):
            raise ShapeError(
                f"a branch takes {', '.join(map(str, wanted))}; "
                f"given: {', '.join(map(str, rest))}"
            )
    one, other = (tuple(t.type for t in r.outputs) for r in regions)
    if one != other:
        raise ShapeError(
            f"the branches return {', '.join(map(str, one))} and "
            f"{', '.join(map(str, other))}"
        )
    return one


def _evaluate(arrays: Any, meaning: Any) -> Any:
    condition, *rest = arrays
    chosen = meaning.regions[0 if condition else 1]
    return run_region(chosen, rest, meaning.sizes)


def _gradient(node: Node, cotangents: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Choose between the gradients of the branches; each computes its own again."""
    inputs = node.inputs[1:]
    given = [i for i, g in enumerate(cotangents) if g is not None]
    seeds = [cotangents[i] for i in given]
    floats = [k for k, t in enumerate(inputs) if t.dtype.is_float]
    regions = []
    for region in node.regions:
        late = make_args([node.results[i].type for i in given])
        outputs, args = stable_form([region.outputs[i] for i in given], region.args)
        found = carry_back(outputs, late, args)
        results = [
            zeros(inputs[k].shape, inputs[k].dtype) if found[k] is None else found[k]
            for k in floats
        ]
        regions.append(Region([*args, *late], [r for r in results if r is not None]))
    back: list[Tensor | None] = [None] * len(node.inputs)
    if floats:
        made = make(COND, [node.inputs[0], *inputs, *seeds], regions=regions)  # type: ignore[list-item]
        for k, g in zip(floats, made, strict=True):
            back[1 + k] = g
    return back


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Any
) -> list[Tensor]:
    """Batch both branches; a batched condition computes both and selects."""
    condition, *rest = inputs
    each = [batch_region(region, batched[1:], size) for region in node.regions]
    if not batched[0]:
        return list(make(COND, inputs, regions=each))
    then, other = (inline(region, rest) for region in each)
    found = []
    for a, b in zip(then, other, strict=True):
        column = reshape(condition, (size, *[1] * (a.ndim - 1)))
        found.append(where(broadcast_to(column, a.shape), a, b))
    return found


COND = register(
    Op(
        name="cond",
        infer=_infer,
        evaluate=_evaluate,
        gradient=_gradient,
        lower=Controlled(),
        doc="the first region's outputs where the condition is true, else the second's",
        regions=True,
        batch=_batch,
    )
)


# --- declaring one ------------------------------------------------------------------


def cond(
    condition: Any,
    then: Callable[..., Any],
    otherwise: Callable[..., Any],
    *operands: Any,
) -> Any:
    """Compute one of two functions of the operands, by a bool scalar.

    Both return tensors, or tuples, lists and dicts of tensors, of the same types. They
    may use tensors of outside too. The gradient is that of the branch that was taken,
    and so are the state changes of layers: a dropout counts the steps it takes part in.

    Shapes:  condition bool []
    Raises:  ShapeError or DTypeError if the branches' results differ in type, with
             both lines; DTypeError if the condition is no bool scalar.
    Source:  the interface is that of JAX's `lax.cond`.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ())
        >>> y = graphc.cond(x > 0.0, lambda v: v * 2.0, lambda v: -v, x)
        >>> float(graphc.evaluate(y, {x: -3.0}))
        3.0
    """
    inputs = [constant(v) for v in operands]
    args = make_args([t.type for t in inputs])
    since = next_serial()
    results = []
    for role, branch in (("the first branch", then), ("the second branch", otherwise)):
        found = call_body("cond", role, branch, *args)
        leaves, rebuild = flatten(found)
        results.append(([constant(v) for v in leaves], rebuild, shape_of(found)))
    (one, rebuild, form), (other, _, form_other) = results
    if form != form_other:
        raise ArgumentError(
            f"cond: the branches return {form} and {form_other}",
            where=here().quoted,
            help="return results of the same form from both",
        )
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        if a.type != b.type:
            kind = DTypeError if a.shape == b.shape else ShapeError
            raise kind(
                f"cond: result {i} is {a.type} in one branch, {b.type} in the other",
                details=[
                    f"then      : {a.type}  at {a.node.birth.quoted}",
                    f"otherwise : {b.type}  at {b.node.birth.quoted}",
                ],
                where=here().quoted,
                help="cast or broadcast one of them",
            )
    # A state that a branch changes comes out too, as it was if the other ran.
    news = [state_updates(*branch, since=since) for branch in (one, other)]
    changed = list(dict.fromkeys([*news[0], *news[1]]))
    bodies = [
        [*branch, *(new.get(s, s) for s in changed)]
        for branch, new in zip((one, other), news, strict=True)
    ]
    regions, captured = enclose_together(args, bodies, since)
    made = make(COND, [constant(condition), *inputs, *captured], regions=regions)
    n = len(one)
    for state, value in zip(changed, made[n:], strict=True):
        attach_update(made[0], state, value)
    return rebuild(made[:n])
