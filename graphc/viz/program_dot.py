"""What is drawn of a program: its nests in levels between barriers, buffers as arrows.

What stands in one frame runs side by side; a barrier separates frames. Before barriers
are placed there are no frames, and nests stand below those they need. An arrow goes
from the last writer of a buffer to a reader; a state that a nest changes in place hangs
below it on an arrow with two heads. A leaf is drawn once for each row that reads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from graphc.backends.shared.costs import bytes_of, flops_of
from graphc.ir.dims import Size
from graphc.ir.origins import FORWARD, UPDATE
from graphc.ir.program import (
    Barrier,
    Call,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Region,
    Statement,
    Task,
    While,
)
from graphc.ir.program.hazards import dependencies
from graphc.ir.program.program import levels, levels_in
from graphc.ir.program.text import call_line, nest_lines
from graphc.viz.dot import picture_dot
from graphc.viz.labels import short
from graphc.viz.picture import PHASES, Arrow, Box, Frame, Path, Picture

_WIDEST = 6  # nests side by side; more are drawn in several rows
_LINKED = 20  # in a program of more nests, buffers from far above are named
_LONGEST = 40  # characters of a line of a nest
_FAR = 3  # rows: so far an arrow is drawn in such a program
_PLACES = 4  # of the user's lines in a tooltip

_UNITS = ("", "k", "M", "G", "T", "P")

_NOTES = {
    "both": "an arrow with two heads: changed in place",
    "saved": "a dotted box stands for a buffer that is written further up",
    "lives": "@ 0..2: in memory from level 0 to level 2",
    "alive": "bytes under a level: of the temporaries that are in memory then",
}

Sources = tuple[str, ...]  # the boxes that may have written a buffer last


def program_dot(program: Program) -> str:
    """Return the drawing of a program as dot text.

    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> program = graphc.compile([x], x * 2.0, backend="reference").program
        >>> print(program_dot(program).splitlines()[0])
        digraph "step" {
    """
    return picture_dot(program_picture(program), program.name)


def program_picture(program: Program) -> Picture:
    """Lay out what is to be drawn of a program."""
    return _Drawer(program).picture()


class _Drawer:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.large = len(program.nests) > _LINKED
        self.boxes: list[Box] = []
        self.rows: dict[int, list[str]] = {}
        self.place: dict[str, tuple[int, str]] = {}  # of a box: its row and phase
        self.leaves: dict[str, Box] = {}
        self.number = {name: i for i, name in enumerate(program.buffers)}
        self.links: dict[tuple[str, str], Arrow] = {}
        self.writers: dict[str, Sources] = {}
        self.reads: list[tuple[str, Sources, str]] = []
        self.labelled: set[str] = set()
        self.notes: set[str] = set()
        self.lives: dict[str, str] = {}
        if program.plan is not None:
            for life in program.plan.lifetimes:
                self.lives[life.buffer] = f"@ {life.first}..{life.last}"
        tensors = zip(program.states, program.state_tensors, strict=False)
        self.fixed = {s for s, t in tensors if not t.node.attrs.trainable}

    def picture(self) -> Picture:
        program = self.program
        end = self._body(program.body, (), 0, "level", 0)
        self._outputs(end)
        drawn = {b.tooltip for b in self.boxes}
        for name in (*program.inputs, *program.states):
            if self._tooltip(name) not in drawn and name not in self.writers:
                self._leaf(name, 0, FORWARD, ())
        notes = tuple(text for key, text in _NOTES.items() if key in self.notes)
        rows = tuple(tuple(row) for _, row in sorted(self.rows.items()))
        boxes, arrows = tuple(self.boxes), tuple(self.links.values())
        return Picture(self._title(), boxes, arrows, rows=rows, notes=notes)

    def _title(self) -> str:
        parts = [_count(len(self.program.nests), "nest")]
        barriers = levels(self.program.body)
        if barriers:
            parts.append(_count(barriers + 1, "level"))
        return f"{self.program.name}: {', '.join(parts)}"

    # --- statements -------------------------------------------------------------------

    def _body(
        self, body: Sequence[Statement], path: Path, row: int, key: str, level: int
    ) -> int:
        """Draw statements from a row and a level on; returns the row below them."""
        groups = _groups(body)
        for i, group in enumerate(groups):
            inner, here = path, level
            last = level + max(map(levels_in, group), default=0)
            if len(groups) > 1:
                label = f"level {level}" if last == level else f"levels {level}..{last}"
                label += self._alive(level, last) if not path else ""
                inner = (*path, Frame("level", f"{key}{i}", label, FORWARD))
            level = last + 1
            for tier in _tiers(self.program, group):
                for some in _chunks(tier):
                    row = max(self._statement(s, inner, row, here) for s in some)
        if not any(groups):
            row = self._box("quiet", ("nothing",), FORWARD, path, row)[1]
        return row

    def _statement(self, s: Statement, path: Path, row: int, level: int) -> int:
        if isinstance(s, Nest):
            phase = _phase(s, any(self._space(n) == "state" for n in s.writes))
            lines = self._nest_lines(s)
            return self._step(s, "nest", lines, phase, path, row, _tooltip(s))
        if isinstance(s, Call):
            phase = _phase(s, any(self._space(n) == "state" for n in s.writes))
            options = "".join(f"\n{k}={v}" for k, v in s.options)
            lines = (
                f"call {short(s.routine)}",
                f"store {', '.join(s.writes)}{options}",
            )
            return self._step(s, "nest", lines, phase, path, row, _tooltip(s))
        assert isinstance(s, Region)
        return self._region(s, path, row, level)

    def _step(
        self,
        s: Task,
        kind: str,
        lines: tuple[str, ...],
        phase: str,
        path: Path,
        row: int,
        tooltip: str,
    ) -> int:
        name, below = self._box(kind, lines, phase, path, row, tooltip)
        states = [n for n in s.writes if self._space(n) == "state"]
        changed = {self.program.root(n) for n in states if n in s.reads}
        for buffer in s.reads:
            root = self.program.root(buffer)
            if root not in changed or root in self.writers:
                self._read(buffer, name, path)
        for both in (True, False):
            some = [n for n in states if (self.program.root(n) in changed) is both]
            if some:
                self._update(some, name, path, both)
        for buffer in s.writes:
            self.writers[self.program.root(buffer)] = (name,)
        return below

    def _region(self, s: Region, path: Path, row: int, level: int) -> int:
        key = f"r{len(self.boxes)}"
        if isinstance(s, Loop):
            inside = (*path, Frame("region", key, "loop", FORWARD))
            lines = (f"{short(s.index)}: {s.count}",)
            name, row = self._box("loop", lines, FORWARD, inside, row)
            self.writers[self.program.root(s.index)] = (name,)
            before, first = dict(self.writers), len(self.reads)
            row = self._body(s.body, inside, row, key, level)
            self._next_turn(before, self.reads[first:])
            return row
        if isinstance(s, While):
            inside = (*path, Frame("region", key, "while", FORWARD))
            before, first = dict(self.writers), len(self.reads)
            row = self._body(s.test, inside, row, f"{key}test", level)
            lines = (short(s.condition),)
            name, row = self._box("branch", lines, FORWARD, inside, row)
            self._read(s.condition, name, inside)
            tested, level = dict(self.writers), level + levels(s.test) + 1
            turn = Frame("region", f"{key}do", "do", FORWARD)
            row = self._body(s.body, (*inside, turn), row, f"{key}do", level)
            self._next_turn(before, self.reads[first:])
            for root, writers in tested.items():
                both = (*writers, *self.writers[root])
                self.writers[root] = tuple(dict.fromkeys(both))
            return row
        inside = (*path, Frame("region", key, "if", FORWARD))
        name, row = self._box("branch", (short(s.condition),), FORWARD, inside, row)
        self._read(s.condition, name, inside)
        before = dict(self.writers)
        below = row
        after: dict[str, Sources] = {} if s.otherwise else dict(before)
        for label, body in (("then", s.then), ("else", s.otherwise)):
            if body or label == "then":
                self.writers = dict(before)
                branch = Frame("region", f"{key}{label}", label, FORWARD)
                end = self._body(body, (*inside, branch), row, f"{key}{label}", level)
                below = max(below, end)
                for root, writers in self.writers.items():
                    both = (*after.get(root, ()), *writers)
                    after[root] = tuple(dict.fromkeys(both))
        self.writers = after
        return below

    def _next_turn(
        self, before: Mapping[str, Sources], reads: Sequence[tuple[str, Sources, str]]
    ) -> None:
        """Link what a loop's body writes to what the next turn reads first."""
        for root, sources, reader in reads:
            for writer in self.writers.get(root, ()):
                known = (writer, reader) in self.links
                if (
                    sources == before.get(root, ())
                    and writer not in sources
                    and not known
                ):
                    _, phase = self.place[reader]
                    lines = (f"next {short(root)}",)
                    tip = self._tooltip(root)
                    arrow = Arrow(writer, reader, lines, phase, tooltip=tip, back=True)
                    self.links[writer, reader] = arrow

    def _box(
        self,
        kind: str,
        lines: tuple[str, ...],
        phase: str,
        path: Path,
        row: int,
        tooltip: str = "",
    ) -> tuple[str, int]:
        """Draw a box in a row; returns its id and the row below it."""
        name = f"s{len(self.place)}"
        self.boxes.append(Box(name, kind, lines, phase, path, tooltip))
        self.rows.setdefault(row, []).append(name)
        self.place[name] = (row, phase)
        return name, row + 1

    # --- buffers ----------------------------------------------------------------------

    def _read(self, buffer: str, reader: str, path: Path) -> None:
        root = self.program.root(buffer)
        row, phase = self.place[reader]
        sources = self.writers.get(root, ())
        self.reads.append((root, sources, reader))
        for source in sources:
            start, (above, other) = source, self.place[source]
            if self.large and row - above > _FAR:
                start = self._stand_in(root, source, row, path)
            self._link(start, reader, self._label(buffer, start), other)
        if not sources:
            start = self._leaf(root, row, phase, path)
            lines = (self._type(buffer),)
            if buffer != root:
                lines = (f"{short(buffer)}: {lines[0]}",)
            self._link(start, reader, lines, phase)

    def _link(
        self,
        source: str,
        target: str,
        lines: tuple[str, ...],
        phase: str,
        both: bool = False,
    ) -> None:
        """Draw an arrow, or write more buffers on the one that is there."""
        new = Arrow(source, target, lines, phase, both=both)
        old = self.links.get((source, target))
        if old is not None:
            new = replace(new, lines=tuple(dict.fromkeys((*old.lines, *lines))))
        self.links[source, target] = replace(new, tooltip="\n".join(new.lines))

    def _label(self, buffer: str, start: str) -> tuple[str, ...]:
        """Return a buffer's name, with its type and lifetime the first time."""
        if start not in self.place:
            return ()  # a stand-in has the name
        key = f"{start} {buffer}"
        if key in self.labelled:
            return (short(buffer),)
        self.labelled.add(key)
        life = self.lives.get(self.program.root(buffer), "")
        if life:
            self.notes.add("lives")
        text = f"{short(buffer)}: {self._type(buffer)}"
        return (f"{text} {life}".rstrip(),)

    def _leaf(self, root: str, row: int, phase: str, path: Path) -> str:
        """Draw a leaf for the readers in one row; returns its id."""
        frames = _regions(path)
        name = "_".join((f"l{self.number[root]}", str(row), *(f.key for f in frames)))
        if name not in self.leaves:
            space = self._space(root)
            kind = {"input": "input", "constant": "constant"}.get(space, "quiet")
            if space == "state":
                kind = "fixed-state" if root in self.fixed else "state"
            tip = self._tooltip(root)
            self.leaves[name] = Box(name, kind, (short(root),), phase, frames, tip)
            self.boxes.append(self.leaves[name])
        return name

    def _stand_in(self, root: str, source: str, row: int, path: Path) -> str:
        """Draw what stands for a buffer in a row far below its writer."""
        frames = _regions(path)
        where = (source, str(self.number[root]), str(row), *(f.key for f in frames))
        name = "_".join(where)
        if name not in self.leaves:
            self.notes.add("saved")
            lines = (f"{short(root)}: {self._type(root)}",)
            if root in self.lives:
                lines = (f"{lines[0]} {self.lives[root]}",)
            _, phase = self.place[source]
            tip = self._tooltip(root)
            self.leaves[name] = Box(name, "saved", lines, phase, frames, tip)
            self.boxes.append(self.leaves[name])
        return name

    def _update(
        self, states: Sequence[str], writer: str, path: Path, both: bool
    ) -> None:
        """Draw the states that a nest changes, in place or not, below it."""
        types = list(dict.fromkeys(map(self._type, states)))
        names = [short(s) for s in states]
        if len(types) > 1:
            names = [
                f"{n}: {self._type(s)}" for n, s in zip(names, states, strict=True)
            ]
        name = f"{writer}_{'in' if both else 'over'}"
        tip = "\n".join(map(self._tooltip, states))
        _, phase = self.place[writer]
        box = Box(name, "update", tuple(names), phase, _regions(path), tip)
        self.boxes.append(box)
        lines = tuple(types) if len(types) == 1 else ()
        if both:
            self.notes.add("both")
            lines = (*lines, "in place")
        self._link(writer, name, lines, phase, both=both)

    def _outputs(self, row: int) -> None:
        for i, buffer in enumerate(self.program.outputs):
            root = self.program.root(buffer)
            box = Box(f"o{i}", "output", (short(buffer),), FORWARD)
            self.boxes.append(replace(box, tooltip=self._tooltip(buffer)))
            sources = self.writers.get(root) or (self._leaf(root, row, FORWARD, ()),)
            for source in sources:
                phase = self.place[source][1] if source in self.place else FORWARD
                self._link(source, box.id, (self._type(buffer),), phase)

    def _space(self, buffer: str) -> str:
        return self.program.buffers[self.program.root(buffer)].space

    def _type(self, buffer: str) -> str:
        return short(str(self.program.buffers[buffer].type))

    def _tooltip(self, buffer: str) -> str:
        found = self.program.buffers[buffer]
        view = f" = {found.view_of}" if found.view_of else ""
        return f"{found.space} {buffer} : {found.type}{view}"

    def _alive(self, first: int, last: int) -> str:
        """Say how much memory the temporaries that live in some levels need."""
        if self.program.plan is None:
            return ""
        lives = self.program.plan.lifetimes
        alive = [
            x.buffer
            for x in lives
            if x.first + bool(x.over) <= last and first <= x.last
        ]
        total: Size = 0
        for name in alive:
            total = total + self.program.buffers[name].bytes
        if not alive:
            return ""
        self.notes.add("alive")
        return f"\n{amount(total)} bytes"

    # --- texts ------------------------------------------------------------------------

    def _nest_lines(self, nest: Nest) -> tuple[str, ...]:
        """Return the compartments of a nest: name, loops, schedule and costs."""
        loops = [f"for {_axes(nest.axes)}"] if nest.axes else []
        pad = "  " * bool(nest.axes)
        loops += [pad + line for p in nest.phases for line in _phase_lines(p)]
        last = []
        if nest.schedule is not None:
            s = nest.schedule
            rows = f"{s.rows} by " if s.rows else ""
            serial = "" if s.parallel else ", serial"
            last.append(f"{s.strategy} {rows}{s.axis or 'one'} x{s.lanes}{serial}")
        last.append(f"{amount(flops_of(nest))} flops")
        last.append(f"{amount(bytes_of(nest, self.program))} bytes")
        return short(nest.name), "\n".join(loops), "\n".join(last)


def amount(size: Size) -> str:
    """Return a count in short: in thousands, millions or billions.

    Example:
        >>> from graphc.ir.dims import dim
        >>> amount(1_310_720 * dim("N") + 512)
        '1.3M*N+512'
    """

    def shorter(match: re.Match[str]) -> str:
        number, power = float(match[0]), 0
        while number >= 999.5 and power < len(_UNITS) - 1:
            number, power = number / 1000, power + 1
        digits = f"{number:.2g}" if number < 9.95 else f"{number:.0f}"
        return digits + _UNITS[power]

    return re.sub(r"\b\d{4,}\b", shorter, str(size))


def _axes(axes: Iterable[LoopAxis]) -> str:
    return ", ".join(f"{a.name}: {a.extent}" for a in axes)


def _phase_lines(phase: Phase) -> Iterator[str]:
    """Say in short what a phase reduces and stores."""
    parts = [f"{r.name} = {r.monoid}" for r in phase.reduces]
    for verb, wanted in (("store", False), ("add to", True)):
        names = [short(s.buffer) for s in phase.stores if s.accumulate is wanted]
        if names:
            parts += [f"{verb} {names[0]}", *names[1:]]
    if phase.axes:
        parts[0] = f"for {_axes(phase.axes)} {{ {parts[0]}"
        parts[-1] += " }"
    line = ""
    for part in parts:
        if line and len(line) + len(part) > _LONGEST:
            yield line + ","
            line = "    " + part
        else:
            line = f"{line}, {part}" if line else part
    yield line


def _phase(task: Task, changes_state: bool) -> str:
    """Return the phase that most of a task's origins are of, the first of equals.

    One that changes a state is an update, whatever else it computes.
    """
    if changes_state:
        return UPDATE
    found = [origin.phase for origin in task.origins]
    return max(PHASES, key=found.count)


def _tooltip(task: Task) -> str:
    """Return the whole nest or call as text, and where it comes from."""
    if isinstance(task, Call):
        lines = [call_line(task)]
    else:
        lines = nest_lines(task.replace(summary=""))
    ops = (
        task.summary.split(" ", 1)[1] if task.summary.startswith("%") else task.summary
    )
    lines += [f"computes {ops}"] if ops else []
    places = list(dict.fromkeys(o.quoted for o in task.origins if o.place))
    lines += places[:_PLACES]
    if len(places) > _PLACES:
        lines.append(f"and {len(places) - _PLACES} more lines")
    return "\n".join(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


# --- arrangement --------------------------------------------------------------------


def _groups(body: Sequence[Statement]) -> list[list[Statement]]:
    """Return the statements between barriers."""
    groups: list[list[Statement]] = [[]]
    for s in body:
        if isinstance(s, Barrier):
            groups.append([])
        else:
            groups[-1].append(s)
    return groups


def _tiers(program: Program, body: Sequence[Statement]) -> list[list[Statement]]:
    """Return statements in rows, each below those that it must follow."""
    rows: list[int] = []
    for needs in dependencies(program, body):
        rows.append(1 + max((rows[j] for j in needs), default=-1))
    tiers: list[list[Statement]] = [[] for _ in range(max(rows, default=-1) + 1)]
    for row, s in zip(rows, body, strict=True):
        tiers[row].append(s)
    return tiers


def _chunks(tier: Sequence[Statement]) -> Iterator[Sequence[Statement]]:
    """Split a row that would be too wide into rows of about the same length."""
    rows = -(-len(tier) // _WIDEST)
    size = -(-len(tier) // max(rows, 1))
    for start in range(0, len(tier), max(size, 1)):
        yield tier[start : start + size]


def _regions(path: Path) -> Path:
    """Return the frames that a leaf stands in: to the innermost region, no level."""
    last = max((i for i, f in enumerate(path) if f.kind == "region"), default=-1)
    return path[: last + 1]
