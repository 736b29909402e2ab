"""Windows that move over the spatial axes: what convolution and pooling share.

A window of `size` elements, `dilation` apart, stands at every `stride`-th place of an
axis that has been padded before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size, maximum, prove_le
from graphc.ir.scalar import Expr, const
from graphc.ir.types import Shape, int64

Pairs = list[tuple[Size, Size]]


def per_axis(what: str, value: Any, ndim: int, least: int = 1) -> tuple[int, ...]:
    """Return an int for each spatial axis, from one for all or a list of them.

    Raises:  ArgumentError for too many or too few, or for one below `least`.
    """
    given = list(value) if isinstance(value, (tuple, list)) else [value] * ndim
    if len(given) != ndim:
        raise ArgumentError(
            f"{what} has {len(given)} numbers, there are {ndim} spatial axes",
            help=f"give one number, or {ndim}",
        )
    for v in given:
        whole = isinstance(v, (int, np.integer)) and not isinstance(v, bool)
        if not whole or v < least:
            raise ArgumentError(f"{what} must be ints of at least {least}, not {v!r}")
    return tuple(int(v) for v in given)


def span(size: Size, dilation: int) -> Size:
    """Return how many elements of an axis a window reaches over."""
    return (size - 1) * dilation + 1


def count(size: Size, window: Size, stride: int, dilation: int) -> Size:
    """Return at how many places a window fits into an axis."""
    return (size - span(window, dilation)) // stride + 1


def counts(
    sizes: Sequence[Size],
    windows: Sequence[Size],
    stride: Sequence[int],
    dilation: Sequence[int],
    padded: str = "{0}",
) -> Shape:
    """Return at how many places windows fit into the spatial axes.

    Raises:  ShapeError for a window that is larger than its axis.
    """
    for i, (n, k, d) in enumerate(zip(sizes, windows, dilation, strict=True)):
        if prove_le(1, k) is False:
            raise ShapeError(f"the window has size {k} along spatial axis {i}")
        if prove_le(span(k, d), n) is False:
            dilated = f" with dilation {d}" if d != 1 else ""
            raise ShapeError(
                f"a window of {k}{dilated} spans {span(k, d)}, but spatial axis {i} "
                f"of {padded} has {n}",
                help="make the window smaller, or pad the input",
            )
    each = zip(sizes, windows, stride, dilation, strict=True)
    return tuple(count(*e) for e in each)


def fits(
    sizes: Sequence[Size], windows: Sequence[Size], dilation: Sequence[int]
) -> list[tuple[Size, Size]]:
    """Return the inequalities that let every window fit, as guards."""
    each = zip(sizes, windows, dilation, strict=True)
    return [(n, span(k, d)) for n, k, d in each]


def paddings(
    padding: Any,
    sizes: Sequence[Size],
    windows: Sequence[Size],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Pairs:
    """Return what is added before and behind each spatial axis.

    padding: "valid" (nothing), "same" (as many places as the axis has elements,
    divided by the stride and rounded up; what is odd goes behind), one number, a
    number for each axis, or a pair for each axis.

    Raises:  ArgumentError for anything else.
    """
    ndim = len(sizes)
    if padding == "valid":
        return [(0, 0)] * ndim
    if padding == "same":
        return [
            same(*each) for each in zip(sizes, windows, stride, dilation, strict=True)
        ]
    given = list(padding) if isinstance(padding, (tuple, list)) else [padding] * ndim
    if len(given) != ndim or isinstance(padding, str):
        raise ArgumentError(
            f"padding {padding!r} does not fit {ndim} spatial axes",
            help='give "valid", "same", one number, or for each axis a number or a '
            "pair (before, behind)",
        )
    found: Pairs = []
    for p in given:
        both = tuple(p) if isinstance(p, (tuple, list)) else (p, p)
        low, high = per_axis("padding", both, 2, 0)
        found.append((low, high))
    return found


def same(size: Size, window: Size, stride: int, dilation: int) -> tuple[Size, Size]:
    """Return the padding with which windows stand at ceil(size / stride) places."""
    places = (size + stride - 1) // stride
    total = maximum((places - 1) * stride + span(window, dilation) - size, 0)
    return total // 2, total - total // 2


def added(sizes: Sequence[Size], pairs: Pairs) -> Shape:
    """Return the spatial sizes after padding."""
    return tuple(low + n + high for n, (low, high) in zip(sizes, pairs, strict=True))


def element(
    place: Sequence[Expr],
    within: Sequence[Expr],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Expr, ...]:
    """Return the index of an element of a window, from its place and that within it."""
    each = zip(place, within, stride, dilation, strict=True)
    return tuple(p * const(s, int64) + k * const(d, int64) for p, k, s, d in each)


def np_windows(
    x: Any, windows: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> Any:
    """Return a view of an array's windows over its last axes.

    Shapes:  x [N, C, H, W] -> [N, C, places of H, places of W, window H, window W]
    """
    ndim = len(windows)
    spans = [(k - 1) * d + 1 for k, d in zip(windows, dilation, strict=True)]
    axes = tuple(range(x.ndim - ndim, x.ndim))
    view: Any = np.lib.stride_tricks.sliding_window_view(x, tuple(spans), axes)
    places = tuple(slice(None, None, s) for s in stride)
    inner = tuple(slice(None, None, d) for d in dilation)
    return view[(..., *places, *inner)]


Layouts = dict[int, tuple[str, str]]
LAYOUTS: Layouts = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


def channels_last(layout: str | None, ndim: int) -> bool:
    """Whether the channels are the last axis in a layout.

    Raises:  ArgumentError for an unknown layout.
    """
    first, last = LAYOUTS[ndim]
    if layout is None or layout in (first, "NCHW"):
        return False
    if layout in (last, "NHWC"):
        return True
    raise ArgumentError(f"unknown layout {layout!r}", help=f"use {first!r} or {last!r}")
