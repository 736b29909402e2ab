"""Which pieces of the prelude's tile and copies a contraction's sizes may need.

The prelude has a tile for each height and width, and several ways to copy
(prelude/gemm.py). Compiling all takes half a second, a program needs few: where sizes
are known, a tile has one of two heights and of two widths. A size that is not known yet
may need any: pieces are chosen before sizes are bound, so that no size compiles.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphc.backends.cpu.prelude import gemm
from graphc.backends.cpu.prelude.quads_ir import QUAD
from graphc.ir.dims import Size


def tile_pieces(
    rows: Size,
    columns: Size,
    dtype: str,
    *,
    copied: bool = False,
    asks: bool = False,
    even: bool = False,
) -> list[str]:
    """Return the tiles of a product, as HxV.

    copied: whether panels are always copied, so that a single row has no wider ones.
    asks: whether those of whole columns ask for what comes behind them. even: whether
    all tiles are but a row higher than others, or all but the last equally high.
    Example:
        >>> tile_pieces(1, 1, "float32"), tile_pieces(0, 1, "float32")
        (['1x1'], [])
    """
    shape = gemm.shape(dtype)
    found = set()
    single = not copied and (rows == 1 or not isinstance(rows, int))
    for height in _heights(rows, shape.rows, even):
        spans = [shape.columns] + [shape.row_columns] * (single and height == 1)
        for span in spans:
            for v in _vectors(columns, span, shape):
                asking = "_asking" * (asks and v == shape.vectors)
                found.add(f"{height}x{v}{asking}")
    return sorted(found)


def quad_pieces(rows: Size, dtype: str, *, even: bool) -> list[str]:
    """Return the tiles of quads of a product; even: see `tile_pieces`."""
    heights = _heights(rows, gemm.shape(dtype).rows, even)
    return [f"{height}x{QUAD}" for height in sorted(heights)]


def _heights(rows: Size, most: int, even: bool) -> set[int]:
    """Return the heights of tiles (see `tiling`)."""
    if not isinstance(rows, int):
        return set(range(1, most + 1))
    if rows == 0:
        return set()
    tall = -(-rows // most)
    height = -(-rows // tall)
    return {height, rows // tall if even else rows - (tall - 1) * height}


def with_rows(routine: str, rows: int) -> str:
    """Return what a kernel asks for of a routine if it may be for so many rows, too.

    Example:
        >>> with_rows("tile float32 2x1", 4)
        'tile float32 2x1 4x1'
    """
    which, dtype, *pieces = routine.split()
    if not which.startswith("tile"):
        return routine
    widths = {piece.partition("x")[2] for piece in pieces}
    heights = _heights(rows, gemm.shape(dtype).rows, even=True)
    more = {f"{height}x{width}" for height in heights for width in widths}
    more &= set(gemm.pieces(which, dtype))
    return " ".join((which, dtype, *sorted({*pieces, *more})))


def _vectors(columns: Size, span: int, shape: gemm.Shape) -> set[int]:
    """Return the widths of tiles, in vectors, of panels of `span` columns."""
    widths: Iterable[int] = range(1, span + 1)
    if isinstance(columns, int):
        widths = [span] * (columns >= span) + [columns % span] * (columns % span > 0)
    # A row that is longer than a tile has the same tile however long it is.
    long = 2 * shape.vectors
    return {long if n > shape.columns else -(-n // shape.lanes) for n in widths}


def pack_pieces(strides: Iterable[tuple[Size, Size]]) -> list[str]:
    """Return the ways to copy operands, each given by its strides down and across.

    Example:
        >>> pack_pieces([(512, 1), (1, 64)])
        ['copy', 'transpose']
    """
    found = set()
    for down, across in strides:
        for way, step in (("copy", across), ("transpose", down), ("single", 1)):
            if step == 1 or not isinstance(step, int):
                found.add(way)
            if step == 1:
                break
    return sorted(found)
