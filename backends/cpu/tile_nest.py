"""Contractions on register tiles, with everything fused into their epilogue.

    for u in range(first, last):                # this thread's share of the tiles
        b, ... = fetch(...)                     # a panel, copied if that pays
        a, ... = fetch(...)                     # rows, copied if they are transposed
        tile(..., c, a, ..., b, ...)            # rows x columns into scratch
        for r in range(rows):                   # the epilogue, on what is in cache
            for q in range(0, cols, 16):
                ...

A panel is as many columns of the second operand as a tile has; its tiles follow each
other, so that it stays in the cache. Where its columns are not neighbours, or it is
read often, it is copied first, once for each thread that uses it; so are the rows of
a first operand that is transposed. Which thread computes which tiles changes nothing
in the results: no sum crosses a tile.

In a loop that leaves the second operand as it is (the recurrent weights of a network)
the first turn copies a thread's panels one behind the other, and later turns find them
there.
"""

from __future__ import annotations

from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.blocks import times
from graphc.ir.dims import Size
from graphc.ir.program import Loop, Nest, Program
from graphc.ir.program.program import flat
from graphc.ir.scalar import Load, linear, walk
from graphc.ir.types import float32
from graphc.passes.schedule import stride


class TileNest:
    """Writes a nest with the strategy "tile".

    rows, columns: the tile's size. index: that of a loop which leaves the second
    operand as it is, if there is one.
    """

    def __init__(self, writer: Writer, rows: int, columns: int, index: str) -> None:
        schedule = writer.nest.schedule
        assert schedule is not None
        self.w = writer
        self.nest: Nest = writer.nest
        self.schedule = schedule
        self.rows, self.columns = rows, columns
        self.index = index
        self.product = self.nest.phases[0].reduces[0]
        self.depth = self.nest.phases[0].axes[0]

    def write(self) -> None:
        """Write the kernel's body."""
        w, s = self.w, self.schedule
        lanes, mr, nr = s.lanes, self.rows, self.columns
        w.use("mask")
        w.line(f"full = mask({lanes}, {lanes})")
        *batch, i, j = self.nest.axes
        a, b = operands(self.nest)
        args = w.arguments
        kind = "f32" if a.dtype is float32 else "f64"
        args.special("routine", "tile_at", f"tile {a.dtype.name}")
        args.special("routine", "pack_at", f"pack {a.dtype.name}")
        w.use(kind)
        w.use("at")
        args.special("choice", "room", "room", "scratch of a thread, in elements")
        args.special("scratch", "c", kind, "a tile of sums, this thread's own")
        args.special("scratch", "panel", kind, "a copied panel, this thread's own")
        args.special("scratch", "turned", kind, "copied rows, this thread's own")
        args.special("choice", "copied", "pack b", "whether panels are copied")
        args.special("choice", "turn", "pack a", "whether rows are copied")
        if self.index:
            w.use("get")
            args.special("choice", "kept", "keep b", "whether copies are kept")
            lap = f"get({args.buffer(self.index)}, 0)"
            w.line(f"missing = {lap} * kept == 0  # later turns find the copies")
        n = {x.name: args.size(f"n_{x.name}", x.extent) for x in (*batch, i, j)}
        k = args.size(f"n_{self.depth.name}", self.depth.extent)

        for name in ("tiling", "share", "tile_place", "fetch", "tile"):
            w.use(name)
        sizes = f"{n[i.name]}, {n[j.name]}"
        w.line(f"tall, height, wide, span = tiling({sizes}, copied, {mr}, {nr})")
        tiles = " * ".join([*(n[x.name] for x in batch), "wide", "tall"])
        w.line(f"first, last = share({tiles}, t, nt)")
        w.line("current, begin = -1, first")
        if self.index:
            w.line("base = first // tall")
        with w.loop("for u in range(first, last):", *(x.name for x in batch)):
            place = f"tile_place(u, tall, height, wide, span, {sizes})"
            w.line(f"which, band, row, rows, column, cols = {place}")
            if batch:
                w.line("begin = max(first, which * wide * tall)")
                names = [x.name for x in batch]
                w.decode(names, [n[x] for x in names], "which")
            pa, base_a, sa_i = self._operand(a, i.name, "row")
            pb, base_b, sb_j = self._operand(b, j.name, "column")
            sa_k, sb_k = (self._step(x, self.depth.name) for x in (a, b))
            width = self.row_width
            w.line(f"right = at({pb}, {base_b})")
            steps = f"{sb_k}, {sb_j}, {k}, cols"
            fresh, to = "band != current", "panel"
            if self.index:
                fresh = f"({fresh}) & missing"
                to = f"at(panel, kept * (band - base) * {k} * {nr})"
            copy = f"pack_at, copied, {fresh}, {to}, {nr}, right, {steps}"
            w.line(f"b, b_deep, _ = fetch({copy})")
            w.line("current = band")
            w.line(f"left = at({pa}, {base_a})")
            w.line(f"mine = at(turned, row // height * {width} * {k})")
            # The first `tall` tiles of a share see each row of tiles once.
            steps = f"{sa_k}, {sa_i}, {k}, rows"
            copy = f"pack_at, turn, u < begin + tall, mine, {width}, left, {steps}"
            w.line(f"a, a_deep, a_row = fetch({copy})")
            w.line(f"tile(tile_at, c, a, a_row, a_deep, rows, b, b_deep, {k}, cols, 0)")
            self._epilogue(i.name, j.name, nr, lanes)

    @property
    def row_width(self) -> int:
        """The length of a copied row of the first operand: whole vectors of rows."""
        lanes = self.schedule.lanes
        return -(-self.rows // lanes) * lanes

    def _step(self, e: Load, axis: str) -> str:
        """Return how far a read moves along an axis, as an argument."""
        pointer = self.w.arguments.buffer(e.buffer)
        total: Size = 0
        buffer = self.w.program.buffers[e.buffer]
        for x, step in zip(e.args, buffer.strides, strict=True):
            form = linear(x)
            assert form is not None
            total = total + form.axes.get(axis, 0) * step
        return self.w.arguments.factor(f"{pointer}_{axis}", total)

    def _operand(self, e: Load, axis: str, local: str) -> tuple[str, str, str]:
        """Return an operand's pointer, its offset at the tile, and its own step."""
        w = self.w
        pointer = w.arguments.buffer(e.buffer)
        step = self._step(e, axis)
        terms = [times(local, step)]
        forms = [linear(x) for x in e.args]
        names = {n for form in forms if form for n in form.axes}
        for name in sorted(names - {axis, self.depth.name, ""}):
            terms.append(times(name, self._step(e, name)))
        if "" in names:
            terms.append(self._step(e, ""))
        terms += [times(w.scalar(x), by) for x, by in w.uniform(e.buffer, e.args)]
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


def kept_operands(program: Program) -> dict[int, str]:
    """Return the contractions whose second operand no turn of their loop changes.

    By the nest's id, the index of the loop. A nest in a branch of the loop is none: it
    may miss the first turn.
    """
    found = {}
    for loop in flat(program.body):
        if not isinstance(loop, Loop):
            continue
        written = {program.root(n) for s in flat(loop.body) for n in s.writes}
        for s in loop.body:
            if (
                not isinstance(s, Nest)
                or not s.schedule
                or s.schedule.strategy != "tile"
            ):
                continue
            _, b = operands(s)
            moves = any(isinstance(e, Load) for e in walk(*b.args))
            if not moves and program.root(b.buffer) not in written:
                found[id(s)] = loop.index
    return found


def operands(nest: Nest) -> tuple[Load, Load]:
    """Return the two elements whose product a contraction sums up."""
    a, b = nest.phases[0].reduces[0].values[0].args
    assert isinstance(a, Load)
    assert isinstance(b, Load)
    return a, b


def operand_strides(nest: Nest, program: Program) -> tuple[Size, Size]:
    """Return the first operand's step along the sum, the second's between columns."""
    a, b = operands(nest)
    deep = stride(program.buffers[a.buffer], a.args, nest.phases[0].axes[0].name)
    across = stride(program.buffers[b.buffer], b.args, nest.axes[-1].name)
    assert deep is not None
    assert across is not None
    return deep, across
