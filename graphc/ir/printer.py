"""A graph as text: the grammar is in grammar.md, the way back in parser.py.

Values are numbered in the order of the nodes; regions number theirs anew, with a pair
of letters for each depth: `%a0` an argument and `%b0` a value, then `%c0` and `%d0`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from graphc.ir.attributes import format_value, spoken_value
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Region, Tensor, leaf_name
from graphc.ir.op import attr_items
from graphc.ir.origin_text import origin_text
from graphc.ir.origins import Origin
from graphc.ir.scanner import bare_or_quoted, quote

Names = dict[Tensor, str]
Row = tuple[str, str]  # a line, and the origin that ends it

WIDTH = 88  # columns of a signature or a return that stands on one line
COLUMN = 60  # of the furthest origin that the others are put under

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")


def graph_text(graph: Graph) -> str:
    """Return a graph as text, which `parse` reads back as an equal graph.

    Raises:  GraphcError for an attribute that has no text form.
    """
    names = value_names(graph)
    rows: list[Row] = [(line, "") for line in _signature(graph)]
    for guard in graph.guards:
        line = f"  require {guard.larger} >= {guard.smaller}"
        rows.append((line, origin_text(guard.origin)))
    for node in graph.nodes:
        rows += _node_rows(node, names, graph.origin(node), 0)
    rows += [(line, "") for line in _return(graph, names)]
    rows.append(("}", ""))
    return _aligned(rows)


def _aligned(rows: Sequence[Row]) -> str:
    widths = [len(line) for line, origin in rows if origin and len(line) <= COLUMN]
    column = max(widths, default=0)
    lines = [f"{line:<{column}}  {o}" if o else line for line, o in rows]
    return "\n".join(lines)


# --- names --------------------------------------------------------------------------


def value_names(graph: Graph) -> Names:
    """Return the name of every value of a graph: `%x` of a leaf, `%0` of a result."""
    names = {t: f"%{bare_or_quoted(leaf_name(t))}" for t in graph.inputs}
    names |= {t: f"%{bare_or_quoted(leaf_name(t))}" for t in graph.states}
    return _numbered(names, graph.nodes, "")


def region_names(region: Region, depth: int = 0) -> Names:
    """Return the names of a region's values: `%a0` of arguments, `%b0` of results."""
    letter, times = chr(ord("a") + 2 * (depth % 13)), 1 + depth // 13
    names = {arg: f"%{letter * times}{i}" for i, arg in enumerate(region.args)}
    return _numbered(names, region.nodes, chr(ord(letter) + 1) * times)


def _numbered(names: Names, nodes: Iterable[Node], prefix: str) -> Names:
    results = (result for node in nodes for result in node.results)
    for i, result in enumerate(results):
        names[result] = f"%{prefix}{i}"
    return names


def name_of(tensor: Tensor, names: Names) -> str:
    """Return a value's name; `%?` and what it is, if it has none."""
    return names.get(tensor) or f"%?{leaf_name(tensor) or tensor.node.op.name}"


# --- the parts ----------------------------------------------------------------------


def _signature(graph: Graph) -> list[str]:
    name = bare_or_quoted(graph.name)
    types = ", ".join(str(t.type) for t in graph.outputs)
    inputs = [_leaf(t) for t in graph.inputs]
    states = [_leaf(t) for t in graph.states]
    mark = "; " if inputs and states else ";" * bool(states) + " " * bool(states)
    flat = f"{', '.join(inputs)}{mark}{', '.join(states)}"
    line = f"graph {name}({flat}) -> ({types}) {{"
    if len(line) <= WIDTH or not (inputs or states):
        return [line]
    ends = [","] * (len(inputs) + len(states))
    ends[-1] = ""
    if states and inputs:
        ends[len(inputs) - 1] = ";"
    first = f"graph {name}(" + (";" if states and not inputs else "")
    leaves = [f"    {item}{e}" for item, e in zip(inputs + states, ends, strict=True)]
    return [first, *leaves, f") -> ({types}) {{"]


def _leaf(tensor: Tensor) -> str:
    frozen = "" if getattr(tensor.node.attrs, "trainable", True) else " frozen"
    return f"%{bare_or_quoted(leaf_name(tensor))}: {tensor.type}{frozen}"


def _return(graph: Graph, names: Names) -> list[str]:
    outputs = ", ".join(name_of(t, names) for t in graph.outputs)
    start = f"  return {outputs}".rstrip()
    updates = [f"{name_of(s, names)} <- {name_of(t, names)}" for s, t in graph.updates]
    if not updates:
        return [start]
    line = f"{start}; update {', '.join(updates)}"
    if len(line) <= WIDTH:
        return [line]
    rest = [f"{' ' * 11}{u}" for u in updates]
    rest[0] = f"    update {updates[0]}"
    return [f"{start};", *(f"{line}," for line in rest[:-1]), rest[-1]]


def node_text(node: Node, names: Names) -> str:
    """Return a node on one line, its regions left out, for messages."""
    return _head(node, names, spoken_value) + " { ... }" * bool(node.regions)


def _head(
    node: Node, names: Names, form: Callable[[object], str] = format_value
) -> str:
    results = ", ".join(f"{name_of(r, names)}: {r.type}" for r in node.results)
    op = node.op.name
    call = op if _WORD.fullmatch(op) else quote(op)
    operands = ", ".join(name_of(t, names) for t in node.inputs)
    pairs = [f"{name}={form(value)}" for name, value in attr_items(node.attrs)]
    attrs = f" {{{', '.join(pairs)}}}" if pairs else ""
    return f"{results} = {call}({operands}){attrs}"


def _node_rows(node: Node, names: Names, origin: Origin, depth: int) -> list[Row]:
    indent = "  " * (depth + 1)
    line = indent + _head(node, names)
    rows: list[Row] = []
    for region in node.regions:
        rows.append((line + " {", ""))
        own = region_names(region, depth)
        args = ", ".join(f"{own[a]}: {a.type}" for a in region.args)
        rows.append((f"{indent}  ({args}):", ""))
        for inner in region.nodes:
            rows += _node_rows(inner, own, inner.birth, depth + 1)
        outputs = ", ".join(name_of(t, own) for t in region.outputs)
        rows.append((f"{indent}  yield {outputs}".rstrip(), ""))
        line = f"{indent}}}"
    return [*rows, (line, origin_text(origin))]
