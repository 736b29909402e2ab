"""coalesce: as few axes as there can be, and every element where it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.ir.scalar import walk
from graphc.ir.target import Target

WIDE = Target("wide", lanes=16, tiles=True)


def graph(function: Callable[..., Any], *shapes: Any) -> Graph:
    inputs = [gc.input("xyz"[i], s) for i, s in enumerate(shapes)]
    return Graph.build(inputs, [function(*inputs)], name="example")


# What is computed, and the axes of its nest and of each phase.
CUBE = ("N", 5, 7)
EXAMPLES: dict[str, tuple[Graph, tuple[int, ...]]] = {
    "elementwise": (graph(lambda x: gc.exp(x) * 2.0, CUBE), (1, 0)),
    "of two": (graph(lambda x, y: gc.relu(x) + y, CUBE, CUBE), (1, 0)),
    "a row for all": (graph(lambda x, y: x + y, CUBE, (7,)), (2, 0)),
    "a column for all": (graph(lambda x, y: x * y, CUBE, ("N", 1, 1)), (2, 0)),
    "a middle for all": (graph(lambda x, y: x * y, CUBE, (1, 5, 1)), (3, 0)),
    "turned": (graph(lambda x: gc.transpose(x, (1, 0, 2)), CUBE), (3, 0)),
    "blocks turned": (graph(lambda x: gc.transpose(x, (2, 0, 1)), CUBE), (2, 0)),
    "pairs turned": (
        graph(lambda x: gc.transpose(x, (2, 3, 0, 1)), ("N", 5, 7, 3)),
        (2, 0),
    ),
    "a part of rows": (graph(lambda x: x[:, :, 1:], CUBE), (2, 0)),
    "a part of columns": (graph(lambda x: x[:, 1:3] * 2.0, CUBE), (3, 0)),
    "numbers of rows": (graph(lambda x: gc.argmax(x, 2), CUBE), (1, 1)),
    "sum of rows": (graph(lambda x: gc.sum(x, 2), CUBE), (1, 1, 0)),
    "sum of columns": (graph(lambda x: gc.sum(x, (0, 1)), CUBE), (1, 1, 0)),
    "sum of all": (graph(lambda x: gc.sum(x), CUBE), (0, 1, 0)),
    "place in all": (graph(lambda x: gc.argmax(x), CUBE), (0, 3)),
    "softmax": (graph(lambda x: gc.softmax(x, 2), CUBE), (1, 1, 1, 1)),
    "product": (graph(lambda x, y: x @ y, ("N", 7), (7, 5)), (2, 1, 0)),
    "products": (graph(lambda x, y: x @ y, (2, "N", 7), (2, 7, 5)), (3, 1, 0)),
    "heads": (graph(lambda x, y: x @ y, (2, 3, 4, 7), (2, 3, 7, 5)), (3, 1, 0)),
    "diagonal": (graph(lambda x: gc.diagonal(x), (6, 6)), (1, 0)),
    "reads by index": (graph(lambda x: gc.take(x, [2, 0], 1), CUBE), (3, 0)),
}


@pytest.mark.parametrize("what", EXAMPLES)
def test_axes_that_are_left(what: str, apply_passes: Any, same_values: Any) -> None:
    declared, counts = EXAMPLES[what]
    before = apply_passes("decompose,fuse,lower", declared, WIDE)
    after: Program = apply_passes("coalesce", before, WIDE)
    nest = after.nests[-1]
    found = (len(nest.axes), *(len(p.axes) for p in nest.phases))
    assert found[0] == counts[0]
    assert [n for n in found[1:] if n] == [n for n in counts[1:] if n]
    assert (after is before) == (
        [len(n.axes) for n in before.nests] == [len(n.axes) for n in after.nests]
        and [len(p.axes) for n in before.nests for p in n.phases]
        == [len(p.axes) for n in after.nests for p in n.phases]
    )
    same_values(declared, after, 1e-6)


def test_nests_that_see_a_buffer_in_several_ways(apply_passes, same_values) -> None:
    """All as one, in pairs, and a view of it as rows."""
    x = gc.input("x", ("N", 5, 7, 3))
    h = gc.exp(x)
    found = [gc.transpose(h, (2, 3, 0, 1)), gc.sum(h, (2, 3)), gc.sum(h, (0, 1))]
    declared = Graph.build([x], [*found, gc.softmax(gc.reshape(h, (-1, 7, 3)))])
    before = apply_passes("decompose,lower", declared, WIDE)
    after = apply_passes("coalesce", before, WIDE)
    made = set(after.buffers) - set(before.buffers)
    used = {name for nest in after.nests for name in (*nest.reads, *nest.writes)}
    assert made <= used
    same_values(declared, after, 1e-6)


def test_in_text(show: Any, apply_passes: Any) -> None:
    def both(x: gc.Tensor, y: gc.Tensor) -> gc.Tensor:
        return gc.sum(gc.relu(x) * y, (1, 2))

    before = apply_passes("fuse,lower", graph(both, CUBE, (5, 7)), WIDE)
    show("coalesce", before, apply_passes("coalesce", before, WIDE))


def test_labels_stay_with_what_they_name(apply_passes: Any) -> None:
    def chain(x: gc.Tensor) -> gc.Tensor:
        return gc.tanh(gc.exp(x) + 1.0)

    before = apply_passes("fuse,lower", graph(chain, CUBE), WIDE)
    (nest,) = apply_passes("coalesce", before, WIDE).nests
    named = [nest.labels[e] for e in walk(*nest.phases[0].roots) if e in nest.labels]
    assert [n.split()[-1] for n in named if "full" not in n] == ["exp", "add", "tanh"]


def test_views_that_are_there_are_taken(apply_passes: Any) -> None:
    """The logits of a network, and a view of them as rows: no other view is made."""
    x, w = gc.input("x", ("N", 3, 4)), gc.input("w", (4, 5))
    rows = gc.reshape(gc.reshape(x, (-1, 4)) @ w, (-1, 3, 5))
    before = apply_passes(
        "decompose,fuse,lower", Graph.build([x, w], [gc.softmax(rows)]), WIDE
    )
    after = apply_passes("coalesce", before, WIDE)
    assert after.nests[-1].reads[0] in before.buffers
    made = set(after.buffers) - set(before.buffers)
    assert made == {"out0.flat"}


@pytest.mark.parametrize("n", [0, 1, 2, 5, 17])
@pytest.mark.parametrize("what", EXAMPLES)
def test_kernels_agree_with_reference(what: str, n: int) -> None:
    declared, _ = EXAMPLES[what]
    if "argmax" in declared.text():
        n = max(n, 1)  # nothing has no maximum
    rng = np.random.default_rng(n)
    given = [
        rng.normal(size=[n if s == "N" else s for s in map(_plain, t.shape)])
        for t in declared.inputs
    ]
    arrays = [a.astype(np.float32) for a in given]
    fast, slow = gc.compile(declared), gc.compile(declared, backend="reference")
    np.testing.assert_allclose(fast(*arrays), slow(*arrays), 1e-5, 1e-5)


def _plain(size: Any) -> Any:
    return size if isinstance(size, int) else str(size)
