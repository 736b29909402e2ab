"""Layers that normalise: over the batch, the features, or groups of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.nn.layer import Layer
from graphc.ops.normalisation import (
    batch_norm,
    batch_norm_training,
    group_norm,
    layer_norm,
    rms_norm,
)
from graphc.ops.reduction import normal_axes
from graphc.state import Parameter, attach_update


class Normalisation(Layer):
    """What normalising layers share: gamma and beta for some axes.

    axis: the axes that gamma and beta have. epsilon: is added to what is divided by.
    center, scale: whether there is a beta, and a gamma.
    """

    def __init__(
        self,
        axis: Any,
        epsilon: float,
        center: bool,
        scale: bool,
        beta_initializer: Any,
        gamma_initializer: Any,
        seed: int | None,
        name: str | None,
    ) -> None:
        super().__init__(name, seed)
        if not isinstance(epsilon, (int, float, np.number)) or not epsilon >= 0:
            raise ArgumentError(
                f"{type(self).__name__}: epsilon must be a number of at least 0, not "
                f"{epsilon!r}",
                where=here().quoted,
            )
        self.axis = axis
        self.epsilon = float(epsilon)
        self.center = center
        self.scale = scale
        self.beta_initializer = beta_initializer
        self.gamma_initializer = gamma_initializer
        self.gamma: Parameter | None = None
        self.beta: Parameter | None = None

    def make_parameters(self, x: Tensor) -> None:
        """Make gamma and beta."""
        shape, dtype = self.sizes(x), x.dtype if x.dtype.is_float else "float32"
        if self.scale:
            self.gamma = self.parameter("gamma", shape, self.gamma_initializer, dtype)
        if self.center:
            self.beta = self.parameter("beta", shape, self.beta_initializer, dtype)

    def sizes(self, x: Tensor) -> tuple[int, ...]:
        """Return the sizes of the axes.

        Raises:  ShapeError unless they are there and known numbers.
        """
        try:
            axes = normal_axes(self.axis, x.ndim)
        except ArgumentError as error:
            raise ShapeError(
                f"{self.name}: {error.message.replace('{0}', describe(x))}",
                details=[f"{describe(x)} : {x.type}"],
                where=here().quoted,
                help=error.help,
            ) from None
        for a in axes:
            if not isinstance(x.shape[a], int):
                raise ShapeError(
                    f"{self.name}: axis {a} of {describe(x)} is {x.shape[a]}, not a "
                    "number",
                    details=[f"{describe(x)} : {x.type}"],
                    where=here().quoted,
                    help="gamma and beta need a known size: declare that axis as an "
                    "int, or normalise along another axis",
                )
        return tuple(int(x.shape[a]) for a in axes)  # type: ignore[arg-type]


class BatchNormalization(Normalisation):
    """Scale each channel by the mean and variance of the batch, or by running ones.

    In training the statistics are those of the batch, and the running ones move
    towards them: they are states, which `graphc.state_updates` and the optimisers
    find. In inference the running ones are used. axis: the channels, 1 for features
    and for NCHW images; -1 where channels come last. momentum: the share of the old
    running statistics that stays. The running variance is that of the batch divided
    by the number of elements, as in Keras. A step may hold one training call.

    Shapes:  x [N, C, H, W]; gamma, beta, moving_mean, moving_variance [C] -> as x
    Math:    y = (x - mean) / sqrt(var + epsilon) * gamma + beta
             moving = momentum * moving + (1 - momentum) * batch
    Raises:  ArgumentError unless 0 <= momentum <= 1; ShapeError unless the number of
             channels is known.
    Source:  Ioffe and Szegedy, "Batch normalization", 2015.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> layer = nn.BatchNormalization(name="norm")
        >>> y = layer(graphc.input("x", ("N", 3, 8, 8)), training=True)
        >>> [s.name for s in graphc.state_updates(y)]
        ['norm/moving_mean', 'norm/moving_variance']
    """

    def __init__(
        self,
        axis: int = 1,
        momentum: float = 0.99,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            seed,
            name,
        )
        if not isinstance(momentum, (int, float, np.number)) or not 0 <= momentum <= 1:
            raise ArgumentError(
                f"BatchNormalization: momentum must be in [0, 1], not {momentum!r}",
                where=here().quoted,
            )
        self.momentum = float(momentum)

    def make_parameters(self, x: Tensor) -> None:
        """Make gamma and beta, and the running statistics."""
        super().make_parameters(x)
        shape = self.sizes(x)
        dtype = x.dtype.numpy if x.dtype.is_float else np.float32
        self.moving_mean = self.variable("moving_mean", np.zeros(shape, dtype))
        self.moving_variance = self.variable("moving_variance", np.ones(shape, dtype))

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Normalise by the statistics of the batch in training, else the running."""
        options: Any = {"axis": self.axis, "eps": self.epsilon}
        if not training:
            known = self.moving_mean, self.moving_variance
            return batch_norm(x, *known, self.gamma, self.beta, **options)
        y, mean, variance = batch_norm_training(x, self.gamma, self.beta, **options)
        for state, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moved = state * self.momentum + new * (1 - self.momentum)
            attach_update(y, state, moved)
        return y


