"""The Graph: a closed set of nodes with inputs, states, outputs and updates.

A Graph is a value: passes return new ones. Making one from declared tensors merges
equal nodes (value numbering) and collects origins and guards.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from graphc.errors import DuplicateNameError, InputError, UpdateError
from graphc.ir.dims import Dim, Size, balance, evaluate, names, prove_le
from graphc.ir.leaves import ARG, is_input, is_state
from graphc.ir.nodes import Node, Tensor, leaf_name, local_key, topological
from graphc.ir.op import NO_ATTRS, Op, attr_items
from graphc.ir.origins import UNKNOWN, Origin, fixed

if TYPE_CHECKING:
    from os import PathLike

    import networkx


@dataclass(frozen=True, slots=True)
class Guard:
    """An inequality between sizes that holds whenever the graph runs."""

    larger: Size
    smaller: Size
    origin: Origin

    def __str__(self) -> str:
        return f"{self.larger} >= {self.smaller}"


Update = tuple[Tensor, Tensor]


class Graph:
    """Inputs, states and nodes that compute `(outputs; state <- value, ...)`.

    origins: a side table, node -> Origin; nodes not in it have their birth.
    """

    def __init__(
        self,
        name: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        updates: Sequence[Update] = (),
        *,
        origins: Mapping[Node, Origin] | None = None,
        guards: Sequence[Guard] = (),
        states: Sequence[Tensor] = (),
    ) -> None:
        self.name = name
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.updates = tuple(updates)
        self.guards = tuple(guards)
        everything = topological(self.roots)
        self.nodes: tuple[Node, ...] = tuple(n for n in everything if not n.op.leaf)
        self._table = dict(origins or {})
        reached = {n for n in everything if is_state(n.results[0])}
        kept = [s for s in states if s.node in reached or s in self._updated]
        known = {s.node for s in kept}
        fresh = [n.results[0] for n in everything if n in reached and n not in known]
        known |= reached
        fresh += [s for s, _ in self.updates if s.node not in known]
        self.states: tuple[Tensor, ...] = (*kept, *fresh)

    # --- making -------------------------------------------------------------------

    @staticmethod
    def build(
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        updates: Sequence[Update] = (),
        name: str = "graph",
    ) -> Graph:
        """Make a graph from declared tensors: check, merge equal nodes, keep guards.

        Raises:  DuplicateNameError, UpdateError, InputError; each names the lines.
        """
        _check_updates(updates)
        raw = Graph(name, inputs, outputs, updates)
        _check_names(raw)
        _check_closed(raw)
        return merge_equal(raw.replace(guards=_guards(raw.nodes)))

    def replace(
        self,
        *,
        outputs: Sequence[Tensor] | None = None,
        updates: Sequence[Update] | None = None,
        origins: Mapping[Node, Origin] | None = None,
        guards: Sequence[Guard] | None = None,
        name: str | None = None,
    ) -> Graph:
        """Return the graph with some parts replaced; the rest is kept."""
        if outputs is None and updates is None:  # its nodes are the same
            same = copy.copy(self)
            same.name = self.name if name is None else name
            same.guards = self.guards if guards is None else tuple(guards)
            same._table = self._table if origins is None else dict(origins)
            same.__dict__.pop("key", None)
            return same
        return Graph(
            self.name if name is None else name,
            self.inputs,
            self.outputs if outputs is None else outputs,
            self.updates if updates is None else updates,
            origins=self._table if origins is None else origins,
            guards=self.guards if guards is None else guards,
            states=self.states,
        )

    def transform(
        self, change: Callable[[Node, tuple[Tensor, ...]], Sequence[Tensor] | None]
    ) -> Graph:
        """Rebuild the graph node by node; the same object if nothing changed.

        `change(node, inputs)` gets each node in order with its new inputs and
        returns the new results, or None to keep the op. Nodes that it makes bear
        the origin of the node they stand for.
        """
        new: dict[Tensor, Tensor] = {}
        with fixed(UNKNOWN) as place:
            for node in self.nodes:
                inputs = node.inputs
                if not new.keys().isdisjoint(inputs):
                    inputs = tuple([new.get(t, t) for t in inputs])
                place.origin = self._table.get(node, node.birth)
                results = change(node, inputs)
                if results is None:
                    results = with_inputs(node, inputs).results
                if results is not node.results:
                    pairs = zip(node.results, results, strict=True)
                    new.update((old, made) for old, made in pairs if made is not old)
        if not new:
            return self
        return self.replace(
            outputs=[new.get(t, t) for t in self.outputs],
            updates=[(s, new.get(t, t)) for s, t in self.updates],
            origins={
                node: self._table[node]
                for node in self.nodes
                if node in self._table and not new.keys() >= set(node.results)
            },
        )

    # --- looking ------------------------------------------------------------------

    @property
    def roots(self) -> tuple[Tensor, ...]:
        """Everything that the graph computes for: outputs, then updates."""
        return (*self.outputs, *(value for _, value in self.updates))

    @cached_property
    def _updated(self) -> frozenset[Tensor]:
        return frozenset(s for s, _ in self.updates)

    def origin(self, node: Node) -> Origin:
        """Return where a node comes from."""
        return self._table.get(node, node.birth)

    @property
    def origins(self) -> dict[Node, Origin]:
        """The table of origins, for every node."""
        return {node: self.origin(node) for node in self.nodes}

    @cached_property
    def users(self) -> dict[Tensor, list[Node]]:
        """For each tensor the nodes that read it, in order, once each."""
        found: dict[Tensor, list[Node]] = {}
        for node in self.nodes:
            for tensor in dict.fromkeys(node.inputs):
                found.setdefault(tensor, []).append(node)
        return found

    @property
    def dims(self) -> tuple[str, ...]:
        """The names of the symbolic dimensions, those in regions too, sorted."""
        found: set[str] = set()
        types = {t.type for t in self.inputs}
        for node in all_nodes(self.nodes):
            types.update(node.types)
            if node.attrs is not NO_ATTRS:
                for _, value in attr_items(node.attrs):
                    found |= sizes_named(value)
        found |= sizes_named(tuple(type.shape for type in types))
        for guard in self.guards:
            found |= names(guard.larger) | names(guard.smaller)
        return tuple(sorted(found))

    def count(self, op: Op | str) -> int:
        """Return how many nodes apply an op, regions included."""
        name = op if isinstance(op, str) else op.name
        return sum(node.op.name == name for node in all_nodes(self.nodes))

    @cached_property
    def key(self) -> tuple[Any, ...]:
        """A value that is equal for graphs that are the same up to origins."""
        numbers: dict[Tensor, int] = {}
        for tensor in (*self.inputs, *self.states):
            numbers[tensor] = len(numbers)
        rows = []
        for node in self.nodes:
            rows.append((local_key(node), tuple(numbers[t] for t in node.inputs)))
            for result in node.results:
                numbers[result] = len(numbers)
        return (
            tuple((leaf_name(t), t.type) for t in self.inputs),
            tuple(s.node.attrs for s in self.states),
            tuple(rows),
            tuple(numbers[t] for t in self.outputs),
            tuple((numbers[s], numbers[t]) for s, t in self.updates),
            tuple((g.larger, g.smaller) for g in self.guards),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.key == other.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"<Graph {self.name!r}: {len(self.nodes)} nodes>"

    def text(self) -> str:
        """Return the graph as text; `graphc.parse` reads it back."""
        from graphc.ir.printer import graph_text

        return graph_text(self)

    def __str__(self) -> str:
        return self.text()

    def networkx(self) -> networkx.MultiDiGraph[str]:
        """Return the graph for NetworkX's algorithms; see `graphc.ir.network`."""
        from graphc.ir.network import to_networkx

        return to_networkx(self)

    # Drawing lives above the IR; viz fills these in when graphc is imported.
    _dot: Callable[[Graph], str] | None = None
    _draw: Callable[[Graph, Any], Any] | None = None
    _svg: Callable[[Graph], str] | None = None

    def dot(self) -> str:
        """Return the drawing as text in Graphviz's dot language."""
        assert Graph._dot is not None
        return Graph._dot(self)

    def draw(self, path: str | PathLike[str]) -> Any:
        """Draw the graph into a file: .svg, .png, .pdf or .dot; returns its path."""
        assert Graph._draw is not None
        return Graph._draw(self, path)

    def _repr_svg_(self) -> str:
        assert Graph._svg is not None
        return Graph._svg(self)


