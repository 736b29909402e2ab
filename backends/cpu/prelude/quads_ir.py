"""Write the LLVM IR of the tile of narrow products, which takes four p at a time.

A tile of one vector of columns broadcasts an element of a for each multiplication, and
a processor that multiplies two vectors a cycle loads one or two. So here a broadcast
holds four neighbours of a row, and meets vectors that hold four p of a quarter of the
columns each:

    a     a[i, p .. p + 3], the same in each 16 bytes
    b[v]  b[p .. p + 3, v], b[p .. p + 3, 4 + v], b[p .. p + 3, 8 + v], ...

A row has four sums, one for each v; when all p are done the four numbers of a column
are added up, which puts the columns in order.

quads_Hx4(c, sc, a, sa_i, sa_k, b, sb_k, k, cols, accumulate, lines)

    c[i * sc + j] (+)= sum over p < k of a[i * sa_i + p] * b[p, j]
    for i < H and j < cols, at most a vector; sa_k is 1, sb_k and lines are not read

interleave(panel, k)

    Puts a copied panel, k rows of a vector, in that order; room for a multiple of four
    rows. Those that are not there become 0.
"""

from __future__ import annotations

from llvmlite import ir

from .gemm_ir import WORD, Writer, counting
from .lanes import vector

QUAD = 4


