"""Layers for images: convolutions, dropping of whole channels.

Images are [N, C, H, W] unless data_format="channels_last" makes them [N, H, W, C].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.nn import activations
from graphc.nn.layer import Layer
from graphc.nn.layers import Dropout
from graphc.ops.arithmetic import where
from graphc.ops.convolutions import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from graphc.ops.creation import cast
from graphc.ops.random import bernoulli
from graphc.ops.shape import reshape
from graphc.ops.windows import LAYOUTS, paddings, per_axis
from graphc.state import INITIALIZERS, named_initial

FORWARD = {1: conv1d, 2: conv2d, 3: conv3d}
TRANSPOSED = {1: conv_transpose1d, 2: conv_transpose2d, 3: conv_transpose3d}


def whole(layer: Layer, what: str, value: Any) -> int:
    """Return a positive int.

    Raises:  ArgumentError for anything else.
    """
    good = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not good or value < 1:
        raise ArgumentError(
            f"{type(layer).__name__}: {what} must be a positive int, not {value!r}",
            where=here().quoted,
        )
    return int(value)


def each_axis(layer: Layer, what: str, value: Any, ndim: int) -> tuple[int, ...]:
    """Return a positive int for each spatial axis.

    Raises:  ArgumentError for anything else.
    """
    try:
        return per_axis(what, value, ndim)
    except ArgumentError as error:
        raise at_layer(layer, error) from None


def at_layer(layer: Layer, error: ArgumentError) -> ArgumentError:
    """Return an error with the layer's kind and the user's line."""
    return ArgumentError(
        f"{type(layer).__name__}: {error.message}", where=here().quoted, help=error.help
    )


def layout_of(layer: Layer, data_format: str | None, ndim: int) -> str:
    """Return the layout that Keras's name means; channels come first by default.

    Raises:  ArgumentError for an unknown name.
    """
    known = dict(zip(("channels_first", "channels_last"), LAYOUTS[ndim], strict=True))
    if data_format is None:
        return known["channels_first"]
    if data_format not in known:
        raise ArgumentError(
            f"{type(layer).__name__}: unknown data_format {data_format!r}",
            where=here().quoted,
            help=f"use one of {', '.join(known)}",
        )
    return known[data_format]


class _Conv(Layer):
    """What all convolutions share."""

    ndim = 2
    transposed = False

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: str | activations.Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        self.filters = whole(self, "filters", filters)
        self.kernel_size = each_axis(self, "kernel_size", kernel_size, self.ndim)
        self.strides = each_axis(self, "strides", strides, self.ndim)
        self.dilation_rate = each_axis(self, "dilation_rate", dilation_rate, self.ndim)
        self.groups = whole(self, "groups", groups)
        self.layout = layout_of(self, data_format, self.ndim)
        self.padding = padding
        self._check_padding()
        if self.filters % self.groups:
            raise ArgumentError(
                f"{type(self).__name__}: {self.filters} filters, which {self.groups} "
                "groups do not divide",
                where=here().quoted,
            )
        self.activation = activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer

    def _check_padding(self) -> None:
        ones = (1,) * self.ndim
        try:
            paddings(self.padding, ones, self.kernel_size, self.strides, ones)
        except ArgumentError as error:
            raise at_layer(self, error) from None

    @property
    def channels_last(self) -> bool:
        """Whether the channels are the last axis."""
        return self.layout == LAYOUTS[self.ndim][1]

    def make_parameters(self, x: Tensor) -> None:
        """Make kernel and bias for images with as many channels as x."""
        channels = self._channels(x)
        dtype = x.dtype if x.dtype.is_float else "float32"
        ends = (channels // self.groups, self.filters)
        if self.transposed:
            ends = (self.filters // self.groups, channels)
        shape, init = (*self.kernel_size, *ends), self.kernel_initializer
        if not self.channels_last:
            shape = (ends[1], ends[0], *self.kernel_size)
            if isinstance(init, str) and init in INITIALIZERS:
                init = channels_first(init)
        self.kernel = self.parameter("kernel", shape, init, dtype)
        if self.use_bias:
            self.bias = self.parameter(
                "bias", (self.filters,), self.bias_initializer, dtype
            )

    def _channels(self, x: Tensor) -> int:
        axis = -1 if self.channels_last else 1
        if x.ndim != self.ndim + 2 or not isinstance(x.shape[axis], int):
            place = x.node.birth.place
            made = f"  made at {place}" if place else ""
            problem = f"it needs {self.ndim + 2} axes, {self.layout}"
            if x.ndim == self.ndim + 2:
                problem = f"its channels are {x.shape[axis]}, not a number"
            raise ShapeError(
                f"{self.name}: {describe(x)} is {x.type}, {problem}",
                details=[f"{describe(x)} : {x.type}{made}"],
                where=here().quoted,
                help=f"give images as {self.layout}",
            )
        return int(x.shape[axis])  # type: ignore[arg-type]

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the kernel alone."""
        found: Tensor = FORWARD[self.ndim](
            x,
            self.kernel,
            self.strides,
            self.padding,
            self.dilation_rate,
            self.groups,
            self.layout,
        )
        return found

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Compute activation(conv(x, kernel) + bias)."""
        self._channels(x)
        y = self.convolve(x if x.dtype.is_float else cast(x, self.kernel.dtype))
        if self.use_bias:
            ones = () if self.channels_last else (1,) * self.ndim
            y = y + reshape(self.bias, (self.filters, *ones))
        found: Tensor = self.activation(y)
        return found


def channels_first(init: str) -> Any:
    """Return an initialiser for kernels whose channels come first.

    Its values are those for [..., in, out], moved to [out, in, ...].
    """

    def values(shape: tuple[int, ...], seed: int, stream: int) -> Any:
        last = (*shape[2:], shape[1], shape[0])
        made = named_initial(init, last, seed, stream)
        return np.transpose(
            made, (len(shape) - 1, len(shape) - 2, *range(len(shape) - 2))
        )

    return values


class Conv1D(_Conv):
    """A convolution over one spatial axis; see `Conv2D`.

    Shapes:  x [N, C, W]; kernel [filters, C / groups, K] -> [N, filters, W']
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.Conv1D(4, 3)(graphc.input("x", ("N", 2, 10))).type
        TensorType(f32[N,4,8])
    """

    ndim = 1


class Conv2D(_Conv):
    """A convolution over two spatial axes: activation(conv2d(x, kernel) + bias).

    kernel_size, strides, dilation_rate: one number, or one for each axis. padding:
    "valid", "same", or as `graphc.conv2d`. data_format: "channels_first" (unless
    given) or "channels_last". groups: parts of the channels that do not see each
    other. kernel_initializer, bias_initializer: what `graphc.parameter` takes.

    Shapes:  x [N, C, H, W]; kernel [filters, C / groups, K, L]; bias [filters]
             -> [N, filters, H', W']
             channels_last: x [N, H, W, C]; kernel [K, L, C / groups, filters]
    Math:    y = activation(conv2d(x, kernel) + bias)
    Raises:  ArgumentError for numbers below 1 and groups that do not divide the
             filters; at the call ShapeError unless x has four axes and a kernel fits.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> layer = nn.Conv2D(10, 5, activation="relu", name="first")
        >>> layer(graphc.input("x", ("N", 1, 28, 28))).type
        TensorType(f32[N,10,24,24])
        >>> [(p.name, p.shape) for p in layer.parameters]
        [('first/kernel', (10, 1, 5, 5)), ('first/bias', (10,))]
    """


class Conv3D(_Conv):
    """A convolution over three spatial axes; see `Conv2D`.

    Shapes:  x [N, C, D, H, W]; kernel [filters, C / groups, K, L, M]
             -> [N, filters, D', H', W']
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.Conv3D(4, 2)(graphc.input("x", ("N", 1, 5, 6, 7))).type
        TensorType(f32[N,4,4,5,6])
    """

    ndim = 3


class _Transposed(_Conv):
    """What transposed convolutions share."""

    transposed = True

    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = "valid",
        output_padding: Any = 0,
        data_format: str | None = None,
        dilation_rate: Any = 1,
        groups: int = 1,
        activation: str | activations.Activation | None = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            filters,
            kernel_size,
            strides,
            padding,
            data_format,
            dilation_rate,
            groups,
            activation,
            use_bias,
            kernel_initializer,
            bias_initializer,
            seed=seed,
            name=name,
        )
        try:
            self.output_padding = per_axis(
                "output_padding", output_padding, self.ndim, 0
            )
        except ArgumentError as error:
            raise at_layer(self, error) from None

    def convolve(self, x: Tensor) -> Tensor:
        """Apply the kernel alone."""
        found: Tensor = TRANSPOSED[self.ndim](
            x,
            self.kernel,
            self.strides,
            self.padding,
            self.output_padding,
            self.groups,
            self.dilation_rate,
            self.layout,
        )
        return found


class Conv1DTranspose(_Transposed):
    """A transposed convolution over one spatial axis; see `Conv2DTranspose`.

    Shapes:  x [N, C, W]; kernel [C, filters / groups, K] -> [N, filters, W']
    """

    ndim = 1


class Conv2DTranspose(_Transposed):
    """A transposed convolution over two spatial axes, which makes images larger.

    Arguments as of `Conv2D`; padding="same" makes the sizes of x times the strides.
    output_padding: so many elements more behind each spatial axis.

    Shapes:  x [N, C, H, W]; kernel [C, filters / groups, K, L]; bias [filters]
             -> [N, filters, H', W']
             channels_last: x [N, H, W, C]; kernel [K, L, filters / groups, C]
    Math:    y = activation(conv_transpose2d(x, kernel) + bias)
    Raises:  as Conv2D.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> layer = nn.Conv2DTranspose(3, 4, strides=2, padding="same")
        >>> layer(graphc.input("x", ("N", 8, 7, 7))).type
        TensorType(f32[N,3,14,14])
    """


class Conv3DTranspose(_Transposed):
    """A transposed convolution over three spatial axes; see `Conv2DTranspose`.

    Shapes:  x [N, C, D, H, W]; kernel [C, filters / groups, K, L, M]
             -> [N, filters, D', H', W']
    """

    ndim = 3


class Dropout2D(Dropout):
    """Set whole channels to zero with probability `rate` in training; else x itself.

    For images whose neighbouring elements say much the same, so that dropping single
    ones would change little. Takes [N, C, ...] with any number of spatial axes.

    Shapes:  x [N, C, H, W] -> [N, C, H, W]
    Source:  Tompson et al., "Efficient object localization using convolutional
             networks", 2015.
    Raises:  ArgumentError unless 0 <= rate < 1; at the call ShapeError for an x
             without channels.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> drop = nn.Dropout2D(0.5)
        >>> drop(graphc.input("x", ("N", 3, 4, 4)), training=True).type
        TensorType(f32[N,3,4,4])
    """

    def drop(self, x: Tensor, stream: int) -> Tensor:
        """Return x with some channels set to zero and the others scaled."""
        if x.ndim < 2:
            raise ShapeError(
                f"{self.name}: {describe(x)} is {x.type}, it has no channels",
                where=here().quoted,
                help="give images as [N, C, ...]",
            )
        shape = (*x.shape[:2], *(1,) * (x.ndim - 2))
        kept = bernoulli(
            1 - self.rate, shape, seed=self.seed, step=self.step, stream=stream
        )
        found: Tensor = where(kept, x * (1 / (1 - self.rate)), 0.0)
        return found
