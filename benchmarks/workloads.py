"""What is measured: training steps, the same arithmetic for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Mlp:
    """A perceptron with relu, softmax cross-entropy and Adam; integer labels.

    The learning rate is so small that thousands of steps on one batch leave the
    network as it is: a network that has learnt its batch by heart has gradients of 0,
    whose squares are subnormal, which costs some processors a hundredfold.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    learning_rate: float = 1e-7

    def data(self) -> tuple[Any, Any]:
        """Return a batch: x float32 [batch, features], y int32 [batch]."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, self.sizes[0])).astype(np.float32)
        y = rng.integers(0, self.sizes[-1], self.batch).astype(np.int32)
        return x, y

    def weights(self) -> list[tuple[Any, Any]]:
        """Return initial weights and biases, one pair a layer."""
        rng = np.random.default_rng(1)
        found = []
        for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            limit = np.sqrt(6 / (a + b))
            w = rng.uniform(-limit, limit, (a, b)).astype(np.float32)
            found.append((w, np.zeros(b, np.float32)))
        return found

    @property
    def flops(self) -> int:
        """Return the floating-point operations of the products of one step."""
        products = [a * b for a, b in zip(self.sizes[:-1], self.sizes[1:], strict=True)]
        return 2 * self.batch * (3 * sum(products) - products[0])


WORKLOADS = {
    w.name: w
    for w in (
        Mlp("mlp-10-32-64-10", (10, 32, 64, 10), 32),
        Mlp("mlp-784-512-256-10", (784, 512, 256, 10), 128),
    )
}
