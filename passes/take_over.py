"""Which temporaries lie where others lay: a nest that overwrites what it has read.

    t3[i, k] = ... t1[i, k] ... t2[i, k]      t1 is read for the last time: t3 over t1

Lifetimes end at barriers, so what a nest reads and what it writes live at once. But
where a nest reads an element only to write one at the same place, at the same point, it
has read it before it writes; the new buffer needs no memory of its own.

Not so nests on register tiles: they may store sums before they come to the rest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from graphc.ir.program import Barrier, Nest, Program, Statement
from graphc.ir.program.program import levels_in
from graphc.ir.scalar import Axis, Load, is_uniform, walk

Lives = Mapping[str, tuple[int, int]]


def taken_over(program: Program, lives: Lives) -> dict[str, str]:
    """Return for temporaries that may lie over another which one that is.

    lives: the first and the last level of each temporary. Only nests outside of loops
    and branches are looked at: what a loop touches may be of another turn.
    """
    found: dict[str, str] = {}
    for level, group in _groups(program.body):
        touched = Counter(
            root
            for s in group
            for root in set(map(program.root, (*s.reads, *s.writes)))
        )
        alone = {root for root, times in touched.items() if times == 1}
        for s in group:
            if isinstance(s, Nest) and not s.is_tiled:
                for new in dict.fromkeys(map(program.root, s.writes)):
                    if new not in alone or lives.get(new, (-1, 0))[0] != level:
                        continue
                    read = map(program.root, s.reads)
                    ends = {n for n in read if lives.get(n, (0, -1))[1] == level}
                    old = _replaced(program, s, new, ends & alone)
                    if old:
                        found[new] = old
                        alone.discard(old)
    return found


def _groups(body: Sequence[Statement]) -> Iterator[tuple[int, list[Statement]]]:
    """Yield the statements between barriers, with the level at which they begin."""
    level = start = 0
    group: list[Statement] = []
    for s in body:
        if isinstance(s, Barrier):
            yield start, group
            level += 1
            start, group = level, []
        else:
            group.append(s)
            level += levels_in(s)
    yield start, group


def _replaced(program: Program, nest: Nest, new: str, ends: set[str]) -> str:
    """Return which of the buffers that a nest reads last another may lie over."""
    buffers = program.buffers
    stores = [(i, s) for i, p in enumerate(nest.phases) for s in p.stores]
    stores = [(i, s) for i, s in stores if program.root(s.buffer) == new]
    if len({(s.buffer, s.index) for _, s in stores}) != 1:
        return ""
    last, store = stores[0]  # later phases may write again what they have read here
    axes = {e.name for e in store.index if isinstance(e, Axis)}
    simple = all(isinstance(e, Axis) or is_uniform(e) for e in store.index)
    every = all(a.name in axes or a.extent == 1 for a in nest.axes)
    if any(s.accumulate for _, s in stores) or not simple or not every:
        return ""
    written = set(map(program.root, nest.writes))
    reads = [
        (i, e)
        for i, phase in enumerate(nest.phases)
        for e in walk(*phase.roots)
        if isinstance(e, Load)
    ]
    for old in sorted(ends):
        wide = buffers[old].dtype.itemsize == buffers[new].dtype.itemsize
        mine = [(i, e) for i, e in reads if program.root(e.buffer) == old]
        if (
            wide
            and old not in written
            and mine
            and all(
                buffers[e.buffer].shape == buffers[store.buffer].shape
                and e.args == store.index
                and i <= last
                for i, e in mine
            )
        ):
            return old
    return ""
