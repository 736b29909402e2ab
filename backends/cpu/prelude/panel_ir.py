"""Write the LLVM IR of the copies that put operands of a product into place.

pack(to, width, b, sb_k, sb_j, k, cols)

    to[p * width + j] = b[p * sb_k + j * sb_j] if j < cols else 0
    for p < k and j < width, a multiple of the vector's lanes

    copy         if sb_j is 1: rows of b, as vectors
    transpose    if sb_k is 1: in registers, a square of vectors at a time
    single       element by element

gather(to, width, b, deep, k, across, cols)

    to[p * width + j] = b[deep[p] + across[j]] for p < k and j < cols

    runs         offsets of `across` that follow each other are copied as a vector
    turned       those of `deep` are, a square of vectors at a time

spread(to, deep, k, across, a, width, cols)

    to[deep[p] + across[j]] += a[p * width + j] for p < k and j < cols
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llvmlite import ir

from .gemm_ir import WORD, Writer, counting

# --- matrices ------------------------------------------------------------------------


def _pack_function(w: Writer, name: str) -> tuple[ir.Function, ir.IRBuilder]:
    p, i = w.pointer, WORD
    return w.function(name, [p, i, p, i, i, i, i])


def write_copy(w: Writer, symbol: str) -> None:
    """Write the copy of rows that are contiguous, as many vectors as a tile has."""
    i, lanes = WORD, w.tile.lanes
    function, b = _pack_function(w, symbol)
    to, width, source, sb_k, _, k, cols = function.args
    begin: ir.Value = i(0)
    for count in (w.tile.vectors, 1):
        step = count * lanes
        end = b.mul(b.udiv(width, i(step)), i(step))
        with counting(b, begin, end, step, []) as (first, _, _):
            places = [b.add(first, i(n * lanes)) for n in range(count)]
            masks = [w.lanes_below(b, b.sub(cols, place)) for place in places]
            start = [b.gep(to, [first]), b.gep(source, [first])]
            with counting(b, i(0), k, 1, start) as (_, (out, row), following):
                for n, mask in enumerate(masks):
                    at = [i(n * lanes)]
                    w.store(b, w.load(b, b.gep(row, at), mask), b.gep(out, at))
                following += [b.gep(out, [width]), b.gep(row, [sb_k])]
        begin = end
    b.ret_void()


def write_transpose(w: Writer, symbol: str) -> None:
    """Write the copy of columns that are contiguous: squares, turned in registers."""
    i = WORD
    lanes = w.tile.lanes
    function, b = _pack_function(w, symbol)
    to, width, source, _, sb_j, k, cols = function.args
    with counting(b, i(0), width, lanes, []) as (first, _, _):
        rows = _columns(w, b, source, first, cols, lambda j: b.mul(j, sb_j))
        valid = w.lanes_below(b, b.sub(cols, first))
        with counting(b, i(0), k, lanes, []) as (p0, _, _):
            at = b.gep(to, [b.add(b.mul(p0, width), first)])
            _write_square(w, b, rows, p0, at, width, valid, b.sub(k, p0))
    b.ret_void()


def _columns(
    w: Writer,
    b: ir.IRBuilder,
    source: ir.Value,
    first: ir.Value,
    cols: ir.Value,
    offset: Callable[[ir.Value], ir.Value],
) -> list[ir.Value]:
    """Return the starts of a vector's columns; one that is not there is the last."""
    found = []
    for lane in range(w.tile.lanes):
        j = b.add(first, WORD(lane))
        last = b.sub(cols, WORD(1))
        j = b.select(b.icmp_signed("<", j, cols), j, last)
        found.append(b.gep(source, [offset(j)]))
    return found


