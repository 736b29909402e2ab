"""Offer the register tile of matrix products: its size, its address, when to pack.

The tile and the panel copy (``gemm_ir.py``) are compiled once for a machine, 0.4 s, and
loaded from the cache ever after. Every contraction kernel calls them through addresses
in its args table (``gemm_calls.py``) and applies its fused epilogue to the small scratch
that the tile wrote, while it is in the first-level cache.
"""

from __future__ import annotations

from functools import cache

from . import native
from .gemm_ir import Shape, build, shape

__all__ = ["Shape", "pack_address", "shape", "tile_address"]


def tile_address(dtype: str = "float32") -> int:
    """Return the address of ``tile`` for a dtype, compiling it if need be."""
    return _address(dtype, "tile")


def pack_address(dtype: str = "float32") -> int:
    """Return the address of ``pack`` for a dtype, compiling it if need be."""
    return _address(dtype, "pack")


@cache
def _address(dtype: str, which: str) -> int:
    key = native.content_key("gemm", dtype, which)
    symbol = f"graphc_{key}"
    names = (symbol, "") if which == "tile" else ("", symbol)
    found = native.load(key, symbol, lambda: build(dtype, *names), f"gemm {which}")
    return found.address
