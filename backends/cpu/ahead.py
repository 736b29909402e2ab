"""Machine code that all programs share, made ahead: the driver, and tiles of products.

A program compiles of it what its sizes need, and finds what others have left. Peers
have such code in their packages. Ours is made for the processor that it runs on.
"""

from __future__ import annotations

from graphc.backends.cpu.prelude import driver, gemm, native
from graphc.backends.shared.files import cache_folder


def compile_shared() -> None:
    """Compile all that programs share, unless the cache has it."""
    native.set_cache_folder(cache_folder() / "objects")
    driver.addresses()
    gemm.prepare_all()
