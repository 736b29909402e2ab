"""Nests that touch more than caches hold: what is asked for early, what goes past them.

    v0 = load_ahead(p0, i0, m, 512)         reads, and asks for what comes 512 later
    store_ahead(p1, i0, v1, m, 512)         writes, and asks to write that later
    stream(p1, i0, v1, m)                   writes without reading the line first

A processor guesses itself what is read next, but not beyond a page, and not so early
that arithmetic never waits.

    v1 = load_later(p2, ..., m, height * p2_i0, lines, number)

A contraction's epilogue reads rows of a tile, and then those of the tile below. Where
all that is large, it only notes their lines; the tile asks for one of them each turn
of its sums, so that memory works as long as the processor does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from graphc.backends.cpu.prelude.gemm_ir import LINES
from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.blocks import times
from graphc.ir.dims import Size
from graphc.ir.program import Nest, Phase, Program
from graphc.ir.scalar import Expr, Load, axes_of, load, walk
from graphc.passes.widen import work_of

# Elements within which memory answers, and within which they are still near when they
# are needed; and the same in rows, for sums down a column.
SOON, LATE, ROWS = 512, 8192, 4


def past(nest: Nest, program: Program) -> frozenset[str]:
    """Return the buffer that a nest may write past the caches, if there is one.

    Lines of several streams, or filled in turns with reads of rows, leave the few
    buffers that a processor has for them before they are whole.
    """
    root = program.root
    read = {root(n) for n in nest.reads}
    if len(nest.writes) != 1 or any(p.reduces for p in nest.phases):
        return frozenset()
    return frozenset(n for n in nest.writes if root(n) not in read)


def early(
    writer: Writer, phase: Phase, late: Phase | None = None
) -> dict[str, tuple[str, str]]:
    """Return which buffers a phase asks for early, and how: `Writer.early`.

    Of the phases that read a buffer, it is the one that computes most that asks for
    more of it: then memory works while the processor does. A phase that is a turn late
    runs in the loop of the one that does, and asks for what it reads.
    """
    nest, found = writer.nest, dict[str, tuple[str, str]]()
    for e in walk(*phase.roots):
        if isinstance(e, Load) and e.buffer not in nest.writes:
            readers = [p for p in nest.phases if e in walk(*p.roots)]
            if phase is max(readers, key=lambda p: (p is late, work_of(p))):
                found.update(_later(writer, phase, e.buffer, e, 1 + (phase is late)))
    sums = any(p.reduces for p in nest.phases)
    for s in phase.stores if phase.axes or not sums else ():
        writers = [
            p for p in nest.phases if any(s.buffer == x.buffer for x in p.stores)
        ]
        if phase is writers[0] and s.buffer not in writer.past:
            element = load(s.buffer, s.index, s.value.dtype)
            found.update(_later(writer, phase, s.buffer, element))
    return found


def _later(
    writer: Writer, phase: Phase, buffer: str, e: Expr, turns: int = 1
) -> dict[str, tuple[str, str]]:
    """Return how far away, in elements, accesses like this one lie so many turns later.

    Not where it is the same at all points of the outermost axis, and stays near. In a
    column the next rows are asked for, in a row the next point's row.
    """
    nest = writer.nest
    if not nest.axes or nest.axes[0].name not in axes_of(e):
        return {}
    last = nest.axes[-1].name
    across = nest.schedule is not None and nest.schedule.axis == last
    if across and not phase.axes:
        return {buffer: ("ahead", str(SOON))}
    name = phase.axes[-1].name if across else last
    step = writer.program.buffers[buffer].step(e.args, name)
    if step is None or step == 0:
        return {}
    pointer = writer.arguments.buffer(buffer)
    row = writer.arguments.factor(f"{pointer}_{name}", step)
    if across:
        return {buffer: ("ahead", f"{ROWS} * {row}")}
    assert nest.schedule is not None
    if turns * nest.schedule.points > 1:
        row = f"{turns * nest.schedule.points} * {row}"
    return {buffer: ("ahead", f"min(max({row}, {SOON}), {LATE})")}


@dataclass(frozen=True)
class Below:
    """What an epilogue asks for early: the rows of the tile below.

    row: the axis of rows; later: the epilogue's phases; tile: the rows and vectors of a
    tile that asks for what they note, None if none does.
    """

    writer: Writer
    row: str
    later: Sequence[Phase]
    tile: tuple[int, int] | None = None

    @cached_property
    def noted(self) -> dict[str, int]:
        """The buffers whose lines the next tile asks for, and their numbers.

        Asked for at once they would keep the core waiting, which has room for some ten
        lines that are on their way.
        """
        schedule = self.writer.nest.schedule
        if self.tile is None or schedule is None or not schedule.far:
            return {}
        height, vectors = self.tile
        found: dict[str, int] = {}
        for name, index in self._accesses:
            room = (len(found) + 1) * height * vectors <= LINES
            if room and name not in found and self._step(name, index) != 0:
                found[name] = len(found)
        return found

    def early(
        self, accesses: Sequence[tuple[str, Sequence[Expr]]]
    ) -> dict[str, tuple[str, str]]:
        """Return how accesses ask for what lies a tile below: `Writer.early`."""
        found: dict[str, tuple[str, str]] = {}
        for name, index in accesses if self.later else ():
            step = self._step(name, index)
            if step == 0:
                continue
            args = self.writer.arguments
            by = args.factor(f"{args.buffer(name)}_{self.row}", step)
            found[name] = "ahead", times("height", by)
            if self.tile is not None and name in self.noted:
                lanes, count = self.writer.lanes, len(self.noted)
                vector = f"(r * {self.tile[1]} + q // {lanes})"
                number = f"{vector} * {count} + {self.noted[name]}"
                found[name] = "later", f"{times('height', by)}, lines, {number}"
        return found

    @property
    def _accesses(self) -> list[tuple[str, Sequence[Expr]]]:
        found: list[tuple[str, Sequence[Expr]]] = []
        for phase in self.later:
            reads = (e for e in walk(*phase.roots) if isinstance(e, Load))
            found += [(e.buffer, e.args) for e in reads]
            found += [(s.buffer, s.index) for s in phase.stores]
        return found

    def _step(self, name: str, index: Sequence[Expr]) -> Size:
        """Return how far below the next row's element lies; 0 if that is unknown."""
        step = self.writer.program.buffers[name].step(tuple(index), self.row)
        return 0 if step is None else step
