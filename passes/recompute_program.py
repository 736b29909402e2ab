"""The program that does again what a choice says.

t0 = ... x      (nobody reads t0 between the two)      t0 = ... x
t1 = ... t0                                      =>    t1 = ... t0
t2 = ... t1, t0                                        t0.again = ... x
                                                       t2 = ... t1, t0.again
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from graphc.ir.program import Buffer, Call, If, Loop, Nest, Program, Statement, While
from graphc.ir.program.program import within
from graphc.ir.program.text import renamed
from graphc.passes.place_barriers import place_barriers
from graphc.passes.plan_memory import plan_memory
from graphc.passes.recompute_choice import Choice
from graphc.passes.recompute_steps import Steps, only


class Rewriter:
    """Writes programs for one choice after another; what is equal is made once."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.buffers, self.names = _copies(steps.program, steps.makers.keys())
        self._done: dict[tuple[int, frozenset[str], frozenset[str]], Statement] = {}

    def program(self, choice: Choice) -> Program:
        """Return the program with its barriers and its memory plan."""
        steps = self.steps
        made = frozenset[str]().union(*choice.again.values())
        unread = self._unread(choice, made)
        before: dict[int, list[Statement]] = {}
        for i, wanted in sorted(choice.again.items()):
            before.setdefault(choice.place[i], []).append(self._copy(i, wanted, made))
        stands = {i: self._stands(i, unread, made) for i in range(len(steps.body))}
        for i, at in sorted(choice.later.items()):
            before.setdefault(at, []).extend(stands.pop(i))
        body: list[Statement] = []
        for i in range(len(steps.body)):
            body += (*before.get(i, ()), *stands.get(i, ()))
        old = steps.program
        root = old.root
        buffers = {n: b for n, b in old.buffers.items() if root(n) not in unread}
        copied = (self.names[root(n)][n] for n in old.buffers if root(n) in made)
        buffers |= {n: self.buffers[n] for n in copied}
        program = old.replace(buffers=buffers, body=tuple(body), plan=None)
        planned: Program = plan_memory(place_barriers(program))
        return planned

    def _stands(
        self, i: int, unread: frozenset[str], made: frozenset[str]
    ) -> list[Statement]:
        """Return what stands for a statement: nothing if nobody reads what it makes."""
        own = self.steps.writes[i]
        if own and unread.issuperset(own):
            return []
        return [self._left(i, unread) if i < self.steps.turn else self._late(i, made)]

    def _unread(self, choice: Choice, made: frozenset[str]) -> frozenset[str]:
        """Return what nobody reads any more where it is made first."""
        steps = self.steps
        unread: set[str] = set()
        for i in sorted(choice.again, reverse=True):
            found = {
                r
                for r in made.intersection(steps.writes[i])
                if all(
                    unread.issuperset(steps.writes[k])
                    for k in steps.readers[r]
                    if k < steps.turn
                )
            }
            if not found.issuperset(steps.writes[i]):
                found -= set(steps.beside(i))
            unread |= found
        return frozenset(unread)

    def _copy(self, i: int, wanted: frozenset[str], made: frozenset[str]) -> Statement:
        """Return a statement that makes again what is wanted, of what is there then."""
        key = i, wanted, made.intersection((*self.steps.needs[i], *wanted))
        if key not in self._done:
            part = only(self.steps.body[i], self.steps.program, wanted)
            assert isinstance(part, (Nest, Call))
            origins = tuple(o.made_by("recompute") for o in part.origins)
            part = part.replace(origins=origins, summary=f"{part.summary} again")
            self._done[key] = _renamed(part, self._of(key[2]))
        return self._done[key]

    def _left(self, i: int, unread: frozenset[str]) -> Statement:
        """Return a statement without the stores that nobody reads."""
        own = self.steps.writes[i]
        if unread.isdisjoint(own):
            return self.steps.body[i]
        key = i, frozenset(own) - unread, frozenset[str]()
        if key not in self._done:
            self._done[key] = only(self.steps.body[i], self.steps.program, key[1])
        return self._done[key]

    def _late(self, i: int, made: frozenset[str]) -> Statement:
        """Return a statement that reads what was made again."""
        key = i, frozenset[str](), made.intersection(self.steps.reads[i])
        if not key[2]:
            return self.steps.body[i]
        if key not in self._done:
            self._done[key] = _renamed(self.steps.body[i], self._of(key[2]))
        return self._done[key]

    def _of(self, roots: frozenset[str]) -> dict[str, str]:
        """Return the names of the copies of buffers, and of their views."""
        return {n: new for r in roots for n, new in self.names[r].items()}


def _copies(
    program: Program, roots: Collection[str]
) -> tuple[dict[str, Buffer], dict[str, dict[str, str]]]:
    """Return buffers for what may be made again and for views of it.

    The second result has their names, by root and by the name of the first one.
    """
    names: dict[str, dict[str, str]] = {}
    buffers: dict[str, Buffer] = {}
    for name, buffer in program.buffers.items():
        root = program.root(name)
        if root in roots:
            new = f"{name}.again"
            while new in program.buffers:
                new += "'"
            of = names[root][buffer.view_of] if buffer.view_of else ""
            names.setdefault(root, {})[name] = new
            buffers[new] = replace(buffer, name=new, view_of=of)
    return buffers, names


def _renamed(s: Statement, names: Mapping[str, str]) -> Statement:
    """Return a statement with other names for its buffers, inside of it too."""
    if isinstance(s, Nest):
        return renamed(s, names)
    if isinstance(s, Call):
        reads, writes = (tuple(names.get(n, n) for n in g) for g in (s.reads, s.writes))
        return s.replace(reads=reads, writes=writes)
    s = within(s, lambda body: tuple(_renamed(inner, names) for inner in body))
    if isinstance(s, Loop):
        return replace(s, index=names.get(s.index, s.index))
    if isinstance(s, (If, While)):
        return replace(s, condition=names.get(s.condition, s.condition))
    return s
