"""Loops and branches: regions become the bodies of statements.

    c, y = scan(h, x, w) {...}      c0 = h                  (a copy, or made there)
                              =>    loop i: T { ... reads c0, x[i]; writes c0, y[i] }

A carry has one buffer, which the body overwrites once all that reads the old value has
read it. Steps are slices of one buffer, addressed by the loop's index.

    c, before, y = scan(h, x) {          c0[0] = h
      (%c, %x): ... yield %y, %c, %y  => loop i: T { ... reads c0[i], x[i]
    }                                                writes c0[i + 1] }

A carry whose values are stacked is that stack, of T + 1 slices: a turn reads what the
turn before has written, and nothing is stored twice. What each turn began with, and
what it ended with, are parts of it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass

from graphc.control.cond import COND
from graphc.control.roles import Scan, split, stacked
from graphc.control.scan_op import SCAN
from graphc.control.while_loop import WHILE
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ir.program import If, Loop, Statement, While
from graphc.ir.scalar import Expr, const, load, size_of
from graphc.ir.types import TensorType, bool_, int64
from graphc.passes.lowering.body import CONTROL, Body, Target
from graphc.passes.lowering.buffers import Place


def _scan(body: Body, node: Node, name: str) -> None:
    attrs: Scan = node.attrs
    (region,) = node.regions
    n, length, one = attrs.carries, size_of(attrs.length), const(1, int64)
    _, xs, consts = split(attrs, node.inputs)
    cell = body.buffers.new(f"{name}.i", TensorType(int64, ()))
    turn = load(cell, (), int64)
    moves = _Moves(turn, turn, turn + one, const(0, int64), length)
    if attrs.reverse:
        last = length - one - turn
        moves = _Moves(last, length - turn, last, length, const(0, int64))
    of_carries = _stacked_carries(body, node)
    carries = [
        _stack(body, node, i, of_carries[i], moves, f"{name}.c{i}")
        if i in of_carries
        else _cell(body, node, i, f"{name}.c{i}")
        for i in range(n)
    ]
    known = {k for found in of_carries.values() for k in found}
    stacks = {
        k: body.beside(y, f"{name}.y{k - n}")
        for k, y in enumerate(node.results)
        if k >= n and k not in known
    }
    args = [
        *(c.old for c in carries),
        *(body.where[x].at(moves.step) for x in xs),
        *(body.where[k] for k in consts),
    ]
    made = [region.outputs[k] for k in (*range(n), *stacks)]
    places = [*(c.new for c in carries), *(p.at(moves.step) for p in stacks.values())]
    held = {c.new.buffer for c in carries if c.new == c.old}
    targets = list(zip(made, places, strict=True))
    inner = _statements(body, region, args, targets, held, name)
    for c in carries:
        body.buffers.unite(c.old.buffer, c.new.buffer)
    body.add(Loop(cell, attrs.length, inner))
    for i, c in enumerate(carries):
        _finish(body, node.results[i], c.end)
    for k, place in stacks.items():
        _finish(body, node.results[k], place)


@dataclass(frozen=True, slots=True)
class _Moves:
    """Where a turn finds things: its slice of stacks, a carry's values around it.

    first, last: where a carry's first value lies, and its last one.
    """

    step: Expr
    before: Expr
    after: Expr
    first: Expr
    last: Expr


@dataclass(frozen=True, slots=True)
class _Carry:
    """Where a turn reads a carry and where it writes it, and where the last value is.

    To write what is read, the carry has one buffer, which is held.
    """

    old: Place
    new: Place
    end: Place


def _cell(body: Body, node: Node, i: int, name: str) -> _Carry:
    """Return a carry with a buffer for its value."""
    place = Place(body.buffers.new(name, node.results[i].type))
    body.copy(body.where[node.inputs[i]], place)
    return _Carry(place, place, place)


def _stacked_carries(body: Body, node: Node) -> dict[int, dict[int, bool]]:
    """Return which results are the stacks of which carries.

    And whether of the values that turns end with; else of those they begin with. A
    result that must be left somewhere is stored there.
    """
    (region,) = node.regions
    n = node.attrs.carries
    found: dict[int, dict[int, bool]] = {}
    for k in range(n, len(node.results)):
        if node.results[k] in body.stores:
            continue
        y = region.outputs[k]
        for i in range(n):
            if y is region.args[i] or y is region.outputs[i]:
                found.setdefault(i, {})[k] = y is not region.args[i]
                break
    return found


def _stack(
    body: Body, node: Node, i: int, results: dict[int, bool], moves: _Moves, name: str
) -> _Carry:
    """Return a carry with a stack of its values, of which results are parts.

    A turn reads it by another name while its statements are sorted: it needs no order
    between what reads one slice and what writes another.
    """
    attrs: Scan = node.attrs
    whole = stacked(node.results[i].type, attrs.length + 1)
    stack = Place(body.buffers.new(name, whole))
    past = Place(body.buffers.new(f"{name}.past", whole))
    body.copy(body.where[node.inputs[i]], stack.at(moves.first))
    for k, ends in results.items():
        part = stack.shifted(whole.ndim, 0, int(ends != attrs.reverse))
        body.where[node.results[k]] = part
    return _Carry(past.at(moves.before), stack.at(moves.after), stack.at(moves.last))


def _while(body: Body, node: Node, name: str) -> None:
    test, turn = node.regions
    n = node.attrs.carries
    carried = [_cell(body, node, i, f"{name}.c{i}").new for i in range(n)]
    args = [*carried, *(body.where[k] for k in node.inputs[n:])]
    goes_on = Place(body.buffers.new(f"{name}.on", TensorType(bool_, ())))
    test_ends = list(zip(test.outputs, [goes_on], strict=True))
    asked = _statements(body, test, args, test_ends, set(), f"{name}.c")
    held = {p.buffer for p in carried}
    ends = list(zip(turn.outputs, carried, strict=True))
    done = _statements(body, turn, args, ends, held, name)
    body.add(While(goes_on.buffer, asked, done))
    for result, place in zip(node.results, carried, strict=True):
        _finish(body, result, place)


def _cond(body: Body, node: Node, name: str) -> None:
    condition, *operands = node.inputs
    chosen = body.gathered(condition, f"{name}.if")
    args = [body.where[t] for t in operands]
    targets = [body.beside(r, f"{name}.r{i}") for i, r in enumerate(node.results)]
    then, otherwise = (
        _statements(
            body,
            region,
            args,
            list(zip(region.outputs, targets, strict=True)),
            set(),
            f"{name}.{part}",
        )
        for region, part in zip(node.regions, "ab", strict=True)
    )
    body.add(If(chosen.buffer, then, otherwise))
    for result, place in zip(node.results, targets, strict=True):
        _finish(body, result, place)


def _finish(body: Body, result: Tensor, place: Place) -> None:
    """Say where a result is, and copy it to wherever else it is wanted."""
    body.where[result] = place
    body.spread(result, place)


def _statements(
    body: Body,
    region: Region,
    args: Sequence[Place],
    targets: Sequence[Target],
    held: Set[str],
    name: str,
) -> tuple[Statement, ...]:
    """Lower a region that reads its arguments at places and leaves values at targets.

    held: the buffers whose reads mean the value at the beginning.
    """
    inner = Body(
        body.buffers,
        dict(zip(region.args, args, strict=True)),
        held,
        lambda node: node.birth,
        f"{name}.",
    )
    return inner.run(region.nodes, targets)


CONTROL.update({SCAN.name: _scan, COND.name: _cond, WHILE.name: _while})
