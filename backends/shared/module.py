"""The text of a module of kernels: docstrings, shared kernels, the table of steps.

The text depends on the structure of the program alone: not on the user's names,
comments or lines.
"""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from graphc.backends.shared.arguments import Argument, Arguments
from graphc.backends.shared.blocks import PAD
from graphc.ir.program import (
    Barrier,
    Loop,
    Nest,
    Program,
    Region,
    Statement,
    Task,
)
from graphc.ir.program.text import nest_lines

WIDTH = 88


@dataclass(frozen=True)
class KernelText:
    """A kernel's source, and what it takes.

    parameters: those of its function. uses: the prelude's functions it needs.
    """

    name: str
    parameters: str
    body: str
    words: tuple[Argument, ...]
    uses: frozenset[str]
    doc: tuple[str, ...]

    @property
    def source(self) -> str:
        """The whole function."""
        first, *rest = self.doc
        text = [f'{PAD}"""{first}', *(f"{PAD}{line}" if line else "" for line in rest)]
        head = ["@kernel", *_head(self.name, self.parameters)]
        body = [w for line in self.body.splitlines() for w in wrapped(line)]
        return "\n".join([*head, *text, f'{PAD}"""', *body, ""])

    @property
    def key(self) -> tuple[str, str]:
        """What makes it equal to another: all but its name and its notes."""
        body = "\n".join(x.partition("  #")[0] for x in self.body.splitlines())
        return self.parameters, body


def wrapped(line: str) -> list[str]:
    """Return a statement as lines of at most 88 columns, broken as ruff does it."""
    if len(line) <= WIDTH:
        return [line]
    code, mark, note = line.partition("  # ")
    pad = code[: len(code) - len(code.lstrip())]
    if mark:
        return [f"{pad}# {note}", *wrapped(code)]
    opening, closing = code.find("("), code.rfind(")")
    if opening < 0 or not _encloses(code, opening, closing):
        return [line]
    inner = code[opening + 1 : closing]
    if len(pad) + len(PAD) + len(inner) <= WIDTH:
        middle = [inner]
    else:
        middle = [f"{piece}," for piece in _pieces(inner)]
    return [
        code[: opening + 1],
        *(f"{pad}{PAD}{line}" for line in middle),
        f"{pad}{code[closing:]}",
    ]


def _encloses(code: str, opening: int, closing: int) -> bool:
    """Whether these two brackets belong together."""
    depth = 0
    for i in range(opening, closing):
        depth += (code[i] == "(") - (code[i] == ")")
        if depth == 0:
            return False
    return depth == 1


def _pieces(inner: str) -> list[str]:
    """Split arguments at their commas."""
    found, depth, start = [], 0, 0
    for i, letter in enumerate(inner):
        depth += (letter == "(") - (letter == ")")
        if letter == "," and depth == 0:
            found.append(inner[start:i].strip())
            start = i + 1
    return [*found, inner[start:].strip()]


def _head(name: str, parameters: str) -> list[str]:
    line = f"def {name}({parameters}):"
    if len(line) <= 88:
        return [line]
    return [f"def {name}(", *(f"{PAD}{p}," for p in parameters.split(", ")), "):"]


def kernel_doc(nest: Nest, arguments: Arguments) -> tuple[str, ...]:
    """Return a kernel's docstring: its nest, in terms of the kernel's own pointers.

    Users' names stay out of code.
    """
    names = dict.fromkeys((*nest.reads, *nest.writes))
    locals_ = {name: arguments.buffer(name) for name in names}
    shown = nest_lines(nest.replace(summary=""), names=locals_)
    return (f"{nest.name.replace('_', ', ')}.", "", *shown)


Step = tuple[Task, int, tuple[Argument, ...]]


