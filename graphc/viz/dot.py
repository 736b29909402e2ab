"""A graph, or any picture, as text in Graphviz's dot language.

The text is a function of the graph alone, so it can be compared and kept. It uses
what every build of Graphviz has: plain labels, no HTML, one font. Forward, backward
and update parts differ by colour (Okabe and Ito's palette, which colour-blind people
can tell apart) and by line: solid, dashed, bold.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from graphc.ir.graph import Graph
from graphc.ir.origins import BACKWARD, FORWARD, UPDATE
from graphc.viz.picture import PHASES, Arrow, Box, Frame, Path, Picture, graph_picture

FONT = "Courier"  # one of three fonts whose widths Graphviz knows without font files

_INK = "#24292f"
_GREY = "#6e7781"
_LINE = {FORWARD: "#0072b2", BACKWARD: "#c2570c", UPDATE: "#00815f"}
_FILL = {FORWARD: "#e3f0f9", BACKWARD: "#fdeadd", UPDATE: "#dff3ec"}
_BACK = {FORWARD: "#f6fafd", BACKWARD: "#fefaf6", UPDATE: "#f5fbf9"}
_LIGHT = {"line": "#d0d7de", "fill": "#fafbfc"}
_STYLE = {FORWARD: "solid", BACKWARD: "dashed", UPDATE: "bold"}

_LOOKS = {FORWARD: "blue, solid", BACKWARD: "orange, dashed", UPDATE: "green, bold"}

_SHAPES = {
    "op": {"shape": "box", "style": "filled,rounded"},
    "quiet": {"shape": "plain", "fontsize": "8"},
    "number": {"shape": "plain", "fontsize": "9"},
    "constant": {"shape": "note", "style": "filled", "fillcolor": "#f6f8fa"},
    "input": {"shape": "ellipse", "style": "filled", "fillcolor": "#fff8c5"},
    "state": {"shape": "cylinder", "style": "filled", "fillcolor": "#efe8fb"},
    "fixed-state": {
        "shape": "cylinder",
        "style": "filled,dashed",
        "fillcolor": "white",
    },
    "saved": {"shape": "box", "style": "filled,dotted", "fontsize": "9"},
    "output": {"shape": "ellipse", "peripheries": "2", "fillcolor": "#fff8c5"},
    "update": {"shape": "cylinder", "style": "filled,bold", "fillcolor": "#efe8fb"},
    "nest": {"shape": "record", "style": "filled,rounded"},
    "port": {"shape": "box", "style": "filled", "fillcolor": "white", "fontsize": "9"},
    "loop": {"shape": "hexagon", "style": "filled", "fillcolor": "white"},
    "branch": {"shape": "diamond", "style": "filled", "fillcolor": "white"},
}

_HEADER = f"""\
  graph [rankdir=TB, fontname="{FONT}", fontsize=10, fontcolor="{_INK}",
         labelloc=t, labeljust=l, nodesep=0.18, ranksep=0.28, pad=0.2,
         newrank=true, outputorder=edgesfirst, tooltip=" "]
  node [fontname="{FONT}", fontsize=10, fontcolor="{_INK}", color="{_GREY}",
        penwidth=1, margin="0.09,0.045", width=0.3, height=0.28]
  edge [fontname="{FONT}", fontsize=8, fontcolor="{_GREY}", color="{_GREY}",
        penwidth=0.8, arrowsize=0.5]
