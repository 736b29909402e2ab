"""What the readers of a group compute again, instead of reading it.

    %0, %1 = fused(%x, %w, %h, %m) {      %0 = conv(%x, %w)
      g = conv(%x, %w)                    %2, %3 = fused(%0, %h, %m) {
      yield where(%m, g, 0), g * %h }  =>   yield sum(where(%m, %0, 0)),
    %2 = sum(%0)                                  sum(%0 * %h) }
    %3 = sum(%1)

A group stores what others read. Where that is elementwise work, they may as well do it
themselves, from tensors that are stored anyhow and from earlier ones of the group: four
tensors that a convolution stores, each for one sum, become one tensor and four sums.
Bytes decide. The tensors of a group, and what it costs to store, read or compute each,
make a network, whose cheapest cut is what is worth storing; what lies beyond it is
repeated. (Horace He, "Min-cut optimal recomputation with AOTAutograd", 2022, cuts
between forward and backward; here each group is cut from its readers.)

Groups are looked at in order. A recipe names only what is stored: it looks through what
earlier groups have left to their readers. Readers are counted one by one, although
sums that then read the same tensors join; this errs on the side of storing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.ir.dims import evaluate, names, product
from graphc.ir.nodes import Node, Tensor
from graphc.ir.op import Pointwise, Reduction, Site
from graphc.ir.scalar import PRIMITIVES, Apply, Expr, axis, load, walk
from graphc.passes.cut import ENDLESS, Network
from graphc.passes.grouping import Group
from graphc.passes.lowering.group import reads_again

# Costs, as bytes read times four. To store is twice as much: a cache line is read
# before it is written. Four operations on an element take as long as a byte of it.
READ, WRITE, OPERATION = 4, 8, 1
SIZE = 1024  # what a symbolic dimension counts as
SOURCE, SINK = "source", "sink"


@dataclass(frozen=True, slots=True)
class _Recipe:
    """How a node is computed from stored tensors: those, and the nodes repeated."""

    sources: dict[Tensor, None]
    nodes: set[Node]


@dataclass(slots=True)
class Repeating:
    """Finds the nodes of a graph's groups that their readers repeat.

    inputs, readers: what a node reads, and what reads a tensor, without the nodes that
    are repeated in any case. kind: a number, equal for nodes that differ in their
    inputs alone. is_nest: whether nodes can be a group. roots: tensors that are stored
    in any case. max_inputs, max_ops: what a reader may read and hold by itself.
    """

    inputs: Mapping[Node, Sequence[Tensor]]
    readers: Mapping[Tensor, Sequence[Node]]
    group: Mapping[Node, Group]
    kind: Callable[[Node], int]
    is_nest: Callable[[Sequence[Node]], bool]
    roots: Collection[Tensor]
    max_inputs: int
    max_ops: int
    recipes: dict[Node, _Recipe] = field(default_factory=dict)
    known: dict[int, int | None] = field(default_factory=dict)

    def nodes(self, groups: Iterable[Group]) -> set[Node]:
        """Return the nodes that are repeated, given all groups in order."""
        for group in groups:
            self._cut(group)
        return set(self.recipes)

    def _cut(self, group: Group) -> None:
        """Give the nodes of a group beyond its cheapest cut to their readers."""
        own: dict[Tensor, list[Node]] = {}  # what could be repeated, with its readers
        for tensor in (r for n in group.nodes for r in n.results):
            users = self.readers.get(tensor, ())
            outside = [u for u in users if self.group[u] is not group]
            if tensor not in self.roots and all(map(self._may_repeat, outside)):
                own[tensor] = outside
        wanted = [t for t, users in own.items() if users]
        if all(self._operations(t.node) is None for t in wanted):
            return
        network = self._network(group, own)
        for tensor in wanted:
            network.connect(("out", tensor), SINK, ENDLESS)
        beyond = network.beyond(SOURCE, SINK)
        found = [t for t in own if ("in", t) in beyond]
        for tensor in found:
            recipe = self._recipe(tensor.node)
            self.recipes[tensor.node] = _Recipe(
                recipe.sources, {*recipe.nodes, tensor.node}
            )
        readers = {u for t in found for u in own[t]}
        rest = [n for n in group.nodes if n not in self.recipes]
        # What was in between and is stored now may have a shape of its own.
        legal = not rest or self.is_nest(rest)
        if not (legal and all(map(self._is_small, map(self._recipe, readers)))):
            for tensor in found:
                del self.recipes[tensor.node]

    def _network(self, group: Group, own: Mapping[Tensor, Sequence[Node]]) -> Network:
        """Return the tensors of a group, joined by what it costs to cut there.

        A tensor is two vertices. It is stored if the cut parts them, and repeated if
        both lie beyond it.
        """
        network = Network()
        elements = max(_elements(t) for t, users in own.items() if users)
        for tensor, readers in self._reached(group, own).items():
            if tensor in own:
                width = WRITE + READ * len(readers)
            else:  # it is stored in any case, and some may read it in any case
                width = READ * sum(not self._reads(g, tensor) for g in readers)
            bytes = _elements(tensor) * tensor.dtype.itemsize
            network.connect(("in", tensor), ("out", tensor), width * bytes)
            work = ENDLESS
            operations = self._operations(tensor.node)
            if tensor in own and operations is not None:
                work = OPERATION * operations * elements * sum(map(_phases, readers))
                for source in self._recipe(tensor.node).sources:
                    network.connect(("out", source), ("in", tensor), ENDLESS)
            network.connect(SOURCE, ("in", tensor), work)
        return network

    def _reached(
        self, group: Group, own: Mapping[Tensor, Sequence[Node]]
    ) -> dict[Tensor, set[Group]]:
        """Return the tensors that readers could use, with the groups of those."""
        found = {t: {self.group[u] for u in us} for t, us in own.items() if us}
        for node in reversed(group.nodes):
            to = found.get(node.results[0])
            if to and node.results[0] in own and self._operations(node) is not None:
                for source in self._recipe(node).sources:
                    found.setdefault(source, set()).update(to)
        return found

    def _recipe(self, node: Node) -> _Recipe:
        """Return what a node reads if it repeats what it can."""
        inputs = self.inputs[node]
        if not any(t.node in self.recipes for t in inputs):
            return _Recipe(dict.fromkeys(inputs), set())
        found = _Recipe({}, set())
        for tensor in inputs:
            recipe = self.recipes.get(tensor.node)
            found.sources.update(recipe.sources if recipe else {tensor: None})
            found.nodes.update(recipe.nodes if recipe else ())
        return found

    def _is_small(self, recipe: _Recipe) -> bool:
        many = len(recipe.sources) > self.max_inputs
        return not many and len(recipe.nodes) < self.max_ops

    def _reads(self, group: Group, tensor: Tensor) -> bool:
        """Whether a group reads a tensor element by element."""
        return any(
            tensor in self._recipe(n).sources for n in group.nodes if not reads_again(n)
        )

    def _may_repeat(self, node: Node) -> bool:
        """Whether a node reads each element once: it may as well compute it."""
        return self._operations(node) is not None or (
            isinstance(node.op.lower, Reduction) and not reads_again(node)
        )

    def _operations(self, node: Node) -> int | None:
        """Return what an elementwise node computes for an element, None of others."""
        kind = self.kind(node)
        if kind not in self.known:
            self.known[kind] = _operations(node)
        return self.known[kind]


def _phases(group: Group) -> int:
    """Return how many times a group goes over its elements, at most."""
    return 1 + sum(isinstance(n.op.lower, Reduction) for n in group.nodes)


def _elements(tensor: Tensor) -> int:
    size = product(tensor.shape)
    return max(0, evaluate(size, dict.fromkeys(names(size), SIZE)))


def _operations(node: Node) -> int | None:
    """Return the operations of an elementwise node on one element, None of others."""
    how = node.op.lower
    if not isinstance(how, Pointwise):
        return None
    types = tuple(t.type for t in node.inputs)
    index = tuple(axis(f"i{k}") for k in range(node.results[0].ndim))
    read: list[tuple[Expr, ...]] = []

    def element(k: int, at: Sequence[Expr]) -> Expr:
        read.append(tuple(at))
        return load(f"s{k}", read[-1], types[k].dtype)

    made = how.rule(Site(index, node.attrs, types, node.results[0].type, element))
    if any(at != index for at in read):
        return None
    prims = [e.prim for e in walk(made) if isinstance(e, Apply)]
    return sum(PRIMITIVES[p].flops for p in prims if p != "cast")
