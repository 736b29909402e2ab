"""coalesce: axes that every access steps through as one become one.

    nest relu (i0: N, i1: 10)            nest relu (i0: 10*N)
      t1[i0, i1] = max(t0[i0, i1], 0)  =>  t1.flat[i0] = max(t0.flat[i0], 0)

Two neighbouring axes of a nest, or of a phase, are one where each read and write has
both of them side by side, the inner one over a whole axis of its buffer, or neither,
and nothing else asks for them. Accesses then go through views of the same elements. A
row of ten numbers fills no vector, and each point of two axes costs a division to find
its place; and elementwise work over any number of axes is one kernel.

Preserves every value; a sum over two axes that become one may be taken in another
order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from graphc.ir.dims import product
from graphc.ir.program import Buffer, LoopAxis, Nest, Phase, Program, Store
from graphc.ir.program.program import with_nests
from graphc.ir.scalar import Axis, Expr, Load, axis, load, rebuilt, walk
from graphc.passes.registry import program_pass

Runs = tuple[tuple[LoopAxis, ...], ...]  # axes, those that become one together


@program_pass("coalesce")
def coalesce(program: Program) -> Program:
    """Make one axis of neighbours that are stepped through as one."""
    views = _Views(program)

    def changed(nest: Nest) -> Nest:
        return nest if nest.schedule is not None else _coalesced(nest, views)

    made = with_nests(program, changed)
    if made is program:
        return program
    needed = {n for s in made.body for n in (*s.reads, *s.writes)} | set(
        program.buffers
    )
    buffers = {n: b for n, b in views.table.items() if n in needed}
    return made.replace(buffers=buffers)


class _Views:
    """The buffers of a program, and others that show the same elements."""

    def __init__(self, program: Program) -> None:
        self.table = dict(program.buffers)
        self.roots = {n: program.root(n) for n in self.table}
        self.known = {(self.roots[n], b.shape): n for n, b in self.table.items()}

    def merged(self, name: str, first: int, last: int) -> str:
        """Return a view of a buffer in which some neighbouring axes are one."""
        shape, root = self.table[name].shape, self.roots[name]
        whole = product(shape[first : last + 1])
        key = root, (*shape[:first], whole, *shape[last + 1 :])
        if key not in self.known:
            new, i = f"{root}.flat", 1
            while new in self.table:
                new, i = f"{root}.flat{i}", i + 1
            self.table[new] = Buffer(new, self.table[root].dtype, key[1], "temp", root)
            self.known[key], self.roots[new] = new, root
        return self.known[key]


def _coalesced(nest: Nest, views: _Views) -> Nest:
    """Return a nest with as few axes as it can have, itself if they are so few."""
    outer = _runs(nest.axes, nest.phases, views)
    inner = [_runs(p.axes, (p,), views) for p in nest.phases]
    if all(len(run) == 1 for runs in (outer, *inner) for run in runs):
        return nest
    labels = dict(nest.labels)
    phases = tuple(
        _through(phase, outer, runs, views, labels)
        for phase, runs in zip(nest.phases, inner, strict=True)
    )
    return nest.replace(axes=_whole(outer, "i"), phases=phases, labels=labels)


# --- which axes ---------------------------------------------------------------------


def _runs(axes: Sequence[LoopAxis], phases: Sequence[Phase], views: _Views) -> Runs:
    """Return axes in runs that phases step through as through one."""
    runs: list[tuple[LoopAxis, ...]] = []
    for b in axes:
        if runs and all(_as_one(p, runs[-1][-1], b, views) for p in phases):
            runs[-1] = (*runs[-1], b)
        else:
            runs.append((b,))
    return tuple(runs)


def _as_one(phase: Phase, a: LoopAxis, b: LoopAxis, views: _Views) -> bool:
    """Whether a phase steps through two axes as through one."""
    outer, inner = axis(a.name), axis(b.name)
    pair = {outer, inner}

    def steps(buffer: str, index: Sequence[Expr]) -> bool:
        at = [d for d, e in enumerate(index) if e in pair]
        if not at:
            return True
        d = at[0]
        side_by_side = at == [d, d + 1] and index[d] is outer and index[d + 1] is inner
        return side_by_side and views.table[buffer].shape[d + 1] == b.extent

    for e in walk(*phase.roots):
        if isinstance(e, Load):
            if not steps(e.buffer, e.args):
                return False
        elif not pair.isdisjoint(e.args):
            return False
    values = {v for r in phase.reduces for v in r.values}
    values |= {s.value for s in phase.stores}
    return pair.isdisjoint(values) and all(
        steps(s.buffer, s.index) for s in phase.stores
    )


# --- as one -------------------------------------------------------------------------


def _whole(runs: Runs, letter: str) -> tuple[LoopAxis, ...]:
    """Return an axis for each run, named by its place as lowering does it."""
    return tuple(
        LoopAxis(f"{letter}{n}", product(a.extent for a in run))
        for n, run in enumerate(runs)
    )


def _through(
    phase: Phase, outer: Runs, inner: Runs, views: _Views, labels: dict[Expr, str]
) -> Phase:
    """Return a phase over an axis for each run; labels stay with what they name."""
    axes = _whole(inner, "k")
    named = dict(zip((*outer, *inner), (*_whole(outer, "i"), *axes), strict=True))
    first = {run[0].name: axis(whole.name) for run, whole in named.items()}
    long = [run for run in named if len(run) > 1]

    def access(buffer: str, index: tuple[Expr, ...]) -> tuple[str, tuple[Expr, ...]]:
        for run in long:
            if axis(run[0].name) in index:
                d = index.index(axis(run[0].name))
                last = d + len(run) - 1
                buffer = views.merged(buffer, d, last)
                index = (*index[: d + 1], *index[last + 1 :])
        return buffer, index

    def change(old: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if isinstance(old, Axis):
            return first.get(old.name, old)
        if isinstance(old, Load):
            buffer, index = access(old.buffer, old.args)
            new = dict(zip(old.args, args, strict=True))
            return load(buffer, tuple(new[e] for e in index), old.dtype)
        return None

    found = rebuilt(phase.roots, change)
    labels |= {found[e]: labels[e] for e in found if e in labels}

    def stored(s: Store) -> Store:
        buffer, index = access(s.buffer, s.index)
        at = tuple(found[e] for e in index)
        return replace(s, buffer=buffer, index=at, value=found[s.value])

    return Phase(
        axes,
        tuple(
            replace(r, values=tuple(found[v] for v in r.values)) for r in phase.reduces
        ),
        tuple(map(stored, phase.stores)),
    )
