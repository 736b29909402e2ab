"""Losses: scalars to be made small, means over the batch.

The functions with Keras's names take (y_true, y_pred), `softmax_cross_entropy` takes
(logits, labels), as JAX and PyTorch have it. Labels choose by `where`, never by a
product, so a logarithm of 0 that a label does not choose costs nothing and its
gradient is 0.

From probabilities: the logarithm is taken plainly, nothing is clipped. Where the
probabilities come from a softmax or a sigmoid, `stabilize` (and `grad`) turn
log(softmax(x)) into log_softmax(x), so nothing is lost at any x. Where they come from
elsewhere and are exactly 0 for what is true, the loss is inf and its gradient is not
finite, which is what the formula says; Keras would clip at 1e-7.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.errors import ShapeError
from graphc.ir.nodes import Tensor, explain
from graphc.ir.types import bool_
from graphc.nn.names import look_up
from graphc.ops.arithmetic import abs, log, softplus, where
from graphc.ops.composite import log_softmax, mean
from graphc.ops.creation import cast, constant
from graphc.ops.indexing import one_hot
from graphc.ops.reduction import sum
from graphc.ops.shape import reshape

Loss = Callable[[Any, Any], Tensor]


def mean_squared_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of the squared differences.

    Shapes:  y_true [N, ...], y_pred [N, ...] -> []; [N] fits [N, 1]
    Math:    mean (y_pred - y_true)^2;  dy_pred = 2 (y_pred - y_true) / n
    Raises:  ShapeError if the shapes differ.
    Example:
        >>> import graphc
        >>> float(graphc.evaluate(mean_squared_error([1.0, 2.0], [1.0, 4.0])))
        2.0
    """
    true, pred = matched("mean_squared_error", y_true, y_pred)
    error = pred - true
    return mean(error * error)


def mean_absolute_error(y_true: Any, y_pred: Any) -> Tensor:
    """Mean of the absolute differences.

    Shapes:  y_true [N, ...], y_pred [N, ...] -> []; [N] fits [N, 1]
    Math:    mean |y_pred - y_true|;  dy_pred = sign(y_pred - y_true) / n
    Raises:  ShapeError if the shapes differ.
    """
    true, pred = matched("mean_absolute_error", y_true, y_pred)
    return mean(abs(pred - true))


def binary_crossentropy(y_true: Any, y_pred: Any, from_logits: bool = False) -> Tensor:
    """Mean cross-entropy of yes-or-no answers.

    y_true: 0 or 1 as ints or bools (any int but 0 counts as 1), or floats in [0, 1].
    y_pred: probabilities of 1; their logits with from_logits.

    Shapes:  y_true [N, ...], y_pred [N, ...] -> []; [N] fits [N, 1]
    Math:    -mean(y ln p + (1 - y) ln(1 - p)),  p = sigmoid(logits)
    Raises:  ShapeError if the shapes differ.
    """
    true, pred = matched("binary_crossentropy", y_true, y_pred)
    if from_logits:
        yes, no = -softplus(-pred), -softplus(pred)
    else:
        yes, no = log(pred), log(1 - pred)
    if not true.dtype.is_float:
        return -mean(where(cast(true, bool_), yes, no))
    chosen = where(true > 0, true * yes, 0.0) + where(true < 1, (1 - true) * no, 0.0)
    return -mean(chosen)


def categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False
) -> Tensor:
    """Mean cross-entropy of one class among C.

    y_true: rows of C that sum to one (one-hot, or soft), or labels as ints, which
    Keras would refuse here. y_pred: rows of probabilities, which are not scaled to
    sum to one; or logits with from_logits.

    Shapes:  y_true [N, C] or i32[N], y_pred [N, C] -> []
    Math:    -mean over N of sum over C of y ln p,  p = softmax(logits)
    Raises:  ShapeError if the shapes do not fit.
    """
    log_p = log_softmax(y_pred) if from_logits else log(y_pred)
    return -mean(_chosen("categorical_crossentropy", constant(y_true), log_p))


def sparse_categorical_crossentropy(
    y_true: Any, y_pred: Any, from_logits: bool = False
) -> Tensor:
    """Mean cross-entropy of one class among C, given as an int label.

    A label out of range chooses nothing and adds 0; `fit` refuses one.

    Shapes:  y_true i32[N] or i32[N, 1], y_pred [N, C] -> []
    Math:    -mean over N of ln p[label]
    Raises:  ShapeError if the shapes do not fit, DTypeError for labels as floats.
    """
    true = constant(y_true)
    log_p = log_softmax(y_pred) if from_logits else log(y_pred)
    labels = _as_labels(true, log_p)
    if labels is None:
        raise explain(
            ShapeError(
                f"labels {{0}} {true.type} do not fit predictions {{1}} {log_p.type}",
                help="give one int for each row, or use categorical_crossentropy",
            ),
            "sparse_categorical_crossentropy",
            [true, log_p],
        )
    return -mean(_chosen("sparse_categorical_crossentropy", labels, log_p))


def softmax_cross_entropy(logits: Any, labels: Any) -> Tensor:
    """Mean cross-entropy of one class among C, from logits.

    labels: ints, or rows of C that sum to one.

    Shapes:  logits [N, C], labels i32[N] or [N, C] -> []
    Math:    mean over N of -ln softmax(logits)[label];
             dlogits = (softmax(logits) - one_hot(labels)) / N
    Raises:  ShapeError if the shapes do not fit.
    Example:
        >>> import graphc
        >>> logits = graphc.constant([[0.0, 0.0]])
        >>> loss = softmax_cross_entropy(logits, graphc.constant([1]))
        >>> round(float(graphc.evaluate(loss)), 6)
        0.693147
    """
    log_p = log_softmax(logits)
    return -mean(_chosen("softmax_cross_entropy", constant(labels), log_p))


