"""A memory plan: where each temporary lies in the arena, for given sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

ALIGN = 64  # bytes: a cache line, and the widest vector


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A buffer that needs memory from its first to its last statement, inclusive.

    over: a buffer of the same size that is read there for the last time; this one may
    lie in its place.
    """

    buffer: str
    first: int
    last: int
    over: str = ""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The lifetimes of all temporaries in schedule order."""

    lifetimes: tuple[Lifetime, ...]

    def place(self, sizes: Mapping[str, int]) -> Arena:
        """Place buffers of these sizes (bytes) in one arena, best fit first.

        The largest buffers are placed first, each into the smallest gap between
        those that live at the same time. Buffers that may lie over others do so if
        the arena becomes no larger.
        """
        apart = _placed(self.lifetimes, sizes)
        joined = {x.buffer: x for x in self.lifetimes}
        owner: dict[str, str] = {}
        for x in sorted(self.lifetimes, key=lambda x: x.first):
            owner[x.buffer] = owner[x.over] if x.over else x.buffer
            if x.over:
                whole = joined[owner[x.over]]
                joined[whole.buffer] = replace(whole, last=max(whole.last, x.last))
                del joined[x.buffer]
        if len(joined) == len(owner):
            return apart
        found = _placed(list(joined.values()), sizes)
        if found.bytes > apart.bytes:  # long lifetimes may leave worse gaps
            return apart
        offsets = {name: found.offsets[owner[name]] for name in owner}
        return replace(apart, bytes=found.bytes, offsets=offsets)


@dataclass(frozen=True, slots=True)
class Arena:
    """The result of planning: bytes in all, and the offset of each buffer.

    unshared: the bytes that the same buffers would take side by side. scratch: those
    of `bytes` that hold no buffer: the working memory of a backend's threads.
    """

    bytes: int
    offsets: Mapping[str, int]
    unshared: int
    scratch: int = 0

    def beside(self, scratch: int) -> Arena:
        """Return this plan with working memory after its buffers."""
        return replace(self, bytes=self.bytes + scratch, scratch=scratch)


def _placed(lives: Sequence[Lifetime], sizes: Mapping[str, int]) -> Arena:
    offsets: dict[str, int] = {}
    total = 0
    # What is placed, by where it starts: start, end, first and last statement.
    placed = np.empty((4, len(lives)), np.int64)
    order = sorted(lives, key=lambda x: (-sizes[x.buffer], x.first))
    for n, life in enumerate(order):
        need = -(-max(sizes[life.buffer], 1) // ALIGN) * ALIGN
        _, _, first, last = placed[:, :n]
        busy = (first <= life.last) & (life.first <= last)
        starts, ends, _, _ = placed[:, :n][:, busy]
        # Where a gap begins: before each of them, and after the last.
        begins = np.maximum.accumulate(np.append(0, ends))
        gaps = starts - begins[:-1]
        fitting = np.flatnonzero(gaps >= need)
        best = fitting[np.argmin(gaps[fitting])] if len(fitting) else -1
        offset = offsets[life.buffer] = int(begins[best])
        total = max(total, offset + need)
        at = int(np.searchsorted(placed[0, :n], offset))
        placed[:, at + 1 : n + 1] = placed[:, at:n]
        placed[:, at] = offset, offset + need, life.first, life.last
    return Arena(total, offsets, sum(sizes[x.buffer] for x in lives))
