"""Offer the register tile of matrix products: its size, its address, when to pack.

The tile (``gemm_ir.py``) and the copies of operands (``panel_ir.py``) are compiled once
for a machine and loaded from the cache ever after. Each consists of pieces, a function
for each height and width of a tile and for each way to copy, of which a program's sizes
need some. A contraction's kernel finds them in a table of addresses, which its args
table points to (``gemm_calls.py``), and applies its fused epilogue to the small scratch
that the tile wrote, while it is in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from typing import Any

import llvmlite.binding as llvm
import numpy as np

from . import native, unlocked
from .frame_ir import write_frame
from .gemm_ir import Shape, Writer, shape, write_tile
from .panel_ir import (
    write_copy,
    write_runs,
    write_single,
    write_spread,
    write_transpose,
    write_turned,
)
from .quads_ir import QUAD, write_interleave, write_quads

__all__ = [
    "Shape",
    "address",
    "pieces",
    "prepare",
    "prepare_all",
    "shape",
    "should_pack_a",
    "should_pack_b",
    "table",
]

_TILES = ("tile", "tile_rows", "tile_columns", "tile_quads")
_COPIES = {
    "pack": {"copy": write_copy, "transpose": write_transpose, "single": write_single},
    "gather": {"runs": write_runs, "turned": write_turned},
    "frame": {"whole": write_frame},
    "spread": {"whole": write_spread},
    "interleave": {"whole": write_interleave},
}


def pieces(which: str, dtype: str) -> list[str]:
    """Return the pieces of one of `_TILES` or of `_COPIES`."""
    tile = shape(dtype)
    if which in ("tile_quads", "interleave") and tile.vectors != QUAD:
        return []  # no contraction asks for them; see `has_quads`
    if which in _COPIES:
        return list(_COPIES[which])
    quads = [f"{height}x{QUAD}" for height in range(1, tile.rows + 1)]
    return quads if which == "tile_quads" else tile.pieces


def prepare_all() -> None:
    """Compile all pieces, so that a later program finds whatever its sizes need."""
    every = [
        (which, dtype, piece)
        for which in (*_TILES, *_COPIES)
        for dtype in ("float32", "float64")
        for piece in pieces(which, dtype)
    ]
    for one in every:
        prepare(*one)
    for one in every:
        address(*one)


def prepare(which: str, dtype: str, piece: str) -> None:
    """Begin to compile a piece beside what this thread does next."""
    asked = _asked(which, dtype, piece)
    if not native.is_at_hand(asked[0]):
        native.begin(*asked)


@cache
def address(which: str, dtype: str, piece: str) -> int:
    """Return the address of a piece, which is compiled if need be."""
    return native.load(*_asked(which, dtype, piece)).address


def table(which: str, dtype: str, needed: Iterable[str]) -> int:
    """Return the address of the table of pieces, in which those needed stand.

    It lives as long as the process, and holds what anybody has needed so far.
    """
    known, found = pieces(which, dtype), _table(which, dtype)
    for piece in needed:
        found[known.index(piece)] = address(which, dtype, piece)
    return int(found.ctypes.data)


@cache
def _table(which: str, dtype: str) -> np.ndarray[Any, Any]:
    return np.zeros(len(pieces(which, dtype)), np.int64)


def _asked(which: str, dtype: str, piece: str) -> tuple[str, str, native.Build, str]:
    """Return what `native` is asked for: a key, a symbol, what builds it, a name."""
    key = native.content_key("gemm", dtype, which, piece)
    symbol = f"graphc_{key}"
    build = partial(_build, symbol, which, dtype, piece)
    return key, symbol, build, f"gemm {which} {piece}"


def _build(symbol: str, which: str, dtype: str, piece: str) -> llvm.ModuleRef:
    writer = Writer(shape(dtype))
    if which in _COPIES:
        _COPIES[which][piece](writer, symbol)
    else:
        size, _, asks = piece.partition("_")
        height, vectors = map(int, size.split("x"))
        way = which.partition("_")[2]  # "rows", "columns", "quads" or none
        if way == "quads":
            write_quads(writer, symbol, height)
        else:
            write_tile(writer, symbol, height, vectors, offsets=way, asks=bool(asks))
    # There is nothing to optimise: without LLVM's passes the loops are the same and
    # compiling takes half the time.
    return unlocked.parse(str(writer.module))


# Of a panel that the first cache keeps beside the rows of the other operand.
_NEAR = 1 << 15


def should_pack_b(
    m: int,
    n: int,
    k: int,
    sb_j: int,
    dtype: str = "float32",
    *,
    lines_up: bool = True,
) -> bool:
    """Tell whether to copy b, k x n, into panels before an m x n product.

    A tile reads rows of b as whole vectors, so columns must be adjacent and as many.
    Where they are, copying costs as much as 8 rows of the product; it pays, up to
    twofold, once a panel is read for more than a few tiles of rows, unless b is a
    single panel already. That is copied only if its rows do not begin where cache lines
    do (`lines_up`): each vector is two lines then, which takes half as long again from
    the second cache and a tenth from the first. A single row has a tile of its own.
    """
    tile = shape(dtype)
    if sb_j != 1 or (m > 1 and n % tile.lanes):
        return True
    enough = 4
    if n <= tile.columns:
        if lines_up:
            return False
        size = {"float32": 4, "float64": 8}[dtype]
        near = k * tile.columns * size <= _NEAR
        enough = 12 if near else 4
    return m > enough * tile.rows


def should_pack_a(m: int, n: int, sa_k: int, dtype: str = "float32") -> bool:
    """Tell whether to copy a, m x k, into rows of neighbours before a product.

    Reading a transposed touches a cache line for each p: a copy pays from a few panels
    of columns on.
    """
    return sa_k != 1 and m > 1 and n >= 4 * shape(dtype).columns
