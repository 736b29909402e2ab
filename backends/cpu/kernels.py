"""What a user may see of a CPU kernel."""

from __future__ import annotations

from dataclasses import dataclass

from graphc.backends.cpu.code import Code
from graphc.backends.cpu.prelude.kernel import Kernel
from graphc.backends.shared.kernels import CompiledKernel


@dataclass(frozen=True, repr=False)
class CpuKernel(CompiledKernel):
    """A CPU kernel. llvm, asm: what the compiler made of it."""

    code: Code
    number: int

    @property
    def native(self) -> Kernel:
        """The kernel that its module holds."""
        return self.code.kernels[self.number]

    @property
    def llvm(self) -> str:
        """Its optimised LLVM IR."""
        return str(self.native.llvm)

    @property
    def asm(self) -> str:
        """Its assembly."""
        return str(self.native.asm)

    @property
    def from_cache(self) -> bool:
        """Whether its machine code was found in the cache."""
        return bool(self.native.from_cache)

    @property
    def compile_seconds(self) -> float:
        """How long it took to compile or to find."""
        return float(self.native.compile_seconds)
