"""Nests that differ in the names of their buffers alone have one kernel.

Equal layers make such nests by the hundred. The kernel of one is written once; the
others take its text, with their own buffers as its arguments.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.module import KernelText
from graphc.ir.program import Nest, Program
from graphc.ir.program.alike import likeness, memory
from graphc.ir.program.text import renamed

_Known = tuple[KernelText, list[str]]  # a kernel, and the buffers it was written for


class Alike:
    """The kernels written so far, by what nests are apart from names."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[object, _Known] = {}
        self._alike: dict[object, _Known] = {}  # by what spares a look at expressions

    def kernel(
        self, nest: Nest, write: Callable[[], KernelText], index: str = ""
    ) -> KernelText:
        """Return the kernel of a nest, which `write` writes if no other is like it.

        index: a further buffer that the kernel reads.
        """
        used = list(dict.fromkeys((*nest.reads, *nest.writes, *filter(None, [index]))))
        roots = list(dict.fromkeys(map(self.program.root, used)))
        what = nest.name, used.index(index) if index else None
        like = likeness(nest, self.program), what
        if like not in self._alike:
            names = {name: f"b{i}" for i, name in enumerate(used)}
            same = renamed(nest.replace(labels={}), names)
            facts = same.axes, same.schedule, memory(nest, self.program), what
            key = same.phases, facts
            if key not in self._known:
                self._known[key] = write(), roots
            self._alike[like] = self._known[key]
        text, others = self._alike[like]
        own = dict(zip(others, roots, strict=True))
        words = tuple(
            Argument(w.kind, w.name, own[str(w.value)]) if w.kind == "buffer" else w
            for w in text.words
        )
        return replace(text, words=words)
