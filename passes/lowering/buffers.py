"""The buffers of a program while it is made, and places in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.ir.dims import Size
from graphc.ir.nodes import Tensor
from graphc.ir.program import Buffer, Space
from graphc.ir.scalar import Expr, size_of
from graphc.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor lies: a buffer, or a part of it.

    lead: leading indices. The steps of a scan lie behind each other in one buffer; step
    t is at `(t,)`. shift: what to add to each further index; empty for nothing. The
    pieces of a `concatenate` lie beside each other.
    """

    buffer: str
    lead: tuple[Expr, ...] = ()
    shift: tuple[Size, ...] = ()

    def at(self, *index: Expr) -> Place:
        """Return the part at further indices."""
        return Place(self.buffer, (*self.lead, *index))

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

    def view(self, wanted: str, place: Place, tensor: Tensor) -> Place:
        """Return the place of the same elements under another shape."""
        whole = self.table[place.buffer].shape[: len(place.lead)]
        type = tensor.type.with_shape((*whole, *tensor.shape))
        return Place(self.new(wanted, type, "temp", place.buffer), place.lead)

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
