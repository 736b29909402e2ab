"""Nests that differ in the names of their buffers alone have one kernel.

Equal layers make such nests by the hundred. The kernel of one is written once; the
others take its text, with their own buffers as its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.module import KernelText
from graphc.ir.program import Nest, Program
from graphc.ir.program.text import renamed


class Alike:
    """The kernels written so far, by what nests are apart from names."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[Any, tuple[KernelText, list[str]]] = {}

    def kernel(
        self, nest: Nest, write: Callable[[], KernelText], index: str = ""
    ) -> KernelText:
        """Return the kernel of a nest, which `write` writes if no other is like it.

        index: a further buffer that the kernel reads.
        """
        program = self.program
        used = list(dict.fromkeys((*nest.reads, *nest.writes, *filter(None, [index]))))
        roots = list(dict.fromkeys(map(program.root, used)))
        facts = tuple(
            (b.dtype, b.shape, b.space, roots.index(program.root(b.name)))
            for b in map(program.buffers.__getitem__, used)
        )
        names = {name: f"b{i}" for i, name in enumerate(used)}
        same = renamed(nest.replace(labels={}), names)
        key = (same.name, same.axes, same.phases, same.schedule, facts, bool(index))
        if key not in self._known:
            self._known[key] = write(), roots
        text, others = self._known[key]
        own = dict(zip(others, roots, strict=True))
        words = tuple(
            Argument(w.kind, w.name, own[str(w.value)]) if w.kind == "buffer" else w
            for w in text.words
        )
        return replace(text, words=words)
