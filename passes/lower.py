"""lower: from a Graph to a Program, one nest for each node or fused group.

    %3: f32[N,10] = fused(%x, %w, %b)       nest matmul_add_relu (i0: N, i1: 10)
                                      =>      for k0: 784 { r0 = sum x[i0,k0]*w[k0,i1] }
                                              t0[i0, i1] = max(r0 + b[i1], 0)

Tensors become buffers, a reshape a view of one; an op with a routine of its own (a
sort, LAPACK) becomes a call of it. An update writes its state in place where nothing
needs the old value afterwards; the order of statements sees to that, and where no
order can (two states that swap), a copy is taken first.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from graphc.errors import LoweringError
from graphc.ir.graph import Graph
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Tensor, leaf_name
from graphc.ir.op import Decomposed, Routine, Unsupported, View
from graphc.ir.program import Buffer, Call, Nest, Program, Space, Task
from graphc.ir.program.hazards import depends_on_itself
from graphc.ir.program.routines import routine
from graphc.ops.creation import CONSTANT
from graphc.ops.regions import FUSED
from graphc.passes.decompose import decompose
from graphc.passes.lowering.group import GroupLowering, NotOneNest
from graphc.passes.registry import lowering_pass


@lowering_pass("lower")
def lower(graph: Graph) -> Program:
    """Turn nodes into nests over buffers."""
    return _Lowering(decompose(graph)).run()


class _Lowering:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.buffers: dict[str, Buffer] = {}
        self.where: dict[Tensor, str] = {}
        self.body: list[Task] = []
        self.constants: dict[str, np.ndarray[Any, Any]] = {}

    def run(self) -> Program:
        graph = self.graph
        inputs = [self._leaf(t, "input") for t in graph.inputs]
        states = [self._leaf(t, "state") for t in graph.states]
        homes = self._homes()
        number = 0  # of a value, as in the graph's text
        for node in graph.nodes:
            self._node(node, number, homes)
            number += len(node.results)
        outputs = [self._output(i, t, homes) for i, t in enumerate(graph.outputs)]
        self._updates(homes)
        return Program(
            graph.name,
            self.buffers,
            tuple(self._sequence()),
            tuple(inputs),
            tuple(states),
            tuple(outputs),
            self.constants,
            graph.guards,
            graph.states,
        )

    # --- buffers ------------------------------------------------------------------

    def _name(self, wanted: str) -> str:
        name, i = wanted, 1
        while name in self.buffers:
            name, i = f"{wanted}.{i}", i + 1
        return name

    def _new(self, name: str, tensor: Tensor, space: Space, view_of: str = "") -> str:
        name = self._name(name)
        self.buffers[name] = Buffer(name, tensor.dtype, tensor.shape, space, view_of)
        return name

    def _leaf(self, tensor: Tensor, space: Space) -> str:
        self.where[tensor] = self._new(leaf_name(tensor), tensor, space)
        return self.where[tensor]

    def _homes(self) -> dict[Tensor, str]:
        """Return the tensors whose buffer is an output, or a state they update.

        A tensor that is both, or two of either, is copied from its first home. One
        that something reads has no home in a state: to read a state is to read its
        old value.
        """
        homes: dict[Tensor, str] = {}
        for i, tensor in enumerate(self.graph.outputs):
            if self._is_made_by_nest(tensor) and tensor not in homes:
                homes[tensor] = self._new(f"out{i}", tensor, "output")
        updates = self.graph.updates
        times = Counter(tensor for _, tensor in updates)
        for state, tensor in updates:
            if tensor in homes or tensor in self.graph.users or times[tensor] > 1:
                continue
            if self._is_made_by_nest(tensor):
                homes[tensor] = self.where[state]
        return homes

    @staticmethod
    def _is_made_by_nest(tensor: Tensor) -> bool:
        node = tensor.node
        return not (
            node.op.leaf or node.op is CONSTANT or isinstance(node.op.lower, View)
        )

    # --- nodes --------------------------------------------------------------------

    def _node(self, node: Node, number: int, homes: dict[Tensor, str]) -> None:
        if node.op is CONSTANT:
            name = self._new(f"c{number}", node.results[0], "constant")
            self.constants[name] = node.attrs.value.value
            self.where[node.results[0]] = name
            return
        if isinstance(node.op.lower, View):
            source = self.where[node.inputs[0]]
            self.where[node.results[0]] = self._new(
                f"t{number}", node.results[0], "temp", source
            )
            return
        for i, result in enumerate(node.results):
            self.where[result] = homes.get(result) or self._new(
                f"t{number + i}", result, "temp"
            )
        if isinstance(node.op.lower, Routine):
            self._call(node, node.op.lower, number)
            return
        if node.op is FUSED:
            region = node.regions[0]
            sources = {
                a: self.where[t] for a, t in zip(region.args, node.inputs, strict=True)
            }
            outputs = [
                (inner, self.where[t])
                for inner, t in zip(region.outputs, node.results, strict=True)
            ]
        else:
            if isinstance(node.op.lower, (Unsupported, Decomposed)):
                raise self._refused(node)
            sources = {t: self.where[t] for t in node.inputs}
            outputs = [(t, self.where[t]) for t in node.results]
        self._nest(sources, outputs, node, number)

    def _refused(self, node: Node) -> LoweringError:
        why = getattr(node.op.lower, "reason", "it has regions")
        return LoweringError(
            f"{node.op.name} has no lowering: {why}",
            where=self.graph.origin(node).quoted,
            help="evaluate it with graphc.evaluate, or with backend='reference'",
        )

    def _nest(
        self,
        sources: dict[Tensor, str],
        outputs: Sequence[tuple[Tensor, str]],
        node: Node,
        number: int,
    ) -> None:
        group = GroupLowering(sources, outputs)
        try:
            nest = group.nest(_title(group.nodes))
        except NotOneNest as error:
            raise LoweringError(
                f"the group %{number} is not one nest: {error.message}",
                where=self.graph.origin(node).quoted,
                help="pass it through fuse, which asks before it joins",
            ) from error
        own = {n: self.graph.origin(n) for n in group.nodes}
        origins = tuple(dict.fromkeys((*own.values(), self.graph.origin(node))))
        summary = f"%{number} " + ", ".join(n.op.name for n in group.nodes)
        self._add(nest.replace(origins=origins, summary=summary))

    def _call(self, node: Node, how: Routine, number: int) -> None:
        types = tuple(t.type for t in node.inputs)
        self._add(
            Call(
                how.name,
                tuple(self.where[t] for t in node.inputs),
                tuple(self.where[t] for t in node.results),
                how.options(types, node.attrs),
                routine(how.name).parallel,
                (node,),
                (self.graph.origin(node),),
                f"%{number} {node.op.name}",
            )
        )

    def _add(self, task: Task) -> None:
        """Append a task; one that cannot write a state in place writes beside it."""
        copies = []
        for name in task.writes:
            if self.buffers[name].space == "state" and self._overwrites(task, name):
                beside = self._beside(name)
                task = _redirect(task, name, beside)
                copies.append((beside, name))
        self.body.append(task)
        for beside, name in copies:
            self._copy(beside, name)

    def _overwrites(self, task: Task, name: str) -> bool:
        """Whether a task would read elements of a state that it wrote before."""
        if isinstance(task, Nest):
            return depends_on_itself(task, name)
        return name in map(self._owner, task.reads)

    # --- outputs and updates ------------------------------------------------------

    def _output(self, i: int, tensor: Tensor, homes: dict[Tensor, str]) -> str:
        home = homes.get(tensor)
        if home == f"out{i}":
            return home
        target = self._new(f"out{i}", tensor, "output")
        self._copy(self.where[tensor], target)
        return target

    def _updates(self, homes: dict[Tensor, str]) -> None:
        for state, tensor in self.graph.updates:
            target, source = self.where[state], self.where[tensor]
            if homes.get(tensor) != target and source != target:
                self._copy(source, target)

    # --- order --------------------------------------------------------------------

    def _sequence(self) -> list[Task]:
        """Order the tasks so that each state is read before it is overwritten.

        Until here every read of a state means its old value. Where no order does
        that, a writer writes beside the state and a copy follows at the end.
        """
        while True:
            order, stuck = self._sorted()
            if not stuck:
                return order
            self._write_beside(stuck)

    def _sorted(self) -> tuple[list[Task], list[int]]:
        """Sort topologically, ties in graph order; returns what is left in cycles."""
        body = self.body
        maker: dict[str, int] = {}
        for i, task in enumerate(body):
            maker.update((self._owner(n), i) for n in task.writes)
        after: list[set[int]] = [set() for _ in body]
        waits = [0] * len(body)
        for i, task in enumerate(body):
            for name in {self._owner(n) for n in task.reads}:
                j = maker.get(name, i)
                if j == i:
                    continue
                is_state = self.buffers[name].space == "state"
                first, second = (i, j) if is_state else (j, i)
                if second not in after[first]:
                    after[first].add(second)
                    waits[second] += 1
        ready = [i for i, n in enumerate(waits) if n == 0]
        heapq.heapify(ready)
        order: list[Task] = []
        while ready:
            i = heapq.heappop(ready)
            order.append(body[i])
            for j in after[i]:
                waits[j] -= 1
                if waits[j] == 0:
                    heapq.heappush(ready, j)
        return order, [i for i, n in enumerate(waits) if n > 0]

    def _write_beside(self, stuck: Sequence[int]) -> None:
        """Let one task of a cycle write beside its state."""
        for i in stuck:
            for name in self.body[i].writes:
                if self.buffers[name].space == "state":
                    beside = self._beside(name)
                    self.body[i] = _redirect(self.body[i], name, beside)
                    self._copy(beside, name)
                    return
        raise LoweringError("the graph has a cycle", help="verify the graph")

    def _owner(self, name: str) -> str:
        while self.buffers[name].view_of:
            name = self.buffers[name].view_of
        return name

    def _beside(self, name: str) -> str:
        old = self.buffers[name]
        made = self._name(f"{name}.next")
        self.buffers[made] = Buffer(made, old.dtype, old.shape, "temp")
        return made

    def _copy(self, source: str, target: str) -> None:
        (arg,) = make_args([self.buffers[source].type])
        nest = GroupLowering({arg: source}, [(arg, target)]).nest("copy")
        self.body.append(nest.replace(summary="copy"))


def _title(nodes: Sequence[Node]) -> str:
    """Return a name for a nest: its ops, moving ones left out, at most four."""
    names = [n.op.name for n in nodes if not getattr(n.op.lower, "layout", False)]
    names = names or [n.op.name for n in nodes]
    short = list(dict.fromkeys(names))
    return "_".join(short[:4]) + ("_etc" if len(short) > 4 else "")


def _redirect(task: Task, old: str, new: str) -> Task:
    if isinstance(task, Call):
        return task.replace(
            writes=tuple(new if name == old else name for name in task.writes)
        )
    phases = tuple(
        replace(
            p,
            stores=tuple(
                replace(s, buffer=new) if s.buffer == old else s for s in p.stores
            ),
        )
        for p in task.phases
    )
    return task.replace(phases=phases)
