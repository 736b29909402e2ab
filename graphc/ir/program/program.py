"""What a program is: buffers, and statements that read and write them.

    Nest      parallel axes; at each of their points a sequence of phases, each a
              loop over axes of its own that reduces or stores
    Loop      a region that runs a number of times
    If        one of two regions, by a scalar buffer
    While     a region that runs as long as another says so
    Call      a library routine
    Barrier   what comes after it sees what was written before it

A nest is all arithmetic that a backend must know: elementwise work is a nest with
one phase that stores, a softmax has two phases that reduce and one that stores, a
contraction reduces once and its epilogue stores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from graphc.ir.dims import Dim, Size, evaluate, product
from graphc.ir.graph import Guard
from graphc.ir.nodes import Node, Tensor
from graphc.ir.origins import Origin
from graphc.ir.scalar import Expr, linear, loads, walk
from graphc.ir.types import DType, Shape, TensorType

if TYPE_CHECKING:
    from os import PathLike

    from graphc.ir.program.memory import MemoryPlan

Space = Literal["input", "state", "constant", "output", "temp"]
ARGS = ("argmax", "argmin")  # the monoids of (value, position)


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
        return _strides(self.shape)

    def step(self, index: Sequence[Expr], axis: str) -> Size | None:
        """Return by how many elements an access moves along an axis, if known."""
        total: Size = 0
        for e, stride in zip(index, self.strides, strict=True):
            form = linear(e)
            if form is None:
                return None
            total = total + form.axes.get(axis, 0) * stride
        return total

    @property
    def bytes(self) -> Size:
        """Its size in bytes."""
        return product((*self.shape, self.dtype.itemsize))


@lru_cache(maxsize=1 << 12)
def _strides(shape: Shape) -> tuple[Size, ...]:
    return tuple(product(shape[i + 1 :]) for i in range(len(shape)))


@dataclass(frozen=True, slots=True)
class LoopAxis:
    """A loop: the name of its index, which runs from 0 to extent - 1."""

    name: str
    extent: Size


@dataclass(frozen=True, slots=True)
class Reduce:
    """An accumulator: values are reduced by a monoid over a phase's axes.

    `argmax` and `argmin` reduce (value, position) to the position; the others one
    value, which is a bool for `any` and `all`.
    """

    name: str
    monoid: str  # sum, prod, max, min, any, all, argmax, argmin
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

    def mapped(self, change: Callable[[Expr], Expr]) -> Phase:
        """Return a phase with each of its expressions changed."""
        reduces = tuple(
            replace(r, values=tuple(map(change, r.values))) for r in self.reduces
        )
        stores = tuple(
            replace(s, index=tuple(map(change, s.index)), value=change(s.value))
            for s in self.stores
        )
        return Phase(self.axes, reduces, stores)


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a nest is run.

    strategy: "vector" (lanes along `axis`), or "tile" (a register tile of a
    contraction: rows along `rows`, lanes along `axis`, reducing over `depth`).
    axis: the axis along lanes, a parallel axis or the last of each phase's; empty
    for none. parallel: whether shares of the nest may run at once. vectors: how many
    vectors of the axis a loop that reduces takes a turn, each with its own sum.
    points: how many points, each a row, are computed side by side.
    far: "ahead" for a nest that should ask early for what it reads, as it touches more
    than near caches hold; "stream" if it is more than all hold. Of a contraction that
    is its epilogue. copies_a, copies_b: of a tiled nest, where the operands leave it
    open, whether rows of the first, panels of the second are copied; by_rows: whether
    threads divide the rows. None: as a backend decides when sizes are bound.
    """

    strategy: str = "vector"
    axis: str = ""
    rows: str = ""
    depth: str = ""
    lanes: int = 1
    parallel: bool = True
    vectors: int = 1
    points: int = 1
    far: str = ""
    copies_a: bool | None = None
    copies_b: bool | None = None
    by_rows: bool | None = None