def _write_square(
    w: Writer,
    b: ir.IRBuilder,
    rows: list[ir.Value],
    p0: ir.Value,
    at: ir.Value,
    width: ir.Value,
    valid: ir.Value,
    count: ir.Value,
) -> None:
    """Write a square of the transpose, of ``count`` p if those are fewer.

    Columns not there are 0. What stands for a p that is not there goes where the last p
    belongs, before that does: so a square at the edge is one like any other, and LLVM,
    which takes long for so many shuffles, meets them once.
    """
    lanes = w.tile.lanes
    here, mask = w.opaque(b, p0), w.lanes_below(b, count)
    loaded = [w.load(b, b.gep(row, [here]), mask) for row in rows]
    whole = b.icmp_signed("<", count, WORD(lanes))
    last = b.sub(b.select(whole, count, WORD(lanes)), WORD(1))
    at = w.opaque(b, b.gep(at, [b.mul(last, width)]))
    turned = _transposed(w, b, loaded)
    for lane, vector in reversed(list(enumerate(turned))):
        w.store(b, b.select(valid, vector, w.zeros), at)
        is_there = b.icmp_signed("<=", WORD(lane), last)
        at = w.opaque(b, b.gep(at, [b.select(is_there, b.neg(width), WORD(0))]))


def _transposed(w: Writer, b: ir.IRBuilder, vectors: list[ir.Value]) -> list[ir.Value]:
    """Transpose a square.

    First within 16 bytes, then these among each other: steps for which processors have
    instructions. LLVM must not see how they hang together: it would look for long for
    what saves one.
    """
    lanes = len(vectors)
    together = 16 // w.size

    def halves(
        pairs: list[ir.Value], lower: list[int], upper: list[int]
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        rows = [w.opaque(b, row) for row in pairs]
        masks = [ir.Constant(w.places, places) for places in (lower, upper)]
        found = [
            [b.shuffle_vector(*two, mask) for mask in masks]
            for two in zip(rows[::2], rows[1::2], strict=True)
        ]
        return [low for low, _ in found], [high for _, high in found]

    def within(rows: list[ir.Value], unit: int) -> list[ir.Value]:
        """Interleave the lower halves of 16 bytes, and the upper ones."""
        if len(rows) == 1:
            return rows
        places = [
            [
                start + offset + n + other
                for start in range(0, lanes, together)
                for offset in range(half, half + together // 2, unit)
                for other in (0, lanes)
                for n in range(unit)
            ]
            for half in (0, together // 2)
        ]
        low, high = halves(rows, *places)
        return within(low, 2 * unit) + within(high, 2 * unit)

    def among(rows: list[ir.Value]) -> list[ir.Value]:
        """Part the even 16 bytes of two vectors from the odd ones."""
        if len(rows) == 1:
            return rows
        places = [
            [
                start + n
                for start in range(parity * together, 2 * lanes, 2 * together)
                for n in range(together)
            ]
            for parity in (0, 1)
        ]
        even, odd = (among(part) for part in halves(rows, *places))
        return [row for pair in zip(even, odd, strict=True) for row in pair]

    groups = [
        within(vectors[start : start + together], 1)
        for start in range(0, lanes, together)
    ]
    columns = [among(list(column)) for column in zip(*groups, strict=True)]
    return [row for rows in zip(*columns, strict=True) for row in rows]


def write_single(w: Writer, symbol: str) -> None:
    """Write the copy of elements one by one, for strides that are both not 1."""
    i = WORD
    function, b = _pack_function(w, symbol)
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


# --- windows -------------------------------------------------------------------------


def _gather_function(w: Writer, name: str) -> tuple[ir.IRBuilder, list[ir.Value]]:
    """Begin a function; return its arguments too, the tables among them as pointers."""
    p, i = w.pointer, WORD
    function, b = w.function(name, [p, i, p, i, i, i, i])
    to, width, source, deep, k, across, cols = function.args
    tables = (b.inttoptr(x, i.as_pointer()) for x in (deep, across))
    deep, across = tables
    return b, [to, width, source, deep, k, across, cols]


def write_runs(w: Writer, symbol: str) -> None:
    """Write the copy of a panel whose neighbours lie across it."""
    i = WORD
    b, (to, width, source, deep, k, across, cols) = _gather_function(w, symbol)
    with _runs(w, b, across, cols) as (j, count):
        mask = w.lanes_below(b, count)
        start = b.gep(source, [b.load(b.gep(across, [j]))])
        begin = [b.gep(to, [j])]
        with counting(b, i(0), k, 1, begin) as (p, (out,), following):
            at = b.gep(start, [b.load(b.gep(deep, [p]))])
            w.store(b, w.load(b, at, mask), out, mask)
            following += [b.gep(out, [width])]
    b.ret_void()


def write_spread(w: Writer, symbol: str) -> None:
    """Write the exported function that adds a panel where its elements belong.

    It goes along p first: neighbours there may not belong to the same element, nor to
    overlapping vectors, or each addition would wait for the one before.
    """
    p, i = w.pointer, WORD
    function, b = w.function(symbol, [p, i, i, i, p, i, i])
    to, deep, k, across, a, width, cols = function.args
    deep, across = (b.inttoptr(x, i.as_pointer()) for x in (deep, across))
    with _runs(w, b, across, cols) as (j, count):
        mask = w.lanes_below(b, count)
        start = b.gep(to, [b.load(b.gep(across, [j]))])
        begin = [b.gep(a, [j])]
        with counting(b, i(0), k, 1, begin) as (p, (row,), following):
            at = b.gep(start, [b.load(b.gep(deep, [p]))])
            total = b.fadd(w.load(b, at, mask), w.load(b, row, mask))
            w.store(b, total, at, mask)
            following += [b.gep(row, [width])]
    b.ret_void()


def write_turned(w: Writer, symbol: str) -> None:
    """Write the copy of a panel whose neighbours lie along p: squares, transposed."""
    i, lanes = WORD, w.tile.lanes
    b, (to, width, source, deep, k, across, cols) = _gather_function(w, symbol)
    with counting(b, i(0), cols, lanes, []) as (first, _, _):
        rows = _columns(w, b, source, first, cols, lambda j: b.load(b.gep(across, [j])))
        valid = w.lanes_below(b, b.sub(cols, first))
        with _runs(w, b, deep, k) as (p, count):
            p0 = b.load(b.gep(deep, [p]))
            at = b.gep(to, [b.add(b.mul(p, width), first)])
            _write_square(w, b, rows, p0, at, width, valid, count)
    b.ret_void()


@contextmanager
def _runs(
    w: Writer, b: ir.IRBuilder, table: ir.Value, n: ir.Value
) -> Iterator[tuple[ir.Value, ir.Value]]:
    """Write a loop over the runs of neighbours in a table of n offsets.

    Yields where a run begins and how long it is: a vector's lanes at most.
    """
    i = WORD
    function = b.function
    names = ("head", "run", "longer", "next", "body", "after")
    head, run, longer, following, body, after = map(function.append_basic_block, names)
    before = b.block
    b.branch(head)
    b.position_at_end(head)
    start = b.phi(i)
    start.add_incoming(i(0), before)
    b.cbranch(b.icmp_signed("<", start, n), run, after)
    b.position_at_end(run)
    count = b.phi(i)
    count.add_incoming(i(1), head)
    place = b.add(start, count)
    room = b.icmp_signed("<", count, i(w.tile.lanes))
    b.cbranch(b.and_(room, b.icmp_signed("<", place, n)), longer, body)
    b.position_at_end(longer)
    here, there = (b.load(b.gep(table, [x])) for x in (place, b.sub(place, i(1))))
    b.cbranch(b.icmp_signed("==", b.sub(here, there), i(1)), following, body)
    b.position_at_end(following)
    count.add_incoming(b.add(count, i(1)), following)
    b.branch(run)
    b.position_at_end(body)
    yield start, count
    start.add_incoming(b.add(start, count), b.block)
    b.branch(head)
    b.position_at_end(after)
