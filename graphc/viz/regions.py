"""How loops and branches are drawn: what their regions are called, and their ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.control.cond import COND
from graphc.control.roles import Scan
from graphc.control.scan_op import SCAN
from graphc.control.while_loop import WHILE
from graphc.ir.nodes import Node, Tensor, leaf_name
from graphc.viz.labels import short


@dataclass(frozen=True, slots=True)
class Layout:
    """What is written where in the frame of a loop or a branch.

    label: of the frame. lines: in the box of the node, at the frame's end. ports: the
    arguments that have a box at its beginning, the first `carries` of which are fed
    again from its end. frames: of the regions, "" for none. notes: on the arrows into
    the node, from the inputs that no region takes, then from what the regions yield.
    """

    label: str
    lines: tuple[str, ...]
    ports: dict[int, str]
    carries: int
    frames: tuple[str, ...]
    notes: tuple[str, ...]
    turning: bool


def layout_of(node: Node) -> Layout | None:
    """Return how a loop or a branch is drawn, None for any other node."""
    if node.op is SCAN:
        return _scan(node, node.attrs)
    if node.op is COND:
        count = len(node.results)
        sides = [f"{side}{_of(i, count)}" for side in ("then", "else")
                 for i in range(count)]  # fmt: skip
        frames = ("then", "otherwise")
        return Layout("cond", ("cond",), {}, 0, frames, ("if", *sides), False)
    if node.op is WHILE:
        carries = _carries(node.attrs.carries)
        ports = dict(enumerate(carries))
        notes = ("while", *carries)
        frames = ("while", "do")
        return Layout("while_loop", ("while_loop",), ports, len(carries), frames, notes,
                      True)  # fmt: skip
    return None


def _scan(node: Node, attrs: Scan) -> Layout:
    n, m = attrs.carries, attrs.carries + attrs.steps
    carries = _carries(n)
    ports = dict(enumerate(carries))
    for i in range(n, m):
        ports[i] = f"{_name(node.inputs[i], i - n, attrs.steps)}[t]"
    stacked = len(node.results) - n
    notes = (*carries, *(f"y{_of(i, stacked)}[t]" for i in range(stacked)))
    lines = [f"scan t < {short(str(attrs.length))}"]
    if attrs.reverse:
        lines.append("last step first")
    if attrs.truncate:
        lines.append(f"gradient through {attrs.truncate}")
    return Layout("scan", tuple(lines), ports, n, ("",), notes, True)


def _carries(count: int) -> Sequence[str]:
    return [f"carry{_of(i, count)}" for i in range(count)]


def _of(i: int, count: int) -> str:
    return f" {i}" if count > 1 else ""


def _name(tensor: Tensor, i: int, count: int) -> str:
    """Return what to call something that is stepped over."""
    own = leaf_name(tensor) if tensor.node.op.leaf else tensor.node.birth.label
    return short(own) if own else f"x{_of(i, count)}"
