"""plan-memory: when each temporary is alive.

    t0 written at 0, read at 2       t0: 0..2
    t1 written at 3              =>  t1: 3..4, may lie where t0 was

Statements between two barriers run at once, so lifetimes count barriers. Sizes may
be symbolic: the intervals are planned now, offsets are computed when sizes are
bound (`ir/program/memory.py`). Views live as long as the buffer they share.

Bodies count on from where they stand, both of a branch from the same level. A buffer
that a loop touches lives over the whole loop, as what a turn finds in it may be of the
turn before; unless nothing else touches it, and each turn writes all of it before it
reads any: then it lives within the turn. A buffer may lie over one that is read for
the last time where it is written first (`take_over.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from graphc.ir.dims import Size
from graphc.ir.program import (
    Barrier,
    If,
    Loop,
    Nest,
    Phase,
    Program,
    Region,
    Statement,
    Store,
    While,
)
from graphc.ir.program.memory import Lifetime, MemoryPlan
from graphc.ir.program.program import Body, flat, levels_in
from graphc.ir.scalar import Axis, Expr, Load, linear
from graphc.passes.registry import program_pass
from graphc.passes.take_over import taken_over


@program_pass("plan-memory")
def plan_memory(program: Program) -> Program:
    """Attach the lifetimes of all temporaries."""
    lives = _Lives(program)
    lives.body(program.body, 0)
    over = taken_over(program, lives.found)
    plan = MemoryPlan(
        tuple(Lifetime(n, a, b, over.get(n, "")) for n, (a, b) in lives.found.items())
    )
    return program if plan == program.plan else program.replace(plan=plan)


class _Lives:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.found: dict[str, tuple[int, int]] = {}  # by root: first and last level
        self.uses = self._uses(program.body)

    def body(self, body: Body, level: int) -> None:
        """Take up the statements of a body that begins at a level."""
        for s in body:
            if isinstance(s, Barrier):
                level += 1
                continue
            end = level + levels_in(s)
            if isinstance(s, (Loop, While)):
                self._turns(s, level, end)
            elif isinstance(s, If):
                self._live(self._touched(s), level, level)
                for inner in s.bodies:
                    self.body(inner, level)
            else:
                self._live(self._touched(s), level, level)
            level = end

    def _turns(self, s: Loop | While, level: int, end: int) -> None:
        turn = s.body if isinstance(s, Loop) else (*s.test, Barrier(), *s.body)
        self.body(turn, level)
        self._live(self._touched(s), level, end)
        carried = self._carried(turn, set())
        for root, uses in self._uses((s,)).items():
            if root in carried or uses < self.uses[root]:
                self._live([root], level, end)

    def _live(self, roots: Iterable[str], first: int, last: int) -> None:
        for root in roots:
            if self.program.buffers[root].space == "temp":
                a, b = self.found.get(root, (first, last))
                self.found[root] = (min(a, first), max(b, last))

    def _roots(self, names: Iterable[str]) -> list[str]:
        return list(dict.fromkeys(map(self.program.root, names)))

    def _touched(self, s: Statement) -> list[str]:
        """Return what a statement touches by itself, its bodies left out."""
        if isinstance(s, Loop):
            return self._roots([s.index])
        if isinstance(s, Region):
            return self._roots([s.condition])
        return self._roots((*s.reads, *s.writes))

    def _uses(self, body: Body) -> Counter[str]:
        return Counter(root for s in flat(body) for root in self._touched(s))

    # --- what a turn leaves to the next -----------------------------------------------

    def _carried(self, body: Body, written: set[str]) -> set[str]:
        """Return what a body reads before it has written all of it.

        written: what was written before; what the body writes is added.
        """
        found: set[str] = set()
        for s in body:
            if isinstance(s, If):
                found |= {self.program.root(s.condition)} - written
            if isinstance(s, While):
                found |= self._carried(s.test, written)
                found |= self._carried(s.body, set(written))
            elif isinstance(s, Region):
                for inner in s.bodies:
                    found |= self._carried(inner, written | set(self._touched(s)))
            else:
                found |= set(self._roots(s.reads)) - written
            written |= self._filled((s,), ())
        return found

    def _filled(self, body: Body, loops: tuple[Loop, ...]) -> set[str]:
        """Return what a body writes all of, in all turns of loops together."""
        found: set[str] = set()
        for s in body:
            if isinstance(s, Nest):
                found |= {
                    self.program.root(store.buffer)
                    for phase in s.phases
                    for store in phase.stores
                    if self._fills(s, phase, store, loops)
                }
            elif isinstance(s, Loop):
                found |= self._filled(s.body, (*loops, s))
            elif isinstance(s, If):
                then, otherwise = (self._filled(b, loops) for b in s.bodies)
                found |= then & otherwise
            elif isinstance(s, While):
                found |= self._filled(s.test, loops)
            elif all(_runs(loop) for loop in loops):
                found |= set(self._roots(s.writes))
        return found

    def _fills(
        self, nest: Nest, phase: Phase, store: Store, loops: tuple[Loop, ...]
    ) -> bool:
        """Whether a store writes each element of its buffer."""
        if store.accumulate:
            return False
        left = {a.name: a.extent for a in (*nest.axes, *phase.axes)}
        turns = {loop.index: loop.count for loop in loops}
        shape = self.program.buffers[store.buffer].shape
        for e, n in zip(store.index, shape, strict=True):
            if isinstance(e, Axis) and left.get(e.name) == n:
                del left[e.name]
                continue
            cell, step, start = _turn(e)
            whole = (step, start) in ((1, 0), (-1, n - 1))
            if whole and turns.get(cell) == n:
                del turns[cell]
                continue
            if n != 1:
                return False
        return all(_runs(loop) for loop in loops if loop.index in turns)


def _runs(loop: Loop) -> bool:
    return isinstance(loop.count, int) and loop.count > 0


def _turn(e: Expr) -> tuple[str, Size, Size]:
    """Return the cell that an index counts by, by which step, and from where."""
    form = linear(e)
    if form is not None and set(form.axes) <= {""} and len(form.uniform) == 1:
        ((cell, step),) = form.uniform.items()
        if isinstance(cell, Load) and not cell.args:
            return cell.buffer, step, form.axes.get("", 0)
    return "", 0, 0
