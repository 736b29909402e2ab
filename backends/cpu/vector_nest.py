"""Nests with lanes along one axis: elementwise work, reductions, softmax and kin.

    for u in range(first, last):            # this thread's share of the points
        for k0 in range(0, n_k0, 16):       # a phase that reduces along lanes
            ...
        for k0 in range(0, n_k0, 16):       # a phase that stores
            ...

The lanes run along the last parallel axis (then a point is a block of that axis) or
along the last axis of each phase (then a point is a row). Which threads compute
which points changes nothing in the results: no sum crosses a point. A loop that reduces
may take several vectors side by side: k0, k0_1, ... under masks m, m_1, ... A nest of
long chains takes several rows side by side, i0 and i0b and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace

from graphc.backends.cpu.early import early, past
from graphc.backends.cpu.late import DRAFT, late_of
from graphc.backends.cpu.late_rows import LateRows
from graphc.backends.cpu.writer import SPLAT, Writer, literal
from graphc.backends.shared.blocks import first_place, identity
from graphc.ir.program import LoopAxis, Nest, Phase, Reduce, Store
from graphc.ir.program.program import ARGS
from graphc.ir.scalar import Axis, Const, Expr, Ref, axis, rebuild, ref, walk
from graphc.passes.widen import is_light

BLOCK = 16  # vectors of an elementwise block: large enough to hide the division

COMBINE = {
    "sum": "{0} + {1}",
    "prod": "{0} * {1}",
    "max": "maximum({0}, {1})",
    "min": "minimum({0}, {1})",
    "any": "{0} | {1}",
    "all": "{0} & {1}",
}


Change = Callable[[Expr, tuple[Expr, ...]], Expr | None]


class VectorNest:
    """Writes a nest with the strategy "vector"."""

    def __init__(self, writer: Writer) -> None:
        schedule = writer.nest.schedule
        assert schedule is not None
        self.labels = dict(writer.nest.labels)
        self.nest: Nest = writer.nest.replace(labels=self.labels)
        writer.nest = self.nest
        self.w = writer
        self.lanes = schedule.lanes
        self.vectors = schedule.vectors
        self.axis = schedule.axis
        self.far = schedule.far
        self.points = schedule.points
        names = [a.name for a in self.nest.axes]
        self.across = self.axis in names  # lanes along a parallel axis
        self.w.axis = self.axis if self.across else ""
        self.late: LateRows | None = None
        self.hosts = False  # whether the phase at hand stores late rows too

    def write(self) -> None:
        """Write the kernel's body."""
        w = self.w
        w.use("mask")
        w.line(f"full = mask({self.lanes}, {self.lanes})")
        if not self.across:
            w.line(f"one = mask(1, {self.lanes})")
        if not self.nest.axes:
            w.mask = "one"
            self.phases()
            return
        if self.far == "stream" and self.across:
            w.past = past(w.nest, w.program)
        elif self.far == "stream":
            late = late_of(self.nest, w.program, self.relabelled)
            self.late = LateRows(self, late) if late is not None else None
        self._points()
        if w.past:
            w.line(f"{w.use('drain')}()")

    # --- points -------------------------------------------------------------------

    def _points(self) -> None:
        w = self.w
        axes = self.nest.axes
        outer = axes[:-1] if self.across else axes
        counts = [w.extent(a) for a in outer]
        reduces = any(p.reduces or p.axes for p in self.nest.phases)
        length, skew = self.lanes * (self.vectors if reduces else BLOCK), ""
        if self.across:
            n = w.extent(axes[-1])
            if w.past and not outer:
                # Blocks begin where whole vectors fill whole lines.
                (streamed,) = w.past
                skew = "skew"
                w.line(f"{skew} = {w.use('lead')}({w.arguments.buffer(streamed)})")
            total = f"{n} + {skew}" if skew else n
            w.line(f"blocks = ({total} + {length - 1}) // {length}")
            counts.append("blocks")
        w.line(f"points = {' * '.join(counts)}")
        w.use("share")
        w.line("first, last = share(points, t, nt)")
        if self.late is not None:
            self.late.loop()
            return
        names = [a.name for a in outer] + ["block"] * self.across
        several = len(names) > 1
        if several:
            # A division takes as long as a vector of work: one here, no more below.
            w.decode(names, [f"max({count}, 1)" for count in counts], "first")
        step = f", {self.points}" if self.points > 1 else ""
        with w.loop(f"for u in range(first, last{step}):", *(a.name for a in outer)):
            if not several:
                w.line(f"{names[0]} = u")
            for k in range(1, self.points):
                # The last row may be computed several times, to the same bits.
                other = _other(names[0], k)
                w.line(f"{other} = min(u + {k}, last - 1)")
                w.blocks[-1].axes.add(other)
            if not self.across:
                w.mask = "one"
                self.phases()
            elif reduces:
                self._block(length)
            else:
                self._stretch(length, skew)
            if several:
                w.advance(names, counts)

    def _block(self, length: int) -> None:
        """Write what is done for vectors side by side along the last axis."""
        w, last = self.w, self.nest.axes[-1]
        w.line(f"{last.name} = block * {length}")
        w.blocks[-1].axes.add(last.name)
        self._side_by_side(last.name, w.extent(last), self.vectors)
        w.mask = "m"
        self.phases()

    def _stretch(self, length: int, skew: str) -> None:
        """Write the loop over the vectors of a block of the last axis."""
        w, last = self.w, self.nest.axes[-1]
        name, n = last.name, w.extent(last)
        start = f"block * {length} - {skew}" if skew else f"block * {length}"
        w.line(f"end = min({start} + {length}, {n})")
        head = f"for {name} in range({start}, end, {self.lanes}):"
        with w.loop(head, name, mask="m"):
            below = f" & ~mask(-{name}, {self.lanes})" if skew else ""
            w.line(f"m = mask({n} - {name}, {self.lanes}){below}")
            self.phases()

    # --- rows side by side --------------------------------------------------------

    def _all_rows(self, phase: Phase) -> Phase:
        """Return a phase that computes the other rows too."""
        rows = [phase, *(self._row(phase, k) for k in range(1, self.points))]
        return replace(
            phase,
            reduces=tuple(r for row in rows for r in row.reduces),
            stores=tuple(s for row in rows for s in row.stores),
        )

    def _row(self, phase: Phase, k: int) -> Phase:
        """Return what a phase computes of row k."""
        (row,) = (a.name for a in self.nest.axes)

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            if isinstance(old, Axis) and old.name in (row, DRAFT):
                return axis(_other(old.name, k))
            return ref(_other(old.name, k), old.dtype) if isinstance(old, Ref) else None

        other = phase.mapped(lambda e: self.relabelled(e, change))
        reduces = [replace(r, name=_other(r.name, k)) for r in other.reduces]
        return replace(other, reduces=tuple(reduces))

    # --- vectors side by side -----------------------------------------------------

    def _side_by_side(self, name: str, n: str, vectors: int) -> None:
        """Write the masks of vectors side by side, and where they begin."""
        w = self.w
        w.line(f"m = mask({n} - {name}, {self.lanes})")
        for k in range(1, vectors):
            w.line(f"{_at(name, k)} = {name} + {k * self.lanes}")
            w.line(f"{_at('m', k)} = mask({n} - {_at(name, k)}, {self.lanes})")
            w.blocks[-1].axes.add(_at(name, k))

    def vectors_of(self, phase: Phase) -> int:
        """Return how many vectors a phase computes side by side."""
        if self.across or (self._along(phase) and is_light(phase)):
            return self.vectors
        return 1

    def _moved(self, root: Expr, k: int) -> Expr:
        """Return what an expression of the first vector is in vector k."""
        if k == 0:
            return root

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            if isinstance(old, Axis) and old.name == self.axis:
                return axis(_at(old.name, k))
            if isinstance(old, Ref) and self.across:
                return ref(_at(old.name, k), old.dtype)
            return None

        return self.relabelled(root, change)

    def relabelled(self, root: Expr, change: Change) -> Expr:
        """Return an expression rebuilt, and label its parts as those of the old."""

        def moved(e: Expr) -> Expr:
            new = rebuild(e, change)
            if e in self.labels:
                self.labels.setdefault(new, self.labels[e])
            return new

        for part in walk(root):
            moved(part)
        return moved(root)

    def _reduce(self, r: Reduce, k: int) -> Reduce:
        values = tuple(self._moved(v, k) for v in r.values)
        return replace(r, name=_at(r.name, k), values=values)

    def _store(self, s: Store, k: int) -> Store:
        index = tuple(self._moved(i, k) for i in s.index)
        return replace(s, index=index, value=self._moved(s.value, k))

    # --- phases -------------------------------------------------------------------

    def phases(self) -> None:
        """Write the phases of a point."""
        late = self.late.found if self.late is not None else None
        for phase in self.nest.phases:
            if late is not None and phase is late.late:
                continue
            self.hosts = late is not None and phase is late.host
            if self._fills(phase):
                self._fill(phase)
                continue
            vectors = self.vectors_of(phase)
            rows = self._all_rows(phase) if self.points > 1 else phase
            copies = [
                replace(
                    rows,
                    reduces=tuple(self._reduce(r, k) for r in rows.reduces),
                    stores=tuple(self._store(s, k) for s in rows.stores),
                )
                for k in range(vectors)
            ]
            for k, copy in enumerate(copies):
                with self._vector(k):
                    for r in copy.reduces:
                        self._begin(r)
            self.w.early = (
                early(self.w, phase, late.late if late else None) if self.far else {}
            )
            self._loops(copies, list(phase.axes))
            if self._along(phase):
                self._join(rows, vectors)
            for copy in copies[: vectors if self.across else 1]:
                for r in copy.reduces:
                    self._end(copy, r)

    def _fills(self, phase: Phase) -> bool:
        """Whether a phase stores numbers alone, to neighbours along its last axis.

        Where lanes run along a parallel axis they would be scattered.
        """
        if not self.across or not phase.axes or phase.reduces:
            return False
        for s in phase.stores:
            buffer = self.w.program.buffers[s.buffer]
            if s.accumulate or not all(isinstance(e, Const) for e in walk(s.value)):
                return False
            if buffer.step(s.index, phase.axes[-1].name) != 1:
                return False
            if buffer.step(s.index, self.axis) in (None, 1):
                return False
        return True

    def _fill(self, phase: Phase) -> None:
        """Write such a phase: point by point, lanes along its last axis."""
        w = self.w
        row = f"{self.axis}_row"

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            mine = isinstance(old, Axis) and old.name == self.axis
            return axis(row) if mine else None

        *outer, last = phase.axes
        n = w.extent(last, phase)
        length = self.lanes * self.vectors
        w.line(f"end = min({self.axis} + {length}, {w.extent(self.nest.axes[-1])})")
        with ExitStack() as loops:
            loops.enter_context(w.loop(f"for {row} in range({self.axis}, end):", row))
            for a in outer:
                head = f"for {a.name} in range({w.extent(a, phase)}):"
                loops.enter_context(w.loop(head, a.name))
            head = f"for {last.name} in range(0, {n}, {self.lanes}):"
            loops.enter_context(w.loop(head, last.name))
            w.line(f"m_{last.name} = mask({n} - {last.name}, {self.lanes})")
            mask = f"m_{last.name}"
            loops.enter_context(w.lane_axis(last.name, mask, mask))
            for s in phase.stores:
                index = tuple(rebuild(i, change) for i in s.index)
                w.store(s.buffer, index, s.value)

    def _vector(self, k: int) -> AbstractContextManager[None]:
        """Write what follows for one of the vectors side by side."""
        w = self.w
        if k == 0 or not w.axis:
            return nullcontext()
        m = _at("m", k)
        return w.lane_axis(_at(self.axis, k), m, m)

    def _along(self, phase: Phase) -> bool:
        """Whether a phase's last axis runs along the lanes."""
        return bool(phase.axes) and phase.axes[-1].name == self.axis and not self.across

    def _loops(self, copies: Sequence[Phase], axes: list[LoopAxis]) -> None:
        w = self.w
        if not axes:
            self._body(copies)
            return
        phase = copies[0]
        a, *rest = axes
        n = w.extent(a, phase)
        if not rest and self._along(phase):
            step = self.lanes * len(copies)
            late = self.late if self.hosts else None
            with w.loop(f"for {a.name} in range(0, {n}, {step}):", a.name, mask="m"):
                self._side_by_side(a.name, n, len(copies))
                w.axis = self.axis
                self._body(copies)
                if late is not None:
                    late.body()
                w.axis = ""
            if late is not None:
                late.rest()
            return
        with w.loop(f"for {a.name} in range({n}):", a.name):
            self._loops(copies, rest)

    def _body(self, copies: Sequence[Phase]) -> None:
        w = self.w
        for k, phase in enumerate(copies):
            with self._vector(k):
                for r in phase.reduces:
                    self._step(phase, r)
                # Values first: what a phase stores it does not read again.
                for s in phase.stores:
                    w.vector(s.value)
        for k, phase in enumerate(copies):
            with self._vector(k):
                for s in phase.stores:
                    if s.accumulate:
                        w.accumulate(s.buffer, s.index, s.value)
                    else:
                        w.store(s.buffer, s.index, s.value)

    # --- reductions ---------------------------------------------------------------

    def _begin(self, r: Reduce) -> None:
        w = self.w
        dtype = r.values[0].dtype
        splat = w.use(SPLAT[dtype.name])
        start = literal(identity(r.monoid, dtype), dtype)
        w.line(f"{r.name} = {splat}({start}, full)")
        if r.monoid in ARGS:
            w.line(f"{r.name}_at = {w.vector(first_place(self.nest, r.values))}")

    def _step(self, phase: Phase, r: Reduce) -> None:
        w = self.w
        values = [w.vector(v) for v in r.values]
        inside = w.inside if self._along(phase) else ""
        if r.monoid in ARGS:
            best, at = r.name, f"{r.name}_at"
            better = w.name("b")
            beats = w.use(f"beats_{r.monoid[3:]}")
            test = f"{beats}({best}, {values[0]})"
            w.line(f"{better} = {test}" + (f" & {inside}" if inside else ""))
            w.use("select")
            w.line(f"{best} = select({better}, {values[0]}, {best})")
            w.line(f"{at} = select({better}, {values[1]}, {at})")
            return
        new = self._combined(r, r.name, values[0])
        if inside and not (r.monoid == "sum" and w.zero_when_off(r.values[0])):
            w.use("select")
            w.line(f"{r.name} = select({inside}, {new}, {r.name})")
        else:
            w.line(f"{r.name} = {new}")

    def _combined(self, r: Reduce, a: str, b: str) -> str:
        if r.monoid in ("max", "min"):
            self.w.use(f"{r.monoid}imum")
        return COMBINE[r.monoid].format(a, b)

    def _join(self, phase: Phase, vectors: int) -> None:
        """Bring the accumulators of vectors side by side together, in pairs."""
        while vectors > 1:
            vectors //= 2
            for r in phase.reduces:
                for k in range(vectors):
                    one, other = _at(r.name, k), _at(r.name, k + vectors)
                    self.w.line(f"{one} = {self._combined(r, one, other)}")

    def _end(self, phase: Phase, r: Reduce) -> None:
        """Bring the lanes together where the phase ran along them."""
        w = self.w
        if r.monoid in ARGS:
            best, at = r.name, f"{r.name}_at"
            if self._along(phase):
                whole = w.use(f"h{r.monoid}")
                w.line(f"_, {at}_0 = {whole}({best}, {at}, full)")
                w.line(f"{at} = {w.use('splat_i64')}({at}_0, full)")
            w.define(r.name, at)
            return
        dtype = r.values[0].dtype
        if self._along(phase):
            horizontal = w.use(f"h{r.monoid}")
            splat = w.use(SPLAT[dtype.name])
            w.line(f"{r.name} = {splat}({horizontal}({r.name}), full)")
        w.define(r.name, r.name)


def _other(name: str, k: int) -> str:
    """Return what a local of the first row is called in row k."""
    return f"{name}{'abcdefgh'[k]}"


def _at(name: str, k: int) -> str:
    """Return what a local of the first vector is called in vector k."""
    return f"{name}_{k}" if k else name
