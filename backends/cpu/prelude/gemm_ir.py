"""Write the LLVM IR of the register tile.

Numba has no part in this: the function is made of vectors whose number depends on the
target, which is easier to say in a loop over LLVM's builder than in Python source, and
it is compiled once, whatever the network. There is a function for each number of rows
and of vectors of columns, so a ragged edge costs what it computes:

    tile_HxV(c, sc, a, sa_i, sa_k, b, sb_k, k, cols, accumulate, lines)

        c[i * sc + j] (+)= sum over p < k of a[i * sa_i + p * sa_k] * b[p * sb_k + j]
        for i < H and j < cols, of which the last vector of V has 1 or more

It writes no more than that. It reads whole vectors of b, past cols, unless there is a
single row. That may be twice as long as others. `lines` is for tile_HxV_asking: the
address of a table of LINES addresses, one of which it asks for each turn: memory
answers while it computes.

tile_rows_HxV(c, sc, a, across, deep, b, sb_k, k, cols, accumulate, lines)

    The same of a[across[i] + deep[p]], two tables of offsets: of windows that are read
    where they lie. What is broadcast need not have neighbours. tile_rows_HxV_asking,
    for `lines` that are not 0, asks AHEAD turns early for the line of the first row's
    element; so many offsets more of `deep` are read.

tile_columns_HxV(c, sc, a, sa_i, sa_k, b, deep, k, cols, accumulate, lines)

    The same of b[deep[p] + j]: rows of b that follow each other in no step.

A function keeps the whole tile in registers: for each p it loads the columns of b once
and broadcasts each element of a. Where a small tile has too few accumulators to hide an
FMA's latency, it keeps several sets and takes several p a turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir

from . import native
from .lanes import constant, vector

WORD = ir.IntType(64)
BIT = ir.IntType(1)

# How many turns before it is read the line of an element is asked for, of a transposed
# row or of a window: the second cache answers within some 15 cycles, a turn of a whole
# tile takes 12. So many offsets more a table has.
AHEAD = 8
# How many lines what comes behind a tile may have it ask for; a power of two.
LINES = 128


@dataclass(frozen=True)
class Shape:
    """Describe the tile of a target: ``rows`` x (``vectors`` * ``lanes``) elements."""

    dtype: str
    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        """Return NR, the width of the tile, of its scratch and of a packed panel."""
        return self.vectors * self.lanes

    @property
    def pieces(self) -> list[str]:
        """Return the tiles by height and vectors, as HxV, in the order of a table.

        The long row comes first; last come tiles of whole columns that ask for lines.
        """
        sizes = [(1, 2 * self.vectors)]
        for vectors in range(1, self.vectors + 1):
            sizes += [(height, vectors) for height in range(1, self.rows + 1)]
        asking = [
            f"{height}x{self.vectors}_asking" for height in range(1, self.rows + 1)
        ]
        return [*(f"{height}x{vectors}" for height, vectors in sizes), *asking]

    @property
    def row_columns(self) -> int:
        """Return the width of a tile of a single row.

        A product with a vector reads each element of b once: the longer the stretch of
        a row that it reads at a time, the better the memory serves it.
        """
        return 2 * self.columns


def shape(dtype: str) -> Shape:
    """Return the tile that the registers hold and that loads least.

    A tile of r x v vectors loads v vectors of b and r elements of a for r * v FMAs,
    and the first cache serves at most as many loads as there are FMAs in a cycle, less
    in practice: 6 x 4 loads 10 for 24 and reaches the processor's limit where 14 x 2,
    which loads 16 for 28, reaches nine tenths. Besides the accumulators there are the
    vectors of b and a broadcast element of a, in 32 registers or in 16.
    """
    host = native.target()
    size = {"float32": 4, "float64": 8}[dtype]
    vectors = 4 if host.registers >= 32 else 2
    rows = (host.registers - 1 - vectors) // vectors
    return Shape(dtype, rows, vectors, host.vector_bytes // size)


class Writer:
    """Hold what the functions of a module need."""

    def __init__(self, tile: Shape) -> None:
        """Start a module for a tile of this shape."""
        self.tile = tile
        self.module = ir.Module("graphc_gemm")
        self.module.triple = native.target().triple
        self.element: ir.Type = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[
            tile.dtype
        ]
        self.size = {"float32": 4, "float64": 8}[tile.dtype]
        self.vector = vector(self.element, tile.lanes)
        # What inline assembly calls a register that holds a vector.
        self.register = "w" if native.target().triple.startswith("aarch64") else "v"
        self.places = vector(ir.IntType(32), tile.lanes)
        self.mask = vector(BIT, tile.lanes)
        self.pointer = self.element.as_pointer()
        suffix = f"v{tile.lanes}f{8 * self.size}"
        # Fused where the processor can: an old one has but a function that does it.
        kinds = [self.vector] * 3
        self.fma = self.declare(f"llvm.fmuladd.{suffix}", self.vector, kinds)
        self.masked_load = self.declare(
            f"llvm.masked.load.{suffix}.p0{'' if _opaque() else f'{suffix}'}",
            self.vector,
            [self.vector.as_pointer(), ir.IntType(32), self.mask, self.vector],
        )
        self.masked_store = self.declare(
            f"llvm.masked.store.{suffix}.p0{'' if _opaque() else f'{suffix}'}",
            ir.VoidType(),
            [self.vector, self.vector.as_pointer(), ir.IntType(32), self.mask],
        )
        self.zeros = constant(self.vector, 0)

    def declare(self, name: str, result: ir.Type, types: list[ir.Type]) -> ir.Function:
        """Declare a function of the module."""
        return ir.Function(self.module, ir.FunctionType(result, types), name)

    def function(
        self, name: str, types: list[ir.Type]
    ) -> tuple[ir.Function, ir.IRBuilder]:
        """Begin a function; return it and a builder at its start."""
        function = self.declare(name, ir.VoidType(), types)
        function.attributes.add("nounwind")
        return function, ir.IRBuilder(function.append_basic_block("entry"))

    def vectors(self, b: ir.IRBuilder, pointer: ir.Value) -> ir.Value:
        """Return a pointer to numbers as one to vectors."""
        return b.bitcast(pointer, self.vector.as_pointer())

    def load(
        self, b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value | None
    ) -> ir.Value:
        """Load a vector from anywhere; lanes outside of ``mask`` are 0, not read."""
        address = self.vectors(b, pointer)
        if mask is None:
            return b.load(address, align=self.size)
        align = ir.Constant(ir.IntType(32), self.size)
        return b.call(self.masked_load, [address, align, mask, self.zeros])

    def store(
        self,
        b: ir.IRBuilder,
        value: ir.Value,
        pointer: ir.Value,
        mask: ir.Value | None = None,
    ) -> None:
        """Store a vector to anywhere; lanes outside of ``mask`` are not written."""
        address = self.vectors(b, pointer)
        if mask is None:
            b.store(value, address, align=self.size)
            return
        align = ir.Constant(ir.IntType(32), self.size)
        b.call(self.masked_store, [value, address, align, mask])

    def ask(
        self, b: ir.IRBuilder, pointer: ir.Value, *, to_write: bool = False
    ) -> None:
        """Ask for the cache line of an element, into the first cache."""
        byte = ir.IntType(8).as_pointer()
        word = ir.IntType(32)
        name = "llvm.prefetch.p0"
        function = self.module.globals.get(name)
        if function is None:
            function = self.declare(name, ir.VoidType(), [byte, word, word, word])
        # To read or write, to be kept, data.
        hints = word(int(to_write)), word(3), word(1)
        b.call(function, [b.bitcast(pointer, byte), *hints])

    def splat(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return a vector of equal lanes."""
        zeros = constant(vector(value.type, self.tile.lanes), 0)
        single = b.insert_element(zeros, value, ir.IntType(32)(0))
        return b.shuffle_vector(single, zeros, constant(self.places, 0))

    def opaque(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return ``value`` without LLVM knowing anything about it."""
        function = ir.FunctionType(value.type, [value.type])
        kind = "r" if value.type == WORD or value.type.is_pointer else self.register
        return b.asm(function, "", f"={kind},0", [value], side_effect=False)

    def lanes_below(self, b: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """Return the mask of the first ``count`` lanes."""
        index = ir.Constant(self.places, list(range(self.tile.lanes)))
        return b.icmp_signed("<", index, self.splat(b, b.trunc(count, ir.IntType(32))))


def _opaque() -> bool:
    # LLVM 17 dropped typed pointers, and with them their names in intrinsics.
    return bool(llvm.llvm_version_info[0] >= 15)


@contextmanager
def counting(
    b: ir.IRBuilder,
    start: ir.Value,
    stop: ir.Value,
    step: int,
    carried: list[ir.Value],
) -> Iterator[tuple[ir.Value, list[ir.Value], list[ir.Value]]]:
    """Write a loop ``for index in range(start, stop, step)`` with carried values.

    Yields the index, the carried values inside the loop and a list that the body fills
    with their next values; afterwards that list holds the values behind the loop.
    """
    function = b.function
    before = b.block
    body = function.append_basic_block("body")
    after = function.append_basic_block("after")
    b.cbranch(b.icmp_signed("<", start, stop), body, after)
    b.position_at_end(body)
    index = b.phi(WORD)
    index.add_incoming(start, before)
    values = [b.phi(value.type) for value in carried]
    for phi, value in zip(values, carried, strict=True):
        phi.add_incoming(value, before)
    following: list[ir.Value] = []
    yield index, values, following
    next_index = b.add(index, WORD(step))
    last = b.block
    index.add_incoming(next_index, last)
    for phi, value in zip(values, following, strict=True):
        phi.add_incoming(value, last)
    b.cbranch(b.icmp_signed("<", next_index, stop), body, after)
    b.position_at_end(after)
    for position, (value, inside) in enumerate(zip(carried, following, strict=True)):
        phi = b.phi(value.type)
        phi.add_incoming(value, before)
        phi.add_incoming(inside, last)
        following[position] = phi


# --- the tile ----------------------------------------------------------------------


def write_tile(
    w: Writer,
    symbol: str,
    height: int,
    vectors: int,
    *,
    offsets: str = "",
    asks: bool = False,
) -> None:
    """Write the exported function for ``height`` rows and ``vectors`` vectors.

    offsets: "rows" for `tile_rows`, whose strides of a are addresses of tables,
    "columns" for `tile_columns`, whose stride of b is one. asks: whether it asks for
    the lines of a table, or of windows.
    """
    p, i = w.pointer, WORD
    function, b = w.function(symbol, [p, i, p, i, i, p, i, i, i, i, i])
    c, sc, a, sa_i, sa_k, bp, sb_k, k, cols, accumulate, lines = function.args
    # Two FMA units, four cycles each: eight sums must be on the way at any time.
    sets = 1 << (-(-8 // (height * vectors)) - 1).bit_length()
    # Any vector of a long row may be short or missing, else the last one may be short.
    masks: list[ir.Value | None] = [None] * vectors
    for n in range(0 if vectors > w.tile.vectors else vectors - 1, vectors):
        masks[n] = w.lanes_below(b, b.sub(cols, i(n * w.tile.lanes)))
    # A masked load takes longer, so b must have whole vectors where there is more work.
    loaded = masks if height == 1 else [None] * vectors
    # LLVM must not see how addresses hang together: it would turn them into a chain of
    # additions a turn, or into as many pointers, some of them in memory.
    if offsets == "rows":
        across, deep = (b.inttoptr(x, i.as_pointer()) for x in (sa_i, sa_k))
        places = [b.load(b.gep(across, [i(row)])) for row in range(height)]
    else:
        places = [i(0)] + [w.opaque(b, b.mul(sa_i, i(row))) for row in range(1, height)]
    rows_of_c = [c, *(b.gep(c, [b.mul(sc, i(row))]) for row in range(1, height))]
    rows_of_c = [w.vectors(b, row) for row in rows_of_c]
    cells = [(row, n) for row in range(height) for n in range(vectors)]

    def start(row: int, n: int) -> ir.Value:
        return b.gep(rows_of_c[row], [i(n)]) if n else rows_of_c[row]

    def turn(sums: list[ir.Value], ap: ir.Value, bq: ir.Value) -> list[ir.Value]:
        if offsets == "rows":
            if asks:
                w.ask(b, b.gep(a, [b.add(b.load(b.gep(ap, [i(AHEAD)])), places[0])]))
            ap = b.gep(a, [b.load(ap)])
        if offsets == "columns":
            bq = b.gep(bp, [b.load(bq)])
        first = w.vectors(b, bq)
        places_of_b = [first, *(b.gep(first, [i(n)]) for n in range(1, vectors))]
        columns = [
            w.load(b, place, mask)
            for place, mask in zip(places_of_b, loaded, strict=True)
        ]
        out = []
        for row in range(height):
            element = w.splat(b, b.load(b.gep(ap, [places[row]])))
            if vectors == 1:
                # LLVM would make the broadcast a part of the FMA: half as fast.
                element = w.opaque(b, element)
            for n, column in enumerate(columns):
                total = sums[row * vectors + n]
                out.append(b.call(w.fma, [element, column, total]))
        return out

    # Ask for what comes next, so that no sum waits for a cache beyond the first: where
    # the tile goes, unless that is scratch, and the next rows of a. One line for each p
    # is enough; where a is transposed, that is the line of a p some turns later.
    with b.if_then(b.icmp_signed("!=", sc, i(w.tile.columns))):
        for cell in cells:
            w.ask(b, start(*cell), to_write=True)
    coming, onward = [], i(0)
    if sets == 1 and vectors == w.tile.vectors and offsets != "rows":
        plain = b.icmp_signed("==", sa_k, i(1))
        next_rows, later = b.mul(sa_i, i(height)), b.mul(sa_k, i(AHEAD))
        coming = [b.gep(a, [b.select(plain, next_rows, later)])]
        onward = w.opaque(b, b.select(plain, i(height), sa_k))

    table = b.inttoptr(lines, i.as_pointer())

    def ask_line(number: ir.Value) -> None:
        address = b.load(b.gep(table, [number]))
        w.ask(b, b.inttoptr(address, p), to_write=True)

    noted = asks and offsets != "rows"
    if noted:  # for those that no turn asks for
        with counting(b, k, i(LINES), 1, []) as (number, _, _):
            ask_line(number)

    n = len(cells)
    whole = b.and_(k, i(-sets)) if sets > 1 else k
    before = b.block
    adds = b.icmp_signed("!=", accumulate, i(0))
    with b.if_then(adds):
        old = [w.load(b, start(*cell), masks[cell[1]]) for cell in cells]
        loading = b.block
    begin = [b.phi(w.vector) for _ in cells]
    for phi, value in zip(begin, old, strict=True):
        phi.add_incoming(value, loading)
        phi.add_incoming(w.zeros, before)
    begin += [w.zeros] * (n * (sets - 1))
    # What moves along p: pointers to an element of a and a row of b, or to its offset.
    first, step = (deep, i(1)) if offsets == "rows" else (a, sa_k)
    row, below = bp, sb_k
    if offsets == "columns":
        row, below = b.inttoptr(sb_k, i.as_pointer()), i(1)
    carried = [*coming, *begin, first, row]
    with counting(b, i(0), whole, sets, carried) as (index, values, following):
        *sums, ap, bq = values
        if noted:
            ask_line(b.and_(index, i(LINES - 1)))
        for line in sums[: len(coming)]:
            w.ask(b, line)
            following.append(w.opaque(b, b.gep(line, [onward])))
        del sums[: len(coming)]
        for part in range(0, n * sets, n):
            sums[part : part + n] = turn(sums[part : part + n], ap, bq)
            ap, bq = w.opaque(b, b.gep(ap, [step])), b.gep(bq, [below])
        following += [*sums, ap, bq]
    *sums, ap, bq = following[len(coming) :]
    total = sums[:n]
    for part in range(n, n * sets, n):
        total = [b.fadd(total[cell], sums[part + cell]) for cell in range(n)]
    if sets > 1:
        with counting(b, whole, k, 1, [*total, ap, bq]) as (_, values, following):
            *sums, ap, bq = values
            sums = turn(sums, ap, bq)
            following += [*sums, b.gep(ap, [step]), b.gep(bq, [below])]
        total = following[:n]
    for cell, value in zip(cells, total, strict=True):
        w.store(b, value, start(*cell), masks[cell[1]])
    b.ret_void()