class LayerNormalization(Normalisation):
    """Scale the elements along axes to mean 0 and variance 1, then by gamma and beta.

    Shapes:  x [..., D]; gamma, beta [D] -> [..., D]
    Math:    y = (x - mean) / sqrt(var + epsilon) * gamma + beta
    Raises:  ShapeError unless the sizes of the axes are known.
    Source:  Ba, Kiros and Hinton, "Layer normalization", 2016.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.LayerNormalization()(graphc.input("x", ("N", "T", 16))).type
        TensorType(f32[N,T,16])
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            seed,
            name,
        )

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Normalise."""
        return layer_norm(x, self.gamma, self.beta, self.axis, self.epsilon)


class RMSNormalization(Normalisation):
    """Scale the elements along axes to a mean square of 1, then by gamma.

    Shapes:  x [..., D]; gamma [D] -> [..., D]
    Math:    y = x / sqrt(mean(x^2) + epsilon) * gamma
    Raises:  ShapeError unless the sizes of the axes are known.
    Source:  Zhang and Sennrich, "Root mean square layer normalization", 2019.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.RMSNormalization()(graphc.input("x", ("N", "T", 16))).type
        TensorType(f32[N,T,16])
    """

    def __init__(
        self,
        axis: Any = -1,
        epsilon: float = 1e-6,
        scale: bool = True,
        gamma_initializer: Any = "ones",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            axis, epsilon, False, scale, "zeros", gamma_initializer, seed, name
        )

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Normalise."""
        return rms_norm(x, self.gamma, self.axis, self.epsilon)


class GroupNormalization(Normalisation):
    """Scale each group of channels of each image to mean 0 and variance 1.

    groups: how many; -1 for as many as there are channels (instance normalisation).
    axis: the channels, 1 for NCHW images; -1 where channels come last.

    Shapes:  x [N, C, H, W]; gamma, beta [C] -> as x
    Math:    y = (x - mean) / sqrt(var + epsilon) * gamma + beta, over C / groups
             channels and all of their places
    Raises:  ShapeError unless groups divides the number of channels, which is known;
             ArgumentError unless groups is a positive int or -1.
    Source:  Wu and He, "Group normalization", 2018.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.GroupNormalization(4)(graphc.input("x", ("N", 8, 5, 5))).type
        TensorType(f32[N,8,5,5])
    """

    def __init__(
        self,
        groups: int = 32,
        axis: int = 1,
        epsilon: float = 1e-3,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            axis,
            epsilon,
            center,
            scale,
            beta_initializer,
            gamma_initializer,
            seed,
            name,
        )
        whole = isinstance(groups, (int, np.integer)) and not isinstance(groups, bool)
        if not whole or (groups < 1 and groups != -1):
            raise ArgumentError(
                f"GroupNormalization: groups must be a positive int or -1, not "
                f"{groups!r}",
                where=here().quoted,
            )
        self.groups = int(groups)

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Normalise."""
        (channels,) = self.sizes(x)
        groups = channels if self.groups == -1 else self.groups
        return group_norm(x, groups, self.gamma, self.beta, self.epsilon, self.axis)