"""


def graph_dot(graph: Graph) -> str:
    """Return the drawing of a graph as dot text.

    Example:
        >>> import graphc
        >>> x = graphc.input("x", (3,))
        >>> print(graph_dot(Graph.build([x], [x * 2.0])).splitlines()[0])
        digraph "graph" {
    """
    return picture_dot(graph_picture(graph), graph.name)


def picture_dot(picture: Picture, name: str) -> str:
    """Return a picture as dot text."""
    lines = [
        f"digraph {quote(name)} {{",
        _HEADER.rstrip(),
        f"  label={_legend(picture)}",
    ]
    lines += _frames(picture.boxes, (), "  ")
    lines += [_arrow(a) for a in picture.arrows]
    lines += [
        f"  {quote(a)} -> {quote(b)} [style=invis, weight=0]"
        for a, b in picture.stacked
    ]
    lines += _rows(picture)
    return "\n".join((*lines, "}", ""))


def quote(text: str) -> str:
    """Return any text as a dot string that shows exactly this text."""
    return '"' + _escape(text).replace("\n", "\\n") + '"'


def record(compartments: Iterable[str]) -> str:
    """Return texts as the label of a record: one below the other, lines to the left.

    Example:
        >>> print(record(["sum", "for k0: 4 { r0 }"]))
        "{sum\\l|for\\ k0:\\ 4\\ \\{\\ r0\\ \\}\\l}"
    """
    cells = []
    for text in compartments:
        lines = (re.sub(r"[{}|<> ]", r"\\\g<0>", _escape(x)) for x in text.split("\n"))
        cells.append("".join(f"{line}\\l" for line in lines))
    return '"{' + "|".join(cells) + '}"'


def _escape(text: str) -> str:
    safe = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return safe.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')


def _attributes(items: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={quote(value)}" for key, value in items.items())


# --- boxes and frames ---------------------------------------------------------------


def _frames(boxes: Iterable[Box], path: Path, indent: str) -> Iterator[str]:
    """Write the boxes under a path, the frames below it as nested clusters."""
    depth = len(path)
    inner: dict[Frame, list[Box]] = {}
    for box in boxes:
        if len(box.path) > depth:
            inner.setdefault(box.path[depth], []).append(box)
        else:
            yield indent + _box(box)
    for frame, inside in sorted(inner.items(), key=_phase_order):
        yield f"{indent}subgraph {quote(f'cluster_{frame.kind}_{frame.key}')} {{"
        yield f"{indent}  graph [{_attributes(_frame(frame))}]"
        yield from _frames(inside, (*path, frame), indent + "  ")
        yield f"{indent}}}"


def _phase_order(item: tuple[Frame, list[Box]]) -> int:
    return PHASES.index(item[0].phase)


def _frame(frame: Frame) -> dict[str, str]:
    if frame.kind == "level":
        return {
            "label": frame.label,
            "tooltip": frame.tooltip or frame.label,
            "style": "filled,rounded",
            "color": _LIGHT["line"],
            "fillcolor": _LIGHT["fill"],
            "fontcolor": _GREY,
            "fontsize": "9",
            "margin": "8",
        }
    group = frame.kind in ("group", "region")
    return {
        "label": frame.label,
        "tooltip": frame.tooltip or frame.label,
        "style": "filled" if group else "filled,rounded",
        "color": _INK if group else _LINE[frame.phase],
        "fillcolor": "white" if group else _BACK[frame.phase],
        "fontcolor": _INK if group else _LINE[frame.phase],
        "fontsize": "9",
        "penwidth": "1.4" if group else "0.6",
        "margin": "6",
    }


def _box(box: Box) -> str:
    look = {"label": "\n".join(box.lines), "tooltip": box.tooltip or " "}
    look |= _SHAPES[box.kind]
    if box.kind in ("op", "nest"):
        look["style"] += f",{_STYLE[box.phase]}"
        look |= {"color": _LINE[box.phase], "fillcolor": _FILL[box.phase]}
    elif box.kind == "saved":
        look |= {"color": _LINE[box.phase], "fillcolor": _BACK[box.phase]}
    elif box.kind == "quiet":
        look["fontcolor"] = _LINE[box.phase]
    if box.kind == "nest":
        del look["label"]
        label = record(box.lines)
        return f"{quote(box.id)} [label={label}, {_attributes(look)}]"
    return f"{quote(box.id)} [{_attributes(look)}]"


def _arrow(arrow: Arrow) -> str:
    look = {"color": _LINE[arrow.phase], "tooltip": arrow.tooltip}
    if arrow.lines:
        look |= {
            "label": "\n".join(f" {line} " for line in arrow.lines),
            "labeltooltip": arrow.tooltip,
        }
    if arrow.operand:
        look |= {"headlabel": str(arrow.operand), "labeldistance": "1.1"}
    look["weight"] = "0" if arrow.crosses else "4" if arrow.main else "1"
    if arrow.rows > 1:
        look["minlen"] = str(arrow.rows)
    look["style"] = "dotted" if arrow.crosses else _STYLE[arrow.phase]
    if arrow.both:
        look["dir"] = "both"
    if arrow.back:
        look |= {"constraint": "false", "style": "dashed"}
    return f"  {quote(arrow.source)} -> {quote(arrow.target)} [{_attributes(look)}]"


def _rows(picture: Picture) -> Iterator[str]:
    """Put boxes side by side, each row below the one before; leaves fit between."""
    for row in picture.rows:
        yield f"  {{rank=same; {'; '.join(map(quote, row))}}}"
    for above, below in pairwise(picture.rows):
        look = "style=invis, weight=0, minlen=2"
        yield f"  {quote(above[0])} -> {quote(below[0])} [{look}]"


def _legend(picture: Picture) -> str:
    """Return the title and, if there are several phases, what tells them apart."""
    lines = [picture.title]
    phases = picture.phases
    if len(phases) > 1:
        lines.append("   ".join(f"{p}: {_LOOKS[p]}" for p in phases))
    lines += picture.notes
    return '"' + "".join(_escape(line) + "\\l" for line in lines) + '"'
