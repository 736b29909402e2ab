"""Metrics: what training reports beside the loss.

A metric is a function (y_true, y_pred) -> the mean over the batch; training weights
each batch by its size, so the reported number is the mean over all samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from graphc.errors import ShapeError
from graphc.ir.nodes import Tensor, explain
from graphc.nn import losses
from graphc.nn.names import look_up
from graphc.ops.composite import mean
from graphc.ops.creation import constant
from graphc.ops.reduction import argmax
from graphc.ops.shape import reshape

Metric = Callable[[Any, Any], Tensor]


def accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Return the share of right answers, for labels of any kind.

    One probability a row: `binary_accuracy`. Rows of C with int labels:
    `sparse_categorical_accuracy`; with one-hot rows: `categorical_accuracy`.

    Shapes:  y_true i32[N] or [N, C], y_pred [N], [N, 1] or [N, C] -> []
    Raises:  ShapeError if the shapes do not fit.
    Example:
        >>> import graphc
        >>> p = graphc.constant([[0.1, 0.9], [0.8, 0.2]])
        >>> float(graphc.evaluate(accuracy(graphc.constant([1, 1]), p)))
        0.5
    """
    true, pred = constant(y_true), constant(y_pred)
    if pred.ndim < 2 or pred.shape[-1] == 1:
        return binary_accuracy(true, pred)
    if true.ndim < pred.ndim or true.shape[-1] == 1:
        return sparse_categorical_accuracy(true, pred)
    return categorical_accuracy(true, pred)


def binary_accuracy(y_true: Any, y_pred: Any, threshold: float = 0.5) -> Tensor:
    """Return the share of predictions on the right side of the threshold.

    Shapes:  y_true [N, ...], y_pred [N, ...] -> []; [N] fits [N, 1]
    """
    true, pred = losses.matched("binary_accuracy", y_true, y_pred)
    return mean((pred > threshold) == (true > 0.5))


def categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Return the share of rows whose largest prediction is the one-hot class.

    Shapes:  y_true [N, C], y_pred [N, C] -> []
    """
    true, pred = losses.matched("categorical_accuracy", y_true, y_pred)
    return mean(argmax(pred, axis=-1) == argmax(true, axis=-1))


def sparse_categorical_accuracy(y_true: Any, y_pred: Any) -> Tensor:
    """Return the share of rows whose largest prediction is the int label.

    Shapes:  y_true i32[N] or i32[N, 1], y_pred [N, C] -> []
    Raises:  ShapeError if the shapes do not fit.
    """
    true, pred = constant(y_true), constant(y_pred)
    if true.ndim == pred.ndim and true.shape[-1] == 1:
        true = reshape(true, true.shape[:-1])
    if true.shape != pred.shape[:-1]:
        raise explain(
            ShapeError(
                f"labels {{0}} {true.type} do not fit predictions {{1}} {pred.type}",
                help="give one int for each row",
            ),
            "sparse_categorical_accuracy",
            [true, pred],
        )
    return mean(argmax(pred, axis=-1) == true)


METRICS: dict[str, Metric] = {
    "acc": accuracy,
    "accuracy": accuracy,
    "binary_accuracy": binary_accuracy,
    "categorical_accuracy": categorical_accuracy,
    "sparse_categorical_accuracy": sparse_categorical_accuracy,
    **losses.LOSSES,
}


def get(metric: str | Metric) -> tuple[str, Metric]:
    """Return the name and the function of a metric.

    Raises:  ArgumentError listing the known names.
    Example:
        >>> get("acc")[0]
        'acc'
    """
    found: Metric = look_up("metric", metric, METRICS)
    if isinstance(metric, str):
        return metric, found
    return getattr(metric, "__name__", type(metric).__name__), found
