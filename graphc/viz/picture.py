"""What is drawn of a graph: boxes, arrows and frames, before any syntax.

A picture is smaller than its graph. Fused groups and custom gradients become frames
around the ops of their region; so do loops and branches, whose node stands at the end
of its frame and reads what a turn yields. Numbers (`full`, `dim` and what only reshapes
them) are written into the op that uses them, `mul(·, 0.1)`. Ops that only reshape,
convert or broadcast one value for one user become text on the arrow. A leaf is drawn
once for each phase that reads it, so that no arrow has to cross the whole picture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from graphc.ir.graph import Graph
from graphc.ir.leaves import INPUT, STATE
from graphc.ir.nodes import Node, Region, Tensor, leaf_name
from graphc.ir.origins import BACKWARD, FORWARD, UPDATE, Origin
from graphc.ir.printer import Names, region_names, value_names
from graphc.viz.labels import attributes_text, node_tooltip, short, value_text
from graphc.viz.regions import Layout, layout_of

PHASES = (FORWARD, BACKWARD, UPDATE)

_EXPANDED = ("fused", "custom_gradient")  # `interpret the region`: drawn as a frame
_QUIET = ("broadcast_to", "cast", "reshape", "stop_gradient", "transpose")
_LINKED = 60  # in a graph of more nodes, saved values are named instead of linked
_SAVED_NOTE = "a dotted box with a number stands for the box of that number"
_WIDE = 2  # a value with more users has its type on the first arrow only


@dataclass(frozen=True, slots=True)
class Frame:
    """A box around others: a layer in one phase, or a group; nested by path."""

    kind: str  # "layer", "card" or "group"; in programs "level" or "region"
    key: str
    label: str
    phase: str
    tooltip: str = ""


Path = tuple[Frame, ...]
Stack = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Box:
    """Something drawn.

    kind: op, quiet, number, constant, input, state, fixed-state, output, update, loop
    and branch, which own regions, port, an argument of a loop's region, or saved, which
    stands for another box in another phase. Programs have nest, whose lines are
    compartments.
    """

    id: str
    kind: str
    lines: tuple[str, ...]
    phase: str = FORWARD
    path: Path = ()
    tooltip: str = ""


@dataclass(frozen=True, slots=True)
class Arrow:
    """A value on its way from one box to another."""

    source: str
    target: str
    lines: tuple[str, ...] = ()
    phase: str = FORWARD
    crosses: bool = False  # it leaves its phase, as a saved activation does
    main: bool = False  # from op to op within a phase: to be drawn straight
    rows: int = 1  # how far below its source the target is to stand
    operand: int = 0  # its place among several, from 1, where the order matters
    tooltip: str = ""
    both: bool = False  # the target is changed in place
    back: bool = False  # upwards: into the next turn of a loop


@dataclass(frozen=True, slots=True)
class Picture:
    """Boxes and arrows, in drawing order, under a title."""

    title: str
    boxes: tuple[Box, ...]
    arrows: tuple[Arrow, ...]
    stacked: Stack = ()  # boxes to be drawn above others
    rows: tuple[tuple[str, ...], ...] = ()  # boxes side by side, from top to bottom
    notes: tuple[str, ...] = ()  # more lines under the title

    @property
    def phases(self) -> tuple[str, ...]:
        """The phases that occur."""
        found = {b.phase for b in self.boxes if b.kind in ("op", "quiet", "nest")}
        return tuple(p for p in PHASES if p in found)


def graph_picture(graph: Graph) -> Picture:
    """Lay out what is to be drawn of a graph.

    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> picture = graph_picture(Graph.build([x], [x * 2.0]))
        >>> [box.lines for box in picture.boxes]
        [('mul(·, 2.0)',), ('x',), ('output',)]
    """
    return _Drawer(graph).picture()


# --- regions opened -----------------------------------------------------------------


@dataclass(eq=False, slots=True)
class _Step:
    """A node in its place: with regions opened, one node may stand in several."""

    id: str
    node: Node
    inputs: list[_Value]
    origin: Origin
    path: Path
    users: list[_Step | None] = field(default_factory=list)  # None: a sink
    port: str = ""  # the text of an argument that has a box
    ends: Layout | None = None  # of the node of a loop or a branch

    @property
    def leaf(self) -> bool:
        """Whether it is an input or a state of the graph."""
        return self.node.op.leaf and not self.port


_Value = tuple[_Step, int]


class _Drawer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.steps: list[_Step] = []
        self.boxes: list[Box] = []
        self.arrows: list[Arrow] = []
        self.leaves: dict[str, Box] = {}
        self.saved: set[str] = set()  # steps that other boxes stand for
        self.names: dict[_Value, str] = {}  # the numbers that they have in the text
        self.labelled: set[tuple[str, _Step, int]] = set()  # types already shown
        self.values: dict[Tensor, _Value] = {}
        self.turning: set[str] = set()  # keys of the frames whose inside runs often
        self.carried: dict[_Step, list[_Step]] = {}  # into the next turn of a loop

    def picture(self) -> Picture:
        for i, leaf in enumerate((*self.graph.inputs, *self.graph.states)):
            step = _Step(f"l{i}", leaf.node, [], self.graph.origin(leaf.node), ())
            self.values[leaf] = (step, 0)
        self._open(self.graph.nodes, self.values, None, value_names(self.graph))
        sinks = [self.values[t] for t in self.graph.roots]
        for step in self.steps:
            for source, _ in step.inputs:
                source.users.append(step)
        for source, _ in sinks:
            source.users.append(None)
        self._deal_cards(sinks)
        for step in self.steps:
            if _number((step, 0)) is None and not _folded(step):
                self._box(step)
        self._sinks(sinks)
        for leaf in (*self.graph.inputs, *self.graph.states):
            if not self.values[leaf][0].users:
                self._leaf(self.values[leaf][0], FORWARD)
        saved = {s.id: s for s in self.steps if s.id in self.saved}
        boxes = tuple(
            self._numbered(b, saved[b.id]) if b.id in saved else b for b in self.boxes
        )
        arrows = _below(boxes, self.arrows)
        notes = (_SAVED_NOTE,) if saved else ()
        stacked = _stacked(boxes, arrows)
        return Picture(self._title(), boxes, arrows, stacked, notes=notes)

    def _numbered(self, box: Box, step: _Step) -> Box:
        first, *rest = box.lines
        numbers = ", ".join(self.names[step, r.index] for r in step.node.results)
        return replace(box, lines=(f"{numbers} {first}", *rest))

    def _title(self) -> str:
        count = len(self.graph.nodes)
        return f"{self.graph.name}: {count} node{'s' * (count != 1)}"

    def _open(
        self,
        nodes: Iterable[Node],
        values: dict[Tensor, _Value],
        within: _Step | None,
        names: Names,
        depth: int = 0,
        phase: str = "",
    ) -> None:
        """Enter nodes as steps, those of opened regions in the region's place.

        A value has its number in the text: of a region's results that of the region.
        What is in a loop or a branch is of its phase, wherever it was declared.
        """
        prefix = f"{within.id}_" if within else "n"
        for i, node in enumerate(nodes):
            origin = self.graph.origin(node)
            origin = replace(origin, phase=phase or origin.phase)
            path = within.path if within else _layers(origin)
            inputs = [values[t] for t in node.inputs]
            step = _Step(f"{prefix}{i}", node, inputs, origin, path)
            if node.op.name in _EXPANDED:
                region = node.regions[0]
                step.path = (*path, _group(step))
                inner = dict(zip(region.args, inputs, strict=True))
                own = _inner_names(node, region, names, depth)
                self._open(region.nodes, inner, step, own, depth + 1, phase)
                for result, output in zip(node.results, region.outputs, strict=True):
                    values[result] = inner[output]
                    self.names[inner[output]] = names[result]
            else:
                step.ends = layout_of(node)
                if step.ends is not None:
                    self._regions(step, step.ends, names, depth)
                self.steps.append(step)
                for result in node.results:
                    values[result] = (step, result.index)
                    self.names[step, result.index] = names[result]

    def _regions(self, step: _Step, ends: Layout, names: Names, depth: int) -> None:
        """Enter what is in a loop or a branch, and make the step read its ends."""
        node, phase, outside = step.node, step.origin.phase, step.path
        step.path = (*outside, replace(_group(step), label=ends.label))
        if ends.turning:
            self.turning.add(step.id)
        count = len(node.regions[0].args)
        first = len(step.inputs) - count
        given, step.inputs = step.inputs[first:], step.inputs[:first]
        for i, text in ends.ports.items():
            arg = node.regions[0].args[i].node
            name = f"{step.id}_in{i}"
            port = _Step(name, arg, [given[i]], step.origin, step.path, port=text)
            self.steps.append(port)
            given[i] = (port, 0)
        self.carried[step] = [given[i][0] for i in range(ends.carries)]
        for k, (region, label) in enumerate(
            zip(node.regions, ends.frames, strict=True)
        ):
            within = _Step(f"{step.id}_{k}", node, [], step.origin, step.path)
            if label:
                frame = Frame("group", within.id, label, phase)
                within.path = (*step.path, frame)
            inner = dict(zip(region.args, given, strict=True))
            own = _inner_names(node, region, names, depth)
            self._open(region.nodes, inner, within, own, depth + 1, phase)
            step.inputs += [inner[t] for t in region.outputs]

    def _deal_cards(self, sinks: list[_Value]) -> None:
        """Frame the ops that update one parameter, with what only they share.

        Two such ops share a frame if one feeds the other; scalars, such as a step
        count, feed all and join none.
        """
        parent: dict[_Step, _Step] = {}

        def find(step: _Step) -> _Step:
            while parent.setdefault(step, step) is not step:
                step = parent[step]
            return step

        mixed = {_outer(s) for s in self.steps if s.origin.phase != UPDATE} - {None}
        members: dict[Frame, _Step] = {}
        updates = [
            s for s in self.steps if s.origin.phase == UPDATE and _outer(s) not in mixed
        ]
        for step in updates:
            group = _outer(step)
            if group:
                parent[find(step)] = find(members.setdefault(group, step))
            for source, index in step.inputs:
                scalar = not source.node.results[index].ndim
                if source in parent and not scalar and _number((source, index)) is None:
                    parent[find(step)] = find(source)
            find(step)
        names: dict[_Step, list[str]] = {}
        values = sinks[len(self.graph.outputs) :]
        for (state, _), (source, _) in zip(self.graph.updates, values, strict=True):
            if source in parent:
                known = names.setdefault(find(source), [])
                at = 0 if state.node.attrs.trainable else len(known)
                known.insert(at, leaf_name(state))
        for step in updates:
            root = find(step)
            if root in names:
                label = f"{short(names[root][0])} · update"
                if root.origin.scope:
                    label = f"{short(root.origin.scope[0])}: {label}"
                groups = [f for f in step.path if f.kind == "group"]
                step.path = (Frame("card", root.id, label, UPDATE), *groups)

    def _card_of(self, value: _Value) -> Path:
        """Return the frame that a new value of a state belongs into."""
        while _folded(value[0]):
            value = value[0].inputs[0]
        path = value[0].path if value[0].origin.phase == UPDATE else ()
        return tuple(f for f in path if f.kind != "group")

    # --- boxes ------------------------------------------------------------------------

    def _box(self, step: _Step) -> None:
        if step.ends is not None or step.port:
            self._end(step)
            return
        kind = "op"
        if step.node.op.name == "constant":
            kind = "constant"
        elif step.node.op.name in _QUIET:
            kind = "quiet"
        tooltip = node_tooltip(step.node, step.origin)
        box = Box(step.id, kind, _lines(step), step.origin.phase, step.path, tooltip)
        self.boxes.append(box)
        drawn = [v for v in step.inputs if _number(v) is None]
        ordered = len(drawn) > 1 and not step.node.op.commutative
        for i, value in enumerate(drawn):
            operand = i + 1 if ordered else 0
            self._arrow(value, step.id, step.origin.phase, step.path, operand)

    def _end(self, step: _Step) -> None:
        """Draw the argument of a loop, or the node of a loop or a branch."""
        ends, phase = step.ends, step.origin.phase
        kind = "port" if ends is None else "loop" if ends.turning else "branch"
        lines = (step.port,) if ends is None else ends.lines
        tooltip = node_tooltip(step.node, step.origin)
        self.boxes.append(Box(step.id, kind, lines, phase, step.path, tooltip))
        notes = [""] if ends is None else ends.notes
        path = step.path[:-1] if ends is None else step.path
        for value, note in zip(step.inputs, notes, strict=True):
            self._arrow(value, step.id, phase, path, note=note)
        self.arrows += [
            Arrow(step.id, port.id, phase=phase, back=True, tooltip="next turn")
            for port in self.carried.get(step, ())
        ]

    def _sinks(self, sinks: list[_Value]) -> None:
        outputs = self.graph.outputs
        for i, (tensor, value) in enumerate(zip(self.graph.roots, sinks, strict=True)):
            if i < len(outputs):
                name = "output" if len(outputs) == 1 else f"output {i}"
                label = tensor.node.birth.label or leaf_name(tensor)
                lines = (name, short(label)) if label else (name,)
                box = Box(f"o{i}", "output", lines, FORWARD, (), str(tensor.type))
            else:
                state = self.graph.updates[i - len(outputs)][0]
                lines = (short(leaf_name(state)), "next value")
                text = f"{leaf_name(state)} : {state.type} after the step"
                path = self._card_of(value)
                box = Box(f"u{i}", "update", lines, UPDATE, path, text)
            self.boxes.append(box)
            self._arrow(value, box.id, box.phase)

    def _leaf(self, step: _Step, phase: str) -> str:
        """Draw a leaf for one phase, once; returns its id."""
        phases = [p for p in PHASES if p in {u.origin.phase for u in step.users if u}]
        name = step.id if phases[:1] in ([], [phase]) else f"{step.id}_{phase}"
        if name not in self.leaves:
            attrs = step.node.attrs
            kind = "input" if step.node.op is INPUT else "state"
            if step.node.op is STATE and not attrs.trainable:
                kind = "fixed-state"
            tooltip = f"{kind} {attrs.name} : {step.node.types[0]}"
            if step.origin.place:
                tooltip += f"\ndeclared at {step.origin.quoted}"
            users = [u.path for u in step.users if u and u.origin.phase == phase]
            lines = (short(attrs.name),)
            box = Box(name, kind, lines, phase, _common(users), tooltip)
            self.leaves[name] = box
            self.boxes.append(box)
        return name

    def _saved(self, value: _Value, path: Path) -> str:
        """Draw what stands for a forward value in a frame, once; returns its id."""
        step, index = value
        path = tuple(f for f in path if f.kind != "group")
        start = f"{step.id}_{index}" if index else step.id
        name = "_".join((start, "in", *(f.key for f in path)))
        if name not in self.leaves:
            lines = (f"{self.names[value]} {step.node.op.name}",)
            tooltip = node_tooltip(step.node, step.origin)
            self.leaves[name] = Box(
                name, "saved", lines, step.origin.phase, path, tooltip
            )
            self.boxes.append(self.leaves[name])
            self.saved.add(step.id)
        return name

    # --- arrows -----------------------------------------------------------------------

    def _arrow(
        self,
        value: _Value,
        target: str,
        phase: str,
        path: Path = (),
        operand: int = 0,
        note: str = "",
    ) -> None:
        via: list[str] = []
        tip = [str(value[0].node.types[value[1]])]
        end = value
        while _folded(value[0]):
            via.append(_quiet_text(value[0].node))
            tip.append(node_tooltip(value[0].node, value[0].origin))
            value = value[0].inputs[0]
        number = _number(value)
        source = value[0]
        crosses = False
        if not note and self._captured(source, path) and number is None:
            note = "captured"
        if source.leaf:
            start = self._leaf(source, phase)
        elif number is not None:
            start = f"{target}_{len(self.boxes)}"
            self.boxes.append(Box(start, "number", (number,), phase, path))
        else:
            start = source.id
            crosses = source.origin.phase != phase
            if crosses and len(self.graph.nodes) > _LINKED:
                start, crosses = self._saved(value, path), False
        label = self._type_label(end, start)
        lines = (*((note,) if note else ()), *reversed(via), *label)
        main = start == source.id and not crosses and not source.leaf
        tooltip = "\n".join(tip)
        self.arrows.append(
            Arrow(start, target, lines, phase, crosses, main, 1, operand, tooltip)
        )

    def _captured(self, source: _Step, path: Path) -> bool:
        """Whether an arrow enters a loop, past its ports."""
        around = {f.key for f in source.path}
        return any(f.key in self.turning and f.key not in around for f in path)

    def _type_label(self, value: _Value, start: str) -> tuple[str, ...]:
        step, index = value
        seen = (start, *value) in self.labelled
        self.labelled.add((start, *value))
        if seen and len(step.users) > _WIDE and not step.leaf:
            return ()
        text = short(str(step.node.types[index]))
        return (f"#{index}: {text}" if len(step.node.types) > 1 else text,)


# --- folding ------------------------------------------------------------------------


def _number(value: _Value) -> str | None:
    """Return a value as the text of a number, if that is all it is."""
    node = value[0].node
    if node.op.name == "full":
        return value_text(node.attrs.value)
    if node.op.name == "dim":
        return short(str(node.attrs.size))
    if node.op.name in _QUIET:
        return _number(value[0].inputs[0])
    return None


def _folded(step: _Step) -> bool:
    """Whether a step is text on an arrow."""
    return step.node.op.name in _QUIET and len(step.users) == 1


def _quiet_text(node: Node) -> str:
    name = node.op.name
    return f"{name} {attributes_text(node)}" if node.inputs[0].ndim > 2 else name


# --- texts --------------------------------------------------------------------------


def _lines(step: _Step) -> tuple[str, ...]:
    """Return the lines in a step's box: its call, its attributes, its name."""
    numbers = [_number(v) for v in step.inputs]
    name = step.node.op.name
    if any(n is not None for n in numbers):
        name += f"({', '.join('·' if n is None else n for n in numbers)})"
    lines = [name]
    attributes = attributes_text(step.node)
    if attributes:
        lines.append(attributes)
    if step.node.regions:
        lines.append(f"{sum(len(r.nodes) for r in step.node.regions)} ops inside")
    if step.origin.label:
        lines.append(f"“{step.origin.label}”")
    return tuple(short(line) for line in lines)


