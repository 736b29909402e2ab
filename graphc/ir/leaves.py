"""Leaves: inputs, states and region arguments, told apart by identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.ir.nodes import Node, Tensor, leaf_op
from graphc.ir.origins import Origin
from graphc.ir.types import DType, Shape, TensorType


@dataclass(frozen=True, slots=True)
class Input:
    """An argument of a graph, given anew at each call."""

    name: str
    dtype: DType
    shape: Shape


@dataclass(frozen=True, slots=True)
class State:
    """A value that lives from call to call; optimisers act on trainable ones."""

    name: str
    dtype: DType
    shape: Shape
    trainable: bool = True


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument of a region."""

    dtype: DType
    shape: Shape


INPUT = leaf_op("input", Input, "An argument of the graph.")
STATE = leaf_op("state", State, "A value that lives from call to call.")
ARG = leaf_op("arg", Arg, "An argument of a region.")


def make_input(name: str, type: TensorType, birth: Origin | None = None) -> Tensor:
    """Return a fresh input."""
    attrs = Input(name, type.dtype, type.shape)
    return Node(INPUT, (), attrs, (type,), birth=birth).results[0]


def make_state(
    name: str,
    type: TensorType,
    trainable: bool = True,
    birth: Origin | None = None,
    result_class: type[Tensor] | None = None,
) -> Tensor:
    """Return a fresh state."""
    attrs = State(name, type.dtype, type.shape, trainable)
    node = Node(STATE, (), attrs, (type,), birth=birth, result_class=result_class)
    return node.results[0]


def make_args(types: Sequence[TensorType]) -> tuple[Tensor, ...]:
    """Return fresh region arguments of these types."""
    return tuple(
        Node(ARG, (), Arg(t.dtype, t.shape), (t,), birth=Origin()).results[0]
        for t in types
    )


def is_state(tensor: Tensor) -> bool:
    """Whether a tensor is a state (a parameter or another one)."""
    return tensor.node.op is STATE


def is_input(tensor: Tensor) -> bool:
    """Whether a tensor is an input."""
    return tensor.node.op is INPUT
