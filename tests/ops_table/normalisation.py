"""Normalisation and attention."""

from __future__ import annotations

from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.nodes import make1
from graphc.ops.normalisation import RMS_SCALE, STANDARDIZE, Scaling
from ops_table.case import CUBE, WIDE, Array, Case, Oracle, Spec, X

IMAGES = Spec("x", (3, 4, "N", "M"))
WEIGHT = Spec("w", (4,), "float32", 0.5, 2.0)
BIAS = Spec("b", (4,))
MEAN = Spec("m", (4,))
VARIANCE = Spec("v", (4,), "float32", 0.2, 2.0)
QUERY = Spec("q", (2, 2, "N", 3))
KEY = Spec("k", (2, 2, "M", 3))
VALUE = Spec("v", (2, 2, "M", 2))
MASK = Spec("mask", ("N", "M"), "bool")
ADDED = Spec("mask", (2, 1, "N", "M"))

attention = gc.scaled_dot_product_attention

CASES = (
    Case(
        "standardize",
        "axis",
        lambda x: make1(STANDARDIZE, (x,), Scaling((1,), 1e-5)),
        (X,),
    ),
    Case("standardize", "layer_norm", gc.layer_norm, (X, WEIGHT, BIAS)),
    Case("standardize", "first_axis", lambda x: gc.layer_norm(x, axis=0), (X,)),
    Case(
        "standardize", "several_axes", lambda x: gc.layer_norm(x, axis=(0, 2)), (CUBE,)
    ),
    Case("standardize", "double", lambda x: gc.layer_norm(x, eps=1e-12), (WIDE,)),
    Case(
        "standardize",
        "group_norm",
        lambda x, w, b: gc.group_norm(x, 2, w, b),
        (IMAGES, WEIGHT, BIAS),
    ),
    Case(
        "standardize",
        "batch_norm_training",
        gc.batch_norm_training,
        (IMAGES, WEIGHT, BIAS),
    ),
    Case(
        "rms_scale", "axis", lambda x: make1(RMS_SCALE, (x,), Scaling((1,), 1e-6)), (X,)
    ),
    Case("rms_scale", "rms_norm", gc.rms_norm, (X, WEIGHT)),
    Case("rms_scale", "several_axes", lambda x: gc.rms_norm(x, axis=(0, 1)), (CUBE,)),
    Case("rsqrt", "batch_norm", gc.batch_norm, (IMAGES, MEAN, VARIANCE, WEIGHT, BIAS)),
    Case("softmax", "attention", attention, (QUERY, KEY, VALUE)),
    Case("softmax", "attention_masked", attention, (QUERY, KEY, VALUE, MASK)),
    Case("softmax", "attention_added", attention, (QUERY, KEY, VALUE, ADDED)),
    Case(
        "softmax",
        "attention_causal",
        lambda q, k, v: attention(q, k, v, is_causal=True, scale=0.5),
        (QUERY, KEY, VALUE),
    ),
    Case(
        "softmax",
        "attention_shared_heads",
        attention,
        (QUERY, Spec("k", (2, 1, "M", 3)), Spec("v", (1, "M", 2))),
    ),
)


# --- what NumPy says ---------------------------------------------------------------


def _rows(a: Any, x: Array) -> tuple[Array, Array]:
    """Return x with the axes last and flat, and where each element came from."""
    moved = np.moveaxis(x, a.axis, range(-len(a.axis), 0))
    return moved.reshape(*moved.shape[: x.ndim - len(a.axis)], -1), moved


def _back(a: Any, rows: Array, moved: Array) -> Array:
    return np.moveaxis(rows.reshape(moved.shape), range(-len(a.axis), 0), a.axis)


def _standardized(a: Any, x: Array) -> Array:
    rows, moved = _rows(a, x)
    found = np.empty_like(rows)
    for at in np.ndindex(*rows.shape[:-1]):
        centre = sum(rows[at]) / len(rows[at])
        square = sum(e * e for e in rows[at]) / len(rows[at]) - centre * centre
        found[at] = (rows[at] - centre) / (square + a.eps) ** 0.5
    return _back(a, found, moved)


def _rms(a: Any, x: Array) -> Array:
    rows, moved = _rows(a, x)
    found = np.empty_like(rows)
    for at in np.ndindex(*rows.shape[:-1]):
        found[at] = rows[at] / np.sqrt(
            np.linalg.norm(rows[at]) ** 2 / len(rows[at]) + a.eps
        )
    return _back(a, found, moved)


ORACLES: dict[str, Oracle] = {"standardize": _standardized, "rms_scale": _rms}
