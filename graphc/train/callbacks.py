"""Callbacks: what a user wants to be called during a fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.origins import here
from graphc.nn.model import Sequential

EVENTS = ("on_train_begin", "on_epoch_begin", "on_epoch_end", "on_train_end")


class Callbacks:
    """A list of callbacks, called in order.

    Raises:  ArgumentError for an object that is no function and has no event.
    Example:
        >>> from graphc import nn
        >>> heard = []
        >>> both = Callbacks([lambda epoch, logs: heard.append(epoch)], nn.Sequential())
        >>> both.call("on_epoch_end", 3, {})
        >>> heard
        [3]
    """

    def __init__(self, given: Sequence[Any] | None, model: Sequential) -> None:
        self._listeners: dict[str, list[Callable[..., Any]]] = {e: [] for e in EVENTS}
        for callback in given or ():
            self._listen(callback)
            if hasattr(callback, "set_model"):
                callback.set_model(model)

    def _listen(self, callback: Any) -> None:
        found = [e for e in EVENTS if hasattr(callback, e)]
        for event in found:
            self._listeners[event].append(getattr(callback, event))
        if found:
            return
        if not callable(callback):
            raise ArgumentError(
                f"{callback!r} is no callback",
                where=here().quoted,
                help="give a function (epoch, logs), or an object with one of "
                + ", ".join(EVENTS),
            )
        self._listeners["on_epoch_end"].append(callback)

    def call(self, event: str, *args: int | Mapping[str, float]) -> None:
        """Tell everyone who listens."""
        for listener in self._listeners[event]:
            listener(*args)
