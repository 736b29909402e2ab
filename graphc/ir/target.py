"""What passes may know of a machine: limits and costs, nothing of a backend."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Target:
    """A machine as passes see it.

    lanes: float32 numbers in a vector register. tiles: whether contractions run on
    register tiles. cache: bytes of its largest cache, 0 where that is not known. key:
    what kernels compiled for it depend on.
    """

    name: str
    lanes: int = 1
    tiles: bool = False
    cache: int = 0
    key: str = ""


GENERIC = Target("generic")
