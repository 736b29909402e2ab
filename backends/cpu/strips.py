"""Loops whose rows need nothing of each other: each thread runs all turns for its own.

    loop i: 50 {             2 strips {
      nest a (i0: N)           loop i: 50 {
      barrier          =>        nest a (i0: N / 2)
      nest b (i0: N)             nest b (i0: N / 2)
    }                          }
                             }

The sequences of a batch go through a recurrent network without meeting: a turn reads
of the turn before what lies in the same rows. A strip is some rows of all that the loop
touches, with a table of its own for the whole loop: fewer points of each nest, which
begin further on in each buffer. No barrier is left in the loop, and what a turn hands
on stays in the cache of one core. The bits are the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, pairwise

from graphc.backends.cpu.parts import Parts, accesses
from graphc.backends.cpu.tile_forms import is_narrow, may_divide_rows
from graphc.backends.cpu.tile_pieces import with_rows
from graphc.backends.cpu.tile_room import TileRoom
from graphc.backends.shared.arguments import Argument
from graphc.ir.dims import Size, evaluate
from graphc.ir.program import Barrier, Loop, Nest, Program, Statement, Task
from graphc.ir.scalar import Axis, Expr, Load, linear

# A task of a program, the address of its kernel, and what the kernel takes.
Step = tuple[Task, int, tuple[Argument, ...]]

# A strip has so many rows at least. From here on all register tiles have four rows or
# more, and these add up in the same order (prelude/gemm_ir.py).
ROWS = 8


@dataclass(frozen=True)
class Strip:
    """A loop for some rows alone.

    steps: of its nests, which have as many points. starts: how many bytes of a buffer
    lie before them, by nest and buffer. whole: the nests of all rows, by those.
    """

    loop: Loop
    steps: tuple[Step, ...]
    starts: Mapping[tuple[int, str], int]
    whole: Mapping[int, Nest]


@dataclass(frozen=True)
class Strips:
    """A loop that is run strip by strip, which threads share."""

    loop: Loop
    strips: tuple[Strip, ...]


@dataclass
class _Rows:
    """The rows of a loop's nests.

    moves: how many bytes of a buffer lie between two rows of a nest, by both. spans:
    how many bytes all rows take, of buffers that the loop writes.
    """

    moves: dict[tuple[int, str], int] = field(default_factory=dict)
    spans: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Stripping:
    """Finds such loops for bound sizes.

    steps: of all tasks. rooms: of tiled nests, by their ids. place: the first byte of a
    buffer's memory and the one past its last, None for memory that is the buffer's
    alone.
    """

    program: Program
    sizes: Mapping[str, int]
    threads: int
    steps: Sequence[Step]
    rooms: Mapping[int, TileRoom]
    place: Callable[[str], tuple[int, int] | None]

    def body(
        self, body: Iterable[Statement | Parts]
    ) -> tuple[Statement | Parts | Strips, ...]:
        """Return a body with its loops cut into strips where they may be."""
        found: list[Statement | Parts | Strips] = []
        for s in body:
            strips = self._strips(s) if isinstance(s, Loop) else None
            found.append(strips or s)
        return tuple(found)

    def _strips(self, loop: Loop) -> Strips | None:
        nests = [s for s in loop.body if isinstance(s, Nest)]
        plain = all(isinstance(s, Nest | Barrier) for s in loop.body)
        if not plain or not nests or not all(map(self._has_rows, nests)):
            return None
        counts = [self._count(nest) for nest in nests]
        common = math.gcd(*counts) if all(counts) else 0
        if common < ROWS * self.threads:
            return None
        rows = self._rows(loop, nests)
        if rows is None:
            return None
        cuts = [common * k // self.threads for k in range(self.threads + 1)]
        return Strips(
            loop,
            tuple(
                self._strip(loop, rows, common, first, last)
                for first, last in pairwise(cuts)
            ),
        )

    # --- what may be cut --------------------------------------------------------------

    def _has_rows(self, nest: Nest) -> bool:
        """Whether a nest's first axis is nothing but where it reads and writes."""
        if not nest.axes or nest.schedule is None:
            return False
        first = nest.axes[0].name
        if nest.is_tiled:
            room = self.rooms[id(nest)]
            plain = may_divide_rows(room.roles) and not room.roles.blocks
            plain &= not is_narrow(room.roles, room.shape.columns)
            # With fewer rows a sum might be added up in fewer layers.
            if room.roles.row.name != first or not plain or room.layers > 1:
                return False
        return not any(isinstance(e, Axis) and e.name == first for e in _values(nest))

    def _rows(self, loop: Loop, nests: Sequence[Nest]) -> _Rows | None:
        """Return the rows of a loop's nests; None if they meet each other."""
        written = {self.program.root(name) for nest in nests for name in nest.writes}
        found = _Rows()
        for nest in nests:
            for name, index in accesses(nest):
                if name == loop.index:
                    continue
                if not self._keeps_to_rows(nest, name, index, written, found):
                    return None
        touched = {root for _, root in found.moves}
        return None if self._overlap(touched, written, found.spans) else found

    def _keeps_to_rows(
        self,
        nest: Nest,
        name: str,
        index: Sequence[Expr],
        written: set[str],
        rows: _Rows,
    ) -> bool:
        """Whether an access of a nest meets no other row of what the loop writes."""
        buffer, root = self.program.buffers[name], self.program.root(name)
        if self.program.buffers[root].space in ("input", "output"):
            return False  # their addresses come with each call
        size, first = buffer.dtype.itemsize, nest.axes[0].name
        along: dict[str, int] = {}  # how far an access moves along each axis
        turns: list[int] = []  # and with what is loaded, such as the number of a turn
        for e, stride in zip(index, buffer.strides, strict=True):
            form = linear(e)
            if form is None:
                return False
            step = self._number(stride) * size
            for axis, c in form.axes.items():
                along[axis] = along.get(axis, 0) + self._number(c) * step
            turns += [self._number(c) * step for c in form.uniform.values()]
        move = along.pop(first, 0)
        if rows.moves.setdefault((id(nest), root), move) != move:
            return False
        if root not in written:
            return True
        span = move * self._count(nest)
        if move <= 0 or rows.spans.setdefault(root, span) != span:
            return False
        low = high = along.pop("", 0) % span
        for axis, step in along.items():
            reach = step * (self._most(nest, axis) - 1)
            low, high = low + min(reach, 0), high + max(reach, 0)
        within = low >= 0 and high + size <= move
        return within and all(step % span == 0 for step in turns)

    def _most(self, nest: Nest, name: str) -> int:
        """Return the largest extent that an axis of this name has in a nest."""
        every = [*nest.axes, *(a for p in nest.phases for a in p.axes)]
        return max(max(self._number(a.extent) for a in every if a.name == name), 1)

    def _overlap(
        self, touched: set[str], written: set[str], spans: Mapping[str, int]
    ) -> bool:
        """Whether a row of one buffer may lie where another row of another does.

        The plan gives memory twice where one use is over before the next.
        """
        for one, other in combinations(sorted(touched), 2):
            a, b = self.place(one), self.place(other)
            if a is None or b is None or not {one, other} & written:
                continue
            alike = a[0] == b[0] and spans.get(one) == spans.get(other)
            if a[0] < b[1] and b[0] < a[1] and not alike:
                return True
        return False

    # --- strips -----------------------------------------------------------------------

    def _strip(
        self, loop: Loop, rows: _Rows, common: int, first: int, last: int
    ) -> Strip:
        """Return the strip of some rows, of so many that all nests can be cut into."""
        body: list[Statement] = []
        steps: list[Step] = []
        starts: dict[tuple[int, str], int] = {}
        whole: dict[int, Nest] = {}
        known = {id(step[0]): step for step in self.steps}
        for s in loop.body:
            if not isinstance(s, Nest):
                continue
            each = self._count(s) // common
            count, name = (last - first) * each, f"n_{s.axes[0].name}"
            axes = (replace(s.axes[0], extent=count), *s.axes[1:])
            nest = s.replace(axes=axes)
            _, kernel, words = known[id(s)]
            fewer = []
            for w in words:
                if (w.kind, w.name) == ("size", name):
                    w = replace(w, value=count)
                elif w.kind == "routine":
                    w = replace(w, value=with_rows(str(w.value), count))
                fewer.append(w)
            steps.append((nest, kernel, tuple(fewer)))
            body.append(nest)
            whole[id(nest)] = s
            for (of, root), move in rows.moves.items():
                if of == id(s):
                    starts[id(nest), root] = first * each * move
        return Strip(loop.with_bodies(tuple(body)), tuple(steps), starts, whole)

    def _count(self, nest: Nest) -> int:
        return self._number(nest.axes[0].extent)

    def _number(self, size: Size) -> int:
        return evaluate(size, self.sizes)


def _values(nest: Nest) -> Iterator[Expr]:
    """Go through what a nest computes, but for where it reads and writes."""
    stack = [v for p in nest.phases for r in p.reduces for v in r.values]
    stack += [store.value for p in nest.phases for store in p.stores]
    seen = set[int]()
    while stack:
        e = stack.pop()
        if id(e) not in seen:
            seen.add(id(e))
            yield e
            if not isinstance(e, Load):
                stack += e.args