@dataclass(frozen=True)
class Nest:
    """Parallel axes, and the phases that run in order at each of their points.

    labels, nodes and origins tell where expressions come from; they are no part of
    what the nest is. like: its phases, and those that they are but for the names of
    buffers.
    """

    name: str
    axes: tuple[LoopAxis, ...]
    phases: tuple[Phase, ...]
    schedule: Schedule | None = None
    labels: Mapping[Expr, str] = field(default_factory=dict, compare=False)
    nodes: tuple[Node, ...] = field(default=(), compare=False)
    origins: tuple[Origin, ...] = field(default=(), compare=False)
    summary: str = field(default="", compare=False)
    like: tuple[object, object] | None = field(default=None, compare=False, repr=False)

    def replace(self, **changes: Any) -> Nest:
        """Return the nest with some parts replaced."""
        made = replace(self, **changes)
        return made if "phases" in changes else made.accessing(self)

    @property
    def pattern(self) -> object:
        """An object that is the same for nests made from one by renaming buffers."""
        return (
            self.like[1] if self.like and self.like[0] is self.phases else self.phases
        )

    def accessing(self, other: Nest, names: Mapping[str, str] | None = None) -> Nest:
        """Take over which buffers another nest reads and writes, under other names.

        That spares a walk where the one is made of the other's phases.
        """
        for what, found in (("reads", other.reads), ("writes", other.writes)):
            same = found if names is None else [names.get(n, n) for n in found]
            self.__dict__[what] = tuple(same)
        return self

    @property
    def is_tiled(self) -> bool:
        """Whether it is a contraction that runs on register tiles."""
        return self.schedule is not None and self.schedule.strategy == "tile"

    @property
    def exprs(self) -> Iterator[Expr]:
        """Every expression in it, once, arguments first."""
        return walk(*(r for p in self.phases for r in p.roots))

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The buffers it reads, in order; not elements that it has written itself."""
        found: list[str] = []
        own: set[tuple[object, ...]] = set()
        for p in self.phases:
            read = dict.fromkeys(e for r in p.roots for e in loads(r))
            found += [e.buffer for e in read if (e.buffer, e.args, p.axes) not in own]
            stores = [s for s in p.stores if not s.accumulate]
            own.update((s.buffer, s.index, p.axes) for s in stores)
        found += [s.buffer for p in self.phases for s in p.stores if s.accumulate]
        return tuple(dict.fromkeys(found))

    @cached_property
    def writes(self) -> tuple[str, ...]:
        """The buffers it writes, in order."""
        return tuple(dict.fromkeys(s.buffer for p in self.phases for s in p.stores))


@dataclass(frozen=True, slots=True)
class Loop:
    """Runs its body `count` times.

    index: a scalar int64 buffer that holds 0, 1, ... count - 1; the body only reads it.
    Nests address the slice of a turn by it: `xs[i[], i0]`. The end of a turn is a
    barrier: each turn sees all that those before it wrote. After the last turn it is
    none, since there may be no turn; `place-barriers` puts one there.
    """

    index: str
    count: Size
    body: tuple[Statement, ...]

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """Its regions."""
        return (self.body,)

    def with_bodies(self, body: tuple[Statement, ...]) -> Loop:
        """Return it with another region."""
        return replace(self, body=body)

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
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """Its regions."""
        return self.then, self.otherwise

    def with_bodies(
        self, then: tuple[Statement, ...], otherwise: tuple[Statement, ...]
    ) -> If:
        """Return it with other regions."""
        return replace(self, then=then, otherwise=otherwise)

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
class While:
    """Runs `test`, and as long as that leaves `condition` true, `body` and it again.

    condition: a scalar bool buffer, which `test` writes. The end of `test` and the end
    of `body` are barriers.
    """

    condition: str
    test: tuple[Statement, ...]
    body: tuple[Statement, ...]

    @property
    def bodies(self) -> tuple[tuple[Statement, ...], ...]:
        """Its regions."""
        return self.test, self.body

    def with_bodies(
        self, test: tuple[Statement, ...], body: tuple[Statement, ...]
    ) -> While:
        """Return it with other regions."""
        return replace(self, test=test, body=body)

    @property
    def reads(self) -> tuple[str, ...]:
        """The buffers it reads."""
        inner = _union(s.reads for s in (*self.test, *self.body))
        return tuple(dict.fromkeys((self.condition, *inner)))

    @property
    def writes(self) -> tuple[str, ...]:
        """The buffers it writes."""
        return _union(s.writes for s in (*self.test, *self.body))


@dataclass(frozen=True, slots=True)
class Call:
    """A routine of `routines.py` on whole buffers; none that it writes it also reads.

    options: (name, number) pairs; a number may be a size. parallel: whether shares of
    it may run at once. nodes, origins and summary are no part of what it is.
    """

    routine: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    options: tuple[tuple[str, Any], ...] = ()
    parallel: bool = False
    nodes: tuple[Node, ...] = field(default=(), compare=False)
    origins: tuple[Origin, ...] = field(default=(), compare=False)
    summary: str = field(default="", compare=False)

    @property
    def name(self) -> str:
        """The routine's name, as a kernel may bear it."""
        return self.routine.replace(".", "_")

    def replace(self, **changes: Any) -> Call:
        """Return the call with some parts replaced."""
        return replace(self, **changes)

    def bound(self, sizes: Mapping[str, int]) -> dict[str, Any]:
        """Return its options with all sizes as numbers."""
        return {
            k: evaluate(v, sizes) if isinstance(v, Dim) else v for k, v in self.options
        }


