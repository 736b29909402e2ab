"""Layers that pool: the largest or the mean of windows, or of whole images.

Images are [N, C, H, W] unless data_format="channels_last" makes them [N, H, W, C].
"""

from __future__ import annotations

from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor
from graphc.nn.convolution import at_layer, each_axis, layout_of
from graphc.nn.layer import Layer
from graphc.ops.pools import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    global_average_pool,
    global_max_pool,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)
from graphc.ops.windows import paddings

MAXIMUM = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}
AVERAGE = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


class _Pool(Layer):
    """What pooling layers share."""

    ndim = 2

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = "valid",
        data_format: str | None = None,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.pool_size = each_axis(self, "pool_size", pool_size, self.ndim)
        self.strides = (
            self.pool_size
            if strides is None
            else each_axis(self, "strides", strides, self.ndim)
        )
        ones = (1,) * self.ndim
        try:
            paddings(padding, ones, self.pool_size, self.strides, ones)
        except ArgumentError as error:
            raise at_layer(self, error) from None
        self.padding = padding
        self.layout = layout_of(self, data_format, self.ndim)


class _MaxPool(_Pool):
    """What layers that take the maximum share."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Take the maximum of each window."""
        found: Tensor = MAXIMUM[self.ndim](
            x, self.pool_size, self.strides, self.padding, layout=self.layout
        )
        return found


class _AvgPool(_Pool):
    """What layers that take the mean share."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Take the mean of each window."""
        return AVERAGE[self.ndim](
            x,
            self.pool_size,
            self.strides,
            self.padding,
            count_include_pad=False,
            layout=self.layout,
        )


class MaxPool1D(_MaxPool):
    """The maximum of windows along one spatial axis; see `MaxPool2D`.

    Shapes:  x [N, C, W] -> [N, C, W']
    """

    ndim = 1


class MaxPool2D(_MaxPool):
    """The maximum of each window.

    pool_size: one number, or one for each axis. strides: those of the windows; their
    size, unless given. padding: "valid", "same", or as `graphc.max_pool2d`.

    Shapes:  x [N, C, H, W] -> [N, C, H', W']
    Raises:  ArgumentError for numbers below 1; at the call ShapeError for images that
             are smaller than a window.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.MaxPool2D()(graphc.input("x", ("N", 3, 9, 8))).type
        TensorType(f32[N,3,4,4])
    """


class MaxPool3D(_MaxPool):
    """The maximum of windows along three spatial axes; see `MaxPool2D`.

    Shapes:  x [N, C, D, H, W] -> [N, C, D', H', W']
    """

    ndim = 3


class AvgPool1D(_AvgPool):
    """The mean of windows along one spatial axis; see `AvgPool2D`.

    Shapes:  x [N, C, W] -> [N, C, W']
    """

    ndim = 1


class AvgPool2D(_AvgPool):
    """The mean of each window; what padding adds does not count.

    Arguments as of `MaxPool2D`.

    Shapes:  x [N, C, H, W] -> [N, C, H', W']
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.AvgPool2D(3, strides=2)(graphc.input("x", ("N", 3, 9, 8))).type
        TensorType(f32[N,3,4,3])
    """


class AvgPool3D(_AvgPool):
    """The mean of windows along three spatial axes; see `AvgPool2D`.

    Shapes:  x [N, C, D, H, W] -> [N, C, D', H', W']
    """

    ndim = 3


class _Global(Layer):
    """What layers share that pool whole images."""

    ndim = 2

    def __init__(
        self,
        data_format: str | None = None,
        keepdims: bool = False,
        *,
        name: str | None = None,
    ) -> None:
        super().__init__(name)
        self.layout = layout_of(self, data_format, self.ndim)
        self.keepdims = keepdims


class GlobalMaxPooling2D(_Global):
    """The maximum over both spatial axes.

    Shapes:  x [N, C, H, W] -> [N, C]; [N, C, 1, 1] with keepdims
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.GlobalMaxPooling2D()(graphc.input("x", ("N", 3, 9, 8))).type
        TensorType(f32[N,3])
    """

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Take the maximum."""
        return global_max_pool(x, self.keepdims, self.layout)


class GlobalAveragePooling2D(_Global):
    """The mean over both spatial axes.

    Shapes:  x [N, C, H, W] -> [N, C]; [N, C, 1, 1] with keepdims
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> nn.GlobalAveragePooling2D()(graphc.input("x", ("N", 3, 9, 8))).type
        TensorType(f32[N,3])
    """

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Take the mean."""
        return global_average_pool(x, self.keepdims, self.layout)
