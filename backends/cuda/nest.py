"""The shapes of CUDA kernels.

    points    a thread for each point of the parallel axes; phases are loops in it
    rows      a block for each point; its threads share each phase's loop
    tile      a block for a tile of a contraction, 16 rows by 16 columns

The schedule says which: "tile", or the axis along which neighbours lie: where that is
an axis of the phases, the threads of a block run along it, each reduces every so many
elements, and the results are added up by halves, in an order that is always the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from graphc.backends.cuda.prelude import BLOCK, TILE
from graphc.backends.cuda.writer import Writer, literal, of_dtype
from graphc.backends.shared.blocks import first_place, identity
from graphc.errors import LoweringError
from graphc.ir.dims import Size, evaluate, product
from graphc.ir.program import LoopAxis, Nest, Phase, Reduce, Store
from graphc.ir.program.program import ARGS
from graphc.ir.scalar import Apply, Const, Expr, Load, const, is_uniform, walk
from graphc.ir.types import DType

INFIX = {"sum": "+", "prod": "*", "any": "|", "all": "&"}


@dataclass(frozen=True, slots=True)
class Launch:
    """How many blocks a nest takes, and how many threads each.

    points: the extents of its parallel axes. inner: for rows, the number of elements
    of each phase.
    """

    shape: str
    points: tuple[Size, ...]
    inner: tuple[Size, ...] = ()

    def grid(self, sizes: Mapping[str, int]) -> tuple[int, int | tuple[int, int]]:
        """Return (blocks, threads of a block) for sizes; no blocks for no work."""
        extents = [evaluate(p, sizes) for p in self.points]
        if self.shape == "tile":
            *batch, rows, columns = extents
            tiles = (-(-rows // TILE), -(-columns // TILE))
            return math.prod((*batch, *tiles)), (TILE, TILE)
        points = math.prod(extents)
        if self.shape == "points":
            return -(-points // BLOCK), min(BLOCK, max(points, 1))
        longest = max((evaluate(n, sizes) for n in self.inner), default=1)
        return points, min(BLOCK, _power_of_two(longest))


def _power_of_two(n: int) -> int:
    """Return the least power of two that is at least n."""
    return 1 << max(n - 1, 0).bit_length()


def write_nest(writer: Writer) -> Launch:
    """Write the body of a nest's kernel; returns how to launch it."""
    nest = writer.nest
    schedule = nest.schedule
    points = tuple(a.extent for a in nest.axes)
    if schedule is None or schedule.strategy not in ("vector", "tile"):
        raise LoweringError(
            f"nest {nest.name}: the cuda backend has no strategy "
            f"{schedule.strategy if schedule else None!r}",
            help="let the pass `schedule` choose for the target cuda",
        )
    if schedule.strategy == "tile":
        TileNest(writer).write()
        return Launch("tile", points)
    if _along_phases(nest):
        RowNest(writer).write()
        inner = tuple(product(a.extent for a in p.axes) for p in nest.phases)
        return Launch("rows", points, inner)
    PointNest(writer).write()
    return Launch("points", points)


def _along_phases(nest: Nest) -> bool:
    """Whether the threads of a block go along the axes of the phases."""
    assert nest.schedule is not None
    if any(_in_turn(s) for p in nest.phases for s in p.stores):
        return False  # what goes to one element is done by one thread
    return nest.schedule.axis in {a.name for p in nest.phases for a in p.axes}


def _in_turn(s: Store) -> bool:
    """Whether several points of a phase may write one element, so order matters."""
    loads = [e for e in walk(*s.index) if isinstance(e, Load)]
    return s.accumulate or not all(map(is_uniform, loads))


