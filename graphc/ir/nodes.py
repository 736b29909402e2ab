"""Nodes and tensors: immutable SSA, before and within a Graph.

A `Node` applies an op to tensors; a `Tensor` is one of its results, and what users
hold. Nodes know nothing of each other's users, compare by identity, and are merged
only within a Graph (see `graph.py`). A `Region` is a closed piece of graph that a
node owns: its arguments are its only inputs.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NoReturn

import numpy as np

from graphc.errors import ArgumentError, DTypeError, GraphcError
from graphc.ir.dims import Size
from graphc.ir.op import (
    FUNCTIONS,
    NO_ATTRS,
    Meaning,
    NonDifferentiable,
    Op,
    attr_items,
    register,
)
from graphc.ir.op import Unsupported as UnsupportedLowering
from graphc.ir.origins import Origin, here
from graphc.ir.types import DType, Shape, TensorType


class Array:
    """A constant array as an attribute: immutable, equal by bits."""

    __slots__ = ("_key", "value")

    def __init__(self, value: np.ndarray[Any, Any]) -> None:
        self.value = np.array(value, order="C", copy=True)
        self.value.setflags(write=False)
        self._key = (self.value.dtype.str, self.value.shape, self.value.tobytes())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Array) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


_serial = itertools.count()


def next_serial() -> int:
    """Return a number that is greater than those of all nodes made so far."""
    return next(_serial)


class Node:
    """An op applied to tensors. Immutable; compares by identity.

    types: those of its results. birth: where it was declared; a Graph's table of
    origins starts from it.
    serial: the number of nodes made before it in this process.
    """

    __slots__ = (
        "__weakref__",
        "_key",
        "attrs",
        "birth",
        "inputs",
        "op",
        "regions",
        "results",
        "serial",
        "types",
    )

    def __init__(
        self,
        op: Op,
        inputs: Sequence[Tensor],
        attrs: Any,
        types: Sequence[TensorType],
        regions: Sequence[Region] = (),
        birth: Origin | None = None,
        result_class: type[Tensor] | None = None,
    ) -> None:
        self.op = op
        self.inputs = tuple(inputs)
        self.attrs = attrs
        self.regions = tuple(regions)
        self.birth = birth or here()
        self.serial = next(_serial)
        self._key: Key | None = None
        make = result_class or Tensor
        self.types = tuple(types)
        self.results = tuple([make(self, i, t) for i, t in enumerate(self.types)])

    def __repr__(self) -> str:
        return f"<{self.op.name} {', '.join(str(t) for t in self.types)}>"


def _no_value(tensor: Tensor, what: str, help: str) -> NoReturn:
    raise DTypeError(
        f"a tensor has no {what}: it is a symbol, not a number",
        details=[repr(tensor)],
        where=here().quoted,
        help=help,
    )


COMPUTE = "compute it with graphc.evaluate, or compile it and call the step"


class Tensor:
    """A symbolic array: one result of a node.

    Operators build nodes (`x @ w + b`); `==` builds `equal`, hash is identity.

    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 3))
        >>> (x + 1).type
        TensorType(f32[N,3])
    """

    __slots__ = ("__weakref__", "index", "node", "type")
    __array_ufunc__ = None  # NumPy arrays on the left defer to us

    def __init__(self, node: Node, index: int, type: TensorType) -> None:
        self.node = node
        self.index = index
        self.type = type

    @property
    def shape(self) -> Shape:
        """The shape, of ints and symbolic dimensions."""
        return self.type.shape

    @property
    def dtype(self) -> DType:
        """The element type."""
        return self.type.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.type.shape)

    @property
    def size(self) -> Size:
        """The number of elements, possibly symbolic."""
        return self.type.size

    def named(self, label: str) -> Tensor:
        """Name this value, for drawings and `step.debug`; returns it.

        A name is a label: it changes nothing that is computed.
        Raises:  ArgumentError for an empty name.
        """
        if not label:
            raise ArgumentError("a name cannot be empty", where=here().quoted)
        self.node.birth = replace(self.node.birth, label=label)
        return self

    def __repr__(self) -> str:
        place = self.node.birth.place
        label = f" {self.node.birth.label!r}" if self.node.birth.label else ""
        at = f" @ {place}" if place else ""
        return f"<Tensor{label} {self.type} = {self.node.op.name}{at}>"

    def __bool__(self) -> bool:
        _no_value(
            self,
            "truth value",
            "use graphc.where(condition, a, b) or graphc.cond, or evaluate it first; "
            "compare identities with `is`",
        )

    def __float__(self) -> NoReturn:
        _no_value(self, "float value", COMPUTE)

    def __int__(self) -> NoReturn:
        _no_value(self, "int value", f"{COMPUTE}; x.astype('int32') converts a tensor")

    def __format__(self, spec: str) -> str:
        if spec:
            _no_value(self, f"value to format as {spec!r}", COMPUTE)
        return repr(self)

    def __len__(self) -> int:
        first = self.type.shape[0] if self.type.shape else None
        if not isinstance(first, int):
            what = (
                "has no axes" if first is None else f"has the symbolic length {first}"
            )
            raise DTypeError(
                f"{self!r} {what}, so len() has no answer",
                where=here().quoted,
                help="x.shape[0] is a size to declare with; graphc.dim(x.shape[0]) is "
                "a tensor",
            )
        return first

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        raise DTypeError(
            "a tensor has no elements: it is a symbol, not an array",
            where=self.node.birth.quoted,
            help=f"{COMPUTE}; graphc has functions of NumPy's names for tensors",
        )

    def __iter__(self) -> NoReturn:
        raise DTypeError(
            "a tensor cannot be iterated over: its length may be symbolic",
            where=self.node.birth.quoted,
            help="take slices such as x[0], or use an op over an axis",
        )

    __hash__ = object.__hash__

    def __add__(self, other: Any) -> Tensor:
        return _call("add", self, other)

    def __radd__(self, other: Any) -> Tensor:
        return _call("add", other, self)

    def __sub__(self, other: Any) -> Tensor:
        return _call("sub", self, other)

    def __rsub__(self, other: Any) -> Tensor:
        return _call("sub", other, self)

    def __mul__(self, other: Any) -> Tensor:
        return _call("mul", self, other)

    def __rmul__(self, other: Any) -> Tensor:
        return _call("mul", other, self)

    def __truediv__(self, other: Any) -> Tensor:
        return _call("div", self, other)

    def __rtruediv__(self, other: Any) -> Tensor:
        return _call("div", other, self)

    def __floordiv__(self, other: Any) -> Tensor:
        return _call("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Tensor:
        return _call("floor_divide", other, self)

    def __mod__(self, other: Any) -> Tensor:
        return _call("remainder", self, other)

    def __rmod__(self, other: Any) -> Tensor:
        return _call("remainder", other, self)

    def __pow__(self, other: Any) -> Tensor:
        return _call("pow", self, other)

    def __rpow__(self, other: Any) -> Tensor:
        return _call("pow", other, self)

    def __matmul__(self, other: Any) -> Tensor:
        return _call("matmul", self, other)

    def __rmatmul__(self, other: Any) -> Tensor:
        return _call("matmul", other, self)

    def __neg__(self) -> Tensor:
        return _call("neg", self)

    def __abs__(self) -> Tensor:
        return _call("abs", self)

    def __eq__(self, other: object) -> Tensor:  # type: ignore[override]
        return _call("equal", self, other)

    def __ne__(self, other: object) -> Tensor:  # type: ignore[override]
        return _call("not_equal", self, other)

    def __lt__(self, other: Any) -> Tensor:
        return _call("less", self, other)

    def __le__(self, other: Any) -> Tensor:
        return _call("less_equal", self, other)

    def __gt__(self, other: Any) -> Tensor:
        return _call("greater", self, other)

    def __ge__(self, other: Any) -> Tensor:
        return _call("greater_equal", self, other)

    def __and__(self, other: Any) -> Tensor:
        return _truth("&", "logical_and", self, other)

    def __or__(self, other: Any) -> Tensor:
        return _truth("|", "logical_or", self, other)

    def __xor__(self, other: Any) -> Tensor:
        return _truth("^", "logical_xor", self, other)

    def __rand__(self, other: Any) -> Tensor:
        return _truth("&", "logical_and", other, self)

    def __ror__(self, other: Any) -> Tensor:
        return _truth("|", "logical_or", other, self)

    def __rxor__(self, other: Any) -> Tensor:
        return _truth("^", "logical_xor", other, self)

    def __invert__(self) -> Tensor:
        return _truth("~", "logical_not", self)

    def __getitem__(self, key: Any) -> Tensor:
        """Read elements, as NumPy does; see `graphc.getitem`."""
        return _call("getitem", self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise DTypeError(
            f"a tensor cannot be assigned to: {self!r}",
            where=here().quoted,
            help="x = graphc.index_update(x, key, value) is a tensor with new elements",
        )

    @property
    def T(self) -> Tensor:
        """The tensor with its axes reversed."""
        return _call("transpose", self)

    def astype(self, dtype: Any) -> Tensor:
        """Convert to another dtype."""
        return _call("cast", self, dtype)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over axes; see `graphc.sum`."""
        return _call("sum", self, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Arithmetic mean over axes; see `graphc.mean`."""
        return _call("mean", self, axis, keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Largest element over axes; see `graphc.max`."""
        return _call("max", self, axis, keepdims)

    def min(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Smallest element over axes; see `graphc.min`."""
        return _call("min", self, axis, keepdims)

    def argmax(self, axis: Any = None) -> Tensor:
        """Index of the largest element; see `graphc.argmax`."""
        return _call("argmax", self, axis)

    def argmin(self, axis: Any = None) -> Tensor:
        """Index of the smallest element; see `graphc.argmin`."""
        return _call("argmin", self, axis)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Product over axes; see `graphc.prod`."""
        return _call("prod", self, axis, keepdims)

    def any(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Whether any element over axes is true; see `graphc.any`."""
        return _call("any", self, axis, keepdims)

    def all(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Whether all elements over axes are true; see `graphc.all`."""
        return _call("all", self, axis, keepdims)

    def var(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
        """Variance over axes; see `graphc.var`."""
        return _call("var", self, axis, keepdims, ddof)

    def std(self, axis: Any = None, keepdims: bool = False, ddof: int = 0) -> Tensor:
        """Standard deviation over axes; see `graphc.std`."""
        return _call("std", self, axis, keepdims, ddof)

    def squeeze(self, axis: Any = None) -> Tensor:
        """Drop axes of size 1; see `graphc.squeeze`."""
        return _call("squeeze", self, axis)

    def flatten(self) -> Tensor:
        """Join all axes to one; see `graphc.ravel`."""
        return _call("ravel", self)

    ravel = flatten

    def swapaxes(self, axis1: int, axis2: int) -> Tensor:
        """Exchange two axes; see `graphc.swapaxes`."""
        return _call("swapaxes", self, axis1, axis2)

    def repeat(self, repeats: Any, axis: int | None = None) -> Tensor:
        """Repeat each element or slice; see `graphc.repeat`."""
        return _call("repeat", self, repeats, axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """Return a diagonal; see `graphc.diagonal`."""
        return _call("diagonal", self, offset, axis1, axis2)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
        """Sum a diagonal; see `graphc.trace`."""
        return _call("trace", self, offset, axis1, axis2)

    def dot(self, other: Any) -> Tensor:
        """Product over the last axis; see `graphc.dot`."""
        return _call("dot", self, other)

    def reshape(self, *shape: Any) -> Tensor:
        """Give the elements another shape; see `graphc.reshape`."""
        return _call("reshape", self, shape[0] if len(shape) == 1 else shape)

    def transpose(self, *axes: Any) -> Tensor:
        """Permute the axes; see `graphc.transpose`."""
        order = axes[0] if len(axes) == 1 and not isinstance(axes[0], int) else axes
        return _call("transpose", self, order or None)


def _call(name: str, *args: Any) -> Tensor:
    found: Tensor = FUNCTIONS[name](*args)
    return found


def _truth(sign: str, name: str, *operands: Any) -> Tensor:
    """Join truth values; on numbers the signs mean bits, of which there is no op."""
    for operand in operands:
        dtype = (
            operand.dtype if isinstance(operand, Tensor) else np.asarray(operand).dtype
        )
        if str(dtype) != "bool":
            raise DTypeError(
                f"{sign} is for bools, not for {operand!r}",
                where=here().quoted,
                help=f"compare first, as in x > 0; or graphc.{name}, to which all but "
                "0 is true",
            )
    return _call(name, *operands)


class Region:
    """A closed piece of graph: arguments and results, no captures.

    Two regions are equal when they are the same up to renaming.
    """

    __slots__ = ("_key", "_nodes", "args", "outputs")

    def __init__(self, args: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        self.args = tuple(args)
        self.outputs = tuple(outputs)
        self._key: Key | None = None
        self._nodes: tuple[Node, ...] | None = None

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes inside in topological order, arguments left out."""
        if self._nodes is None:
            inside = topological(self.outputs)
            self._nodes = tuple([n for n in inside if not n.op.leaf])
        return self._nodes

    @property
    def key(self) -> Key:
        """A value that is equal for equal regions."""
        if self._key is None:
            numbers: dict[tuple[int, int], int] = {}
            for i, arg in enumerate(self.args):
                numbers[id(arg.node), arg.index] = i
            rows = []
            for node in self.nodes:
                inputs = tuple(numbers[id(t.node), t.index] for t in node.inputs)
                rows.append((local_key(node), inputs))
                for result in node.results:
                    numbers[id(node), result.index] = len(numbers)
            outputs = tuple(numbers[id(t.node), t.index] for t in self.outputs)
            types = tuple(a.type for a in self.args)
            self._key = Key((types, tuple(rows), outputs))
        return self._key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Region) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)


def _attr_key(value: Any) -> Any:
    if isinstance(value, float):
        return ("float", struct.pack("d", value))
    if isinstance(value, tuple):
        return tuple(_attr_key(v) for v in value)
    return (type(value).__name__, value)


class Key:
    """A value that is hashed once, however often it is looked up."""

    __slots__ = ("hash", "value")

    def __init__(self, value: tuple[Any, ...]) -> None:
        self.value = value
        self.hash = hash(value)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Key):
            return NotImplemented
        if self.hash != other.hash or self.value != other.value:
            return False
        self.value = other.value  # so that what is in it is one object from now on
        return True


def local_key(node: Node) -> Key:
    """Return what tells nodes with equal inputs apart: op, attributes, regions, types.

    Attributes compare by bits and by type: 0.0 is not -0.0, 1 is not 1.0.
    """
    if node._key is None:
        attrs = tuple([_attr_key(v) for _, v in attr_items(node.attrs)])
        regions = tuple([r.key for r in node.regions])
        node._key = Key((node.op.name, attrs, regions, node.types))
    return node._key


def topological(outputs: Iterable[Tensor]) -> list[Node]:
    """Return the nodes that the outputs reach, inputs before users.

    Deterministic: a depth-first walk in the order of outputs and inputs; iterative,
    so that a graph may be as deep as memory allows.
    """
    order: list[Node] = []
    done: set[Node] = set()
    for output in outputs:
        if output.node in done:
            continue
        done.add(output.node)
        # The nodes from an output inwards, each with the inputs still to be visited.
        way = [(output.node, iter(output.node.inputs))]
        while way:
            node, rest = way[-1]
            for tensor in rest:
                inner = tensor.node
                if inner not in done:
                    done.add(inner)
                    way.append((inner, iter(inner.inputs)))
                    break
            else:
                order.append(node)
                way.pop()
    return order


# --- making nodes -------------------------------------------------------------------


def describe(tensor: Tensor) -> str:
    """Return the name by which a message speaks of a tensor."""
    return tensor.node.birth.label or leaf_name(tensor) or tensor.node.op.name


def leaf_name(tensor: Tensor) -> str:
    """Return the name of an input or a state, or an empty text."""
    return getattr(tensor.node.attrs, "name", "") if tensor.node.op.leaf else ""


def make(
    op: Op,
    inputs: Sequence[Tensor],
    attrs: Any = NO_ATTRS,
    regions: Sequence[Region] = (),
) -> tuple[Tensor, ...]:
    """Apply an op and return its results.

    Raises:  what the op's type rule raises, with the operands and the user's line
             added; the rule names operand i as {i}.
    """
    types = tuple(t.type for t in inputs)
    try:
        inferred = op.infer(types, attrs, *([regions] if op.regions else []))
    except GraphcError as error:
        raise explain(error, op.name, inputs) from None
    found = (inferred,) if isinstance(inferred, TensorType) else inferred
    return Node(op, inputs, attrs, found, regions).results


def make1(op: Op, inputs: Sequence[Tensor], attrs: Any = NO_ATTRS) -> Tensor:
    """Apply an op that has one result, and return it."""
    return make(op, inputs, attrs)[0]


def explain(error: GraphcError, what: str, operands: Sequence[Tensor]) -> GraphcError:
    """Add the operands, where they were declared, and the user's line to an error."""
    names = [describe(t) for t in operands]
    message = error.message
    for i, name in enumerate(names):
        message = message.replace(f"{{{i}}}", name)
    width = max((len(n) for n in names), default=0)
    details = []
    seen: set[int] = set()
    for name, tensor in zip(names, operands, strict=True):
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        place = tensor.node.birth.place
        verb = "declared" if tensor.node.op.leaf else f"made by {tensor.node.op.name}"
        at = f"  {verb} at {place}" if place else ""
        details.append(f"{name:<{width}} : {tensor.type}{at}")
    help_text = error.help
    for i, name in enumerate(names):
        help_text = help_text.replace(f"{{{i}}}", name)
    return type(error)(
        f"{what}: {message}",
        details=(*details, *error.details),
        where=error.where or here().quoted,
        help=help_text,
    )


# --- leaves -------------------------------------------------------------------------


def _leaf_value(_: Any, meaning: Meaning) -> NoReturn:
    raise GraphcError(f"no value was given for {meaning.attrs.name!r}")


def leaf_op(name: str, attrs: type[Any], doc: str) -> Op:
    """Define an op without inputs whose nodes are told apart by identity."""
    return register(
        Op(
            name=name,
            attrs=attrs,
            infer=lambda _, a: TensorType(a.dtype, a.shape),
            evaluate=_leaf_value,
            gradient=NonDifferentiable("it is a leaf"),
            lower=UnsupportedLowering("it is a buffer"),
            doc=doc,
            leaf=True,
        )
    )
