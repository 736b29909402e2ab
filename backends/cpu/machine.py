"""The machine as a Target: what its vectors and its largest cache hold."""

from __future__ import annotations

import contextlib
from functools import cache
from pathlib import Path

from graphc.backends.cpu.prelude import gemm
from graphc.backends.cpu.prelude.processor import ProcessorError
from graphc.errors import CompileError
from graphc.ir.target import Target


@cache
def target() -> Target:
    """Return the target of this machine.

    Raises:  CompileError if GRAPHC_CPU asks for code that it cannot run.
    """
    try:
        lanes = gemm.shape("float32").lanes
    except ProcessorError as error:
        raise CompileError(error.problem, help=error.help) from None
    return Target(
        "cpu",
        lanes=lanes,
        tiles=True,
        offsets=True,
        cache=cache_bytes(),
        key=f"x{lanes}",
    )


def cache_bytes() -> int:
    """Return the bytes of the largest cache that a core can use, 0 if unknown."""
    found = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError, LookupError):
            text = path.read_text().strip()  # such as 49152K
            found.append(int(text[:-1]) * {"K": 1 << 10, "M": 1 << 20}[text[-1]])
    return max(found)
