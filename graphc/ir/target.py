"""What passes may know of a machine: limits and costs, nothing of a backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A machine as passes see it.

    lanes: float32 numbers in a vector register. tiles: whether contractions run on
    register tiles. offsets: whether their operands may lie in any affine way. cache:
    bytes of the largest cache, 0 if unknown. key: what kernels compiled for it depend
    on.
    """

    name: str
    lanes: int = 1
    tiles: bool = False
    offsets: bool = False
    cache: int = 0
    key: str = ""


GENERIC = Target("generic")
