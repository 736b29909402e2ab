"""Nests that touch more than caches hold: what is asked for early, what goes past them.

    v0 = load_ahead(p0, i0, m, 512)         reads, and asks for what comes 512 later
    store_ahead(p1, i0, v1, m, 512)         writes, and asks to write that later
    stream(p1, i0, v1, m)                   writes without reading the line first

A processor guesses itself what is read next, but not beyond a page, and not so early
that arithmetic never waits.
"""

from __future__ import annotations

from graphc.backends.cpu.writer import Writer
from graphc.ir.program import Nest, Phase, Program
from graphc.ir.scalar import Expr, Load, axes_of, load, walk
from graphc.passes.widen import work_of

# Elements within which memory answers, and within which they are still near when they
# are needed; and the same in rows, for sums down a column.
SOON, LATE, ROWS = 512, 8192, 4


def past(nest: Nest, program: Program) -> frozenset[str]:
    """Return the buffer that a nest may write past the caches, if there is one.

    Lines of several streams, or filled in turns with reads of rows, leave the few
    buffers that a processor has for them before they are whole.
    """
    root = program.root
    read = {root(n) for n in nest.reads}
    if len(nest.writes) != 1 or any(p.reduces for p in nest.phases):
        return frozenset()
    return frozenset(n for n in nest.writes if root(n) not in read)


def early(writer: Writer, phase: Phase) -> dict[str, str]:
    """Return which buffers a phase asks for early, and how far away, in elements.

    Of the phases that read a buffer, it is the one that computes most that asks for
    more of it: then memory works while the processor does.
    """
    nest, found = writer.nest, dict[str, str]()
    for e in walk(*phase.roots):
        if isinstance(e, Load) and e.buffer not in nest.writes:
            readers = [p for p in nest.phases if e in walk(*p.roots)]
            if phase is max(readers, key=work_of):
                found.update(_later(writer, phase, e.buffer, e))
    sums = any(p.reduces for p in nest.phases)
    for s in phase.stores if phase.axes or not sums else ():
        writers = [
            p for p in nest.phases if any(s.buffer == x.buffer for x in p.stores)
        ]
        if phase is writers[0] and s.buffer not in writer.past:
            element = load(s.buffer, s.index, s.value.dtype)
            found.update(_later(writer, phase, s.buffer, element))
    return found


def _later(writer: Writer, phase: Phase, buffer: str, e: Expr) -> dict[str, str]:
    """Return how far away, in elements, the next accesses like this one lie.

    Not where it is the same at all points of the outermost axis, and stays near. In a
    column the next rows are asked for, in a row the next point's row.
    """
    nest = writer.nest
    if not nest.axes or nest.axes[0].name not in axes_of(e):
        return {}
    last = nest.axes[-1].name
    across = nest.schedule is not None and nest.schedule.axis == last
    if across and not phase.axes:
        return {buffer: str(SOON)}
    name = phase.axes[-1].name if across else last
    step = writer.program.buffers[buffer].step(e.args, name)
    if step is None or step == 0:
        return {}
    pointer = writer.arguments.buffer(buffer)
    row = writer.arguments.factor(f"{pointer}_{name}", step)
    if across:
        return {buffer: f"{ROWS} * {row}"}
    assert nest.schedule is not None
    if nest.schedule.points > 1:
        row = f"{nest.schedule.points} * {row}"
    far = f"min(max({row}, {SOON}), {LATE})"
    return {buffer: far}
