"""lower: from a Graph to a Program, one nest for each node or fused group.

    %3: f32[N,10] = fused(%x, %w, %b)       nest matmul_add_relu (i0: N, i1: 10)
                                      =>      for k0: 784 { r0 = sum x[i0,k0]*w[k0,i1] }
                                              t0[i0, i1] = max(r0 + b[i1], 0)

Tensors become buffers, a reshape a view of one; an op with a routine of its own (a
sort, LAPACK) becomes a call of it, one with regions a loop or a branch. An update
writes its state in place where nothing needs the old value afterwards; the order of
statements sees to that, and where no order can (two states that swap), a copy is taken
first.
"""

from __future__ import annotations

from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor, leaf_name
from graphc.ir.program import Program, Space
from graphc.passes.decompose import decompose
from graphc.passes.everywhere import everywhere
from graphc.passes.lowering import control as control  # enters loops and branches
from graphc.passes.lowering.body import Body, Target
from graphc.passes.lowering.buffers import Buffers, Place
from graphc.passes.registry import lowering_pass


@lowering_pass("lower")
def lower(graph: Graph) -> Program:
    """Turn nodes into nests over buffers."""
    graph = everywhere(graph, decompose)
    buffers = Buffers()
    where: dict[Tensor, Place] = {}

    def enter(tensor: Tensor, space: Space) -> str:
        name = buffers.new(leaf_name(tensor), tensor.type, space)
        where[tensor] = Place(name)
        return name

    inputs = tuple(enter(t, "input") for t in graph.inputs)
    states = tuple(enter(t, "state") for t in graph.states)
    outputs = tuple(
        buffers.new(f"out{i}", t.type, "output") for i, t in enumerate(graph.outputs)
    )
    targets: list[Target] = [
        (t, Place(name)) for t, name in zip(graph.outputs, outputs, strict=True)
    ]
    targets += [(value, where[state]) for state, value in graph.updates]
    body = Body(buffers, where, set(states), graph.origin)
    return Program(
        graph.name,
        buffers.table,
        body.run(graph.nodes, targets),
        inputs,
        states,
        outputs,
        buffers.constants,
        graph.guards,
        graph.states,
    )
