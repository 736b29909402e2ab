"""Writes the loop over rows of which a phase is late: see late.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphc.backends.cpu.early import early
from graphc.backends.cpu.late import DRAFT, Late
from graphc.backends.cpu.writer import SPLAT, literal
from graphc.backends.shared.blocks import identity
from graphc.ir.program import Reduce
from graphc.ir.scalar import Axis, Expr, Ref, axis, const, rebuild, ref, walk
from graphc.ir.types import int64

if TYPE_CHECKING:
    from graphc.backends.cpu.vector_nest import VectorNest

ZERO = const(0, int64)
LINE = 64  # bytes that a cache reads and writes at once


@dataclass
class LateRows:
    """What a nest with a late phase writes differently.

    In the first turn none has gone before, so there is nothing to store; after the
    last one its rows are.
    """

    nest: VectorNest
    found: Late

    def __post_init__(self) -> None:
        """Let the nest's phases be those that keep drafts."""
        nest, found = self.nest, self.found
        w = nest.w
        self.row = nest.nest.axes[0].name
        self.marks = ("", *"bcdefgh"[: nest.points - 1])  # of rows side by side
        w.nest = nest.nest = nest.nest.replace(phases=found.phases)
        w.past, w.passing = frozenset(found.past), "stream_line"
        own = {b.name: b for b in found.drafts.values()}
        w.program = w.program.replace(buffers={**w.program.buffers, **own})
        w.arguments.program = w.program
        for i, (name, draft) in enumerate(found.drafts.items()):
            size, like = found.rows * found.room, w.arguments.buffer(name)
            w.arguments.own(draft.name, f"s{i}")
            w.line(f"s{i} = {w.use('drafts')}({like}, {size})")

    def loop(self) -> None:
        """Write the loop over rows."""
        w, step = self.nest.w, len(self.marks)
        w.line("behind = 0")
        for mark in self.marks:
            w.line(f"{self.row}{mark}z = first")
            if self.found.drafts:
                w.line(f"{DRAFT}{mark}z = 0")
            for r in self._needed:
                dtype = r.values[0].dtype
                start = literal(identity(r.monoid, dtype), dtype)
                splat = w.use(SPLAT[dtype.name])
                w.line(f"{r.name}{mark}z = {splat}({start}, full)")
        with w.loop(f"for u in range(first, last, {step}):"):
            for k, mark in enumerate(self.marks):
                self._begin(k, mark)
            self._know_late()
            self._heads(f" + (behind - head{{0}} & -{self._turn})")
            w.mask = "one"
            self.nest.phases()
            w.line(f"behind = {w.extent(self.found.late.axes[0], self.found.late)}")
            for mark in self.marks:
                for name in (*self._carried, *(r.name for r in self._needed)):
                    w.line(f"{name}{mark}z = {name}{mark}")
        self._know_late()
        self._heads("")
        self.rest()

    def _know_late(self) -> None:
        """Say that what a late row needs is known from here on."""
        w = self.nest.w
        for mark in self.marks:
            w.blocks[-1].axes.update(f"{name}{mark}z" for name in self._carried)
            for r in self._needed:
                w.define(f"{r.name}{mark}z", f"{r.name}{mark}z")

    @property
    def _carried(self) -> tuple[str, ...]:
        """Which row a late one is, and where its drafts are."""
        return (self.row, DRAFT) if self.found.drafts else (self.row,)

    @property
    def _needed(self) -> list[Reduce]:
        """The reductions that the late phase needs."""
        names = {e.name for e in walk(*self.found.late.roots) if isinstance(e, Ref)}
        every = [r for p in self.found.phases for r in p.reduces]
        return [r for r in every if r.name in names]

    def _begin(self, k: int, mark: str) -> None:
        """Write which row a turn computes, which it stores, and where drafts are."""
        w, found = self.nest.w, self.found
        ahead = f"u + {k}" if k else "u"
        # The last row may be computed several times, to the same bits.
        w.line(f"{self.row}{mark} = " + (f"min({ahead}, last - 1)" if k else "u"))
        w.blocks[-1].axes.add(f"{self.row}{mark}")
        if found.drafts:
            # Where the row will go modulo 4096, or its loads would wait for streams.
            draft, turn = f"{DRAFT}{mark}", ahead if ahead == "u" else f"({ahead})"
            w.line(f"{draft} = ({turn} & {found.rows - 1}) * {found.room}")
            here = f"{w.use('at')}(s0, {draft})"
            there = self._start(f"{self.row}{mark}")
            w.line(f"{draft} = {draft} + {w.use('gap')}({there}, {here})")
            w.blocks[-1].axes.add(draft)

    @property
    def _groups(self) -> list[tuple[str, ...]]:
        """The rows side by side that begin as far behind the beginning of a line."""
        program, late = self.nest.w.program, self.found.late
        for s in late.stores:
            buffer = program.buffers[s.buffer]
            step = buffer.step(s.index, self.row)
            if not isinstance(step, int) or step * buffer.dtype.itemsize % LINE:
                return [(mark,) for mark in self.marks]
        return [self.marks]

    def _heads(self, whole: str) -> None:
        """Write where the first whole line of a late row begins, and what is stored.

        whole: how much of it in whole lines, in the loop of the host.
        """
        w, nest = self.nest.w, self.nest
        for mark, *_ in self._groups:
            pointer = self._start(f"{self.row}{mark}z")
            w.line(f"head{mark} = -{w.use('lead')}({pointer}) & {nest.lanes - 1}")
            w.line(f"back{mark} = -head{mark} & {self._turn - 1}")
            w.line(f"done{mark} = head{mark}{whole.format(mark)}")

    def _start(self, row: str) -> str:
        """Return a pointer to the beginning of a row that is streamed."""
        w = self.nest.w
        first = next(s for s in self.found.late.stores if s.buffer in self.found.past)

        def start(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            if not isinstance(old, Axis):
                return None
            return axis(row) if old.name == self.row else ZERO

        index = tuple(rebuild(i, start) for i in first.index)
        offset, _, _ = w.place(first.buffer, index)
        return f"{w.use('at')}({w.arguments.buffer(first.buffer)}, {offset})"

    @property
    def _turn(self) -> int:
        """How many elements of a late row a turn of its host stores."""
        return self.nest.lanes * self.nest.vectors_of(self.found.host)

    def body(self) -> None:
        """Write the late phase in the loop of its host, as far as lines are whole."""
        w, nest = self.nest.w, self.nest
        for group in self._groups:
            name = f"{nest.axis}{group[0]}z"
            w.line(f"{name} = {nest.axis} - back{group[0]}")
            done = f"if {name} < done{group[0]}:"
            with w.block(f"if {name} >= 0:"), w.block(done, name):
                more = range(1, self._turn // nest.lanes)
                names = [name, *(f"{name}_{k}" for k in more)]
                for k in more:
                    w.line(f"{names[k]} = {name} + {k * nest.lanes}")
                    w.blocks[-1].axes.add(names[k])
                self._store(group, names, "full")

    def rest(self) -> None:
        """Write what is left of late rows: before the first whole line, and last."""
        w, nest = self.nest.w, self.nest
        for group in self._groups:
            name, head, done = (f"{x}{group[0]}" for x in (nest.axis, "head", "done"))
            name += "z"
            with w.block(
                f"for e in range({done} - {nest.lanes}, behind, {nest.lanes}):"
            ):
                w.line(f"{name} = e if e >= {done} else {head} - {nest.lanes}")
                w.line(f"mz = mask(behind - {name}, {nest.lanes})")
                w.line(f"mz = mz & ~mask(-{name}, {nest.lanes})")
                w.blocks[-1].axes.add(name)
                self._store(group, [name], "mz")

    def _store(self, group: tuple[str, ...], names: list[str], mask: str) -> None:
        """Write the late phase of some rows at some vectors."""
        w, late = self.nest.w, self.found.late
        before, w.early = w.early, early(w, late, late)
        copies = [
            (name, late.mapped(self._moved(mark, name)))
            for mark in group
            for name in names
        ]
        for name, phase in copies:
            with w.lane_axis(name, mask, mask):
                for s in phase.stores:
                    w.vector(s.value)
        for name, phase in copies:
            with w.lane_axis(name, mask, mask):
                for s in phase.stores:
                    w.store(s.buffer, s.index, s.value)
        w.early = before

    def _moved(self, mark: str, lane: str) -> Callable[[Expr], Expr]:
        """Return what makes an expression that of a late row."""
        nest = self.nest

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            if isinstance(old, Axis):
                return axis(lane if old.name == nest.axis else f"{old.name}{mark}z")
            if isinstance(old, Ref):
                return ref(f"{old.name}{mark}z", old.dtype)
            return None

        return lambda e: nest.relabelled(e, change)