def sizes_named(value: Any) -> frozenset[str]:
    """Return the names in the sizes of a shape, or of the value of an attribute.

    Example:
        >>> from graphc.ir.dims import dim
        >>> sorted(sizes_named((3, dim("N") + 1)))
        ['N']
    """
    if isinstance(value, Dim):
        return names(value)
    if isinstance(value, tuple):
        return frozenset().union(*map(sizes_named, value))
    return frozenset()


def all_nodes(nodes: Iterable[Node]) -> Iterator[Node]:
    """Return nodes, each followed by those in its regions."""
    stack = [iter(nodes)]
    while stack:
        for node in stack[-1]:
            yield node
            if node.regions:
                inside = [n for region in node.regions for n in region.nodes]
                stack.append(iter(inside))
                break
        else:
            stack.pop()


def with_inputs(node: Node, inputs: Sequence[Tensor]) -> Node:
    """Return the node applied to other inputs; itself if they are the same."""
    if inputs is node.inputs or all(map(operator.is_, node.inputs, inputs)):
        return node
    return cloned(node, inputs)


def cloned(node: Node, inputs: Sequence[Tensor], birth: Origin | None = None) -> Node:
    """Return a new node that applies the same op to other inputs."""
    made = Node(node.op, inputs, node.attrs, node.types, node.regions, birth)
    made._key = node._key
    return made


