"""The program that does again what a choice says.

t0 = ... x      (nobody reads t0 between the two)      t0 = ... x
t1 = ... t0                                      =>    t1 = ... t0
t2 = ... t1, t0                                        t0.again = ... x
                                                       t2 = ... t1, t0.again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace

from graphc.ir.program import (
    Buffer,
    Call,
    If,
    Loop,
    Nest,
    Phase,
    Program,
    Statement,
    Task,
    While,
)
from graphc.ir.program.program import within
from graphc.ir.program.text import renamed
from graphc.ir.scalar import Ref, walk
from graphc.passes.place_barriers import place_barriers
from graphc.passes.plan_memory import plan_memory
from graphc.passes.recompute_choice import Choice
from graphc.passes.recompute_steps import Steps

Body = tuple[Statement, ...]


def rewritten(steps: Steps, choice: Choice) -> Program:
    """Return the program with its barriers and its memory plan."""
    old = steps.program
    made = frozenset().union(*choice.again.values())
    buffers, names = _copies(old, made)
    inserted: dict[int, list[Statement]] = {}
    for i in sorted(choice.again):
        copy = _only(steps.body[i], old, choice.again[i])
        assert isinstance(copy, Task)
        origins = tuple(o.made_by("recompute") for o in copy.origins)
        copy = copy.replace(origins=origins, summary=f"{copy.summary} again")
        inserted.setdefault(choice.place[i], []).append(_renamed(copy, names))
    for i in sorted(choice.later):
        inserted.setdefault(choice.later[i], []).append(steps.body[i])
    body: list[Statement] = []
    for i, statement in enumerate(steps.body):
        body += inserted.get(i, ())
        if i in choice.later:
            continue
        late = i >= steps.turn and not made.isdisjoint(steps.reads[i])
        body.append(_renamed(statement, names) if late else statement)
    program = old.replace(buffers=buffers, body=tuple(body), plan=None)
    program = _without_unread(program, made)
    return plan_memory(place_barriers(program))


def _copies(
    program: Program, made: AbstractSet[str]
) -> tuple[dict[str, Buffer], dict[str, str]]:
    """Return the buffers with another for each that is made again, and its views."""
    names: dict[str, str] = {}
    buffers = dict(program.buffers)
    for name, buffer in program.buffers.items():
        if program.root(name) in made:
            new = f"{name}.again"
            while new in buffers:
                new += "'"
            names[name] = new
            of = names[buffer.view_of] if buffer.view_of else ""
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


def _only(s: Statement, program: Program, wanted: AbstractSet[str]) -> Statement:
    """Return a statement that stores only to some buffers; a call stores to all."""
    if not isinstance(s, Nest):
        return s
    phases: list[Phase] = []
    used: set[str] = set()
    for phase in reversed(s.phases):
        stores = tuple(x for x in phase.stores if program.root(x.buffer) in wanted)
        reduces = tuple(r for r in phase.reduces if r.name in used)
        if stores or reduces:
            phases.append(replace(phase, reduces=reduces, stores=stores))
            used |= {e.name for e in walk(*phases[-1].roots) if isinstance(e, Ref)}
    return s.replace(phases=tuple(reversed(phases)))


def _without_unread(program: Program, made: AbstractSet[str]) -> Program:
    """Return the program without stores that nobody reads any more."""
    read: set[str] = set()
    body: list[Statement] = []
    for s in reversed(program.body):
        own = _roots(program, s.writes)
        reads = _roots(program, s.reads)
        dead = (own & made) - read - reads
        if dead and dead == own:
            continue
        if dead:
            s = _only(s, program, own - dead)
        read |= _roots(program, s.reads)
        body.append(s)
    body.reverse()
    touched = _roots(program, (n for s in body for n in (*s.reads, *s.writes)))
    buffers = {
        name: b
        for name, b in program.buffers.items()
        if b.space != "temp" or program.root(name) in touched
    }
    return program.replace(body=tuple(body), buffers=buffers)


def _roots(program: Program, names: Iterable[str]) -> set[str]:
    return set(map(program.root, names))
