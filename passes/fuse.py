"""fuse: ops that one loop nest can do become one node.

    %0 = matmul(%x, %w)             %3 = fused(%x, %w, %b) {
    %1 = broadcast_to(%b)             (%a0, %a1, %a2): %b0 = matmul(%a0, %a1)
    %2 = add(%0, %1)        =>        %b1 = broadcast_to(%a2) ...
    %3 = relu(%2)                     yield %b3 }

Elementwise ops join each other, the reductions that read them and the contractions
whose results they read, one contraction to a group; a softmax becomes one group. The
test is the lowering itself: a group is legal when it lowers to one nest. Ops that only
move elements (`broadcast_to`, `transpose`, `full`, slices) are repeated in every group
that reads them, and so is elementwise work where that moves fewer bytes than to store
its result (`repeating.py`). What a contraction reads many times is computed before it.
Nothing else is computed twice, and what several groups read is stored once.

Preserves every value bit for bit on `reference`; on a backend the order of the
operations stays, only the memory between them goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from graphc.ir.graph import Graph, cloned
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, local_key
from graphc.ir.op import Pointwise, Reduction, View
from graphc.ir.origins import fixed
from graphc.ops.regions import FUSED
from graphc.passes.grouping import Between, Group, Groups
from graphc.passes.lowering.group import (
    fits,
    is_contraction,
    keeps_order,
    reached,
    reads_again,
    same_elements,
)
from graphc.passes.registry import graph_pass
from graphc.passes.repeating import Repeating


@dataclass(frozen=True, slots=True)
class Options:
    """Bounds of a group: tensors it reads, tensors it writes, ops it holds."""

    max_inputs: int = 16
    max_outputs: int = 8
    max_ops: int = 64


@graph_pass("fuse", Options)
def fuse(graph: Graph, options: Options) -> Graph:
    """Join nodes into groups that lower to one nest each."""
    return _Fusion(graph, options).run()


class _Fusion:
    def __init__(self, graph: Graph, options: Options) -> None:
        self.graph = graph
        self.options = options
        self.roots = set(graph.roots)
        self.again = set(filter(reads_again, graph.nodes))
        self.contractions = set(filter(is_contraction, self.again))
        self.stored = set(filter(self._stores, graph.nodes))
        self.free = self._free_nodes()
        self.kinds: dict[Any, int] = {}
        self.kind: dict[Node, int] = {}
        self.known: dict[tuple[int, ...], bool] = {}
        self._connect()
        self.groups = Groups(
            lambda n: (t.node for t in self.inputs[n]),
            lambda n: (u for r in n.results for u in self.readers.get(r, ())),
        )
        self.group = self.groups.of

    def run(self) -> Graph:
        for node in self.inputs:
            self._place(node)
        self._repeat()
        if all(len(self._members(g)) < 2 for g in self.groups):
            return self.graph
        return self._build()

    def _connect(self) -> None:
        """Find what each node reads and what reads each tensor, without free nodes."""
        nodes = (n for n in self.graph.nodes if n not in self.free)
        self.inputs = {n: self.sources(n, self.free) for n in nodes}
        self.readers: dict[Tensor, list[Node]] = {}
        for node, inputs in self.inputs.items():
            for tensor in inputs:
                self.readers.setdefault(tensor, []).append(node)
        # The readers of what each node makes; None for whoever has asked for the graph.
        self.needed_by: dict[Tensor, list[Node | None]] = {
            t: [*self.readers.get(t, ()), *([None] if t in self.roots else [])]
            for node in self.inputs
            for t in node.results
        }
        self.forms = {node: self._form(node) for node in self.inputs}

    def _repeat(self) -> None:
        """Give work to the readers of a group where that costs less."""
        before, most = self.inputs, (self.options.max_inputs, self.options.max_ops)
        repeated = Repeating(
            before,
            self.readers,
            self.group,
            self._kind,
            self._is_nest,
            self.roots,
            *most,
        ).nodes(self.groups)
        if not repeated:
            return
        for node in repeated:
            self.groups.remove(node)
        self.free |= repeated
        self._connect()
        for node, inputs in self.inputs.items():
            if len(inputs) != len(before[node]) or any(
                a is not b for a, b in zip(inputs, before[node], strict=True)
            ):
                self._join(node)

    # --- what is free -------------------------------------------------------------

    def _free_nodes(self) -> set[Node]:
        """Return the nodes that every reader repeats for itself.

        Ops that only move elements, and scalars that depend on sizes alone. One that
        a view or the outside reads has to be stored, and is an ordinary node.
        """
        free: set[Node] = set()
        for node in self.graph.nodes:
            if not self._moves(node) and not isinstance(node.op.lower, Pointwise):
                continue
            known = bool(node.inputs) and all(t.node in free for t in node.inputs)
            sizes = (
                known and node.results[0].shape == () and not self.sources(node, free)
            )
            if self._moves(node) or sizes:
                free.add(node)
        for node in reversed(self.graph.nodes):
            if node in free and any(
                t in self.roots or not self.stored.isdisjoint(self._users(t))
                for t in node.results
            ):
                free.discard(node)
        return free

    def _users(self, tensor: Tensor) -> Sequence[Node]:
        return self.graph.users.get(tensor, ())

    @staticmethod
    def _moves(node: Node) -> bool:
        """Whether an op only moves elements, as a nest can on the way."""
        return node.op.is_layout or keeps_order(node)

    @staticmethod
    def _stores(user: Node) -> bool:
        """Whether a node is no part of a nest: what it reads has to be stored."""
        return not isinstance(
            user.op.lower, (Pointwise, Reduction)
        ) and not keeps_order(user)

    def sources(self, node: Node, free: set[Node]) -> list[Tensor]:
        """Return the tensors that a node reads once free nodes are looked through."""
        found: dict[Tensor, None] = {}
        stack = list(reversed(node.inputs))
        while stack:
            tensor = stack.pop()
            if tensor not in found:
                found[tensor] = None
                if tensor.node in free:
                    stack.extend(reversed(tensor.node.inputs))
        return [t for t in found if t.node not in free]

    # --- growing groups -----------------------------------------------------------

    def _place(self, node: Node) -> None:
        """Put a node into a group, of its own or with its inputs."""
        self.groups.place(node)
        self._join(node)

    def _join(self, node: Node) -> None:
        """Join the group of a node with those of its inputs as far as that is legal."""
        if node in self.stored or isinstance(node.op.lower, View):
            return
        candidates = {
            self.group[t.node].number: self.group[t.node]
            for t in self.inputs[node]
            if t.node in self.group
        }
        candidates |= {self.group[n].number: self.group[n] for n in self._twins(node)}
        order = sorted(candidates.values(), key=self._preference)
        for producer in order:
            current = self.group[node]
            if producer is not current:
                between = self._may_join(producer, current)
                if between is not None:
                    self.groups.join(between)

    def _twins(self, node: Node) -> list[Node]:
        """Return nodes that reduce elements at the same places, as max and argmax."""
        if not isinstance(node.op.lower, Reduction) or node in self.contractions:
            return []
        (source,) = node.inputs
        found = dict.fromkeys(self._users(source))
        for tensor in self.inputs[node]:
            if tensor.shape == source.shape:
                found |= dict.fromkeys(self.readers[tensor])
        return [
            other
            for other in found
            if other is not node
            and other in self.group
            and isinstance(other.op.lower, Reduction)
            and [t.shape for t in other.inputs] == [source.shape]
            and same_elements(node, other)
        ]

    def _preference(self, group: Group) -> tuple[int, int]:
        contraction = any(n.op.name == "matmul" for n in group.nodes)
        return (0 if contraction else 1, -group.number)

    def _may_join(self, first: Group, second: Group) -> Between | None:
        """Return what joining two groups takes, None if they do not fit together."""
        nodes = [*first.nodes, *second.nodes]
        if len(nodes) > self.options.max_ops:
            return None
        own = set(nodes)
        if not own.isdisjoint(self.stored):
            return None
        # Two contractions in one nest would not run on register tiles.
        if len(own & self.contractions) > 1:
            return None
        # What is read many times is computed before.
        again = own & self.again
        if any(t.node in own for n in again for t in self.inputs[n]):
            return None
        return self.groups.between(first, second) if self._is_nest(nodes) else None

    def _is_nest(self, nodes: Iterable[Node]) -> bool:
        """Whether nodes are one nest within the bounds of a group.

        Asked once for groups that are the same, as in equal layers.
        """
        own = set(nodes)
        numbers: dict[Tensor, int] = {}
        key: list[int] = []
        for node in self._in_order(own):
            key.append(self.forms[node])
            key += [numbers.setdefault(t, len(numbers)) for t in self.inputs[node]]
            for result in node.results:
                numbers[result] = len(numbers)
                key.append(own.issuperset(self.needed_by[result]))
        same = tuple(key)
        if same not in self.known:
            self.known[same] = self._fits(own)
        return self.known[same]

    def _fits(self, own: AbstractSet[Node]) -> bool:
        """Ask the bounds of a group, and the lowering."""
        sources, outputs = self._border(own)
        if len(sources) > self.options.max_inputs:
            return False
        if len(outputs) > self.options.max_outputs:
            return False
        # Elementwise work over one shape always is one.
        shapes = {n.types[0].shape if n.op.scalar else None for n in own}
        plain = len(shapes) == 1 and None not in shapes
        return plain or fits(sources, outputs)

    def _form(self, node: Node) -> int:
        """Return a number that is equal for nodes that do the same to what they read.

        The free nodes on the way are part of it.
        """
        sources = self.inputs[node]
        numbers = {t: i for i, t in enumerate(sources)}
        rows: list[Any] = [t.type for t in sources]
        for inner in reached(node.results, numbers):
            read = [numbers.get(t, t) for t in inner.inputs]
            rows.append((self._kind(inner), *read))
            for result in inner.results:
                numbers.setdefault(result, len(numbers))
        return self.kinds.setdefault(tuple(rows), len(self.kinds))

    def _kind(self, node: Node) -> int:
        """Return a number that is equal for nodes that differ in their inputs alone."""
        if node not in self.kind:
            key = local_key(node)
            self.kind[node] = self.kinds.setdefault(key, len(self.kinds))
        return self.kind[node]

    @cached_property
    def _position(self) -> dict[Node, int]:
        return {n: i for i, n in enumerate(self.graph.nodes)}

    def _in_order(self, nodes: Iterable[Node]) -> list[Node]:
        return sorted(nodes, key=self._position.__getitem__)

    def _members(self, group: Group) -> list[Node]:
        """Return a group's nodes with the free nodes that it repeats."""
        found: dict[Node, None] = {}
        own = set(group.nodes)
        stack: list[tuple[Node, bool]] = [(n, False) for n in reversed(group.nodes)]
        while stack:
            node, ready = stack.pop()
            if ready:
                found[node] = None
            elif node not in found:
                stack.append((node, True))
                stack.extend(
                    (t.node, False)
                    for t in reversed(node.inputs)
                    if t.node in self.free or t.node in own
                )
        return list(found)

    def _border(self, nodes: Iterable[Node]) -> tuple[list[Tensor], list[Tensor]]:
        """Return what a set of nodes reads from outside, and what outside reads."""
        own = set(nodes)
        ordered = self._in_order(own)
        sources = {
            t: None for n in ordered for t in self.inputs[n] if t.node not in own
        }
        outputs = [
            r
            for n in ordered
            for r in n.results
            if not own.issuperset(self.needed_by[r])
        ]
        return list(sources), outputs

    # --- the new graph ------------------------------------------------------------

    def _build(self) -> Graph:
        """Put each group's node where its last member stood."""
        new: dict[Tensor, Tensor] = {}
        origins = {n: self.graph.origin(n) for n in self.graph.nodes}
        for group in self.groups:
            members = self._members(group)
            if len(members) < 2:
                (node,) = members
                inputs = tuple(new.get(t, t) for t in node.inputs)
                if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
                    made = cloned(node, inputs, self.graph.origin(node))
                    new.update(zip(node.results, made.results, strict=True))
                continue
            sources, outputs = self._border(group.nodes)
            region = self._region(members, sources, outputs)
            # A group belongs to the line and phase of what it returns first.
            with fixed(origins[outputs[0].node]):
                types = [t.type for t in outputs]
                inputs = tuple(new.get(t, t) for t in sources)
                made = Node(FUSED, inputs, FUSED.attrs(), types, [region])
            new.update(zip(outputs, made.results, strict=True))
        return self.graph.replace(
            outputs=[new.get(t, t) for t in self.graph.outputs],
            updates=[(s, new.get(t, t)) for s, t in self.graph.updates],
            origins={},
        )

    def _region(
        self,
        members: Sequence[Node],
        sources: Sequence[Tensor],
        outputs: Sequence[Tensor],
    ) -> Region:
        args = make_args([t.type for t in sources])
        inner: dict[Tensor, Tensor] = dict(zip(sources, args, strict=True))
        for node in members:
            inputs = [inner.get(t, t) for t in node.inputs]
            clone = cloned(node, inputs, self.graph.origin(node))
            inner.update(zip(node.results, clone.results, strict=True))
        return Region(args, [inner[t] for t in outputs])
