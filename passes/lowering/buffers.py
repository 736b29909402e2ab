"""The buffers of a program while it is made, and places in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from graphc.ir.dims import Size, product
from graphc.ir.nodes import Tensor
from graphc.ir.program import Buffer, Space
from graphc.ir.scalar import Expr, size_of
from graphc.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: a buffer, or a part of it.

    lead: leading indices. The steps of a scan lie behind each other in one buffer; step
    t is at `(t,)`. shift: what to add to each further index; empty for a tensor that is
    all of what the leading indices leave. The pieces of a `concatenate` lie beside each
    other, and a carry's values around the turns of a loop one behind the other.
    """

    buffer: str
    lead: tuple[Expr, ...] = ()
    shift: tuple[Size, ...] = ()

    def at(self, *index: Expr) -> Place:
        """Return the part at further indices."""
        n, rest = len(index), self.shift[len(index) :]
        moved = Place(self.buffer, self.lead, self.shift[:n]).index(index)
        return Place(self.buffer, moved, rest if any(x != 0 for x in rest) else ())

    def shifted(self, ndim: int, axis: int, start: Size) -> Place:
        """Return the part of a tensor with `ndim` axes that begins there."""
        shift = list(self.shift or (0,) * ndim)
        shift[axis] = shift[axis] + start
        return Place(self.buffer, self.lead, tuple(shift))

    def index(self, index: Sequence[Expr]) -> tuple[Expr, ...]:
        """Return where in the buffer the element at an index is."""
        if not self.shift:
            return (*self.lead, *index)
        moved = (
            i if start == 0 else i + size_of(start)
            for i, start in zip(index, self.shift, strict=True)
        )
        return (*self.lead, *moved)


@dataclass
class Buffers:
    """The buffers of a program by name, and the values of its constants."""

    table: dict[str, Buffer] = field(default_factory=dict)
    constants: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)

    def new(
        self, wanted: str, type: TensorType, space: Space = "temp", view_of: str = ""
    ) -> str:
        """Enter a buffer and return its name, which begins with the one wanted."""
        name, i = wanted, 1
        while name in self.table:
            name, i = f"{wanted}.{i}", i + 1
        self.table[name] = Buffer(name, type.dtype, type.shape, space, view_of)
        return name

    def view(self, wanted: str, place: Place, tensor: Tensor) -> Place | None:
        """Return the place of the same elements under another shape.

        None for part of a buffer that is no part of a buffer of that shape: one that
        begins or ends within what has an index there.
        """
        n = len(place.lead)
        lead, shape = (s := self.table[place.buffer].shape)[:n], s[n:]
        if not place.shift:
            type = tensor.type.with_shape((*lead, *tensor.shape))
            return Place(self.new(wanted, type, "temp", place.buffer), place.lead)
        # Slices of the buffer that become so many each.
        slice, row = product(shape[1:]), product(tensor.shape[1:])
        each = 0 if row == 0 or tensor.ndim == 0 else slice // row
        if any(x != 0 for x in place.shift[1:]) or each * row != slice:
            return None
        rows = (shape[0] * each, *tensor.shape[1:])
        name = self.new(
            wanted, tensor.type.with_shape((*lead, *rows)), "temp", place.buffer
        )
        return Place(name, place.lead).shifted(tensor.ndim, 0, place.shift[0] * each)

    def unite(self, name: str, whole: str) -> None:
        """Make a buffer a view of another, which has the same shape."""
        if name != whole:
            self.table[name] = replace(self.table[name], view_of=whole)

    def beside(self, name: str) -> str:
        """Enter a buffer like another, for what cannot be written in place."""
        return self.new(f"{name}.next", self.table[name].type)

    def owner(self, name: str) -> str:
        """Return the buffer that owns a buffer's elements."""
        while self.table[name].view_of:
            name = self.table[name].view_of
        return name

    def owners(self, names: Sequence[str]) -> set[str]:
        """Return the buffers that own the elements of these."""
        return {self.owner(n) for n in names}
