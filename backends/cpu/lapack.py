"""LAPACK through SciPy: the addresses of its functions, and its threads held to one.

SciPy brings LAPACK and exports it to Cython as C function pointers; it is imported when
a program that needs it is compiled, never before. Shares of a call work on matrices of
their own, each on one thread: threads of LAPACK's own would fight with the team's for
the cores. So while a step with such calls runs, SciPy's BLAS is held to one thread.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import Any


def found() -> bool:
    """Whether SciPy and threadpoolctl are installed."""
    return all(importlib.util.find_spec(m) for m in ("scipy", "threadpoolctl"))


@cache
def address(name: str) -> int:
    """Return the address of a LAPACK function, such as `dgetrf`."""
    from scipy.linalg import cython_lapack

    capsule = cython_lapack.__pyx_capi__[name]
    read_name = ctypes.pythonapi.PyCapsule_GetName
    read_name.restype, read_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    read = ctypes.pythonapi.PyCapsule_GetPointer
    read.restype, read.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(read(capsule, read_name(capsule)))


@cache
def _libraries() -> list[Any]:
    """Return the controllers of the BLAS that SciPy brings, NumPy's own left out."""
    import scipy.linalg  # noqa: F401  (loads it)
    from threadpoolctl import ThreadpoolController

    known = ThreadpoolController().select(user_api="blas").lib_controllers
    own = [c for c in known if Path(c.filepath).parent.name.startswith("scipy")]
    return own or list(known)


class OneThread:
    """Hold SciPy's BLAS to one thread while any step that uses it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._before = [c.get_num_threads() for c in _libraries()]
                self._set([1] * len(self._before))
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set(self._before)

    def _set(self, numbers: list[int]) -> None:
        for library, number in zip(_libraries(), numbers, strict=True):
            if library.get_num_threads() != number:
                # Newer versions listen to one Python thread alone. Here all of them
                # wait for each other's turn.
                clear = getattr(library, "clear_controlling_thread", None)
                if clear is not None:
                    clear(force=True)
                library.set_num_threads(number)
                if clear is not None:
                    clear(force=True)


ONE_THREAD = OneThread()
