"""merge-scans: two loops that carry the same values over the same steps become one.

    %1, %2 = scan(%h, %x, %w) {... yield %c, %y}
    %3, %4 = scan(%h, %x, %w) {... yield %c, %z}      what the backward pass needs
                                  =>
    %1, %2, %4 = scan(%h, %x, %w) {... yield %c, %y, %z}

The gradient of a scan declares the forward loop again, with what it keeps of each step
as further results; here the two become one. Two scans merge when they have the same
number of steps and direction, and each carry of one is a carry of the other: the same
first value, and the same value after a step. Preserves every value bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphc.control.roles import Scan, split
from graphc.control.scan_op import SCAN
from graphc.ir.graph import Graph, merge_equal
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ir.origins import fixed
from graphc.ops.regions import inline
from graphc.passes.registry import graph_pass


@graph_pass("merge-scans")
def merge_scans(graph: Graph) -> Graph:
    """Merge scans that carry the same values over the same steps."""
    while True:
        merged = _merge_two(graph)
        if merged is graph:
            return graph
        graph = merged


def _merge_two(graph: Graph) -> Graph:
    scans = [n for n in graph.nodes if n.op is SCAN]
    for i, second in enumerate(scans):
        for first in scans[:i]:
            found = _merged(graph, first, second)
            if found is not None:
                return _replaced(graph, found)
    return graph


def _merged(graph: Graph, first: Node, second: Node) -> dict[Tensor, Tensor] | None:
    """Return what stands for the results of two scans if they can be one."""
    big, small = first, second
    if second.attrs.carries > first.attrs.carries or not _reads_all_of(first, second):
        big, small = second, first
    a: Scan = big.attrs
    b: Scan = small.attrs
    if (a.length, a.reverse, a.truncate) != (b.length, b.reverse, b.truncate):
        return None
    if not _reads_all_of(big, small) or _depends(big, small):
        return None
    at = _matched(big, small)
    if at is None:
        return None
    args = big.regions[0].args
    inner = inline(small.regions[0], [args[i] for i in at])
    body = merge_equal(Graph("body", args, (*big.regions[0].outputs, *inner)))
    outputs = body.outputs[: len(big.results)]
    more = body.outputs[len(big.results) :]
    for i in range(b.carries):
        if more[i] is not outputs[at[i]]:
            return None
    stacked = list(dict.fromkeys((*outputs[a.carries :], *more[b.carries :])))
    with fixed(graph.origin(first)):
        region = Region(args, [*outputs[: a.carries], *stacked])
        made = make(SCAN, big.inputs, a, [region])
    place = {t: made[a.carries + i] for i, t in enumerate(stacked)}
    new = dict(zip(big.results, made[: a.carries], strict=False))
    new |= {
        r: place[t]
        for r, t in zip(big.results[a.carries :], outputs[a.carries :], strict=True)
    }
    new |= {r: made[at[i]] for i, r in enumerate(small.results[: b.carries])}
    new |= {
        r: place[t]
        for r, t in zip(small.results[b.carries :], more[b.carries :], strict=True)
    }
    return new


def _groups(node: Node) -> tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]:
    found: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]
    found = split(node.attrs, node.inputs)
    return found


def _reads_all_of(big: Node, small: Node) -> bool:
    """Whether one scan has all inputs of another, in the same roles."""
    return all(
        set(mine) >= set(theirs)
        for mine, theirs in zip(_groups(big), _groups(small), strict=True)
    )


def _depends(node: Node, on: Node) -> bool:
    return on in set(topological(node.inputs))


def _matched(big: Node, small: Node) -> list[int] | None:
    """Return for each input of the small scan which of the big one it is."""
    at: list[int] = []
    start = 0
    for mine, theirs in zip(_groups(big), _groups(small), strict=True):
        free = [start + i for i in range(len(mine))]
        for tensor in theirs:
            # Carries may begin with the same value and differ later: each is used once.
            i = next((i for i in free if big.inputs[i] is tensor), None)
            if i is None:
                return None
            if start == 0:
                free.remove(i)
            at.append(i)
        start += len(mine)
    return at


def _replaced(graph: Graph, new: Mapping[Tensor, Tensor]) -> Graph:
    """Return the graph with other tensors in the place of some."""
    done: dict[Tensor, Tensor] = {}

    def known(tensor: Tensor) -> bool:
        return tensor in done or tensor.node.op.leaf

    def find(tensor: Tensor) -> Tensor:
        return done.get(tensor, tensor)

    origins = {}
    stack = [new.get(t, t) for t in reversed(graph.roots)]
    while stack:
        tensor = stack[-1]
        node = tensor.node
        if known(tensor):
            stack.pop()
            continue
        inputs = [new.get(t, t) for t in node.inputs]
        missing = [t for t in inputs if not known(t)]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        built = [find(t) for t in inputs]
        made = node
        if any(a is not b for a, b in zip(built, node.inputs, strict=True)):
            origin = graph.origin(node)
            made = Node(node.op, built, node.attrs, node.types, node.regions, origin)
        elif node in graph.origins:
            origins[node] = graph.origin(node)
        done.update(zip(node.results, made.results, strict=True))

    def final(tensor: Tensor) -> Tensor:
        return find(new.get(tensor, tensor))

    return graph.replace(
        outputs=[final(t) for t in graph.outputs],
        updates=[(s, final(t)) for s, t in graph.updates],
        origins=origins,
    )
