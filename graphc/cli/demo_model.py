"""The network of `graphc demo`, written as a user would write it.

Its lines are what drawings and kernels of the demo point to.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc import nn, optim

Array = np.ndarray[Any, Any]

RATE = 2e-3


def digits_model(seed: int) -> nn.Sequential:
    """Return a network 64-256-128-10 for digits of 8x8 pixels."""
    model = nn.Sequential(
        [
            nn.Dropout(0.1),
            nn.Dense(256, activation="relu"),
            nn.Dropout(0.3),
            nn.Dense(128, activation="relu"),
            nn.Dropout(0.3),
            nn.Dense(10, activation="softmax"),
        ],
        seed=seed,
    )
    model.build((None, 64))
    return model


class Decay:
    """A callback: the learning rate falls in a line to zero.

    The rate is a state of the step, so nothing is compiled again.
    """

    def __init__(self, optimizer: optim.Optimizer, epochs: int) -> None:
        self.optimizer = optimizer
        self.epochs = epochs

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Set the rate of this epoch."""
        self.optimizer.learning_rate = RATE * (1 - epoch / self.epochs)


def train(
    model: nn.Sequential,
    pixels: Array,
    labels: Array,
    epochs: int,
    callbacks: Sequence[Any] = (),
    verbose: int | str = "auto",
) -> None:
    """Train the network with Adam on batches of 32."""
    adam = optim.Adam(RATE)
    model.compile(adam, loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(
        pixels,
        labels,
        batch_size=32,
        epochs=epochs,
        callbacks=[Decay(adam, epochs), *callbacks],
        verbose=verbose,
    )


def accuracy(model: nn.Sequential, pixels: Array, labels: Array) -> float:
    """Return the share of digits that the network reads correctly."""
    predicted = model.predict(pixels, verbose=0)
    return float(np.mean(predicted.argmax(axis=1) == labels))
