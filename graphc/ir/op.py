"""What an op is: one definition with everything that graphc knows of it.

An `Op` holds its type rule, its NumPy meaning, its gradient, its lowering to a loop
nest and its documentation. Ops register themselves by name; a second definition
under one name replaces the first, so that a notebook cell can be run again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.dims import Size
from graphc.ir.scalar import Expr
from graphc.ir.types import TensorType

if TYPE_CHECKING:
    from graphc.ir.nodes import Node, Region, Tensor


@dataclass(frozen=True, slots=True)
class NoAttrs:
    """The attributes of an op that has none."""


NO_ATTRS = NoAttrs()

Types = tuple[TensorType, ...]
Arrays = tuple[np.ndarray[Any, Any], ...]
Infer = Callable[..., TensorType | Types]


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the NumPy meaning of an op may look at beside its arrays."""

    attrs: Any
    types: Types
    sizes: Mapping[str, int]
    regions: tuple[Region, ...] = ()


# --- gradients ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NonDifferentiable:
    """Why an op has no gradient; it is part of every error that meets it."""

    reason: str


# Gradient rule: (node, a cotangent for each result or None) -> one for each input.
GradientRule = Callable[["Node", Sequence["Tensor | None"]], Sequence["Tensor | None"]]


# --- batching and checks ------------------------------------------------------------

# Batching rule: (node, inputs, which of them have a new leading axis, its size) ->
# results, all with the new leading axis.
BatchRule = Callable[
    ["Node", Sequence["Tensor"], Sequence[bool], Size], Sequence["Tensor"]
]


@dataclass(frozen=True, slots=True)
class Check:
    """What must hold of a node's values: `ok`, a bool tensor, in every element.

    message: what to say where it does not; {value} is the element of `value`, which
    has the shape of `ok`, and {0}, {1}, ... are `sizes` as the call binds them.
    """

    ok: Tensor
    value: Tensor
    message: str
    sizes: tuple[Size, ...] = ()


CheckRule = Callable[["Node"], Sequence[Check]]


# --- lowerings ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Site:
    """Where a lowering rule stands: the result's index, and how to read inputs."""

    index: tuple[Expr, ...]
    attrs: Any
    types: Types
    result: TensorType
    load: Callable[[int, Sequence[Expr]], Expr]


@dataclass(frozen=True, slots=True)
class Pointwise:
    """The element at an index, as an expression over elements of the inputs.

    layout: it moves elements and computes nothing, so it is free to repeat it.
    pieces: where the result is its inputs beside each other, the axis along which they
    lie: a nest may store each where it belongs, instead of choosing element by element.
    """

    rule: Callable[[Site], Expr]
    layout: bool = False
    pieces: Callable[[Any], int] | None = None


@dataclass(frozen=True, slots=True)
class Monoid:
    """An associative operation with a neutral element, for reductions.

    A tuple monoid (`argmax`) reduces (value, index) pairs to the index.
    """

    name: str
    identity: Callable[[Any], float | int | bool]
    primitive: str


@dataclass(frozen=True, slots=True)
class Reduction:
    """A monoid over some axes of an iteration space.

    extents: the sizes of the reduced axes. rule: the element to reduce, given the
    site (whose index is that of the result) and the index along the reduced axes.
    position: what argmax and argmin return for that index; the row-major index unless
    another is given, which must grow with it.
    """

    monoid: str
    extents: Callable[[Types, Any], tuple[Size, ...]]
    rule: Callable[[Site, tuple[Expr, ...]], Expr]
    position: Callable[[Site, tuple[Expr, ...]], Expr] | None = None


@dataclass(frozen=True, slots=True)
class Decomposed:
    """The op as a graph of simpler ops: (attrs, *inputs) -> tensor, or several."""

    rule: Callable[..., Tensor | Sequence[Tensor]]


@dataclass(frozen=True, slots=True)
class View:
    """The same elements in the same order under another shape."""


