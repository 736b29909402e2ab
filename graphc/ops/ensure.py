"""ensure: a value that is what it should be, looked at where checks are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.errors import DTypeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import Check, Decomposed, Op, Types, public, register
from graphc.ir.types import TensorType, as_size, bool_
from graphc.ops.batching import batch_leading
from graphc.ops.broadcast import broadcast_to, same_shape
from graphc.ops.creation import constant


@dataclass(frozen=True, slots=True)
class Promise:
    """What to say of a value that breaks it; {value} and {0}, {1} ... for sizes."""

    message: str
    sizes: tuple[Size, ...] = ()


def _infer(types: Types, _: Promise) -> TensorType:
    same_shape(types)
    if types[1].dtype is not bool_:
        raise DTypeError(
            f"the condition {{1}} must be bools, it is {types[1]}", help="compare first"
        )
    return types[0]


def _gradient(_: Node, cotangents: Any) -> Any:
    return [cotangents[0], None]


def _checks(node: Node) -> list[Check]:
    value, ok = node.inputs
    return [Check(ok, value, node.attrs.message, node.attrs.sizes)]


ENSURE = register(
    Op(
        name="ensure",
        attrs=Promise,
        infer=_infer,
        evaluate=lambda arrays, _: arrays[0],
        gradient=_gradient,
        lower=Decomposed(lambda attrs, x, ok: x),
        doc="y = x, of which the condition holds;  dx = g",
        batch=batch_leading,
        checks=_checks,
    )
)


@public
def ensure(x: Any, ok: Any, message: str, *sizes: Any) -> Tensor:
    """Return x, and say what must hold of it.

    Under `compile(..., check=True)` a value where `ok` is false is an error that quotes
    the message and this line, and the step changes no state; without it nothing is
    looked at or computed. message: {value} stands for the value, {0}, {1} ... for
    `sizes`, dimensions that are known when the step is called.

    Shapes:  x [...], ok bool [...], which broadcasts to x -> [...]
    Raises:  DTypeError if ok is no bool.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> y = graphc.log(graphc.ensure(x, x > 0.0, "a log of {value}"))
        >>> step = graphc.compile([x], y, check=True)
        >>> try:
        ...     step([1.0, -2.0])
        ... except graphc.GraphcError as error:
        ...     print(error.message)
        ensure: a log of -2.0
    """
    tensor, condition = constant(x), constant(ok)
    attrs = Promise(message, tuple(as_size(s) for s in sizes))
    return make1(ENSURE, (tensor, broadcast_to(condition, tensor.shape)), attrs)
