"""hoist: contractions that need not be in a loop leave it.

    scan over t: {                          z = x @ w              all steps at once
      h = tanh(x[t] @ w + h @ u)            scan over t: {
      y[t] = h @ v                     =>     h = tanh(z[t] + h @ u);  hs[t] = h
      g = g + x[t].T @ h                    }
    }                                       y = hs @ v;  g = g0 + xs.T @ hs

What a step computes from its inputs alone is computed before the loop; what no later
step needs is computed after it, from a stack of what the loop has; a sum over the steps
(the gradient of a weight) is a sum after the loop. In each case the work of T steps is
one contraction, T times as large. Only what contains a contraction moves, and what can
go with it: elementwise work is better where its operands are.

Values agree within rounding: a sum is taken in another order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphc.control.roles import Scan
from graphc.control.scan_op import SCAN
from graphc.errors import BatchError
from graphc.ir.graph import Graph
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ir.op import OPS, Controlled, Pointwise, Routine
from graphc.ops.batching import batch_outputs
from graphc.ops.linear import MATMUL, matmul, swap
from graphc.ops.random import Draw
from graphc.ops.reduction import SUM
from graphc.ops.reduction import sum as sum_
from graphc.ops.shape import reshape, transpose
from graphc.passes.lowering.group import is_contraction
from graphc.passes.registry import graph_pass


@graph_pass("hoist")
def hoist(graph: Graph) -> Graph:
    """Move contractions out of scans."""

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        if node.op is not SCAN:
            return None
        try:
            return _Hoisting(node, inputs).run()
        except BatchError:
            return None  # an op without a batching rule stays where it is

    return graph.transform(change)


class _Hoisting:
    """One scan. A tensor of the body is early, kept or late.

    early: it depends on no carry. late: no carry depends on it. kept: all others, the
    loop's own work, and what cannot be done for all steps at once.
    """

    def __init__(self, node: Node, inputs: Sequence[Tensor]) -> None:
        self.inputs = inputs
        self.attrs: Scan = node.attrs
        (self.region,) = node.regions
        n, m = self.attrs.carries, self.attrs.carries + self.attrs.steps
        args, outputs = self.region.args, self.region.outputs
        self.carries, self.xs, self.consts = args[:n], args[n:m], args[m:]
        self.added = self._accumulators()
        self.loops = [i for i in range(n) if i not in self.added]
        # What is wanted of each step: stacked outputs, and what accumulators add.
        self.wanted = [*outputs[n:], *self.added.values()]
        work = topological(outputs)
        stuck = [node for node in work if _is_stuck(node)]
        moving = {*(c.node for c in self.carries), *stuck}
        for inner in work:
            if any(t.node in moving for t in inner.inputs):
                moving.add(inner)
        self.early = _worth_moving(work, set(work) - moving, set(outputs))
        ends = [outputs[i] for i in self.loops]
        self.needed = set(topological([*ends, *(s.results[0] for s in stuck)]))
        self.needed -= self.early
        self.needed |= self._joins(work)

    def _joins(self, work: Sequence[Node]) -> set[Node]:
        """Return what joins equal parts of the loop's own work.

        A step stores the parts side by side at no cost; after the loop to join them
        would be to copy what was stacked part by part.
        """
        found: set[Node] = set()
        for node in work:
            how = node.op.lower
            joins = isinstance(how, Pointwise) and how.pieces is not None
            if joins and len({t.shape for t in node.inputs}) == 1:
                mine = self.needed | found
                if node not in self.early and mine.issuperset(
                    t.node for t in node.inputs
                ):
                    found.add(node)
        return found

    def _accumulators(self) -> dict[int, Tensor]:
        """Return the carries that only sum up, and what each step adds to them."""
        outputs, found = self.region.outputs, {}
        readers: dict[Tensor, list[Node]] = {}
        for node in topological(outputs):
            for t in node.inputs:
                readers.setdefault(t, []).append(node)
        stored = {t for i, t in enumerate(outputs) if i >= self.attrs.carries}
        for i, arg in enumerate(self.carries):
            end = outputs[i]
            if end.node.op is not OPS["add"] or readers.get(arg, []) != [end.node]:
                continue
            others = [t for t in end.node.inputs if t is not arg]
            alone = end not in readers and end not in stored and arg not in stored
            times = sum(1 for t in outputs if t is end)
            if alone and times == 1 and len(others) == 1:
                found[i] = others[0]
        return found

    def run(self) -> list[Tensor] | None:
        n, outputs = self.attrs.carries, self.region.outputs
        late = [t for t in dict.fromkeys(self.wanted) if self._leaves(t)]
        stacks = set(self._border(late))
        # A sum of what the loop stacks anyway costs less after it.
        late += [
            t
            for t in dict.fromkeys(self.added.values())
            if t not in set(late)
            and self._is_movable(t)
            and set(self._border([t])) <= stacks | set(self.xs)
        ]
        gone = set(late)
        summed = [i for i, t in self.added.items() if t in gone]
        carried = [i for i in range(n) if i not in summed]
        stacked = [t for t in dict.fromkeys(outputs[n:]) if t not in gone]
        border = [t for t in self._border(late) if t not in set(self.xs)]
        stays = [*(outputs[i] for i in carried), *stacked, *border]
        before = self._before(stays)
        if not late and not before:
            return None
        results, ys = self._loop(carried, stays, before)
        by_step = dict(zip([*stacked, *border], ys, strict=True))
        after = dict(zip(late, self._batched(late, by_step), strict=True))
        found: dict[int, Tensor] = dict(zip(carried, results, strict=True))
        for i in summed:
            found[i] = self.inputs[i] + summed_over_steps(after[self.added[i]])
        finals = [found[i] for i in range(n)]
        return [*finals, *(after[t] if t in after else by_step[t] for t in outputs[n:])]

    # --- what moves ---------------------------------------------------------------

    def _leaves(self, tensor: Tensor) -> bool:
        """Whether what a step wants of a tensor is better computed after the loop."""
        work = self._late_work([tensor])
        return self._is_movable(tensor) and any(map(is_contraction, work))

    def _is_movable(self, tensor: Tensor) -> bool:
        return not tensor.node.op.leaf and tensor.node not in self.needed

    def _late_work(self, tensors: Iterable[Tensor]) -> list[Node]:
        """Return the nodes that are computed for these tensors and for no carry."""
        return [
            node
            for node in topological(tensors)
            if node not in self.needed and not node.op.leaf
        ]

    def _border(self, late: Sequence[Tensor]) -> list[Tensor]:
        """Return what late work reads of the loop and of what is stepped over."""
        work = self._late_work(late)
        own = set(work)
        consts = set(self.consts)
        return list(
            dict.fromkeys(
                t
                for node in work
                for t in node.inputs
                if t.node not in own and t not in consts and not _is_free(t.node)
            )
        )

    def _before(self, stays: Sequence[Tensor]) -> list[Tensor]:
        """Return early tensors with contractions that what stays in the loop reads."""
        found: dict[Tensor, None] = {}
        for node in topological(stays):
            if node in self.early:
                continue
            found.update({t: None for t in node.inputs if t.node in self.early})
        found.update({t: None for t in stays if t.node in self.early})
        return [t for t in found if self._is_heavy(t)]

    def _is_heavy(self, tensor: Tensor) -> bool:
        return any(is_contraction(n) for n in topological([tensor]) if not n.op.leaf)

    # --- the new loop, and what comes before and after it ---------------------------

    def _batched(
        self, tensors: Sequence[Tensor], by_step: dict[Tensor, Tensor]
    ) -> list[Tensor]:
        """Return tensors of the body for all steps at once."""
        if not tensors:
            return []
        n, m = self.attrs.carries, self.attrs.carries + self.attrs.steps
        fresh = dict(zip(by_step, make_args([t.type for t in by_step]), strict=True))
        outside = _with_args(Region((), tensors), fresh, 0)
        stacks = dict(zip(self.xs, self.inputs[n:m], strict=True))
        stacks |= {fresh[t]: stack for t, stack in by_step.items()}
        same = dict(zip(self.consts, self.inputs[m:], strict=True))
        return batch_outputs(outside.outputs, stacks, self.attrs.length, same)

    def _loop(
        self, carried: Sequence[int], stays: Sequence[Tensor], before: Sequence[Tensor]
    ) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        n, m = self.attrs.carries, self.attrs.carries + self.attrs.steps
        given = self._batched(before, {})
        args = make_args([t.type for t in before])
        region = _with_args(
            Region(
                [*(self.carries[i] for i in carried), *self.xs, *self.consts], stays
            ),
            dict(zip(before, args, strict=True)),
            n_before=len(carried) + len(self.xs),
        )
        if not stays:
            return (), ()
        attrs = replace(
            self.attrs, carries=len(carried), steps=len(self.xs) + len(before)
        )
        inputs = [
            *(self.inputs[i] for i in carried),
            *self.inputs[n:m],
            *given,
            *self.inputs[m:],
        ]
        made = make(SCAN, inputs, attrs, [region])
        return made[: len(carried)], made[len(carried) :]


def _is_stuck(node: Node) -> bool:
    """Whether a node stays in its loop: loops, routines, and draws of each step."""
    return isinstance(node.op.lower, (Controlled, Routine)) or isinstance(
        node.attrs, Draw
    )


def _worth_moving(
    work: Sequence[Node], early: set[Node], outputs: set[Tensor]
) -> set[Node]:
    """Return early nodes without those that only move elements for what is not.

    They cost nothing where they are, and before the loop they would be copies.
    """
    users: dict[Node, list[Node]] = {}
    for node in work:
        for t in node.inputs:
            users.setdefault(t.node, []).append(node)
    found = set(early)
    for node in reversed(work):
        moves = node.op.is_layout and node.inputs
        inside = not found.intersection(users.get(node, ()))
        if node in found and moves and inside and outputs.isdisjoint(node.results):
            found.discard(node)
    return found


def _is_free(node: Node) -> bool:
    return not node.inputs and not node.op.leaf


def _with_args(region: Region, new: dict[Tensor, Tensor], n_before: int) -> Region:
    """Return a region in which some tensors are arguments, after the first ones."""
    args = [*region.args[:n_before], *new.values(), *region.args[n_before:]]
    done: dict[Tensor, Tensor] = dict(new)
    for node in topological(region.outputs):
        if node.op.leaf or node.results[0] in done:
            continue
        inputs = [done.get(t, t) for t in node.inputs]
        if any(a is not b for a, b in zip(inputs, node.inputs, strict=True)):
            made = Node(
                node.op, inputs, node.attrs, node.types, node.regions, node.birth
            )
            for old, result in zip(node.results, made.results, strict=True):
                done.setdefault(old, result)
    return Region(args, [done.get(t, t) for t in region.outputs])


def summed_over_steps(stack: Tensor) -> Tensor:
    """Sum over the first axis; a sum of products of matrices is one product.

    Shapes:  stack [T, ...] -> [...]
    Math:    sum over t of a[t] @ b[t] = [a[0] a[1] ...] @ [b[0]; b[1]; ...]
    """
    node = stack.node
    if node.op is MATMUL and stack.ndim == 3:
        a, b = node.inputs
        steps, rows, inner = a.shape
        tall = swap(a) if a.node.op is not OPS["transpose"] else _untransposed(a)
        left = reshape(tall, (steps * inner, rows))
        return matmul(swap(left), reshape(b, (steps * inner, b.shape[2])))
    if node.op is SUM and 0 not in node.attrs.axis and not node.attrs.keepdims:
        return sum_(node.inputs[0], (0, *node.attrs.axis))
    if node.op is OPS["transpose"] and node.attrs.axes[0] == 0:
        inner_axes = tuple(a - 1 for a in node.attrs.axes[1:])
        return transpose(summed_over_steps(node.inputs[0]), inner_axes)
    return sum_(stack, 0)


def _untransposed(a: Tensor) -> Tensor:
    """Return what `a` has its last two axes swapped of."""
    if a.node.attrs.axes == (0, 2, 1):
        return a.node.inputs[0]
    return swap(a)
