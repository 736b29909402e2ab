"""Losses and metrics: against NumPy, at the edges, for labels of every kind."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
from scipy import special

import graphc
from graphc.nn import losses, metrics

RANDOM = np.random.default_rng(3)
LOGITS = RANDOM.normal(size=(6, 4)) * 3
PROBABILITIES = special.softmax(LOGITS, axis=-1)
LABELS = np.array([0, 3, 1, 1, 2, 0], np.int32)
ONE_HOT = np.eye(4)[LABELS]
SOFT = special.softmax(RANDOM.normal(size=(6, 4)), axis=-1)


def value(tensor: graphc.Tensor) -> float:
    return float(graphc.evaluate(tensor))


def on(function: Any, *arrays: Any, **options: Any) -> float:
    return value(function(*(graphc.constant(a) for a in arrays), **options))


def both(
    function: Any, true: Any, given: Any, backend: str = "reference"
) -> tuple[Any, Any]:
    """Return a loss and its gradient by the prediction, compiled with all passes."""
    p = graphc.input("p", np.shape(given), dtype=np.asarray(given).dtype)
    loss = function(graphc.constant(true), p)
    step = graphc.compile([p], [loss, graphc.grad(loss, p)], backend=backend)
    found = step(np.asarray(given))
    return float(found[0]), found[1]


# --- values -------------------------------------------------------------------------


def test_squared_and_absolute_error() -> None:
    true, pred = RANDOM.normal(size=(5, 3)), RANDOM.normal(size=(5, 3))
    assert on(losses.mean_squared_error, true, pred) == pytest.approx(
        np.mean((true - pred) ** 2)
    )
    assert on(losses.mean_absolute_error, true, pred) == pytest.approx(
        np.mean(np.abs(true - pred))
    )


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], ONE_HOT, ONE_HOT.astype(np.int32), ONE_HOT == 1],
    ids=["ints", "column", "one-hot", "one-hot ints", "one-hot bools"],
)
def test_categorical_crossentropy_takes_labels_of_every_kind(labels: Any) -> None:
    want = pytest.approx(-np.mean(np.log(PROBABILITIES)[np.arange(6), LABELS]))
    assert on(losses.categorical_crossentropy, labels, PROBABILITIES) == want
    assert on(losses.softmax_cross_entropy, LOGITS, labels) == want
    assert on(losses.categorical_crossentropy, labels, LOGITS, from_logits=True) == want
    if labels.ndim == 1 or labels.shape[-1] == 1:
        sparse = losses.sparse_categorical_crossentropy
        assert on(sparse, labels, PROBABILITIES) == want
        assert on(sparse, labels, LOGITS, from_logits=True) == want


def test_categorical_crossentropy_takes_soft_labels() -> None:
    want = pytest.approx(-np.mean(np.sum(SOFT * np.log(PROBABILITIES), axis=-1)))
    assert on(losses.categorical_crossentropy, SOFT, PROBABILITIES) == want
    assert on(losses.softmax_cross_entropy, LOGITS, SOFT) == want


@pytest.mark.parametrize("kind", [np.float64, np.int32, np.bool_])
def test_binary_crossentropy(kind: Any) -> None:
    z, y = LOGITS[:, :1], (LABELS[:, None] % 2).astype(kind)
    p = special.expit(z)
    want = pytest.approx(-np.mean(np.where(y == 1, np.log(p), np.log(1 - p))))
    assert on(losses.binary_crossentropy, y, p) == want
    assert on(losses.binary_crossentropy, y, z, from_logits=True) == want
    assert on(losses.binary_crossentropy, y[:, 0], p) == want


def test_binary_crossentropy_takes_soft_labels() -> None:
    y, p = SOFT, special.expit(LOGITS)
    want = pytest.approx(-np.mean(y * np.log(p) + (1 - y) * np.log(1 - p)))
    assert on(losses.binary_crossentropy, y, p) == want
    assert on(losses.binary_crossentropy, y, LOGITS, from_logits=True) == want


@pytest.mark.parametrize(
    ("made", "function"),
    [
        (losses.MeanSquaredError(), losses.mean_squared_error),
        (losses.BinaryCrossentropy(), losses.binary_crossentropy),
        (losses.CategoricalCrossentropy(), losses.categorical_crossentropy),
    ],
)
def test_objects_are_their_functions(made: Any, function: Any) -> None:
    assert on(made, SOFT, PROBABILITIES) == on(function, SOFT, PROBABILITIES)


def test_objects_pass_from_logits_on() -> None:
    for made in (
        losses.CategoricalCrossentropy(from_logits=True),
        losses.SparseCategoricalCrossentropy(from_logits=True),
    ):
        assert on(made, LABELS, LOGITS) == on(
            losses.softmax_cross_entropy, LOGITS, LABELS
        )
    binary = losses.BinaryCrossentropy(from_logits=True)
    assert on(binary, SOFT, LOGITS) == on(
        losses.binary_crossentropy, SOFT, LOGITS, from_logits=True
    )


# --- edges --------------------------------------------------------------------------

EXTREME = np.array([[1000.0, 0.0, -1000.0], [-1000.0, 0.0, 1000.0]], np.float32)


@pytest.mark.parametrize("labels", [np.array([2, 2], np.int32), np.eye(3)[[2, 2]]])
def test_softmax_then_log_is_exact_at_extremes(labels: Any) -> None:
    """The plain log of the softmax layer's output loses nothing."""

    def loss(true: graphc.Tensor, logits: graphc.Tensor) -> graphc.Tensor:
        return losses.categorical_crossentropy(true, graphc.softmax(logits))

    found, gradient = both(loss, labels, EXTREME)
    assert found == 1000.0
    np.testing.assert_array_equal(gradient, [[0.5, 0, -0.5], [0, 0, 0]])


