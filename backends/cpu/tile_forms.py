"""How a contraction runs on register tiles, as far as its form alone says.

A kernel serves many sizes, so what is decided here holds for all of them; what sizes
decide is an argument (tile_room.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.backends.cpu.prelude.quads_ir import QUAD
from graphc.backends.cpu.writer import walk_needed
from graphc.ir.dims import product
from graphc.ir.program import Loop, LoopAxis, Nest, Phase, Program
from graphc.ir.program.program import flat
from graphc.ir.scalar import Axis, Expr, Load, walk
from graphc.passes.contraction import Contraction, contraction_of, merged, steps

LONG = 512  # a sum that may be worth adding up in layers


def gathers(e: Load, across: Sequence[LoopAxis], x: Contraction) -> bool:
    """Whether an operand lies in no matrix: its axes are not one, or its sum's are."""
    return any(merged(steps(e, axes, x.program)) is None for axes in (across, x.depth))


def may_be_layered(x: Contraction) -> bool:
    """Whether a sum may be added up in layers: where it is long, or may be.

    Of two plain matrices: their parts then stay in the second cache.
    """
    deep = product(axis.extent for axis in x.depth)
    short = isinstance(deep, int) and deep < LONG
    return may_divide_rows(x) and not x.blocks and x.frame is None and not short


def may_divide_rows(x: Contraction) -> bool:
    """Whether threads may divide the rows, and each copy but its own."""
    gathered = gathers(x.a, (x.row,), x) or gathers(x.b, x.columns, x)
    return not x.batch and not gathered


def is_flat(x: Contraction, later: Sequence[Phase], lanes: int, columns: int) -> bool:
    """Whether all rows of a tile lie one behind the other wherever phases touch them.

    Rows of ten numbers fill ten lanes of a vector, and each waits for the row before: a
    processor takes a masked store for one of all lanes when it looks for what a later
    read needs. Taken as one row they are whole vectors.
    """
    row, column = x.row.name, x.columns[-1]
    n = column.extent
    narrow = isinstance(n, int) and n < columns and n % lanes != 0
    if not narrow or not may_divide_rows(x) or len(x.columns) > 1:
        return False

    def lies(buffer: str, index: Sequence[Expr]) -> bool:
        steps = [x.program.buffers[buffer].step(index, a) for a in (row, column.name)]
        return steps in ([n, 1], [0, 0])

    stores = [s for phase in later for s in phase.stores]
    needed = [e for s in stores for e in walk_needed(s.value, column.name)]
    if any(isinstance(e, Axis) for e in needed):
        return False
    reads = [e for e in needed if isinstance(e, Load)]
    accesses = [(e.buffer, e.args) for e in reads] + [
        (s.buffer, s.index) for s in stores
    ]
    return all(lies(buffer, index) for buffer, index in accesses)


def neighbours(x: Contraction, columns: int) -> tuple[bool, bool]:
    """Whether windows have neighbours across and along the sum, an eighth of a tile."""
    across, along = (
        step == 1 and not (isinstance(extent, int) and 8 * extent < columns)
        for axes in (x.columns, x.depth)
        for extent, step in steps(x.b, axes[-1:], x.program)
    )
    return across, along


def swaps(x: Contraction, columns: int) -> bool:
    """Whether the second operand is read where it lies, as rows, and sums turned back.

    That of a narrow product is (`is_narrow`). Where windows have few neighbours across,
    they would have to be transposed to be columns. Of the other operand, since windows
    overlap, there is less; but it has to fill the columns of a tile, or an eighth of
    them where windows have few neighbours along the sum as well; and all columns where
    windows have neighbours across. And the sum must be long, as each is moved three
    times.
    """
    if not gathers(x.b, x.columns, x):
        return is_narrow(x, columns)
    across, along = neighbours(x, columns)
    n, least = x.row.extent, columns // 2 + 1 if along else columns // 8
    if across or gathers(x.a, (x.row,), x):
        whole = isinstance(n, int) and 8 * (-n % columns) <= n
        if x.blocks or not whole:
            return False
    elif isinstance(n, int) and n < least:
        return False
    long = product(axis.extent for axis in (*x.blocks, *x.depth))
    return not (isinstance(n, int) and isinstance(long, int) and long < 3 * n)


def is_narrow(x: Contraction, columns: int) -> bool:
    """Whether a product of two matrices is as narrow as a vector, and better turned.

    A tile of a single vector of columns loads a number for each multiplication, and
    half as many as it multiplies. Where the first operand is transposed, its rows are
    as good columns, and nothing needs to be copied.

        dw[i, j] = sum over p of x[p, i] * g[p, j]      i: 64, j: 16
    """
    if x.blocks or x.frame is not None or not may_divide_rows(x):
        return False
    m, (n,) = x.row.extent, (axis.extent for axis in x.columns)
    deep = product(axis.extent for axis in x.depth)
    if not isinstance(m, int) or not isinstance(n, int):
        return False
    if isinstance(deep, int) and deep < LONG:
        return False
    lies = merged(steps(x.a, (x.row,), x.program)) == 1
    return lies and 4 * n == columns and m % columns == 0


def has_quads(x: Contraction, lanes: int, columns: int) -> bool:
    """Whether tiles take four places of the sum at a time (prelude/quads_ir.py).

    Where columns are at most a vector, of four in a whole tile, and rows of the first
    operand are neighbours along the sum.
    """
    if columns != QUAD * lanes or gathers(x.b, x.columns, x) or x.blocks or x.frame:
        return False
    n = product(axis.extent for axis in x.columns)
    k = product(axis.extent for axis in x.depth)
    narrow = isinstance(n, int) and 1 < n <= lanes and x.row.extent != 1
    if not narrow or (isinstance(k, int) and k < 2 * QUAD):
        return False
    return not gathers(x.a, (x.row,), x) and merged(steps(x.a, x.depth, x.program)) == 1


def runs_down(x: Contraction, program: Program) -> bool:
    """Whether neighbours of a gathered panel lie along the sum rather than across."""
    (across, side), (deep, down) = (
        steps(x.b, axes, program)[-1] for axes in (x.columns, x.depth)
    )
    if side != 1 or down != 1:
        return down == 1
    return isinstance(across, int) and (not isinstance(deep, int) or deep > across)


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
            if not isinstance(s, Nest) or not s.is_tiled:
                continue
            x = contraction_of(s, program)
            assert x is not None
            moves = any(isinstance(e, Load) for e in walk(*x.b.args))
            plain = x.frame is None and not x.blocks and not gathers(x.b, x.columns, x)
            if plain and not moves and program.root(x.b.buffer) not in written:
                found[id(s)] = loop.index
    return found
