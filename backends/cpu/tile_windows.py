"""Three ways to read windows: from panels, as rows, or from copies of their picture.

A panel of windows is gathered, as many numbers as tiles multiply. As rows of tiles
windows are read where they lie, number by number (`swaps`). Or a picture is copied once
for each place that a window has along a line, moved by as much (`_unfolded`):

    frame[l][c][i][q] = x[c][i][q + l]   so   x[c][p + u][q + l] = frame[l][c][p + u][q]

For each place (c, u, l) of a window all windows are then neighbours, line after line: a
tile reads them as they lie, and a table says where they begin. That copies a picture as
often as windows are wide; panels of them copy it that times their height. After Cho and
Brand, MEC (2017), who do so with all pictures at once.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.backends.cpu.tile_forms import gathers, neighbours, swaps
from graphc.backends.cpu.tile_spread import spread_of
from graphc.ir.dims import Size, product
from graphc.ir.program import Buffer, Nest, Program
from graphc.ir.scalar import Load, axis, const, linear, load
from graphc.ir.types import int64
from graphc.passes.contraction import Contraction, contraction_of, merged, steps
from graphc.passes.framed import FRAME, Frame, with_frame

# How deep a panel is that the first cache holds, gathered; and of windows that lie in
# copies, which share all but their first line with those above. And how deep one is
# that the second cache serves as fast, since its rows follow each other.
DEEP, DEEP_IN_COPIES, DEEP_OF_ROWS = 128, 192, 1024
# So many tiles of rows are added up piece by piece: the second cache holds their sums.
STRIP = 64
# The most bytes of copies: about what the second cache holds. Where they fill more than
# half of it, windows are rather rows, if they may be.
LARGEST, NEAR = 1 << 20, 1 << 19


def tile_roles(nest: Nest, program: Program, columns: int) -> Contraction:
    """Return the roles of a contraction's axes, its windows as tiles read them.

    columns: how many a tile has.
    """
    found = contraction_of(nest, program)
    assert found is not None
    if spread_of(found) is not None:
        return found
    rows = swaps(found, columns)
    if not gathers(found.b, found.columns, found) or (
        rows and not neighbours(found, columns)[0]
    ):
        return found
    copied = _unfolded(found)
    if copied is None or copied.frame is None:
        return found
    size = copied.frame.elements
    assert isinstance(size, int)
    return found if rows and size * found.b.dtype.itemsize > NEAR else copied


def lies(x: Contraction) -> bool:
    """Whether windows are gathered no more: they lie in copies, as neighbours."""
    if x.frame is None or merged(steps(x.b, x.columns, x.program)) != 1:
        return False
    return gathers(x.b, x.columns, x)


def has_rows(x: Contraction, columns: int) -> bool:
    """Whether windows are the rows of tiles."""
    return not lies(x) and swaps(x, columns)


def may_be_deep(x: Contraction) -> bool:
    """Whether windows that are rows may have more places than a piece of their sum."""
    deep = product(axis.extent for axis in x.depth)
    return not (isinstance(deep, int) and deep <= DEEP_OF_ROWS)


def panel_width(x: Contraction, columns: int, lanes: int) -> int:
    """Return how wide panels beside windows that are rows are: no wider than needed."""
    n = x.row.extent
    return min(-(-n // lanes) * lanes, columns) if isinstance(n, int) else columns


def deepest(x: Contraction) -> int:
    """Return how deep a piece of the sum of windows may be."""
    return DEEP_IN_COPIES if lies(x) else DEEP


def has_pieces(x: Contraction) -> bool:
    """Whether the sum of windows may have more than one piece."""
    deep = product(axis.extent for axis in x.depth)
    return not (isinstance(deep, int) and deep <= deepest(x))


def _unfolded(x: Contraction) -> Contraction | None:
    """Return a contraction that reads windows from copies; None if they do not fit."""
    found = _framed(x)
    if found is None:
        return None
    read, frame = found
    last, column = linear(read.args[-1]), x.columns[-1]
    if last is None or last.axes.get(column.name) != 1:
        return None
    names = {name for name in last.axes if name not in ("", column.name)}
    along = [a for a in x.depth if a.name in names]
    if len(along) != len(names) or len(along) > 1:
        return None
    copies: Size = 1
    apart: Size = 0
    which = const(0, int64)
    for a in along:
        copies, apart, which = a.extent, last.axes[a.name], axis(a.name)
    *outer, side = frame.sides
    sides = (*outer, replace(side, extent=column.extent))
    frame = replace(frame, sides=sides, copies=copies, apart=apart)
    size = frame.elements
    if not isinstance(size, int) or not isinstance(copies, int):
        return None
    if size * read.dtype.itemsize > LARGEST:
        return None
    extents = tuple(s.extent for s in sides)
    buffer = Buffer(FRAME, read.dtype, (copies, *extents), "temp")
    index = (which, *read.args[len(read.args) - len(sides) : -1], axis(column.name))
    b = load(FRAME, index, read.dtype)
    assert isinstance(b, Load)
    program = x.program.replace(buffers={**x.program.buffers, FRAME: buffer})
    made = replace(x, b=b, program=program, frame=frame)
    return made if lies(made) else None


def _framed(x: Contraction) -> tuple[Load, Frame] | None:
    """Return windows as a read of a frame, and that, with or without zeros."""
    if x.frame is not None:
        return x.b, x.frame
    outer = (*x.batch, *x.blocks)
    axes = (*outer, x.row, *x.columns, *x.depth)
    around = with_frame(x.b, {a.name: a.extent for a in axes}, x.program)
    frame = around and around.frame(frozenset(a.name for a in outer))
    return (around.read, frame) if around and frame else None
