"""Attention: values, masks, rows that see nothing, kernels, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.errors import DTypeError, ShapeError

Array = np.ndarray[Any, Any]
attention = gc.scaled_dot_product_attention


def inputs(heads: int = 2) -> tuple[gc.Tensor, gc.Tensor, gc.Tensor]:
    return (
        gc.input("q", ("N", heads, "T", 5)),
        gc.input("k", ("N", heads, "S", 5)),
        gc.input("v", ("N", heads, "S", 3)),
    )


def sample(n: int, t: int, s: int, heads: int = 2) -> list[Array]:
    rng = np.random.default_rng(n + 10 * t + 100 * s)
    shapes = ((n, heads, t, 5), (n, heads, s, 5), (n, heads, s, 3))
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


def expected(
    q: Array, k: Array, v: Array, mask: Array | None = None, scale: float = 5**-0.5
) -> Array:
    """Row by row; a row that sees nothing is 0."""
    lead = np.broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (np.broadcast_to(x, (*lead, *x.shape[-2:])) for x in (q, k, v))
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    found = np.zeros((*lead, q.shape[-2], v.shape[-1]))
    sees = np.ones((q.shape[-2], k.shape[-2]), bool) if mask is None else mask
    sees = np.broadcast_to(sees, (*lead, q.shape[-2], k.shape[-2]))
    for at in np.ndindex(*found.shape[:-1]):
        seen = sees[at]
        if not seen.any():
            continue
        scores = (k[at[:-1]][seen] @ q[at]) * scale
        e = np.exp(scores - scores.max())
        found[at] = (e / e.sum()) @ v[at[:-1]][seen]
    return found


# --- values -------------------------------------------------------------------------


def test_values_at_ragged_sizes() -> None:
    q, k, v = inputs()
    step = gc.compile([q, k, v], attention(q, k, v))
    for n, t, s in ((1, 1, 1), (2, 3, 7), (1, 17, 16), (3, 33, 2)):
        given = sample(n, t, s)
        np.testing.assert_allclose(step(*given), expected(*given), 1e-4, 1e-5)


def test_masks_of_bools_and_of_floats_say_the_same() -> None:
    q, k, v = inputs()
    bools = gc.input("bools", ("N", 1, "T", "S"), "bool")
    floats = gc.input("floats", ("T", "S"))
    step = gc.compile(
        [q, k, v, bools, floats],
        [attention(q, k, v, bools), attention(q, k, v, floats)],
    )
    given = sample(1, 9, 7)
    mask = np.random.default_rng(0).random((9, 7)) < 0.4
    mask[2] = False
    added = np.where(mask, 0, -np.inf).astype(np.float32)
    for found in step(*given, mask[None, None], added):
        np.testing.assert_allclose(found, expected(*given, mask), 1e-4, 1e-5)
        np.testing.assert_array_equal(found[:, :, 2], 0)


def test_a_mask_of_floats_is_added() -> None:
    q, k, v = sample(1, 4, 6)
    bias = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    found = gc.evaluate(attention(q, k, v, bias))
    scores = np.einsum("nhtd,nhsd->nhts", q, k) / np.sqrt(5) + bias
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(found, weights @ v, 1e-4, 1e-5)


@pytest.mark.parametrize(("t", "s"), [(4, 4), (3, 6), (6, 3)])
def test_causal_is_a_lower_triangle(t: int, s: int) -> None:
    q, k, v = inputs()
    given = sample(2, t, s)
    below = np.tril(np.ones((t, s), bool))
    found = gc.compile([q, k, v], attention(q, k, v, is_causal=True))(*given)
    np.testing.assert_allclose(found, expected(*given, below), 1e-4, 1e-5)
    mask = np.random.default_rng(0).random((t, s)) < 0.5
    both = gc.evaluate(attention(*given, mask=mask, is_causal=True))
    np.testing.assert_allclose(both, expected(*given, below & mask), 1e-4, 1e-5)


def test_heads_may_share_keys_and_values() -> None:
    q, k, v = sample(2, 3, 4)
    k, v = k[:, :1], v[0, :1]
    found = gc.evaluate(attention(q, k, v, scale=0.3))
    np.testing.assert_allclose(found, expected(q, k, v, scale=0.3), 1e-4, 1e-5)


def test_features_of_unknown_number_are_scaled() -> None:
    q, k = gc.input("q", ("T", "E")), gc.input("k", ("S", "E"))
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 7)), rng.normal(size=(4, 7))
    found = gc.evaluate(attention(q, k, k), {q: a, k: b})
    np.testing.assert_allclose(found, expected(a, b, b, scale=7**-0.5), 1e-4, 1e-5)


# --- stability ----------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_a_row_that_sees_nothing_has_zeros_and_gradients_of_zero(backend: str) -> None:
    q, k, v = inputs()
    mask = gc.input("mask", ("T", "S"), "bool")
    added = gc.where(mask, 0.0, float("-inf"))
    for m in (mask, added):
        y = attention(q, k, v, m)
        slopes = gc.grad(gc.sum(y * y), [q, k, v])
        given = sample(1, 4, 5)
        sees = np.ones((4, 5), bool)
        sees[1] = False
        step = gc.compile([q, k, v, mask], [y, *slopes], backend=backend)
        found, *moved = step(*given, sees)
        np.testing.assert_array_equal(found[:, :, 1], 0)
        assert all(np.isfinite(d).all() for d in moved)
        np.testing.assert_array_equal(moved[0][:, :, 1], 0)
        assert np.abs(moved[0][:, :, 0]).max() > 0
        rest = np.delete(given[0], 1, 2)
        np.testing.assert_allclose(
            np.delete(found, 1, 2), expected(rest, *given[1:]), 1e-4, 1e-5
        )


def test_large_scores_do_not_overflow() -> None:
    q, k, v = inputs()
    given = sample(1, 4, 5)
    y = attention(q, k, v)
    step = gc.compile([q, k, v], [y, gc.grad(gc.sum(y), q)])
    found, slope = step(given[0] * 1000, *given[1:])
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(found, expected(given[0] * 1000, *given[1:]), 1e-3, 1e-3)


# --- kernels ------------------------------------------------------------------------


def test_scores_softmax_and_mean_are_three_kernels() -> None:
    q, k, v = inputs()
    mask = gc.input("mask", ("T", "S"), "bool")
    step = gc.compile([q, k, v, mask], attention(q, k, v, mask, is_causal=True))
    nests = step.program.nests
    strategies = [n.schedule.strategy for n in nests if n.schedule is not None]
    assert strategies == ["tile", "vector", "tile"]
    assert len(step.kernels) == 3


def test_the_gradient_of_a_transposed_operand_is_not_transposed_again() -> None:
    q, k, v = inputs()
    y = attention(q, k, v)
    step = gc.compile([q, k, v], gc.grad(gc.sum(y * y), [q, k, v]))
    assert not [n.name for n in step.program.nests if n.name == "transpose"]
    x, w = gc.input("x", (5, "N")), gc.input("w", (3, 5))
    z = x.T @ w.T
    step = gc.compile([x, w], gc.grad(gc.sum(z * z), [x, w]))
    assert len(step.program.nests) == 3
    a, b = np.arange(10.0).reshape(5, 2), np.arange(15.0).reshape(3, 5)
    wide = 2 * (b @ a)
    for found, slope in zip(step(a, b), (b.T @ wide, wide @ a.T), strict=True):
        np.testing.assert_allclose(found, slope, 1e-6)


def test_dropout_leaves_the_mean() -> None:
    q, k, v = inputs()
    draws = {"dropout": 0.5, "seed": 3, "stream": 7}
    step = gc.compile([q, k, v], attention(q, k, v, **draws))
    given = sample(1, 200, 50)
    given[2] = np.ones_like(given[2])
    found = step(*given)
    assert abs(found.mean() - 1) < 0.03
    assert found.std() > 0.05
    np.testing.assert_array_equal(found, step(*given))


# --- errors -------------------------------------------------------------------------

ERRORS: list[tuple[Callable[..., Any], type[Exception], str]] = [
    (
        lambda q, k, v: attention(q, v, v),
        ShapeError,
        r"the numbers of features differ: q\[3\]=5, v\[3\]=3",
    ),
    (
        lambda q, k, v: attention(q, k, gc.input("w", (2, 6, 3))),
        ShapeError,
        r"places cannot be proved equal: k\[2\]=S, w\[1\]=6",
    ),
    (
        lambda q, k, v: attention(q, k, v, gc.input("m", (3, 4), "bool")),
        ShapeError,
        r"the mask m bool\[3,4\] does not broadcast to the scores \[N,2,T,S\]",
    ),
    (
        lambda q, k, v: attention(q, k, v, gc.input("m", ("T", "S"), "int32")),
        DTypeError,
        "the mask m is int32",
    ),
    (
        lambda q, k, v: attention(q[0, 0, 0], k, v),
        ShapeError,
        "needs an axis of places",
    ),
    (
        lambda q, k, v: attention(q, gc.input("k3", (7, 3, "S", 5)), v),
        ShapeError,
        "dimensions",
    ),
]


@pytest.mark.parametrize(("call", "kind", "says"), ERRORS, ids=[e[2] for e in ERRORS])
def test_mistakes_are_named_with_their_line(
    call: Callable[..., Any], kind: type[Exception], says: str
) -> None:
    with pytest.raises(kind, match=says) as raised:
        call(*inputs())
    assert "scaled_dot_product_attention: " in str(raised.value)
    assert "test_attention.py:" in str(raised.value)
