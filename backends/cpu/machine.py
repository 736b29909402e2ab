"""The machine as a Target: what its vectors hold."""

from __future__ import annotations

from functools import cache

from graphc.backends.cpu.prelude import gemm
from graphc.ir.target import Target


@cache
def target() -> Target:
    """Return the target of this machine."""
    lanes = gemm.shape("float32").lanes
    return Target("cpu", lanes=lanes, tiles=True, offsets=True, key=f"x{lanes}")
