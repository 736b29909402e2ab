"""What a program is: buffers, and statements that read and write them.

    Nest      parallel axes; at each of their points a sequence of phases, each a
              loop over axes of its own that reduces or stores
    Loop, If  regions: a counted loop, a branch on a scalar buffer
    Call      a library routine
    Barrier   what comes after it sees what was written before it

A nest is all arithmetic that a backend must know: elementwise work is a nest with
one phase that stores, a softmax has two phases that reduce and one that stores, a
contraction reduces once and its epilogue stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphc.ir.dims import Size, product
from graphc.ir.graph import Guard
from graphc.ir.nodes import Node, Tensor
from graphc.ir.origins import Origin
from graphc.ir.scalar import Expr, Load, walk
from graphc.ir.types import DType, Shape, TensorType

if TYPE_CHECKING:
    from os import PathLike

    from graphc.ir.program.memory import MemoryPlan

Space = Literal["input", "state", "constant", "output", "temp"]


@dataclass(frozen=True, slots=True)
class Buffer:
    """A dense, row-major array. view_of: the buffer whose elements it shares."""

    name: str
    dtype: DType
    shape: Shape
    space: Space
    view_of: str = ""

    @property
    def type(self) -> TensorType:
        """Its tensor type."""
        return TensorType(self.dtype, self.shape)

    @property
    def strides(self) -> tuple[Size, ...]:
        """The distance in elements between neighbours along each axis."""
        return tuple(product(self.shape[i + 1 :]) for i in range(len(self.shape)))

    @property
    def bytes(self) -> Size:
        """Its size in bytes."""
        return product((*self.shape, self.dtype.itemsize))


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """A loop: the name of its index, which runs from 0 to extent - 1."""

    name: str
    extent: Size


@dataclass(frozen=True, slots=True)
class Reduce:
    """An accumulator: values are reduced by a monoid over a phase's axes.

    `argmax` reduces (value, position) to the position; the others one value.
    """

    name: str
    monoid: str  # sum, max, min, argmax
    values: tuple[Expr, ...]

    @property
    def dtype(self) -> DType:
        """The dtype of the result."""
        return self.values[-1].dtype


@dataclass(frozen=True, slots=True)
class Store:
    """Writes a value to an element; with `accumulate` adds it to what is there."""

    buffer: str
    index: tuple[Expr, ...]
    value: Expr
    accumulate: bool = False


@dataclass(frozen=True, slots=True)
class Phase:
    """A loop over axes at each parallel point, whose body reduces or stores."""

    axes: tuple[LoopAxis, ...]
    reduces: tuple[Reduce, ...] = ()
    stores: tuple[Store, ...] = ()

    @property
    def roots(self) -> tuple[Expr, ...]:
        """All expressions that the body computes."""
        values = [v for r in self.reduces for v in r.values]
        for s in self.stores:
            values.extend((*s.index, s.value))
        return tuple(values)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a nest is run.

    strategy: "vector" (lanes along `axis`), or "tile" (a register tile of a
    contraction: rows along `rows`, lanes along `axis`, reducing over `depth`).
    axis: the axis along lanes, a parallel axis or the last of each phase's; empty
    for none. parallel: whether shares of the nest may run at once.
    """

    strategy: str = "vector"
    axis: str = ""
    rows: str = ""
    depth: str = ""
    lanes: int = 1
    parallel: bool = True


