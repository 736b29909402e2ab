"""Loops and branches: regions become the bodies of statements.

    c, y = scan(h, x, w) {...}      c0 = h                  (a copy, or made there)
                              =>    loop i: T { ... reads c0, x[i]; writes c0, y[i] }

A carry has one buffer, which the body overwrites once all that reads the old value has
read it. Steps are slices of one buffer, addressed by the loop's index.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.control.cond import COND
from graphc.control.roles import Scan, split
from graphc.control.scan_op import SCAN
from graphc.control.while_loop import WHILE
from graphc.ir.nodes import Node, Region
from graphc.ir.program import If, Loop, Statement, While
from graphc.ir.scalar import const, load, size_of
from graphc.ir.types import TensorType, bool_, int64
from graphc.passes.lowering.body import CONTROL, Body
from graphc.passes.lowering.buffers import Place


def _scan(body: Body, node: Node, name: str) -> None:
    attrs: Scan = node.attrs
    (region,) = node.regions
    n = attrs.carries
    inits, xs, consts = split(attrs, node.inputs)
    cell = body.buffers.new(f"{name}.i", TensorType(int64, ()))
    step = load(cell, (), int64)
    if attrs.reverse:
        step = size_of(attrs.length) - const(1, int64) - step
    carried = _carries(body, node, inits, name)
    stacks = [body.beside(y, f"{name}.y{i}") for i, y in enumerate(node.results[n:])]
    args = [
        *carried,
        *(body.where[x].at(step) for x in xs),
        *(body.where[k] for k in consts),
    ]
    targets = [*carried, *(place.at(step) for place in stacks)]
    inner = _statements(body, region, args, targets, carried, name)
    body.add(Loop(cell, attrs.length, inner))
    _finish(body, node, [*carried, *stacks])


def _while(body: Body, node: Node, name: str) -> None:
    test, turn = node.regions
    carried = _carries(body, node, node.inputs[: node.attrs.carries], name)
    args = [*carried, *(body.where[k] for k in node.inputs[node.attrs.carries :])]
    goes_on = Place(body.buffers.new(f"{name}.on", TensorType(bool_, ())))
    asked = _statements(body, test, args, [goes_on], [], f"{name}.c")
    done = _statements(body, turn, args, carried, carried, name)
    body.add(While(goes_on.buffer, asked, done))
    _finish(body, node, carried)


def _cond(body: Body, node: Node, name: str) -> None:
    condition, *operands = node.inputs
    chosen = body.gathered(condition, f"{name}.if")
    args = [body.where[t] for t in operands]
    targets = [body.beside(r, f"{name}.r{i}") for i, r in enumerate(node.results)]
    then, otherwise = (
        _statements(body, region, args, targets, [], f"{name}.{part}")
        for region, part in zip(node.regions, "ab", strict=True)
    )
    body.add(If(chosen.buffer, then, otherwise))
    _finish(body, node, targets)


def _carries(body: Body, node: Node, inits: Sequence[object], name: str) -> list[Place]:
    """Return a buffer for each carry, which holds its first value."""
    found = []
    for i in range(len(inits)):
        carry = Place(body.buffers.new(f"{name}.c{i}", node.results[i].type))
        body.copy(body.where[node.inputs[i]], carry)
        found.append(carry)
    return found


def _finish(body: Body, node: Node, made: Sequence[Place]) -> None:
    """Say where the results are, and copy them to wherever else they are wanted."""
    for result, place in zip(node.results, made, strict=True):
        body.where[result] = place
        body.spread(result, place)


def _statements(
    body: Body,
    region: Region,
    args: Sequence[Place],
    targets: Sequence[Place],
    held: Sequence[Place],
    name: str,
) -> tuple[Statement, ...]:
    """Lower a region that reads its arguments at places and writes its outputs."""
    inner = Body(
        body.buffers,
        dict(zip(region.args, args, strict=True)),
        {p.buffer for p in held},
        lambda node: node.birth,
        f"{name}.",
    )
    return inner.run(region.nodes, list(zip(region.outputs, targets, strict=True)))


CONTROL.update({SCAN.name: _scan, COND.name: _cond, WHILE.name: _while})
