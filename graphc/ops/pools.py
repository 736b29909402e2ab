"""max_pool2d, avg_pool2d and their kin: padding and layouts around pooling's ops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size, maximum, minimum, prove_le
from graphc.ir.nodes import Tensor, explain, make1
from graphc.ir.op import FUNCTIONS, public
from graphc.ir.types import Shape, bool_, float32, int32
from graphc.ops.broadcast import broadcast_to
from graphc.ops.composite import mean
from graphc.ops.creation import cast, constant, dim, iota
from graphc.ops.indexing import need_integers
from graphc.ops.padding import lowest, pad_with
from graphc.ops.pooling import (
    MAX_POOL,
    MAX_POOL_INDEX,
    WINDOW_SUM,
    Window,
    put,
)
from graphc.ops.reduction import max as max_over
from graphc.ops.shape import reshape, transpose
from graphc.ops.windows import (
    Pairs,
    added,
    channels_last,
    count,
    counts,
    paddings,
    per_axis,
    span,
)

OTHER = (ArgumentError, DTypeError, ShapeError)


class _Geometry:
    """Where the windows of a call stand, over x with its channels first."""

    def __init__(
        self,
        x: Tensor,
        ndim: int,
        size: Any,
        stride: Any,
        padding: Any,
        dilation: Any,
        ceil_mode: bool,
        layout: str | None,
    ) -> None:
        if x.ndim != ndim + 2:
            raise ShapeError(
                f"{{0}} {x.type} has {x.ndim} axes, not {ndim + 2}: batch, channels "
                f"and {ndim} spatial ones"
            )
        self.last = channels_last(layout, ndim)
        self.x = transpose(x, (0, ndim + 1, *range(1, ndim + 1))) if self.last else x
        window = per_axis("size", size, ndim)
        steps = window if stride is None else per_axis("stride", stride, ndim)
        self.attrs = Window(window, steps, per_axis("dilation", dilation, ndim))
        self.sizes = self.x.shape[2:]
        a = self.attrs
        self.pairs: Pairs = paddings(padding, self.sizes, a.size, a.stride, a.dilation)
        for k, d, both in zip(a.size, a.dilation, self.pairs, strict=True):
            for p in both:
                if prove_le(2 * p, span(k, d)) is False:
                    raise ArgumentError(
                        f"padding {p} is more than half of the window's {span(k, d)}",
                        help="a window must not lie in the padding alone",
                    )
        self.full = added(self.sizes, self.pairs)
        padded = "{0}" if self.full == self.sizes else "the padded {0}"
        if ceil_mode:  # windows may reach beyond, but start within x
            self.full = tuple(map(self._reached, range(ndim)))
            padded = "{0}, widened by ceil_mode,"
        self.places = counts(self.full, a.size, a.stride, a.dilation, padded)

    def _reached(self, i: int) -> Size:
        a, (low, _) = self.attrs, self.pairs[i]
        full, step = self.full[i], a.stride[i]
        places = count(full + step - 1, a.size[i], step, a.dilation[i])
        places = minimum(places, (self.sizes[i] + low - 1) // step + 1)
        return maximum(full, (places - 1) * step + span(a.size[i], a.dilation[i]))

    def padded(self, value: Any) -> Tensor:
        """Return x with a value around it."""
        start = (0, 0, *(low for low, _ in self.pairs))
        return pad_with(self.x, start, (*self.x.shape[:2], *self.full), value=value)

    def back(self, y: Tensor) -> Tensor:
        """Return a result in the layout of the call."""
        return transpose(y, (0, *range(2, y.ndim), 1)) if self.last else y


# --- maximum --------------------------------------------------------------------------


@public
def max_pool1d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    layout: str | None = None,
) -> Any:
    """Take the maximum of windows along one spatial axis; see `max_pool2d`.

    Shapes:  x [N, C, W] -> [N, C, W']
    """
    return _max_pool(
        "max_pool1d", 1, x, size, stride, padding, dilation, ceil_mode, return_indices,
        layout,
    )  # fmt: skip


@public
def max_pool2d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    layout: str | None = None,
) -> Any:
    """Take the maximum of each window; NaN if one is in it.

    stride: the size of the window, unless given. padding: as in `conv2d`, with values
    below all others. ceil_mode: windows may reach beyond the end, if they begin within
    x. return_indices: return (y, indices), int32, row-major in the spatial axes of x.

    Shapes:  x [N, C, H, W] -> [N, C, H', W'] with
             H' = (H + padding - (size - 1) dilation - 1) // stride + 1
             layout="NHWC": x [N, H, W, C] -> [N, H', W', C]
    Math:    dx = g at the first maximum of each window
    Raises:  ShapeError if the window is larger than the padded x; ArgumentError for a
             stride below 1, or for padding of more than half a window.
    Example:
        >>> import graphc
        >>> x = graphc.constant([[[[1.0, 5.0], [7.0, 3.0]]]])
        >>> y, at = graphc.max_pool2d(x, 2, return_indices=True)
        >>> graphc.evaluate(y).item(), graphc.evaluate(at).item()
        (7.0, 2)
    """
    return _max_pool(
        "max_pool2d", 2, x, size, stride, padding, dilation, ceil_mode, return_indices,
        layout,
    )  # fmt: skip


@public
def max_pool3d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    layout: str | None = None,
) -> Any:
    """Take the maximum of windows along three spatial axes; see `max_pool2d`.

    Shapes:  x [N, C, D, H, W] -> [N, C, D', H', W']
    """
    return _max_pool(
        "max_pool3d", 3, x, size, stride, padding, dilation, ceil_mode, return_indices,
        layout,
    )  # fmt: skip


def _max_pool(
    what: str,
    ndim: int,
    x: Any,
    size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    return_indices: bool,
    layout: str | None,
) -> Any:
    tensor = _numbers(x)
    try:
        found = _Geometry(
            tensor, ndim, size, stride, padding, dilation, ceil_mode, layout
        )
    except OTHER as error:
        raise explain(error, what, [tensor]) from None
    padded = found.padded(lowest(tensor.dtype))
    y = found.back(make1(MAX_POOL, (padded,), found.attrs))
    if not return_indices:
        return y
    index = make1(MAX_POOL_INDEX, (padded,), found.attrs)
    return y, found.back(_within(index, found))


def _numbers(x: Any) -> Tensor:
    tensor = constant(x)
    return cast(tensor, int32) if tensor.dtype is bool_ else tensor


def _within(index: Tensor, found: _Geometry) -> Tensor:
    """Turn indices into the padded axes into those into x."""
    if found.full == found.sizes:
        return index
    remainder, quotient = FUNCTIONS["remainder"], FUNCTIONS["floor_divide"]
    rest: Tensor = index
    total: Tensor | None = None
    scale = dim(1)
    axes = zip(found.full, found.sizes, found.pairs, strict=True)
    for full, size, (low, _) in reversed(list(axes)):
        whole = cast(dim(full), int32)
        at = remainder(rest, whole) - cast(dim(low), int32)
        # Where all of a window is -inf, its first maximum may be in the padding.
        top = cast(dim(size), int32) - 1
        at = FUNCTIONS["maximum"](FUNCTIONS["minimum"](at, top), 0)
        part = at * cast(scale, int32)
        total = part if total is None else total + part
        rest, scale = quotient(rest, whole), scale * dim(size)
    assert total is not None
    return total


# --- unpooling ------------------------------------------------------------------------


@public
def max_unpool1d(
    x: Any,
    indices: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Undo `max_pool1d` as far as possible; see `max_unpool2d`.

    Shapes:  x [N, C, W], indices i32[N, C, W] -> [N, C, W']
    """
    return _unpool("max_unpool1d", 1, x, indices, size, stride, padding, output_size)


@public
def max_unpool2d(
    x: Any,
    indices: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Put each element where its window's maximum was, into zeros.

    indices: those that `max_pool2d` returned. output_size: the spatial sizes of what
    was pooled, where they do not follow from those of x. Elements whose indices are
    equal, as those of windows that overlap may be, add up.

    Shapes:  x [N, C, H, W], indices i32[N, C, H, W] -> [N, C, H', W'] with
             H' = (H - 1) stride - padding + size, or as output_size says
    Math:    y[n, c, indices[n, c, i]] += x[n, c, i];  dx = g at the indices
    Raises:  ShapeError unless x and indices have one shape, DTypeError unless the
             indices are integers.
    Example:
        >>> import graphc
        >>> y = graphc.max_unpool2d([[[[7.0]]]], [[[[2]]]], 2)
        >>> graphc.evaluate(y).tolist()
        [[[[0.0, 0.0], [7.0, 0.0]]]]
    """
    return _unpool("max_unpool2d", 2, x, indices, size, stride, padding, output_size)


@public
def max_unpool3d(
    x: Any,
    indices: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    output_size: Any = None,
) -> Tensor:
    """Undo `max_pool3d` as far as possible; see `max_unpool2d`.

    Shapes:  x [N, C, D, H, W], indices i32[N, C, D, H, W] -> [N, C, D', H', W']
    """
    return _unpool("max_unpool3d", 3, x, indices, size, stride, padding, output_size)


def _unpool(
    what: str,
    ndim: int,
    x: Any,
    indices: Any,
    size: Any,
    stride: Any,
    padding: Any,
    output_size: Any,
) -> Tensor:
    tensor, index = constant(x), constant(indices)
    try:
        need_integers((tensor.type, index.type), 1)
        if tensor.ndim != ndim + 2 or tensor.shape != index.shape:
            raise ShapeError(
                f"{{0}} {tensor.type} and {{1}} {index.type} must have one shape of "
                f"{ndim + 2} axes"
            )
        window = per_axis("size", size, ndim)
        steps = window if stride is None else per_axis("stride", stride, ndim)
        if output_size is not None:
            given = output_size if isinstance(output_size, (tuple, list)) else ()
            if len(given) != ndim:
                raise ArgumentError(
                    f"output_size {output_size!r} does not fit {ndim} spatial axes"
                )
            out: Shape = tuple(given)
        else:
            ones = (1,) * ndim
            pairs = paddings(padding, tensor.shape[2:], ones, ones, ones)
            out = tuple(
                (n - 1) * s + k - low - high
                for n, s, k, (low, high) in zip(
                    tensor.shape[2:], steps, window, pairs, strict=True
                )
            )
    except OTHER as error:
        raise explain(error, what, [tensor, index]) from None
    return put(tensor, index, out)


# --- mean -----------------------------------------------------------------------------


@public
def avg_pool1d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str | None = None,
) -> Tensor:
    """Take the mean of windows along one spatial axis; see `avg_pool2d`.

    Shapes:  x [N, C, W] -> [N, C, W']
    """
    return _avg_pool(
        "avg_pool1d", 1, x, size, stride, padding, ceil_mode, count_include_pad, layout
    )


@public
def avg_pool2d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str | None = None,
) -> Tensor:
    """Take the mean of each window; ints become float32.

    stride, padding, ceil_mode: as in `max_pool2d`, padding with zeros.
    count_include_pad: whether those zeros count as elements.

    Shapes:  x [N, C, H, W] -> [N, C, H', W']
    Math:    y = sum of the window / number of its elements;  dx = g / number, summed
             over the windows that hold x
    Raises:  as max_pool2d.
    Example:
        >>> import graphc
        >>> y = graphc.avg_pool2d([[[[1.0, 2.0], [3.0, 6.0]]]], 2)
        >>> graphc.evaluate(y).item()
        3.0
    """
    return _avg_pool(
        "avg_pool2d", 2, x, size, stride, padding, ceil_mode, count_include_pad, layout
    )


@public
def avg_pool3d(
    x: Any,
    size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    layout: str | None = None,
) -> Tensor:
    """Take the mean of windows along three spatial axes; see `avg_pool2d`.

    Shapes:  x [N, C, D, H, W] -> [N, C, D', H', W']
    """
    return _avg_pool(
        "avg_pool3d", 3, x, size, stride, padding, ceil_mode, count_include_pad, layout
    )


def _avg_pool(
    what: str,
    ndim: int,
    x: Any,
    size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    layout: str | None,
) -> Tensor:
    tensor = constant(x)
    tensor = tensor if tensor.dtype.is_float else cast(tensor, float32)
    try:
        found = _Geometry(tensor, ndim, size, stride, padding, 1, ceil_mode, layout)
    except OTHER as error:
        raise explain(error, what, [tensor]) from None
    total = make1(WINDOW_SUM, (found.padded(0),), found.attrs)
    number = 1
    for i in range(ndim):
        many = _counted(found, i, count_include_pad)
        if many is None:
            number *= found.attrs.size[i]
        else:
            ones: list[Size] = [1] * total.ndim
            ones[2 + i] = found.places[i]
            total = total / broadcast_to(
                reshape(cast(many, total.dtype), tuple(ones)), total.shape
            )
    return found.back(total / float(number) if number != 1 else total)


def _counted(found: _Geometry, i: int, include: bool) -> Tensor | None:
    """Return how many elements each window has along an axis; None if all are whole."""
    low, high = found.pairs[i]
    first: Size = 0 if include else low
    end = found.sizes[i] + low + (high if include else 0)
    if first == 0 and end == found.full[i]:
        return None
    places = iota((found.places[i],), 0) * found.attrs.stride[i]
    stop = FUNCTIONS["minimum"](
        places + found.attrs.size[i], cast(dim(end), places.dtype)
    )
    start = FUNCTIONS["maximum"](places, cast(dim(first), places.dtype))
    counted: Tensor = stop - start
    return counted


# --- global ---------------------------------------------------------------------------


@public
def global_max_pool(
    x: Any, keepdims: bool = False, layout: str | None = None
) -> Tensor:
    """Take the maximum over all spatial axes; equal maxima share the gradient.

    Shapes:  x [N, C, H, W] -> [N, C]; [N, C, 1, 1] with keepdims
    Raises:  ShapeError for an x without spatial axes.
    """
    return max_over(*_spatial("global_max_pool", x, layout), keepdims)


@public
def global_average_pool(
    x: Any, keepdims: bool = False, layout: str | None = None
) -> Tensor:
    """Take the mean over all spatial axes.

    Shapes:  x [N, C, H, W] -> [N, C]; [N, C, 1, 1] with keepdims
    Raises:  ShapeError for an x without spatial axes.
    """
    return mean(*_spatial("global_average_pool", x, layout), keepdims)


def _spatial(what: str, x: Any, layout: str | None) -> tuple[Tensor, Sequence[int]]:
    tensor = constant(x)
    try:
        if not 3 <= tensor.ndim <= 5:
            raise ShapeError(
                f"{{0}} {tensor.type} has {tensor.ndim} axes, not batch, channels and "
                "one to three spatial ones"
            )
        last = channels_last(layout, tensor.ndim - 2)
    except OTHER as error:
        raise explain(error, what, [tensor]) from None
    return tensor, tuple(range(1, tensor.ndim - 1) if last else range(2, tensor.ndim))
