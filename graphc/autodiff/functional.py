"""Derivatives of tensors with respect to tensors: vjp, jvp, jacobian, hessian, hvp.

All of them are built from reverse mode alone:

    vjp       cotangents carried back                     J^T u
    jvp       J^T u is linear in u: its own vjp           J v
    jacobian  the vjp, batched over all unit cotangents   J, one graph without a loop
    hessian   the jacobian of the gradient
    hvp       the vjp of the gradient                     H v, without H

Source:  the forward derivative from two reverse ones: J. Townsend, "A new trick for
         calculating Jacobian vector products", 2017.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from graphc.autodiff.reverse import grad, pull, unreached
from graphc.errors import GradientError
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Tensor, describe, topological
from graphc.ir.op import Controlled
from graphc.ir.origins import BACKWARD, here, phase
from graphc.ops.batching import batch_outputs
from graphc.ops.creation import constant, iota, zeros
from graphc.ops.indexing import one_hot
from graphc.ops.shape import reshape


@overload
def vjp(outputs: Any, inputs: Tensor, cotangents: Any) -> Tensor: ...
@overload
def vjp(outputs: Any, inputs: Sequence[Tensor], cotangents: Any) -> list[Tensor]: ...
def vjp(outputs: Any, inputs: Any, cotangents: Any) -> Any:
    """Carry cotangents of the outputs back to the inputs: J^T u.

    outputs, inputs: a tensor or a list of them. cotangents: one for each output, of
    its type. Returns a tensor or a list, as inputs.

    Shapes:  outputs [K], cotangents [K], inputs [N] -> [N]
    Math:    dx[j] = sum over i of u[i] dy[i]/dx[j]
    Raises:  GradientError if a cotangent does not fit, or if an input influences no
             output, or only through ops without a gradient (which it names).
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> graphc.vjp(x * x, x, graphc.ones((3,))).type
        TensorType(f32[3])
    """
    ys, xs = _floats("vjp", outputs), _floats("vjp", inputs)
    starts = _directions(
        "vjp", "cotangent", isinstance(outputs, Tensor), ys, cotangents
    )
    found = pull(ys, starts, xs)
    for x, d in zip(xs, found, strict=True):
        if d is None:
            raise unreached("vjp", ys[0], x)
    return found[0] if isinstance(inputs, Tensor) else found


@overload
def jvp(outputs: Tensor, inputs: Any, tangents: Any) -> Tensor: ...
@overload
def jvp(outputs: Sequence[Tensor], inputs: Any, tangents: Any) -> list[Tensor]: ...
def jvp(outputs: Any, inputs: Any, tangents: Any) -> Any:
    """Carry tangents of the inputs forward to the outputs: J v.

    outputs, inputs: a tensor or a list of them. tangents: one for each input, of its
    type. Returns a tensor or a list, as outputs; zeros for an output that does not
    depend on the inputs.

    Shapes:  outputs [K], inputs [N], tangents [N] -> [K]
    Math:    dy[i] = sum over j of dy[i]/dx[j] v[j]
    Raises:  GradientError if a tangent does not fit, if no output depends on an
             input, or if a custom gradient on the way is not linear.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (2,))
        >>> dy = graphc.jvp(x * x, x, graphc.constant([1.0, 0.0]))
        >>> graphc.evaluate(dy, {x: [3.0, 4.0]}).tolist()
        [6.0, 0.0]
    """
    ys, xs = _floats("jvp", outputs), _floats("jvp", inputs)
    along = _directions("jvp", "tangent", isinstance(inputs, Tensor), xs, tangents)
    us = make_args([y.type for y in ys])
    pairs = [
        (d, v) for d, v in zip(pull(ys, us, xs), along, strict=True) if d is not None
    ]
    if not pairs:
        raise unreached("jvp", ys[0], xs[0])
    back = pull([d for d, _ in pairs], [v for _, v in pairs], us)
    found = _anywhere([_or_zeros(d, y) for d, y in zip(back, ys, strict=True)], us)
    return found[0] if isinstance(outputs, Tensor) else found


def jacobian(outputs: Any, inputs: Any) -> Any:
    """Return the derivative of each element of the outputs by each of the inputs.

    outputs, inputs: a tensor or a list of them; a list gives a list, several of both
    a list for each output. It is one batched graph, not a loop over elements; zeros
    where an output does not depend on an input.

    Shapes:  outputs [K, M], inputs [N] -> [K, M, N]
    Math:    J[i, j] = dy[i] / dx[j]
    Raises:  GradientError if an input influences no output, or only through ops
             without a gradient; BatchError naming an op without a batching rule.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> graphc.jacobian(graphc.softmax(x), x).type
        TensorType(f32[N,N])
    """
    ys, xs = _floats("jacobian", outputs), _floats("jacobian", inputs)
    rows: list[list[Tensor | None]] = [_rows(y, xs) for y in ys]
    for k, x in enumerate(xs):
        if all(row[k] is None for row in rows):
            raise unreached("jacobian", ys[0], x)
    return _table(rows, ys, xs, outputs, inputs)


def hessian(scalar: Tensor, inputs: Any) -> Any:
    """Return the second derivatives of a scalar, as one batched graph.

    inputs: a tensor, or a list of them, which gives a list of lists: the blocks
    d2y / dx_i dx_j.

    Shapes:  scalar [], inputs [N, M] -> [N, M, N, M]
    Math:    H[i, j] = d2y / dx[i] dx[j]
    Raises:  GradientError as `grad`; BatchError naming an op without a batching rule.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (2,))
        >>> h = graphc.hessian(x[0] ** 2 * x[1], x)
        >>> graphc.evaluate(h, {x: [3.0, 5.0]}).tolist()
        [[10.0, 6.0], [6.0, 0.0]]
    """
    xs = _floats("hessian", inputs)
    first = grad(scalar, xs)
    rows = [_rows(g, xs) for g in first]
    return _table(rows, first, xs, inputs, inputs)


@overload
def hvp(scalar: Tensor, inputs: Tensor, vectors: Any) -> Tensor: ...
@overload
def hvp(scalar: Tensor, inputs: Sequence[Tensor], vectors: Any) -> list[Tensor]: ...
def hvp(scalar: Tensor, inputs: Any, vectors: Any) -> Any:
    """Return the Hessian of a scalar times a vector, without making the Hessian.

    inputs: a tensor or a list of them. vectors: one for each, of its type. It costs
    about two gradients.

    Shapes:  scalar [], inputs [N], vectors [N] -> [N]
    Math:    (H v)[i] = sum over j of v[j] d2y / dx[i] dx[j]
    Raises:  GradientError as `grad`, or if a vector does not fit.
    Source:  Pearlmutter, "Fast exact multiplication by the Hessian", 1994.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", (2,))
        >>> hv = graphc.hvp(graphc.sum(x ** 3), x, [1.0, 0.0])
        >>> graphc.evaluate(hv, {x: [2.0, 1.0]}).tolist()
        [12.0, 0.0]
    """
    xs = _floats("hvp", inputs)
    along = _directions("hvp", "vector", isinstance(inputs, Tensor), xs, vectors)
    found = pull(grad(scalar, xs), along, xs)
    full = [_or_zeros(d, x) for d, x in zip(found, xs, strict=True)]
    return full[0] if isinstance(inputs, Tensor) else full


# --- the work -----------------------------------------------------------------------


def _anywhere(found: Sequence[Tensor], us: Sequence[Tensor]) -> list[Tensor]:
    """Return the derivative of J^T u by u, which is the same for any u, without u.

    Loops and branches still take u, to compute again what they do not need; they get
    zeros.
    """
    new = {u: zeros(u.shape, u.dtype) for u in us}
    straight = {u.node for u in us}  # what depends on u but through no such node
    for node in topological(found):
        if not any(t in new for t in node.inputs):
            continue
        crosses = isinstance(node.op.lower, Controlled)
        if not crosses and any(t.node in straight for t in node.inputs):
            straight.add(node)
        inputs = [new.get(t, t) for t in node.inputs]
        clone = Node(node.op, inputs, node.attrs, node.types, node.regions, node.birth)
        new.update(zip(node.results, clone.results, strict=True))
    if any(t.node in straight for t in found):
        raise GradientError(
            "jvp: a custom gradient on the way is not linear in its cotangent",
            where=here().quoted,
            help="use vjp, or write its backward function linear in g",
        )
    return [new.get(t, t) for t in found]


def _rows(y: Tensor, xs: Sequence[Tensor]) -> list[Tensor | None]:
    """Return dy/dx for each x, None where y does not depend on it."""
    (u,) = make_args([y.type])
    with phase(BACKWARD, derived="jacobian", like=y.node.birth):
        units = reshape(
            one_hot(iota((y.size,), dtype="int64"), y.size, y.dtype), (-1, *y.shape)
        )
    found = pull([y], [u], xs)
    some = [d for d in found if d is not None]
    made = iter(batch_outputs(some, {u: units}, y.size))
    rows: list[Tensor | None] = []
    for x, d in zip(xs, found, strict=True):
        rows.append(None if d is None else reshape(next(made), (*y.shape, *x.shape)))
    return rows


def _table(
    rows: Sequence[Sequence[Tensor | None]],
    ys: Sequence[Tensor],
    xs: Sequence[Tensor],
    outputs: Any,
    inputs: Any,
) -> Any:
    """Return blocks in the form of the arguments, zeros for those that are missing."""
    full = [
        [
            zeros((*y.shape, *x.shape), y.dtype) if d is None else d
            for x, d in zip(xs, row, strict=True)
        ]
        for y, row in zip(ys, rows, strict=True)
    ]
    found = [row[0] for row in full] if isinstance(inputs, Tensor) else full
    return found[0] if isinstance(outputs, Tensor) else found


def _or_zeros(d: Tensor | None, like: Tensor) -> Tensor:
    return zeros(like.shape, like.dtype) if d is None else d


def _floats(what: str, given: Any) -> list[Tensor]:
    """Return one or several tensors as a list, after checking that they are floats."""
    tensors = list(given) if isinstance(given, (list, tuple)) else [given]
    for t in tensors:
        if not isinstance(t, Tensor):
            raise GradientError(
                f"{what}: {t!r} is no tensor",
                where=here().quoted,
                help=f"call it as graphc.{what}(y, x, ...) with tensors",
            )
        if not t.dtype.is_float:
            raise GradientError(
                f"{what}: {describe(t)} is {t.type}, only floats have a gradient",
                details=[f"made at {t.node.birth.quoted}"],
                where=here().quoted,
                help="cast it, or differentiate what it was computed from",
            )
    return tensors


def _directions(
    what: str, kind: str, single: bool, tensors: Sequence[Tensor], given: Any
) -> list[Tensor]:
    """Return the cotangents or tangents of tensors, which have their types.

    single: whether one tensor was given, so that one direction is expected.
    """
    if not single and not isinstance(given, (list, tuple)):
        raise GradientError(
            f"{what}: the {kind}s of a list of tensors must be a list, not {given!r}",
            where=here().quoted,
            help=f"give one {kind} for each",
        )
    values = [given] if single else list(given)
    if len(values) != len(tensors):
        raise GradientError(
            f"{what}: {len(values)} {kind}s for {len(tensors)} tensors",
            where=here().quoted,
            help=f"give one {kind} for each",
        )
    found = []
    for t, v in zip(tensors, values, strict=True):
        direction = v if isinstance(v, Tensor) else constant(v, t.dtype)
        if direction.type != t.type:
            raise GradientError(
                f"{what}: the {kind} is {direction.type}, {describe(t)} is {t.type}",
                where=here().quoted,
                help=f"give a {kind} of the same shape and dtype",
            )
        found.append(direction)
    return found
