"""One readable Python module for a program: its kernels, and the table of its steps.

The text depends on the structure of the program alone: not on the user's names,
comments or lines. It is written, atomically, into the cache folder under a name that
is its own hash, and imported from there, so that tracebacks and debuggers show it.
A map from kernels to the user's lines lies beside it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import platformdirs

from graphc.backends.cpu.arguments import POINTERS, Argument, Arguments
from graphc.backends.cpu.tile_nest import TileNest
from graphc.backends.cpu.vector_nest import VectorNest
from graphc.backends.cpu.writer import PAD, Writer
from graphc.ir.program import Nest, Program
from graphc.ir.program.text import nest_lines

PRELUDE = "graphc.backends.cpu.prelude"


@dataclass(frozen=True)
class KernelText:
    """A kernel's source, and what it takes. uses: the prelude's functions it needs."""

    name: str
    body: str
    words: tuple[Argument, ...]
    uses: frozenset[str]
    doc: tuple[str, ...]

    @property
    def source(self) -> str:
        """The whole function."""
        doc = self.doc
        text = [f'{PAD}"""{doc[0]}', *(f"{PAD}{line}" if line else "" for line in doc[1:])]
        quoted = "\n".join([*text, f'{PAD}"""'])
        return f"@kernel\ndef {self.name}(args, t, nt):\n{quoted}\n{self.body}\n"


def write_kernel(
    nest: Nest, program: Program, tile: tuple[int, int] | None
) -> KernelText:
    """Write the kernel of a nest. tile: rows and columns of a register tile."""
    assert nest.schedule is not None
    arguments = Arguments(program)
    writer = Writer(nest, program, arguments, nest.schedule.lanes)
    if nest.schedule.strategy == "tile":
        assert tile is not None
        TileNest(writer, *tile).write()
    else:
        VectorNest(writer).write()
    lines = arguments.lines()
    for reader in POINTERS.values():
        if any(f" {reader}(args" in line for line in lines):
            writer.use(reader)
    body = "\n".join(PAD + line for line in [*lines, *writer.blocks[0].lines])
    # The docstring speaks of the kernel's own pointers: users' names stay out of code.
    locals_ = {
        name: arguments.buffer(name) for name in dict.fromkeys((*nest.reads, *nest.writes))
    }
    shown = nest_lines(nest.replace(summary=""), names=locals_)
    doc = (f"{nest.name.replace('_', ', ')}.", "", *shown)
    return KernelText(nest.name, body, tuple(arguments.words), frozenset(writer.used), doc)


@dataclass(frozen=True)
class Source:
    """A module's text, and for each nest of the program its kernel and arguments."""

    text: str
    kernels: tuple[KernelText, ...]
    calls: tuple[tuple[Nest, int, tuple[Argument, ...]], ...]

    @property
    def digest(self) -> str:
        """The hash that names the module."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def write_module(program: Program, tiles: dict[str, tuple[int, int]]) -> Source:
    """Write the module of a program. tiles: sizes of register tiles by dtype.

    Nests whose kernels have the same body share one.
    """
    found: dict[str, int] = {}
    kernels: list[KernelText] = []
    calls: list[tuple[Nest, int, tuple[Argument, ...]]] = []
    for nest in program.nests:
        tile = tiles.get(_tiled_dtype(nest))
        text = write_kernel(nest, program, tile)
        key = _without_notes(text.body)
        if key not in found:
            found[key] = len(kernels)
            name = f"k{len(kernels)}_{nest.name}"
            kernels.append(
                KernelText(name, text.body, text.words, text.uses, text.doc)
            )
        calls.append((nest, found[key], text.words))
    return Source(_module_text(program, kernels, calls), tuple(kernels), tuple(calls))


def _tiled_dtype(nest: Nest) -> str:
    reduces = nest.phases[0].reduces if nest.phases else ()
    return reduces[0].dtype.name if reduces else ""


def _without_notes(body: str) -> str:
    return "\n".join(line.partition("  #")[0] for line in body.splitlines())


def _module_text(
    program: Program,
    kernels: Sequence[KernelText],
    calls: Sequence[tuple[Nest, int, tuple[Argument, ...]]],
) -> str:
    uses = sorted({"kernel"}.union(*(k.uses for k in kernels)))
    lines = ['"""Kernels of a graphc program, in the order of STEPS at the end."""', ""]
    lines += [f"from {PRELUDE} import ("]
    lines += [f"{PAD}{name}," for name in uses]
    lines += [")", "", ""]
    for k in kernels:
        lines += [k.source, ""]
    lines += ["# What a step runs, in order: a kernel, and its buffers and sizes.", ""]
    lines += ["STEPS = ["]
    names = _public_names(program)
    for statement in program.body:
        if not isinstance(statement, Nest):
            lines.append(f'{PAD}"barrier",')
            continue
        _, k, words = next(c for c in calls if c[0] is statement)
        shown = [
            f"{w.name}={names.get(str(w.value), w.value)}"
            for w in words
            if w.kind in ("buffer", "size")
        ]
        lines.append(f"{PAD}({kernels[k].name}, {', '.join(shown)!r}),")
    lines += ["]", ""]
    return "\n".join(lines)


def _public_names(program: Program) -> dict[str, str]:
    """Return names for buffers that are no user's: inputs x0, states w0, and so on."""
    found: dict[str, str] = {}
    for prefix, group in (
        ("x", program.inputs),
        ("w", program.states),
        ("y", program.outputs),
    ):
        found.update({name: f"{prefix}{i}" for i, name in enumerate(group)})
    return found


# --- on disk ------------------------------------------------------------------------


def cache_folder() -> Path:
    """Return where modules and machine code are kept: GRAPHC_CACHE_DIR, or the user's."""
    given = os.environ.get("GRAPHC_CACHE_DIR")
    return Path(given) if given else Path(platformdirs.user_cache_dir("graphc"))


_modules: dict[str, ModuleType] = {}


def load_module(source: Source, lines: object) -> ModuleType:
    """Write a module and the map to the user's lines beside it; import it.

    A folder that cannot be written costs only the cache: the module then goes into a
    temporary one. A damaged file is written over.
    """
    name = f"graphc_step_{source.digest}"
    if name in _modules:
        return _modules[name]
    path = _write(name, source.text, lines)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    _modules[name] = module
    return module


def _write(name: str, text: str, lines: object) -> Path:
    folder = cache_folder() / "modules"
    try:
        return _write_into(folder, name, text, lines)
    except OSError:
        return _write_into(Path(tempfile.mkdtemp(prefix="graphc-")), name, text, lines)


def _write_into(folder: Path, name: str, text: str, lines: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text(errors="replace") != text:
        write_atomically(path, text)
    write_atomically(path.with_suffix(".json"), json.dumps(lines, indent=1))
    return path


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that nobody ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
