"""Nests that are one but for the names of their buffers, as equal layers have them.

`lower` makes one of them and renames it for the others. What is found out about one
holds for all whose buffers are alike too; a pass that changes a nest's phases makes a
nest of its own.
"""

from __future__ import annotations

from graphc.ir.program.program import Nest, Program


def likeness(nest: Nest, program: Program) -> tuple[object, ...]:
    """Return what is equal for nests that differ in the names of buffers alone.

    Equal nests that were not made from one another may be told apart. It means
    something for as long as the nests are there.
    """
    return id(nest.pattern), nest.axes, nest.schedule, memory(nest, program)


def memory(nest: Nest, program: Program) -> tuple[object, ...]:
    """Return what the buffers of a nest are, and which of them share memory."""
    used = dict.fromkeys((*nest.reads, *nest.writes))
    roots: dict[str, int] = {}
    return tuple(
        [
            (
                b.dtype,
                b.shape,
                b.space,
                roots.setdefault(program.root(name), len(roots)),
            )
            for name, b in ((name, program.buffers[name]) for name in used)
        ]
    )
