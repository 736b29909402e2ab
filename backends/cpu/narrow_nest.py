"""Products that are as narrow as a vector, turned: dw[i, j] = sum of x[p, i] * g[p, j].

    for band in range(from_band, to_band):      # 64 of the i
        for piece in range(pieces):             # some of the p
            for v in range(low, high):          # six of the j
                tile_rows(..., c, ..., g, ..., x, ...)
        pack(..., turned, ..., c, ...)          # turned back for the epilogue
        for r in range(cols):
            for q in range(0, lines, 16):
                ...

A tile of six rows and a single vector of columns loads a number for each of its
multiplications, and is half as fast as one of four vectors. Where the first operand
is transposed, as it is in every gradient by weights, its own rows are as good columns.
Both operands are then read where they lie, and the sums, which are few, turned back.
"""

from __future__ import annotations

from graphc.backends.cpu.rows_nest import RowsNest
from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.blocks import times
from graphc.ir.dims import Size
from graphc.passes.contraction import Contraction


class NarrowNest(RowsNest):
    """Writes a nest with the strategy "tile" whose columns are rows of tiles."""

    def __init__(
        self, writer: Writer, found: Contraction, tile: tuple[int, int], index: str
    ) -> None:
        super().__init__(writer, found, tile, "")  # no turn of a loop keeps a copy
        self.windows = self.lies = True  # there is no panel of a matrix to copy
        self.by_rows = self.layered = False

    def _copied(self) -> list[tuple[Size, Size]]:
        return [(1, self.columns)]

    def _first(self) -> None:
        """Write what turns the sums back."""
        self.w.use("pack")
        self._routine("pack_at", "pack")

    def _sums(self, part: str) -> None:
        self._pieces(part)

    def _piece(self, start: str, count: str, added: str) -> None:
        x = self.roles
        pointer, base = self._base(x.a, ())
        deep = self._step(x.a, x.depth)
        terms = ["column", times(start, deep), *([base] if base != "0" else [])]
        panel = f"at({pointer}, {' + '.join(terms)}), {deep}"
        self._tiles_of("low", "high", panel, start, count, added)

    def _rest(self) -> None:
        self._turned_back("low", "high")
