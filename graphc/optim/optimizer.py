"""Optimizer: what all optimisers share.

An optimiser is a function from a loss to updates, {state: new value}, which
`graphc.compile` takes. Its learning rate is a state: a schedule assigns to it, and
nothing is compiled again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.autodiff.reverse import grad
from graphc.errors import ArgumentError, GradientError
from graphc.ir.collection import no_collection
from graphc.ir.nodes import Tensor, describe, leaf_name
from graphc.ir.origins import UPDATE, here, phase
from graphc.ir.types import float32
from graphc.ops.creation import cast
from graphc.state import (
    Parameter,
    merge_updates,
    parameters_of,
    state_updates,
    variable,
)

Tensors = Sequence[Tensor]


class Optimizer:
    """The base: a subclass defines `step`, and `counters` if it counts.

    name: prefix of its states' names; two optimisers in one compiled step need two.
    """

    slot_names: tuple[str, ...] = ()

    def __init__(self, learning_rate: float, name: str | None = None) -> None:
        self.name = name or type(self).__name__.lower()
        rate = number(f"{type(self).__name__}: learning_rate", learning_rate)
        self._rate = variable(f"{self.name}/learning_rate", rate, float32)
        self._slots: dict[tuple[Tensor, str], Parameter] = {}

    @property
    def learning_rate(self) -> Parameter:
        """The learning rate, a scalar float32 state; assign a number to change it.

        Example:
            >>> from graphc import optim
            >>> sgd = optim.SGD(0.5)
            >>> sgd.learning_rate = 0.25
            >>> float(sgd.learning_rate.value)
            0.25
        """
        return self._rate

    @learning_rate.setter
    def learning_rate(self, value: float) -> None:
        self._rate.value = number("learning_rate", value)

    def updates(
        self, loss: Tensor, parameters: Tensors | None = None
    ) -> dict[Tensor, Tensor]:
        """Return the updates of one training step.

        parameters: what to train; all trainable parameters that the loss reaches if
        left out. The updates that layers attached (counters, running statistics)
        are included.

        Shapes:  loss [] -> {state: new value of the same type}
        Raises:  GradientError if the loss is no scalar, reaches no trainable
                 parameter, or no gradient reaches one of them.
        Example:
            >>> import graphc
            >>> from graphc import optim
            >>> w = graphc.parameter("w", (3,))
            >>> updates = optim.SGD(0.1).updates(graphc.sum(w * w))
            >>> [state.name for state in updates]
            ['w']
        """
        targets = parameters_of([loss]) if parameters is None else list(parameters)
        if not targets:
            raise GradientError(
                f"{type(self).__name__}: {describe(loss)} reaches no trainable "
                "parameter",
                where=here().quoted,
                help="make one with graphc.parameter and compute the loss from it",
            )
        with no_collection():
            gradients = grad(loss, targets)
            self.prepare(targets)
            found = self.counters()
            for p, g in zip(targets, gradients, strict=True):
                with phase(UPDATE, like=p.node.birth):
                    found.update(self.step(p, g, cast(self.rate(), p.dtype)))
            return merge_updates(found, state_updates(loss))

    # --- for subclasses -----------------------------------------------------------

    def step(self, p: Tensor, g: Tensor, rate: Tensor) -> dict[Tensor, Tensor]:
        """Return the new value of a parameter, and those of its slots."""
        raise ArgumentError(
            f"the optimizer {type(self).__name__} does not say how it steps",
            where=here().quoted,
            help="define step(self, p, g, rate)",
        )

    def rate(self) -> Tensor:
        """Return the step size, a scalar that all parameters share."""
        return self._rate

    def counters(self) -> dict[Tensor, Tensor]:
        """Return the updates that do not belong to a parameter."""
        return {}

    # --- states -------------------------------------------------------------------

    def slot(self, p: Tensor, name: str) -> Parameter:
        """Return a state like p, zero at first; one for each parameter and name."""
        found = self._slots.get((p, name))
        if found is None:
            shape = tuple(int(s) for s in p.shape if isinstance(s, int))
            zeros = np.zeros(shape, p.dtype.numpy)
            found = variable(f"{self.name}/{leaf_name(p)}/{name}", zeros)
            self._slots[p, name] = found
        return found

    def prepare(self, parameters: Tensors) -> None:
        """Make the slots of parameters, where they are not made yet."""
        for p in parameters:
            for name in self.slot_names:
                self.slot(p, name)

    def states_of(self, parameters: Tensors) -> list[Parameter]:
        """Return the states that steps for these parameters use; made if need be."""
        self.prepare(parameters)
        slots = [self.slot(p, name) for p in parameters for name in self.slot_names]
        return [self._rate, *slots]

    def __repr__(self) -> str:
        rate = float(f"{float(self._rate.value):.7g}")
        return f"<{type(self).__name__} {self.name!r}, learning rate {rate:g}>"


def number(what: str, value: Any, low: float = 0.0, high: float = math.inf) -> float:
    """Return a number in [low, high).

    Raises:  ArgumentError naming it.
    """
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not low <= found < high:
        raise ArgumentError(
            f"{what} must be a number in [{low:g}, {high:g}), not {value!r}",
            where=here().quoted,
        )
    return found
