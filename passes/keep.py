"""keep: what a phase computes, and a later phase of the row needs again, stays there.

    for k0 { r1 = sum exp(x[k0] - r0) }       =>  for k0 { r1 = sum exp(x[k0] - r0)
                                                           y[k0] = exp(x[k0] - r0) }
    for k0 { y[k0] = exp(x[k0] - r0) / r1 }       for k0 { y[k0] = y[k0] / r1 }

A group computes in each phase all that the phase needs. Where a phase that reduces and
a later one that stores over the same axes share something costly, the earlier one
leaves it where the later one will store: a row of the result is in the nearest cache by
then, and reading it costs less than an exponential. A value that is complete earlier is
stored there at once.

Preserves every value bit for bit. Buffers that the nest reads are left alone.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.ir.program import Nest, Phase, Program
from graphc.ir.program.program import Store, with_nests
from graphc.ir.scalar import PRIMITIVES, Apply, Axis, Expr, load, rebuild, walk
from graphc.ir.target import Target
from graphc.passes.registry import program_pass

COSTLY = 10  # operations: more than storing a vector and reading it again takes
ROW = 1 << 16  # elements that are still near when the next phase comes


@program_pass("keep")
def keep(program: Program, target: Target) -> Program:
    """Let the phases of each nest leave costly values to later ones."""

    # Without lanes, one thread stores an element and another may need it again.
    if target.lanes == 1:
        return program
    return with_nests(program, lambda nest: _kept(nest, program))


def _kept(nest: Nest, program: Program) -> Nest:
    if nest.schedule is None or nest.schedule.strategy != "vector":
        return nest
    phases = list(nest.phases)
    if len(phases) < 2 or any(s.accumulate for p in phases for s in p.stores):
        return nest
    read = {program.root(n) for n in nest.reads}
    labels = dict(nest.labels)
    for k in range(len(phases[-1].stores) if _is_near(phases[-1]) else 0):
        store = nest.phases[-1].stores[k]
        if program.root(store.buffer) in read or not _whole(store, phases[-1], nest):
            continue
        # An earlier one of them may have left something that this one reads.
        now = [s for s in phases[-1].stores if s.buffer == store.buffer]
        if len(now) == 1:
            _leave(phases, now[0], labels)
    if all(a is b for a, b in zip(phases, nest.phases, strict=True)):
        return nest
    return nest.replace(phases=tuple(phases), labels=labels)


def _whole(s: Store, phase: Phase, nest: Nest) -> bool:
    """Whether each point and turn of a phase stores an element of its own."""
    axes = {a.name for a in (*nest.axes, *phase.axes) if a.extent != 1}
    return axes == {e.name for e in s.index if isinstance(e, Axis)}


def _is_near(phase: Phase) -> bool:
    size = 1
    for a in phase.axes:
        size *= a.extent if isinstance(a.extent, int) else 1
    return bool(phase.axes) and size <= ROW


def _leave(phases: list[Phase], store: Store, labels: dict[Expr, str]) -> None:
    """Store parts of a value in the phases that have them; later ones read them."""
    place = load(store.buffer, store.index, store.value.dtype)
    at, value = len(phases) - 1, store.value
    for j in range(at - 1, -1, -1):
        if phases[j].axes != phases[-1].axes or not phases[j].reduces:
            continue
        shared = _costliest(value, phases[j])
        if shared is None:
            continue
        for k in range(j + 1, at + 1):
            phases[k] = _reading(phases[k], shared, place, labels)
        if shared is value:  # all of it: the later store has nothing left to do
            stores = tuple(
                s
                for s in phases[at].stores
                if (s.buffer, s.index, s.value) != (store.buffer, store.index, place)
            )
            phases[at] = replace(phases[at], stores=stores)
        early = Store(store.buffer, store.index, shared)
        phases[j] = replace(phases[j], stores=(*phases[j].stores, early))
        at, value = j, shared


def _costliest(value: Expr, phase: Phase) -> Expr | None:
    """Return the part of a value that costs most of those that a phase computes too."""
    known = set(walk(*phase.roots))
    found = [
        (_cost(e), -i, e)
        for i, e in enumerate(walk(value))
        if e in known and e.dtype is value.dtype
    ]
    cost, _, best = max(found, default=(0, 0, value), key=lambda x: x[:2])
    return best if cost >= COSTLY else None


def _cost(e: Expr) -> int:
    """Return the operations of what an expression computes for each of its turns."""
    prims = [x.prim for x in walk(e) if isinstance(x, Apply)]
    return sum(1 if p == "cast" else PRIMITIVES[p].flops for p in prims)


def _reading(phase: Phase, shared: Expr, place: Expr, labels: dict[Expr, str]) -> Phase:
    """Return a phase that reads a value instead of computing it."""

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        return place if old is shared else None

    def new(root: Expr) -> Expr:
        for e in walk(root):
            if e in labels:
                labels.setdefault(rebuild(e, change), labels[e])
        return rebuild(root, change)

    return phase.mapped(new)
