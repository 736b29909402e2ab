"""LLVM's two long calls, on several threads at once.

llvmlite lets one thread at a time into LLVM. LLVM itself asks for less: that threads
share no context, no target machine and no pass builder. A module from `parse` has a
context of its own, and for such modules the passes and the making of code, nearly all
of the time, are called past llvmlite's lock, in the same library. Modules from
elsewhere, such as Numba's, take llvmlite's own way; all do where llvmlite is built so
that its library cannot be found.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite.binding import ffi


def parse(text: str) -> llvm.ModuleRef:
    """Return a module in a context of its own."""
    return llvm.parse_assembly(text, llvm.create_context())


def run_passes(manager: Any, module: llvm.ModuleRef, builder: llvm.PassBuilder) -> None:
    """Run a pass manager on a module."""
    run = _function("LLVMPY_RunNewModulePassManager", module)
    if run is None:
        manager.run(module, builder)
    else:
        run(manager, module, builder)


def emit_object(machine: llvm.TargetMachine, module: llvm.ModuleRef) -> bytes:
    """Return a module's object file."""
    emit = _function("LLVMPY_TargetMachineEmitToMemory", module)
    if emit is None:
        return bytes(machine.emit_object(module))
    emit.restype = ctypes.c_void_p
    lib: Any = ffi.lib
    with ffi.OutputString() as error:
        found = emit(machine, module, 1, error)
        if not found:
            raise RuntimeError(str(error))
    buffer = ctypes.cast(found, ffi.LLVMMemoryBufferRef)
    try:
        start, size = (
            lib.LLVMPY_GetBufferStart(buffer),
            lib.LLVMPY_GetBufferSize(buffer),
        )
        return ctypes.string_at(start, size)
    finally:
        lib.LLVMPY_DisposeMemoryBuffer(buffer)


def _function(name: str, module: llvm.ModuleRef) -> Any:
    """Return a function of LLVM's to call without a lock, None if it needs the lock."""
    own = type(getattr(module, "_context", None)) is llvm.context.ContextRef
    return getattr(_library(), name, None) if own else None


@cache
def _library() -> Any:
    """Return llvmlite's library once more, under a handle without a lock."""
    handle = getattr(ffi.lib, "_lib_handle", None)
    return None if handle is None else ctypes.CDLL(handle._name)
