"""Scans without what nobody reads: results, carries, inputs.

    c, d, y, z = scan(a, b, x, v, w) {...}        c, y = scan(a, x, w) {...}
    return c, y                             =>    return c, y

A result that is not read goes; so does a carry that nothing needs that is read, and an
input that the body does not read. A carry that no step changes is an ordinary input.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from graphc.control.roles import Scan
from graphc.ir.nodes import Node, Region, Tensor, make, topological


def tidy(
    results: Sequence[Tensor], used: Iterable[int] | None = None
) -> tuple[Tensor, ...]:
    """Return a scan's results from a scan that computes those that are used (all).

    Results that are not used are returned as they were.
    """
    node = results[0].node
    wanted = set(range(len(node.results)) if used is None else used)
    plan = _Plan(node, wanted)
    return plan.results()


class _Plan:
    def __init__(self, node: Node, wanted: set[int]) -> None:
        self.node = node
        self.attrs: Scan = node.attrs
        (self.region,) = node.regions
        args, outputs, n = self.region.args, self.region.outputs, self.attrs.carries
        self.fixed = [i for i in range(n) if outputs[i] is args[i]]
        self.stacked = [i for i in range(n, len(outputs)) if i in wanted]
        self.carried = self._needed(
            {i for i in range(n) if i in wanted and i not in self.fixed}
        )
        kept = [outputs[i] for i in (*self.carried, *self.stacked)]
        self.read = {t for s in topological(kept) for t in s.inputs} | set(kept)

    def _needed(self, first: set[int]) -> list[int]:
        """Return the carries that what is used depends on, step after step."""
        args, outputs, n = self.region.args, self.region.outputs, self.attrs.carries
        moving = {args[i].node: i for i in range(n) if i not in self.fixed}
        needed: set[int] = set(first)
        todo = [outputs[i] for i in (*first, *self.stacked)]
        while todo:
            reached = {moving[s] for s in topological(todo) if s in moving}
            new = reached - needed
            needed |= new
            todo = [outputs[i] for i in new]
        return sorted(needed)

    def results(self) -> tuple[Tensor, ...]:
        node, attrs, region = self.node, self.attrs, self.region
        n, m = attrs.carries, attrs.carries + attrs.steps
        steps = [i for i in range(n, m) if region.args[i] in self.read]
        rest = [i for i in range(m, len(region.args)) if region.args[i] in self.read]
        rest = [i for i in self.fixed if region.args[i] in self.read] + rest
        inputs = [*self.carried, *steps, *rest]
        outputs = [*self.carried, *self.stacked]
        found = list(node.results)
        for i in self.fixed:
            found[i] = node.inputs[i]
        if len(inputs) == len(region.args) and len(outputs) == len(region.outputs):
            return tuple(found)
        small = Region(
            [region.args[i] for i in inputs], [region.outputs[i] for i in outputs]
        )
        if outputs:
            made = make(
                node.op,
                [node.inputs[i] for i in inputs],
                replace(attrs, carries=len(self.carried), steps=len(steps)),
                [small],
            )
            for i, result in zip(outputs, made, strict=True):
                found[i] = result
        return tuple(found)
