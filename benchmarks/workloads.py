"""What is measured: training steps and formulas, the same arithmetic for everybody.

A workload knows its name, its floor (how many times as fast as the fastest peer graphc
has to be), its data, and by formula its operations and the bytes that have to move at
least: everything given is read once, everything that stays is written once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmarks.networks import (
    Array,
    Conv,
    Dense,
    Dropout,
    Flatten,
    Made,
    MaxPool,
    Network,
    Recurrent,
    Relu,
    Shape,
    Weights,
    leaves,
    resnet,
    through,
    without_chance,
)


@dataclass(frozen=True)
class Training:
    """A step of training on one batch: softmax cross-entropy, integer labels.

    optimiser: "adam", or "sgd", which has a momentum of 0.9.
    """

    name: str
    floor: float
    network: Network
    shape: Shape  # of one example
    batch: int
    optimiser: str = "adam"

    @property
    def sequences(self) -> bool:
        """Whether examples are sequences, which some peers want time first."""
        return isinstance(self.network[0], Recurrent)

    def data(self) -> tuple[Array, Array]:
        """Return a batch: x float32 [batch, ...], y int32 [batch] or [batch, T]."""
        rng = np.random.default_rng(0)
        x = rng.standard_normal((self.batch, *self.shape)).astype(np.float32)
        *lead, classes = self._made[0][-1].shape
        return x, rng.integers(0, classes, (self.batch, *lead)).astype(np.int32)

    def weights(self) -> Weights:
        """Return the initial weights, one dict a layer."""
        return self._made[1]

    def without_chance(self) -> Training:
        """Return the same without random numbers; itself if it has none."""
        calm = without_chance(self.network)
        return self if calm == self.network else replace(self, network=calm)

    @property
    def flops(self) -> int:
        """The operations of the products: forward, and both gradients of each.

        Without the gradient by x, which nobody needs.
        """
        made = self._made[0]
        first = next(m for m in made if m.flops)
        return self.batch * (3 * sum(m.flops for m in made) - first.input_flops)

    @property
    def bytes(self) -> int:
        """The batch, read; parameters and the optimiser's slots, read and written."""
        slots = {"adam": 2, "sgd": 1}[self.optimiser]
        size = sum(w.size for w in leaves(self._made[1]))
        return sum(a.nbytes for a in self.data()) + 4 * size * 2 * (1 + slots)

    @cached_property
    def _made(self) -> tuple[list[Made], Weights]:
        return through(self.network, self.shape, np.random.default_rng(1))


@dataclass(frozen=True)
class Formula:
    """A function of some arrays; with `backward` also its gradients by all of them.

    formula: a name that each peer has a function for. cost: operations for each
    element of the output, forward; a function such as tanh counts as one.
    """

    name: str
    floor: float
    formula: str
    shapes: tuple[Shape, ...]
    output: Shape
    cost: int
    backward: bool = False

    def data(self) -> list[Array]:
        """Return the arguments, then what the gradients start from, if wanted."""
        rng = np.random.default_rng(0)
        shapes = [*self.shapes, self.output] if self.backward else self.shapes
        return [rng.standard_normal(s).astype(np.float32) for s in shapes]

    def without_chance(self) -> Formula:
        """Return itself: there is no chance in a formula."""
        return self

    @property
    def flops(self) -> int:
        """The operations; a gradient by each of two operands costs as much again."""
        return math.prod(self.output) * self.cost * (3 if self.backward else 1)

    @property
    def bytes(self) -> int:
        """All arguments and all results, once; twice the arguments' with gradients."""
        given, made = sum(map(math.prod, self.shapes)), math.prod(self.output)
        return 4 * (2 if self.backward else 1) * (given + made)


Workload = Training | Formula


def mlp(*sizes: int, batch: int, floor: float) -> Training:
    """Return a perceptron with relu between its layers."""
    network: Network = (Dense(sizes[1]),)
    for units in sizes[2:]:
        network += (Relu(), Dense(units))
    name = "mlp-" + "-".join(map(str, sizes))
    return Training(name, floor, network, sizes[:1], batch)


def sequences(kind: str, units: int, batch: int, floor: float) -> Training:
    """Return a recurrent network that names one of 64 classes at each of 50 steps."""
    network = (Recurrent(kind, units), Dense(64))
    return Training(f"{kind}-{units}-batch-{batch}", floor, network, (50, 64), batch)


CONVNET: Network = (  # that of examples/digits_convnet.py
    *(Conv(10, 5), MaxPool(2), Relu()),
    *(Conv(20, 5), Dropout(0.1, channels=True), MaxPool(2), Relu()),
    *(Flatten(), Dense(50), Relu(), Dropout(0.3), Dense(10)),
)


def rows(
    what: str, backward: bool, shapes: tuple[Shape, ...], cost: int, floor: float
) -> Formula:
    """Return a formula over the rows of a matrix."""
    name = what.replace("_", "-") + ("-backward" if backward else "")
    return Formula(name, floor, what, shapes, shapes[0], cost, backward)


def matmul(form: str, n: int) -> Formula:
    """Return a square product: "matmul", or with a or b transposed, "_tn", "_nt"."""
    floor = 1.5 if n == 64 else 1.0
    name = f"{form.replace('_', '-')}-{n}"
    return Formula(name, floor, form, ((n, n),) * 2, (n, n), 2 * n)


def convolution(batch: int, channels: int, side: int) -> Formula:
    """Return a 3x3 convolution with both of its gradients."""
    image, kernel = (batch, channels, side, side), (channels, channels, 3, 3)
    cost = 2 * 9 * channels
    return Formula("conv-3x3", 1.0, "conv", (image, kernel), image, cost, True)


MATRIX, VECTOR, HEADS = (4096, 1024), (1024,), (8, 256, 64)

WORKLOADS: dict[str, Workload] = {
    w.name: w
    for w in (
        mlp(10, 32, 64, 10, batch=32, floor=4),
        mlp(100, 64, 10, batch=32, floor=4),
        mlp(784, 512, 256, 10, batch=128, floor=2),
        Training("convnet", 2.5, CONVNET, (1, 28, 28), 64, "sgd"),
        *(sequences(k, 128, 32, 2) for k in ("rnn", "lstm", "gru")),
        *(sequences(k, 128, 1, 4) for k in ("rnn", "lstm", "gru")),
        *(sequences(k, 16, 32, 4) for k in ("rnn", "lstm", "gru")),
        Formula("elementwise", 1.7, "chain", ((1 << 22,),) * 3, (1 << 22,), 11),
        rows("layer_norm", False, (MATRIX, VECTOR, VECTOR), 8, 1.2),
        rows("layer_norm", True, (MATRIX, VECTOR, VECTOR), 8, 1.2),
        rows("softmax", False, (MATRIX,), 5, 1.2),
        rows("softmax", True, (MATRIX,), 5, 1.2),
        # Two products of 256 x 256 x 64 a head: 4 * 256 for each of its outputs.
        Formula("attention", 1.5, "attention", (HEADS,) * 3, HEADS, 4 * 256, True),
        *(
            matmul(form, n)
            for form in ("matmul", "matmul_tn", "matmul_nt")
            for n in (64, 256, 1024, 2048)
        ),
        convolution(32, 64, 32),
        Training("resnet-20", 1.3, resnet(), (3, 32, 32), 32, "sgd"),
    )
}
