"""Contractions whose windows meet mostly zeros, and how to multiply none of them.

The gradient by the image of a convolution with strides, or of one without padding, is a
convolution of the cotangent with zeros between and around (ADR 17). A sum over windows
would multiply these: three quarters of the products at stride 2. Instead what is not
zero is multiplied by each weight once, which is a product of matrices, and the products
are spread: added up where they belong, in a frame of one image's results.

    frame[c][low + p stride - u] += sum over o of w[o, c, u] g[o, p]

Where the last axis has a stride, the frame has its remainders one behind the other, so
that products of neighbours are added to neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from graphc.ir.dims import Size, evaluate, product
from graphc.ir.program import LoopAxis
from graphc.ir.scalar import linear
from graphc.passes.contraction import Contraction, merged, steps
from graphc.passes.framed import Side

# Nanoseconds of one core: an operation of a deep product and of a flat one, adding a
# product in memory, and reading the frame by a table.
DIRECT, FLAT, ADD, READ = 1 / 150, 1 / 130, 0.16, 0.45
# The most bytes of a frame and of products: about what the second cache holds.
LARGEST = 1 << 20
PANEL = 64  # columns of the products that are spread at a time, about


# For each axis its extent, where it begins on a side and how far it moves, how many
# remainders that has, and how far apart remainders and quotients are in the frame.
Sums = tuple[tuple[Size, ...], ...]


@dataclass(frozen=True)
class Moved:
    """An axis of the frame that windows move over, and how products are spread on it.

    The product of element p of `side` and of the window's place u belongs to element
    low + p step - u apart of the result.
    """

    side: Side
    column: LoopAxis
    tap: LoopAxis | None
    apart: int

    @property
    def _reach(self) -> int:
        return self.apart * (_number(self.tap.extent) - 1) if self.tap else 0

    @property
    def start(self) -> int:
        """How many places the frame has before the result's first."""
        return max(self._reach - _number(self.side.low), 0)

    @property
    def extent(self) -> int:
        """How many places the frame has."""
        last = _number(self.side.low) + (_number(self.side.size) - 1) * self.side.step
        return max(_number(self.column.extent) - 1, last) + 1 + self.start


