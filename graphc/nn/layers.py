"""The layers: Dense, Dropout, Flatten, Activation."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.nn import activations
from graphc.nn.layer import Layer
from graphc.ops.creation import cast
from graphc.ops.linear import matmul
from graphc.ops.random import dropout
from graphc.ops.shape import reshape
from graphc.state import attach_update


class Dense(Layer):
    """A fully connected layer: activation(x @ kernel + bias).

    kernel_initializer, bias_initializer: what `graphc.parameter` takes as `init`.
    Ints and bools are converted to float32; the kernel has the dtype of the input.

    Shapes:  x [..., D]; kernel [D, units]; bias [units] -> [..., units]
    Math:    y = activation(x @ kernel + bias)
    Raises:  ArgumentError unless units is a positive int, for an unknown activation;
             at the call ShapeError unless x has at least two axes, the last an int.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> layer = nn.Dense(4, activation="relu", name="hidden")
        >>> layer(graphc.input("x", ("N", 3))).type
        TensorType(f32[N,4])
        >>> [(p.name, p.shape) for p in layer.parameters]
        [('hidden/kernel', (3, 4)), ('hidden/bias', (4,))]
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        whole = isinstance(units, (int, np.integer)) and not isinstance(units, bool)
        if not whole or units < 1:
            raise ArgumentError(
                f"Dense: units must be a positive int, not {units!r}",
                where=here().quoted,
            )
        self.units = int(units)
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def make_parameters(self, x: Tensor) -> None:
        """Make kernel and bias for inputs with as many features as x."""
        _check_features(self.name, x)
        dtype = x.dtype if x.dtype.is_float else "float32"
        shape = (x.shape[-1], self.units)
        self.kernel = self.parameter("kernel", shape, self.kernel_initializer, dtype)
        if self.use_bias:
            self.bias = self.parameter(
                "bias", (self.units,), self.bias_initializer, dtype
            )

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Compute activation(x @ kernel + bias)."""
        _check_features(self.name, x)
        rows = x if x.dtype.is_float else cast(x, self.kernel.dtype)
        if rows.ndim > 2:  # one product of matrices, not a batch of them
            rows = reshape(rows, (-1, x.shape[-1]))
        y = matmul(rows, self.kernel)
        if self.use_bias:
            y = y + self.bias
        if x.ndim > 2:
            y = reshape(y, (*x.shape[:-1], self.units))
        found: Tensor = self.activation(y)
        return found


def _check_features(name: str, x: Tensor) -> None:
    if x.ndim < 2:
        problem = f"{describe(x)} is {x.type}, it needs a batch axis and a feature axis"
        help = "use ('N', D) as the shape of the input"
    elif not isinstance(x.shape[-1], int):
        problem = f"the last axis of {describe(x)} is {x.shape[-1]}, not a number"
        help = "a kernel needs a known number of features: declare that axis as an int"
    else:
        return
    place = x.node.birth.place
    raise ShapeError(
        f"{name}: {problem}",
        details=[f"{describe(x)} : {x.type}" + (f"  made at {place}" if place else "")],
        where=here().quoted,
        help=help,
    )


class Dropout(Layer):
    """Set elements to zero with probability `rate` in training; else x itself.

    What is kept is scaled by 1 / (1 - rate), so the mean stays. A state counts the
    training steps: each draws anew, and equal seeds, names and steps draw equally.
    Calls of one layer within one step drop the same places; take two layers where
    that is not wanted.

    Shapes:  x [...] -> [...]
    Source:  Srivastava et al., "Dropout", 2014; scaled at training time.
    Raises:  ArgumentError unless 0 <= rate < 1.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", 3))
        >>> drop = nn.Dropout(0.5)
        >>> drop(x) is x, drop(x, training=True) is x
        (True, False)
    """

    def __init__(
        self, rate: float, *, seed: int | None = None, name: str | None = None
    ) -> None:
        super().__init__(name, seed)
        if not isinstance(rate, (int, float, np.number)) or not 0 <= rate < 1:
            raise ArgumentError(
                f"{type(self).__name__}: the rate must be in [0, 1), not {rate!r}",
                where=here().quoted,
            )
        self.rate = float(rate)

    def make_parameters(self, x: Tensor) -> None:
        """Make the counter of training steps."""
        self.step = self.variable("step", np.int64(0))
        self.next_step = self.step + 1

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Drop elements if this is a training graph."""
        if not training or self.rate == 0:
            return x
        stream = zlib.crc32(self.step.name.encode()) & 0x7FFFFFFF
        return attach_update(self.drop(x, stream), self.step, self.next_step)

    def drop(self, x: Tensor, stream: int) -> Tensor:
        """Return x with some elements set to zero and the others scaled."""
        return dropout(x, self.rate, seed=self.seed, step=self.step, stream=stream)


class Flatten(Layer):
    """Join all axes but the first.

    Shapes:  x [N, 28, 28] -> [N, 784];  x [N] -> [N, 1]
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.Flatten()(graphc.input("x", ("N", 28, 28))).type
        TensorType(f32[N,784])
    """

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Reshape to two axes."""
        if x.ndim < 1:
            raise ShapeError(
                f"{self.name}: {describe(x)} is a scalar, it has no batch axis",
                where=here().quoted,
            )
        return reshape(x, (x.shape[0], -1))


class Activation(Layer):
    """Apply a function: an activation by name, or any function of a tensor.

    Shapes:  x [...] -> what the function gives, mostly [...]
    Raises:  ArgumentError for an unknown name, listing the known ones.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.Activation("tanh")(graphc.input("x", ("N", 3))).type
        TensorType(f32[N,3])
    """

    def __init__(
        self, activation: str | activations.Activation, *, name: str | None = None
    ) -> None:
        super().__init__(name)
        self.activation = activations.get(activation)

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Apply the function."""
        found: Tensor = self.activation(x)
        return found
