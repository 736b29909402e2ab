"""Offer the register tile of matrix products: its size, its address, when to pack.

The tile (``gemm_ir.py``) and the copies of operands (``panel_ir.py``) are compiled once
for a machine and loaded from the cache ever after. A contraction's kernel calls them
through addresses in its args table (``gemm_calls.py``) and applies its fused epilogue
to the small scratch that the tile wrote, while it is in the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import llvmlite.binding as llvm

from . import native, unlocked
from .frame_ir import write_frame
from .gemm_ir import Shape, Writer, shape, write_tile
from .panel_ir import write_gather, write_pack, write_spread

__all__ = ["Shape", "address", "prepare", "shape", "should_pack_a", "should_pack_b"]

_WRITERS: dict[str, Callable[[Writer, str], None]] = {
    "tile": write_tile,
    "tile_rows": partial(write_tile, offsets="rows"),
    "tile_columns": partial(write_tile, offsets="columns"),
    "pack": write_pack,
    "gather": write_gather,
    "spread": write_spread,
    "frame": write_frame,
}
_pending: dict[tuple[str, str], native.Made] = {}


def prepare(which: str, dtype: str) -> None:
    """Begin to compile a function beside what this thread does next."""
    key = _key(which, dtype)
    if (which, dtype) not in _pending and not native.is_cached(key):
        _pending[which, dtype] = native.in_background(partial(_build, which, dtype))


@cache
def address(which: str, dtype: str = "float32") -> int:
    """Return the address of one of `_WRITERS`, such as "tile" or "pack".

    It is compiled if need be.
    """
    found = native.load(
        _key(which, dtype),
        _symbol(which, dtype),
        partial(_build, which, dtype),
        f"gemm {which}",
        _pending.get((which, dtype)),
    )
    return found.address


def _key(which: str, dtype: str) -> str:
    return native.content_key("gemm", dtype, which)


def _symbol(which: str, dtype: str) -> str:
    return f"graphc_{_key(which, dtype)}"


def _build(which: str, dtype: str) -> llvm.ModuleRef:
    writer = Writer(shape(dtype))
    _WRITERS[which](writer, _symbol(which, dtype))
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
