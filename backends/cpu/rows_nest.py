"""Contractions whose windows are the rows of tiles, read where they lie.

    for q in range(0, n, 64):                   # the weights, as panels of columns
        pack(..., panel, ...)
    for band in range(from_band, to_band):
        fill_frame(...)                         # an image
        for top in range(low, high, 16):        # some of its windows at a time
            for v in range(top, end):
                tile_rows(..., c, ..., framed, ..., panel, ...)
            pack(..., turned, ..., c, ...)      # turned back for the epilogue
            for r in range(cols):
                for q in range(0, lines, 16):
                    ...

Each number of a window is broadcast from where it lies, by two tables of offsets; the
other operand, of which there is a ninth where windows are of 3 x 3, is transposed to be
columns. So an image is read by all its windows, and its copies are one, not three. The
second cache serves panels as fast as tiles multiply.

Where panels are deeper than that, more tiles are summed up piece by piece. Where a sum
has parts, as the gradient by the weights has one for each image, the panels
are those of a part, and the scratch holds all tiles until the last part is added.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from graphc.backends.cpu.early import Below
from graphc.backends.cpu.tile_forms import gathers, neighbours
from graphc.backends.cpu.tile_nest import TileNest
from graphc.backends.cpu.tile_windows import (
    DEEP_OF_ROWS,
    STRIP,
    may_be_deep,
    panel_width,
)
from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.blocks import times
from graphc.ir.dims import Size
from graphc.ir.program import Store
from graphc.passes.contraction import Contraction, steps


class RowsNest(TileNest):
    """Writes a nest with the strategy "tile" whose windows are rows."""

    tile = "tile_rows"
    direct: Store | None = None  # its sums have to be turned back

    def __init__(
        self, writer: Writer, found: Contraction, tile: tuple[int, int], index: str
    ) -> None:
        super().__init__(writer, found, tile, index)
        self.sides = found.columns, (found.row,)
        self.deepest = DEEP_OF_ROWS
        self.pieces = may_be_deep(found)
        self.width = panel_width(found, self.columns, self.lanes)
        self.gathered = gathers(found.a, (found.row,), found)

    @property
    def asks(self) -> bool:
        """Whether tiles ask for windows: where each comes from another line."""
        return not neighbours(self.roles, self.columns)[1]

    def _copied(self) -> list[tuple[Size, Size]]:
        x = self.roles
        found: list[tuple[Size, Size]] = [(1, self.columns)]
        if not self.gathered:
            found.append((self._move(x.a, x.depth), self._move(x.a, (x.row,))))
        return found

    def _gathered(self) -> list[str]:
        return ["runs"]

    def _span(self) -> tuple[str, str]:
        return "low * height", f"min(high * height, {self.m})"

    # --- the other operand ------------------------------------------------------------

    def _first(self) -> None:
        """Write the copy of the other operand, unless each part has its own."""
        w, x = self.w, self.roles
        self.w.use("pack")
        self._routine("pack_at", "pack")
        if x.blocks:
            return
        fresh = "band == from_band"
        if any(step != 0 for _, step in steps(x.a, x.batch, w.program)):
            fresh = f"({fresh}) | (column == 0)"  # another one for these windows
        n, nr = self.n, self.width
        with w.loop(f"if {fresh}:"), w.loop(f"for q in range(0, {n}, {nr}):"):
            to = f"at(panel, q * {self.k})"
            self._panel(to, "0", "q", self.k, f"min({n} - q, {nr})")

    def _panel(self, to: str, down: str, across: str, k: str, cols: str) -> None:
        """Write the copy of a panel, so deep, from a place along the sum on."""
        w, x, nr = self.w, self.roles, self.width
        pointer, base = self._base(x.a, (*x.batch, *x.blocks))
        if self.gathered:
            w.use("gather_panel")
            self._routine("gather_at", "gather")
            rows = self._offsets("rows_a", x.a, (x.row,))
            deep = self._offsets("deep_a", x.a, x.depth)
            source = f"at({pointer}, {base}), {deep}, {k}, {rows} + 8 * {across}"
            w.line(f"gather_panel(gather_at, {to}, {nr}, {source}, {cols}, 0)")
            return
        by, over = self._step(x.a, x.depth), self._step(x.a, (x.row,))
        moved = [times(n, step) for n, step in ((down, by), (across, over)) if n != "0"]
        begin = " + ".join([base, *moved] if base != "0" else moved)
        source = f"at({pointer}, {begin}), {by}, {over}, {k}, {cols}"
        w.line(f"pack(pack_at, {to}, {nr}, {source})")

    # --- sums -------------------------------------------------------------------------

    def _sums(self, part: str) -> None:
        if self.roles.blocks:
            self._pieces(part)
        elif self.pieces:
            with self._some(STRIP, "start", "stop", "low", "high"):
                self._pieces(part)
                self._turned_back("start", "stop")
        else:
            with self._some(self.lanes, "top", "end", "low", "high"):
                panel = f"at(panel, column * {self.k}), {self.width}"
                self._tiles_of("top", "end", panel, "0", self.k, "0")
                self._turn("c")

    def _piece(self, start: str, count: str, added: str) -> None:
        if self.roles.blocks:
            self._panel("panel", start, "column", count, "cols")
            panel = f"panel, {self.width}"
            self._tiles_of("low", "high", panel, start, count, added)
        else:
            panel = f"at(panel, column * {self.k} + {start} * {self.width})"
            panel = f"{panel}, {self.width}"
            self._tiles_of("start", "stop", panel, start, count, added)

    def _tiles_of(
        self, first: str, last: str, panel: str, start: str, count: str, added: str
    ) -> None:
        """Write the sums of some tiles over so many places, from one on.

        panel: the text of where the columns lie, and of the step between their rows.
        """
        w, x, nr = self.w, self.roles, self.columns
        pointer, base = self._base(x.b, (*x.batch, *x.blocks))
        rows = self._offsets("across_b", x.b, x.columns)
        deep = self._offsets("deep_b", x.b, x.depth)
        deep = deep if start == "0" else f"{deep} + 8 * {start}"
        with w.loop(f"for v in range({first}, {last}):"):
            self._rows()
            to = f"at(c, (v - {first}) * height * {nr}), {nr}"
            left = f"at({pointer}, {base}), {rows} + 8 * row, {deep}, rows"
            right = f"{panel}, {count}, cols"
            w.line(f"tile_rows(tile_at, {to}, {left}, {right}, {added}, {self.asks:d})")

    @contextmanager
    def _some(
        self, count: int, first: str, last: str, low: str, high: str
    ) -> Iterator[None]:
        """Write a loop over tiles, so many at a time: from first to last."""
        with self.w.loop(f"for {first} in range({low}, {high}, {count}):"):
            self.w.line(f"{last} = min({first} + {count}, {high})")
            yield

    # --- results ----------------------------------------------------------------------

    def _rest(self) -> None:
        if self.roles.blocks:
            self._turned_back("low", "high")

    def _turned_back(self, first: str, last: str) -> None:
        """Write the epilogue of tiles, as many at a time as a vector has lanes."""
        with self._some(self.lanes, "top", "end", first, last):
            self._turn(f"at(c, (top - {first}) * height * {self.columns})")

    def _turn(self, sums: str) -> None:
        """Write the epilogue of the tiles from top to end, whose sums are there."""
        w, lanes, nr = self.w, self.lanes, self.columns
        w.line("row = top * height")
        w.line(f"lines = min(end * height, {self.m}) - row")
        w.line(f"width = (lines + {lanes - 1}) // {lanes} * {lanes}")
        w.line(f"pack(pack_at, turned, width, {sums}, 1, {nr}, cols, lines)")
        self._epilogue(
            "column", "cols", "row", "lines", "load(turned, r * width + q, m)"
        )

    @cached_property
    def below(self) -> Below:
        """Nothing is asked for early: all tiles are made by then."""
        return Below(self.w, self.roles.row.name, ())
