"""Which statements need which: reads and writes of the same memory."""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.program.program import Nest, Program, Statement
from graphc.ir.scalar import Axis, is_uniform, loads


def depends_on_itself(nest: Nest, name: str) -> bool:
    """Whether a nest that writes a buffer in place would read what it overwrote.

    It is safe where every read of the buffer is at the element that is stored, at
    the same point of the nest.
    """
    targets = [
        (s.index, p.axes) for p in nest.phases for s in p.stores if s.buffer == name
    ]
    if len(targets) != 1:
        return bool(targets)
    index, axes = targets[0]
    if not all(isinstance(e, Axis) or not e.args or is_uniform(e) for e in index):
        return True
    for phase in nest.phases:
        for e in (e for root in phase.roots for e in loads(root)):
            if e.buffer == name:
                if e.args != index:
                    return True
                # The same element, but in an earlier sweep over axes of the phase:
                # the store comes later at the same parallel point, which is safe.
                if phase.axes != axes and phase is _storing(nest, name):
                    return True
    return False


def _storing(nest: Nest, name: str) -> object:
    return next(p for p in nest.phases if any(s.buffer == name for s in p.stores))


def must_follow(program: Program, first: Statement, second: Statement) -> bool:
    """Whether the second of two statements in order must stay after the first."""
    wrote = {program.root(n) for n in first.writes}
    if wrote & {program.root(n) for n in (*second.reads, *second.writes)}:
        return True
    read = {program.root(n) for n in first.reads}
    return bool(read & {program.root(n) for n in second.writes})


def dependencies(program: Program, body: Sequence[Statement]) -> list[set[int]]:
    """Return for each statement the earlier ones that it must follow.

    A read follows the last write, a write follows the last write and all reads
    since: linear in the number of reads and writes.
    """
    writer: dict[str, int] = {}
    readers: dict[str, list[int]] = {}
    found: list[set[int]] = []
    for i, s in enumerate(body):
        needs: set[int] = set()
        for name in {program.root(n) for n in s.reads}:
            if name in writer:
                needs.add(writer[name])
            readers.setdefault(name, []).append(i)
        for name in {program.root(n) for n in s.writes}:
            if name in writer:
                needs.add(writer[name])
            needs.update(r for r in readers.get(name, ()) if r != i)
            writer[name] = i
            readers[name] = []
        found.append(needs - {i})
    return found
