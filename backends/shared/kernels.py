"""What a user may see of a compiled kernel, whatever it is compiled for."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.shared.module import KernelText
from graphc.errors import CompileError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node
from graphc.ir.origins import Origin
from graphc.ir.program import Task


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel, and the tasks that it runs: nests, or calls of a routine.

    source: its Python. nodes, origins: the graph's nodes and the user's lines that it
    computes. flops, bytes: of its first task, possibly symbolic. file: its module.
    """

    text: KernelText
    tasks: tuple[Task, ...]
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
        """The nodes that its tasks compute."""
        return tuple(n for task in self.tasks for n in task.nodes)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The lines that its nodes come from."""
        return tuple(dict.fromkeys(o for task in self.tasks for o in task.origins))

    def failure(self, what: str) -> CompileError:
        """Return the error that says which kernel failed, where, and of which nodes."""
        return CompileError(
            f"the kernel {self.name} {what}",
            details=[f"in {self.file}", *(t.summary for t in self.tasks)],
            help="this is a fault of graphc: please report the module",
        )

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} of {len(self.tasks)} tasks>"
