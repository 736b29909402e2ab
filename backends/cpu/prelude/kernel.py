"""Compile a kernel: one Numba function with one signature, lazily, once for ever.

A kernel is ``kernel(args, t, nt) -> None``: ``args`` points to a table of int64, which
holds the addresses of buffers and their sizes; the call computes share ``t`` of ``nt``.

    @kernel
    def scale(args, t, nt):
        ...

    address(scale)      # native code, C calling convention: void(int64 *, int64, int64)

The decorator only records the function. It is compiled when an address is asked for and
the cache of ``native.py`` does not have it: to LLVM IR in one walk over its syntax tree
where it keeps to what `direct.py` knows, as all generated nests do, else by Numba's
front end.
The cache knows a kernel by its structure: the bytecode and constants of the function
and of the functions it calls. Names, comments, docstrings and line numbers are no part
of it, so equal kernels are compiled once, wherever they stand.
"""

from __future__ import annotations

import dis
import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from . import native

if TYPE_CHECKING:
    from llvmlite.binding import ModuleRef


class Kernel:
    """Hold a kernel's function and, once asked for, its machine code.

    Kernels are made by the decorator `kernel`, which says what the options mean.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        arguments: str = "pii",
        returns: str = "",
        vectorize: bool = False,
        unroll: bool = False,
    ) -> None:
        """Record the function; nothing is compiled yet."""
        self.function = function
        self.name: str = function.__name__
        self.arguments, self.returns = arguments, returns
        self.vectorize, self.unroll = vectorize, unroll
        self.__doc__, self.__name__ = function.__doc__, function.__name__
        self._native: native.Native | None = None
        self._key: str | None = None

    def __repr__(self) -> str:
        """Return the kernel's name in brackets."""
        return f"<kernel {self.name}>"

    @property
    def key(self) -> str:
        """Return the hash of all that the machine code depends on."""
        if self._key is None:
            self._key = native.content_key(
                f"{self.arguments}:{self.returns} {self.vectorize} {self.unroll}",
                *versions(),
                *structure(self.function),
            )
        return self._key

    @property
    def symbol(self) -> str:
        """Return the name of the function in its object file."""
        return f"graphc_{self.key}"

    @property
    def from_cache(self) -> bool:
        """Tell whether the machine code was found rather than made."""
        return self._load().from_cache

    @property
    def compile_seconds(self) -> float:
        """Return the time it took to make, or find, the machine code."""
        return self._load().compile_seconds

    @property
    def llvm(self) -> str:
        """Return the optimised LLVM IR; compiles again, objects hold no IR."""
        with native.LOCK:
            return str(self.module()).replace(self.symbol, self.name)

    @property
    def asm(self) -> str:
        """Return the assembly of this function, without directives; compiles again."""
        with native.LOCK:
            text = native.assembly(self.module())
        return native.tidy_assembly(text).replace(self.symbol, self.name)

    def __call__(self, args: np.ndarray[Any, Any], t: int = 0, nt: int = 1) -> None:
        """Run share ``t`` of ``nt`` on an int64 array of addresses and sizes."""
        native.c_function(address(self), 3)(args.ctypes.data, t, nt)

    def begin(self) -> None:
        """Write LLVM IR now, and compile it beside what this thread does next."""
        known = self._native or _LOADED.get(self.key)
        if known is None and not native.is_at_hand(self.key):
            build = partial(self._optimized, *self._lowered(self.symbol))
            native.begin(self.key, self.symbol, build, self.name)

    def _lowered(self, symbol: str) -> tuple[ModuleRef, bool]:
        """Return the module as it is written, and whether Numba wrote it."""
        from . import direct
        from .expressions import Beyond

        asked = self.function, self.arguments, self.returns, symbol
        try:
            return direct.lower(*asked), False
        except Beyond:
            from . import frontend

            return frontend.lower(*asked), True

    def _optimized(self, module: ModuleRef, numbas: bool) -> ModuleRef:
        thorough = numbas or self.vectorize or self.unroll
        native.optimize(
            module, vectorize=self.vectorize, unroll=self.unroll, thorough=thorough
        )
        return module

    def module(self, symbol: str = "") -> ModuleRef:
        """Return the optimised LLVM module, in which the kernel is named ``symbol``."""
        return self._optimized(*self._lowered(symbol or self.symbol))

    def _load(self) -> native.Native:
        if self._native is None:
            known = _LOADED.get(self.key)
            if known is None:
                self.begin()
                known = native.load(self.key, self.symbol, self.module, self.name)
            self._native = _LOADED.setdefault(self.key, known)
        return self._native


# Machine code by key: a kernel that occurs twice is loaded once.
_LOADED: dict[str, native.Native] = {}


