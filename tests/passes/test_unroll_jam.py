"""unroll-jam: several points in one, and every value as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.program.interpret import run_program
from graphc.ir.target import Target
from graphc.passes import parse_pipeline, run_pipeline

WIDE = Target("wide", lanes=16, tiles=True)
BEFORE = "decompose,fuse,lower,schedule"


def graph(
    function: Callable[..., gc.Tensor], *shapes: Any, dtype: str = "float32"
) -> Graph:
    inputs = [gc.input("xyz"[i], s, dtype) for i, s in enumerate(shapes)]
    return Graph.build(inputs, [function(*inputs)], name="example")


def conv(x: gc.Tensor, w: gc.Tensor) -> gc.Tensor:
    return gc.conv2d(x, w)


def slope(x: gc.Tensor, g: gc.Tensor) -> gc.Tensor:
    w = gc.input("w", (g.shape[1], x.shape[1], 3, 3), x.dtype)
    return gc.grad(gc.sum(gc.conv2d(x, w) * g), w)


EXAMPLES = {
    "rows of images": graph(conv, ("N", 2, 5, 20), (5, 2, 2, 5)),
    "one row": graph(conv, ("N", 2, 2, 20), (10, 2, 2, 5)),
    "weights": graph(slope, ("N", 4, 5, 20), ("N", 8, 3, 18)),
}


def jammed(found: Graph, apply_passes: Any) -> tuple[Any, Any]:
    before = apply_passes(BEFORE, found, WIDE)
    return before, apply_passes("unroll-jam", before, WIDE)


@pytest.mark.parametrize("what", EXAMPLES)
def test_values_stay_bit_for_bit(what: str, apply_passes: Any) -> None:
    before, after = jammed(EXAMPLES[what], apply_passes)
    assert after is not before
    rng = np.random.default_rng(0)
    sizes = {"N": 3}
    given = {
        n: rng.normal(size=[sizes.get(str(s), s) for s in before.buffers[n].shape])
        for n in before.inputs
    }
    (out,) = before.outputs
    first, last = (run_program(p, given, sizes)[out] for p in (before, after))
    np.testing.assert_array_equal(first, last)


def test_as_many_points_become_one_as_read_least() -> None:
    def extents(found: Graph, target: Target = WIDE) -> list[object]:
        steps = parse_pipeline(f"{BEFORE},unroll-jam")
        (nest,) = run_pipeline(found, steps, target)[-1].result.nests
        return [a.extent for a in nest.axes]

    n = gc.input("x", ("N", 1)).shape[0]
    # Of 20 sums in registers 5 * 4: 9 reads for 20 products.
    example = graph(conv, ("N", 2, 5, 20), (5, 2, 2, 5))
    assert extents(example) == [n, 1, 1, 16]
    # Half as many where registers hold half as many numbers.
    wide = graph(conv, ("N", 2, 5, 20), (5, 2, 2, 5), dtype="float64")
    assert extents(wide) == [n, 1, 2, 16]
    # A prime number of channels stays, and so does a row.
    prime = graph(conv, ("N", 2, 2, 20), (23, 2, 2, 5))
    assert extents(prime) == [n, 23, 16]
    assert extents(example, Target("scalar", lanes=1)) == [n, 5, 4, 16]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: gc.max_pool2d(x, 2),
        lambda x: gc.avg_pool2d(x, 2),
        lambda x: gc.softmax(x),
        lambda x: gc.sum(x * x, 1),
    ],
    ids=["max_pool", "avg_pool", "softmax", "squares"],
)
def test_nests_in_which_no_read_is_shared_stay(
    function: Any, apply_passes: Any
) -> None:
    found = graph(lambda x: function(x), ("N", 4, 6, 8))
    before, after = jammed(found, apply_passes)
    assert after is before


def test_unroll_jam_in_text(show: Any, apply_passes: Any) -> None:
    found = graph(lambda x, w: gc.relu(gc.conv1d(x, w)), ("N", 3, 20), (2, 3, 5))
    before, after = jammed(found, apply_passes)
    show("unroll-jam", before, after)
