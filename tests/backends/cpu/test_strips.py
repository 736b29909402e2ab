"""Loops that run strip by strip: what may, what may not, and with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu import pace
from graphc.backends.cpu.prelude import team
from graphc.backends.cpu.sharing import Alone
from graphc.backends.cpu.strips import Stripping, Strips
from graphc.executable import Executable

Array = np.ndarray[Any, Any]
pytestmark = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")

CELLS = {"rnn": nn.SimpleRNN, "lstm": nn.LSTM, "gru": nn.GRU}
TURNS, FEATURES, CLASSES = 6, 5, 7


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small loops run on a team."""
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)


def network(kind: str, units: int, n: Any, threads: int, **options: Any) -> Executable:
    """Return the training step of a recurrent network with a loss at each turn."""
    x = gc.input("x", (n, TURNS, FEATURES))
    y = gc.input("y", (n, TURNS), "int32")
    layers = CELLS[kind](units, return_sequences=True), nn.Dense(CLASSES)
    model = nn.Sequential(layers)
    gc.random.seed(3)
    loss = nn.losses.softmax_cross_entropy(model(x), y)
    updates = optim.SGD(0.1).updates(loss)
    return gc.compile([x, y], loss, updates=updates, threads=threads, **options)
