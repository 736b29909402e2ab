"""Contractions on register tiles, with everything fused into their epilogue.

    for u in range(first, last):                # this thread's share of the tiles
        pack(...)                               # at the first tile of a panel
        tile(..., c, a, ..., b, ...)            # rows x columns into scratch
        for r in range(rows):                   # the epilogue, on what is in cache
            for q in range(0, cols, 16):
                ...

A panel is as many columns of the second operand as a tile has; its tiles follow each
other, so that it stays in the second-level cache. Where its rows are not contiguous,
or are read often, it is copied first, once for each thread that uses it. Which
thread computes which tiles changes nothing in the results: no sum crosses a tile.
"""

from __future__ import annotations

from graphc.backends.cpu.writer import Writer
from graphc.ir.dims import Size
from graphc.ir.program import Nest, Program
from graphc.ir.scalar import Apply, Load, affine
from graphc.ir.types import float32
from graphc.passes.schedule import stride


class TileNest:
    """Writes a nest with the strategy "tile". rows, columns: the tile's size."""

    def __init__(self, writer: Writer, rows: int, columns: int) -> None:
        schedule = writer.nest.schedule
        assert schedule is not None
        self.w = writer
        self.nest: Nest = writer.nest
        self.schedule = schedule
        self.rows, self.columns = rows, columns
        self.product = self.nest.phases[0].reduces[0]
        self.depth = self.nest.phases[0].axes[0]

    def write(self) -> None:
        """Write the kernel's body."""
        w, s = self.w, self.schedule
        lanes, mr, nr = s.lanes, self.rows, self.columns
        w.use("mask")
        w.line(f"full = mask({lanes}, {lanes})")
        *batch, i, j = self.nest.axes
        value = self.product.values[0]
        assert isinstance(value, Apply)
        a, b = value.args
        assert isinstance(a, Load)
        assert isinstance(b, Load)
        args = w.arguments
        kind = "f32" if value.dtype is float32 else "f64"
        args.special("routine", "tile_at", f"tile {value.dtype.name}")
        args.special("routine", "pack_at", f"pack {value.dtype.name}")
        w.use(kind)
        w.use("at")
        args.special("choice", "room", "room", "scratch of a thread, in elements")
        args.special("scratch", "c", kind, "a tile of sums, this thread's own")
        args.special("scratch", "panel", kind, "a copied panel, this thread's own")
        args.special("choice", "copied", "pack", "whether panels are copied")
        n = {x.name: args.size(f"n_{x.name}", x.extent) for x in (*batch, i, j)}
        k = args.size(f"n_{self.depth.name}", self.depth.extent)

        w.line(f"tall = ({n[i.name]} + {mr - 1}) // {mr}")
        w.line(f"height = ({n[i.name]} + tall - 1) // max(tall, 1)")
        w.line(f"wide = ({n[j.name]} + {nr - 1}) // {nr}")
        tiles = " * ".join([*(n[x.name] for x in batch), "wide", "tall"])
        w.line(f"tiles = {tiles}")
        w.line("first, last = tiles * t // nt, tiles * (t + 1) // nt")
        w.line("current = -1")
        with w.loop("for u in range(first, last):", *(x.name for x in batch)):
            w.line("band = u // tall")
            rest = "band"
            if batch:
                w.line("which = band // wide")
                w.line("column = band % wide * " + str(nr))
                rest = "which"
                for x in reversed(batch[1:]):
                    w.line(f"{x.name} = {rest} % {n[x.name]}")
                    w.line(f"rest_{x.name} = {rest} // {n[x.name]}")
                    rest = f"rest_{x.name}"
                w.line(f"{batch[0].name} = {rest}")
            else:
                w.line(f"column = band * {nr}")
            w.line("row = u % tall * height")
            w.line(f"rows = min(height, {n[i.name]} - row)")
            w.line(f"cols = min({nr}, {n[j.name]} - column)")
            pa, base_a, step_a = self._operand(a, i.name, "row")
            pb, base_b, step_b = self._operand(b, j.name, "column")
            sa_k, sb_k = (self._step(x, self.depth.name) for x in (a, b))
            w.use("pack")
            w.use("tile")
            with w.loop("if copied and band != current:"):
                w.line(f"pack(pack_at, panel, {nr}, at({pb}, {base_b}), {sb_k}, {step_b}, {k}, cols)")
                w.line("current = band")
            with w.loop("if copied:"):
                w.line(
                    f"tile(tile_at, c, at({pa}, {base_a}), {step_a}, {sa_k}, rows, "
                    f"panel, {nr}, {k}, cols, 0)"
                )
            with w.loop("else:"):
                w.line(
                    f"tile(tile_at, c, at({pa}, {base_a}), {step_a}, {sa_k}, rows, "
                    f"at({pb}, {base_b}), {sb_k}, {k}, cols, 0)"
                )
            self._epilogue(i.name, j.name, nr, lanes)

    def _step(self, e: Load, axis: str) -> str:
        """Return how far a read moves along an axis, as an argument."""
        pointer = self.w.arguments.buffer(e.buffer)
        total: Size = 0
        buffer = self.w.program.buffers[e.buffer]
        for x, stride in zip(e.args, buffer.strides, strict=True):
            form = affine(x)
            assert form is not None
            total = total + form.get(axis, 0) * stride
        return self.w._factor(f"{pointer}_{axis}", total)

    def _operand(self, e: Load, axis: str, local: str) -> tuple[str, str, str]:
        """Return an operand's pointer, its offset at the tile, and its own step."""
        pointer = self.w.arguments.buffer(e.buffer)
        step = self._step(e, axis)
        terms = [local if step == "1" else f"{local} * {step}"]
        names = {n for x in e.args for n in affine(x) or {}}
        for name in sorted(names - {axis, self.depth.name, ""}):
            factor = self._step(e, name)
            terms.append(name if factor == "1" else f"{name} * {factor}")
        if "" in names:
            terms.append(self._step(e, ""))
        return pointer, " + ".join(terms), step

    def _epilogue(self, i: str, j: str, nr: int, lanes: int) -> None:
        w = self.w
        w.use("load")
        with w.loop("for r in range(rows):", i):
            w.line(f"{i} = row + r")
            with w.loop(f"for q in range(0, cols, {lanes}):", j, mask="m"):
                w.line(f"{j} = column + q")
                w.line(f"m = mask(cols - q, {lanes})")
                w.axis = j
                w.line(f"{self.product.name} = load(c, r * {nr} + q, m)")
                w.define(self.product.name, self.product.name)
                for phase in self.nest.phases[1:]:
                    values = [(s, w.vector(s.value)) for s in phase.stores]
                    for s, _ in values:
                        w.store(s.buffer, s.index, s.value)
                w.axis = ""


def second_stride(nest: Nest, program: Program) -> Size:
    """Return how far the second operand's columns are apart, in elements."""
    value = nest.phases[0].reduces[0].values[0]
    _, b = value.args
    assert isinstance(b, Load)
    found = stride(program.buffers[b.buffer], b.args, nest.axes[-1].name)
    assert found is not None
    return found
