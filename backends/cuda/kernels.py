"""What a user may see of a CUDA kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc.backends.cuda.api import compile_kernel
from graphc.backends.shared.module import KernelText
from graphc.errors import CompileError, GraphcError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node
from graphc.ir.origins import Origin
from graphc.ir.program import Nest


@dataclass(frozen=True)
class CudaKernel:
    """A kernel, and the nests that it runs.

    source: its Python. llvm, ptx: what the compiler makes of it, for the compute
    capability `cc`. nodes, origins: the graph's nodes and the user's lines that it
    computes. flops, bytes: of its first nest, possibly symbolic.
    """

    text: KernelText
    function: Any
    nests: tuple[Nest, ...]
    flops: Size
    bytes: Size
    file: str
    cc: tuple[int, int]

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
        """Its LLVM IR, before the optimiser.

        Raises:  CompileError in the simulator, which compiles nothing.
        """
        return self._compiled[0]

    @property
    def ptx(self) -> str:
        """Its PTX.

        Raises:  CompileError in the simulator, which compiles nothing.
        """
        return self._compiled[1]

    @cached_property
    def _compiled(self) -> tuple[str, str]:
        function = self.function.py_func
        signature = tuple(function.__annotations__.values())
        try:
            return compile_kernel(function, signature, self.cc)
        except GraphcError:
            raise
        except Exception as error:
            raise self.failure("did not compile", error) from error

    def failure(self, what: str, error: Exception) -> CompileError:
        """Return the error that says which kernel failed, where, and of which nodes."""
        first = next(iter(str(error).strip().splitlines()), "")
        return CompileError(
            f"the kernel {self.name} {what}: {type(error).__name__}: {first}",
            details=[f"in {self.file}", *(n.summary for n in self.nests)],
            help="this is a fault of graphc: please report the module",
        )

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that its nests compute."""
        return tuple(n for nest in self.nests for n in nest.nodes)

    @property
    def origins(self) -> tuple[Origin, ...]:
        """The lines that its nodes come from."""
        return tuple(dict.fromkeys(o for nest in self.nests for o in nest.origins))

    def __repr__(self) -> str:
        return f"<CudaKernel {self.name} of {len(self.nests)} nests>"
