"""Reads with zeros around: a padded tensor that nothing has stored.

    select(i - 1 >= 0 and i - 1 < 32, x[max(min(i - 1, 31), 0)], 0.0)

is element i of x with a zero before it and zeros behind it. A contraction that reads
windows of it copies what it needs of x into a frame of zeros, a picture at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from graphc.ir.dims import Size, product
from graphc.ir.program import Buffer, Program
from graphc.ir.scalar import (
    Apply,
    Const,
    Expr,
    Load,
    apply,
    const,
    linear,
    load,
    rebuild,
    size_of,
)
from graphc.ir.types import int64

FRAME = "%frame"  # no buffer of a program has this name
ZERO = const(0, int64)


@dataclass(frozen=True, slots=True)
class Side:
    """An axis of a frame: `extent` places; element i of x is at low + i step.

    size, stride: how many elements x has along it, and how far apart they lie.
    """

    extent: Size
    low: Size
    step: int
    size: Size
    stride: Size


@dataclass(frozen=True, slots=True)
class Frame:
    """What a contraction reads of a tensor at a point of its batch, zeros around it.

    source: where the tensor's part for that point begins. sides: the axes that windows
    move over, the last ones of the tensor. copies: how many of it there are, one behind
    the other, each moved `apart` elements further back along its last side.
    """

    source: Load
    sides: tuple[Side, ...]
    copies: Size = 1
    apart: Size = 0

    @property
    def elements(self) -> Size:
        """How many elements it has."""
        return self.copies * product(side.extent for side in self.sides)


@dataclass(frozen=True, slots=True)
class Framed:
    """A read of a tensor in a frame, which reaches over all its axes."""

    source: Load
    offsets: tuple[Expr, ...]  # of each index, steps included
    read: Load  # of the frame
    buffer: Buffer  # the frame
    sides: tuple[Side, ...]

    def frame(self, outer: frozenset[str]) -> Frame | None:
        """Return the frame at a point of the outer axes; None if they frame it too."""
        forms = [linear(e) for e in self.offsets]
        moved = [form is None or not outer.isdisjoint(form.axes) for form in forms]
        count = moved.index(False) if False in moved else len(moved)
        if any(moved[count:]) or count == len(moved):
            return None
        for e, form in zip(self.offsets[:count], forms, strict=False):
            if form is None or not set(form.axes) <= outer or e not in self.source.args:
                return None
        start = (*self.offsets[:count], *[ZERO] * (len(moved) - count))
        source = load(self.source.buffer, start, self.source.dtype)
        assert isinstance(source, Load)
        return Frame(source, self.sides[count:])


def framed(e: Expr, extents: Mapping[str, Size], program: Program) -> Framed | None:
    """Return what an expression reads of a frame; None if it is no such read."""
    found = unframed(e)
    if found is e or not isinstance(found, Load):
        return None
    return with_frame(found, extents, program)


def with_frame(
    found: Load, extents: Mapping[str, Size], program: Program
) -> Framed | None:
    """Return an affine read as one of a frame, with or without zeros around."""
    offsets, sides = [], []
    buffer = program.buffers[found.buffer]
    for at, size, stride in zip(found.args, buffer.shape, buffer.strides, strict=True):
        offset, step = _unclamped(at, size) or (at, 1)
        form = linear(offset)
        if form is None or form.uniform:
            return None
        low = -form.axes.get("", 0)
        extent: Size = 1
        for name, factor in form.axes.items():
            if name != "":
                if not isinstance(factor, int) or factor < 0:
                    return None
                extent = extent + factor * (extents[name] - 1)
        offsets.append(offset)
        sides.append(Side(extent, low, step, size, stride))
    index = [o + size_of(side.low) for o, side in zip(offsets, sides, strict=True)]
    frame = Buffer(FRAME, buffer.dtype, tuple(s.extent for s in sides), "temp")
    read = load(FRAME, index, found.dtype)
    assert isinstance(read, Load)
    return Framed(found, tuple(offsets), read, frame, tuple(sides))


def unframed(root: Expr) -> Expr:
    """Return an expression without its tests for what is outside of a tensor."""

    def change(old: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if not isinstance(old, Apply) or old.prim != "select":
            return None
        test, value, other = args
        zero = isinstance(other, Const) and other is const(0.0, other.dtype)
        if not zero or not isinstance(value, Load):
            return None
        return value if _tests(test) == _needed(value.args) else None

    return rebuild(root, change)


def _tests(e: Expr) -> set[Expr]:
    if isinstance(e, Apply) and e.prim == "logical_and":
        return _tests(e.args[0]) | _tests(e.args[1])
    return {e}


def _needed(index: Sequence[Expr]) -> set[Expr]:
    """Return the tests that make clamped indices the right ones."""
    found: set[Expr] = set()
    for e in index:
        parts = _clamped(e)
        if parts is not None:
            at, top = parts
            offset, step = _divided(at)
            found |= {offset >= ZERO, at < top + 1}
            if step != 1:
                found.add(apply("equal", offset % const(step, int64), ZERO))
    return found


def _clamped(e: Expr) -> tuple[Expr, Expr] | None:
    """Return what an index clamps, and to what at most; at least it is 0."""
    if not isinstance(e, Apply) or e.prim != "maximum" or e.args[1] is not ZERO:
        return None
    inner = e.args[0]
    if not isinstance(inner, Apply) or inner.prim != "minimum":
        return None
    return inner.args[0], inner.args[1]


def _divided(e: Expr) -> tuple[Expr, int]:
    if isinstance(e, Apply) and e.prim == "floor_divide":
        by = e.args[1]
        if isinstance(by, Const):
            return e.args[0], int(by.value)
    return e, 1


def _unclamped(e: Expr, size: Size) -> tuple[Expr, int] | None:
    parts = _clamped(e)
    if parts is None or parts[1] is not size_of(size) - 1:
        return None
    return _divided(parts[0])
