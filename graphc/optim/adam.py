"""Adam: steps scaled by running means of the gradient and of its square."""

from __future__ import annotations

import math

import numpy as np

from graphc.ir.nodes import Tensor
from graphc.ir.origins import UPDATE, phase
from graphc.ir.types import float32
from graphc.ops.arithmetic import expm1, sqrt
from graphc.ops.creation import cast
from graphc.optim.optimizer import Optimizer, Tensors, number
from graphc.state import Parameter, variable


class Adam(Optimizer):
    """Adam, with Keras's meaning of epsilon.

    The bias corrections are two scalars a step, computed as -expm1(t ln beta), which
    is exact in float32 where 1 - beta ** t is not.

    Math:    t' = t + 1;  m' = b1 m + (1 - b1) g;  v' = b2 v + (1 - b2) g^2
             a = lr sqrt(1 - b2^t') / (1 - b1^t');  w' = w - a m' / (sqrt(v') + epsilon)
    Source:  Kingma and Ba, "Adam", 2015. Epsilon is the "epsilon hat" at the end of
             their section 2, as in Keras; PyTorch adds it after the correction of v.
    Raises:  ArgumentError for a negative learning rate or epsilon, or a beta outside
             [0, 1).
    Example:
        >>> import graphc
        >>> from graphc import optim
        >>> w = graphc.parameter("w", (3,))
        >>> updates = optim.Adam(1e-3).updates(graphc.sum(w * w))
        >>> [state.name for state in updates]
        ['adam/t', 'w', 'adam/w/m', 'adam/w/v']
    """

    slot_names = ("m", "v")

    def __init__(
        self,
        learning_rate: float = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str | None = None,
    ) -> None:
        super().__init__(learning_rate, name)
        self.beta_1 = number("Adam: beta_1", beta_1, high=1.0)
        self.beta_2 = number("Adam: beta_2", beta_2, high=1.0)
        self.epsilon = number("Adam: epsilon", epsilon)
        self.t = variable(f"{self.name}/t", np.int64(0))
        with phase(UPDATE):
            self._next_t = self.t + 1
            t = cast(self._next_t, float32)
            upper = sqrt(_correction(self.beta_2, t))
            self._scaled: Tensor = self._rate * upper / _correction(self.beta_1, t)

    def rate(self) -> Tensor:
        """Return the learning rate with both bias corrections."""
        return self._scaled

    def counters(self) -> dict[Tensor, Tensor]:
        """Count the steps."""
        return {self.t: self._next_t}

    def states_of(self, parameters: Tensors) -> list[Parameter]:
        """Return the states that steps for these parameters use."""
        return [*super().states_of(parameters), self.t]

    def step(self, p: Tensor, g: Tensor, rate: Tensor) -> dict[Tensor, Tensor]:
        """Return the new parameter and both running means."""
        m, v = self.slot(p, "m"), self.slot(p, "v")
        new_m = self.beta_1 * m + (1 - self.beta_1) * g
        new_v = self.beta_2 * v + (1 - self.beta_2) * (g * g)
        new_p = p - rate * new_m / (sqrt(new_v) + self.epsilon)
        return {p: new_p, m: new_m, v: new_v}


def _correction(beta: float, t: Tensor) -> Tensor:
    """Return 1 - beta ** t."""
    rate = math.log(beta) if beta else -math.inf
    found: Tensor = -expm1(t * rate)
    return found