@overload
def kernel(function: Callable[..., Any], /) -> Kernel: ...
@overload
def kernel(
    *,
    arguments: str = "pii",
    returns: str = "",
    vectorize: bool = False,
    unroll: bool = False,
) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Record a function as a kernel; nothing is compiled yet.

    ``arguments`` has a letter for each argument, ``p`` for a pointer to int64 and ``i``
    for an int64, ``returns`` one letter or none; kernels of a step keep the default.
    ``vectorize`` and ``unroll`` switch on LLVM's passes for scalar loops.
    """
    if function is not None:
        return Kernel(function)
    return lambda function: Kernel(function, **options)


def address(kernel: Kernel) -> int:
    """Return the address of a kernel's machine code, compiling it if need be.

    The code follows the platform's C calling convention and lives as long as the
    process.
    """
    return kernel._load().address


def cached_address(key: str) -> int | None:
    """Return the address of the kernel with this `Kernel.key`, if the cache has it.

    Whoever remembers the keys of a module's kernels need not import the module, nor
    the operations it uses, nor Numba: that saves 0.4 s of a warm start.
    """
    with native.LOCK:
        known = _LOADED.get(key) or native.find(key, f"graphc_{key}")
        if known is None:
            return None
        _LOADED[key] = known
        return known.address


# --- what identifies a kernel ------------------------------------------------------


def versions() -> tuple[str, str]:
    """Return the versions of Python and of Numba."""
    return sys.version.split()[0], _numba_version()


@cache
def _numba_version() -> str:
    # Importing Numba takes 0.2 s, asking for its metadata 20 ms, and a warm start
    # needs neither.
    found = importlib.util.find_spec("numba")
    if found is None or found.origin is None:
        return ""
    try:
        return Path(found.origin).with_name("_version.py").read_text()
    except OSError:
        return str(importlib.import_module("numba").__version__)


def structure(function: Callable[..., Any]) -> list[str]:
    """Return texts that are equal for functions that do the same in the same way."""
    parts: list[str] = []
    _describe(function, parts, {})
    return parts


def _describe(value: Any, parts: list[str], seen: dict[int, int]) -> None:
    value = getattr(value, "py_func", value)  # a Numba dispatcher
    if isinstance(value, Kernel):
        value = value.function
    if id(value) in seen:
        parts.append(f"again {seen[id(value)]}")
        return
    if isinstance(value, types.ModuleType):
        parts.append(f"module {value.__name__}")
    elif isinstance(value, types.FunctionType) and not _in_prelude(value):
        seen[id(value)] = len(seen)
        _describe_function(value, parts, seen)
    elif isinstance(value, np.ndarray):
        parts.append(f"{value.dtype} {value.shape} {_digest(value.tobytes())}")
    elif isinstance(value, tuple):
        parts.append(f"tuple {len(value)}")
        for item in value:
            _describe(item, parts, seen)
    elif isinstance(value, bool | int | float | complex | str | bytes | None):
        parts.append(f"{type(value).__name__} {value!r}")
    elif isinstance(value, np.generic):
        parts.append(f"{value.dtype} {value.tobytes().hex()}")
    else:
        # A function of the prelude or of a library, a Numba type: known by name. The
        # prelude's hash and the versions are part of the key already.
        module = getattr(value, "__module__", type(value).__module__)
        parts.append(f"name {module}.{getattr(value, '__qualname__', repr(value))}")


def _describe_function(
    function: types.FunctionType, parts: list[str], seen: dict[int, int]
) -> None:
    code = function.__code__
    _describe_code(code, parts)
    names = {name for inner in _codes(code) for name in inner.co_names}
    for name in sorted(names):
        # Attributes stand among the names too: an equal global does no harm.
        if name in function.__globals__:
            parts.append(name)
            _describe(function.__globals__[name], parts, seen)
    for cell in function.__closure__ or ():
        _describe(cell.cell_contents, parts, seen)
    _describe(function.__defaults__, parts, seen)


def _describe_code(code: types.CodeType, parts: list[str]) -> None:
    # Constants are numbered as they are used: a docstring, which stands among them
    # without being used, would otherwise change the numbers.
    order: dict[int, int] = {}
    out = bytearray()
    high = 0
    for op, arg in zip(code.co_code[::2], code.co_code[1::2], strict=True):
        if op == dis.EXTENDED_ARG:
            high = (high | arg) << 8
            continue
        arg |= high
        high = 0
        if op in dis.hasconst:
            arg = order.setdefault(arg, len(order))
        out += bytes((op,)) + arg.to_bytes(4, "little")
    flags = code.co_flags & ~0x4000000  # "has a docstring", from Python 3.13 on
    parts.append(f"code {code.co_argcount} {flags} {out.hex()}")
    parts.append(code.co_exceptiontable.hex())
    parts.extend(code.co_names)
    for index in order:
        constant = code.co_consts[index]
        if isinstance(constant, types.CodeType):
            _describe_code(constant, parts)
        else:
            parts.append(f"{type(constant).__name__} {constant!r}")


def _codes(code: types.CodeType) -> list[types.CodeType]:
    found = [code]
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _codes(constant)
    return found


def _in_prelude(function: types.FunctionType) -> bool:
    package = __name__.rpartition(".")[0]
    return function.__module__.startswith(f"{package}.") and bool(package)


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
