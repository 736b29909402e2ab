"""Write the LLVM IR of the copy that puts zeros around what windows move over.

frame(to, width, a, lines, n, low, step, size, copies, apart)

    to[r * width + low + i * step] = a[lines[r] + i] for i < size if lines[r] >= 0
    to[r * width + j] = 0 for all other j < width, for r < n

and so on for further copies, one behind the other, each with a `low` that is less by
`apart`. Lines are copied some at a time, which the first cache holds for all copies;
of these the same vector of each line in turn, as the same of its lanes are inside.
Elements that are further apart than neighbours are put between zeros one by one.
"""

from __future__ import annotations

from llvmlite import ir

from .gemm_ir import WORD, Writer, counting

# So many lines at a time.
LINES = 32


def write_frame(w: Writer, symbol: str) -> None:
    """Write the exported function."""
    p, i = w.pointer, WORD
    function, b = w.function(symbol, [p, i, p, i, i, i, i, i, i, i])
    to, width, a, lines, n, low, step, size, copies, apart = function.args
    table = b.inttoptr(lines, i.as_pointer())
    with counting(b, i(0), n, LINES, []) as (first, _, _):
        rows = first, _least(b, b.add(first, i(LINES)), n)
        with counting(b, i(0), copies, 1, []) as (copy, _, _):
            begin = b.gep(to, [b.mul(copy, b.mul(n, width))])
            moved = b.sub(low, b.mul(copy, apart))
            _write_lines(w, b, (begin, width, a, table, moved, step, size), rows)
    b.ret_void()


def _write_lines(
    w: Writer,
    b: ir.IRBuilder,
    frame: tuple[ir.Value, ...],
    rows: tuple[ir.Value, ir.Value],
) -> None:
    """Write the copy of some lines."""
    i, lanes = WORD, w.tile.lanes
    to, width, a, table, low, step, size = frame
    near = b.icmp_signed("==", step, i(1))

    def ends(r: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
        """Return whether something stands in a line, where from, and where to."""
        offset = b.load(b.gep(table, [r]))
        there = b.icmp_signed(">=", offset, i(0))
        source = b.gep(a, [b.select(there, offset, i(0))])
        return there, source, b.gep(to, [b.mul(r, width)])

    # Windows may leave out elements at either end.
    copied = b.select(near, size, i(0))
    with counting(b, i(0), width, lanes, []) as (j, _, _):
        first, own = b.sub(j, low), w.lanes_below(b, b.sub(width, j))
        outside = w.lanes_below(b, b.neg(first))
        inside = b.and_(w.lanes_below(b, b.sub(copied, first)), b.not_(outside))
        with counting(b, *rows, 1, []) as (r, _, _):
            there, source, line = ends(r)
            mask = b.and_(inside, w.splat(b, there))
            value = w.load(b, b.gep(source, [first]), mask)
            w.store(b, value, b.gep(line, [j]), own)
    begin = _steps_to(b, b.neg(low), step)
    between = _least(b, size, _steps_to(b, b.sub(width, low), step))
    start, stop = rows
    with counting(b, start, b.select(near, start, stop), 1, []) as (r, _, _):
        there, source, line = ends(r)
        with counting(b, begin, b.select(there, between, i(0)), 1, []) as (k, _, _):
            place = b.add(low, b.mul(k, step))
            b.store(b.load(b.gep(source, [k])), b.gep(line, [place]))


def _steps_to(b: ir.IRBuilder, distance: ir.Value, step: ir.Value) -> ir.Value:
    """Return how many steps it takes to go so far at least; 0 if that is behind."""
    last = b.sub(b.add(distance, step), WORD(1))
    forward = b.icmp_signed(">", distance, WORD(0))
    return b.select(forward, b.sdiv(last, step), WORD(0))


def _least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)
