"""split-sums: sums down rows are added up block by block, while the rows are near.

    nest norm (i0: 4096) { ... }           nest norm (i0: 4096) { ... }
    nest sum (i0: 1024)                    nest sum_of_rows (i0: 128, i1: 1024)
      for k0: 4096 { r0 = sum g[k0, i0] }    for k0: 32 { r0 = sum g[i0*32 + k0, i1] }
      out[i0] = r0                      =>   sums0[i0, i1] = r0
                                           nest sum (i0: 1024)
                                             for k0: 128 { r0 = sum sums0[k0, i0] }
                                             out[i0] = r0

The gradients by the scale and the shift of a layer norm are sums over all rows of what
the norm itself reads. Once the sums have blocks of rows as their outermost axis, both
nests can run part by part: a block of rows is normalised and summed up before the next
one comes, and is read from memory once. Blocks are added up in order, their size
depends on the program and the target alone: bits do not depend on threads.

Done where a nest before has the same rows and reads or writes what the sums read, and
that is more than caches hold. Rows left over, of which a symbolic number may have some,
are added by the second nest. Sums are taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from graphc.ir.dims import DimError, Size, evaluate, names
from graphc.ir.program import Buffer, LoopAxis, Nest, Phase, Program, Statement, Store
from graphc.ir.scalar import (
    Axis,
    Expr,
    Load,
    Ref,
    axis,
    load,
    rebuilt,
    ref,
    size_of,
    walk,
)
from graphc.ir.target import Target
from graphc.ir.types import DType
from graphc.passes.contraction import contraction_of
from graphc.passes.registry import program_pass

# The part of the largest cache beyond which data come from afar; and what a symbolic
# dimension counts as.
NEAR, UNKNOWN = 16, 1024
# Bytes of a block, half of what the second cache holds; and how many rows it may have.
BLOCK, FEWEST, MOST = 5 << 17, 8, 256

Change = Callable[[Expr, tuple[Expr, ...]], Expr | None]


@program_pass("split-sums")
def split_sums(program: Program, target: Target) -> Program:
    """Add up blocks of rows first where a nest goes over the same rows before."""
    if target.lanes == 1 or not target.cache:
        return program
    return _Splitting(program, target.cache // NEAR).run()


class _Splitting:
    def __init__(self, program: Program, least: int) -> None:
        self.program = program
        self.least = least
        self.buffers = dict(program.buffers)

    def run(self) -> Program:
        body: list[Statement] = []
        for s in self.program.body:
            nest = self._of_sums(s)
            rows = self._rows(nest, body) if nest is not None else 0
            body += self._split(nest, rows) if nest is not None and rows else [s]
        if len(body) == len(self.program.body):
            return self.program
        return self.program.replace(body=tuple(body), buffers=self.buffers)

    # --- what is split, and into blocks of how many rows ------------------------------

    def _rows(self, nest: Nest, before: Sequence[Statement]) -> int:
        """Return the rows of a block for the sums of a nest; 0: it stays whole."""
        down = nest.phases[0].axes[0]
        mine = self._walked(nest.phases[:1], down)
        row = 0
        if nest.phases[0].stores and self._bytes(mine) >= self.least:
            row = self._bytes(mine) // _number(down.extent)
        for other in before if mine else ():
            if not isinstance(other, Nest) or not other.axes:
                continue
            theirs = self._walked(other.phases, other.axes[0])
            if self._bytes(mine & theirs) < self.least:
                continue
            if contraction_of(other, self.program) is None:
                row = max(row, self._bytes(mine | theirs) // _number(down.extent))
        if not row:
            return 0
        most = min(BLOCK // row, MOST)
        return _divisor(down.extent, most) if most >= FEWEST else 0

    def _of_sums(self, s: Statement) -> Nest | None:
        """Return a nest whose first phase adds up, and the others store what comes of it.

        What another phase stores over the same axes the first does, unless it needs the
        sums. None if a statement is no such nest.
        """
        if not isinstance(s, Nest) or s.schedule is not None or not s.axes:
            return None
        first, *rest = s.phases
        if not first.axes or any(r.monoid != "sum" for r in first.reduces):
            return None
        stores = [store for p in s.phases for store in p.stores]
        beside = [p for p in rest if p.axes]
        if first.stores or any(p.reduces for p in rest) or not first.reduces:
            return None
        if any(p.axes != first.axes or _refers(p) for p in beside):
            return None
        written = [self.program.root(store.buffer) for store in stores]
        read = set(map(self.program.root, s.reads))
        if beside and (
            len(set(written)) < len(written) or not read.isdisjoint(written)
        ):
            return None
        if any(store.accumulate for store in stores):
            return None
        if contraction_of(s, self.program) is not None:
            return None
        along = tuple(store for p in beside for store in p.stores)
        rest = [p for p in rest if not p.axes]
        return s.replace(phases=(replace(first, stores=along), *rest))

    def _walked(self, phases: Sequence[Phase], along: LoopAxis) -> set[str]:
        """Return the buffers of which an axis touches one part after another."""
        found: set[str] = set()
        for phase in phases:
            touched = [(s.buffer, s.index) for s in phase.stores]
            reads = (e for e in walk(*phase.roots) if isinstance(e, Load))
            touched += [(e.buffer, e.args) for e in reads]
            for name, index in touched:
                shape = self.program.buffers[name].shape
                if index and index[0] is axis(along.name) and shape[0] == along.extent:
                    found.add(self.program.root(name))
        return found

    def _bytes(self, roots: set[str]) -> int:
        return sum(_number(self.program.buffers[name].bytes) for name in roots)

    # --- the two nests ----------------------------------------------------------------

    def _split(self, nest: Nest, rows: int) -> list[Nest]:
        """Return the nest that adds up blocks of rows, and the one that adds these."""
        first = nest.phases[0]
        count = first.axes[0].extent // rows
        sums = [self._sums(r.dtype, (count, *_extents(nest))) for r in first.reduces]
        return [_of_blocks(nest, rows, count, sums), _of_all(nest, rows, count, sums)]

    def _sums(self, dtype: DType, shape: tuple[Size, ...]) -> Buffer:
        """Return a new buffer for the sums of blocks."""
        i = 0
        while f"sums{i}" in self.buffers:
            i += 1
        made = Buffer(f"sums{i}", dtype, shape, "temp")
        self.buffers[made.name] = made
        return made


def _of_blocks(nest: Nest, rows: int, count: Size, sums: Sequence[Buffer]) -> Nest:
    """Return the nest that adds up the rows of each block."""
    first, labels = nest.phases[0], dict(nest.labels)
    down = first.axes[0]
    axes = (
        LoopAxis("i0", count),
        *(LoopAxis(f"i{n}", e) for n, e in enumerate(_extents(nest), 1)),
    )
    at = tuple(axis(a.name) for a in axes)
    moved = {a.name: e for a, e in zip(nest.axes, at[1:], strict=True)}
    moved[down.name] = at[0] * rows + axis(down.name)
    inner = _renamed(first, moved, labels)
    stores = tuple(
        Store(b.name, at, ref(r.name, r.dtype))
        for b, r in zip(sums, first.reduces, strict=True)
    )
    inner = replace(inner, axes=(replace(down, extent=rows), *first.axes[1:]))
    return nest.replace(
        name=f"{nest.name}_of_rows",
        axes=axes,
        phases=(inner, Phase((), stores=stores)),
        labels=labels,
    )


def _of_all(nest: Nest, rows: int, count: Size, sums: Sequence[Buffer]) -> Nest:
    """Return the nest that adds up blocks, and the rows behind the last of them."""
    (first, *rest), labels = nest.phases, dict(nest.labels)
    down = first.axes[0]
    at = (axis(down.name), *(axis(a.name) for a in nest.axes))
    whole = tuple(
        replace(r, values=(load(b.name, at, r.dtype),))
        for b, r in zip(sums, first.reduces, strict=True)
    )
    phases = [Phase((replace(down, extent=count),), whole)]
    left = down.extent % rows
    if left != 0:
        behind = size_of(count * rows) + axis(down.name)
        tail = _renamed(first, {down.name: behind}, labels)
        other = {r.name: f"{r.name}_left" for r in first.reduces}
        phases.append(
            replace(
                tail,
                axes=(replace(down, extent=left), *first.axes[1:]),
                reduces=tuple(replace(r, name=other[r.name]) for r in tail.reduces),
            )
        )
        rest = [_with_left(p, other, labels) for p in rest]
    return nest.replace(phases=(*phases, *rest), labels=labels)


def _renamed(phase: Phase, axes: Mapping[str, Expr], labels: dict[Expr, str]) -> Phase:
    """Return a phase with other expressions for axes; labels stay."""

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        return axes.get(old.name) if isinstance(old, Axis) else None

    return _changed(phase, change, labels)


def _with_left(phase: Phase, left: Mapping[str, str], labels: dict[Expr, str]) -> Phase:
    """Return a phase that takes the sums of blocks with those of the rows left over."""

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        if isinstance(old, Ref) and old.name in left:
            return old + ref(left[old.name], old.dtype)
        return None

    return _changed(phase, change, labels)


def _changed(phase: Phase, change: Change, labels: dict[Expr, str]) -> Phase:
    found = rebuilt(phase.roots, change)
    labels |= {found[e]: labels[e] for e in found if e in labels}
    return phase.mapped(found.__getitem__)


def _refers(phase: Phase) -> bool:
    return any(isinstance(e, Ref) for e in walk(*phase.roots))


def _extents(nest: Nest) -> tuple[Size, ...]:
    return tuple(a.extent for a in nest.axes)


def _divisor(rows: Size, most: int) -> int:
    """Return the rows of a block, `most` or fewer; 0: no number of them is even.

    A number that is not known may leave some over.
    """
    if not isinstance(rows, int):
        return 1 << (most.bit_length() - 1)
    even = (n for n in range(min(most, rows // 2), FEWEST - 1, -1) if rows % n == 0)
    return next(even, 0)


def _number(size: Size) -> int:
    """Return a size, for unknown ones about what they may be."""
    if isinstance(size, int):
        return max(size, 1)
    try:
        return max(evaluate(size, dict.fromkeys(names(size), UNKNOWN)), 1)
    except DimError:
        return UNKNOWN