# --- arrangement --------------------------------------------------------------------


def _stacked(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> Stack:
    """Put cards that nothing links to the rest below each other.

    Side by side they would make the picture very wide; so many go into one column
    as are as deep as the rest of the picture.
    """
    cards: dict[Frame, list[Box]] = {}
    for box in boxes:
        if box.path and box.path[0].kind == "card":
            cards.setdefault(box.path[0], []).append(box)
    home = {b.id: b.path[0] if b.path else None for b in boxes}
    linked = {
        home[i]
        for a in arrows
        for i in (a.source, a.target)
        if home[a.source] != home[a.target]
    }
    loose = [boxes for card, boxes in cards.items() if card not in linked]
    depth = _depths(arrows)
    rest = max(
        (depth.get(b.id, 0) for b in boxes if home[b.id] not in cards), default=0
    )
    found: list[tuple[str, str]] = []
    column: list[Box] = []
    used = 0
    for card in loose:
        height = max(depth.get(b.id, 0) for b in card) + 2
        if column and used + height <= rest + 2:
            bottom = max(column, key=lambda b: depth.get(b.id, 0))
            tops = [b for b in card if not depth.get(b.id, 0)]
            found += [(bottom.id, top.id) for top in tops]
            used += height
        else:
            used = height
        column = card
    return tuple(found)


def _below(boxes: Sequence[Box], arrows: Sequence[Arrow]) -> tuple[Arrow, ...]:
    """Put a frame wholly below the one it reads from, so that it need not evade it."""
    home = {b.id: b.path[:1] for b in boxes}
    inside = _depths([a for a in arrows if home[a.source] == home[a.target]])
    return tuple(
        replace(a, rows=1 + inside.get(a.target, 0))
        if a.main and home[a.target] and home[a.source] != home[a.target]
        else a
        for a in arrows
    )


def _depths(arrows: Sequence[Arrow]) -> dict[str, int]:
    """Return for each box the number of rows on the longest way to it."""
    depth: dict[str, int] = {}
    into: dict[str, list[Arrow]] = {}
    arrows = [a for a in arrows if not a.back]
    for arrow in arrows:
        into.setdefault(arrow.target, []).append(arrow)
    for arrow in arrows:  # a box's arrows come after those of what it reads
        depth[arrow.target] = max(
            depth.get(a.source, 0) + a.rows for a in into[arrow.target]
        )
    return depth


# --- frames -------------------------------------------------------------------------


def _layers(origin: Origin) -> Path:
    frames = []
    for depth, name in enumerate(origin.scope):
        suffix = "" if depth or origin.phase == FORWARD else f" · {origin.phase}"
        key = "/".join((origin.phase, *origin.scope[: depth + 1]))
        frames.append(Frame("layer", key, short(name) + suffix, origin.phase))
    return tuple(frames)


def _outer(step: _Step) -> Frame | None:
    """Return the outermost group that a step stands in."""
    return next((f for f in step.path if f.kind == "group"), None)


def _common(paths: Sequence[Path]) -> Path:
    """Return the innermost frame around all paths; no group, for leaves stay out."""
    shared: list[Frame] = []
    for frames in zip(*paths, strict=False):
        if any(f != frames[0] for f in frames) or frames[0].kind == "group":
            break
        shared.append(frames[0])
    return tuple(shared)


def _inner_names(node: Node, region: Region, names: Names, depth: int) -> Names:
    """Return the names of a region's values, that of the node before them."""
    first = names[node.results[0]]
    return {t: f"{first}.{n[1:]}" for t, n in region_names(region, depth).items()}


def _group(step: _Step) -> Frame:
    name, origin = step.node.op.name, step.origin
    label = f"{name}: {short(origin.label)}" if origin.label else name
    tooltip = node_tooltip(step.node, origin)
    return Frame("group", step.id, label, origin.phase, tooltip)