@dataclass(frozen=True)
class Source:
    """A module's text, and for each task of the program its kernel and arguments."""

    text: str
    kernels: tuple[KernelText, ...]
    steps: tuple[Step, ...]

    @property
    def digest(self) -> str:
        """The hash that names the module."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]

    @cached_property
    def tasks(self) -> tuple[tuple[Task, ...], ...]:
        """The tasks that each kernel runs."""
        found: list[list[Task]] = [[] for _ in self.kernels]
        for task, k, _ in self.steps:
            found[k].append(task)
        return tuple(map(tuple, found))

    def lines(self) -> list[dict[str, Any]]:
        """Return the map from kernels to the user's lines."""
        return [
            {
                "kernel": self.kernels[k].name,
                "nodes": task.summary,
                "lines": sorted({f"{o.file}:{o.line}" for o in task.origins if o.file}),
            }
            for task, k, _ in self.steps
        ]


def write_source(
    program: Program,
    imports: Sequence[str],
    prelude: str,
    write: Callable[[Task], KernelText],
) -> Source:
    """Write the module of a program; tasks whose kernels are equal share one.

    imports: the lines it begins with. prelude: the module of what kernels use.
    """
    found: dict[tuple[str, str], int] = {}
    kernels: list[KernelText] = []
    steps: list[Step] = []
    for task in program.tasks:
        text = write(task)
        k = found.setdefault(text.key, len(kernels))
        if k == len(kernels):
            kernels.append(replace(text, name=f"k{k}_{task.name}"))
        steps.append((task, k, text.words))
    uses = sorted({"kernel"}.union(*(k.uses for k in kernels)))
    lines = ['"""Kernels of a graphc program, in the order of STEPS at the end."""', ""]
    lines += [*imports, f"from {prelude} import (", *(f"{PAD}{u}," for u in uses), ")"]
    lines += ["", ""]
    for kernel in kernels:
        lines += [kernel.source, ""]
    lines += _steps(program, kernels, steps)
    return Source("\n".join([*lines, ""]), tuple(kernels), tuple(steps))


def _steps(
    program: Program, kernels: Sequence[KernelText], steps: Sequence[Step]
) -> list[str]:
    lines = ["# What a step runs, in order: a kernel, and its buffers and sizes.", ""]
    names = _public_names(program)
    each = iter(steps)

    def write(body: Sequence[Statement], pad: str) -> None:
        for s in body:
            if isinstance(s, Barrier):
                lines.append(f'{pad}"barrier",')
            elif isinstance(s, Region):
                kind = type(s).__name__.lower()
                cell = s.index if isinstance(s, Loop) else s.condition
                shown = names.get(cell, cell)
                shown += f": {s.count}" if isinstance(s, Loop) else ""
                inner = pad + PAD
                lines.extend([f"{pad}(", f'{inner}"{kind}",', *_quoted(shown, inner)])
                for turn in s.bodies:
                    if turn:
                        lines.append(f"{inner}[")
                        write(turn, inner + PAD)
                        lines.append(f"{inner}],")
                    else:
                        lines.append(f"{inner}[],")
                lines.append(f"{pad}),")
            else:
                _, k, words = next(each)
                shown = ", ".join(
                    f"{w.name}={names.get(str(w.value), w.value)}"
                    for w in words
                    if w.kind in ("buffer", "size")
                )
                lines.extend(_step(kernels[k].name, shown, pad))

    write(program.body, PAD)
    return [*lines[:2], "STEPS = [", *lines[2:], "]"]


def _step(kernel: str, shown: str, pad: str) -> list[str]:
    line = f'{pad}({kernel}, "{shown}"),'
    if len(line) <= WIDTH:
        return [line]
    return [f"{pad}(", f"{pad}{PAD}{kernel},", *_quoted(shown, pad + PAD), f"{pad}),"]


def _quoted(shown: str, pad: str) -> list[str]:
    """Return a text as literals of lines that are not too long."""
    *texts, last = textwrap.wrap(shown, max(WIDTH - len(pad) - 3, 20)) or [""]
    return [*(f'{pad}"{t} "' for t in texts), f'{pad}"{last}",']


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
