"""unroll-jam: a sum of products for several points at once, so that they share reads.

    nest conv (i0: N, i1: 10, i2: 24)   =>   nest conv (i0: N, i1: 2, i2: 24)
      for k0: 5 { r0 = sum x[i0, i2+k0]        for k0: 5 { r0_0 = sum x[i0, i2+k0]
                     * w[i1, k0] }                            * w[i1*5, k0]
                                                           r0_1 = sum x[i0, i2+k0]
                                                              * w[i1*5 + 1, k0] ... }

A nest that multiplies two tensors reads as many elements as it adds products. Points
that differ only along an axis on which one tensor does not depend read the same of it:
five of them together read six elements for five products. The points along one or two
parallel axes, as many as divide them and as registers hold sums for, become one point
with as many sums.

Preserves every value bit for bit: each sum adds the same products in the same order.
Source: Callahan, Carr and Kennedy, "Improving register allocation for subscripted
variables", 1990 ("unroll-and-jam").
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import prod

from graphc.ir.program import LoopAxis, Nest, Phase, Program
from graphc.ir.program.program import with_nests
from graphc.ir.scalar import Axis, Expr, Load, Ref, axis, const, rebuild, ref, walk
from graphc.ir.target import Target
from graphc.ir.types import int64
from graphc.passes.registry import program_pass

# Sums that are kept in registers, by float32 numbers in one: AVX-512 has 32 of them.
SUMS = {16: 20}
FEW = 8
POINTS = 8  # that are left at least, to be shared by threads


@program_pass("unroll-jam")
def unroll_jam(program: Program, target: Target) -> Program:
    """Jam the points of each nest that multiplies tensors along its lanes."""

    return with_nests(program, lambda nest: jam(nest, program, target.lanes))


def jam(nest: Nest, program: Program, lanes: int) -> Nest:
    """Return a nest with as many points in one as pays; the nest itself if none."""
    schedule = nest.schedule
    if lanes == 1 or schedule is None or schedule.strategy != "vector":
        return nest
    if not _multiplies(nest):
        return nest
    first = nest.phases[0]
    wide = max(r.dtype.itemsize for r in first.reduces) // 4
    room = SUMS.get(lanes, FEW) // max(wide, 1) // len(first.reduces)
    factors = _best(nest, program, schedule.axis, room)
    return _jammed(nest, factors) if factors else nest


def _multiplies(nest: Nest) -> bool:
    """Whether a nest sums up floats at each point, and then stores what it made."""
    if not nest.phases or not nest.phases[0].reduces or not nest.phases[0].axes:
        return False
    first, *rest = nest.phases
    if any(r.monoid != "sum" or not r.dtype.is_float for r in first.reduces):
        return False
    if first.stores or any(p.axes or p.reduces for p in rest):
        return False
    return not any(s.accumulate for p in rest for s in p.stores)


def _best(nest: Nest, program: Program, lanes: str, room: int) -> dict[str, int]:
    """Return the axes to jam, with how many points of each; empty if none pays."""
    values = [v for r in nest.phases[0].reduces for v in r.values]
    loads = [e for e in walk(*values) if isinstance(e, Load)]
    if len(loads) < 2:
        return {}
    moving: dict[str, list[bool]] = {}
    for a in nest.axes:
        steps = [program.buffers[e.buffer].step(e.args, a.name) for e in loads]
        known = all(s is not None for s in steps)
        if a.name != lanes and isinstance(a.extent, int) and known and 0 in steps:
            moving[a.name] = [s != 0 for s in steps]
    extents = {a.name: a.extent for a in nest.axes}
    static = [e for e in extents.values() if isinstance(e, int)]
    points = prod(static) if len(static) == len(extents) else None

    best: dict[str, int] = {}
    least = float(len(loads))  # reads for each product
    for names in (*((a,) for a in moving), *itertools.combinations(moving, 2)):
        for sizes in itertools.product(*(_divisors(extents[a], room) for a in names)):
            together = prod(sizes)
            if together > room or (points and points // together < POINTS):
                continue
            chosen = dict(zip(names, sizes, strict=True))
            reads = [
                prod(n for a, n in chosen.items() if moving[a][i])
                for i in range(len(loads))
            ]
            if sum(reads) / together < least:
                best, least = chosen, sum(reads) / together
    return best


def _divisors(extent: object, most: int) -> list[int]:
    assert isinstance(extent, int)
    return [n for n in range(2, min(extent, most) + 1) if extent % n == 0]


def _jammed(nest: Nest, factors: Mapping[str, int]) -> Nest:
    labels = dict(nest.labels)
    phases: list[Phase] = [replace(p, reduces=(), stores=()) for p in nest.phases]
    every = itertools.product(*(range(n) for n in factors.values()))
    for number, offsets in enumerate(every):
        place = {
            a: axis(a) * const(n, int64) + const(at, int64)
            for (a, n), at in zip(factors.items(), offsets, strict=True)
        }
        _copy(nest.phases, place, number, phases, labels)
    axes = tuple(_shorter(a, factors) for a in nest.axes)
    return nest.replace(axes=axes, phases=tuple(phases), labels=labels)


def _shorter(a: LoopAxis, factors: Mapping[str, int]) -> LoopAxis:
    return replace(a, extent=a.extent // factors.get(a.name, 1))


def _copy(
    phases: Sequence[Phase],
    place: Mapping[str, Expr],
    number: int,
    into: list[Phase],
    labels: dict[Expr, str],
) -> None:
    """Append the reductions and stores of one of the points that become one."""

    def moved(root: Expr) -> Expr:
        def change(old: Expr, args: tuple[Expr, ...]) -> Expr | None:
            if isinstance(old, Axis):
                return place.get(old.name, old)
            if isinstance(old, Ref):
                return ref(f"{old.name}_{number}", old.dtype)
            return None

        new = rebuild(root, change)
        if root in labels:
            labels.setdefault(new, labels[root])
        return new

    for i, phase in enumerate(phases):
        reduces = tuple(
            replace(r, name=f"{r.name}_{number}", values=tuple(map(moved, r.values)))
            for r in phase.reduces
        )
        stores = tuple(
            replace(s, index=tuple(map(moved, s.index)), value=moved(s.value))
            for s in phase.stores
        )
        into[i] = replace(
            into[i],
            reduces=(*into[i].reduces, *reduces),
            stores=(*into[i].stores, *stores),
        )
