"""A hash that names what a graph computes, the same in each process.

Equal for graphs that are equal up to origins: names of inputs and states, types, ops,
attributes, regions, updates, guards. Ops go in by name: whoever compares must know that
a name means the same op.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256

from graphc.errors import GraphcError
from graphc.ir.attributes import format_value
from graphc.ir.graph import Graph
from graphc.ir.nodes import Array, Key, Node, Tensor, local_key
from graphc.ir.op import attr_items
from graphc.ir.types import TensorType


def fingerprint(graph: Graph) -> str | None:
    """Return the hash of a graph; None if some attribute has no text form.

    Example:
        >>> import graphc
        >>> x, y = graphc.input("x", ("N",)), graphc.input("x", ("N",))
        >>> a, b = (graphc.Graph.build([t], [t + 1.0]) for t in (x, y))
        >>> fingerprint(a) == fingerprint(b)
        True
    """
    writer = _Writer()
    try:
        writer.graph(graph)
    except GraphcError:
        return None
    return sha256("\n".join(writer.lines).encode()).hexdigest()


class _Writer:
    """The lines that are hashed, and the number of each value so far."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.types: dict[TensorType, str] = {}
        self.known: dict[Key, str] = {}

    def graph(self, graph: Graph) -> None:
        numbers: dict[Tensor, int] = {}
        leaves = (*graph.inputs, *graph.states)
        self.lines.append(f"graph {format_value(graph.name)} {len(graph.inputs)}")
        for tensor in leaves:
            numbers[tensor] = len(numbers)
            self.lines.append(f"{self.node(tensor.node)}")
        self.nodes(graph.nodes, numbers)
        self.lines.append(f"return {[numbers[t] for t in graph.outputs]}")
        self.lines.append(
            f"update {[(numbers[s], numbers[t]) for s, t in graph.updates]}"
        )
        self.lines += [f"guard {g}" for g in graph.guards]

    def nodes(self, nodes: Iterable[Node], numbers: dict[Tensor, int]) -> None:
        """Write nodes in order, each by the numbers of what it reads."""
        for node in nodes:
            self.lines.append(f"{[numbers[t] for t in node.inputs]} {self.node(node)}")
            for region in node.regions:
                inner = {arg: i for i, arg in enumerate(region.args)}
                self.lines.append(f"region {[self.type(a.type) for a in region.args]}")
                self.nodes(region.nodes, inner)
                self.lines.append(f"yield {[inner[t] for t in region.outputs]}")
            for result in node.results:
                numbers[result] = len(numbers)

    def node(self, node: Node) -> str:
        """Return what a node is, but for its inputs and regions."""
        key = local_key(node)
        if key not in self.known:
            self.known[key] = self.text(node)
        return self.known[key]

    def text(self, node: Node) -> str:
        types = " ".join([self.type(t) for t in node.types])
        attrs = [f"{name}={_value(value)}" for name, value in attr_items(node.attrs)]
        return f"{node.op.name} {types} {attrs}" if attrs else f"{node.op.name} {types}"

    def type(self, type: TensorType) -> str:
        """Return the text of a type."""
        if type not in self.types:
            self.types[type] = str(type)
        return self.types[type]


def _value(value: object) -> str:
    """Return an attribute as text: an array by all its bits, however large it is."""
    if isinstance(value, Array):
        array = value.value
        return f"{array.dtype.str}{array.shape}{sha256(array.tobytes()).hexdigest()}"
    return format_value(value)
