"""split-sums: sums down rows are added up block by block, while the rows are near.

    nest norm (i0: 4096) { ... }           nest norm (i0: 4096) { ... }
    nest sum (i0: 1024)                    nest sum_of_rows (i0: 128, i1: 1024)
      for k0: 4096 { r0 = sum g[k0, i0] }    for k0: 32 { r0 = sum g[i0*32 + k0, i1] }
      out[i0] = r0                      =>   sums0[i0, i1] = r0
                                           nest sum (i0: 1024)
                                             for k0: 128 { r0 = sum sums0[k0, i0] }
                                             out[i0] = r0

A column is a number from each row of memory: lines of which little is read at a time,
each on a page of its own, and columns are few where threads are to share them. Blocks
of rows are read as they lie. What goes over the same rows before, as the layer norm
whose scale and shift these sums are the gradients by, can run part by part with them: a
block is normalised and summed up before the next one comes, and is read from memory
once; so blocks are put behind that nest. What a sum's nest stores of the rows besides,
without the sums, it stores on the way.

Done where that is more than near caches hold. Blocks are added up in order and depend
on the program and the target alone, so that bits do not depend on threads. Rows left
over, of which a symbolic number may have some, are added by the second nest.

Sums are taken in another order; all else stays bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from graphc.ir.dims import DimError, Size, evaluate, names
from graphc.ir.program import Buffer, LoopAxis, Nest, Phase, Program, Statement, Store
from graphc.ir.program.hazards import must_follow
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

# The part of the largest cache beyond which data come from afar; bytes of a block, a
# quarter of a second cache, as others go over the same rows; and what an unknown size
# counts as: few, since two nests take longer where there is little to do.
NEAR, BLOCK, UNKNOWN = 16, 5 << 16, 16
BACK = 32  # statements before a sum that are looked at

Change = Callable[[Expr, tuple[Expr, ...]], Expr | None]


@dataclass(frozen=True, slots=True)
class Options:
    """Rows of a block, and the bytes from which on sums are split; 0: by the target."""

    fewest: int = 8
    most: int = 256
    least: int = 0


@program_pass("split-sums", Options)
def split_sums(program: Program, options: Options, target: Target) -> Program:
    """Add up blocks of rows first where sums go down more rows than caches hold."""
    least = options.least or target.cache // NEAR
    if target.lanes == 1 or not least:
        return program
    made = _Splitting(program, options, least).run()
    return program if len(made.body) == len(program.body) else made


class _Splitting:
    def __init__(self, program: Program, options: Options, least: int) -> None:
        self.buffers = dict(program.buffers)  # and those that are new
        self.program = program.replace(buffers=self.buffers)
        self.options = options
        self.least = least

    def run(self) -> Program:
        body: list[Statement] = []
        for s in self.program.body:
            nest = self._of_sums(s)
            rows = self._rows(nest) if nest is not None else 0
            if nest is not None and rows:
                blocks, whole = self._split(nest, rows)
                body.insert(self._place(nest, blocks, body), blocks)
                body.append(whole)
            else:
                body.append(s)
        return self.program.replace(body=tuple(body))

    # --- what is split, and into blocks of how many rows ------------------------------

    def _of_sums(self, s: Statement) -> Nest | None:
        """Return a nest that first adds up, then stores what comes of its sums.

        What another phase stores over the same axes without the sums, the first does.
        None if a statement is no such nest.
        """
        if not isinstance(s, Nest) or s.schedule is not None or not s.axes:
            return None
        first, *rest = s.phases
        sums = first.reduces and all(r.monoid == "sum" for r in first.reduces)
        if not first.axes or not sums or first.stores:
            return None
        stores = [store for p in rest for store in p.stores]
        if any(p.reduces for p in rest) or any(store.accumulate for store in stores):
            return None
        beside = [p for p in rest if p.axes]
        if any(p.axes != first.axes or _needs_sums(p) for p in beside):
            return None
        written = [self.program.root(store.buffer) for store in stores]
        touched = [*written, *{self.program.root(n) for n in s.reads}]
        if beside and len(set(touched)) < len(touched):
            return None  # something may need what an earlier store overwrites
        if contraction_of(s, self.program) is not None:
            return None
        along = tuple(store for p in beside for store in p.stores)
        later = (p for p in rest if not p.axes)
        return s.replace(phases=(replace(first, stores=along), *later))

    def _rows(self, nest: Nest) -> int:
        """Return the rows of a block; 0: the sums stay whole."""
        options, down = self.options, nest.phases[0].axes[0]
        total = self._bytes(self._walked(nest.phases[:1], down))
        if total < self.least:
            return 0
        most = min(BLOCK * _number(down.extent) // total, options.most)
        return _height(down.extent, most) if most >= options.fewest else 0

    def _walked(self, phases: Sequence[Phase], along: LoopAxis) -> set[str]:
        """Return the buffers that phases touch row by row, along an axis."""
        touched = [(s.buffer, s.index) for p in phases for s in p.stores]
        reads = (e for p in phases for e in walk(*p.roots) if isinstance(e, Load))
        touched += [(e.buffer, e.args) for e in reads]
        first = axis(along.name)
        return {
            self.program.root(name) for name, at in touched if at and at[0] is first
        }

    def _bytes(self, roots: set[str]) -> int:
        return sum(_number(self.program.buffers[name].bytes) for name in roots)

    def _place(self, nest: Nest, blocks: Nest, body: Sequence[Statement]) -> int:
        """Return where the blocks of a nest go: behind what goes over the same rows.

        That is the nest before which touches most of them, if nothing between writes
        what the blocks read.
        """
        mine = self._walked(nest.phases[:1], nest.phases[0].axes[0])
        best, place = self.least, len(body)
        for i in range(len(body) - 1, max(len(body) - BACK, 0) - 1, -1):
            other = body[i]
            if isinstance(other, Nest) and other.axes:
                both = self._bytes(mine & self._walked(other.phases, other.axes[0]))
                if both >= best and contraction_of(other, self.program) is None:
                    best, place = both, i + 1
            if must_follow(self.program, other, blocks):
                break
        return place

    # --- the two nests ----------------------------------------------------------------

    def _split(self, nest: Nest, rows: int) -> tuple[Nest, Nest]:
        """Return the nest that adds up blocks of rows, and the one that adds these."""
        first = nest.phases[0]
        count = first.axes[0].extent // rows
        sums = [self._sums(r.dtype, (count, *_extents(nest))) for r in first.reduces]
        return _of_blocks(nest, rows, count, sums), _of_all(nest, rows, count, sums)

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


def _needs_sums(phase: Phase) -> bool:
    return any(isinstance(e, Ref) for e in walk(*phase.roots))


def _extents(nest: Nest) -> tuple[Size, ...]:
    return tuple(a.extent for a in nest.axes)


def _height(rows: Size, most: int) -> int:
    """Return the rows of a block, `most` at most; 0: there are too few for two blocks.

    All of them where a number divides the rows: then other nests divide alike. A power
    of two divides many numbers that are not known.
    """
    power = 1 << (most.bit_length() - 1)
    if not isinstance(rows, int):
        return power
    even = (n for n in range(most, most // 4, -1) if rows % n == 0 and n < rows)
    return next(even, power if power < rows else 0)


def _number(size: Size) -> int:
    """Return a size, a small one if it is not known."""
    if isinstance(size, int):
        return max(size, 1)
    try:
        return max(evaluate(size, dict.fromkeys(names(size), UNKNOWN)), 1)
    except DimError:
        return UNKNOWN
