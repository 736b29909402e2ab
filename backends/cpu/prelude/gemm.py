"""Offer the register tile of matrix products: its size, its address, when to pack.

The tile and the panel copy (``gemm_ir.py``) are compiled once for a machine, in 0.4 s,
and loaded from the cache ever after. Every contraction kernel calls them through
addresses in its args table (``gemm_calls.py``) and applies its fused epilogue to the
small scratch that the tile wrote, while it is in the first-level cache.
"""

from __future__ import annotations

from functools import cache, partial

from . import native
from .gemm_ir import Shape, build, shape

__all__ = [
    "Shape",
    "pack_address",
    "shape",
    "should_pack_a",
    "should_pack_b",
    "tile_address",
]


def tile_address(dtype: str = "float32") -> int:
    """Return the address of ``tile`` for a dtype, compiling it if need be."""
    return _address(dtype, "tile")


def pack_address(dtype: str = "float32") -> int:
    """Return the address of ``pack`` for a dtype, compiling it if need be."""
    return _address(dtype, "pack")


_WHICH = ("tile", "pack")
_pending: dict[tuple[str, str], native.Made] = {}


def prepare(dtype: str) -> None:
    """Begin to compile tile and pack beside what this thread does next."""
    for which in _WHICH:
        key, names = _names(dtype, which)
        if (dtype, which) not in _pending and not native.is_cached(key):
            made = native.in_background(partial(build, dtype, *names))
            _pending[dtype, which] = made


def _names(dtype: str, which: str) -> tuple[str, tuple[str, str]]:
    """Return the key of a function, and the names to give to tile and to pack."""
    key = native.content_key("gemm", dtype, which)
    symbol = f"graphc_{key}"
    return key, (symbol, "") if which == "tile" else ("", symbol)


@cache
def _address(dtype: str, which: str) -> int:
    key, names = _names(dtype, which)
    found = native.load(
        key,
        f"graphc_{key}",
        lambda: build(dtype, *names),
        f"gemm {which}",
        _pending.get((dtype, which)),
    )
    return found.address


def should_pack_b(m: int, n: int, sb_j: int, dtype: str = "float32") -> bool:
    """Tell whether to copy b, k x n, into panels before an m x n product.

    A tile reads rows of b, so columns must be adjacent. Where they are, copying costs
    as much as 8 rows of the product; it pays, up to twofold, once a panel is read for
    more than two tiles of rows, unless b's rows are so short that they share pages.
    """
    tile = shape(dtype)
    return sb_j != 1 or (m > 2 * tile.rows and n >= 4 * tile.columns)


def should_pack_a(m: int, n: int, k: int, sa_k: int, dtype: str = "float32") -> bool:
    """Tell whether to copy a, m x k, into panels of 16 columns before a product.

    Reading a transposed touches a cache line for each p, and rows of 16 KB fall into
    the same few sets of the cache: then a copy pays (by a fifth, up to twofold) from
    four panels of columns on.
    """
    many = n >= 4 * shape(dtype).columns
    return many and (sa_k != 1 or k >= 4096) and m > 1