def merge_equal(graph: Graph) -> Graph:
    """Merge equal nodes (value numbering); origins of merged nodes are merged too.

    Inputs and states are told apart by identity, so they never merge.
    """
    seen: dict[Any, Node] = {}
    table: dict[Node, Origin] = dict(graph._table)

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        key = (local_key(node), *map(id, inputs))
        found = seen.get(key)
        if found is None:
            seen[key] = made = with_inputs(node, inputs)
            table[made] = graph.origin(node)
            return made.results
        table[found] = table.get(found, found.birth).merged(graph.origin(node))
        return found.results

    merged = graph.transform(change)
    if merged is graph:
        return graph
    kept = set(merged.nodes)
    return merged.replace(origins={n: o for n, o in table.items() if n in kept})


# --- checks of a declaration --------------------------------------------------------


def _check_closed(graph: Graph) -> None:
    """Check that no value of a body is used outside of it."""
    nodes = reversed(graph.nodes)
    users = {t: n for n in nodes for t in n.inputs if t.node.op is ARG}
    for arg, user in users.items():
        raise InputError(
            "the outputs depend on a value that is there only within the body of a "
            f"loop, a branch or vmap: {arg.type}",
            details=[f"used by {user.op.name} at {user.birth.quoted}"],
            help="return what is needed from the body, and use what scan, cond or vmap "
            "returns",
        )


def _check_names(graph: Graph) -> None:
    by_name: dict[str, Tensor] = {}
    for tensor in (*graph.inputs, *graph.states):
        name = leaf_name(tensor)
        other = by_name.setdefault(name, tensor)
        if other is not tensor:
            kinds = [t.node.op.name for t in (other, tensor)]
            raise DuplicateNameError(
                f"the name {name!r} is used twice in one compiled function",
                details=[
                    f"{kind} {name} : {t.type}  declared at {t.node.birth.place}"
                    for kind, t in zip(kinds, (other, tensor), strict=True)
                ],
                help="give one of them another name",
            )
    given = set(graph.inputs)
    missing = [
        n.results[0]
        for n in topological(graph.roots)
        if is_input(n.results[0]) and n.results[0] not in given
    ]
    if missing:
        raise InputError(
            "the outputs depend on inputs that are not in the list of inputs: "
            + ", ".join(leaf_name(t) for t in missing),
            details=[
                f"{leaf_name(t)} : {t.type}  declared at {t.node.birth.place}"
                for t in missing
            ],
            help="add them to the first argument of graphc.compile",
        )


def _check_updates(updates: Sequence[Update]) -> None:
    seen: dict[Tensor, Tensor] = {}
    for state, value in updates:
        if not is_state(state):
            raise UpdateError(
                f"only parameters and states can be updated, not {state!r}",
                help="make it with graphc.parameter",
            )
        name = leaf_name(state)
        if state.type != value.type:
            raise UpdateError(
                f"the update of {name!r} does not fit: it is {value.type}, "
                f"the state is {state.type}",
                details=[f"{name} declared at {state.node.birth.place}"],
                where=value.node.birth.quoted,
                help="cast or reshape the new value",
            )
        other = seen.setdefault(state, value)
        if other is not value:
            raise UpdateError(
                f"the state {name!r} has two different updates",
                details=[
                    f"first : {other.node.birth.quoted}",
                    f"second: {value.node.birth.quoted}",
                ],
                help="a step can write a state once; combine the two",
            )


def _guards(nodes: Iterable[Node]) -> list[Guard]:
    """Return what nodes need of sizes, those in regions too.

    A body may run no time and a branch not be taken; what they need must hold all the
    same, so that the same sizes are refused whatever the values are.
    """
    found: dict[tuple[Size, Size], Guard] = {}
    for node in all_nodes(nodes):
        if node.op.guards is None:
            continue
        types = tuple(t.type for t in node.inputs)
        for pair in node.op.guards(types, node.attrs):
            larger, smaller = balance(*pair)
            if prove_le(smaller, larger) is not True:
                found.setdefault((larger, smaller), Guard(larger, smaller, node.birth))
    return list(found.values())


def broken_guards(guards: Iterable[Guard], sizes: Mapping[str, int]) -> list[Guard]:
    """Return the guards that do not hold for these sizes."""
    return [g for g in guards if evaluate(g.larger, sizes) < evaluate(g.smaller, sizes)]
