"""scan: a loop over the first axis, as one node that owns its body.

    carry, ys = scan(body, init, xs)        body(carry, x) -> (carry, y)

The body is traced once. Its region takes the carries, the slices of this step and what
it captures; it returns the carries and what is stacked. It lowers to one native loop,
so neither the graph nor its compilation grows with the number of steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from graphc.control.capture import enclose
from graphc.control.roles import Scan, sliced
from graphc.control.scan_op import SCAN
from graphc.control.structure import Rebuild, call_body, flatten, shape_of
from graphc.control.tidy import tidy
from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.leaves import ARG, Arg
from graphc.ir.nodes import Node, Tensor, make, next_serial
from graphc.ir.origins import here
from graphc.ir.types import TensorType, as_size, int64
from graphc.ops.arithmetic import where
from graphc.ops.broadcast import broadcast_to
from graphc.ops.creation import cast, constant, dim, iota
from graphc.ops.ensure import ensure
from graphc.ops.random import current_iteration, iterating
from graphc.ops.shape import reshape
from graphc.state import lift_updates


def scan(
    body: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    *,
    length: Any = None,
    reverse: bool = False,
    lengths: Any = None,
    truncate: int | None = None,
) -> tuple[Any, Any]:
    """Carry a value over the steps of a sequence: `carry, y = body(carry, x)`.

    init, xs and what the body returns are tensors, or tuples, lists and dicts of them.
    xs has the steps on its first axis; with None the body is called with None, and
    `length` says how many steps there are. reverse: from the last step to the first
    (`ys` keeps the order of `xs`). lengths: for batches of sequences of several
    lengths, how many steps each has; beyond them its carry stays and its y is 0. They
    refer to the first axis of each carry and y; one beyond the sequence means all of
    it, and is an error under `compile(check=True)`. truncate: the gradient goes through
    the last so many steps only (truncated back-propagation through time).

    Random numbers that the body draws differ from step to step. Layers may be used in
    the body; their state changes (the counter of a dropout) happen once, not each step.

    Shapes:  init [...], xs [T, ...] -> carry [...], ys [T, ...]; lengths i32[N]
    Raises:  ShapeError or DTypeError if a carry's type changes, with both lines, or if
             the lengths of xs differ; ArgumentError if there is neither xs nor length;
             UpdateError if a layer's state would change from step to step.
    Source:  the interface is that of JAX's `lax.scan`; truncation as Theano's
             `truncate_gradient`.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("T", 3))
        >>> add = lambda c, v: (c + v, c + v)
        >>> total, sums = graphc.scan(add, graphc.zeros((3,)), x)
        >>> total.type, sums.type
        (TensorType(f32[3]), TensorType(f32[T,3]))
    """
    given, rebuild_carry = flatten(init)
    inits = [constant(v) for v in given]
    slices, rebuild_x = flatten(xs)
    stepped = [constant(v) for v in slices]
    count = _count(stepped, length)
    if truncate is not None and (type(truncate) is not int or truncate < 1):
        raise ArgumentError(
            f"scan: truncate must be an int of at least 1, not {truncate!r}",
            where=here().quoted,
            help="it is how many steps the gradient goes back; None is all",
        )
    ticks = iota((count,), 0, int64)
    carry = [_argument(t.type) for t in inits]
    x = [_argument(sliced(t.type)) for t in stepped]
    tick = _argument(TensorType(int64, ()))
    outer = current_iteration()
    iteration = tick
    if outer is not None:
        iteration = outer * cast(constant(dim(count)), int64) + tick
    since = next_serial()
    with iterating(iteration):
        given_x = rebuild_x(x) if xs is not None else None
        found = call_body("scan", "the body", body, rebuild_carry(carry), given_x)
    new, ys, rebuild_y = _returned(found, init, inits)
    own = [*new, *ys]
    if lengths is not None:
        counts = _checked(constant(lengths), count)
        new, ys = _masked(tick, counts, carry, new, ys)
    region, captured = enclose([*carry, *x, tick], [*new, *ys])
    attrs = Scan(len(inits), len(stepped) + 1, count, reverse, truncate or 0)
    if not region.outputs:
        raise ArgumentError(
            "scan: the body carries and returns nothing", where=here().quoted
        )
    results = tidy(make(SCAN, [*inits, *stepped, ticks, *captured], attrs, [region]))
    lift_updates("scan", own, [*carry, *x, tick], results, since)
    return rebuild_carry(results[: len(inits)]), rebuild_y(results[len(inits) :])


def _argument(type: TensorType) -> Tensor:
    return Node(ARG, (), Arg(type.dtype, type.shape), (type,)).results[0]


def _count(stepped: Sequence[Tensor], length: Any) -> Size:
    """Return the number of steps; everything that says it must agree."""
    for x in stepped:
        if x.ndim == 0:
            raise ShapeError(
                f"scan: a scalar has no steps: {x!r}",
                where=here().quoted,
                help="what is the same in each step, the body can use as it is",
            )
    if length is None and not stepped:
        raise ArgumentError(
            "scan: there is nothing that says how many steps to take",
            where=here().quoted,
            help="give xs, or length=",
        )
    count = _as_length(length) if length is not None else stepped[0].shape[0]
    for x in stepped:
        if x.shape[0] != count:
            first = "length=" if length is not None else f"{stepped[0]!r}"
            raise ShapeError(
                f"scan: {count} steps by {first}, but {x.shape[0]} by {x!r}",
                where=here().quoted,
                help="the steps are on the first axis; slice to equal lengths",
            )
    return count


def _as_length(length: Any) -> Size:
    try:
        return as_size(length)
    except ArgumentError as error:
        raise ArgumentError(
            f"scan: length: {error.message}", where=here().quoted, help=error.help
        ) from None


def _returned(
    found: Any, init: Any, inits: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], Rebuild]:
    """Return the carries and the outputs of a body, checked against `init`."""
    if not isinstance(found, (tuple, list)) or len(found) != 2:
        raise ArgumentError(
            f"scan: the body must return (carry, y), not {found!r}",
            where=here().quoted,
            help="return (carry, None) if there is nothing to stack",
        )
    carry, y = found
    leaves, _ = flatten(carry)
    if shape_of(carry) != shape_of(init):
        raise ArgumentError(
            f"scan: the carry is {shape_of(init)} at first, the body returns "
            f"{shape_of(carry)}",
            where=here().quoted,
            help="return the carries in the form of init",
        )
    new = [
        v if isinstance(v, Tensor) else constant(v, t.dtype)
        for v, t in zip(leaves, inits, strict=True)
    ]
    check_carries("scan", inits, new)
    out, rebuild = flatten(y)
    return new, [constant(v) for v in out], rebuild


def check_carries(what: str, inits: Sequence[Tensor], new: Sequence[Tensor]) -> None:
    """Check that a body returns its carries with the types it takes.

    Raises:  ShapeError or DTypeError with both types and both lines.
    """
    for i, (old, now) in enumerate(zip(inits, new, strict=True)):
        if old.type == now.type:
            continue
        kind = DTypeError if old.shape == now.shape else ShapeError
        raise kind(
            f"{what}: carry {i} changes its type: {old.type} at first, "
            f"{now.type} after a step",
            details=[
                f"at first     : {old.type}  at {old.node.birth.quoted}",
                f"after a step : {now.type}  at {now.node.birth.quoted}",
            ],
            where=here().quoted,
            help="cast or broadcast the first value to what the body returns"
            if kind is ShapeError
            else f"start with a value of {now.dtype} (0.0 is a float, 0 an int), or "
            f"cast what the body returns to {old.dtype}",
        )


def _checked(lengths: Tensor, count: Size) -> Tensor:
    """Return lengths that are not beyond the sequence."""
    if lengths.ndim != 1 or lengths.dtype.kind != "i":
        raise ShapeError(
            f"scan: lengths must be integers, one a sequence, not {lengths.type}",
            where=here().quoted,
        )
    steps = broadcast_to(cast(constant(dim(count)), lengths.dtype), lengths.shape)
    return ensure(
        lengths,
        (lengths >= 0) & (lengths <= steps),
        "a length of {value}, where sequences have 0 to {0} steps",
        count,
    )


def _masked(
    tick: Tensor,
    lengths: Tensor,
    carry: Sequence[Tensor],
    new: Sequence[Tensor],
    ys: Sequence[Tensor],
) -> tuple[list[Tensor], list[Tensor]]:
    """Hold the carry and return 0 where a sequence has ended."""
    runs = broadcast_to(tick, lengths.shape) < cast(lengths, int64)

    def mask(value: Tensor, other: Any) -> Tensor:
        if value.ndim == 0 or value.shape[0] != lengths.shape[0]:
            raise ShapeError(
                f"scan: lengths are for {lengths.shape[0]} sequences, but the body has "
                f"{value.type}",
                where=here().quoted,
                help="put the sequences on the first axis of carries and outputs",
            )
        column = reshape(runs, (value.shape[0], *[1] * (value.ndim - 1)))
        found: Tensor = where(broadcast_to(column, value.shape), value, other)
        return found

    held = [mask(n, c) for n, c in zip(new, carry, strict=True)]
    zeros = [constant(0, y.dtype) for y in ys]
    return held, [mask(y, zero) for y, zero in zip(ys, zeros, strict=True)]
