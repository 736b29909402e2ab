"""History: what a fit measured, epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping


class History:
    """The record of a fit.

    epoch: the numbers of the epochs, from 0. history: for each measured name
    ("loss", "accuracy", "val_loss", ...) one number for each epoch.

    Example:
        >>> record = History()
        >>> record.add(0, {"loss": 0.5})
        >>> record.history, record.epoch
        ({'loss': [0.5]}, [0])
    """

    def __init__(self) -> None:
        self.epoch: list[int] = []
        self.history: dict[str, list[float]] = {}

    def add(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Append an epoch."""
        self.epoch.append(epoch)
        for name, value in logs.items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        last = {name: round(values[-1], 4) for name, values in self.history.items()}
        return f"<History of {len(self.epoch)} epochs, last {last}>"
