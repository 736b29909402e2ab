"""What the host does between launches: it counts turns and asks for conditions.

    loop i: 3 { nest a }      for turn in range(3): write turn into i, launch a
    while c { nest a } ...    launch a, copy c back, and so on

Launches see what those before them wrote, and so do copies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.ir.dims import Size
from graphc.ir.program import Barrier, If, Loop, Program, Region, Statement


@dataclass(frozen=True, slots=True)
class Nested:
    """A loop or branch, and what its bodies launch."""

    statement: Region
    bodies: tuple[Launches, ...]


Launches = tuple[Any, ...]  # a Nested, or what to launch


def nested(body: Sequence[Statement], steps: Iterator[Any]) -> Launches:
    """Arrange steps, which are in the order of a program's tasks, as its statements."""
    found: list[Any] = []
    for s in body:
        if isinstance(s, Region):
            found.append(Nested(s, tuple(nested(inner, steps) for inner in s.bodies)))
        elif not isinstance(s, Barrier):
            found.append(next(steps))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Host:
    """Runs launches. memory: the device's, by buffer. number: of a size."""

    program: Program
    memory: dict[str, Any]
    number: Callable[[Size], int]
    launch: Callable[[Any], None]

    def run(self, launches: Launches) -> None:
        """Run launches in order."""
        for each in launches:
            if isinstance(each, Nested):
                self._region(each.statement, each.bodies)
            else:
                self.launch(each)

    def _region(self, s: Region, bodies: tuple[Launches, ...]) -> None:
        if isinstance(s, Loop):
            cell = self.memory[self.program.root(s.index)]
            for turn in range(self.number(s.count)):
                cell.copy_to_device(np.array([turn], np.int64))
                self.run(bodies[0])
        elif isinstance(s, If):
            self.run(bodies[0 if self._holds(s.condition) else 1])
        else:
            self.run(bodies[0])
            while self._holds(s.condition):
                self.run(bodies[1])
                self.run(bodies[0])

    def _holds(self, condition: str) -> bool:
        found = np.zeros(1, np.bool_)
        self.memory[self.program.root(condition)].copy_to_host(found)
        return bool(found[0])