@dataclass(frozen=True, slots=True)
class ScatterAdd:
    """Sums elements into places that other elements name, or puts them there.

    extents: the loop over the updates. target: the index written, given the index
    of an update. value: the element added there. start: the element before that, by
    its index (0 without one). accumulate: False to overwrite; the last update wins.
    """

    extents: Callable[[Types, Any], tuple[Size, ...]]
    target: Callable[[Site, tuple[Expr, ...]], tuple[Expr, ...]]
    value: Callable[[Site, tuple[Expr, ...]], Expr]
    parallel: Callable[[Types, Any], tuple[int, ...]]
    start: Callable[[Site, tuple[Expr, ...]], Expr] | None = None
    accumulate: bool = True


@dataclass(frozen=True, slots=True)
class Routine:
    """A library routine on whole arrays; it becomes a `Call` of this name.

    options: what the routine must know beside its arrays, as (name, value) pairs.
    """

    name: str
    options: Callable[[Types, Any], tuple[tuple[str, Any], ...]]


@dataclass(frozen=True, slots=True)
class Controlled:
    """Regions that run many times, or not at all; they become a `Loop` or an `If`."""


@dataclass(frozen=True, slots=True)
class Unsupported:
    """Why an op has no lowering."""

    reason: str


Lowering = (
    Pointwise
    | Reduction
    | Decomposed
    | View
    | ScatterAdd
    | Routine
    | Controlled
    | Unsupported
)


@dataclass(frozen=True, slots=True)
class ScalarForm:
    """What an elementwise op is defined by.

    body: the scalar expression that is compiled. formula: the one that SymPy reads
    for the derivative and the LaTeX; they differ where the plain formula is not
    stable. primitive: the name of the primitive, where the op is one.
    """

    body: Callable[..., Expr]
    formula: Callable[..., Any]
    primitive: str | None = None
    sample: tuple[float, float] = (-3.0, 3.0)


@dataclass(eq=False, slots=True)
class Op:
    """One operation. See the module's docstring.

    infer: types and attributes of the call -> types of the results; an op with
    regions is given those too.
    evaluate: (arrays, Meaning) -> an array for each result; the op's meaning.
    stable: equations `lhs => rhs` that `grad` and `stabilize` apply.
    leaf: it has no inputs and is told apart by identity (inputs, states).
    batch: the op over a new leading axis; elementwise and decomposed ops need no rule.
    checks: what `compile(check=True)` looks at.
    """

    name: str
    infer: Infer
    evaluate: Callable[[Arrays, Meaning], Any]
    gradient: GradientRule | NonDifferentiable
    lower: Lowering
    doc: str
    attrs: type[Any] = NoAttrs
    commutative: bool = False
    stable: tuple[str, ...] = ()
    scalar: ScalarForm | None = None
    leaf: bool = False
    regions: bool = False
    function: Callable[..., Any] | None = field(default=None, repr=False)
    # Whether each result element depends on the same-indexed (or moved) element
    # linearly without arithmetic, so that a masked cotangent may move through it.
    moves: bool = False
    guards: Callable[[Types, Any], Sequence[tuple[Size, Size]]] | None = None
    batch: BatchRule | None = None
    checks: CheckRule | None = None

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Apply the op's public function (which broadcasts, promotes, normalises)."""
        if self.function is None:
            raise ArgumentError(f"{self.name} cannot be called from Python")
        return self.function(*args, **options)

    @property
    def is_layout(self) -> bool:
        """Whether it moves elements and computes nothing: repeating it is free."""
        return isinstance(self.lower, Pointwise) and self.lower.layout

    @property
    def __name__(self) -> str:  # so that help() and doctest treat it as a function
        return self.name


OPS: dict[str, Op] = {}
FUNCTIONS: dict[str, Callable[..., Any]] = {}


def register(op: Op) -> Op:
    """Enter an op into the table, replacing one of the same name."""
    OPS[op.name] = op
    return op


F = TypeVar("F", bound=Callable[..., Any])


def public(function: F) -> F:
    """Make a function known by name to tensor methods and to equation rules."""
    FUNCTIONS[function.__name__] = function
    return function


def attr_items(attrs: Any) -> list[tuple[str, Any]]:
    """Return an attribute object's fields and values, in order."""
    kind: Any = type(attrs)
    return [(name, getattr(attrs, name)) for name in _fields(kind)]


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(kind))
