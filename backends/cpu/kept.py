"""Compiled steps on disk: what a process needs that compiles one again.

    declared graph -> fingerprint, passes, target, versions -> key
    key            -> the program, its kernels' keys, each task's kernel and words

A process that finds its step here runs no pass and writes no kernel. What is kept is
what binding and running need: lines, nodes and labels of the program are left out, and
whoever asks for them gets them from the passes, which then run. Nothing is kept of a
program that calls routines, or whose constants are large.

A file begins with a digest of the rest, as object files do; what is damaged is as good
as missing. It is pickled, of a few classes of our own: machine code that the process
will run lies in the same folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from graphc import errors
from graphc.backends.cpu.prelude import native
from graphc.backends.cpu.prelude.kernel import versions
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.files import cache_folder, write_atomically
from graphc.ir.dims import Dim
from graphc.ir.dims_form import Compound
from graphc.ir.program import (
    Barrier,
    Buffer,
    If,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Reduce,
    Schedule,
    Store,
    While,
)
from graphc.ir.program.memory import Lifetime, MemoryPlan
from graphc.ir.program.program import with_nests
from graphc.ir.scalar import Apply, Axis, Const, Expr, Load, Ref, SizeOf, const
from graphc.ir.types import DType, as_dtype

CONSTANTS = 1 << 16  # bytes of a program's constants, at most
_MAGIC = b"graphc-step-1\n"
_DIGEST = 32  # bytes


@dataclass(frozen=True)
class Kept:
    """A program without origins; for each task the key of its kernel, and its words.

    states: which of the declared graph's states the program has. dims: the names of
    its sizes.
    """

    program: Program
    keys: tuple[str, ...]
    words: tuple[tuple[Argument, ...], ...]
    states: tuple[int, ...]
    dims: tuple[str, ...]


def key_of(*parts: str) -> str:
    """Return the key of what is compiled from `parts`, by this graphc, on this target.

    Every source is part of it that a step could depend on.
    """
    return native.content_key("step", *versions(), np.__version__, _sources(), *parts)


@cache
def _sources() -> str:
    """Return what tells these sources from others that a step could depend on.

    Where they lie, their sizes, and when they were changed, by which Python too knows
    whether bytecode is that of its source. To read them takes as long as compiling a
    small kernel.
    """
    # Where an editable installation has put each: not all in one folder.
    packages = [import_module(f"graphc.{name}").__path__[0] for name in _PACKAGES]
    found = [*_stamps(Path(errors.__file__).parent, deep=False)]
    found += [stamp for folder in packages for stamp in _stamps(folder, deep=True)]
    return "\n".join(sorted(found))


# All but those whose sources only declare or show.
_PACKAGES = ("ir", "ops", "autodiff", "control", "passes", "backends")


def _stamps(folder: str | os.PathLike[str], *, deep: bool) -> Iterator[str]:
    for entry in os.scandir(folder):
        if entry.name.endswith(".py"):
            found = entry.stat()
            yield f"{entry.path}:{found.st_size}:{found.st_mtime_ns}"
        elif deep and entry.is_dir():
            yield from _stamps(entry, deep=True)


def find(key: str) -> Kept | None:
    """Return what is kept under a key; None if nothing is, or if it is damaged."""
    try:
        data = _path(key).read_bytes()
    except OSError:
        return None
    start = len(_MAGIC) + _DIGEST
    rest = data[start:]
    if data[:start] != _MAGIC + sha256(rest).digest():
        return None
    try:
        found = _Reader(io.BytesIO(rest)).load()
    except Exception:  # written by a graphc that means something else by it
        return None
    return found if isinstance(found, Kept) else None


def keep(
    key: str,
    program: Program,
    keys: Iterable[str],
    words: Iterable[Iterable[Argument]],
    states: Iterable[int],
    dims: Iterable[str],
) -> None:
    """Keep a step under a key, if it may be and the folder can be written."""
    constants = sum(c.nbytes for c in program.constants.values())
    if constants > CONSTANTS or not all(isinstance(t, Nest) for t in program.tasks):
        return
    known: dict[Argument, Argument] = {}  # what is one object is written once
    shared = tuple(tuple([known.setdefault(w, w) for w in own]) for own in words)
    kept = Kept(_bare(program), tuple(keys), shared, tuple(states), tuple(dims))
    file = io.BytesIO()
    try:
        _Writer(file).dump(kept)
    except (RecursionError, pickle.PicklingError):
        return
    rest = file.getvalue()
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _MAGIC + sha256(rest).digest() + rest)


def _path(key: str) -> Path:
    return cache_folder() / "steps" / f"{key}.step"


def _bare(program: Program) -> Program:
    """Return a program without what tells where it comes from."""

    def change(nest: Nest) -> Nest:
        return nest.replace(labels={}, nodes=(), origins=(), summary="", like=None)

    return with_nests(program, change).replace(guards=(), state_tensors=())


# --- what files are made of -----------------------------------------------------------


def _expr(
    kind: type[Expr], key: tuple[Any, ...], dtype: DType, args: tuple[Expr, ...]
) -> Expr:
    found: Expr = kind._intern(key, dtype, args)
    return found


def _array(dtype: str, shape: tuple[int, ...], content: bytes) -> np.ndarray[Any, Any]:
    return np.frombuffer(content, np.dtype(dtype)).reshape(shape)


_FUNCTIONS = (_expr, _array, const, as_dtype)
_CLASSES = (
    *(Kept, Program, Buffer, LoopAxis, Reduce, Store, Phase, Schedule, Nest),
    *(Loop, If, While, Barrier, MemoryPlan, Lifetime, Argument, Dim, Compound),
    *(Apply, Axis, Const, Load, Ref, SizeOf),
)
_KNOWN: Mapping[tuple[str, str], Any] = {
    (x.__module__, x.__qualname__): x for x in (*_FUNCTIONS, *_CLASSES)
}


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(kind))


class _Writer(pickle.Pickler):
    """Writes objects as calls of what makes them; only those of known classes."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=5)

    def reducer_override(self, item: Any) -> Any:
        """Return the call that makes an object again."""
        if isinstance(item, Const):
            return const, (item.value, item.dtype)
        if isinstance(item, Expr):
            return _expr, (type(item), item.key, item.dtype, item.args)
        if isinstance(item, DType):
            return as_dtype, (item.name,)
        if isinstance(item, np.ndarray):
            return _array, (item.dtype.str, item.shape, item.tobytes())
        if is_dataclass(item) and type(item) in _CLASSES:
            kind: Any = type(item)
            return kind, tuple([getattr(item, name) for name in _fields(kind)])
        if isinstance(item, (Dim, Compound)) or item in _KNOWN.values():
            return NotImplemented
        raise pickle.PicklingError(f"{item!r} is not to be kept")


class _Reader(pickle.Unpickler):
    """Reads what was written, and makes nothing of any other class."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class or a function that files are made of."""
        return _KNOWN[module, name]
