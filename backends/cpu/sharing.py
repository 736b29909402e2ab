"""What the threads of a team share, and what the first of them does alone.

    loop i: 50 {            alone {
      nest a                  loop i: 50 {
      barrier          =>       nest a
      nest b                    barrier
    }                           nest b
    barrier                   }
    nest c                  }
                            barrier
                            nest c

A barrier costs a team as much as much work, and far longer where another process has
one of its cores. What lies between barriers is shared where its threads save more than
the barriers cost; a stretch that is not is done by one thread, without barriers, while
the others wait behind it. The bits are the same either way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from graphc.ir.dims import evaluate
from graphc.ir.program import Barrier, If, Loop, Region, Statement, Task, While
from graphc.ir.program.program import Body


@dataclass(frozen=True)
class Alone:
    """Statements that the first thread of a team runs by itself, in order."""

    body: tuple[Statement, ...]


Shared = Statement | Alone


@dataclass
class _Level:
    """What stands between two barriers. alone, shared: what it costs either way."""

    statements: list[Statement] = field(default_factory=list)
    regions: dict[int, Shared] = field(default_factory=dict)  # as they are shared
    alone: float = 0.0
    shared: float = 0.0

    @property
    def for_all(self) -> list[Shared]:
        return [self.regions.get(id(s), s) for s in self.statements]


@dataclass(frozen=True)
class Sharing:
    """Decides for a team of `threads`.

    work: what each task costs one thread, by its id. parallel: the ids of those that
    several threads may run at once. barrier: what one costs, in the same unit.
    """

    work: Mapping[int, float]
    parallel: frozenset[int]
    sizes: Mapping[str, int]
    threads: int
    barrier: float

    def saved(self, body: Sequence[Statement]) -> tuple[float, tuple[Shared, ...]]:
        """Return what a team saves of a body's work, and what it shares of it."""
        cost, shared = self._best(body)
        return self.serial(body) - cost, shared

    def serial(self, body: Sequence[Statement]) -> float:
        """Return what one thread needs for a body; for a `While`, one turn."""
        total = 0.0
        for s in body:
            if isinstance(s, Loop):
                total += evaluate(s.count, self.sizes) * self.serial(s.body)
            elif isinstance(s, If):
                total += max(map(self.serial, s.bodies))
            elif isinstance(s, While):
                total += sum(map(self.serial, s.bodies))
            elif isinstance(s, Task):
                total += self.work[id(s)]
        return total

    def _best(self, body: Sequence[Statement]) -> tuple[float, tuple[Shared, ...]]:
        """Return what a team needs for a body, and what it shares of it."""
        levels = [_Level()]
        for s in body:
            if isinstance(s, Barrier):
                levels.append(_Level())
            else:
                self._add(levels[-1], s)
        cost, alone = self._chosen(levels)
        return cost, tuple(_joined(levels, alone))

    def _add(self, level: _Level, s: Statement) -> None:
        level.statements.append(s)
        one = self.serial((s,))
        level.alone += one
        if isinstance(s, Region):
            cost, inner = self._region(s)
            level.regions[id(s)] = Alone((s,)) if one < cost else inner
            level.shared += min(one, cost)
        else:
            level.shared += one / (self.threads if id(s) in self.parallel else 1)

    def _region(self, s: Region) -> tuple[float, Statement]:
        """Return what a team needs for a region that it enters, and how it stands."""
        found = [self._best(body) for body in s.bodies]
        costs = [cost for cost, _ in found]
        # The table takes what is alone wherever it takes statements.
        shared = s.with_bodies(*(cast(Body, body) for _, body in found))
        if isinstance(s, If):
            return max(costs), shared
        turns = evaluate(s.count, self.sizes) if isinstance(s, Loop) else 1
        return turns * sum(cost + self.barrier for cost in costs), shared

    def _chosen(self, levels: Sequence[_Level]) -> tuple[float, list[bool]]:
        """Return the least cost of levels, and which of them one thread does alone.

        Between two of these no barrier is needed.
        """
        best = [(0.0, 0.0)]  # of the levels so far, if the last is shared, or alone
        came: list[tuple[bool, bool]] = []  # whether the one before is alone then
        for i, level in enumerate(levels):
            shared, alone = best[-1]
            wait = self.barrier if i else 0.0
            came.append((alone < shared, alone < shared + wait))
            best.append(
                (
                    min(shared, alone) + wait + level.shared,
                    min(shared + wait, alone) + level.alone,
                )
            )
        chosen: list[bool] = []
        now = best[-1][1] < best[-1][0]
        for before in reversed(came):
            chosen.append(now)
            now = before[now]
        return min(best[-1]), chosen[::-1]


def _joined(levels: Sequence[_Level], alone: Sequence[bool]) -> list[Shared]:
    """Put levels together again; those that follow each other alone are one."""
    body: list[Shared] = []
    mine: list[Statement] = []
    for i, (level, by_one) in enumerate(zip(levels, alone, strict=True)):
        if by_one and mine:
            mine += [Barrier(), *level.statements]
            continue
        if mine:
            body.append(Alone(tuple(mine)))
            mine = []
        if i:
            body.append(Barrier())
        if by_one:
            mine = list(level.statements)
        else:
            body += level.for_all
    return [*body, Alone(tuple(mine))] if mine else body
