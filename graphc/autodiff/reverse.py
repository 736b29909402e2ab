"""Reverse mode: the gradient of a tensor as another graph.

Before it differentiates, `grad` turns the forward graph into its stable form with
the equations that ops carry (`log(sum(exp(x)))` becomes `logsumexp`), so that the
gradient is right where the plain formula overflows. Cotangents that a `where` masks
travel as selects (`Selected`), so that an infinite derivative on the branch that was
not taken never meets a zero.

Source: reverse accumulation as in Griewank and Walther, "Evaluating Derivatives",
2008; here by building nodes, so gradients of gradients need nothing more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from graphc.errors import GradientError
from graphc.ir.graph import Graph, merge_equal
from graphc.ir.nodes import Node, Tensor, describe, make1, topological
from graphc.ir.op import NonDifferentiable, Op, Pointwise, register
from graphc.ir.origins import BACKWARD, here, phase
from graphc.ir.rewrite import rewrite_once, stable_rules
from graphc.ir.types import bool_
from graphc.ops.arithmetic import where
from graphc.ops.batching import batch_leading
from graphc.ops.creation import cast, constant, ones
from graphc.ops.elementwise import Cotangent, Selected


@overload
def grad(y: Tensor, wrt: Tensor, cotangent: Tensor | None = None) -> Tensor: ...
@overload
def grad(
    y: Tensor, wrt: Sequence[Tensor], cotangent: Tensor | None = None
) -> list[Tensor]: ...
def grad(y: Any, wrt: Any, cotangent: Any = None) -> Any:
    """Return the gradient of a scalar with respect to a tensor or a list of them.

    cotangent: what to start from instead of 1; y may then have any shape.

    Shapes:  y []; wrt [...] -> [...], each gradient has the type of its target
    Raises:  GradientError if y is no scalar or no float, or if a target does not
             influence y, or only through ops without a gradient (which it names).
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> graphc.grad(graphc.sum(x * x), x).type
        TensorType(f32[3])
    """
    targets = [wrt] if isinstance(wrt, Tensor) else list(wrt)
    if cotangent is not None and isinstance(y, Tensor):
        as_y = None if isinstance(cotangent, Tensor) else y.dtype
        cotangent = constant(cotangent, as_y)
    _check(y, targets, cotangent)
    with phase(BACKWARD, like=y.node.birth):
        start = ones(y.shape, y.dtype) if cotangent is None else cotangent
    found = pull([y], [start], targets)
    missing = [t for t, g in zip(targets, found, strict=True) if g is None]
    if missing:
        raise unreached("grad", y, missing[0])
    return found[0] if isinstance(wrt, Tensor) else found


def value_and_grad(
    y: Tensor, wrt: Tensor | Sequence[Tensor]
) -> tuple[Tensor, Tensor | list[Tensor]]:
    """Return y and its gradient, as `(y, grad(y, wrt))`."""
    return y, grad(y, wrt)


STOP_GRADIENT = register(
    Op(
        name="stop_gradient",
        infer=lambda types, _: types[0],
        evaluate=lambda arrays, _: arrays[0],
        gradient=NonDifferentiable("it stops gradients"),
        lower=Pointwise(lambda s: s.load(0, s.index), layout=True),
        doc="y = x;  no gradient",
        batch=batch_leading,
    )
)


def stop_gradient(x: Any) -> Tensor:
    """Return x as a value that gradients do not pass."""
    return make1(STOP_GRADIENT, (constant(x),))


# --- the work -----------------------------------------------------------------------


def _check(y: Tensor, targets: Sequence[Tensor], cotangent: Tensor | None) -> None:
    for t in (y, *targets):
        if not isinstance(t, Tensor):
            raise GradientError(
                f"grad: {t!r} is no tensor",
                where=here().quoted,
                help="call it as graphc.grad(loss, [w, b])",
            )
    if not y.dtype.is_float:
        raise GradientError(
            f"grad: {describe(y)} is {y.type}, only floats have a gradient",
            details=[_made(y)],
            where=here().quoted,
            help="cast it, or differentiate what it was computed from",
        )
    if cotangent is None and y.shape != ():
        raise GradientError(
            f"grad: {describe(y)} is {y.type}, not a scalar",
            where=here().quoted,
            help="take its sum or mean, or pass cotangent=",
        )
    if cotangent is not None and cotangent.type != y.type:
        raise GradientError(
            f"grad: the cotangent is {cotangent.type}, {describe(y)} is {y.type}",
            where=here().quoted,
            help="give a cotangent of the same shape and dtype",
        )
    for t in targets:
        if not t.dtype.is_float:
            raise GradientError(
                f"grad: no gradient with respect to {describe(t)}, which is {t.type}",
                details=[_made(t)],
                where=here().quoted,
                help="only floats have a gradient",
            )


def _made(tensor: Tensor) -> str:
    """Return the line of a message that says what a tensor is."""
    verb = "declared" if tensor.node.op.leaf else "made"
    return f"{describe(tensor)} : {tensor.type}  {verb} at {tensor.node.birth.quoted}"


def pull(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], targets: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the cotangent of each target, None for one that none reaches."""
    stable, sources = stable_form(outputs, targets)
    return carry_back(stable, cotangents, sources)


