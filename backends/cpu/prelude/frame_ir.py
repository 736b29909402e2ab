"""Write the LLVM IR of the copy that puts zeros around what windows move over.

frame(to, width, a, lines, n, low, step, size)

    to[r * width + low + i * step] = a[lines[r] + i] for i < size if lines[r] >= 0
    to[r * width + j] = 0 for all other j < width, for r < n

A line is written as whole vectors, so up to a vector behind the last one is too.
Elements that are further apart than neighbours are put between zeros one by one.
"""

from __future__ import annotations

from llvmlite import ir

from .gemm_ir import WORD, Writer, counting


def write_frame(w: Writer, symbol: str) -> None:
    """Write the exported function."""
    p, i, lanes = w.pointer, WORD, w.tile.lanes
    function, b = w.function(symbol, [p, i, p, i, i, i, i, i])
    to, width, a, lines, n, low, step, size = function.args
    table = b.inttoptr(lines, i.as_pointer())
    near = b.icmp_signed("==", step, i(1))
    # Windows may leave out elements at either end.
    begin = _steps_to(b, b.neg(low), step)
    size = b.select(near, size, _least(b, size, _steps_to(b, b.sub(width, low), step)))
    with counting(b, i(0), n, 1, []) as (r, _, _):
        offset = b.load(b.gep(table, [r]))
        there = b.icmp_signed(">=", offset, i(0))
        line = b.gep(to, [b.mul(r, width)])
        source = b.gep(a, [b.select(there, offset, i(0))])
        count = b.select(there, size, i(0))
        copied = b.select(near, count, i(0))
        with counting(b, i(0), width, lanes, []) as (j, _, _):
            first = b.sub(j, low)
            inside = b.and_(
                w.lanes_below(b, b.sub(copied, first)),
                b.not_(w.lanes_below(b, b.neg(first))),
            )
            w.store(b, w.load(b, b.gep(source, [first]), inside), b.gep(line, [j]))
        between = b.select(near, i(0), count)
        with counting(b, begin, between, 1, []) as (k, _, _):
            place = b.add(low, b.mul(k, step))
            b.store(b.load(b.gep(source, [k])), b.gep(line, [place]))
    b.ret_void()


def _steps_to(b: ir.IRBuilder, distance: ir.Value, step: ir.Value) -> ir.Value:
    """Return how many steps it takes to go so far at least; 0 if that is behind."""
    last = b.sub(b.add(distance, step), WORD(1))
    forward = b.icmp_signed(">", distance, WORD(0))
    return b.select(forward, b.sdiv(last, step), WORD(0))


def _least(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    return b.select(b.icmp_signed("<", x, y), x, y)
