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
one of its cores; a thread that has waited long for another sleeps, and comes back late.
What lies between barriers is shared where its threads save more than the waits cost; a
stretch that is not is done by one thread, without barriers, while the others wait
behind it. The bits are the same either way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import cast

from graphc.backends.cpu.parts import Parts
from graphc.backends.cpu.strips import Strips
from graphc.ir.dims import evaluate
from graphc.ir.program import Barrier, If, Loop, Region, Statement, Task, While
from graphc.ir.program.program import Body


@dataclass(frozen=True)
class Alone:
    """Statements that the first thread of a team runs by itself, in order."""

    body: tuple[Plain, ...]


Plain = Statement | Parts | Strips
Shared = Plain | Alone


@dataclass(frozen=True)
class Waits:
    """What waiting costs a team, in the unit of its work.

    barrier: what one costs. patience: how long a thread waits before it sleeps.
    wake: what it costs to go on with threads that sleep.
    """

    barrier: float
    patience: float = math.inf
    wake: float = 0.0


@dataclass
class _Level:
    """What stands between two barriers.

    alone, shared: what it costs either way. lone: what of it is for one thread though
    it is shared, while the others wait.
    """

    statements: list[Plain] = field(default_factory=list)
    regions: dict[int, Shared] = field(default_factory=dict)  # as they are shared
    alone: float = 0.0
    shared: float = 0.0
    lone: float = 0.0

    @property
    def for_all(self) -> list[Shared]:
        return [self.regions.get(id(s), s) for s in self.statements]


# How a level is left: done by one thread or shared, and whether the others sleep then.
_State = tuple[bool, bool]


@dataclass(frozen=True)
class _Choice:
    """The least cost of levels, which are alone, and whether threads sleep then."""

    cost: float
    alone: list[bool]
    asleep: bool


@dataclass(frozen=True)
class Sharing:
    """Decides for a team of `threads`.

    work: what each task costs one thread, by its id. parallel: the ids of those that
    several threads may run at once.
    """

    work: Mapping[int, float]
    parallel: frozenset[int]
    sizes: Mapping[str, int]
    threads: int
    waits: Waits

    def saved(self, body: Sequence[Plain]) -> tuple[float, tuple[Shared, ...]]:
        """Return what a team saves of a body's work, and what it shares of it."""
        choice, shared = self._best(body)
        return self.serial(body) - choice.cost, shared

    def serial(self, body: Sequence[Plain]) -> float:
        """Return what one thread needs for a body; for a `While`, one turn."""
        total = 0.0
        for s in body:
            if isinstance(s, Loop):
                total += evaluate(s.count, self.sizes) * self.serial(s.body)
            elif isinstance(s, If):
                total += max(map(self.serial, s.bodies))
            elif isinstance(s, While):
                total += sum(map(self.serial, s.bodies))
            elif isinstance(s, Parts):
                total += self.serial(s.body)
            elif isinstance(s, Strips):
                total += self.serial((s.loop,))
            elif isinstance(s, Task):
                total += self.work[id(s)]
        return total

    def _best(self, body: Sequence[Plain]) -> tuple[_Choice, tuple[Shared, ...]]:
        """Return what a team needs for a body, and what it shares of it."""
        levels = [_Level()]
        for s in body:
            if isinstance(s, Barrier):
                levels.append(_Level())
            else:
                self._add(levels[-1], s)
        choice = self._chosen(levels)
        return choice, tuple(_joined(levels, choice.alone))

    def _add(self, level: _Level, s: Plain) -> None:
        level.statements.append(s)
        one = self.serial((s,))
        level.alone += one
        if isinstance(s, Region):
            cost, inner = self._region(s)
            level.regions[id(s)] = Alone((s,)) if one < cost else inner
            level.shared += min(one, cost)
            level.lone += one if one < cost else 0.0
        elif isinstance(s, Parts | Strips) or id(s) in self.parallel:
            level.shared += one / self.threads
        else:
            level.shared += one
            level.lone += one

    def _region(self, s: Region) -> tuple[float, Statement]:
        """Return what a team needs for a region that it enters, and how it stands."""
        found = [self._best(body) for body in s.bodies]
        # The table takes what is alone wherever it takes statements.
        shared = s.with_bodies(*(cast(Body, body) for _, body in found))
        if isinstance(s, If):
            return max(choice.cost for choice, _ in found), shared
        turns = evaluate(s.count, self.sizes) if isinstance(s, Loop) else 1
        turn = sum(
            choice.cost + self.waits.barrier + choice.asleep * self.waits.wake
            for choice, _ in found
        )
        return turns * turn, shared

    def _chosen(self, levels: Sequence[_Level]) -> _Choice:
        """Return which levels one thread does alone, so that all cost least.

        Between two of these no barrier is needed.
        """
        # The first level waits for nothing.
        best: dict[_State, float] = {(False, False): -self.waits.barrier}
        came: list[dict[_State, _State]] = []  # how the level before is left then
        for level in levels:
            before, best = best, {}
            came.append({})
            for was, alone in product(before, (False, True)):
                cost = before[was] + self._next(was, alone, level)
                now = alone, self._sleep(was, alone, level)
                if cost < best.get(now, math.inf):
                    best[now], came[-1][now] = cost, was
        last = now = min(best, key=lambda state: best[state])
        chosen: list[bool] = []
        for before_it in reversed(came):
            chosen.append(now[0])
            now = before_it[now]
        return _Choice(best[last], chosen[::-1], last[1])

    def _next(self, was: _State, alone: bool, level: _Level) -> float:
        """Return what a level costs behind one left so, and the wait for that."""
        if alone:
            return level.alone + (0.0 if was[0] else self.waits.barrier)
        return level.shared + self.waits.barrier + was[1] * self.waits.wake

    def _sleep(self, was: _State, alone: bool, level: _Level) -> bool:
        """Return whether threads that wait for a level sleep, or have hardly woken."""
        if alone and was[1]:
            return True
        return (level.alone if alone else level.lone) > self.waits.patience


def _joined(levels: Sequence[_Level], alone: Sequence[bool]) -> list[Shared]:
    """Put levels together again; those that follow each other alone are one."""
    body: list[Shared] = []
    mine: list[Plain] = []
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
