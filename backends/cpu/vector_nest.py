"""Nests with lanes along one axis: elementwise work, reductions, softmax and kin.

    for u in range(first, last):            # this thread's share of the points
        for k0 in range(0, n_k0, 16):       # a phase that reduces along lanes
            ...
        for k0 in range(0, n_k0, 16):       # a phase that stores
            ...

The lanes run along the last parallel axis (then a point is a block of that axis) or
along the last axis of each phase (then a point is a row). Which threads compute
which points changes nothing in the results: no sum crosses a point.
"""

from __future__ import annotations

from graphc.backends.cpu.writer import SPLAT, Writer, literal
from graphc.backends.shared.blocks import first_place, identity
from graphc.ir.program import LoopAxis, Nest, Phase, Reduce
from graphc.ir.program.program import ARGS

BLOCK = 16  # vectors of an elementwise block: large enough to hide the division

COMBINE = {
    "sum": "{0} + {1}",
    "prod": "{0} * {1}",
    "max": "maximum({0}, {1})",
    "min": "minimum({0}, {1})",
    "any": "{0} | {1}",
    "all": "{0} & {1}",
}


class VectorNest:
    """Writes a nest with the strategy "vector"."""

    def __init__(self, writer: Writer) -> None:
        schedule = writer.nest.schedule
        assert schedule is not None
        self.w = writer
        self.nest: Nest = writer.nest
        self.lanes = schedule.lanes
        self.axis = schedule.axis
        names = [a.name for a in self.nest.axes]
        self.across = self.axis in names  # lanes along a parallel axis
        self.w.axis = self.axis if self.across else ""

    def write(self) -> None:
        """Write the kernel's body."""
        w = self.w
        w.use("mask")
        w.line(f"full = mask({self.lanes}, {self.lanes})")
        if not self.across:
            w.line(f"one = mask(1, {self.lanes})")
        if not self.nest.axes:
            w.mask = "one"
            self._phases()
            return
        self._points()

    # --- points -------------------------------------------------------------------

    def _points(self) -> None:
        w = self.w
        axes = self.nest.axes
        outer = axes[:-1] if self.across else axes
        counts = [w.extent(a) for a in outer]
        length, n = 0, ""
        if self.across:
            reduces = any(p.reduces or p.axes for p in self.nest.phases)
            length = self.lanes if reduces else self.lanes * BLOCK
            n = w.extent(axes[-1])
            w.line(f"blocks = (n_{axes[-1].name} + {length - 1}) // {length}")
            counts.append("blocks")
        w.line(f"points = {' * '.join(counts)}")
        w.use("share")
        w.line("first, last = share(points, t, nt)")
        names = [a.name for a in outer] + ["block"] * self.across
        several = len(names) > 1
        if several:
            # A division takes as long as a vector of work: one here, no more below.
            some = [f"max({count}, 1)" for count in counts]
            w.decode(names, some, "first")
        with w.loop("for u in range(first, last):", *(a.name for a in outer)):
            if not several:
                w.line(f"{names[0]} = u")
            self._point(length, n)
            if several:
                w.advance(names, counts)

    def _point(self, length: int, n: str) -> None:
        """Write what is done at a point, or in a block of the last axis."""
        w = self.w
        if not self.across:
            w.mask = "one"
            self._phases()
            return
        name = self.nest.axes[-1].name
        if length == self.lanes:
            w.line(f"{name} = block * {length}")
            w.line(f"m = mask({n} - {name}, {self.lanes})")
            w.mask = "m"
            w.blocks[-1].axes.add(name)
            self._phases()
            return
        w.line(f"end = min(block * {length} + {length}, {n})")
        head = f"for {name} in range(block * {length}, end, {self.lanes}):"
        with w.loop(head, name, mask="m"):
            w.line(f"m = mask({n} - {name}, {self.lanes})")
            self._phases()

    # --- phases -------------------------------------------------------------------

    def _phases(self) -> None:
        for phase in self.nest.phases:
            locals_ = [self._begin(r) for r in phase.reduces]
            self._loops(phase, list(phase.axes), locals_)
            for r, local in zip(phase.reduces, locals_, strict=True):
                self._end(phase, r, local)

    def _along(self, phase: Phase) -> bool:
        """Whether a phase's last axis runs along the lanes."""
        return bool(phase.axes) and phase.axes[-1].name == self.axis and not self.across

    def _loops(
        self, phase: Phase, axes: list[LoopAxis], locals_: list[tuple[str, ...]]
    ) -> None:
        w = self.w
        if not axes:
            self._body(phase, locals_)
            return
        a, *rest = axes
        n = w.extent(a, phase)
        if not rest and self._along(phase):
            with w.loop(
                f"for {a.name} in range(0, {n}, {self.lanes}):", a.name, mask="m"
            ):
                w.line(f"m = mask({n} - {a.name}, {self.lanes})")
                w.axis = self.axis
                self._body(phase, locals_)
                w.axis = self.axis if self.across else ""
            return
        with w.loop(f"for {a.name} in range({n}):", a.name):
            self._loops(phase, rest, locals_)

    def _body(self, phase: Phase, locals_: list[tuple[str, ...]]) -> None:
        w = self.w
        for r, local in zip(phase.reduces, locals_, strict=True):
            self._step(phase, r, local)
        # Values first: what a phase stores it does not read again.
        stores = [(s, w.vector(s.value)) for s in phase.stores]
        for s, _ in stores:
            if s.accumulate:
                w.accumulate(s.buffer, s.index, s.value)
            else:
                w.store(s.buffer, s.index, s.value)

    # --- reductions ---------------------------------------------------------------

    def _begin(self, r: Reduce) -> tuple[str, ...]:
        w = self.w
        dtype = r.values[0].dtype
        splat = w.use(SPLAT[dtype.name])
        start = literal(identity(r.monoid, dtype), dtype)
        w.line(f"{r.name} = {splat}({start}, full)")
        if r.monoid in ARGS:
            w.line(f"{r.name}_at = {w.vector(first_place(self.nest, r.values))}")
            return r.name, f"{r.name}_at"
        return (r.name,)

    def _step(self, phase: Phase, r: Reduce, local: tuple[str, ...]) -> None:
        w = self.w
        values = [w.vector(v) for v in r.values]
        partial = self._along(phase)
        if r.monoid in ARGS:
            best, at = local
            better = w.name("b")
            beats = w.use(f"beats_{r.monoid[3:]}")
            test = f"{beats}({best}, {values[0]})"
            w.line(f"{better} = {test}" + (" & m" if partial else ""))
            w.use("select")
            w.line(f"{best} = select({better}, {values[0]}, {best})")
            w.line(f"{at} = select({better}, {values[1]}, {at})")
            return
        combine = COMBINE[r.monoid]
        if r.monoid in ("max", "min"):
            w.use(f"{r.monoid}imum")
        new = combine.format(r.name, values[0])
        if partial and not (r.monoid == "sum" and w.zero_when_off(r.values[0])):
            w.use("select")
            w.line(f"{r.name} = select(m, {new}, {r.name})")
        else:
            w.line(f"{r.name} = {new}")

    def _end(self, phase: Phase, r: Reduce, local: tuple[str, ...]) -> None:
        """Bring the lanes together where the phase ran along them."""
        w = self.w
        if r.monoid in ARGS:
            best, at = local
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
