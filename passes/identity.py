"""What a step is compiled from, as a text: two steps with one text are one program.

The text is the graph's fingerprint and the passes with their options. Both name ops and
passes, so there is one only while all of them are graphc's own: whoever registers an
op or a pass has each step compiled from the start.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.fingerprint import fingerprint
from graphc.ir.graph import Graph
from graphc.ir.op import OPS
from graphc.passes.pipeline import Step
from graphc.passes.registry import PASSES

_OPS, _PASSES = dict(OPS), dict(PASSES)


def identity(graph: Graph, steps: Sequence[Step]) -> str | None:
    """Return what tells a step from others; None if that is not known."""
    if OPS != _OPS or PASSES != _PASSES:
        return None
    found = fingerprint(graph)
    return None if found is None else "\n".join([found, *map(str, steps)])
