"""Which nests are contractions, and what their axes are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import graphc as gc
from graphc.ir.program import Program
from graphc.passes.contraction import Contraction, contraction_of, merged


def lowered(inputs: Sequence[gc.Tensor], output: gc.Tensor) -> Program:
    return gc.compile(list(inputs), output).program


def roles(program: Program) -> list[str]:
    """Return the extents of the axes of each contraction, by their roles."""
    found = []
    for nest in program.nests:
        x = contraction_of(nest, program)
        if x is not None:
            found.append(_text(x))
    return found


def _text(x: Contraction) -> str:
    groups = (x.batch, (x.row,), x.columns, x.blocks, x.depth)
    return " | ".join(" ".join(str(a.extent) for a in axes) for axes in groups)


def test_a_matrix_product_has_an_axis_of_each_kind() -> None:
    x, w = gc.input("x", ("N", 5)), gc.input("w", (5, 7))
    assert roles(lowered([x, w], gc.relu(x @ w))) == [" | N | 7 |  | 5"]


def test_a_batch_is_what_both_read_or_what_is_not_one_in_the_result() -> None:
    x, w = gc.input("x", (3, 4, 5)), gc.input("w", (3, 5, 7))
    assert roles(lowered([x, w], x @ w)) == ["3 | 4 | 7 |  | 5"]


def test_a_convolution_has_its_pixels_as_columns_and_its_window_as_depth() -> None:
    x, w = gc.input("x", ("N", 3, 8, 9)), gc.input("w", (5, 3, 3, 2))
    y = gc.relu(gc.conv2d(x, w))
    assert roles(lowered([x, w], y)) == ["N | 5 | 6 8 |  | 3 3 2"]


def test_the_gradient_of_weights_adds_up_pictures_one_by_one() -> None:
    x, g = gc.input("x", ("N", 3, 8, 9)), gc.input("g", ("N", 5, 6, 8))
    w = gc.parameter("w", (5, 3, 3, 2))
    y = gc.sum(gc.conv2d(x, w) * g)
    assert roles(lowered([x, g], gc.grad(y, w))) == [" | 5 | 3 3 2 | N | 6 8"]


def test_columns_that_a_bias_tells_apart_stay_apart() -> None:
    x, w = gc.input("x", (2, 3, 8, 9)), gc.input("w", (5, 3, 3, 2))
    b = gc.input("b", (8,))
    assert roles(lowered([x, w, b], gc.conv2d(x, w) + b)) == ["2 6 | 5 | 8 |  | 3 3 2"]


@pytest.mark.parametrize(
    ("pairs", "step"),
    [
        ([(5, 3)], 3),
        ([(4, 15), (5, 3)], 3),
        ([(4, 16), (5, 3)], None),
        ([(2, 60), (4, 15), (5, 3)], 3),
        ([(2, 61), (4, 15), (5, 3)], None),
        ([(4, 0), (5, 0)], 0),
        ([(3, -3), (3, -1)], -1),
    ],
)
def test_axes_are_one_if_each_begins_where_the_next_ends(
    pairs: list[tuple[int, int]], step: int | None
) -> None:
    assert merged(pairs) == step
