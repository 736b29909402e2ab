"""What a kernel takes: a table of addresses and sizes, filled when sizes are bound.

Kernels have no sizes or strides baked in: an axis of 10 and one of 512 run the same
code, so layers of different widths share their kernels. Only strides of 0 and 1 are
part of a kernel, since they decide what instructions it uses.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from graphc.ir.dims import Size
from graphc.ir.program import Program
from graphc.ir.types import DType

# Reads an address from the table as a pointer of a dtype.
POINTERS = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
POINTERS["bool"] = "b8"


@dataclass(frozen=True, slots=True)
class Argument:
    """One word of the table.

    kind: "buffer" (an address), "size" (a number), "scratch" (the address of bytes
    of this thread's own), "routine" (the address of a function of the prelude), or
    "choice" (a decision taken when sizes are bound).
    """

    kind: str
    name: str
    value: str | Size
    note: str = ""


@dataclass
class Arguments:
    """The words a kernel takes, in the order in which it first needs them."""

    program: Program
    words: list[Argument] = field(default_factory=list)
    _known: dict[tuple[str, object], str] = field(default_factory=dict)
    _dtypes: dict[str, DType] = field(default_factory=dict)

    def buffer(self, name: str) -> str:
        """Return the pointer to a buffer."""
        root = self.program.root(name)
        key = ("buffer", root)
        if key not in self._known:
            local = f"p{sum(w.kind == 'buffer' for w in self.words)}"
            self._known[key] = local
            self._dtypes[local] = self.program.buffers[root].dtype
            self.words.append(Argument("buffer", local, root))
        return self._known[key]

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

    def special(self, kind: str, name: str, value: str | Size, note: str = "") -> str:
        """Return a word of another kind."""
        if (kind, name) not in self._known:
            self._known[kind, name] = name
            self.words.append(Argument(kind, name, value, note))
        return name

    def lines(self) -> list[str]:
        """Return the statements that read the table."""
        found = []
        for i, word in enumerate(self.words):
            note = f"  # {word.note}" if word.note else ""
            if word.kind == "buffer":
                read = POINTERS[self._dtypes[word.name].name]
                found.append(f"{word.name} = {read}(args, {i}){note}")
            elif word.kind == "scratch":
                read = f"{word.value}(args, {i})"
                found.append(f"{word.name} = at({read}, t * room){note}")
            else:
                found.append(f"{word.name} = args[{i}]{note}")
        return found
