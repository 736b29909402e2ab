"""Write the LLVM IR of the register tile and of the panel copy.

Numba has no part in this: the two functions are made of vectors whose number depends on
the target, which is easier to say in a loop over LLVM's builder than in Python source,
and they are compiled once, whatever the network.

    tile(c, a, sa_i, sa_k, rows, b, sb_k, k, cols, accumulate)

        c[i * NR + j] (+)= sum over p < k of a[i * sa_i + p * sa_k] * b[p * sb_k + j]
        for i < rows <= MR and j < cols <= NR, or for a single row of cols <= 4 NR

    There is a loop for each number of rows and for one or two vectors of columns, so a
    ragged edge costs what it computes. A loop keeps the whole tile in registers: for
    each p it loads the columns of b once and broadcasts each element of a. Where a
    small tile has too few accumulators to hide an FMA's latency, it keeps several sets
    and takes several p a turn.

    pack(to, width, b, sb_k, sb_j, k, cols)

        to[p * width + j] = b[p * sb_k + j * sb_j] if j < cols else 0
        for p < k and j < width, a multiple of the vector's lanes

    Rows of b are copied as vectors if sb_j is 1 and transposed in registers, a square
    of vectors at a time, if sb_k is 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import llvmlite.binding as llvm
from llvmlite import ir

from . import native

# A product with a vector reads each element of b once: the longer the stretch of a row
# that it reads at a time, the better the memory serves it.
ROW_VECTORS = 8

# How many p ahead a tile asks for the lines of a: where a is packed or transposed, each
# p reads a line of its own, which the processor does not foresee (a fifth faster).
AHEAD = 16

WORD = ir.IntType(64)
BIT = ir.IntType(1)


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
    def row_columns(self) -> int:
        """Return the width of a tile of a single row."""
        return ROW_VECTORS * self.lanes


def shape(dtype: str) -> Shape:
    """Return the largest tile of two vectors' width that the registers hold.

    Besides the accumulators there are two vectors of b and a broadcast element of a:
    with 32 registers that leaves 14 rows, with 16 it leaves 6.
    """
    host = native.target()
    size = {"float32": 4, "float64": 8}[dtype]
    return Shape(dtype, (host.registers - 3) // 2, 2, host.vector_bytes // size)


class Writer:
    """Hold what all the functions of the module need."""

    def __init__(self, tile: Shape) -> None:
        """Start a module for a tile of this shape."""
        self.tile = tile
        self.module = ir.Module("graphc_gemm")
        self.module.triple = native.target().triple
        self.element: ir.Type = {"float32": ir.FloatType(), "float64": ir.DoubleType()}[
            tile.dtype
        ]
        self.size = {"float32": 4, "float64": 8}[tile.dtype]
        self.vector = ir.VectorType(self.element, tile.lanes)
        self.bits = ir.VectorType(ir.IntType(8 * self.size), tile.lanes)
        self.mask = ir.VectorType(BIT, tile.lanes)
        self.pointer = self.element.as_pointer()
        suffix = f"v{tile.lanes}f{8 * self.size}"
        self.fma = self.declare(f"llvm.fma.{suffix}", self.vector, [self.vector] * 3)
        self.masked_load = self.declare(
            f"llvm.masked.load.{suffix}.p0{'' if _opaque() else f'{suffix}'}",
            self.vector,
            [self.vector.as_pointer(), ir.IntType(32), self.mask, self.vector],
        )
        self.prefetched = ir.IntType(8).as_pointer()
        self.prefetcher = self.declare(
            f"llvm.prefetch.p0{'' if _opaque() else 'i8'}",
            ir.VoidType(),
            [self.prefetched, *[ir.IntType(32)] * 3],
        )
        self.zeros = ir.Constant(self.vector, None)

    def declare(self, name: str, result: ir.Type, types: list[ir.Type]) -> ir.Function:
        """Declare a function of the module."""
        return ir.Function(self.module, ir.FunctionType(result, types), name)

    def function(
        self, name: str, types: list[ir.Type], *, private: bool = False
    ) -> tuple[ir.Function, ir.IRBuilder]:
        """Begin a function; return it and a builder at its start."""
        function = self.declare(name, ir.VoidType(), types)
        if private:
            function.linkage = "internal"
            function.attributes.add("noinline")
        function.attributes.add("nounwind")
        return function, ir.IRBuilder(function.append_basic_block("entry"))

    def load(
        self, b: ir.IRBuilder, pointer: ir.Value, mask: ir.Value | None
    ) -> ir.Value:
        """Load a vector from anywhere; lanes outside of ``mask`` are 0, not read."""
        address = b.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return b.load(address, align=self.size)
        align = ir.Constant(ir.IntType(32), self.size)
        return b.call(self.masked_load, [address, align, mask, self.zeros])

    def prefetch(self, b: ir.IRBuilder, pointer: ir.Value) -> None:
        """Ask for the cache line at ``pointer``; it need not exist."""
        read, keep, data = (ir.Constant(ir.IntType(32), value) for value in (0, 3, 1))
        address = b.bitcast(pointer, self.prefetched)
        b.call(self.prefetcher, [address, read, keep, data])

    def store(self, b: ir.IRBuilder, value: ir.Value, pointer: ir.Value) -> None:
        """Store a vector to anywhere."""
        b.store(value, b.bitcast(pointer, self.vector.as_pointer()), align=self.size)

    def splat(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return a vector of equal lanes."""
        kind = ir.VectorType(value.type, self.tile.lanes)
        single = b.insert_element(ir.Constant(kind, None), value, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), self.tile.lanes), None)
        return b.shuffle_vector(single, ir.Constant(kind, None), zeros)

    def opaque(self, b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """Return ``value`` without LLVM knowing anything about it."""
        function = ir.FunctionType(value.type, [value.type])
        return b.asm(function, "", "=r,0", [value], side_effect=False)

    def masked(self, b: ir.IRBuilder, value: ir.Value, bits: ir.Value) -> ir.Value:
        """Return ``value & bits``; LLVM would make a branch of each select."""
        return b.bitcast(b.and_(b.bitcast(value, self.bits), bits), self.vector)

    def lanes_below(self, b: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """Return the mask of the first ``count`` lanes."""
        kind = ir.VectorType(ir.IntType(32), self.tile.lanes)
        index = ir.Constant(kind, list(range(self.tile.lanes)))
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


def write_tile(w: Writer, symbol: str) -> None:
    """Write the exported function, which chooses among the loops."""
    p, i = w.pointer, WORD
    function, b = w.function(symbol, [p, p, i, i, i, p, i, i, i, i])
    c, a, sa_i, sa_k, rows, bp, sb_k, k, cols, accumulate = function.args
    shared = [c, a, sa_i, sa_k, bp, sb_k, k, cols, accumulate]
    wide = b.icmp_signed(">", cols, i(w.tile.lanes))
    choice = b.add(rows, b.select(wide, i(w.tile.rows), i(0)))
    row = b.icmp_signed(">", cols, i(w.tile.columns))
    choice = b.select(row, i(0), choice)
    default = function.append_basic_block("none")
    switch = b.switch(choice, default)
    cases = [(0, 1, ROW_VECTORS)]
    for vectors in range(1, w.tile.vectors + 1):
        for height in range(1, w.tile.rows + 1):
            cases.append((height + (vectors - 1) * w.tile.rows, height, vectors))
    for case, height, vectors in cases:
        loop = write_loop(w, height, vectors)
        block = function.append_basic_block(f"rows_{height}x{vectors}")
        switch.add_case(i(case), block)
        b.position_at_end(block)
        b.call(loop, shared, tail=True)
        b.ret_void()
    b.position_at_end(default)
    b.ret_void()


def write_loop(w: Writer, height: int, vectors: int) -> ir.Function:
    """Write the loop over k of a tile of ``height`` rows and ``vectors`` vectors."""
    p, i = w.pointer, WORD
    name = f"tile_{height}x{vectors}"
    function, b = w.function(name, [p, p, i, i, p, i, i, i, i], private=True)
    c, a, sa_i, sa_k, bp, sb_k, k, cols, accumulate = function.args
    # Two FMA units, four cycles each: eight sums must be on the way at any time.
    sets = max(1, 8 // (height * vectors))
    ragged = range(vectors if vectors > w.tile.vectors else 1)
    masks: list[ir.Value | None] = [None] * (vectors - len(ragged))
    for vector in range(len(masks), vectors):
        masks.append(w.lanes_below(b, b.sub(cols, i(vector * w.tile.lanes))))
    # Rows 0 to 6 and 7 to 13 share their offsets, which leaves room for all addresses
    # in x86's 15 registers. LLVM must not see how addresses hang together: it would
    # turn them into a chain of 14 additions a turn, as long as the 28 FMAs take, or
    # into 14 pointers, some of them in memory.
    offsets = [i(0)] + [
        w.opaque(b, b.mul(sa_i, i(row))) for row in range(1, min(height, 7))
    ]
    offsets += offsets[: height - len(offsets)]

    ahead = b.mul(sa_k, i(AHEAD))

    def start(row: int, vector: int) -> ir.Value:
        return b.gep(c, [i(row * w.tile.columns + vector * w.tile.lanes)])

    cells = [(row, vector) for row in range(height) for vector in range(vectors)]

    def turn(
        sums: list[ir.Value], ap: ir.Value, ap7: ir.Value, bq: ir.Value
    ) -> list[ir.Value]:
        columns = [
            w.load(b, b.gep(bq, [i(vector * w.tile.lanes)]), masks[vector])
            for vector in range(vectors)
        ]
        w.prefetch(b, b.gep(ap, [ahead]))
        out = []
        for row in range(height):
            base = ap if row < 7 else ap7
            element = w.splat(b, b.load(b.gep(base, [offsets[row]])))
            for vector in range(vectors):
                cell = row * vectors + vector
                out.append(b.call(w.fma, [element, columns[vector], sums[cell]]))
        return out

    n = len(cells)
    keep = b.sext(b.icmp_signed("!=", accumulate, i(0)), w.bits.element)
    keep = w.splat(b, keep)
    begin = [w.masked(b, w.load(b, start(*cell), None), keep) for cell in cells]
    begin += [w.zeros] * (n * (sets - 1))
    a7 = b.gep(a, [b.mul(sa_i, i(7))]) if height > 7 else a
    whole = b.and_(k, i(-sets)) if sets > 1 else k
    with counting(b, i(0), whole, sets, [*begin, a, a7, bp]) as (_, values, following):
        *sums, ap, ap7, bq = values
        for part in range(0, n * sets, n):
            sums[part : part + n] = turn(sums[part : part + n], ap, ap7, bq)
            ap, bq = w.opaque(b, b.gep(ap, [sa_k])), b.gep(bq, [sb_k])
            ap7 = w.opaque(b, b.gep(ap7, [sa_k])) if height > 7 else ap7
        following += [*sums, ap, ap7, bq]
    *sums, ap, ap7, bq = following
    total = sums[:n]
    for part in range(n, n * sets, n):
        total = [b.fadd(total[cell], sums[part + cell]) for cell in range(n)]
    if sets > 1:
        with counting(b, whole, k, 1, [*total, ap, bq]) as (_, values, following):
            *sums, ap, bq = values
            sums = turn(sums, ap, ap, bq)
            following += [*sums, b.gep(ap, [sa_k]), b.gep(bq, [sb_k])]
        total = following[:n]
    for cell, value in zip(cells, total, strict=True):
        w.store(b, value, start(*cell))
    b.ret_void()
    return function


# --- the panel copy ----------------------------------------------------------------


def write_pack(w: Writer, symbol: str) -> None:
    """Write the exported function, which chooses among three ways to copy."""
    p, i = w.pointer, WORD
    function, b = w.function(symbol, [p, i, p, i, i, i, i])
    _, _, _, sb_k, sb_j, _, _ = function.args
    ways = [
        (b.icmp_signed("==", sb_j, i(1)), write_copy(w)),
        (b.icmp_signed("==", sb_k, i(1)), write_transpose(w)),
        (BIT(1), write_gather(w)),
    ]
    for condition, way in ways:
        with b.if_then(condition):
            b.call(way, function.args)
            b.ret_void()
    b.ret_void()


def _pack_function(w: Writer, name: str) -> tuple[ir.Function, ir.IRBuilder]:
    p, i = w.pointer, WORD
    return w.function(name, [p, i, p, i, i, i, i], private=True)


def write_copy(w: Writer) -> ir.Function:
    """Write the copy of rows that are contiguous, a vector's width at a time."""
    i = WORD
    function, b = _pack_function(w, "pack_copy")
    to, width, source, sb_k, _, k, cols = function.args
    with counting(b, i(0), width, w.tile.lanes, []) as (first, _, _):
        mask = w.lanes_below(b, b.sub(cols, first))
        start = [b.gep(to, [first]), b.gep(source, [first])]
        with counting(b, i(0), k, 1, start) as (_, (out, row), following):
            w.store(b, w.load(b, row, mask), out)
            following += [b.gep(out, [width]), b.gep(row, [sb_k])]
    b.ret_void()
    return function


def write_transpose(w: Writer) -> ir.Function:
    """Write the copy of columns that are contiguous: squares, turned in registers."""
    i = WORD
    lanes = w.tile.lanes
    function, b = _pack_function(w, "pack_transpose")
    to, width, source, _, sb_j, k, cols = function.args
    whole = b.and_(k, i(-lanes))
    rest = b.sub(k, whole)
    with counting(b, i(0), width, lanes, []) as (first, _, _):
        valid = w.lanes_below(b, b.sub(cols, first))
        # A column that is not there stands for column cols - 1, and is cleared below.
        rows = []
        for lane in range(lanes):
            j = b.add(first, i(lane))
            j = b.select(b.icmp_signed("<", j, cols), j, b.sub(cols, i(1)))
            rows.append(b.gep(source, [b.mul(j, sb_j)]))

        def square(p0: ir.Value, mask: ir.Value | None) -> None:
            loaded = [w.load(b, b.gep(row, [p0]), mask) for row in rows]
            at = b.gep(to, [b.add(b.mul(p0, width), first)])
            for lane, vector in enumerate(_transposed(b, loaded)):
                cleared = b.select(valid, vector, w.zeros)
                if mask is None:
                    w.store(b, cleared, at)
                else:
                    with b.if_then(b.icmp_signed(">", rest, i(lane))):
                        w.store(b, cleared, at)
                at = b.gep(at, [width])

        with counting(b, i(0), whole, lanes, []) as (p0, _, _):
            square(p0, None)
        with b.if_then(b.icmp_signed(">", rest, i(0))):
            square(whole, w.lanes_below(b, rest))
    b.ret_void()
    return function


def _transposed(b: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Transpose a square by exchanging ever larger blocks of two vectors at a time."""
    lanes = len(vectors)
    kind = ir.VectorType(ir.IntType(32), lanes)
    block = 1
    while block < lanes:
        lower = [n if n & block == 0 else n - block + lanes for n in range(lanes)]
        upper = [n + block if n & block == 0 else n + lanes for n in range(lanes)]
        turned = list(vectors)
        for n in range(lanes):
            if n & block == 0:
                pair = vectors[n], vectors[n + block]
                turned[n] = b.shuffle_vector(*pair, ir.Constant(kind, lower))
                turned[n + block] = b.shuffle_vector(*pair, ir.Constant(kind, upper))
        vectors = turned
        block *= 2
    return vectors


def write_gather(w: Writer) -> ir.Function:
    """Write the copy of elements one by one, for strides that are both not 1."""
    i = WORD
    function, b = _pack_function(w, "pack_gather")
    to, width, source, sb_k, sb_j, k, cols = function.args
    zero = ir.Constant(w.element, 0.0)
    with counting(b, i(0), k, 1, []) as (index, _, _):
        out = b.gep(to, [b.mul(index, width)])
        row = b.gep(source, [b.mul(index, sb_k)])
        with counting(b, i(0), cols, 1, []) as (j, _, _):
            b.store(b.load(b.gep(row, [b.mul(j, sb_j)])), b.gep(out, [j]))
        with counting(b, cols, width, 1, []) as (j, _, _):
            b.store(zero, b.gep(out, [j]))
    b.ret_void()
    return function


def build(dtype: str, tile_symbol: str, pack_symbol: str) -> llvm.ModuleRef:
    """Return the module of a dtype's two functions."""
    writer = Writer(shape(dtype))
    if tile_symbol:
        write_tile(writer, tile_symbol)
    if pack_symbol:
        write_pack(writer, pack_symbol)
    # There is nothing to optimise: without LLVM's passes the loops are the same and
    # compiling takes half the time.
    return llvm.parse_assembly(str(writer.module))
