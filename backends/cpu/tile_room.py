"""What a contraction needs when sizes are bound: scratch, copies, tables of offsets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from graphc.backends.cpu.prelude import gemm
from graphc.backends.cpu.prelude.gemm_ir import AHEAD
from graphc.backends.cpu.prelude.quads_ir import QUAD
from graphc.backends.cpu.tile_forms import (
    gathers,
    has_quads,
    is_narrow,
    may_divide_rows,
)
from graphc.backends.cpu.tile_spread import Spread, spread_of
from graphc.backends.cpu.tile_windows import (
    DEEP,
    DEEP_OF_ROWS,
    STRIP,
    has_pieces,
    has_rows,
    lies,
    may_be_deep,
    panel_width,
    tile_roles,
)
from graphc.backends.shared.arguments import Argument
from graphc.ir.dims import Size, evaluate, product
from graphc.ir.program import LoopAxis, Nest, Program, Schedule
from graphc.passes.contraction import Contraction, merged, steps

Array = np.ndarray[Any, Any]

# The most that each thread copies of a first operand. What a cache holds no more is
# still worth it: 2048 x 2048 transposed runs 1.6 times as fast from a copy.
TURNED_BYTES = 32 << 20
# The fewest rows of a thread that are worth copying a panel for.
ROWS = 96
# What tiles read again and again, so that a second cache keeps it.
NEAR_BYTES = 1 << 19
# An operand that so few rows are multiplied by, and of which a panel is near, is read
# as it lies if its rows begin at cache lines.
FEW = 128
# So many bytes of copied panels a thread keeps over the turns of a loop.
KEPT_BYTES = 1 << 20


@dataclass(frozen=True)
class TileRoom:
    """The scratch and the choices of a contraction for sizes; see tile_nest.py.

    words: what its kernel takes, which tells how it is written.
    """

    nest: Nest
    program: Program
    sizes: Mapping[str, int]
    words: Sequence[Argument]

    @cached_property
    def roles(self) -> Contraction:
        """The roles of its axes."""
        assert self.nest.phases
        dtype = self.nest.phases[0].reduces[0].dtype.name
        return tile_roles(self.nest, self.program, gemm.shape(dtype).columns)

    @cached_property
    def shape(self) -> gemm.Shape:
        """The register tile."""
        return gemm.shape(self.roles.a.dtype.name)

    @cached_property
    def mnk(self) -> tuple[int, int, int]:
        """Rows, columns and depth of each of its products."""
        x = self.roles
        return self._count((x.row,)), self._count(x.columns), self._count(x.depth)

    def _count(self, axes: Sequence[LoopAxis]) -> int:
        return self._number(product(axis.extent for axis in axes))

    def _number(self, size: Size) -> int:
        return evaluate(size, self.sizes)

    # --- choices ----------------------------------------------------------------------

    def _asks(self, choice: str) -> bool:
        """Whether the kernel leaves a choice to be taken here."""
        return any(w.kind == "choice" and w.value == choice for w in self.words)

    def keeps(self) -> bool:
        """Decide whether its panels stay from turn to turn of its loop."""
        if not self._asks("keep b"):
            return False
        # A single row is read once a turn: as it lies, unless that is across.
        across = merged(steps(self.roles.b, self.roles.columns, self.program))
        assert across is not None
        pays = self.mnk[0] > 1 or self._number(across) != 1
        return pays and self.panels <= KEPT_BYTES

    @cached_property
    def panels(self) -> int:
        """The bytes of all panels of the second operand.

        A thread has room for all of them: a team that does not come together leaves the
        whole step to one.
        """
        _, n, k = self.mnk
        bands = -(-n // self.shape.columns) * self._count(self.roles.batch)
        return self._bytes(bands * self._rows_of_panel(k) * self._width)

    def _rows_of_panel(self, k: int) -> int:
        """How many rows a copied panel has room for."""
        return -(-k // QUAD) * QUAD if self.quads else k

    @cached_property
    def quads(self) -> bool:
        """Whether tiles take four places of the sum at a time."""
        return has_quads(self.roles, self._lanes, self.shape.columns)

    @property
    def _width(self) -> int:
        """How wide a copied panel is: a tile, or all columns if they are fewer.

        What few columns leave of a tile would be written and take room.
        """
        _, n, _ = self.mnk
        return min(-(-n // self._lanes) * self._lanes, self.shape.columns)

    @property
    def _chosen(self) -> Schedule:
        """What its schedule says; of choices that are left to sizes, None."""
        assert self.nest.schedule is not None
        return self.nest.schedule

    @cached_property
    def must_copy_b(self) -> bool:
        """Whether a tile cannot read the second operand as it lies."""
        x = self.roles
        if self.quads or gathers(x.b, x.columns, x):
            return True
        across = merged(steps(x.b, x.columns, x.program))
        assert across is not None
        m, n, _ = self.mnk
        whole = m <= 1 or n % self.shape.lanes == 0
        return self._number(across) != 1 or not whole

    @cached_property
    def packs_b(self) -> bool:
        """Whether panels of the second operand are copied."""
        if self.must_copy_b:
            return True
        if self._chosen.copies_b is not None:
            return self._chosen.copies_b
        if self._is_near:
            return False
        dtype = self.roles.b.dtype.name
        return gemm.should_pack_b(*self.mnk, 1, dtype, lines_up=self.lines_up)

    @cached_property
    def lines_up(self) -> bool:
        """Whether rows of the second operand begin where vectors of memory do.

        The caller's arrays do not: NumPy's memory begins 16 bytes behind a cache line.
        """
        x, buffers = self.roles, self.roles.program.buffers
        if buffers[x.program.root(x.b.buffer)].space in ("input", "output"):
            return False
        buffer = buffers[x.b.buffer]
        names = ["", *(axis.name for axis in (*x.batch, *x.blocks, *x.depth))]
        moves = [buffer.step(x.b.args, name) for name in names]
        return all(
            move is not None and self._number(move) % self.shape.lanes == 0
            for move in moves
        )

    @cached_property
    def _is_near(self) -> bool:
        """Whether the second operand is read as fast as it lies as from a copy.

        So it is for few rows, where its own begin at cache lines and a panel's lie
        within a part of the second cache.
        """
        x, (m, _, k) = self.roles, self.mnk
        deep = merged(steps(x.b, x.depth, x.program))
        assert deep is not None
        spans = k * self._number(deep) * x.b.dtype.itemsize
        return m <= FEW and spans <= NEAR_BYTES and self.lines_up

    @cached_property
    def packs_a(self) -> bool:
        """Whether rows of the first operand are copied."""
        x, (m, n, k) = self.roles, self.mnk
        if gathers(x.a, (x.row,), x):
            return True
        if not self.may_copy_a:
            return False
        if self._chosen.copies_a is not None:
            return self._chosen.copies_a
        deep = merged(steps(x.a, x.depth, self.program))
        assert deep is not None
        worth = gemm.should_pack_a(m, n, self._number(deep), x.a.dtype.name)
        return worth and m * k * x.a.dtype.itemsize <= TURNED_BYTES

    @cached_property
    def may_copy_a(self) -> bool:
        """Whether rows of the first operand, which lies in a matrix, are no neighbours.

        Where they are, a copy is the same again.
        """
        deep = merged(steps(self.roles.a, self.roles.depth, self.program))
        return deep is not None and self._number(deep) != 1

    @cached_property
    def may_divide_rows(self) -> bool:
        """Whether threads could divide the rows."""
        return may_divide_rows(self.roles)

    def rowwise(self, threads: int) -> bool:
        """Decide whether threads divide the rows rather than the panels.

        Each then reads, and copies, but its own rows of the first operand, and copies
        all panels, which costs as much as 8 rows.
        """
        m, n, _ = self.mnk
        if m < 1 or not self.may_divide_rows:
            return False
        if self._chosen.by_rows is not None:
            return self._chosen.by_rows
        return m >= max(n, ROWS * threads)

    @cached_property
    def layers(self) -> int:
        """In how many layers its sums are added up.

        So many that a layer of the first operand, a panel of the second and what that
        is copied from stay in the second cache; where all sums stay there too, as each
        layer reads and writes them once more.
        """
        m, n, k = self.mnk
        size, columns = self.roles.a.dtype.itemsize, self.shape.columns
        near = (m + 2 * min(n, columns)) * k * size
        if not self._asks("layers") or not self.packs_a or near <= NEAR_BYTES:
            return 1
        return -(-near // NEAR_BYTES) if m * n * size <= NEAR_BYTES else 1

    def choice(self, word: Argument, kept: bool, threads: int) -> int:
        """Return the word of a choice."""
        if word.value == "rowwise":
            return int(self.rowwise(threads))
        if word.value == "keep b":
            return int(kept)
        if word.value == "layers":
            return self.layers
        if word.value == "pack b":
            return int(kept or self.packs_b)
        assert word.value == "pack a", word
        return int(self.packs_a)

    # --- scratch ----------------------------------------------------------------------

    def rooms(self, kept: bool, threads: int) -> dict[str, int]:
        """Return the bytes of each part of a thread's scratch.

        Where they divide the rows, each has room for its own copied rows, last. A team
        that does not come together leaves all to one, which then has the room of all.
        """
        m, n, k = self.mnk
        x, tile = self.roles, self.shape
        spread = spread_of(x)
        if spread is not None:
            return self._spread_rooms(spread)
        if has_rows(x, tile.columns):
            tall, wide = -(-n // tile.rows), -(-m // tile.columns)
            most = STRIP if may_be_deep(x) else self._lanes
            narrow = is_narrow(x, tile.columns)
            some = tall if x.blocks or narrow else min(tall, most)
            deep = min(k, DEEP_OF_ROWS) if x.blocks else k * wide
            width = panel_width(x, tile.columns, self._lanes)
            sizes = {
                "c": some * tile.rows * tile.columns,
                "panel": deep * width * (not narrow),
                "turned": self._lanes * tile.rows * tile.columns,
            }
        else:
            own = m
            if self.rowwise(threads):
                tall = -(-m // tile.rows)
                own = min(m, -(-tall // threads) * -(-m // tall))
            windows = gathers(x.b, x.columns, x)
            parts = x.blocks or (windows and has_pieces(x))
            tall = -(-m // tile.rows) if parts else 1
            if self.layers > 1:
                tall = -(-m // tile.rows) * -(-n // tile.columns)
                k = -(-k // self.layers)
            deep, width = self._rows_of_panel(k), self._width
            if windows:
                deep, width = min(k, DEEP), tile.columns
            length = -(-k // self._lanes) * self._lanes
            copied = self.packs_b and not kept and not lies(x)
            sizes = {
                "c": tall * tile.rows * tile.columns,
                "panel": deep * width * copied,
                "turned": own * length * self.packs_a,
            }
        found = {name: self._bytes(n) for name, n in sizes.items()}
        return {**found, "framed": self._framed}

    def _spread_rooms(self, spread: Spread) -> dict[str, int]:
        """Return the bytes of each part of a thread's scratch to spread products."""
        count = self._count((*spread.taps, self.roles.row))
        deep, width = self._count(spread.depth), self.shape.columns
        sizes = {
            "c": count * width,
            "panel": deep * width,
            "weights": count * -(-deep // self._lanes) * self._lanes,
            "framed": self._number(spread.elements) + self._lanes,
        }
        return {name: self._bytes(n) for name, n in sizes.items()}

    @property
    def _lanes(self) -> int:
        """What the kernel rounds lengths up to."""
        return self._chosen.lanes

    @property
    def _framed(self) -> int:
        """The bytes of a frame; its last line is written as whole vectors."""
        frame = self.roles.frame
        if frame is None:
            return 0
        return self._bytes(self._number(frame.elements) + self.shape.lanes)

    def _bytes(self, elements: int) -> int:
        return -(-elements * self.roles.a.dtype.itemsize // 64) * 64

    # --- offsets ----------------------------------------------------------------------

    def offsets(self, word: Argument) -> Array:
        """Return what axes add to where a read lies, the last running fastest.

        Behind it stands what a tile that asks ahead may read.
        """
        if word.value == "lines":
            return self._lines(word)
        if word.value == "spread":
            return self._spread(word)
        total: Array = np.zeros(1, np.int64)
        for extent, step in word.axes:
            along = np.arange(self._number(extent), dtype=np.int64) * self._number(step)
            total = (total[:, None] + along).reshape(-1)
        return np.append(total, np.zeros(AHEAD, np.int64))

    def _spread(self, word: Argument) -> Array:
        """Return where products belong: remainders one behind the other."""
        total: Array = np.zeros(1, np.int64)
        for numbers in word.axes:
            extent, first, step, by, over, along = map(self._number, numbers)
            place = first + step * np.arange(extent, dtype=np.int64)
            offset = place % by * over + place // by * along
            total = (total[:, None] + offset).reshape(-1)
        return total

    def _lines(self, word: Argument) -> Array:
        """Return where what stands in a frame's lines begins; -1 for zeros alone."""
        total: Array = np.zeros(1, np.int64)
        inside: Array = np.ones(1, np.bool_)
        for numbers in word.axes:
            extent, low, step, size, stride = map(self._number, numbers)
            place = np.arange(extent, dtype=np.int64) - low
            valid = (place >= 0) & (place % step == 0) & (place // step < size)
            total = (total[:, None] + place // step * stride).reshape(-1)
            inside = (inside[:, None] & valid).reshape(-1)
        return np.where(inside, total, -1)
