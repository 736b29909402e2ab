"""SGD: stochastic gradient descent, with momentum."""

from __future__ import annotations

from graphc.ir.nodes import Tensor
from graphc.optim.optimizer import Optimizer, number


class SGD(Optimizer):
    """Gradient descent.

    Math:    w' = w - lr g;  with momentum  v' = momentum v - lr g,  w' = w + v',
             and with nesterov  w' = w + momentum v' - lr g
    Source:  Sutskever et al., "On the importance of initialization and momentum",
             2013, in the form of Keras.
    Raises:  ArgumentError for a negative learning rate or a momentum outside [0, 1).
    Example:
        >>> from graphc import optim
        >>> optim.SGD(0.1, momentum=0.9)
        <SGD 'sgd', learning rate 0.1>
    """

    def __init__(
        self,
        learning_rate: float = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, name)
        self.momentum = number("SGD: momentum", momentum, high=1.0)
        self.nesterov = nesterov
        self.slot_names = ("velocity",) if self.momentum else ()

    def step(self, p: Tensor, g: Tensor, rate: Tensor) -> dict[Tensor, Tensor]:
        """Return the new parameter and velocity."""
        if not self.momentum:
            return {p: p - rate * g}
        slot = self.slot(p, "velocity")
        down = rate * g
        velocity = self.momentum * slot - down
        if self.nesterov:
            return {p: p + (self.momentum * velocity - down), slot: velocity}
        return {p: p + velocity, slot: velocity}
