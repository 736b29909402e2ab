"""Checks in a compiled graph: one more output that says whether all of them hold.

    %1 = take(%x, %i)                 %1 = take(%x, %i)
    return %1; update %w <- %2   =>   %3 = all(logical_and(...))
                                      return %1, where(%3, 0, 1)
                                      update %w <- where(%3, %2, %w)

A step whose check fails leaves its states as they were: the new value of each is
chosen against the old one. The output is 0, or the number of the first check that
failed, counted from 1. This is no registered pass: it adds an output.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graphc.control.cond import COND
from graphc.control.scan_op import SCAN
from graphc.control.while_loop import WHILE, While
from graphc.ir.graph import Graph, with_inputs
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make
from graphc.ir.op import Check
from graphc.ir.origins import Origin, phase
from graphc.ir.types import TensorType, bool_, int32
from graphc.ops.arithmetic import where
from graphc.ops.broadcast import broadcast_to
from graphc.ops.checks import checks_of
from graphc.ops.creation import full
from graphc.ops.reduction import all as reduce_all
from graphc.ops.regions import inline


@dataclass(frozen=True, slots=True)
class Site:
    """A node that is checked: its op, its checks, and where it comes from."""

    op: str
    checks: tuple[Check, ...]
    origin: Origin


def with_checks(graph: Graph) -> tuple[Graph, list[Site]]:
    """Return the graph with its checks as a last output, and what each number means.

    A graph without checks is returned as it is, with no sites.
    """
    sites: list[Site] = []
    flags: list[Tensor] = []

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        origin = graph.origin(node)
        with phase(origin.phase, derived="check", like=origin):
            results, flag, checks = _flagged(node, inputs)
        if flag is not None:
            flags.append(flag)
            sites.append(Site(node.op.name, checks, origin))
        return results

    changed = graph.transform(change)
    if not flags:
        return graph, []
    code = full((), 0, int32)
    for number, flag in reversed(list(enumerate(flags, 1))):
        code = where(flag, code, full((), number, int32))
    good = code == 0
    updates = [
        (state, where(broadcast_to(good, state.shape), value, state))
        for state, value in changed.updates
    ]
    return changed.replace(outputs=[*changed.outputs, code], updates=updates), sites


Flagged = tuple[Sequence[Tensor] | None, Tensor | None, tuple[Check, ...]]


def _flagged(node: Node, inputs: Sequence[Tensor]) -> Flagged:
    """Return the results of a node (None: as they are), and whether its checks hold."""
    control = _CONTROL.get(node.op.name)
    if control is not None:
        return control(node, inputs)
    current = with_inputs(node, inputs)
    checks = checks_of(current)
    if not checks:
        return None, None, ()
    flag = _both([reduce_all(c.ok) for c in checks])
    return current.results, flag, tuple(checks)


def _both(flags: Sequence[Tensor]) -> Tensor:
    found = flags[0]
    for flag in flags[1:]:
        found = found & flag
    return found


# --- inside loops and branches --------------------------------------------------------


def _region(region: Region) -> tuple[Region, Tensor | None, tuple[Check, ...]]:
    """Return a region whose checks are made, and whether all of them hold in it."""
    new: dict[Tensor, Tensor] = {}
    flags: list[Tensor] = []
    checks: list[Check] = []
    for node in region.nodes:
        inner = [new.get(t, t) for t in node.inputs]
        with phase(node.birth.phase, derived="check", like=node.birth):
            results, flag, more = _flagged(node, inner)
        if flag is not None:
            flags.append(flag)
            checks.extend(more)
        if results is None:
            results = with_inputs(node, inner).results
        new.update(zip(node.results, results, strict=True))
    if not flags:
        return region, None, ()
    made = Region(region.args, [new.get(t, t) for t in region.outputs])
    return made, _both(flags), tuple(checks)


def _scan(node: Node, inputs: Sequence[Tensor]) -> Flagged:
    """Stack the flag of each step."""
    region, flag, checks = _region(node.regions[0])
    if flag is None:
        return None, None, ()
    body = Region(region.args, [*region.outputs, flag])
    *results, steps = make(SCAN, inputs, node.attrs, [body])
    return results, reduce_all(steps), checks


def _cond(node: Node, inputs: Sequence[Tensor]) -> Flagged:
    """Return the flag of the branch that is taken."""
    each = [_region(r) for r in node.regions]
    if all(flag is None for _, flag, _ in each):
        return None, None, ()
    branches = [
        Region(r.args, [*r.outputs, full((), True, bool_) if flag is None else flag])
        for r, flag, _ in each
    ]
    *results, flag = make(COND, inputs, node.attrs, branches)
    return results, flag, tuple(c for _, _, checks in each for c in checks)


def _while(node: Node, inputs: Sequence[Tensor]) -> Flagged:
    """Carry the flag; a step whose check fails is the last one."""
    (test, test_flag, first), (body, body_flag, then) = map(_region, node.regions)
    if test_flag is None and body_flag is None:
        return None, None, ()
    n = node.attrs.carries
    asked, good = make_args([TensorType(bool_, ())] * 2)
    told = [] if test_flag is None else [Region(test.args, [test_flag])]
    # The body asks again what the condition's checks said of its carries.
    flags = [good, *(inline(r, body.args)[0] for r in told)]
    flags += [] if body_flag is None else [body_flag]
    regions = [
        Region(
            [*test.args[:n], asked, *test.args[n:]],
            [*(t & asked for t in test.outputs)],
        ),
        Region([*body.args[:n], good, *body.args[n:]], [*body.outputs, _both(flags)]),
    ]
    start = full((), True, bool_)
    given = [*inputs[:n], start, *inputs[n:]]
    *results, held = make(WHILE, given, While(n + 1), regions)
    last = [inline(r, [*results, *inputs[n:]])[0] for r in told]
    return results, _both([held, *last]), (*first, *then)


_CONTROL: dict[str, Callable[[Node, Sequence[Tensor]], Flagged]] = {
    SCAN.name: _scan,
    COND.name: _cond,
    WHILE.name: _while,
}