def write_quads(w: Writer, symbol: str, height: int) -> None:
    """Write the exported function for ``height`` rows."""
    p, i, lanes = w.pointer, WORD, w.tile.lanes
    function, b = w.function(symbol, [p, i, p, i, i, p, i, i, i, i, i])
    c, sc, a, sa_i, _, bp, _, k, cols, accumulate, _ = function.args
    quad = vector(w.element, QUAD)
    masked_load = _masked_load(w, quad)
    everywhere = ir.Constant(
        vector(ir.IntType(32), lanes), [*range(QUAD)] * (lanes // QUAD)
    )
    # LLVM must not see how addresses hang together; see `write_tile`.
    places = [i(0)] + [w.opaque(b, b.mul(sa_i, i(row))) for row in range(1, height)]
    mask = w.lanes_below(b, cols)
    unused = ir.Constant(quad, ir.Undefined)

    def turn(
        sums: list[ir.Value], ap: ir.Value, bq: ir.Value, there: ir.Value | None
    ) -> list[ir.Value]:
        """Return the sums with four p more, of which some may not be there."""
        rows = w.vectors(b, bq)
        columns = [w.load(b, b.gep(rows, [i(v)]), None) for v in range(QUAD)]
        out = []
        for row in range(height):
            at = b.bitcast(b.gep(ap, [places[row]]), quad.as_pointer())
            if there is None:
                few = b.load(at, align=w.size)
            else:
                align = ir.Constant(ir.IntType(32), w.size)
                few = b.call(
                    masked_load, [at, align, there, ir.Constant(quad, [0] * QUAD)]
                )
            element = b.shuffle_vector(few, unused, everywhere)
            for v, column in enumerate(columns):
                out.append(b.call(w.fma, [element, column, sums[row * QUAD + v]]))
        return out

    below = i(QUAD * lanes)
    # The rows of the next tile, a line each turn.
    coming, onward = b.gep(a, [b.mul(sa_i, i(height))]), i(QUAD * height)
    whole = b.udiv(k, i(QUAD))
    carried = [coming, *[w.zeros] * (QUAD * height), a, bp]
    with counting(b, i(0), whole, 1, carried) as (_, values, following):
        line, *sums, ap, bq = values
        w.ask(b, line)
        sums = turn(sums, ap, bq, None)
        following += [w.opaque(b, b.gep(line, [onward])), *sums]
        following += [w.opaque(b, b.gep(ap, [i(QUAD)])), b.gep(bq, [below])]
    _, *sums, ap, bq = following
    rest = b.and_(k, i(QUAD - 1))
    some = b.zext(b.icmp_signed("!=", rest, i(0)), i)
    with counting(b, i(0), some, 1, sums) as (_, values, following):
        numbers = ir.Constant(vector(ir.IntType(64), QUAD), [*range(QUAD)])
        following += turn(values, ap, bq, _below(b, numbers, rest))
    adds = b.icmp_signed("!=", accumulate, i(0))
    old = b.select(adds, mask, ir.Constant(w.mask, [0] * lanes))
    for row in range(height):
        total = _columns(w, b, following[row * QUAD : (row + 1) * QUAD])
        at = b.gep(c, [b.mul(sc, i(row))])
        total = b.fadd(total, w.load(b, at, old))
        w.store(b, total, at, mask)
    b.ret_void()


def _masked_load(w: Writer, quad: ir.Type) -> ir.Function:
    name = f"llvm.masked.load.v{QUAD}f{8 * w.size}.p0"
    kinds = [quad.as_pointer(), ir.IntType(32), vector(ir.IntType(1), QUAD), quad]
    return w.declare(name, quad, kinds)


def _below(b: ir.IRBuilder, numbers: ir.Value, count: ir.Value) -> ir.Value:
    """Return the mask of the numbers below ``count``."""
    none = ir.Constant(numbers.type, ir.Undefined)
    single = b.insert_element(none, count, ir.IntType(32)(0))
    first = ir.Constant(vector(ir.IntType(32), QUAD), [0] * QUAD)
    return b.icmp_signed("<", numbers, b.shuffle_vector(single, none, first))


def _columns(w: Writer, b: ir.IRBuilder, sums: list[ir.Value]) -> ir.Value:
    """Return the sums of four numbers each, those of vector v at 4 n + v."""
    halves = [
        _added(w, b, *sums[n : n + 2], [0, 4, 1, 5], [2, 6, 3, 7]) for n in (0, 2)
    ]
    return _added(w, b, *halves, [0, 1, 4, 5], [2, 3, 6, 7])


def _added(
    w: Writer, b: ir.IRBuilder, x: ir.Value, y: ir.Value, *places: list[int]
) -> ir.Value:
    """Return the sum of two shuffles of x and y, the same in each four lanes."""
    return b.fadd(*(_shuffled(w, b, x, y, each) for each in places))


def _shuffled(
    w: Writer, b: ir.IRBuilder, x: ir.Value, y: ir.Value, places: list[int]
) -> ir.Value:
    """Return lanes of x, 0 to 3, and of y, 4 to 7, in each four lanes."""
    lanes = w.tile.lanes
    mask = [
        start + place % QUAD + place // QUAD * lanes
        for start in range(0, lanes, QUAD)
        for place in places
    ]
    return b.shuffle_vector(x, y, ir.Constant(w.places, mask))


def write_interleave(w: Writer, symbol: str) -> None:
    """Write the exported function that interleaves a panel where it lies."""
    i, lanes = WORD, w.tile.lanes
    function, b = w.function(symbol, [w.pointer, i])
    panel, k = function.args
    with counting(b, i(0), k, QUAD, [panel]) as (index, (at,), following):
        rows = w.vectors(b, at)
        places = [b.gep(rows, [i(n)]) for n in range(QUAD)]
        loaded = []
        for n, place in enumerate(places):
            there = b.icmp_signed("<", b.add(index, i(n)), k)
            loaded.append(b.select(there, w.load(b, place, None), w.zeros))
        for place, turned in zip(places, _turned(w, b, loaded), strict=True):
            w.store(b, turned, place)
        following += [b.gep(at, [i(QUAD * lanes)])]
    b.ret_void()


def _turned(w: Writer, b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Transpose four vectors within each four lanes."""
    pairs = [
        _shuffled(w, b, rows[n], rows[n + 1], places)
        for places in ([0, 4, 1, 5], [2, 6, 3, 7])
        for n in (0, 2)
    ]
    return [
        _shuffled(w, b, x, y, places)
        for x, y in (pairs[:2], pairs[2:])
        for places in ([0, 1, 4, 5], [2, 3, 6, 7])
    ]
