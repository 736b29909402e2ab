"""What a user may see of a CUDA kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc.backends.cuda.api import compile_kernel
from graphc.backends.shared.kernels import CompiledKernel
from graphc.errors import CompileError, GraphcError


@dataclass(frozen=True, repr=False)
class CudaKernel(CompiledKernel):
    """A CUDA kernel. llvm, ptx: what the compiler makes of it for `cc`."""

    function: Any
    cc: tuple[int, int]

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
            raise self.failed("did not compile", error) from error

    def failed(self, what: str, error: Exception) -> CompileError:
        """Return the error of this kernel, with the first line of Numba's own."""
        first = next(iter(str(error).strip().splitlines()), "")
        return self.failure(f"{what}: {type(error).__name__}: {first}")
