"""Contractions on register tiles, with everything fused into their epilogue.

    for band in range(from_band, to_band):      # this thread's panels
        b, ... = fetch(...)                     # a panel, copied if that pays
        a, ... = fetch(...)                     # rows, copied if they are transposed
        for v in range(low, high):              # and its tiles of rows
            tile(..., c, a, ..., b, ...)        # rows x columns into scratch
            for r in range(rows):               # the epilogue, on what is in cache;
                for q in range(0, cols, 16):    # the next tile asks for what its needs
                    ...

A panel is as many columns of the second operand as a tile has; it stays in the cache
for all tiles of rows. It is copied first where its columns are not neighbours, or it
is read often; and so is a first operand that is transposed. Operands that lie in no
matrix, such as the windows of a convolution, are gathered by tables of offsets, one
along the sum and one across it: where an element lies is the sum of both. Windows that
move by one are read from copies of their picture instead (tile_windows.py).

A sum over many axes is added up in parts, one behind the other, each with a panel of
its own, and so is one whose panels are gathered, in pieces that the first cache holds;
the scratch then holds all tiles of a panel until the last part is added.

Windows may be the rows of tiles instead (rows_nest.py). What has zeros around it is
read from a frame, which begins with an image or a part of the sum (tile_frame.py).

A long sum of two matrices is added up in layers where what tiles read would not stay in
the second cache; the scratch then holds all tiles of a thread.

Sums that are stored as they are go straight to where they belong. Threads divide the
tiles panel by panel, or, where there are as many rows as columns, the rows: each then
reads and copies rows of its own, and all panels. Which thread computes which tiles
changes nothing in the results: no sum crosses a tile.

A product with no more columns than a vector has lanes takes four places of its sum at a
time, from a copied panel that is interleaved (prelude/quads_ir.py).

In a loop that leaves the second operand as it is (the recurrent weights of a network)
the first turn copies a thread's panels one behind the other, and later turns find them
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property

from graphc.backends.cpu.early import Below
from graphc.backends.cpu.prelude.quads_ir import QUAD
from graphc.backends.cpu.tile_forms import (
    gathers,
    has_quads,
    is_flat,
    may_be_layered,
    may_divide_rows,
    runs_down,
)
from graphc.backends.cpu.tile_frame import write_frame
from graphc.backends.cpu.tile_pieces import pack_pieces, quad_pieces, tile_pieces
from graphc.backends.cpu.tile_windows import deepest, has_pieces, lies
from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.blocks import times
from graphc.ir.dims import Size, product
from graphc.ir.program import LoopAxis, Nest, Phase, Store
from graphc.ir.scalar import Axis, Expr, Load, Ref, const, linear, rebuild, walk
from graphc.ir.types import float32
from graphc.passes.contraction import Contraction, merged, steps
from graphc.passes.framed import FRAME


class TileNest:
    """Writes a nest with the strategy "tile".

    found: the roles of its axes. tile: its rows and columns. index: that of a loop
    which leaves the second operand as it is, if there is one.
    """

    def __init__(
        self, writer: Writer, found: Contraction, tile: tuple[int, int], index: str
    ) -> None:
        self.w = writer
        self.nest: Nest = writer.nest
        self.roles = found
        self.lanes = writer.lanes
        self.rows, self.columns = tile
        self.index = index
        self.sum = self.nest.phases[0].reduces[0]
        self.windows = gathers(found.b, found.columns, found)
        self.lies = lies(found)
        self.quads = has_quads(found, self.lanes, tile[1])
        self.by_rows = may_divide_rows(found)
        self.pieces = self.windows and has_pieces(found)
        self.deepest = deepest(found)  # of a panel of windows
        self.in_parts = self.pieces or bool(found.blocks)
        self.layered = may_be_layered(found) and not index
        # The axes that rows of tiles count, and those that their columns do.
        self.sides: tuple[Sequence[LoopAxis], ...] = (found.row,), found.columns
        self.m = self.n = self.k = ""  # how many rows and columns, and how deep

    @cached_property
    def tile(self) -> str:
        """The routine that computes a tile."""
        if self.quads:
            return "tile_quads"
        return "tile_columns" if self.lies else "tile"

    def write(self) -> None:
        """Write the kernel's body."""
        w, x = self.w, self.roles
        w.use("mask")
        w.line(f"full = mask({self.lanes}, {self.lanes})")
        self._arguments()
        m, n = self.m, self.n
        batch = [w.extent(axis) for axis in x.batch]
        for name in ("tiling", "divide", "panel_place", self.tile):
            w.use(name)
        copied = "1" if self.windows or self.quads else "copied"
        sizes = f"{m}, {n}, {copied}, {self.rows}, {self.columns}"
        w.line(f"tall, height, wide, span = tiling({sizes})")
        mine = f"{' * '.join([*batch, 'wide'])}, tall, {self._rowwise()}, t, nt"
        w.line(f"first, last, step, from_band, to_band = divide({mine})")
        if self.by_rows:
            w.line(f"more = {m} - tall * (height - 1)  # tiles that are so high")
            w.line(f"passed = ({self._start('first')}) * rowwise  # by others before")
        if not self.windows:
            lanes = self.lanes
            whole = f"({n} + {lanes - 1}) // {lanes} * {lanes}"
            w.line(f"width = min({whole}, {self.columns})  # of a copied panel")
        if self.below.noted:
            w.use("line_table")
            w.line("lines = line_table()  # what the next tile asks for")
        if self.layered:
            self._layers()
        else:
            self._panels(batch)

    def _panels(self, batch: Sequence[str]) -> None:
        """Write the loop over this thread's panels."""
        w, x, n = self.w, self.roles, self.n
        names = [axis.name for axis in x.batch]
        with w.loop("for band in range(from_band, to_band):", *names):
            w.line(f"which, column, cols = panel_place(band, wide, span, {n})")
            if names:
                w.decode(names, batch, "which")
            w.line("low = max(first - band * step, 0)")
            w.line("high = min(last - band * step, tall)")
            if x.blocks:
                self._parts()
            else:
                self._first()
                self._frame("(band == from_band) | (column == 0)")
                self._sums("layer" if self.layered else "0")
            self._rest()

    def _rest(self) -> None:
        """Write what becomes of the sums of a panel that a tile does not end with."""
        if self.in_parts and not self.direct:
            with self.w.loop("for v in range(low, high):"):
                self._rows()
                self._epilogue_of_tile()

    def _layers(self) -> None:
        """Write the loop over layers of the sum, each with all panels.

        With one layer, as most sums have, a tile's scratch serves the next tile too.
        """
        w, k = self.w, self.k
        note = "how many layers a sum has"
        layers = self.w.arguments.special("choice", "layers", "layers", note)
        w.line(f"thick = ({k} + {layers} - 1) // {layers}")
        w.line(f"keep = min({layers} - 1, 1) * {self.rows * self.columns}")
        with w.loop(f"for layer in range({layers}):"):
            w.line("top = layer * thick")
            w.line(f"some = max(min(thick, {k} - top), 0)")
            w.line("slot = 0  # of a tile's sums, which later layers add to")
            self.k = "some"
            self._panels([])

    def _parts(self) -> None:
        """Write the loop over the parts of a sum; without any, one of no depth."""
        w, axes = self.w, self.roles.blocks
        counts = [w.extent(axis, self.nest.phases[0]) for axis in axes]
        w.line(f"parts = {' * '.join(counts)}")
        w.line(f"deep = {self.k} if parts > 0 else 0")
        self.k = "deep"
        names = [axis.name for axis in axes]
        with w.loop("for part in range(max(parts, 1)):", *names):
            w.decode(names, [f"max({n}, 1)" for n in counts], "part")
            self._first()
            self._frame("parts > 0")
            self._sums("part")

    # --- what the kernel takes --------------------------------------------------------

    def _arguments(self) -> None:
        w, x, args = self.w, self.roles, self.w.arguments
        kind = "f32" if x.a.dtype is float32 else "f64"
        w.use(kind)
        w.use("at")
        self.m, self.n = (self._size("columns", axes) for axes in self.sides)
        self.k = self._size("depth", x.depth)
        own = "this thread's own"
        self._routine("tile_at", self.tile)
        args.special("choice", "room", "room", "scratch of a thread, in elements")
        if not self.direct:
            args.special("scratch", "c", kind, f"sums, {own}")
        if not self.lies:
            args.special("scratch", "panel", kind, f"a copied panel, {own}")
        args.special("scratch", "turned", kind, f"copied rows, {own}")
        if self.index:
            w.use("get")
            args.special("choice", "kept", "keep b", "whether copies are kept")
            lap = f"get({args.buffer(self.index)}, 0)"
            w.line(f"missing = {lap} * kept == 0  # later turns find the copies")

    def _routine(self, name: str, which: str) -> None:
        """Take the table of those pieces of a routine that sizes may need."""
        dtype = self.roles.a.dtype.name
        if which == "pack":
            pieces = pack_pieces(self._copied())
        elif which == "gather":
            pieces = self._gathered()
        elif which == "interleave":
            pieces = ["whole"]
        elif which == "tile_quads":
            pieces = quad_pieces(self.roles.row.extent, dtype, even=self.by_rows)
        else:
            m, n = (product(axis.extent for axis in axes) for axes in self.sides)
            copied, asks, even = self.windows, self.asks, self.by_rows
            pieces = tile_pieces(m, n, dtype, copied=copied, asks=asks, even=even)
        value = " ".join((which, dtype, *pieces))
        self.w.arguments.special("routine", name, value)

    @property
    def asks(self) -> bool:
        """Whether tiles ask for what comes next."""
        return bool(self.below.noted)

    def _copied(self) -> list[tuple[Size, Size]]:
        """Return the strides, down and across, of what `pack` may copy."""
        x, found, move = self.roles, list[tuple[Size, Size]](), self._move
        if not self.windows:
            found.append((move(x.b, x.depth), move(x.b, x.columns)))
        if not gathers(x.a, (x.row,), x) and move(x.a, x.depth) != 1:
            found.append((move(x.a, (x.row,)), move(x.a, x.depth)))
        return found

    def _gathered(self) -> list[str]:
        """Return the ways to copy what `gather` may copy."""
        x = self.roles
        turned = self.windows and runs_down(x, x.program)
        runs = gathers(x.a, (x.row,), x) or not turned
        return ["runs"] * runs + ["turned"] * turned

    def _move(self, e: Load, axes: Sequence[LoopAxis]) -> Size:
        """Return how far a read moves along axes that are one."""
        step = merged(steps(e, axes, self.roles.program))
        assert step is not None
        return step

    def _size(self, name: str, axes: Sequence[LoopAxis]) -> str:
        if len(axes) == 1:
            phase = None if axes[0] in self.nest.axes else self.nest.phases[0]
            return self.w.extent(axes[0], phase)
        return self.w.arguments.size(name, product(axis.extent for axis in axes))

    def _step(self, e: Load, axes: Sequence[LoopAxis]) -> str:
        """Return that as an argument."""
        args = self.w.arguments
        pointer = "framed" if e.buffer == FRAME else args.buffer(e.buffer)
        return args.factor(f"{pointer}_{axes[-1].name}", self._move(e, axes))

    def _offsets(self, name: str, e: Load, axes: Sequence[LoopAxis]) -> str:
        """Return the table of what axes add to where a read lies."""
        args = self.w.arguments
        framed = e.buffer == FRAME
        pointer = "the frame" if framed else args.buffer(e.buffer)
        note = f"offsets in {pointer} along {', '.join(a.name for a in axes)}"
        found = steps(e, axes, self.roles.program)
        return args.special("offsets", name, pointer, note, found)

    # --- operands ---------------------------------------------------------------------

    def _sums(self, part: str) -> None:
        """Write the sums of this thread's tiles of a panel, or a part of them."""
        k = self.k
        if not self.windows:
            self._matrix()
            self._tiles(f"at(a, {self._row_of_a()})", k, part)
        elif self.pieces:
            self._pieces(part)
        else:
            self._piece("0", k, part)

    def _pieces(self, part: str) -> None:
        """Write the sums over windows by pieces, as deep as a cache holds panels."""
        w, k, deep = self.w, self.k, self.deepest
        w.line(f"pieces = max(({k} + {deep - 1}) // {deep}, 1)")
        w.line(f"length = ({k} + pieces - 1) // pieces")
        with w.loop("for piece in range(pieces):"):
            w.line("d = piece * length")
            w.line(f"some = min(length, {k} - d)")
            self._piece("d", "some", "d" if part == "0" else f"{part} + d")

    def _piece(self, start: str, count: str, added: str) -> None:
        """Write the sums over so many places of windows, from one on."""
        self._windows(start, count)
        along = "" if start == "0" else f" + {start} * a_deep"
        self._tiles(f"at(a, {self._row_of_a()}{along})", count, added)

    def _tiles(self, left: str, depth: str, added: str) -> None:
        w = self.w
        with w.loop("for v in range(low, high):"):
            self._rows()
            to, step = "c", "cols" if self.flat else str(self.columns)
            if self.direct:
                to, step = self._target(self.direct)
            elif self.in_parts:
                to = f"at(c, (v - low) * {self.rows * self.columns})"
            elif self.layered:
                to = "at(c, slot)"
            operands = f"{left}, a_row, a_deep, rows, b, b_deep, {depth}, cols"
            lines = "lines" if self.below.noted else "0"
            w.line(f"{self.tile}(tile_at, {to}, {step}, {operands}, {added}, {lines})")
            if self.direct or self.in_parts:
                return
            if not self.layered:
                self._epilogue_of_tile()
                return
            with w.loop("if layer == layers - 1:"):
                self._epilogue_of_tile()
            w.line("slot = slot + keep")

    def _rowwise(self) -> str:
        """Return the text of whether they do."""
        if not self.by_rows:
            return "0"
        note = "whether threads divide the rows"
        self.w.arguments.special("choice", "rowwise", "rowwise", note)
        return "rowwise"

    def _row_of_a(self) -> str:
        return "(row - passed) * a_row" if self.by_rows else "row * a_row"

    def _start(self, v: str) -> str:
        """Return where a tile begins. Of matrices they are as even as they can be."""
        return f"{v} * height" + f" - max({v} - more, 0)" * self.by_rows

    def _rows(self) -> None:
        least = f"min(height, {self.m} - row)"
        even = "height - min(max(v + 1 - more, 0), 1)"
        self.w.line(f"row = {self._start('v')}")
        self.w.line(f"rows = {even if self.by_rows else least}")

    def _frame(self, fresh: str) -> None:
        """Write the copy of what windows move over, if it has zeros around it."""
        x = self.roles
        if x.frame is None:
            return
        pointer, base = self._base(x.frame.source, (*x.batch, *x.blocks))
        write_frame(self.w, x, f"at({pointer}, {base})", fresh, self._span())

    def _span(self) -> tuple[str, str]:
        """Return the first window that is read, and the one behind the last."""
        return "column", "column + cols"

    def _windows(self, start: str, count: str) -> None:
        """Write what b is: windows, of so many places, from one on."""
        w, x = self.w, self.roles
        pointer, base = self._base(x.b, (*x.batch, *x.blocks))
        deep = self._offsets("deep_b", x.b, x.depth)
        deep = deep if start == "0" else f"{deep} + 8 * {start}"
        if self.lies:
            w.line(f"b, b_deep = at({pointer}, column), {deep}")
            return
        w.use("gather_panel")
        self._routine("gather_at", "gather")
        across = self._offsets("across_b", x.b, x.columns)
        source = f"at({pointer}, {base}), {deep}, {count}"
        columns = f"{across} + 8 * column, cols, {int(runs_down(x, x.program))}"
        to = f"panel, {self.columns}"
        w.line(f"gather_panel(gather_at, {to}, {source}, {columns})")
        w.line(f"b, b_deep = {to}")

    def _matrix(self) -> None:
        """Write what b is: a panel of a matrix."""
        w, x, args = self.w, self.roles, self.w.arguments
        pointer, base = self._base(x.b, (*x.batch, *x.blocks))
        w.use("fetch")
        self._routine("pack_at", "pack")
        copied = "1"
        if not self.quads:
            copied = "copied"
            args.special("choice", copied, "pack b", "whether panels are copied")
        deep, across = self._step(x.b, x.depth), self._step(x.b, x.columns)
        fresh, to = "True", "panel"
        if self.index:
            fresh = "missing"
            to = f"at(panel, kept * (band - from_band) * {self._depth} * width)"
        begin = self._on_top(times("column", across), deep)
        begin = begin if base == "0" else f"{base} + {begin}"
        source = f"at({pointer}, {begin})"
        copy = f"{to}, width, {source}, {deep}, {across}, {self.k}, cols"
        w.line(f"b, b_deep, _ = fetch(pack_at, {copied}, {fresh}, {copy})")
        if self.quads:
            w.use("interleave")
            self._routine("interleave_at", "interleave")
            with w.loop(f"if {fresh}:") if self.index else nullcontext():
                w.line(f"interleave(interleave_at, b, {self.k})")

    @property
    def _depth(self) -> str:
        """How many rows a copied panel has room for."""
        whole = f"(({self.k} + {QUAD - 1}) // {QUAD} * {QUAD})"
        return whole if self.quads else self.k

    def _first(self) -> None:
        """Write what a is: the rows of the first operand."""
        w, x = self.w, self.roles
        pointer, base = self._base(x.a, (*x.batch, *x.blocks))
        lanes = self.lanes
        length = f"({self.k} + {lanes - 1}) // {lanes} * {lanes}"
        found = steps(x.a, x.batch, w.program)
        fresh = "band == from_band"
        if any(step != 0 for _, step in found):
            fresh = f"({fresh}) | (column == 0)"  # another matrix of the batch
        if x.blocks:
            fresh = "True"
        if gathers(x.a, (x.row,), x):
            w.use("gather_panel")
            self._routine("gather_at", "gather")
            rows = self._offsets("rows_a", x.a, (x.row,))
            deep = self._offsets("deep_a", x.a, x.depth)
            w.line(f"a, a_row, a_deep = turned, {length}, 1")
            copy = f"turned, a_row, at({pointer}, {base}), {rows}, {self.m}, {deep}"
            line = f"gather_panel(gather_at, {copy}, {self.k}, 0)"
            if fresh == "True":
                w.line(line)
            else:
                with w.loop(f"if {fresh}:"):
                    w.line(line)
            return
        w.use("fetch")
        self._routine("pack_at", "pack")
        w.arguments.special("choice", "turn", "pack a", "whether rows are copied")
        # Rows of neighbours are what panels of the transposed operand are made of.
        across, deep = self._step(x.a, (x.row,)), self._step(x.a, x.depth)
        if self.by_rows:
            begin = self._on_top(times("passed", across), deep)
            begin = begin if base == "0" else f"{base} + {begin}"
            rows = f"min({self._start('last')}, {self.m}) - passed"
        else:
            begin, rows = base, self.m
        copy = f"turned, {length}, at({pointer}, {begin}), {across}, {deep}"
        sizes = f"{rows}, {self.k}"
        w.line(f"a, a_row, a_deep = fetch(pack_at, turn, {fresh}, {copy}, {sizes})")

    def _on_top(self, begin: str, deep: str) -> str:
        """Return where an operand begins: at the layer, if there are layers."""
        return f"{begin} + {times('top', deep)}" if self.layered else begin

    def _base(self, e: Load, axes: Sequence[LoopAxis]) -> tuple[str, str]:
        """Return an operand's pointer, and where it begins at a point of some axes."""
        if e.buffer == FRAME:
            return "framed", "0"
        w, args = self.w, self.w.arguments
        pointer = args.buffer(e.buffer)
        names = {n for x in e.args if (form := linear(x)) for n in form.axes}
        open_ = [n for n in sorted(names) if n == "" or n in {a.name for a in axes}]
        buffer = w.program.buffers[e.buffer]
        terms = []
        for name in open_:
            step = buffer.step(e.args, name)
            assert step is not None
            if step != 0:
                factor = args.factor(f"{pointer}_{name or 'at'}", step)
                terms.append(times(name, factor) if name else factor)
        terms += [times(w.scalar(x), by) for x, by in w.uniform(e.buffer, e.args)]
        return pointer, " + ".join(terms) or "0"

    # --- results ----------------------------------------------------------------------

    @cached_property
    def direct(self) -> Store | None:
        """The store of sums as they are, to neighbours: the tile does it itself."""
        stores = [s for phase in self._later for s in phase.stores]
        if len(stores) != 1 or stores[0].accumulate:
            return None
        (store,) = stores
        if not isinstance(store.value, Ref) or store.value.dtype is not self.sum.dtype:
            return None
        buffer = self.w.program.buffers[store.buffer]
        across = buffer.step(store.index, self.roles.columns[-1].name)
        return store if across == 1 else None

    def _target(self, store: Store) -> tuple[str, str]:
        """Return where a tile's first sum goes, and the step between its rows."""
        w, args, x = self.w, self.w.arguments, self.roles
        for e in store.index:
            w.prepare(e)
        terms, others = w.parts(store.buffer, store.index)
        assert not any(w.varies(e) for e, _ in others)
        pointer, down = args.buffer(store.buffer), "0"
        found = [times(w.scalar(e), factor) for e, factor in others]
        for name, factor in terms:
            if name == x.row.name:
                down = factor
            local = {x.row.name: "row", x.columns[-1].name: "column"}.get(name, name)
            found.append(times(local, factor) if name else factor)
        return f"at({pointer}, {' + '.join(found)})", down

    @cached_property
    def _later(self) -> tuple[Phase, ...]:
        """The later phases; all columns are counted by the last of their axes."""
        gone = {axis.name for axis in self.roles.columns[:-1]}

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            merged = isinstance(old, Axis) and old.name in gone
            return const(0, old.dtype) if merged else None

        if not gone:
            return self.nest.phases[1:]
        return tuple(
            Phase(
                phase.axes,
                phase.reduces,
                tuple(
                    Store(
                        s.buffer,
                        tuple(rebuild(e, change) for e in s.index),
                        rebuild(s.value, change),
                        s.accumulate,
                    )
                    for s in phase.stores
                ),
            )
            for phase in self.nest.phases[1:]
        )

    @cached_property
    def below(self) -> Below:
        """How the epilogue sees to it that the next tile's finds its own near."""
        # Between two parts of an epilogue lies a tile, but for these.
        noting = not (self.in_parts or self.direct or self.lies or self.quads)
        size = self.rows, self.columns // self.lanes
        return Below(self.w, self.roles.row.name, self._later, size if noting else None)

    @cached_property
    def flat(self) -> bool:
        """Whether the epilogue takes all rows of a tile as one."""
        direct = self.direct or self.below.noted
        return not direct and is_flat(self.roles, self._later, self.lanes, self.columns)

    def _epilogue_of_tile(self) -> None:
        nr, w, slot = self.columns, self.w, "slot + " * self.layered
        if not self.flat:
            first = f"(v - low) * {self.rows * nr} + " if self.in_parts else slot
            read = f"load(c, {first}r * {nr} + q, m)"
            self._epilogue("row", "rows", "column", "cols", read)
            return
        i, j, size = self.roles.row.name, self.roles.columns[-1].name, "rows * cols"
        with w.loop(f"for q in range(0, {size}, {self.lanes}):", i, j, mask="m"):
            w.line(f"{i}, {j} = row, q  # the rows below are behind it")
            self._of_sums(size, f"load(c, {slot}q, m)")

    def _epilogue(self, row: str, rows: str, column: str, cols: str, read: str) -> None:
        """Write what becomes of sums: rows from `row` on, columns from `column` on.

        read: the text that reads those of row r, from column q on.
        """
        w, x = self.w, self.roles
        i, j = x.row.name, x.columns[-1].name
        with w.loop(f"for r in range({rows}):", i):
            w.line(f"{i} = r" if row == "0" else f"{i} = {row} + r")
            with w.loop(f"for q in range(0, {cols}, {self.lanes}):", j, mask="m"):
                w.line(f"{j} = q" if column == "0" else f"{j} = {column} + q")
                self._of_sums(cols, read)

    def _of_sums(self, cols: str, read: str) -> None:
        """Write what becomes of a vector of sums, which a text reads at q of `cols`."""
        w, below = self.w, self.below
        w.line(f"m = mask({cols} - q, {self.lanes})")
        w.use("load")
        w.axis = self.roles.columns[-1].name
        w.line(f"{self.sum.name} = {read}")
        w.define(self.sum.name, self.sum.name)
        for phase in self._later:
            reads = [e for e in walk(*phase.roots) if isinstance(e, Load)]
            asked = w.early = below.early([(e.buffer, e.args) for e in reads])
            values = [(s, w.vector(s.value)) for s in phase.stores]
            made = below.early([(s.buffer, s.index) for s in phase.stores])
            w.early = {n: how for n, how in made.items() if n not in asked}
            for s, _ in values:
                w.store(s.buffer, s.index, s.value)
        w.axis, w.early = "", {}
