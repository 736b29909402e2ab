"""conv1d, conv2d, conv3d and the transposed ones: padding and layouts around `conv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size, prove_le
from graphc.ir.nodes import Tensor, explain, make1
from graphc.ir.op import public
from graphc.ir.types import TensorType, as_size, bool_, int32
from graphc.ops.broadcast import as_tensors
from graphc.ops.convolution import (
    CONV,
    CONV_INPUT_GRADIENT,
    Conv,
    ConvSized,
    check_groups,
    check_ranks,
)
from graphc.ops.creation import cast
from graphc.ops.padding import pad_with
from graphc.ops.shape import SLICE, Slices, transpose
from graphc.ops.windows import (
    added,
    channels_last,
    counts,
    paddings,
    per_axis,
    span,
)

OTHER = (ArgumentError, DTypeError, ShapeError)


@public
def conv1d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: Any = 1,
    layout: str = "NCW",
) -> Tensor:
    """Convolve over one spatial axis; see `conv2d`.

    Shapes:  x [N, C, W], w [O, C / groups, K] -> [N, O, W']
             layout="NWC": x [N, W, C], w [K, C / groups, O] -> [N, W', O]
    """
    return _conv("conv1d", 1, x, w, stride, padding, dilation, groups, layout)


@public
def conv2d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: Any = 1,
    layout: str = "NCHW",
) -> Tensor:
    """Convolve over two spatial axes: slide w over x, kernels not mirrored.

    stride, dilation: one number, or one for each axis. padding: "valid", "same" (as
    many places as x has elements, divided by the stride and rounded up), a number, a
    number for each axis, or a pair (before, behind) for each axis. groups: channels
    are split into so many parts that do not see each other; as many groups as x has
    channels make it depthwise.

    Shapes:  x [N, C, H, W], w [O, C / groups, K, L] -> [N, O, H', W'] with
             H' = (H + padding - (K - 1) dilation - 1) // stride + 1
             layout="NHWC": x [N, H, W, C], w [K, L, C / groups, O] -> [N, H', W', O]
    Math:    y[n, o, i, j] = sum over c, k, l of
             x[n, c, i stride + k dilation, j stride + l dilation] w[o, c, k, l]
    Raises:  ShapeError if the kernel is larger than the padded input, if the numbers
             of channels do not fit, or if groups do not divide them; ArgumentError
             for a stride or a dilation below 1.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 1, 28, 28))
        >>> graphc.conv2d(x, graphc.ones((10, 1, 5, 5))).type
        TensorType(f32[N,10,24,24])
    """
    return _conv("conv2d", 2, x, w, stride, padding, dilation, groups, layout)


@public
def conv3d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: Any = 1,
    layout: str = "NCDHW",
) -> Tensor:
    """Convolve over three spatial axes; see `conv2d`.

    Shapes:  x [N, C, D, H, W], w [O, C / groups, K, L, M] -> [N, O, D', H', W']
             layout="NDHWC": channels last, w [K, L, M, C / groups, O]
    """
    return _conv("conv3d", 3, x, w, stride, padding, dilation, groups, layout)


def _operands(x: Any, w: Any) -> list[Tensor]:
    pair = as_tensors([x, w])
    return [cast(t, int32) if t.dtype is bool_ else t for t in pair]


def _conv(
    what: str,
    ndim: int,
    x: Any,
    w: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: Any,
    layout: str,
) -> Tensor:
    given = _operands(x, w)
    try:
        attrs = _attrs(ndim, stride, dilation, groups)
        check_ranks((given[0].type, given[1].type), ndim)
        last = channels_last(layout, ndim)
        images, kernels = given
        if last:
            images = transpose(images, (0, ndim + 1, *range(1, ndim + 1)))
            kernels = transpose(kernels, (ndim + 1, ndim, *range(ndim)))
        sizes, windows = images.shape[2:], kernels.shape[2:]
        check_groups(kernels.shape[0], images.shape[1], kernels.shape[1], attrs.groups)
        pairs = paddings(padding, sizes, windows, attrs.stride, attrs.dilation)
        full = added(sizes, pairs)
        padded = "{0}" if full == sizes else "the padded {0}"
        counts(full, windows, attrs.stride, attrs.dilation, padded)
    except OTHER as error:
        raise explain(error, what, given) from None
    start = (0, 0, *(low for low, _ in pairs))
    spread = pad_with(images, start, (*images.shape[:2], *full))
    y = make1(CONV, (spread, kernels), attrs)
    return transpose(y, (0, *range(2, ndim + 2), 1)) if last else y


def _attrs(ndim: int, stride: Any, dilation: Any, groups: Any) -> Conv:
    size = as_size(groups)
    return Conv(
        per_axis("stride", stride, ndim), per_axis("dilation", dilation, ndim), size
    )


# --- transposed -----------------------------------------------------------------------


@public
def conv_transpose1d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    layout: str = "NCW",
) -> Tensor:
    """Convolve over one spatial axis, transposed; see `conv_transpose2d`.

    Shapes:  x [N, C, W], w [C, O / groups, K] -> [N, O, W']
    """
    return _transposed(
        "conv_transpose1d", 1, x, w, stride, padding, output_padding, groups, dilation,
        layout,
    )  # fmt: skip


@public
def conv_transpose2d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    layout: str = "NCHW",
) -> Tensor:
    """Convolve over two spatial axes, transposed: the gradient of `conv2d` by its x.

    padding: what the convolution added, here cut off, as in `conv2d`; "same" makes the
    sizes of x times the stride. output_padding: so many elements more behind each axis.

    Shapes:  x [N, C, H, W], w [C, O / groups, K, L] -> [N, O, H', W'] with
             H' = (H - 1) stride + (K - 1) dilation + 1 - padding + output_padding
             layout="NHWC": x [N, H, W, C], w [K, L, O / groups, C] -> [N, H', W', O]
    Math:    y[n, o, i stride + k dilation, ...] += x[n, c, i, ...] w[c, o, k, ...]
    Raises:  as conv2d; ArgumentError if the padding leaves nothing, or for an
             output_padding that is not below the stride or the dilation.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 8, 7, 7))
        >>> graphc.conv_transpose2d(x, graphc.ones((8, 4, 4, 4)), 2, 1).type
        TensorType(f32[N,4,14,14])
    """
    return _transposed(
        "conv_transpose2d", 2, x, w, stride, padding, output_padding, groups, dilation,
        layout,
    )  # fmt: skip


@public
def conv_transpose3d(
    x: Any,
    w: Any,
    stride: Any = 1,
    padding: Any = "valid",
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
    layout: str = "NCDHW",
) -> Tensor:
    """Convolve over three spatial axes, transposed; see `conv_transpose2d`.

    Shapes:  x [N, C, D, H, W], w [C, O / groups, K, L, M] -> [N, O, D', H', W']
    """
    return _transposed(
        "conv_transpose3d", 3, x, w, stride, padding, output_padding, groups, dilation,
        layout,
    )  # fmt: skip


def _transposed(
    what: str,
    ndim: int,
    x: Any,
    w: Any,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: Any,
    dilation: Any,
    layout: str,
) -> Tensor:
    given = _operands(x, w)
    try:
        attrs = _attrs(ndim, stride, dilation, groups)
        check_ranks((given[0].type, given[1].type), ndim)
        last = channels_last(layout, ndim)
        g, kernels = given
        if last:
            g = transpose(g, (0, ndim + 1, *range(1, ndim + 1)))
            kernels = transpose(kernels, (ndim + 1, ndim, *range(ndim)))
        _check_channels(g.type, kernels.type, attrs.groups)
        more = per_axis("output_padding", output_padding, ndim, 0)
        start, size, made, out = _transposed_sizes(
            g.shape[2:], kernels.shape[2:], attrs, padding, more
        )
    except OTHER as error:
        raise explain(error, what, given) from None
    sized = ConvSized(attrs.stride, attrs.dilation, attrs.groups, tuple(made))
    y = make1(CONV_INPUT_GRADIENT, (g, kernels), sized)
    y = pad_with(y, (0,) * y.ndim, (*y.shape[:2], *size))
    shape = (*y.shape[:2], *out)
    if shape != y.shape:
        y = make1(SLICE, (y,), Slices((0, 0, *start), shape, (1,) * y.ndim))
    return transpose(y, (0, *range(2, ndim + 2), 1)) if last else y


def _check_channels(g: TensorType, w: TensorType, groups: Size) -> None:
    if g.shape[1] != w.shape[0]:
        raise ShapeError(
            f"{{0}} has {g.shape[1]} channels, {{1}} takes {w.shape[0]}",
            help="weights are [in channels, out channels / groups, ...]",
        )
    check_groups(w.shape[1] * groups, w.shape[0], w.shape[0] // groups, groups)


def _transposed_sizes(
    places: Sequence[Size],
    windows: Sequence[Size],
    attrs: Conv,
    padding: Any,
    more: Sequence[int],
) -> tuple[list[Size], list[Size], list[Size], list[Size]]:
    """Return for each axis where the result starts, and three sizes.

    They are: of all that there is, zeros included; of what the gradient of a
    convolution can make; and of the result.
    """
    start: list[Size] = []
    size: list[Size] = []
    made: list[Size] = []
    out: list[Size] = []
    pairs = None if padding == "same" else _cut(padding, len(places))
    for i, (n, k, s, d) in enumerate(
        zip(places, windows, attrs.stride, attrs.dilation, strict=True)
    ):
        full = (n - 1) * s + span(k, d)
        if pairs is None:
            total = span(k, d) - s
            if not isinstance(total, int):
                raise ArgumentError('"same" needs kernels whose sizes are ints')
            low: int = max(total, 0) // 2
            high = total - low
        else:
            low, high = pairs[i]
        if more[i] and more[i] >= max(s, d):
            raise ArgumentError(
                f"output_padding {more[i]} is not below the stride {s} or the "
                f"dilation {d}"
            )
        high -= more[i]
        length = full - low - high
        if prove_le(length, 0) is True:
            raise ArgumentError(
                f"padding {low} and {high} leaves nothing of the {full} elements along "
                f"spatial axis {i}",
                help="cut off less",
            )
        beyond = max(-high, 0)
        start.append(low)
        size.append(full + beyond)
        made.append(full + min(beyond, s - 1))
        out.append(length)
    return start, size, made, out


def _cut(padding: Any, ndim: int) -> list[tuple[int, int]]:
    ones = (1,) * ndim
    found = paddings(padding, ones, ones, ones, ones)
    return [(int(low), int(high)) for low, high in found]  # type: ignore[arg-type]