@dataclass(frozen=True)
class Nest:
    """Parallel axes, and the phases that run in order at each of their points.

    labels, nodes and origins tell where expressions come from; they are no part of
    what the nest is.
    """

    name: str
    axes: tuple[LoopAxis, ...]
    phases: tuple[Phase, ...]
    schedule: Schedule | None = None
    labels: Mapping[Expr, str] = field(default_factory=dict, compare=False)
    nodes: tuple[Node, ...] = field(default=(), compare=False)
    origins: tuple[Origin, ...] = field(default=(), compare=False)
    summary: str = field(default="", compare=False)

    def replace(self, **changes: Any) -> Nest:
        """Return the nest with some parts replaced."""
        return replace(self, **changes)

    @property
    def exprs(self) -> Iterator[Expr]:
        """Every expression in it, once, arguments first."""
        return walk(*(r for p in self.phases for r in p.roots))

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The buffers it reads, in order."""
        found = [e.buffer for e in self.exprs if isinstance(e, Load)]
        found += [s.buffer for p in self.phases for s in p.stores if s.accumulate]
        return tuple(dict.fromkeys(found))

    @cached_property
    def writes(self) -> tuple[str, ...]:
        """The buffers it writes, in order."""
        return tuple(dict.fromkeys(s.buffer for p in self.phases for s in p.stores))


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs its body `count` times; `index` is a scalar buffer that counts them."""

    index: str
    count: Size
    body: tuple[Statement, ...]

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers it reads."""
        return _union(s.reads for s in self.body)

    @property
    def writes(self) -> tuple[str, ...]:
        """The buffers it writes."""
        return tuple(dict.fromkeys((self.index, *_union(s.writes for s in self.body))))


@dataclass(frozen=True, slots=True)
class If:
    """Runs one of two bodies by a bool scalar buffer."""

    condition: str
    then: tuple[Statement, ...]
    otherwise: tuple[Statement, ...] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers it reads."""
        inner = _union(s.reads for s in (*self.then, *self.otherwise))
        return tuple(dict.fromkeys((self.condition, *inner)))

    @property
    def writes(self) -> tuple[str, ...]:
        """The buffers it writes."""
        return _union(s.writes for s in (*self.then, *self.otherwise))


@dataclass(frozen=True, slots=True)
class Call:
    """A library routine on buffers. parallel: whether it uses threads of its own."""

    routine: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    parallel: bool = False


@dataclass(frozen=True, slots=True)
class Barrier:
    """What comes after it sees what was written before it."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


Statement = Nest | Loop | If | Call | Barrier


def _union(groups: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for group in groups for name in group))


@dataclass(frozen=True)
class Program:
    """Buffers and a list of statements.

    inputs, states, outputs: names of buffers in the order of the graph's.
    """

    name: str
    buffers: Mapping[str, Buffer]
    body: tuple[Statement, ...]
    inputs: tuple[str, ...]
    states: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, np.ndarray[Any, Any]] = field(
        default_factory=dict, compare=False
    )
    guards: tuple[Guard, ...] = ()
    state_tensors: tuple[Tensor, ...] = field(default=(), compare=False)
    plan: MemoryPlan | None = field(default=None, compare=False)

    def replace(self, **changes: Any) -> Program:
        """Return the program with some parts replaced."""
        return replace(self, **changes)

    @property
    def nests(self) -> tuple[Nest, ...]:
        """All nests in order, those inside loops and branches included."""
        return tuple(s for s in flat(self.body) if isinstance(s, Nest))

    def root(self, name: str) -> str:
        """Return the buffer that owns a buffer's elements."""
        buffer = self.buffers[name]
        while buffer.view_of:
            buffer = self.buffers[buffer.view_of]
        return buffer.name

    def text(self) -> str:
        """Return the program as text."""
        from graphc.ir.program.text import program_text

        return program_text(self)

    def __str__(self) -> str:
        return self.text()

    def __len__(self) -> int:
        return len(self.body)

    # Drawing lives above the IR; viz fills these in when graphc is imported.
    _dot: ClassVar[Callable[[Program], str] | None] = None
    _draw: ClassVar[Callable[[Program, Any], Any] | None] = None
    _svg: ClassVar[Callable[[Program], str] | None] = None

    def dot(self) -> str:
        """Return the drawing as text in Graphviz's dot language."""
        assert Program._dot is not None
        return Program._dot(self)

    def draw(self, path: str | PathLike[str]) -> Any:
        """Draw the program into a file: .svg, .png, .pdf or .dot; returns its path."""
        assert Program._draw is not None
        return Program._draw(self, path)

    def _repr_svg_(self) -> str:
        assert Program._svg is not None
        return Program._svg(self)


def flat(body: tuple[Statement, ...]) -> Iterator[Statement]:
    """Yield statements in order, those of regions after their owner."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop):
            yield from flat(statement.body)
        elif isinstance(statement, If):
            yield from flat((*statement.then, *statement.otherwise))
