"""The statements of one body: a whole graph, or the region of a loop or a branch.

Each tensor that is stored has a place; what a body must leave somewhere (an output, a
state's new value, the carry of a loop, the slice of a step) is stored there by the nest
that makes it, beside wherever else it is read from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from graphc.errors import LoweringError
from graphc.ir.nodes import Node, Tensor, local_key
from graphc.ir.op import Controlled, Decomposed, Routine, ScatterAdd, Unsupported, View
from graphc.ir.origins import Origin
from graphc.ir.program import Call, Nest, Statement, Task
from graphc.ir.program.routines import routine
from graphc.ir.program.text import renamed
from graphc.ops.creation import CONSTANT
from graphc.ops.regions import FUSED
from graphc.passes.lowering.buffers import Buffers, Place
from graphc.passes.lowering.group import GroupLowering, NotOneNest
from graphc.passes.lowering.sequence import copy, in_place, ordered

Target = tuple[Tensor, Place]

# How ops that run regions are lowered, by name: (body, node, name of its buffers).
CONTROL: dict[str, Callable[[Body, Node, str], None]] = {}


class Body:
    """Lowers the nodes of one body.

    places: where its arguments lie. held: the buffers whose reads mean the value at
    the beginning. prefix: what the names of its temporaries begin with.
    """

    def __init__(
        self,
        buffers: Buffers,
        places: Mapping[Tensor, Place],
        held: AbstractSet[str],
        origin: Callable[[Node], Origin],
        prefix: str = "t",
    ) -> None:
        self.buffers = buffers
        self.where = dict(places)
        self.held = held
        self.origin = origin
        self.prefix = prefix
        self.statements: list[Statement] = []
        self.stores: dict[Tensor, list[Place]] = {}
        # Nests by what their nodes and places are, with the buffers they name.
        self.known: dict[object, tuple[Nest, list[str]]] = {}

    def run(
        self, nodes: Sequence[Node], targets: Sequence[Target]
    ) -> tuple[Statement, ...]:
        """Return the statements that compute nodes and leave values at the targets."""
        read = {t for node in nodes for t in node.inputs}
        self._choose_stores(targets, read)
        number = 0
        for node in nodes:
            self._node(node, number)
            number += len(node.results)
        for tensor, target in targets:
            if target not in self.stores.get(tensor, ()):
                self.copy(self.where[tensor], target)
        return ordered(self.statements, self.held, self.buffers)

    def _choose_stores(
        self, targets: Iterable[Target], read: AbstractSet[Tensor]
    ) -> None:
        """Decide where each tensor is stored; readers read the first of these places.

        To read what is held is to read its old value, so a tensor that is read needs a
        place that is not; to be copied from one place to others is to be read too.
        """
        for tensor, target in targets:
            if _is_made_by_statement(tensor):
                self.stores.setdefault(tensor, []).append(target)
        for tensor, found in self.stores.items():
            found.sort(key=self._is_held)
            copied = len(found) > 1 and _stores_once(tensor.node)
            if (tensor in read or copied) and self._is_held(found[0]):
                found.insert(0, Place(self.buffers.new(self.prefix, tensor.type)))

    def _is_held(self, place: Place) -> bool:
        return self.buffers.owner(place.buffer) in self.held

    # --- nodes --------------------------------------------------------------------

    def _node(self, node: Node, number: int) -> None:
        name, how = f"{self.prefix}{number}", node.op.lower
        if node.op is CONSTANT:
            made = self.buffers.new(f"c{number}", node.results[0].type, "constant")
            self.buffers.constants[made] = node.attrs.value.value
            self.where[node.results[0]] = Place(made)
            return
        if isinstance(how, View):
            self.where[node.results[0]] = self._view(node, name)
            return
        if isinstance(how, (Unsupported, Decomposed)) and node.op is not FUSED:
            raise self._refused(node)
        if isinstance(how, Controlled):
            CONTROL[node.op.name](self, node, name)
            return
        for i, result in enumerate(node.results):
            self.settle(result, f"{self.prefix}{number + i}")
        if isinstance(how, Routine):
            self._call(node, how, name)
        else:
            self._nest(node, name)

    def _view(self, node: Node, name: str) -> Place:
        """Return where the result of a reshape is: its input's place, or a copy."""
        (source,), (result,) = node.inputs, node.results
        found = self.buffers.view(name, self.where[source], result)
        if found is None:
            whole = self.gathered(source, name)
            found = self.buffers.view(name, whole, result)
            assert found is not None
        return found

    def _refused(self, node: Node) -> LoweringError:
        why = getattr(node.op.lower, "reason", "it has regions")
        return LoweringError(
            f"{node.op.name} has no lowering: {why}",
            where=self.origin(node).quoted,
            help="evaluate it with graphc.evaluate, or with backend='reference'",
        )

    def _nest(self, node: Node, name: str) -> None:
        inner = node.results
        args = node.inputs
        if node.op is FUSED:
            args, inner = node.regions[0].args, node.regions[0].outputs
        sources = {a: self.where[t] for a, t in zip(args, node.inputs, strict=True)}
        alone = isinstance(node.op.lower, ScatterAdd)  # it adds to where it stores
        outputs = [
            (t, place)
            for t, result in zip(inner, node.results, strict=True)
            for place in self.stores[result][: 1 if alone else None]
        ]
        group = GroupLowering(sources, outputs)
        try:
            nest = self._lowered(node, group)
        except NotOneNest as error:
            raise LoweringError(
                f"the group %{name[1:]} is not one nest: {error.message}",
                where=self.origin(node).quoted,
                help="pass it through fuse, which asks before it joins",
            ) from error
        own = {n: self.origin(n) for n in group.nodes}
        origins = tuple(dict.fromkeys((*own.values(), self.origin(node))))
        summary = f"%{name[1:]} " + ", ".join(n.op.name for n in group.nodes)
        self.add(nest.replace(origins=origins, summary=summary))
        if alone:
            self.spread(node.results[0], outputs[0][1])

    def _lowered(self, node: Node, group: GroupLowering) -> Nest:
        """Return the nest of a group; of equal ones, as in equal layers, one is made.

        The others are the same nest with other names for its buffers.
        """
        places = [self.where[t] for t in node.inputs] + [p for _, p in group.outputs]
        if any(p.lead or p.shift for p in places):
            return group.nest(_title(group.nodes))
        used = list(dict.fromkeys(p.buffer for p in places))
        key = (
            local_key(node),
            tuple(t.type for t in node.inputs),
            tuple(used.index(p.buffer) for p in places),
            tuple(len(self.stores[r]) for r in node.results),
        )
        if key not in self.known:
            self.known[key] = group.nest(_title(group.nodes)), used
            return self.known[key][0]
        nest, names = self.known[key]
        same = dict(zip(names, used, strict=True))
        return renamed(nest, same).replace(nodes=tuple(group.nodes))

    def _call(self, node: Node, how: Routine, name: str) -> None:
        """Call a routine on whole buffers; parts of one are copied out and in."""
        types = tuple(t.type for t in node.inputs)
        made = [Place(self._whole(name, r)) for r in node.results]
        self.add(
            Call(
                how.name,
                tuple(self.gathered(t, name).buffer for t in node.inputs),
                tuple(p.buffer for p in made),
                how.options(types, node.attrs),
                routine(how.name).parallel,
                (node,),
                (self.origin(node),),
                f"%{name[1:]} {node.op.name}",
            )
        )
        for result, place in zip(node.results, made, strict=True):
            self.spread(result, place)

    def _whole(self, name: str, result: Tensor) -> str:
        """Return the buffer that a call writes: the result's own, if it is a whole."""
        first = self.stores[result][0]
        return self.buffers.new(name, result.type) if first.lead else first.buffer

    # --- for control flow ---------------------------------------------------------

    def settle(self, result: Tensor, name: str) -> Place:
        """Decide where a result is made and read; the place it must be left at, if any.

        Otherwise it is a new buffer.
        """
        if result not in self.stores:
            self.stores[result] = [Place(self.buffers.new(name, result.type))]
        self.where[result] = self.stores[result][0]
        return self.where[result]

    def beside(self, result: Tensor, name: str) -> Place:
        """Settle a result of a loop or a branch, never in what is held.

        There it would be written before all that reads the old value has read it, and
        no order of statements helps with what is inside of one.
        """
        found = self.stores.get(result, [])
        if found and self._is_held(found[0]):
            found.insert(0, Place(self.buffers.new(name, result.type)))
        return self.settle(result, name)

    def gathered(self, tensor: Tensor, name: str) -> Place:
        """Return a whole buffer with a tensor's elements, copied if need be."""
        place = self.where[tensor]
        if place.lead or place.shift:
            whole = Place(self.buffers.new(name, tensor.type))
            self.copy(place, whole)
            return whole
        return place

    def spread(self, result: Tensor, made: Place) -> None:
        """Copy a result from where it was made to all places where it is stored."""
        for place in self.stores.get(result, ()):
            if place != made:
                self.copy(made, place)

    def copy(self, source: Place, target: Place) -> None:
        """Append a copy."""
        if source != target:
            self.add(copy(self.buffers, source, target))

    def add(self, statement: Statement) -> None:
        """Append a statement; a task that cannot write in place writes beside."""
        if not isinstance(statement, Task):
            self.statements.append(statement)
            return
        task, copies = in_place(statement, self.held, self.buffers)
        self.statements += [task, *copies]


def _is_made_by_statement(tensor: Tensor) -> bool:
    node = tensor.node
    return not (node.op.leaf or node.op is CONSTANT or isinstance(node.op.lower, View))


def _stores_once(node: Node) -> bool:
    """Whether a node's statement writes to one place, from which others are copied."""
    return isinstance(node.op.lower, (Routine, ScatterAdd))


def _title(nodes: Sequence[Node]) -> str:
    """Return a name for a nest: its ops, moving ones left out, at most four."""
    names = [n.op.name for n in nodes if not n.op.is_layout]
    names = names or [n.op.name for n in nodes]
    short = list(dict.fromkeys(names))
    return "_".join(short[:4]) + ("_etc" if len(short) > 4 else "")