@pytest.mark.parametrize("shape", [(5, 1), (5,)])
@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_sigmoid_then_log_is_exact_at_extremes(kind: Any, shape: Any) -> None:
    def loss(true: graphc.Tensor, logits: graphc.Tensor) -> graphc.Tensor:
        return losses.binary_crossentropy(true, graphc.sigmoid(logits))

    z = np.array([[1000.0], [-1000.0], [1000.0], [-1000.0], [20.0]], np.float32)
    labels = np.array([1, 1, 0, 0, 1], kind).reshape(shape)
    found, gradient = both(loss, labels, z)
    assert found == pytest.approx(400.0)
    near = float(-special.expit(-20.0) / 5)
    want = np.array([[0], [-0.2], [0.2], [0], [near]])
    np.testing.assert_allclose(gradient, want, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", [np.float32, np.int32, np.bool_])
def test_infinite_logits_of_a_right_answer_cost_nothing(kind: Any) -> None:
    z = np.array([[np.inf], [-np.inf]], np.float32)
    loss = functools.partial(losses.binary_crossentropy, from_logits=True)
    found, gradient = both(loss, np.array([[1], [0]]).astype(kind), z)
    assert found == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("labels", [np.array([1], np.int32), np.eye(3)[[1]]])
def test_a_masked_class_costs_nothing(labels: Any) -> None:
    logits = np.array([[0.0, 0.0, -np.inf]], np.float32)
    loss = functools.partial(losses.categorical_crossentropy, from_logits=True)
    found, gradient = both(loss, labels, logits)
    assert found == pytest.approx(np.log(2))
    np.testing.assert_allclose(gradient, [[0.5, -0.5, 0]], rtol=1e-6)


def test_probability_zero_of_what_is_not_true_costs_nothing() -> None:
    p = np.array([[0.0, 1.0]])
    found, gradient = both(losses.categorical_crossentropy, np.array([1], np.int32), p)
    assert found == 0
    assert gradient.tolist() == [[0.0, -1.0]]


def test_probability_zero_of_what_is_true_is_infinite() -> None:
    p = np.array([[0.0, 1.0]])
    found, _ = both(losses.categorical_crossentropy, np.array([0], np.int32), p)
    assert found == np.inf


def test_softmax_cross_entropy_has_the_gradient_of_its_doc() -> None:
    x = graphc.input("x", (6, 4), dtype="float64")
    loss = losses.softmax_cross_entropy(x, graphc.constant(LABELS))
    found = graphc.evaluate(graphc.grad(loss, x), {x: LOGITS})
    np.testing.assert_allclose(found, (PROBABILITIES - ONE_HOT) / 6, atol=1e-14)


# --- errors and names ---------------------------------------------------------------


def test_shapes_that_numpy_would_broadcast_are_refused() -> None:
    with pytest.raises(graphc.GraphcError, match="differ in shape"):
        on(losses.mean_squared_error, np.zeros((5, 1)), np.zeros((5, 3)))


def test_a_column_fits_a_vector() -> None:
    true, pred = RANDOM.normal(size=5), RANDOM.normal(size=5)
    want = pytest.approx(np.mean((true - pred) ** 2))
    assert on(losses.mean_squared_error, true, pred[:, None]) == want
    assert on(losses.mean_squared_error, true[:, None], pred) == want


def test_labels_that_do_not_fit_are_refused() -> None:
    p = graphc.input("p", ("N", 4))
    wrong = graphc.input("y", ("N", 3))
    for function in (
        losses.categorical_crossentropy,
        losses.sparse_categorical_crossentropy,
    ):
        with pytest.raises(graphc.GraphcError) as found:
            function(wrong, p)
        assert "labels y f32[N,3] do not fit predictions" in str(found.value)
        assert "y   : f32[N,3]  declared at test_losses.py:" in str(found.value)


def test_get_finds_losses_and_lists_them() -> None:
    assert losses.get("mse") is losses.mean_squared_error
    assert losses.get(losses.binary_crossentropy) is losses.binary_crossentropy
    with pytest.raises(graphc.GraphcError, match="unknown loss 'crossentropy'") as e:
        losses.get("crossentropy")
    assert "binary_crossentropy, categorical_crossentropy" in str(e.value)


def test_labels_of_looks_into_partials_and_objects() -> None:
    partial = functools.partial(losses.binary_crossentropy, from_logits=True)
    assert losses.labels_of(partial) == "binary"
    assert losses.labels_of(losses.SparseCategoricalCrossentropy()) == "classes"
    assert losses.labels_of(lambda t, p: p) == "unknown"


# --- metrics ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "labels", [LABELS, LABELS[:, None], ONE_HOT], ids=["ints", "column", "one-hot"]
)
def test_accuracy_of_classes(labels: Any) -> None:
    want = pytest.approx(np.mean(PROBABILITIES.argmax(-1) == LABELS))
    assert on(metrics.accuracy, labels, PROBABILITIES) == want


def test_accuracy_of_two_classes() -> None:
    p = np.array([[0.2], [0.7], [0.5], [0.9]])
    assert on(metrics.accuracy, np.array([0, 1, 1, 0]), p) == 0.5
    assert on(metrics.accuracy, np.array([[0.0], [1], [1], [0]]), p) == 0.5
    assert on(metrics.accuracy, np.array([0, 1, 1, 0]), p[:, 0]) == 0.5


def test_metrics_are_found_by_name_and_listed() -> None:
    assert metrics.get("accuracy") == ("accuracy", metrics.accuracy)
    assert metrics.get("mae")[1] is losses.mean_absolute_error
    assert metrics.get(metrics.binary_accuracy)[0] == "binary_accuracy"
    with pytest.raises(graphc.GraphcError, match="unknown metric 'acurracy'") as found:
        metrics.get("acurracy")
    assert "acc, accuracy, binary_accuracy" in str(found.value)
    with pytest.raises(graphc.GraphcError, match="do not fit predictions"):
        on(metrics.sparse_categorical_accuracy, ONE_HOT, PROBABILITIES)
