"""Embedding and multi-head attention: values, masks, gradients, training, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn, optim
from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.graph import Graph

Array = np.ndarray[Any, Any]


def sample(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- embedding ----------------------------------------------------------------------


def test_embedding_looks_up_rows() -> None:
    layer = nn.Embedding(10, 3, name="words")
    x = graphc.input("x", ("N", "T"), "int32")
    y = layer(x)
    rows = np.array([[1, 9, 1], [0, 0, 2]], np.int32)
    found = graphc.compile([x], y)(rows)
    np.testing.assert_array_equal(found, layer.embeddings.value[rows])
    assert np.abs(layer.embeddings.value).max() <= 0.05
    assert [p.name for p in layer.parameters] == ["words/embeddings"]


def test_gradient_of_embedding_adds_into_rows_without_a_one_hot() -> None:
    layer = nn.Embedding(10, 3, name="words")
    x = graphc.input("x", ("N",), "int32")
    y = layer(x)
    slope = graphc.grad(graphc.sum(y * y), layer.embeddings)
    graph = Graph.build([x], [slope])
    assert "one_hot" not in graph.text()
    assert "matmul" not in graph.text()
    rows = np.array([4, 7, 4, 4], np.int32)
    found = graphc.compile([x], slope)(rows)
    expected = np.zeros((10, 3), np.float32)
    np.add.at(expected, rows, 2 * layer.embeddings.value[rows])
    np.testing.assert_allclose(found, expected, 1e-6)


def test_a_model_may_begin_with_an_embedding() -> None:
    model = nn.Sequential([nn.Embedding(6, 4), nn.Flatten(), nn.Dense(1)])
    model.compile(optimizer=optim.Adam(0.05), loss="mse")
    words = np.random.default_rng(0).integers(0, 6, (64, 2))
    target = (words.sum(1, keepdims=True) / 5).astype(np.float32)
    history = model.fit(words, target, epochs=40, verbose=0).history["loss"]
    assert history[-1] < 0.01 < history[0]


def test_mistakes_of_embedding() -> None:
    with pytest.raises(ArgumentError, match="output_dim must be a positive int, not 0"):
        nn.Embedding(5, 0)
    with pytest.raises(DTypeError, match=r"words: x is f32\[N\], indices must be int"):
        nn.Embedding(5, 2, name="words")(graphc.input("x", ("N",)))


# --- multi-head attention -----------------------------------------------------------


def by_hand(
    layer: nn.MultiHeadAttention, q: Array, v: Array, k: Array, mask: Array | None
) -> Array:
    """Compute the layer head by head."""
    p = {s.name.split("/", 1)[1]: s.value for s in layer.parameters}
    heads = []
    for h in range(layer.num_heads):
        parts = {}
        for what, x, d in (
            ("query", q, layer.key_dim),
            ("key", k, layer.key_dim),
            ("value", v, layer.value_dim),
        ):
            own = slice(h * d, h * d + d)
            parts[what] = x @ p[f"{what}/kernel"][:, own] + p[f"{what}/bias"][own]
        scores = parts["query"] @ np.swapaxes(parts["key"], -1, -2)
        scores = scores / np.sqrt(layer.key_dim)
        if mask is not None:
            scores = np.where(mask, scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        heads.append(weights / weights.sum(-1, keepdims=True) @ parts["value"])
    return np.concatenate(heads, -1) @ p["output/kernel"] + p["output/bias"]


def test_attention_of_two_sequences_is_that_of_each_head() -> None:
    layer = nn.MultiHeadAttention(
        2, 3, value_dim=5, bias_initializer="normal", output_shape=6, name="a"
    )
    q, v = graphc.input("q", ("N", "T", 4)), graphc.input("v", ("N", "S", 7))
    mask = graphc.input("mask", ("N", "T", "S"), "bool")
    step = graphc.compile([q, v, mask], layer(q, v, attention_mask=mask))
    rng = np.random.default_rng(0)
    for n, t, s in ((2, 3, 5), (1, 17, 4)):
        a, b = sample(n, t, 4), sample(n, s, 7, seed=1)
        sees = rng.random((n, t, s)) < 0.7
        sees[..., 0] = True
        found = step(a, b, sees)
        assert found.shape == (n, t, 6)
        np.testing.assert_allclose(found, by_hand(layer, a, b, b, sees), 1e-4, 1e-5)
    assert [p.name for p in layer.parameters][:3] == [
        "a/query/kernel",
        "a/query/bias",
        "a/key/kernel",
    ]


def test_a_key_of_its_own_and_a_causal_mask() -> None:
    layer = nn.MultiHeadAttention(2, 3, name="a")
    q, v, k = (graphc.input(n, ("N", 4, d)) for n, d in (("q", 6), ("v", 5), ("k", 2)))
    a, b, c = sample(2, 4, 6), sample(2, 4, 5, seed=1), sample(2, 4, 2, seed=2)
    y = layer(q, v, k, use_causal_mask=True)
    found = graphc.evaluate(y, {q: a, v: b, k: c})
    below = np.tril(np.ones((4, 4), bool))
    np.testing.assert_allclose(found, by_hand(layer, a, b, c, below), 1e-4, 1e-5)


def test_alone_it_is_self_attention_also_in_a_model() -> None:
    layer = nn.MultiHeadAttention(2, 4, name="a")
    model = nn.Sequential([layer, nn.Flatten(), nn.Dense(1)])
    model.compile(optimizer=optim.Adam(0.01), loss="mse")
    a = sample(32, 3, 4)
    target = a[:, 0, :1] * a[:, 1, :1]
    history = model.fit(a, target, epochs=30, verbose=0).history["loss"]
    assert history[-1] < history[0]
    x = graphc.input("x", ("N", "T", 4))
    found = graphc.evaluate(layer(x), {x: a})
    np.testing.assert_allclose(found, by_hand(layer, a, a, a, None), 1e-4, 1e-5)


def test_dropout_of_weights_draws_anew_in_each_training_step() -> None:
    layer = nn.MultiHeadAttention(1, 4, dropout=0.5, name="a")
    x = graphc.input("x", ("N", 6, 4))
    y = layer(x, training=True)
    step = graphc.compile([x], y, updates=graphc.state_updates(y))
    a = sample(2, 6, 4)
    first, second = step(a), step(a)
    assert np.abs(first - second).max() > 1e-3
    assert layer.step.value == 2
    predict = graphc.compile([x], layer(x))
    np.testing.assert_array_equal(predict(a), predict(a))
    np.testing.assert_allclose(predict(a), by_hand(layer, a, a, a, None), 1e-4, 1e-5)


def test_a_place_that_sees_nothing_leaves_the_bias() -> None:
    layer = nn.MultiHeadAttention(2, 3, bias_initializer="ones", name="a")
    x = graphc.input("x", ("N", 3, 4))
    mask = np.ones((3, 3), bool)
    mask[1] = False
    y = layer(x, attention_mask=mask)
    slopes = graphc.grad(graphc.sum(y * y), layer.parameters)
    found, *moved = graphc.evaluate([y, *slopes], {x: sample(2, 3, 4)})
    np.testing.assert_allclose(found[:, 1], 1.0)
    assert all(np.isfinite(d).all() for d in moved)


def test_mistakes_of_attention() -> None:
    with pytest.raises(ArgumentError, match="num_heads must be a positive int, not 0"):
        nn.MultiHeadAttention(0, 4)
    with pytest.raises(ArgumentError, match=r"dropout must be in \[0, 1\), not 1"):
        nn.MultiHeadAttention(2, 4, dropout=1)
    layer = nn.MultiHeadAttention(2, 4, name="a")
    with pytest.raises(ShapeError, match=r"a: x is f32\[N,T,D\], it needs an axis"):
        layer(graphc.input("x", ("N", "T", "D")))
    x = graphc.input("x", ("N", "T", 4))
    with pytest.raises(ShapeError, match="does not broadcast to the scores"):
        layer(x, attention_mask=graphc.input("m", ("N", 3, "T"), "bool"))
