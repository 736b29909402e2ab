"""What `check=True` looks at: the checks of a node, and looking while interpreting.

An op may say what must hold of its values (`Op.checks`): an index lies within its
axis. An op that is a graph of others has the checks of those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphc.errors import CheckError
from graphc.ir.dims import evaluate
from graphc.ir.interpret import Values, observing, run_nodes
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, describe, topological
from graphc.ir.op import Check, Decomposed
from graphc.ops.regions import CUSTOM_GRADIENT, FUSED, inline

HELP = "correct the value, or leave out check=True to go on with it"


def checks_of(node: Node) -> list[Check]:
    """Return what must hold when a node runs, as tensors made from its inputs.

    Loops and branches are left out: what is inside runs many times, or not at all.
    """
    if node.op.checks is not None:
        return list(node.op.checks(node))
    inside = _inside(node)
    if inside is None:
        return []
    found = [check for inner in inside.nodes for check in checks_of(inner)]
    if not found:
        return []
    tensors = [t for check in found for t in (check.ok, check.value)]
    made = iter(inline(Region(inside.args, tensors), node.inputs))
    return [Check(next(made), next(made), c.message, c.sizes) for c in found]


def _inside(node: Node) -> Region | None:
    """Return the graph that a node stands for, if it stands for one."""
    if node.op in (CUSTOM_GRADIENT, FUSED):
        return node.regions[0]
    if isinstance(node.op.lower, Decomposed):
        args = make_args([t.type for t in node.inputs])
        found = node.op.lower.rule(node.attrs, *args)
        return Region(args, [found] if isinstance(found, Tensor) else found)
    return None


def message(check: Check, value: Any, sizes: Mapping[str, int]) -> str:
    """Return what to say of a value that breaks a check."""
    bound = [evaluate(s, sizes) for s in check.sizes]
    return check.message.format(*bound, value=value)


@contextmanager
def checking() -> Iterator[None]:
    """Check every node that is interpreted inside, those in loops included.

    Raises:  CheckError for the first value that breaks a check, with its line.
    """
    with observing(_look):
        yield


def _look(node: Node, arrays: Any, sizes: Mapping[str, int]) -> None:
    """Evaluate the checks of a node on what it is about to read."""
    args = make_args([t.type for t in node.inputs])
    stand_in = Node(node.op, args, node.attrs, node.types, node.regions, node.birth)
    for check in checks_of(stand_in):
        values: Values = dict(zip(args, arrays, strict=True))
        order = topological([check.ok, check.value])
        with observing(None):
            run_nodes([n for n in order if not n.op.leaf], values, sizes)
        ok = values[check.ok]
        if ok.all():
            continue
        at = np.unravel_index(int(np.argmin(ok)), ok.shape)
        details = []
        named = [t for a, t in zip(args, node.inputs, strict=True) if a is check.value]
        for read in named:
            where = f"element [{', '.join(map(str, at))}] of " if at else ""
            details.append(f"{where}{describe(read)} : {read.type}")
        value = values[check.value][at].item()
        raise CheckError(
            f"{node.op.name}: {message(check, value, sizes)}",
            details=details,
            where=node.birth.quoted,
            help=HELP,
        )
