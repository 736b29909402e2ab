"""Optimisers by name."""

from __future__ import annotations

from collections.abc import Callable

from graphc.errors import ArgumentError
from graphc.ir.origins import here
from graphc.optim.adam import Adam
from graphc.optim.optimizer import Optimizer
from graphc.optim.sgd import SGD

OPTIMIZERS: dict[str, Callable[[], Optimizer]] = {"adam": Adam, "sgd": SGD}


def get(optimizer: str | Optimizer) -> Optimizer:
    """Return a fresh optimiser by name; an optimiser stands for itself.

    Raises:  ArgumentError listing the known names.
    Example:
        >>> get("adam")
        <Adam 'adam', learning rate 0.001>
    """
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer.lower() in OPTIMIZERS:
        return OPTIMIZERS[optimizer.lower()]()
    known = ", ".join(sorted(OPTIMIZERS))
    raise ArgumentError(
        f"unknown optimizer {optimizer!r}",
        where=here().quoted,
        help=f"use one of {known}, or an object such as optim.Adam(1e-3)",
    )
