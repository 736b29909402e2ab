"""`backend="reference"`: a step that is interpreted; slow, and the definition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.backends.reference.interpreter import run_graph
from graphc.backends.shared.tuning import Tuning
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.ir.program.memory import Arena
from graphc.ir.target import GENERIC, Target

Array = np.ndarray[Any, Any]


@dataclass
class _Bound:
    graph: Graph
    states: Sequence[Any]
    sizes: Mapping[str, int]
    arena: Arena

    def run(self, inputs: Sequence[Array], out: Sequence[Array] | None) -> list[Array]:
        given = dict(zip(self.graph.inputs, inputs, strict=True))
        held = {t: s.array for t, s in zip(self.graph.states, self.states, strict=True)}
        outputs, updates = run_graph(self.graph, given, held, self.sizes)
        # Outputs first: one may be a view of a state that is about to change.
        found = [np.array(o) for o in outputs]
        new = [np.array(u) for u in updates]
        for (state, _), value in zip(self.graph.updates, new, strict=True):
            held[state][...] = value
        if out is None:
            return found
        for target, value in zip(out, found, strict=True):
            target[...] = value
        return list(out)

    def quick(self, inputs: Sequence[Any], out: list[Any] | None) -> None:
        """Do nothing: there is no short way."""


@dataclass
class _Runner:
    graph: Graph
    program: Program
    states: Sequence[Any]
    kernels: Sequence[Any] = ()
    tuning: Tuning = field(default_factory=Tuning)

    def bind(self, sizes: Mapping[str, int]) -> _Bound:
        return _Bound(self.graph, self.states, sizes, Arena(0, {}, 0))


class ReferenceBackend:
    """Interprets the final graph."""

    name = "reference"
    target: Target = GENERIC

    def build(self, graph: Graph, program: Program, states: Sequence[Any]) -> _Runner:
        """Return the interpreter of the final graph."""
        return _Runner(graph, program, states)
