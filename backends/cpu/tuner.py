"""The tuner: measures what the model of the machine decides, nest by nest.

    for each nest of the program, for sizes:
        known on file                       =>  as it says there
        else, if it may measure:
            for each choice (choices.py)        far, vectors, points, copies_a, ...
                time its values in turns        the nest alone (trial.py)
                take the best, if clearly faster than the default
            time that against the default once more, longer
            keep it (choices_file.py)

A program that is tuned is one whose schedules say more; all else about it is the same.
A nest is timed alone, with what it reads in the caches if these hold it: what a choice
costs those that run next is not seen, so what only pays at their cost is no choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from graphc.backends.cpu.choices import (
    NAMES,
    Choices,
    Place,
    may_tune,
    scheduled,
)
from graphc.backends.cpu.choices_file import ChoicesFile, Entry
from graphc.backends.cpu.prelude import native
from graphc.backends.cpu.tile_forms import kept_operands
from graphc.backends.cpu.trial import Bind, Times, Trial
from graphc.backends.shared.tuning import Decision, Value
from graphc.ir.dims import Size, names
from graphc.ir.program import Nest, Program, Schedule
from graphc.ir.program.program import with_nests
from graphc.ir.program.text import nest_lines
from graphc.ir.scalar import SizeOf

# The share of the default's time that another choice must save, in the least and in
# the median of its samples: less may be the machine's.
MARGIN = 0.03
PATIENCE = 2.0  # of the last comparison, in those of each choice


class Tuner:
    """Decides for nests, once for each that is different.

    bind: compiles a program, and binds it to states and sizes. threads: the most that a
    step may use. measures: whether it may measure what is not on file.
    """

    def __init__(self, bind: Bind, threads: int, *, measures: bool) -> None:
        self.threads = threads
        self.measures = measures
        self._bind = bind
        self._file = ChoicesFile()
        self._known: dict[str, Decision] = {}

    def tuned(
        self, program: Program, sizes: Mapping[str, int]
    ) -> tuple[Program, list[Decision]]:
        """Return a program with what is chosen for sizes, and all decisions."""
        made: dict[int, Nest] = {}
        decisions: list[Decision] = []
        readers = {program.root(n) for task in program.tasks for n in task.reads}
        kept = kept_operands(program)
        for nest in filter(may_tune, program.nests):
            is_read = any(program.root(n) in readers for n in nest.writes)
            place = Place(nest, program, sizes, is_read, id(nest) in kept)
            found = self._decide(place)
            decisions.append(found)
            if found.chosen:
                made[id(nest)] = scheduled(nest, found.chosen)
        return with_nests(program, lambda nest: made.get(id(nest), nest)), decisions

    def _decide(self, place: Place) -> Decision:
        lines = described(place)
        key = native.content_key("choices", str(self.threads), *lines)
        if key not in self._known:
            entry = self._file.find(key)
            if entry is not None and not place.accepts(entry.chosen):
                self._file.ignore(key, f"its nest cannot run with {entry.chosen}")
                entry = None
            source = "default" if entry is None else "file"
            if entry is None and self.measures:
                entry, source = self._measured(place, lines), "measured"
                self._file.keep(key, entry)
            if entry is None:
                self._known[key] = Decision(lines[0], {}, source)
            else:
                both = entry.default.least, entry.tuned.least
                self._known[key] = Decision(lines[0], entry.chosen, source, *both)
        return self._known[key]

    def _measured(self, place: Place, lines: Sequence[str]) -> Entry:
        trial = Trial(place.nest, place.program, place.sizes, self._bind)
        default = _schedule(place, {})
        bound = trial.bound(default)
        ((_, _, words),) = bound.steps
        place = replace(place, words=words, threads=bound.team.nt)
        chosen: dict[str, Value] = {}
        tried: dict[str, Times] = {}
        for name in NAMES:
            first, *others = place.values(name, chosen) or (None,)
            if not others:
                continue
            schedules = [_schedule(place, {**chosen, name: v}) for v in others]
            before, *times = trial.times([_schedule(place, chosen), *schedules])
            texts = (f"{name}={v}" for v in (first, *others))
            tried.update(zip(texts, (before, *times), strict=True))
            best = min(range(len(times)), key=lambda i: times[i].least)
            if times[best].beats(before, MARGIN):
                chosen[name] = others[best]
        both = [default, _schedule(place, chosen)]
        before, after = trial.times(both, PATIENCE)
        if not after.beats(before, MARGIN):
            chosen, after = {}, before
        where = _processor()
        return Entry(tuple(lines), where, self.threads, chosen, before, after, tried)


def described(place: Place) -> list[str]:
    """Return what a nest's time depends on, as lines; its first line comes first."""
    nest, program = place.nest, place.program
    used = list(dict.fromkeys((*nest.reads, *nest.writes)))
    roots = list(dict.fromkeys(map(program.root, used)))
    short = {name: f"b{i}" for i, name in enumerate(used)}
    lines = nest_lines(nest.replace(summary=""), names=short)
    found: set[str] = set()
    for size in (*_sizes(nest), *(s for n in used for s in program.buffers[n].shape)):
        found |= names(size)
    for name in used:
        root = program.root(name)
        given = program.buffers[root].space in ("input", "output")
        where = "the caller's" if given else "aligned"
        kind = program.buffers[name].type
        lines.append(f"{short[name]}: {kind} in {roots.index(root)}, {where}")
    lines += ["it is read by others"] * place.is_read
    lines += ["its operand is kept over turns"] * place.is_kept
    return [*lines, *(f"{n} = {place.sizes[n]}" for n in sorted(found))]


def _sizes(nest: Nest) -> Iterator[Size]:
    """Yield the sizes that a nest depends on."""
    for axis in (*nest.axes, *(a for p in nest.phases for a in p.axes)):
        yield axis.extent
    for e in nest.exprs:
        if isinstance(e, SizeOf):
            yield e.size


def _schedule(place: Place, chosen: Choices) -> Schedule:
    found = scheduled(place.nest, chosen).schedule
    assert found is not None
    return found


def _processor() -> str:
    return f"{native.target().triple} {native.target().cpu}"
