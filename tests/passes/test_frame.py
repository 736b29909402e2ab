"""frame: contractions that read a padded tensor which nothing has stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

import graphc as gc
from graphc.ir.graph import Graph
from graphc.ir.program import Nest, Program
from graphc.ir.target import Target
from graphc.passes.contraction import contraction_of

TILES = Target("tiles", lanes=16, tiles=True, offsets=True)
LOWERED = "decompose,simplify,cse,fuse,lower"


def image(channels: int = 2, side: int = 16) -> tuple[gc.Tensor, gc.Tensor]:
    x = gc.input("x", ("N", channels, side, side))
    return x, gc.input("w", (3, channels, 3, 3))


def padded_windows() -> Graph:
    x, w = image()
    return Graph.build([x, w], [gc.conv2d(x, w, padding=1)])


def both_gradients() -> Graph:
    x, w = image()
    y = gc.conv2d(x, w, stride=2, padding=1)
    return Graph.build([x, w], [y, *gc.grad(gc.sum(y * y), [x, w])])


def read_elsewhere_too() -> Graph:
    x, w = image()
    wide = gc.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    return Graph.build([x, w], [gc.conv2d(wide, w), gc.cumsum(wide, 3)])


def too_large_for_a_cache() -> Graph:
    x, w = image(64, 100)
    return Graph.build([x, w], [gc.conv2d(x, w, padding=1)])


def ones_around() -> Graph:
    x, w = image()
    widths = ((0, 0), (0, 0), (1, 1), (1, 1))
    wide = gc.pad(x, widths, constant_values=1.0)
    return Graph.build([x, w], [gc.conv2d(wide, w)])


def pads(program: Program) -> int:
    return sum(nest.name == "pad" for nest in program.nests)


@pytest.mark.parametrize(
    ("make", "left"),
    [
        (padded_windows, 0),
        (both_gradients, 0),
        (read_elsewhere_too, 1),
        (too_large_for_a_cache, 1),
        (ones_around, 1),
    ],
)
def test_padding_that_windows_alone_read_is_not_stored(
    make: Callable[[], Graph], left: int, apply_passes, same_values
) -> None:
    graph = make()
    lowered = apply_passes(LOWERED, graph)
    framed = apply_passes("frame", lowered, TILES)
    assert pads(lowered) > 0
    assert pads(framed) == left
    if make is not too_large_for_a_cache:
        same_values(graph, framed, 1e-4)
    if left:
        assert framed is lowered


def test_a_target_without_offsets_stores_its_padding(apply_passes) -> None:
    lowered = apply_passes(LOWERED, padded_windows())
    assert apply_passes("frame", lowered, replace(TILES, offsets=False)) is lowered


def test_a_tensor_that_is_written_in_between_is_padded_before(apply_passes) -> None:
    lowered = apply_passes(LOWERED, padded_windows())
    pad, conv = lowered.body
    assert isinstance(pad, Nest)
    (store,) = pad.phases[0].stores
    overwrite = pad.replace(
        name="zero",
        phases=(replace(pad.phases[0], stores=(replace(store, buffer="x"),)),),
    )
    changed = lowered.replace(body=(pad, overwrite, conv))
    assert apply_passes("frame", changed, TILES) is changed


def test_a_frame_knows_where_elements_lie(apply_passes) -> None:
    x, w = image()
    y = gc.conv2d(x, w, stride=2, padding=((1, 2), (0, 1)), dilation=2)
    lowered = apply_passes(LOWERED, Graph.build([x, w], [y]))
    program = apply_passes("frame", lowered, TILES)
    found = contraction_of(program.nests[0], program)
    assert found is not None
    assert found.frame is not None
    sides = [(s.extent, s.low, s.step, s.size) for s in found.frame.sides]
    # A window spans 5, and stands at eight places and at seven, two apart.
    assert sides == [(2, 0, 1, 2), (19, 1, 1, 16), (17, 0, 1, 16)]
    assert str(found.frame.source) == "x[i0, 0, 0, 0]"