# --- the same as objects, as Keras has them -----------------------------------------


@dataclass(frozen=True, slots=True)
class MeanSquaredError:
    """`mean_squared_error` as an object."""

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the loss; see `mean_squared_error`."""
        return mean_squared_error(y_true, y_pred)


@dataclass(frozen=True, slots=True)
class BinaryCrossentropy:
    """`binary_crossentropy`, from probabilities or logits, as an object."""

    from_logits: bool = False

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the loss; see `binary_crossentropy`."""
        return binary_crossentropy(y_true, y_pred, self.from_logits)


@dataclass(frozen=True, slots=True)
class CategoricalCrossentropy:
    """`categorical_crossentropy`, from probabilities or logits, as an object.

    Example:
        >>> loss = CategoricalCrossentropy(from_logits=True)
    """

    from_logits: bool = False

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the loss; see `categorical_crossentropy`."""
        return categorical_crossentropy(y_true, y_pred, self.from_logits)


@dataclass(frozen=True, slots=True)
class SparseCategoricalCrossentropy:
    """`sparse_categorical_crossentropy`, from probabilities or logits, as an object."""

    from_logits: bool = False

    def __call__(self, y_true: Any, y_pred: Any) -> Tensor:
        """Return the loss; see `sparse_categorical_crossentropy`."""
        return sparse_categorical_crossentropy(y_true, y_pred, self.from_logits)


LOSSES: dict[str, Loss] = {
    "binary_crossentropy": binary_crossentropy,
    "categorical_crossentropy": categorical_crossentropy,
    "mae": mean_absolute_error,
    "mean_absolute_error": mean_absolute_error,
    "mean_squared_error": mean_squared_error,
    "mse": mean_squared_error,
    "sparse_categorical_crossentropy": sparse_categorical_crossentropy,
}

_LABELS: dict[Any, str] = {
    mean_squared_error: "values",
    mean_absolute_error: "values",
    MeanSquaredError: "values",
    binary_crossentropy: "binary",
    BinaryCrossentropy: "binary",
    categorical_crossentropy: "classes",
    CategoricalCrossentropy: "classes",
    sparse_categorical_crossentropy: "classes",
    SparseCategoricalCrossentropy: "classes",
}


def get(loss: str | Loss) -> Loss:
    """Return a loss by name; a function (y_true, y_pred) stands for itself.

    Raises:  ArgumentError listing the known names.
    """
    found: Loss = look_up("loss", loss, LOSSES)
    return found


def labels_of(loss: Loss) -> str:
    """Return what a loss takes as y_true: "values", "binary", "classes", "unknown".

    Example:
        >>> labels_of(CategoricalCrossentropy(from_logits=True)), labels_of(max)
        ('classes', 'unknown')
    """
    while isinstance(loss, functools.partial):
        loss = loss.func
    try:
        return _LABELS.get(loss) or _LABELS.get(type(loss), "unknown")
    except TypeError:  # not hashable
        return "unknown"


# --- fitting what is true to what is predicted --------------------------------------


def matched(what: str, y_true: Any, y_pred: Any) -> tuple[Tensor, Tensor]:
    """Return both with the shape of y_pred; [N] fits [N, 1], nothing else broadcasts.

    What is predicted is never reshaped, so that log(sigmoid(x)) stays together.

    Raises:  ShapeError naming both.
    """
    true, pred = constant(y_true), constant(y_pred)
    fitted = true
    if true.ndim + 1 == pred.ndim and pred.shape[-1] == 1:
        fitted = reshape(true, (*true.shape, 1))
    elif pred.ndim + 1 == true.ndim and true.shape[-1] == 1:
        fitted = reshape(true, true.shape[:-1])
    if fitted.shape != pred.shape:
        raise explain(
            ShapeError(
                f"what is true, {{0}} {true.type}, and what is predicted, "
                f"{{1}} {pred.type}, differ in shape",
                help="give both one shape, with one name for the batch",
            ),
            what,
            [true, pred],
        )
    return fitted, pred


def _as_labels(true: Tensor, pred: Tensor) -> Tensor | None:
    """Return labels of one axis fewer than the predictions, or None if it has none."""
    if true.ndim == pred.ndim and true.shape[-1] == 1 and pred.shape[-1] != 1:
        true = reshape(true, true.shape[:-1])
    return true if true.shape == pred.shape[:-1] else None


def _chosen(what: str, true: Tensor, log_p: Tensor) -> Tensor:
    """Return for each row the log-probability of what is true."""
    labels = _as_labels(true, log_p)
    if labels is not None:
        hit = one_hot(labels, log_p.shape[-1], bool_)
        return sum(where(hit, log_p, 0.0), axis=-1)
    if true.shape != log_p.shape:
        raise explain(
            ShapeError(
                f"labels {{0}} {true.type} do not fit predictions {{1}} {log_p.type}",
                help="give one int for each row, or rows like those of the predictions",
            ),
            what,
            [true, log_p],
        )
    if true.dtype is bool_:
        return sum(where(true, log_p, 0.0), axis=-1)
    soft = cast(true, log_p.dtype)
    return sum(where(soft != 0, soft * log_p, 0.0), axis=-1)