@dataclass(frozen=True, slots=True)
class Barrier:
    """What comes after it sees what was written before it."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


Task = Nest | Call  # what a kernel runs
Region = Loop | If | While  # what has bodies
Statement = Task | Region | Barrier


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

    @property
    def tasks(self) -> tuple[Task, ...]:
        """All nests and calls in order, those inside loops and branches included."""
        return tuple(s for s in flat(self.body) if isinstance(s, (Nest, Call)))

    @cached_property
    def read(self) -> frozenset[str]:
        """The buffers whose elements a statement reads that has not written them."""
        return frozenset(self.root(n) for s in self.body for n in s.reads)

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
        if isinstance(statement, Region):
            for inner in statement.bodies:
                yield from flat(inner)


Body = tuple[Statement, ...]


def within(statement: Statement, change: Callable[[Body], Body]) -> Statement:
    """Return a statement with its regions changed, itself if none is."""
    if not isinstance(statement, Region):
        return statement
    old = statement.bodies
    new = tuple(change(body) for body in old)
    same = all(a is b for a, b in zip(new, old, strict=True))
    return statement if same else statement.with_bodies(*new)


def with_nests(program: Program, change: Callable[[Nest], Nest]) -> Program:
    """Return a program with its nests changed, those in regions too; itself if none."""

    def changed(body: Body) -> Body:
        new = tuple(
            change(s) if isinstance(s, Nest) else within(s, changed) for s in body
        )
        same = all(a is b for a, b in zip(new, body, strict=True))
        return body if same else new

    body = changed(program.body)
    return program if body is program.body else program.replace(body=body)


def levels(body: Sequence[Statement]) -> int:
    """Return how many barriers stand on the longest way through a body.

    Barriers count what must lie apart in memory: what is used last on one level and
    what is used first on a later one never meet.
    """
    return sum(1 if isinstance(s, Barrier) else levels_in(s) for s in body)


def levels_in(statement: Statement) -> int:
    """Return how many barriers stand on the longest way through one turn of regions."""
    if isinstance(statement, If):
        return max(map(levels, statement.bodies))
    if isinstance(statement, While):
        return levels(statement.test) + 1 + levels(statement.body)
    return levels(statement.body) if isinstance(statement, Loop) else 0
