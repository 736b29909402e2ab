"""pick: one element instead of a sum of choices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.passes import DEFAULT

WITHOUT = ",".join(name for name in DEFAULT if name != "pick")
LABELS = np.array([0, 4, 2, -1, 5, 2**31 - 1, -(2**31)], np.int32)


def chosen(x: gc.Tensor, y: gc.Tensor) -> gc.Tensor:
    """Return of each row the element of its label, 0 if there is none."""
    return gc.sum(gc.where(gc.one_hot(y, x.shape[1], dtype="bool"), x, 0.0), axis=1)


def sums(step: Any) -> int:
    reduces = [r for n in step.program.nests for p in n.phases for r in p.reduces]
    return sum(r.monoid == "sum" for r in reduces)


def both(outputs: Any, inputs: Any) -> tuple[Any, Any]:
    compiled = (gc.compile(inputs, outputs, passes=p) for p in ("default", WITHOUT))
    new, old = compiled
    return new, old


def test_an_element_is_read_by_its_index() -> None:
    x, y = gc.input("x", ("N", 5)), gc.input("y", ("N",), "int32")
    new, old = both(chosen(x, y), [x, y])
    assert (sums(new), sums(old)) == (0, 1)
    given = np.random.default_rng(0).normal(size=(len(LABELS), 5)).astype(np.float32)
    given[0, 0], given[1, 4], given[2, 3] = np.nan, np.inf, np.nan
    found = new(given, LABELS)
    np.testing.assert_array_equal(found, old(given, LABELS))
    np.testing.assert_array_equal(found, [np.nan, np.inf, given[2, 2], 0, 0, 0, 0])


@pytest.mark.parametrize("columns", [1, 10, 64])
def test_a_loss_and_its_gradient_stay_as_they_are(columns: int) -> None:
    x, y = gc.input("x", ("N", columns)), gc.input("y", ("N",), "int32")
    loss = nn.losses.softmax_cross_entropy(x, y)
    new, old = both([loss, *gc.grad(loss, [x])], [x, y])
    assert sums(new) < sums(old) or columns == 1
    rng = np.random.default_rng(0)
    for n in (0, 1, 37):
        given = rng.normal(size=(n, columns)).astype(np.float32)
        labels = rng.integers(-1, columns + 1, n).astype(np.int32)
        for a, b in zip(new(given, labels), old(given, labels), strict=True):
            np.testing.assert_allclose(a, b, 1e-6, 1e-7)


@pytest.mark.parametrize("name", ["other value", "symbolic", "of floats", "of a sum"])
def test_what_may_be_more_than_one_element_is_summed(name: str) -> None:
    columns: Any = "K" if name == "symbolic" else 5
    x, y = gc.input("x", ("N", columns)), gc.input("y", ("N",), "int32")
    place = gc.iota((1, x.shape[1]), 1)
    label = gc.reshape(y, (-1, 1))
    if name == "of floats":
        hit = gc.cast(place, "float32") == gc.cast(label, "float32")
    elif name == "of a sum":
        hit = place == gc.cast(
            gc.sum(gc.cast(x > 0, "int32"), 1, keepdims=True), "int64"
        )
    else:
        hit = place == label
    total = gc.sum(gc.where(hit, x, 1.0 if name == "other value" else 0.0), axis=1)
    new, old = both(total, [x, y])
    assert sums(new) == sums(old)
    given = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.testing.assert_array_equal(new(given, LABELS), old(given, LABELS))
