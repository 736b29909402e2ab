"""What a kernel takes: buffers and sizes, filled when sizes are bound.

Kernels have no sizes or strides baked in: an axis of 10 and one of 512 run the same
code, so layers of different widths share their kernels. Only strides of 0 and 1 are
part of a kernel, since they decide what instructions it uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.dims import Size
from graphc.ir.program import Program
from graphc.ir.types import DType


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a kernel.

    kind: "buffer" (its memory), "size" (a number), or a kind of one backend's own:
    "scratch" (the address of bytes of this thread's own), "routine" (the address of
    a function of the prelude), "choice" (a decision taken when sizes are bound),
    "offsets" and "table" (of what axes add to where an access lies). axes: the extent
    and the step of each of those, or all numbers of a frame's side.
    """

    kind: str
    name: str
    value: str | Size
    note: str = ""
    axes: tuple[tuple[Size, ...], ...] = ()


@dataclass
class Arguments:
    """The arguments of a kernel, in the order in which it first needs them."""

    program: Program
    words: list[Argument] = field(default_factory=list)
    dtypes: dict[str, DType] = field(default_factory=dict)
    _known: dict[tuple[str, object], str] = field(default_factory=dict)

    def buffer(self, name: str) -> str:
        """Return the pointer to a buffer."""
        root = self.program.root(name)
        key = ("buffer", root)
        if key not in self._known:
            local = f"p{sum(w.kind == 'buffer' for w in self.words)}"
            self._known[key] = local
            self.dtypes[local] = self.program.buffers[root].dtype
            self.words.append(Argument("buffer", local, root))
        return self._known[key]

    def own(self, buffer: str, local: str) -> None:
        """Say which pointer of the kernel's own is a buffer, which is no argument."""
        self._known["buffer", buffer] = local

    def size(self, name: str, value: Size, note: str = "") -> str:
        """Return the number called `name`; one name is one number in a kernel."""
        key = ("size", name)
        if key not in self._known:
            self._known[key] = name
            self.words.append(Argument("size", name, value, note))
        return name

    def dimension(self, value: Size) -> str:
        """Return a dimension that the body computes with."""
        key = ("dimension", value)
        if key not in self._known:
            name = f"d{sum(k[0] == 'dimension' for k in self._known)}"
            self._known[key] = self.size(name, value)
        return self._known[key]

    def factor(self, name: str, value: Size) -> str:
        """Return a stride: 1 is part of the kernel, others are among its arguments."""
        if value == 1:
            return "1"
        known = {w.name: w.value for w in self.words}
        base, i = name, 1
        while name in known and known[name] != value:
            name, i = f"{base}_{i}", i + 1
        return self.size(name, value)

    def special(
        self,
        kind: str,
        name: str,
        value: str | Size,
        note: str = "",
        axes: tuple[tuple[Size, ...], ...] = (),
    ) -> str:
        """Return an argument of another kind."""
        if (kind, name) not in self._known:
            self._known[kind, name] = name
            self.words.append(Argument(kind, name, value, note, axes))
        return name
