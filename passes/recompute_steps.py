"""What `recompute` knows of a program: who makes which temporary, who waits for it.

The statements of a program are taken in their order, barriers left out. Somewhere in
them, in a training step where the forward part ends, most bytes wait for a later use:
the turn. What is made before it and read behind it is late; there it may be kept or
computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from functools import cached_property
from itertools import accumulate

from graphc.ir.dims import evaluate
from graphc.ir.graph import sizes_named
from graphc.ir.nodes import Node
from graphc.ir.op import View
from graphc.ir.origins import FORWARD
from graphc.ir.program import (
    Barrier,
    Buffer,
    Call,
    Nest,
    Phase,
    Program,
    Statement,
    Task,
)
from graphc.ir.program.hazards import dependencies
from graphc.ir.scalar import Load, Ref, walk

NEARLY = 0.8  # as many bytes as wait at most


class Steps:
    """The statements of a program, by number, with sizes taken for its dimensions."""

    def __init__(self, program: Program, size: int) -> None:
        self.program = program
        self.body: tuple[Statement, ...] = tuple(
            s for s in program.body if not isinstance(s, Barrier)
        )
        self.sizes = _sizes(program, size)
        self.bytes: dict[str, int] = {
            name: self.size_of(b)
            for name, b in program.buffers.items()
            if b.space == "temp" and not b.view_of
        }
        self.reads = [_roots(program, s.reads) for s in self.body]
        self.writes = [_roots(program, s.writes) for s in self.body]
        self.readers = _numbers(self.reads)
        self.writers = _numbers(self.writes)
        self.turn = self._turn()

    def _turn(self) -> int:
        """Return where most bytes wait: behind the forward part, if one ends there."""
        change = [0] * (len(self.body) + 1)
        for root, size in self.bytes.items():
            if root in self.writers and root in self.readers:
                first, last = self.writers[root][0], self.readers[root][-1]
                if first < last:
                    change[first + 1] += size
                    change[last + 1] -= size
        waiting = list(accumulate(change))
        most = max(waiting)
        begin = next(i for i, n in enumerate(waiting) if n >= NEARLY * most)
        forward = [
            i + 1
            for i in range(begin, waiting.index(most))
            if _is_forward(self.body[i])
        ]
        return forward[-1] if forward else begin

    def size_of(self, buffer: Buffer) -> int:
        """Return the bytes of a buffer."""
        return max(0, evaluate(buffer.bytes, self.sizes))

    # --- what can be done again -------------------------------------------------------

    @cached_property
    def makers(self) -> dict[str, int]:
        """By temporary the statement before the turn that can make it again."""
        return {
            root: i
            for i in range(self.turn)
            if self._repeatable(i)
            for root in self.writes[i]
            if root in self.bytes
        }

    @cached_property
    def needs(self) -> list[tuple[str, ...]]:
        """By statement what it reads for its temporaries, and not only for a state."""
        return [
            _roots(self.program, only(s, self.program, self.bytes.keys()).reads)
            for s in self.body[: self.turn]
        ]

    def _repeatable(self, i: int) -> bool:
        """Whether a statement makes the same again from what it reads.

        States are left out: whether they still have their old value depends on where
        it is done again.
        """
        statement, own = self.body[i], self.writes[i]
        if not isinstance(statement, Task):
            return False
        if isinstance(statement, Call) and any(r not in self.bytes for r in own):
            return False
        if any(r in self.bytes and self.writers[r] != [i] for r in own):
            return False
        return all(
            r in self.bytes if r in own else self._is_made_before(r, i)
            for r in self.needs[i]
        )

    def _is_made_before(self, root: str, i: int) -> bool:
        written = self.writers.get(root, [])
        return self.is_state(root) or not written or written[-1] < i

    def beside(self, i: int) -> tuple[str, ...]:
        """Return what a statement must make whatever it is done again for.

        That is all that a routine writes, and of a nest what it reads itself.
        """
        own = self.writes[i]
        if isinstance(self.body[i], Call):
            return own
        return tuple(r for r in own if r in self.needs[i])

    @cached_property
    def weights(self) -> list[int]:
        """By statement before the turn the bytes that it makes for what is behind."""
        found = [0] * self.turn
        for root, i in self.makers.items():
            if self.is_late(root):
                found[i] += self.bytes[root]
        return found

    def is_late(self, root: str) -> bool:
        """Whether a temporary is read behind the turn."""
        return root in self.readers and self.readers[root][-1] >= self.turn

    def is_state(self, root: str) -> bool:
        """Whether a buffer is a state, which a step may overwrite."""
        return self.program.buffers[root].space == "state"

    @cached_property
    def loose(self) -> frozenset[int]:
        """The statements that nothing behind them waits for: they may come later."""
        waited = frozenset().union(*dependencies(self.program, self.body))
        return frozenset(range(len(self.body))) - waited

    @cached_property
    def costly(self) -> frozenset[int]:
        """The statements that sum up products: the work of a step lies in them."""
        return frozenset(
            i
            for i, s in enumerate(self.body)
            if not isinstance(s, Nest) or _multiplies(s)
        )


def only(s: Statement, program: Program, wanted: AbstractSet[str]) -> Statement:
    """Return a statement that stores only to some buffers; a call stores to all."""
    if not isinstance(s, Nest):
        return s
    phases: list[Phase] = []
    used: set[str] = set()
    for phase in reversed(s.phases):
        stores = tuple(x for x in phase.stores if program.root(x.buffer) in wanted)
        reduces = tuple(r for r in phase.reduces if r.name in used)
        if stores or reduces:
            phases.append(replace(phase, reduces=reduces, stores=stores))
            used |= {e.name for e in walk(*phases[-1].roots) if isinstance(e, Ref)}
    return s.replace(phases=tuple(reversed(phases)))


def _roots(program: Program, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(map(program.root, names)))


def _sizes(program: Program, size: int) -> dict[str, int]:
    found: set[str] = set()
    for buffer in program.buffers.values():
        found |= sizes_named(buffer.shape)
    return dict.fromkeys(sorted(found), size)


def _numbers(each: list[tuple[str, ...]]) -> Mapping[str, list[int]]:
    found: dict[str, list[int]] = {}
    for i, roots in enumerate(each):
        for root in roots:
            found.setdefault(root, []).append(i)
    return found


def _is_forward(statement: Statement) -> bool:
    """Whether a statement does a part of what was declared, not of its gradient."""
    return isinstance(statement, Task) and any(
        n.birth.phase == FORWARD and not _is_free(n) for n in statement.nodes
    )


def _is_free(node: Node) -> bool:
    """Whether a node takes no work, or is a number that every reader computes."""
    moves = node.op.is_layout or isinstance(node.op.lower, View)
    return moves or not node.inputs or node.results[0].shape == ()


def _multiplies(nest: Nest) -> bool:
    """Whether a nest sums up products of elements of two tensors."""
    return any(
        len({e.buffer for e in walk(v) if isinstance(e, Load)}) > 1
        for phase in nest.phases
        for r in phase.reduces
        if r.monoid == "sum"
        for v in r.values
    )
