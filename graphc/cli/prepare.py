"""`graphc prepare`: compile ahead what all programs share."""

from __future__ import annotations

import time


def prepare() -> None:
    """Compile ahead what all programs share, so that their first steps come sooner.

    That is machine code for this processor: what runs a step, and the tiles and copies
    of matrix products. It goes into the cache, once for each version of graphc. Without
    it a program compiles of this what it needs.
    """
    from graphc.backends.cpu.ahead import compile_shared
    from graphc.backends.shared.files import cache_folder

    start = time.perf_counter()
    compile_shared()
    print(f"{cache_folder()}: prepared in {time.perf_counter() - start:.1f} s")
