"""graphc's functions beside those of PyTorch, one family a file.

Each family has `PAIRS`, and `PEERLESS`: why a function has no counterpart.
"""

from __future__ import annotations

import inspect
from typing import Any

import graphc as gc
from graphc.ir.op import FUNCTIONS
from graphc.nn import losses
from torch_table import (
    algebra,
    derivatives,
    elementwise,
    indexing,
    movement,
    networks,
    reductions,
    windows,
)
from torch_table.case import Pair

FAMILIES: tuple[Any, ...] = (
    elementwise,
    reductions,
    movement,
    indexing,
    algebra,
    windows,
    networks,
    derivatives,
)

PAIRS: tuple[Pair, ...] = tuple(pair for f in FAMILIES for pair in f.PAIRS)
PEERLESS: dict[str, str] = {k: v for f in FAMILIES for k, v in f.PEERLESS.items()}


def universe() -> set[str]:
    """Return the names of graphc's public functions of tensors, synonyms apart."""
    found = {
        name: value
        for name, value in vars(gc).items()
        if callable(value) and not isinstance(value, type)
    }
    first = {id(value): name for name, value in reversed(found.items())}
    own = {name for name, value in FUNCTIONS.items() if _of_graphc(value)}
    of_nn = {f"nn.losses.{n}" for n, v in vars(losses).items() if _is_loss(v)}
    return set(first.values()) | own | of_nn


def _is_loss(value: Any) -> bool:
    """Whether this is one of the losses that the module defines."""
    if not inspect.isfunction(value) or value.__module__ != losses.__name__:
        return False
    return next(iter(inspect.signature(value).parameters)) in ("y_true", "logits")


def _of_graphc(function: Any) -> bool:
    """Whether a function is graphc's, not one that a test has made."""
    scalar = getattr(function, "scalar", None)
    module = getattr(scalar.formula if scalar else function, "__module__", "")
    return str(module).startswith("graphc.")
