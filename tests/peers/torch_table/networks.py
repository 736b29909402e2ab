"""Normalisation, attention and losses."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

import graphc as gc
from graphc.nn import losses
from torch_table.case import FEW, Pair, Spec, X, Y, whole, within

ROWS = Spec("x", ("N", 6))
WEIGHT, BIAS = Spec("w", (6,), "float32", 0.5, 2), Spec("b", (6,))
IMAGES = Spec("x", ("N", 6, 3, "M"))
MEAN, VARIANCE = Spec("m", (6,)), Spec("v", (6,), "float32", 0.2, 2)
MANY = (2, 5, 13, 17, 64)


def _trained(x: Any, w: Any, b: Any) -> Any:
    axes = (0, *range(2, x.ndim))
    y = F.batch_norm(x, None, None, w, b, training=True)
    return y, x.mean(axes), x.var(axes, correction=0)


def _norms() -> list[Pair]:
    return [
        Pair("layer_norm", "rows", gc.layer_norm,
             lambda x, w, b: F.layer_norm(x, (6,), w, b), (ROWS, WEIGHT, BIAS)),
        Pair("layer_norm", "axes", lambda x: gc.layer_norm(x, axis=(-2, -1)),
             lambda x: F.layer_norm(x, x.shape[-2:]), (IMAGES,), FEW),
        Pair("rms_norm", "rows", lambda x, w: gc.rms_norm(x, w, eps=1e-6),
             lambda x, w: F.rms_norm(x, (6,), w, eps=1e-6), (ROWS, WEIGHT)),
        Pair("group_norm", "images", lambda x, w, b: gc.group_norm(x, 3, w, b),
             lambda x, w, b: F.group_norm(x, 3, w, b), (IMAGES, WEIGHT, BIAS), FEW),
        Pair("batch_norm", "images", gc.batch_norm,
             lambda x, m, v, w, b: F.batch_norm(x, m, v, w, b),
             (IMAGES, MEAN, VARIANCE, WEIGHT, BIAS), FEW,
             # PyTorch's has no gradient for the statistics.
             differs=(0, 3, 4)),
        Pair("batch_norm_training", "images", gc.batch_norm_training, _trained,
             (IMAGES, WEIGHT, BIAS), MANY),
        Pair("batch_norm_training", "rows", gc.batch_norm_training, _trained,
             (within(-3, 3, ROWS), WEIGHT, BIAS), (3, 5, 13, 17, 64)),
    ]  # fmt: skip


QUERY = Spec("q", (2, 2, "N", 5))
KEY = Spec("k", (2, 2, "K", 5))
VALUE = Spec("v", (2, 2, "K", 3))
ours: Any = gc.scaled_dot_product_attention
theirs: Any = F.scaled_dot_product_attention


def _seen(q: Any, k: Any, v: Any, mask: Any) -> Any:
    mask[:, 0] = True  # one that sees nothing is NaN in PyTorch
    return q, k, v, mask


def _attention() -> list[Pair]:
    name = "scaled_dot_product_attention"
    mask = Spec("mask", ("N", "K"), "bool")
    added = Spec("mask", (2, 1, "N", "K"))
    own = Spec("k", (2, 2, "N", 5)), Spec("v", (2, 2, "N", 3))
    return [
        Pair(name, "plain", ours, theirs, (QUERY, KEY, VALUE)),
        Pair(name, "masked", ours, theirs, (QUERY, KEY, VALUE, mask), prepare=_seen),
        Pair(name, "added", ours, theirs, (QUERY, KEY, VALUE, added)),
        Pair(name, "causal", lambda q, k, v: ours(q, k, v, is_causal=True, scale=0.7),
             lambda q, k, v: theirs(q, k, v, is_causal=True, scale=0.7),
             (QUERY, *own)),
    ]  # fmt: skip


def _losses() -> list[Pair]:
    logits, labels = Spec("x", ("N", 7)), whole("y", ("N",), 0, 7)
    right = within(0.05, 0.95, Y)
    return [
        Pair("nn.losses.mean_squared_error", "matrix", losses.mean_squared_error,
             F.mse_loss, (X, Y)),
        Pair("nn.losses.mean_absolute_error", "matrix", losses.mean_absolute_error,
             F.l1_loss, (X, Y)),
        Pair("nn.losses.binary_crossentropy", "probabilities",
             losses.binary_crossentropy,
             lambda y, p: F.binary_cross_entropy(p, y),
             (within(0.05, 0.95), right), differs=(1,)),
        Pair("nn.losses.binary_crossentropy", "logits",
             lambda y, x: losses.binary_crossentropy(y, x, from_logits=True),
             lambda y, x: F.binary_cross_entropy_with_logits(x, y),
             (within(0.05, 0.95), within(-9, 9, Y))),
        Pair("nn.losses.categorical_crossentropy", "logits",
             lambda y, x: losses.categorical_crossentropy(y, x, from_logits=True),
             lambda y, x: F.cross_entropy(x, y),
             (Spec("y", ("N", 7), "float32", 0, 0.3), logits)),
        Pair("nn.losses.sparse_categorical_crossentropy", "logits",
             lambda y, x: losses.sparse_categorical_crossentropy(
                 y, x, from_logits=True),
             lambda y, x: F.cross_entropy(x, y), (labels, logits)),
        Pair("nn.losses.softmax_cross_entropy", "labels",
             losses.softmax_cross_entropy, F.cross_entropy, (logits, labels)),
    ]  # fmt: skip


PAIRS = (*_norms(), *_attention(), *_losses())
PEERLESS: dict[str, str] = {}
