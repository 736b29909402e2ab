"""Rows that go past the caches: drafts of what they keep, and a phase that is late.

    s0 = drafts(p1, 2176)                       # two rows of this call's own
    for u in range(first, last):
        ...
        for k0 in range(0, n_k0, 16):
            ...                                 # exponentials of this row
            store(s0, draft + k0, v4, m)
            ...                                 # and the row before, complete by now
            stream(p1, i0z * p1_i0 + k0z, v9, full)

A store past the caches takes some 15 cycles a line, and only a few lines are on their
way: where nothing else is to be done, the core waits for them. So the phase that
stores a row runs a turn late, in the loop of the phase that computes most. What it
needs of its row waits: reductions in registers, vectors in drafts, which stay near.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from graphc.ir.program import Buffer, Nest, Phase, Program, Store
from graphc.ir.program.program import ARGS
from graphc.ir.scalar import Axis, Const, Expr, Load, axis, load, walk
from graphc.passes.widen import work_of

# Bytes of a draft, of which less than half is used; and those between two rows of it,
# which let each begin where a processor takes its addresses for those of its target.
NEAR, APART = 1 << 17, 4096 + 64
LONG = 2048  # bytes of a row that is worth a stream beside other stores
DRAFT = "draft"  # the axis that says where the draft of a row begins


Change = Callable[[Expr, tuple[Expr, ...]], Expr | None]
Changed = Callable[[Expr, Change], Expr]


@dataclass(frozen=True)
class Late:
    """What is late in a nest of rows.

    phases: those of the nest, which keep what they leave in drafts. late: the one that
    stores; host: the one in whose loop it does. past: the buffers that it streams.
    drafts: buffers of the kernel's own, by those that they are drafts of. room: the
    elements of a row of them, rows: how many a draft has.
    """

    phases: tuple[Phase, ...]
    late: Phase
    host: Phase
    past: tuple[str, ...]
    drafts: dict[str, Buffer]
    room: int
    rows: int

    def reading(self, place: tuple[Expr, ...], changed: Changed) -> Late:
        """Return it with phases that read drafts where they are."""

        def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
            if isinstance(old, Load) and old.buffer in self.drafts:
                draft = self.drafts[old.buffer]
                return load(draft.name, place, draft.dtype)
            return None

        def mapped(phase: Phase) -> Phase:
            return phase.mapped(lambda e: changed(e, change))

        new = [mapped(p) for p in self.phases]
        late, host = (new[self.phases.index(p)] for p in (self.late, self.host))
        return replace(self, phases=tuple(new), late=late, host=host)


def late_of(nest: Nest, program: Program, changed: Changed) -> Late | None:
    """Return what may be late in a nest whose lanes run along rows, if anything.

    changed: returns an expression with parts of it replaced.
    """
    schedule = nest.schedule
    along = [p for p in nest.phases if p.axes]
    if schedule is None or len(nest.axes) != 1 or len(along) < 2:
        return None
    if any(r.monoid in ARGS for p in nest.phases for r in p.reduces):
        return None
    last = along[-1]
    hosts = [p for p in along[:-1] if p.reduces and p.axes == last.axes]
    if last.reduces or not hosts or not isinstance(last.axes[0].extent, int):
        return None
    if len(last.axes) != 1 or last.axes[0].name != schedule.axis:
        return None
    past = {s.buffer: s.index for s in _stores(nest) if _may_pass(s, nest, program)}
    past = {n: i for n, i in past.items() if _is_alone(n, i, nest, last)}
    loaded = {e.buffer for p in nest.phases for e in _loads(p)} & set(nest.writes)
    if len(past) > 1:
        # Two streams beside what a row reads and drafts take three times as long as
        # stores, so one goes past; and where rows are short not even that.
        one = min(loaded & set(past), default=next(reversed(past)))
        wide = last.axes[0].extent * program.buffers[one].dtype.itemsize
        past = {one: past[one]} if wide >= LONG else {}
    # All else that a phase reads again would be written anew after the last row.
    if not past or loaded - set(past) or any(s.accumulate for s in _stores(nest)):
        return None
    behind = nest.phases[nest.phases.index(last) + 1 :]
    if any(e.buffer in past for p in behind for e in _loads(p)):
        return None
    found = _with_drafts(nest, program, last, max(hosts, key=work_of), past)
    return None if found is None else found.reading(_place(nest), changed)


def _stores(nest: Nest) -> list[Store]:
    return [s for p in nest.phases for s in p.stores]


def _loads(phase: Phase) -> list[Load]:
    return [e for e in walk(*phase.roots) if isinstance(e, Load)]


def _may_pass(s: Store, nest: Nest, program: Program) -> bool:
    """Whether a store writes neighbours of an output that the nest does not read.

    A temporary may lie where the nest has read for the last time; late is too late.
    """
    assert nest.schedule is not None
    if program.buffers[program.root(s.buffer)].space != "output":
        return False
    roots = [program.root(n) for n in (*nest.reads, *nest.writes)]
    if roots.count(program.root(s.buffer)) > 1:
        return False
    if not all(isinstance(e, Axis | Const) for e in s.index):
        return False
    names = [e.name for e in s.index if isinstance(e, Axis)]
    if sorted(names) != sorted((nest.axes[0].name, nest.schedule.axis)):
        return False
    return program.buffers[s.buffer].step(s.index, nest.schedule.axis) == 1


def _is_alone(name: str, index: tuple[Expr, ...], nest: Nest, last: Phase) -> bool:
    """Whether a nest touches a buffer at this index alone, in loops like the last."""
    for p in nest.phases:
        touched = [s.index for s in p.stores if s.buffer == name]
        touched += [e.args for e in _loads(p) if e.buffer == name]
        if touched and (p.axes != last.axes or set(touched) != {index}):
            return False
    return True


def _with_drafts(
    nest: Nest,
    program: Program,
    last: Phase,
    host: Phase,
    past: dict[str, tuple[Expr, ...]],
) -> Late | None:
    assert nest.schedule is not None
    lanes, extent = nest.schedule.lanes, last.axes[0].extent
    assert isinstance(extent, int)
    rows = 2 * nest.schedule.points
    early = [s.buffer for p in nest.phases if p is not last for s in p.stores]
    kept = [n for n in past if n in early]
    widest = max((program.buffers[n].dtype.itemsize for n in kept), default=4)
    room = -(-extent // lanes) * lanes + APART // widest
    if rows * room * widest > NEAR:
        return None
    drafts = {
        n: Buffer(f"draft of {n}", program.buffers[n].dtype, (rows * room,), "temp")
        for n in kept
    }
    place = _place(nest)
    phases = [_drafted(p, p is last, past, drafts, place) for p in nest.phases]
    late, leading = (phases[nest.phases.index(p)] for p in (last, host))
    return Late(tuple(phases), late, leading, tuple(past), drafts, room, rows)


def _place(nest: Nest) -> tuple[Expr, ...]:
    """Return where in a draft an element of a row is."""
    assert nest.schedule is not None
    return (axis(DRAFT) + axis(nest.schedule.axis),)


def _drafted(
    phase: Phase,
    is_last: bool,
    past: dict[str, tuple[Expr, ...]],
    drafts: dict[str, Buffer],
    place: tuple[Expr, ...],
) -> Phase:
    """Return a phase that stores to drafts; or what drafts hold, if it is the last."""
    if is_last:
        own = {s.buffer for s in phase.stores}
        left = [n for n in drafts if n not in own]
        more = (Store(n, past[n], load(n, past[n], drafts[n].dtype)) for n in left)
        return replace(phase, stores=(*phase.stores, *more))
    stores = tuple(
        replace(s, buffer=drafts[s.buffer].name, index=place)
        if s.buffer in drafts
        else s
        for s in phase.stores
    )
    return replace(phase, stores=stores)