def stable_form(
    outputs: Sequence[Tensor], targets: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return outputs and targets within the stable form of the outputs' graph.

    The targets are opaque: no rule may swallow one.
    """
    n = len(outputs)
    graph = merge_equal(Graph("grad", (), (*outputs, *targets)))
    while True:
        opaque = frozenset(t.node for t in graph.outputs[n:])
        done = rewrite_once(graph, stable_rules(), opaque)
        if done is graph:
            return list(graph.outputs[:n]), list(graph.outputs[n:])
        graph = merge_equal(done)


def carry_back(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], sources: Sequence[Tensor]
) -> list[Tensor | None]:
    """Carry cotangents from outputs back to sources."""
    order = topological(outputs)
    wanted = {s.node for s in sources}
    useful: set[Node] = set()
    for node in order:
        if node in wanted or any(t.node in useful for t in node.inputs):
            useful.add(node)
    pending: dict[Tensor, list[Cotangent]] = {}
    for output, start in zip(outputs, cotangents, strict=True):
        pending.setdefault(output, []).append(start)
    done: dict[Tensor, Tensor] = {}
    for node in reversed(order):
        if node not in useful:
            continue
        with phase(BACKWARD, derived=node.op.name, like=node.birth):
            g = [_total(pending.pop(r, [])) for r in node.results]
            for result, each in zip(node.results, g, strict=True):
                if each is not None and node in wanted:
                    done[result] = materialise(each)
            if node.op.leaf or all(each is None for each in g):
                continue
            if not any(t.node in useful for t in node.inputs):
                continue
            for source, d in zip(node.inputs, _step(node, g), strict=True):
                if d is not None and source.node in useful:
                    pending.setdefault(source, []).append(d)
    return [done.get(s) for s in sources]


def _step(node: Node, g: Sequence[Cotangent | None]) -> Sequence[Cotangent | None]:
    """Apply an op's gradient rule."""
    op = node.op
    if isinstance(op.gradient, NonDifferentiable):
        return [None] * len(node.inputs)
    if op.scalar is not None or op.name == "where":
        keeps_selects: Any = op.gradient  # these rules take and return `Selected`
        found: Sequence[Cotangent | None] = keeps_selects(node, g)
        return found
    (first, *rest) = g
    if op.moves and isinstance(first, Selected) and not rest:
        values = op.gradient(node, [first.value])
        conditions = op.gradient(node, [first.condition])
        return [
            None if v is None or c is None else Selected(cast(c, bool_), v)
            for v, c in zip(values, conditions, strict=True)
        ]
    return op.gradient(node, [None if c is None else materialise(c) for c in g])


def _total(cotangents: Sequence[Cotangent]) -> Cotangent | None:
    if len(cotangents) < 2:
        return cotangents[0] if cotangents else None
    total = materialise(cotangents[0])
    for each in cotangents[1:]:
        total = total + materialise(each)
    return total


def materialise(g: Cotangent) -> Tensor:
    """Return a cotangent as a tensor."""
    if isinstance(g, Selected):
        found: Tensor = where(g.condition, g.value, 0.0)
        return found
    return g


def unreached(what: str, y: Tensor, target: Tensor) -> GradientError:
    """Say why no gradient arrives: no path, or which ops block every path."""
    name = describe(target)
    order = topological([y])
    if target.node not in order:
        return GradientError(
            f"{what}: {describe(y)} does not depend on {name}",
            details=[_made(target), _made(y)],
            where=here().quoted,
            help="check that it is used on the way to the loss",
        )
    reached = {target.node}
    blocks: list[str] = []
    for node in order:
        if any(t.node in reached for t in node.inputs):
            how = node.op.gradient
            why = how.reason if isinstance(how, NonDifferentiable) else ""
            if not any(r.dtype.is_float for r in node.results):
                why = why or "integers have no gradient"
            if why:
                line = node.birth.quoted
                blocks.append(f"{node.op.name} blocks the way: {why}  --> {line}")
            else:
                reached.add(node)
    return GradientError(
        f"{what}: no gradient of {describe(y)} reaches {name}",
        details=blocks or ["every path meets a derivative that is 0 everywhere"],
        where=here().quoted,
    )
