"""Looking things up by the names that users write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.origins import here


def look_up(kind: str, given: Any, known: Mapping[str, Any]) -> Any:
    """Return what a name stands for; a callable stands for itself.

    kind: "loss", "activation", ...: what a message calls it.

    Raises:  ArgumentError listing the known names.
    Example:
        >>> look_up("loss", "mse", {"mse": 1})
        1
    """
    if isinstance(given, str):
        if given in known:
            return known[given]
        raise ArgumentError(
            f"unknown {kind} {given!r}",
            where=here().quoted,
            help="use one of " + ", ".join(sorted(known)) + ", or a function",
        )
    if not isinstance(given, Callable):  # type: ignore[arg-type]
        raise ArgumentError(
            f"the {kind} must be a name or a function, not {given!r}",
            where=here().quoted,
            help="the names are " + ", ".join(sorted(known)),
        )
    return given
