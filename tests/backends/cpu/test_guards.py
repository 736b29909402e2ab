"""Choices whose test allows a read: `pad` and its kin read neighbours at once."""

from __future__ import annotations

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.guards import guarded
from graphc.ir.scalar import Expr, apply, axis, const, load
from graphc.ir.types import float32, int64

WIDTHS = [((0, 0), (1, 2)), ((2, 0), (0, 17)), ((1, 1), (20, 0)), ((0, 3), (0, 0))]


@pytest.mark.parametrize("width", WIDTHS, ids=str)
@pytest.mark.parametrize("value", [0.0, 2.5, float("nan")])
def test_padding_is_read_without_gathering(
    width: tuple[tuple[int, int], ...], value: float
) -> None:
    x = gc.input("x", ("M", "N"))
    step = gc.compile([x], gc.pad(x, width, constant_values=value))
    assert "gather" not in "\n".join(k.source for k in step.kernels)
    for m, n in ((1, 1), (3, 15), (2, 16), (5, 37)):
        given = np.random.default_rng(0).standard_normal((m, n)).astype("f")
        given[0, 0], given[-1, -1] = np.nan, np.inf
        wanted = np.pad(given, width, constant_values=value)
        np.testing.assert_array_equal(step(given), wanted)


def choice(low: int, high: int, top: int) -> Expr:
    """select(i - 2 >= low & i - 2 < high, x[max(min(i - 2, top), 0)], 0)"""
    at = axis("i") - const(2, int64)
    tests = at >= const(low, int64), at < const(high, int64)
    clamped = apply("minimum", at, const(top, int64))
    inside = load("x", [apply("maximum", clamped, const(0, int64))], float32)
    return apply("select", apply("logical_and", *tests), inside, const(0.0, float32))


def test_a_test_must_cover_what_the_clamps_do() -> None:
    free = guarded(choice(0, 9, 8), "i")
    assert free is not None
    assert free.args == (axis("i") - const(2, int64),)
    assert guarded(choice(-1, 9, 8), "i") is None  # reads x[0] for i = 1
    assert guarded(choice(0, 10, 8), "i") is None  # reads x[8] for i = 11
    assert guarded(choice(0, 9, 8), "j") is None  # the index is uniform along lanes