class _Phases:
    """What the shapes share: bodies of phases, accumulators."""

    def __init__(self, writer: Writer) -> None:
        self.w = writer
        self.nest: Nest = writer.nest

    def decode(self, axes: tuple[LoopAxis, ...], whole: str) -> None:
        """Write the indices of the point whose flat index is `whole`."""
        if axes:
            counts = [self.w.extent(a) for a in axes]
            self.w.decode([a.name for a in axes], counts, whole)

    def begin(self, r: Reduce) -> None:
        """Write the neutral element into an accumulator."""
        dtype = r.values[0].dtype
        self.w.line(f"{r.name} = {number(identity(r.monoid, dtype), dtype)}")
        if r.monoid in ARGS:
            place = self.w.value(first_place(self.nest, r.values))
            self.w.line(f"{r.name}_at = {place}")

    def step(self, r: Reduce) -> None:
        """Write how a thread takes up one element."""
        w = self.w
        values = [w.value(v) for v in r.values]
        if r.monoid in ARGS:
            beats, at = w.use(f"beats_{r.monoid[3:]}"), f"{r.name}_at"
            with w.block(f"if {beats}({r.name}, {at}, {values[0]}, {values[1]}):"):
                w.line(f"{r.name} = {values[0]}")
                w.line(f"{at} = {values[1]}")
            return
        dtype = r.values[0].dtype
        if r.monoid in INFIX:
            new = f"{r.name} {INFIX[r.monoid]} {values[0]}"
            new = of_dtype(new, dtype) if dtype.kind == "i" else new
        else:
            new = f"{w.use(f'{r.monoid}imum')}({r.name}, {values[0]})"
        w.line(f"{r.name} = {new}")

    def end(self, r: Reduce) -> None:
        """Say where the result of a reduction is."""
        self.w.define(r.name, f"{r.name}_at" if r.monoid in ARGS else r.name)

    def stores(self, phase: Phase) -> None:
        """Write a phase's stores: all values first, then where they go."""
        w = self.w
        found = [
            (w.value(s.value), w.offset(s.buffer, s.index), s) for s in phase.stores
        ]
        for value, offset, s in found:
            sign = "+=" if s.accumulate else "="
            w.line(f"{w.arguments.buffer(s.buffer)}[{offset}] {sign} {value}")


def number(value: float | int, dtype: DType) -> str:
    """Return a number of a dtype as source; Numba tells int32 from int64."""
    e: Expr = const(value, dtype)
    assert isinstance(e, Const)
    return literal(e)


class PointNest(_Phases):
    """A thread for each point; a phase is a loop in it."""

    def write(self) -> None:
        """Write the kernel's body."""
        w, axes = self.w, self.nest.axes
        w.line("u = cuda.grid(1)")
        points = " * ".join(w.extent(a) for a in axes) or "1"
        with w.block(f"if u < {points}:", *(a.name for a in axes)):
            self.decode(axes, "u")
            for phase in self.nest.phases:
                for r in phase.reduces:
                    self.begin(r)
                self._loops(phase, phase.axes)
                for r in phase.reduces:
                    self.end(r)

    def _loops(self, phase: Phase, axes: tuple[LoopAxis, ...]) -> None:
        if axes:
            a, *rest = axes
            head = f"for {a.name} in range({self.w.extent(a, phase)}):"
            with self.w.block(head, a.name):
                self._loops(phase, tuple(rest))
            return
        for r in phase.reduces:
            self.step(r)
        self.stores(phase)


