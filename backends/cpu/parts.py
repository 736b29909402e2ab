"""Nests that a thread runs part by part, while its cache holds what they hand on.

    nest a (i0: 8)           8 parts {
    barrier                    nest a, of its 8 parts the one at hand
    nest b (i0: 8)      =>     nest b
    barrier                    nest c
    nest c (i0: 8)           }

Nests that meet only in elements of the same i0, as the products and the softmax of one
head of attention after another, need not wait for each other: a kernel computes any
part of its points, so a thread runs all of them on one part before it goes to the next.
No barrier is left between them, and what one writes another reads from the cache. The
bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from graphc.backends.cpu import pace
from graphc.backends.cpu.tile_forms import swaps
from graphc.backends.cpu.tile_room import TileRoom
from graphc.ir.dims import Size, evaluate
from graphc.ir.program import Barrier, Nest, Program, Statement
from graphc.ir.scalar import Expr, Load, linear, walk

# So many nests a group has at the most: each is compared with all others.
LONGEST = 32


@dataclass(frozen=True)
class Parts:
    """Nests that are run one part after another, of so many, which threads share."""

    count: int
    body: tuple[Nest, ...]


@dataclass(frozen=True)
class Parting:
    """Finds such nests for bound sizes.

    rooms: of tiled nests, by their ids. place: the first byte of a buffer's memory and
    the one past its last, None for memory that is the buffer's alone.
    """

    program: Program
    sizes: Mapping[str, int]
    threads: int
    rooms: Mapping[int, TileRoom]
    place: Callable[[str], tuple[int, int] | None]

    def body(self, body: Sequence[Statement]) -> tuple[Statement | Parts, ...]:
        """Return a body with the nests that stand together as parts."""
        found: list[Statement | Parts] = []
        i = 0
        while i < len(body):
            group, end = self._group(body, i)
            count = self._count(group)
            if count:
                # A barrier within also parted what is before from what comes behind.
                if found and not isinstance(found[-1], Barrier):
                    found.append(Barrier())
                found.append(Parts(count, tuple(group)))
                i = end
                if i < len(body) and not isinstance(body[i], Barrier):
                    found.append(Barrier())
            else:
                found.append(body[i])
                i += 1
        return tuple(found)

    def _group(self, body: Sequence[Statement], start: int) -> tuple[list[Nest], int]:
        """Return the nests from a place on that may be one group, and where it ends."""
        group: list[Nest] = []
        end = start
        for i in range(start, len(body)):
            s = body[i]
            if isinstance(s, Barrier):
                if not group:
                    break
                continue
            if not isinstance(s, Nest) or len(group) == LONGEST:
                break
            if not self._may_join([*group, s]):
                break
            group.append(s)
            end = i + 1
        return group, end

    # --- what may be one group --------------------------------------------------------

    def _may_join(self, group: Sequence[Nest]) -> bool:
        """Whether the last of a group's nests meets the others part by part."""
        if self._most(group) < self.threads:
            return False
        written = {self._memory(name) for nest in group for name in nest.writes}
        for nest in group:
            for name, index in accesses(nest):
                if self._memory(name) in written and not self._is_own(
                    nest, name, index
                ):
                    return False
        return not self._overlap(group, written)

    def _memory(self, name: str) -> object:
        """Return what is equal for buffers whose parts lie at the same places."""
        root = self.program.root(name)
        return self.place(root) or root

    def _most(self, group: Sequence[Nest]) -> int:
        """Return into how many parts a group may be cut; 0: into none."""
        extents = [self._extent(nest) for nest in group]
        return math.gcd(*extents) if all(extents) else 0

    def _extent(self, nest: Nest) -> int:
        """Return into how many parts a nest may be cut; 0: into none."""
        schedule = nest.schedule
        if schedule is None or not schedule.parallel or not nest.axes:
            return 0
        first = nest.axes[0]
        if schedule.strategy == "tile":
            room = self.rooms[id(nest)]
            if first not in room.roles.batch[:1]:
                return 0
            by_rows = room.rowwise(self.threads)
            if by_rows or swaps(room.roles, room.shape.columns):
                return 0
        elif schedule.strategy != "vector" or schedule.axis == first.name:
            return 0
        return self._number(first.extent)

    def _is_own(self, nest: Nest, name: str, index: Sequence[Expr]) -> bool:
        """Whether a part of a nest touches that part of a buffer alone.

        A point may touch several rows, as many as the next one begins further on.
        """
        first, place = nest.axes[0], linear(index[0]) if index else None
        if place is None or place.uniform:
            return False
        steps = {a: self._number(c) for a, c in place.axes.items()}
        step = steps.pop(first.name, 0)
        if min(steps.values(), default=0) < 0:
            return False
        reach = steps.pop("", 0)
        reach += sum(c * (self._longest(nest, a) - 1) for a, c in steps.items())
        whole = self._bytes(name) == self._bytes(self.program.root(name))
        long = self._number(self.program.buffers[name].shape[0])
        return whole and reach < step and long == step * self._number(first.extent)

    def _longest(self, nest: Nest, name: str) -> int:
        """Return the largest extent that an axis of this name has in a nest, or 1."""
        every = [*nest.axes, *(a for p in nest.phases for a in p.axes)]
        return max(1, *(self._number(a.extent) for a in every if a.name == name))

    def _overlap(self, group: Sequence[Nest], written: set[object]) -> bool:
        """Whether a part of one buffer may lie where another part of another does.

        The plan gives memory twice where one use is over before the next.
        """
        names = {name for nest in group for name in (*nest.reads, *nest.writes)}
        for one, other in combinations({self._memory(name) for name in names}, 2):
            if isinstance(one, tuple) and isinstance(other, tuple):
                meet = one[0] < other[1] and other[0] < one[1]
                if meet and {one, other} & written:
                    return True
        return False

    # --- whether it pays --------------------------------------------------------------

    def _count(self, group: Sequence[Nest]) -> int:
        """Return how many parts a group is cut into; 0: it is not worth it."""
        if len(group) < 2:
            return 0
        near: set[str] = set()
        moved = 0
        for nest in group:
            own = {
                self.program.root(name)
                for name, index in accesses(nest)
                if self._is_own(nest, name, index)
            }
            reads = {self.program.root(name) for name in nest.reads}
            moved += sum(map(self._bytes, own & reads & near))
            near |= own
        if moved < pace.CACHE:
            return 0
        saved = moved * (1 / pace.FAR - 1 / pace.NEAR)
        most = self._most(group)
        for count in range(most, 1, -1):
            even = count % self.threads == 0 or count >= 8 * self.threads
            starts = count * len(group) * pace.START
            if most % count == 0 and even and starts < saved / 4:
                return count
        return 0

    def _bytes(self, name: str) -> int:
        return self._number(self.program.buffers[name].bytes)

    def _number(self, size: Size) -> int:
        return evaluate(size, self.sizes)


def accesses(nest: Nest) -> Iterator[tuple[str, Sequence[Expr]]]:
    """Go through the buffers that a nest touches, indices included, and where."""
    for phase in nest.phases:
        for e in walk(*phase.roots):
            if isinstance(e, Load):
                yield e.buffer, e.args
        for store in phase.stores:
            yield store.buffer, store.index
