"""What a user may see of a compiled kernel, whatever it is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.shared.module import KernelText
from graphc.errors import CompileError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node
from graphc.ir.origins import Origin
from graphc.ir.program import Nest


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel, and the nests that it runs.

    source: its Python. nodes, origins: the graph's nodes and the user's lines that it
    computes. flops, bytes: of its first nest, possibly symbolic. file: its module.
    """

    text: KernelText
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
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that its nests compute."""
        return tuple(n for nest in self.nests for n in nest.nodes)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The lines that its nodes come from."""
        return tuple(dict.fromkeys(o for nest in self.nests for o in nest.origins))

    def failure(self, what: str) -> CompileError:
        """Return the error that says which kernel failed, where, and of which nodes."""
        return CompileError(
            f"the kernel {self.name} {what}",
            details=[f"in {self.file}", *(n.summary for n in self.nests)],
            help="this is a fault of graphc: please report the module",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {len(self.nests)} nests>"
