"""graphc's functions beside those of PyTorch, one family a file.

Each family has `PAIRS`, and `PEERLESS`: why a function has no counterpart.
"""

from __future__ import annotations

import inspect
from typing import Any

import graphc as gc
from graphc import nn
from graphc.ir.op import FUNCTIONS
from torch_table import (
    algebra,
    derivatives,
    elementwise,
    indexing,
    layers,
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
    layers,
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
    return set(first.values()) | own | of_nn()


def of_nn() -> set[str]:
    """Return the names of the layers, and of the losses and activations of `nn`."""
    found = set()
    for part in ("losses", "activations"):
        module = getattr(nn, part)
        for name, value in vars(module).items():
            if inspect.isfunction(value) and value.__module__ == module.__name__:
                first = next(iter(inspect.signature(value).parameters))
                if first in ("y_true", "logits", "x"):
                    found.add(f"nn.{part}.{name}")
    layers = {v for v in vars(nn).values() if isinstance(v, type)} - {nn.Layer, nn.Cell}
    return found | {f"nn.{v.__name__}" for v in layers if issubclass(v, nn.Layer)}


def _of_graphc(function: Any) -> bool:
    """Whether a function is graphc's, not one that a test has made."""
    scalar = getattr(function, "scalar", None)
    module = getattr(scalar.formula if scalar else function, "__module__", "")
    return str(module).startswith("graphc.")