@dataclass(frozen=True)
class Spread:
    """How a contraction's products are spread.

    depth: the axes of the sum that are one in both operands. moved: the others' sides.
    """

    x: Contraction
    depth: tuple[LoopAxis, ...]
    moved: tuple[Moved, ...]

    @property
    def taps(self) -> tuple[LoopAxis, ...]:
        """The axes of a window."""
        return tuple(m.tap for m in self.moved if m.tap)

    @cached_property
    def line(self) -> tuple[int, int]:
        """How many numbers the frame has for each remainder of a line, and in all."""
        last = self.moved[-1]
        each = -(-last.extent // last.side.step)
        return each, each * last.side.step

    @property
    def plane(self) -> int:
        """The elements of the frame of a row."""
        return self.line[1] * _number(product(m.extent for m in self.moved[:-1]))

    @property
    def elements(self) -> Size:
        """The elements of the frame."""
        return self.plane * self.x.row.extent

    @property
    def inside(self) -> int:
        """How many elements of an image are not zeros."""
        return _number(product(m.side.size for m in self.moved))

    def _sums(self, numbers: list[tuple[Size, int, int]]) -> Sums:
        """Return, for each side, how to find what its elements add to a place.

        numbers: extent, first and step of the elements along it.
        """
        found: list[tuple[Size, ...]] = []
        stride = self.line[1]
        for m, (extent, first, step) in zip(
            self.moved[::-1], numbers[::-1], strict=True
        ):
            if m is self.moved[-1]:
                found.append((extent, first, step, m.side.step, self.line[0], 1))
            else:
                found.append((extent, first, step, 1, 0, stride))
                stride *= m.extent
        return tuple(found[::-1])

    @property
    def where(self) -> Sums:
        """Where the products of each weight begin, the result's rows last."""
        numbers: list[tuple[Size, int, int]] = []
        for m in self.moved:
            first = _number(m.side.low) + m.start
            numbers.append((m.tap.extent if m.tap else 1, first, -m.apart))
        return (*self._sums(numbers), (self.x.row.extent, 0, 1, 1, 0, self.plane))

    @property
    def places(self) -> Sums:
        """Where the products of each element of an image are, from there."""
        return self._sums([(m.side.size, 0, m.side.step) for m in self.moved])

    @property
    def back(self) -> Sums:
        """Where the elements of a row of the result are."""
        return self._sums([(m.column.extent, m.start, 1) for m in self.moved])


def _number(size: Size) -> int:
    """Return a size that is known; only such are spread."""
    return evaluate(size, {})


def spread_of(x: Contraction) -> Spread | None:
    """Return how products are spread, if that pays and each axis has its part."""
    frame = x.frame
    if frame is None or frame.copies != 1 or x.blocks:
        return None
    if any(step != 0 for _, step in steps(x.a, x.batch, x.program)):
        return None
    columns = {a.name: a for a in x.columns}
    sums = {a.name: a for a in x.depth}
    depth: list[LoopAxis] = []
    moved: list[Moved] = []
    for e, side in zip(x.b.args[-len(frame.sides) :], frame.sides, strict=True):
        form = linear(e)
        if form is None or form.uniform:
            return None
        names = {name: step for name, step in form.axes.items() if step != 0}
        mine = [columns.pop(name) for name in names if name in columns]
        taps = [sums.pop(name) for name in names if name in sums]
        if len(mine) + len(taps) != len(names) or len(mine) > 1 or len(taps) > 1:
            return None
        if mine:
            apart = names[taps[0].name] if taps else 0
            if names[mine[0].name] != 1 or not isinstance(apart, int):
                return None
            moved.append(Moved(side, mine[0], taps[0] if taps else None, apart))
        elif (
            not taps
            or names[taps[0].name] != 1
            or side.extent != side.size
            or side.step != 1
            or side.low != 0
        ):
            return None
        else:
            depth.append(taps[0])
    if columns or sums or not depth or tuple(m.column for m in moved) != x.columns:
        return None
    if not _are_last(moved, frame.sides):
        return None
    found = Spread(x, tuple(depth), tuple(moved))
    return found if _pays(found) else None


def _is_whole(side: Side) -> bool:
    """Whether there is nothing around or between what stands in a side."""
    return side.extent == side.size and side.step == 1 and side.low == 0


def _are_last(moved: list[Moved], sides: tuple[Side, ...]) -> bool:
    """Whether moved sides are the last ones, all that stands in them neighbours."""
    count = len(moved)
    if tuple(m.side for m in moved) != sides[-count:]:
        return False
    inside = merged([(s.size, s.stride) for s in sides[-count:]])
    return (
        inside == 1 and merged([(s.size, s.stride) for s in sides[:-count]]) is not None
    )


def _pays(x: Spread) -> bool:
    """Whether sizes are known, the frame fits, and it takes less time than a window."""
    places = product(a.extent for a in x.taps)
    deep = product(a.extent for a in x.depth)
    sizes: list[Size] = [x.x.row.extent, places, deep]
    for m in x.moved:
        sizes += [m.side.low, m.side.size, m.column.extent]
    if not all(isinstance(n, int) for n in sizes):
        return False
    rows, taps, depth = map(_number, sizes[:3])
    columns = _number(product(m.column.extent for m in x.moved))
    elements = _number(x.elements) + taps * rows * PANEL
    if elements * x.x.b.dtype.itemsize > LARGEST:
        return False
    direct = 2 * columns * taps * depth * DIRECT
    spread = x.inside * taps * (2 * depth * FLAT + ADD) + columns * READ
    return spread < direct