class RowNest(_Phases):
    """A block for each point; its threads share the loop of a phase."""

    def write(self) -> None:
        """Write the kernel's body."""
        w, axes = self.w, self.nest.axes
        self._shared()
        w.line("t, width = cuda.threadIdx.x, cuda.blockDim.x")
        if axes:
            w.line("u = cuda.blockIdx.x")
            w.blocks[-1].axes.update(a.name for a in axes)
            self.decode(axes, "u")
        last = len(self.nest.phases) - 1
        for i, phase in enumerate(self.nest.phases):
            for r in phase.reduces:
                self.begin(r)
            self._phase(phase)
            for r in phase.reduces:
                self._together(phase, r)
                self.end(r)
            if phase.stores and i < last:
                w.line("cuda.syncthreads()")

    def _shared(self) -> None:
        dtypes: dict[str, None] = {}
        for phase in self.nest.phases:
            for r in phase.reduces if phase.axes else ():
                dtypes.setdefault(r.values[0].dtype.numpy.name)
                if r.monoid in ARGS:
                    dtypes.setdefault("positions")
        for name in dtypes:
            dtype = {"positions": "int64", "bool": "bool_"}.get(name, name)
            block = self.w.use("BLOCK")
            self.w.line(f"shared_{name} = cuda.shared.array({block}, np.{dtype})")

    def _phase(self, phase: Phase) -> None:
        w = self.w
        if not phase.axes:  # one element: all reduce it alike, one thread stores
            for r in phase.reduces:
                self.step(r)
            if phase.stores:
                with w.block("if t == 0:"):
                    self.stores(phase)
            return
        names = [a.name for a in phase.axes]
        counts = [w.extent(a, phase) for a in phase.axes]
        index = names[0] if len(names) == 1 else "q"
        head = f"for {index} in range(t, {' * '.join(counts)}, width):"
        with w.block(head, *names):
            if index == "q":
                w.decode(names, counts, "q")
            for r in phase.reduces:
                self.step(r)
            self.stores(phase)

    def _together(self, phase: Phase, r: Reduce) -> None:
        """Bring the threads' partial results together."""
        if not phase.axes:
            return
        w = self.w
        combine = w.use(f"block_{r.monoid}")
        shared = f"shared_{r.values[0].dtype.numpy.name}"
        if r.monoid in ARGS:
            at = f"{r.name}_at"
            w.line(f"{at} = {combine}({shared}, shared_positions, {r.name}, {at})")
        else:
            w.line(f"{r.name} = {combine}({shared}, {r.name})")


class TileNest(_Phases):
    """A block of 16 by 16 threads for a tile of a contraction.

    Its threads copy a tile of each operand into shared memory, multiply them, and go
    on along the depth; then each runs the epilogue for its own element.
    """

    def write(self) -> None:
        """Write the kernel's body."""
        w = self.w
        *batch, i, j = self.nest.axes
        first, *rest = self.nest.phases
        (product_,) = first.reduces
        (k,) = first.axes
        value = product_.values[0]
        assert isinstance(value, Apply)
        left, right = value.args
        tile = w.use("TILE")
        dtype = f"np.{value.dtype.numpy.name}"
        w.line(f"left = cuda.shared.array(({tile}, {tile}), {dtype})")
        w.line(f"right = cuda.shared.array(({tile}, {tile}), {dtype})")
        w.line("x, y = cuda.threadIdx.x, cuda.threadIdx.y")
        rows, columns, depth = w.extent(i), w.extent(j), w.extent(k, first)
        w.line(f"tall = ({rows} + {tile} - 1) // {tile}")
        w.line(f"wide = ({columns} + {tile} - 1) // {tile}")
        w.line("u = cuda.blockIdx.x")
        w.line(f"{j.name} = u % wide * {tile} + x")
        w.line(f"{i.name} = u // wide % tall * {tile} + y")
        self.decode(tuple(batch), "(u // wide // tall)")
        # Rows and columns past the end are there too: what depends on them is known
        # only within the branches that ask for them.
        w.blocks[-1].axes.update(a.name for a in batch)
        self.begin(product_)
        with w.block(f"for start in range(0, {depth}, {tile}):"):
            for name, e, own, along, place in (
                ("left", left, i, "x", rows),
                ("right", right, j, "y", columns),
            ):
                w.line(f"{k.name} = start + {along}")
                inside = f"{own.name} < {place} and {k.name} < {depth}"
                with w.block(f"if {inside}:", own.name, k.name):
                    w.line(f"{name}[y, x] = {w.value(e)}")
                with w.block("else:"):
                    w.line(f"{name}[y, x] = 0")
            w.line("cuda.syncthreads()")
            with w.block(f"for q in range({tile}):"):
                w.line(f"{product_.name} += left[y, q] * right[q, x]")
            w.line("cuda.syncthreads()")
        self.end(product_)
        inside = f"{i.name} < {rows} and {j.name} < {columns}"
        with w.block(f"if {inside}:", i.name, j.name):
            for phase in rest:
                self.stores(phase)
