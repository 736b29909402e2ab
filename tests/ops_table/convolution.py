"""Padding, convolution, pooling and resizing."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

import graphc as gc
from graphc.ir.dims import evaluate
from ops_table.case import FIXED, INTS, Array, Case, Oracle, Spec, X

LINE = Spec("x", ("N", 3, 9))
IMAGE = Spec("x", ("N", 2, 6, 5))
EVEN = Spec("x", ("N", 4, 5, 6))
PLAIN = Spec("x", ("N", 1, 7, 7))
SPACE = Spec("x", (2, 2, 4, 5, 3))
OPEN = Spec("x", (2, 2, "N", 5))  # a spatial axis may be symbolic too
WHOLE = Spec("x", ("N", 2, 6, 5), "int32", -5, 6)

PADDING = (
    Case("pad", "columns", lambda x: gc.pad(x, ((0, 0), (1, 2))), (X,)),
    Case("pad", "all_sides", lambda x: gc.pad(x, 2, constant_values=1.5), (FIXED,)),
    Case("pad", "symbolic", lambda x: gc.pad(x, ((2, 1), (0, 0))), (X,)),
    Case(
        "pad",
        "sides_differ",
        lambda x: gc.pad(x, 1, constant_values=((1, 2), (3, 4))),
        (FIXED,),
    ),
    Case("pad", "ints", lambda x: gc.pad(x, (0, 1), constant_values=-3), (INTS,)),
    Case("take", "pad_edge", lambda x: gc.pad(x, ((0, 0), (1, 2)), "edge"), (X,)),
    Case("take", "pad_reflect", lambda x: gc.pad(x, ((0, 0), (3, 2)), "reflect"), (X,)),
    Case("take", "pad_wrap", lambda x: gc.pad(x, 2, "wrap"), (FIXED,)),
    Case(
        "pad",
        "between",  # the gradient of a slice with steps
        lambda x: gc.grad(gc.sum(x[::2, 1::2] * x[1::2, ::2]), x),
        (Spec("x", (6, 8)),),
    ),
)


def conv(name: str, function: Any, x: Spec, w: tuple[int, ...], **options: Any) -> Case:
    weights = Spec("w", w, x.dtype, x.low, x.high)
    return Case("conv", name, lambda a, b: function(a, b, **options), (x, weights))


CONVOLUTION = (
    conv("plain", gc.conv2d, PLAIN, (3, 1, 3, 3)),
    conv("stride", gc.conv2d, IMAGE, (3, 2, 3, 2), stride=2),
    conv("same", gc.conv2d, IMAGE, (2, 2, 3, 2), padding="same", stride=(1, 2)),
    conv("padded", gc.conv2d, IMAGE, (2, 2, 3, 3), padding=[(1, 0), (2, 1)]),
    conv("dilation", gc.conv2d, IMAGE, (3, 2, 2, 3), dilation=(3, 2)),
    conv("groups", gc.conv2d, EVEN, (6, 2, 3, 2), groups=2),
    conv("depthwise", gc.conv2d, EVEN, (4, 1, 2, 2), groups=4),
    conv("two_each", gc.conv2d, EVEN, (8, 1, 2, 2), groups=4, stride=2),
    conv("points", gc.conv2d, EVEN, (3, 4, 1, 1)),
    conv("whole", gc.conv2d, EVEN, (3, 4, 5, 6)),
    conv("line", gc.conv1d, LINE, (2, 3, 4), stride=2, dilation=2),
    conv("space", gc.conv3d, SPACE, (2, 2, 2, 3, 1), stride=(1, 2, 1)),
    conv("open", gc.conv2d, OPEN, (3, 2, 1, 3), stride=2, padding=(0, 1)),
    conv("ints", gc.conv2d, WHOLE, (2, 2, 3, 3)),
    conv("channels_last", gc.conv2d, Spec("x", ("N", 5, 4, 2)), (3, 2, 2, 3),
         layout="NHWC"),
)  # fmt: skip


def back(name: str, function: Any, x: Spec, w: tuple[int, ...], **options: Any) -> Case:
    return Case(
        "conv_input_gradient",
        name,
        lambda a, b: function(a, b, **options),
        (x, Spec("w", w)),
    )


TRANSPOSED = (
    back("plain", gc.conv_transpose2d, PLAIN, (1, 3, 3, 3)),
    back("stride", gc.conv_transpose2d, IMAGE, (2, 3, 3, 2), stride=2),
    back("cut", gc.conv_transpose2d, IMAGE, (2, 2, 4, 3), stride=2, padding=1),
    back(
        "longer",
        gc.conv_transpose2d,
        IMAGE,
        (2, 2, 2, 2),
        stride=2,
        output_padding=1,
        dilation=3,
    ),
    back("groups", gc.conv_transpose2d, EVEN, (4, 3, 2, 3), groups=2, dilation=2),
    back("same", gc.conv_transpose1d, LINE, (3, 2, 4), stride=2, padding="same"),
    back("space", gc.conv_transpose3d, SPACE, (2, 1, 2, 2, 2), stride=(2, 1, 1)),
    back("open", gc.conv_transpose2d, OPEN, (2, 3, 3, 2), stride=2),
)


def slope(name: str, x: Spec, w: tuple[int, ...], **options: Any) -> Case:
    def function(a: Any, b: Any) -> Any:
        y = gc.conv2d(a, b, **options)
        return gc.grad(gc.sum(y * y), b)

    return Case("conv_weight_gradient", name, function, (x, Spec("w", w)))


WEIGHTS = (
    slope("plain", PLAIN, (3, 1, 3, 3)),
    slope("stride", IMAGE, (3, 2, 3, 2), stride=2),
    slope("groups", EVEN, (6, 2, 3, 2), groups=2, dilation=2),
    slope("depthwise", EVEN, (4, 1, 2, 2), groups=4),
    slope("same", IMAGE, (2, 2, 5, 2), padding="same"),
)


def indices(function: Any) -> Any:
    return lambda x: function(x)[1]


POOLS = (
    Case("max_pool", "plain", lambda x: gc.max_pool2d(x, 2), (IMAGE,)),
    Case("max_pool", "overlap", lambda x: gc.max_pool2d(x, 3, 2, 1), (IMAGE,)),
    Case("max_pool", "ceil", lambda x: gc.max_pool2d(x, 2, ceil_mode=True), (IMAGE,)),
    Case("max_pool", "dilation", lambda x: gc.max_pool2d(x, 2, 1, 0, 2), (IMAGE,)),
    Case("max_pool", "line", lambda x: gc.max_pool1d(x, 4, 3), (LINE,)),
    Case("max_pool", "space", lambda x: gc.max_pool3d(x, (2, 2, 1)), (SPACE,)),
    Case("max_pool", "open", lambda x: gc.max_pool2d(x, (1, 2)), (OPEN,)),
    Case("max_pool", "ints", lambda x: gc.max_pool2d(x, 2, padding=1), (WHOLE,)),
    Case(
        "max_pool",
        "channels_last",
        lambda x: gc.max_pool2d(x, 2, layout="NHWC"),
        (Spec("x", ("N", 5, 4, 2)),),
    ),
    Case(
        "max_pool_index",
        "plain",
        indices(lambda x: gc.max_pool2d(x, 2, return_indices=True)),
        (IMAGE,),
    ),
    Case(
        "max_pool_index",
        "padded",
        indices(lambda x: gc.max_pool2d(x, 3, 2, 1, return_indices=True)),
        (IMAGE,),
    ),
    Case(
        "max_pool_index",
        "line",
        indices(lambda x: gc.max_pool1d(x, 4, 3, return_indices=True)),
        (LINE,),
    ),
    Case("window_sum", "plain", lambda x: gc.avg_pool2d(x, 2), (IMAGE,)),
    Case("window_sum", "overlap", lambda x: gc.avg_pool2d(x, 3, 2, 1), (IMAGE,)),
    Case(
        "window_sum",
        "own_count",
        lambda x: gc.avg_pool2d(x, 3, 2, 1, True, False),
        (IMAGE,),
    ),
    Case("window_sum", "line", lambda x: gc.avg_pool1d(x, 4, 3), (LINE,)),
    Case("window_sum", "space", lambda x: gc.avg_pool3d(x, 2, 1), (SPACE,)),
)


def sized(name: str, x: Spec, size: Any, method: str, corners: bool = False) -> Case:
    return Case("resize", name, lambda a: gc.resize(a, size, method, corners), (x,))


def shrunk(name: str, x: Spec, size: Any, method: str) -> Case:
    def function(a: Any) -> Any:
        return gc.grad(gc.sum(gc.resize(a, size, method) ** 2), a)

    return Case("resize_gradient", name, function, (x,))


RESIZING = (
    sized("nearest", IMAGE, (8, 3), "nearest"),
    sized("nearest_ints", WHOLE, 7, "nearest"),
    sized("bilinear", IMAGE, (8, 3), "bilinear"),
    sized("corners", IMAGE, (8, 3), "bilinear", True),
    sized("one", IMAGE, 1, "bilinear", True),
    sized("line", LINE, 4, "linear"),
    sized("open", OPEN, (3, 7), "bilinear"),
    shrunk("nearest", IMAGE, (4, 9), "nearest"),
    shrunk("bilinear", IMAGE, (4, 9), "bilinear"),
)

# Few images: each is a whole loop nest to the simulator and to finite differences.
CASES = PADDING + tuple(
    replace(case, sizes={"N": 2, "M": 2})
    for case in (
        *CONVOLUTION,
        *TRANSPOSED,
        *WEIGHTS,
        *POOLS,
        *RESIZING,
    )
)


# --- what NumPy says ------------------------------------------------------------------


def _pad(a: Any, x: Array, *, out: Array, sizes: dict[str, int]) -> Array:
    found = np.full_like(out, a.value)
    start = [evaluate(s, sizes) for s in a.start]
    for at in np.ndindex(*x.shape):
        target = tuple(b + i * s for b, i, s in zip(start, at, a.step, strict=True))
        found[target] = x[at]
    return found


def _products(
    a: Any, sizes: dict[str, int], c: int, o: int, k: Any, places: Any
) -> Any:
    """Yield (place, kernel element, element of x, result channel, its x channels)."""
    groups = evaluate(a.groups, sizes)
    per, each = c // groups, o // groups
    steps = zip(a.stride, a.dilation, strict=True)
    steps = list(steps)
    for place in np.ndindex(*places):
        for inner in np.ndindex(*k):
            at = tuple(
                p * s + i * d for p, i, (s, d) in zip(place, inner, steps, strict=True)
            )
            for channel in range(o):
                first = channel // each * per
                yield place, inner, at, channel, slice(first, first + per)


def _conv(a: Any, x: Array, w: Array, *, out: Array, sizes: dict[str, int]) -> Array:
    found = np.zeros_like(out)
    shape = (x.shape[1], w.shape[0], w.shape[2:], out.shape[2:])
    for place, inner, at, o, c in _products(a, sizes, *shape):
        kernel = w[(o, slice(None), *inner)]
        found[(slice(None), o, *place)] += (x[(slice(None), c, *at)] * kernel).sum(1)
    return found


def _conv_input(
    a: Any, g: Array, w: Array, *, out: Array, sizes: dict[str, int]
) -> Array:
    found = np.zeros_like(out)
    shape = (out.shape[1], w.shape[0], w.shape[2:], g.shape[2:])
    for place, inner, at, o, c in _products(a, sizes, *shape):
        kernel = w[(o, slice(None), *inner)]
        found[(slice(None), c, *at)] += g[(slice(None), o, *place)][:, None] * kernel
    return found


def _conv_weight(
    a: Any, x: Array, g: Array, *, out: Array, sizes: dict[str, int]
) -> Array:
    found = np.zeros_like(out)
    shape = (x.shape[1], out.shape[0], out.shape[2:], g.shape[2:])
    for place, inner, at, o, c in _products(a, sizes, *shape):
        each = g[(slice(None), o, *place)][:, None] * x[(slice(None), c, *at)]
        found[(o, slice(None), *inner)] += each.sum(0)
    return found


def _windows(a: Any, x: Array, out: Array) -> Any:
    """Yield the index of each result, and the indices within its window."""
    for at in np.ndindex(*out.shape):
        lines = [
            range(i * s, i * s + k * d, d)
            for i, k, s, d in zip(at[2:], a.size, a.stride, a.dilation, strict=True)
        ]
        yield at, [(*at[:2], *within) for within in itertools.product(*lines)]


def _pooled(a: Any, x: Array, out: Array, reduce: Any) -> Array:
    found = np.zeros_like(out)
    for at, window in _windows(a, x, out):
        found[at] = reduce([x[i] for i in window])
    return found


def _pool_index(a: Any, x: Array, *, out: Array) -> Array:
    found = np.zeros_like(out)
    for at, window in _windows(a, x, out):
        best = max(window, key=lambda i: x[i])  # the first of equal ones
        found[at] = np.ravel_multi_index(best[2:], x.shape[2:])
    return found


def _weights(n: int, m: int, a: Any) -> Array:
    """Return the matrix that resizes an axis, by the textbook's formula in floats."""
    found = np.zeros((m, n))
    for i in range(m):
        if a.method == "nearest":
            found[i, int(np.floor((i + 1e-9) * n / m))] = 1
            continue
        place = (i + 0.5) * n / m - 0.5
        if a.align_corners:
            place = i * (n - 1) / (m - 1) if m > 1 else 0.0
        place = min(max(place, 0.0), n - 1.0)
        for j in range(n):
            found[i, j] = max(0.0, 1 - abs(place - j))
    return found


def _resized(a: Any, x: Array, sizes: dict[str, int], back: bool) -> Array:
    for i, (n, m) in enumerate(zip(a.source, a.size, strict=True)):
        matrix = _weights(evaluate(n, sizes), evaluate(m, sizes), a)
        x = np.apply_along_axis((matrix.T if back else matrix).dot, i + 2, x)
    return x


ORACLES: dict[str, Oracle] = {
    "pad": _pad,
    "conv": _conv,
    "conv_input_gradient": _conv_input,
    "conv_weight_gradient": _conv_weight,
    "max_pool": lambda a, x, *, out: _pooled(a, x, out, max),
    "max_pool_index": _pool_index,
    "window_sum": lambda a, x, *, out: _pooled(a, x, out, sum),
    "resize": lambda a, x, *, sizes: _resized(a, x, sizes, False),
    "resize_gradient": lambda a, g, *, sizes: _resized(a, g, sizes, True),
}
