"""What a user may see of a compiled kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from graphc.backends.cpu.module import KernelText
from graphc.ir.dims import Size, product
from graphc.ir.nodes import Node
from graphc.ir.origins import Origin
from graphc.ir.program import Nest, Program
from graphc.ir.scalar import PRIMITIVES, Apply, walk


def flops_of(nest: Nest) -> Size:
    """Return the floating-point operations of a nest, by its primitives' counts."""
    points = product(a.extent for a in nest.axes)
    total: Size = 0
    for phase in nest.phases:
        inner = product(a.extent for a in phase.axes)
        each = sum(
            PRIMITIVES[e.prim].flops
            for e in walk(*phase.roots)
            if isinstance(e, Apply) and e.prim != "cast" and e.dtype.kind != "i"
        )
        total = total + points * inner * (each + len(phase.reduces))
    return total


def bytes_of(nest: Nest, program: Program) -> Size:
    """Return the bytes that a nest must at least move: what it reads and writes."""
    total: Size = 0
    for names in (nest.reads, nest.writes):
        for root in {program.root(n) for n in names}:
            total = total + program.buffers[root].bytes
    return total


@dataclass(frozen=True)
class CpuKernel:
    """A compiled kernel, and the nests that it runs.

    source: its Python. llvm, asm: what the compiler made of it. nodes, origins: the
    graph's nodes and the user's lines that it computes. flops, bytes: of its first
    nest, possibly symbolic.
    """

    text: KernelText
    native: Any
    nests: tuple[Nest, ...]
    flops: Size
    bytes: Size
    file: str

    @property
    def name(self) -> str:
        """The name of its function in the generated module."""
        return self.text.name

    @property
    def source(self) -> str:
        """Its Python source."""
        return self.text.source

    @property
    def llvm(self) -> str:
        """Its optimised LLVM IR."""
        return str(self.native.llvm)

    @property
    def asm(self) -> str:
        """Its assembly."""
        return str(self.native.asm)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that its nests compute."""
        return tuple(n for nest in self.nests for n in nest.nodes)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The lines that its nodes come from."""
        return tuple(dict.fromkeys(o for nest in self.nests for o in nest.origins))

    @property
    def from_cache(self) -> bool:
        """Whether its machine code was found in the cache."""
        return bool(self.native.from_cache)

    @property
    def compile_seconds(self) -> float:
        """How long it took to compile or to find."""
        return float(self.native.compile_seconds)

    def __repr__(self) -> str:
        return f"<CpuKernel {self.name} of {len(self.nests)} nests>"


