"""The one place that imports numba-cuda.

Numba's own CUDA target is deprecated and lacks what this needs; the package
numba-cuda takes its place under the same name, `numba.cuda`. Under the environment
variable NUMBA_ENABLE_CUDASIM=1 it is a simulator that runs kernels as Python.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import SimpleNamespace
from typing import Any

from graphc.errors import CompileError

INSTALL = "pip install 'graphc[cuda]'"

if importlib.util.find_spec("numba_cuda") is None:
    raise CompileError("the cuda backend needs the package numba-cuda", help=INSTALL)
try:
    # By name, since type checkers see the deprecated module.
    cuda: Any = importlib.import_module("numba.cuda")
except ImportError as error:
    raise CompileError(
        f"the package numba-cuda does not work: {error}", help=INSTALL
    ) from error
if getattr(cuda, "implementation", "") != "NVIDIA":
    raise CompileError(
        "numba.cuda is the one built into Numba, not that of numba-cuda",
        details=[str(cuda.__file__)],
        help="start Python without -S and -I, which leave out the redirection",
    )

types: Any = cuda.types
_config: Any = importlib.import_module("numba.cuda.core.config")

SIMULATED = bool(_config.ENABLE_CUDASIM)

DEFAULT_CC = (9, 0)  # what kernels are compiled for where there is no device

# A small network fills no GPU, which is no mistake of the user's to be warned of.
_config.CUDA_LOW_OCCUPANCY_WARNINGS = 0

NO_DEVICE = (
    "set NUMBA_ENABLE_CUDASIM=1 before Python starts to run it, slowly, in Numba's "
    'simulator, or use backend="cpu"; the PTX of each kernel is there without a device'
)


def has_device() -> bool:
    """Whether kernels can run: there is a GPU, or they are simulated."""
    return bool(cuda.is_available())


def compute_capability() -> tuple[int, int]:
    """Return what kernels are compiled for: the device's, or 9.0 without one."""
    if SIMULATED or not has_device():
        return DEFAULT_CC
    major, minor = cuda.get_current_device().compute_capability[:2]
    return int(major), int(minor)


_compiling = threading.Lock()


@cache
def compile_kernel(
    function: Callable[..., Any], signature: tuple[Any, ...], cc: tuple[int, int]
) -> tuple[str, str]:
    """Return the LLVM IR and the PTX of a kernel; no device is needed.

    Raises:  CompileError in the simulator, which compiles nothing.
    """
    if SIMULATED:
        raise CompileError(
            "Numba's CUDA simulator compiles nothing",
            help="unset NUMBA_ENABLE_CUDASIM to see LLVM IR and PTX",
        )
    compiler: Any = importlib.import_module("numba.cuda.compiler")
    signed = types.void(*signature)
    with _compiling, nullcontext() if has_device() else _pretended_device(cc):
        # What `compile_ptx` does, which keeps the LLVM IR to itself.
        library, _ = compiler._compile_pyfunc_with_fixup(
            function, signed, device=False, abi="numba", cc=cc
        )
        return str(library.get_llvm_str()), str(library.get_asm_str(cc=cc))


@contextmanager
def _pretended_device(cc: tuple[int, int]) -> Iterator[None]:
    """Let callees compile without a device.

    `cc` is given for the kernel, but numba-cuda (0.30) asks the current device for
    the one of each device function that it calls.
    """
    dispatcher: Any = importlib.import_module("numba.cuda.dispatcher")
    real = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
    try:
        yield
    finally:
        dispatcher.get_current_device = real
