"""pick: a sum that one element alone can make is that element.

    for k0: 64 { r0 = sum select(y[i0] == k0, x[i0, k0] - r1, 0) }
    t[i0] = r0
                =>    t[i0] = select(y[i0] in 0..63, x[i0, clamp(y[i0])] - r1, 0)

A loss picks by `where` what its labels name, and sums up zeros with it: 64 comparisons
and choices for one element. Where the test compares the axis of the sum with what does
not change along it, at most one element counts, and it is read by its index.

Values stay, but for the sign of a zero; NaN and inf are picked as they are. Elements
that are not picked are no longer read.
"""

from __future__ import annotations

from dataclasses import replace

from graphc.ir.program import LoopAxis, Nest, Phase, Program, Reduce
from graphc.ir.program.program import with_nests
from graphc.ir.scalar import (
    Apply,
    Axis,
    Const,
    Expr,
    Load,
    Ref,
    apply,
    cast,
    const,
    rebuild,
    walk,
)
from graphc.ir.types import int64
from graphc.passes.registry import program_pass


@program_pass("pick")
def pick(program: Program) -> Program:
    """Read the one element that a sum of choices adds up."""
    return with_nests(program, _picked)


def _picked(nest: Nest) -> Nest:
    if nest.schedule is not None:
        return nest
    found: dict[str, Expr] = {}
    phases: list[Phase] = []
    labels = dict(nest.labels)

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        return found.get(old.name) if isinstance(old, Ref) else None

    def changed(root: Expr) -> Expr:
        new = rebuild(root, change)
        if new is not root and root in labels:
            labels.setdefault(new, labels[root])
        return new

    for phase in nest.phases:
        new = phase.mapped(changed) if found else phase
        left = []
        for r in new.reduces:
            one = _one_of(r, new)
            if one is None:
                left.append(r)
            else:
                found[r.name] = one
        if len(left) < len(new.reduces):
            new = replace(new, reduces=tuple(left))
        if new.reduces or new.stores:
            phases.append(new)
    return nest.replace(phases=tuple(phases), labels=labels) if found else nest


def _one_of(r: Reduce, phase: Phase) -> Expr | None:
    """Return what a sum picks; None if it may add up more than one element."""
    if r.monoid != "sum" or len(phase.axes) != 1:
        return None
    (along,), (value,) = phase.axes, r.values
    if not isinstance(value, Apply) or value.prim != "select":
        return None
    test, chosen, other = value.args
    size = along.extent
    if not isinstance(size, int) or size < 1:
        return None
    if not isinstance(other, Const) or other.value != 0:
        return None
    index = _compared(test, along)
    if index is None:
        return None
    wide = cast(index, int64)
    first, last = const(0, int64), const(size - 1, int64)
    inside = apply(
        "logical_and",
        apply("greater_equal", wide, first),
        apply("less_equal", wide, last),
    )
    place = apply("minimum", apply("maximum", wide, first), last)

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        return place if isinstance(old, Axis) and old.name == along.name else None

    return apply("select", inside, rebuild(chosen, change), other)


def _compared(test: Expr, along: LoopAxis) -> Expr | None:
    """Return the integer, read from memory, that an axis is compared with."""
    if not isinstance(test, Apply) or test.prim != "equal":
        return None
    for this, that in (test.args, test.args[::-1]):
        moves = isinstance(this, Axis) and this.name == along.name
        inner = list(walk(that))
        plain = that.dtype.kind == "i" and not any(isinstance(e, Ref) for e in inner)
        still = not any(isinstance(e, Axis) and e.name == along.name for e in inner)
        if moves and plain and still and any(isinstance(e, Load) for e in inner):
            return that
    return None
