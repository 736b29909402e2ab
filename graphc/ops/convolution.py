"""Convolution, and its two gradients, over any number of spatial axes.

The three ops are the derivatives, by g, x and w, of one form that is linear in each of
them: the sum of g * conv(x, w). So each is the gradient of the others:

    conv                    y = conv(x, w)        from x and w
    conv_input_gradient     dx                    from g and w
    conv_weight_gradient    dw                    from x and g

They work on padded x; `conv2d` and its kin (convolutions.py) pad it before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError, ShapeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import (
    Decomposed,
    Meaning,
    Op,
    Reduction,
    Site,
    Types,
    register,
)
from graphc.ir.scalar import Expr, size_of
from graphc.ir.types import Shape, TensorType
from graphc.ops.batching import align, fold, unfold
from graphc.ops.creation import concrete
from graphc.ops.padding import pad_with
from graphc.ops.shape import reshape, transpose
from graphc.ops.turn import flip
from graphc.ops.windows import counts, element, fits, np_windows


@dataclass(frozen=True, slots=True)
class Conv:
    """How windows move, and into how many groups the channels are split."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: Size = 1


@dataclass(frozen=True, slots=True)
class ConvSized:
    """As of a convolution; size: the spatial sizes of what is made, dx or dw."""

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: Size
    size: Shape


def _plain(attrs: Conv | ConvSized) -> Conv:
    return Conv(attrs.stride, attrs.dilation, attrs.groups)


def _sized(attrs: Conv | ConvSized, size: Shape) -> ConvSized:
    return ConvSized(attrs.stride, attrs.dilation, attrs.groups, size)


# --- types ----------------------------------------------------------------------------


def check_ranks(types: Types, ndim: int) -> None:
    """Check that two tensors have one dtype and batch, channels and spatial axes."""
    a, b = types
    if a.dtype is not b.dtype:
        raise DTypeError(f"dtypes differ: {{0}} {a}, {{1}} {b}", help="cast one")
    for i, t in enumerate(types):
        if t.ndim != ndim + 2:
            raise ShapeError(
                f"{{{i}}} {t} has {t.ndim} axes, not {ndim + 2}: two, and {ndim} "
                f"spatial ones",
            )


def check_groups(outputs: Size, inputs: Size, per_group: Size, groups: Size) -> None:
    """Check the numbers of channels: of x, of the weights, and of the groups."""
    if not isinstance(groups, int) or groups >= 1:
        for what, n in (("{0} has", inputs), ("the result has", outputs)):
            if groups == 0 or n % groups != 0:
                raise ShapeError(
                    f"{what} {n} channels, which {groups} groups do not divide",
                    help="choose groups that divide the channels of both",
                )
    else:
        raise ArgumentError(f"groups must be at least 1, not {groups}")
    if inputs != per_group * groups:
        raise ShapeError(
            f"{{0}} has {inputs} channels, {{1}} takes {per_group * groups}"
            + (f" ({per_group} in each of {groups} groups)" if groups != 1 else ""),
            help="weights are [out channels, in channels / groups, ...], and channels "
            'come second in the input; layout="NHWC" (or NWC, NDHWC) has them last',
        )


def _conv_infer(types: Types, attrs: Conv) -> TensorType:
    x, w = types
    check_ranks(types, len(attrs.stride))
    check_groups(w.shape[0], x.shape[1], w.shape[1], attrs.groups)
    places = counts(x.shape[2:], w.shape[2:], attrs.stride, attrs.dilation)
    return x.with_shape((x.shape[0], w.shape[0], *places))


def _places_differ(g: TensorType, i: int, places: Shape) -> ShapeError:
    return ShapeError(
        f"{{{i}}} has the spatial sizes {_list(g.shape[2:])}, a convolution of these "
        f"sizes makes {_list(places)}"
    )


def _list(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"


def _input_infer(types: Types, attrs: ConvSized) -> TensorType:
    g, w = types
    check_ranks(types, len(attrs.stride))
    if g.shape[1] != w.shape[0]:
        raise ShapeError(f"{{0}} has {g.shape[1]} channels, {{1}} takes {w.shape[0]}")
    channels = w.shape[1] * attrs.groups
    check_groups(w.shape[0], channels, w.shape[1], attrs.groups)
    places = counts(attrs.size, w.shape[2:], attrs.stride, attrs.dilation, "x")
    if places != g.shape[2:]:
        raise _places_differ(g, 0, places)
    return g.with_shape((g.shape[0], channels, *attrs.size))


def _weight_infer(types: Types, attrs: ConvSized) -> TensorType:
    x, g = types
    check_ranks(types, len(attrs.stride))
    if x.shape[0] != g.shape[0]:
        raise ShapeError(
            f"batches differ: {{0}}[0]={x.shape[0]}, {{1}}[0]={g.shape[0]}"
        )
    per_group = x.shape[1] // attrs.groups if attrs.groups != 0 else 0
    check_groups(g.shape[1], x.shape[1], per_group, attrs.groups)
    places = counts(x.shape[2:], attrs.size, attrs.stride, attrs.dilation)
    if places != g.shape[2:]:
        raise _places_differ(g, 1, places)
    return x.with_shape((g.shape[1], per_group, *attrs.size))


# --- meaning --------------------------------------------------------------------------


def _parts(groups: int, *channels: int) -> Any:
    """Yield for each group the slices of these numbers of channels."""
    for i in range(groups):
        yield [slice(i * (n // groups), (i + 1) * (n // groups)) for n in channels]


def _groups(meaning: Meaning) -> int:
    return concrete((meaning.attrs.groups,), meaning)[0]


def _conv_value(arrays: Any, meaning: Meaning) -> Any:
    x, w = arrays
    a, ndim = meaning.attrs, x.ndim - 2
    view = np_windows(x, w.shape[2:], a.stride, a.dilation)
    made = []
    for c, o in _parts(_groups(meaning), x.shape[1], w.shape[0]):
        inner = [1, *range(2 + ndim, 2 + 2 * ndim)]
        y = np.tensordot(view[:, c], w[o], (inner, list(range(1, 2 + ndim))))
        made.append(np.moveaxis(y, -1, 1))
    return np.ascontiguousarray(np.concatenate(made, axis=1), x.dtype)


def _input_value(arrays: Any, meaning: Meaning) -> Any:
    g, w = arrays
    a = meaning.attrs
    groups = _groups(meaning)
    size = concrete(a.size, meaning)
    found = np.zeros((g.shape[0], w.shape[1] * groups, *size), g.dtype)
    for o, c in _parts(groups, g.shape[1], found.shape[1]):
        for k in np.ndindex(*w.shape[2:]):
            places = tuple(
                slice(i * d, i * d + (n - 1) * s + 1, s)
                for i, d, s, n in zip(k, a.dilation, a.stride, g.shape[2:], strict=True)
            )
            each = np.tensordot(g[:, o], w[(o, slice(None), *k)], ((1,), (0,)))
            found[(slice(None), c, *places)] += np.moveaxis(each, -1, 1)
    return found


def _weight_value(arrays: Any, meaning: Meaning) -> Any:
    x, g = arrays
    a, ndim = meaning.attrs, x.ndim - 2
    view = np_windows(x, concrete(a.size, meaning), a.stride, a.dilation)
    over = [0, *range(2, 2 + ndim)]
    made = [
        np.tensordot(g[:, o], view[:, c], (over, over))
        for o, c in _parts(_groups(meaning), g.shape[1], x.shape[1])
    ]
    return np.ascontiguousarray(np.concatenate(made), x.dtype)


# --- lowering -------------------------------------------------------------------------


def _channel(site: Site, o: Expr, c: Expr, outputs: Size, per_group: Size) -> Expr:
    """Return a channel of x: the c-th of the group to which channel o belongs."""
    if site.attrs.groups == 1:
        return c
    return o // size_of(outputs // site.attrs.groups) * size_of(per_group) + c


def _conv_rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
    w, a = site.types[1], site.attrs
    n, o, *place = site.index
    c, *k = inner
    channel = _channel(site, o, c, w.shape[0], w.shape[1])
    at = element(place, k, a.stride, a.dilation)
    return site.load(0, (n, channel, *at)) * site.load(1, (o, c, *k))


def _weight_rule(site: Site, inner: tuple[Expr, ...]) -> Expr:
    a, result = site.attrs, site.result
    o, c, *k = site.index
    n, *place = inner
    channel = _channel(site, o, c, result.shape[0], result.shape[1])
    at = element(place, k, a.stride, a.dilation)
    return site.load(0, (n, channel, *at)) * site.load(1, (n, o, *place))


def _input_pieces(attrs: ConvSized, g: Tensor, w: Tensor) -> Tensor:
    """Write dx as a convolution of g, spread out, with the weights turned round."""
    sizes = w.shape[2:]
    around = [(k - 1) * d for k, d in zip(sizes, attrs.dilation, strict=True)]
    full = [n + a for n, a in zip(attrs.size, around, strict=True)]
    spread = pad_with(g, (0, 0, *around), (*g.shape[:2], *full), (1, 1, *attrs.stride))
    spatial = tuple(range(2, w.ndim))
    if attrs.groups == 1:
        turned = transpose(w, (1, 0, *spatial))
    else:  # channels trade places within each group
        each = w.shape[0] // attrs.groups
        turned = reshape(w, (attrs.groups, each, *w.shape[1:]))
        turned = transpose(turned, (0, 2, 1, *(i + 1 for i in spatial)))
        turned = reshape(turned, (w.shape[1] * attrs.groups, each, *sizes))
    axes = tuple(i for i in spatial if w.shape[i] != 1)
    turned = flip(turned, axes) if axes else turned
    ones = (1,) * len(sizes)
    return make1(CONV, (spread, turned), Conv(ones, attrs.dilation, attrs.groups))


# --- gradients ------------------------------------------------------------------------


def _conv_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    x, w = node.inputs
    if g is None or not x.dtype.is_float:
        return [None, None]
    return [
        make1(CONV_INPUT_GRADIENT, (g, w), _sized(node.attrs, x.shape[2:])),
        make1(CONV_WEIGHT_GRADIENT, (x, g), _sized(node.attrs, w.shape[2:])),
    ]


def _input_gradient(node: Node, cotangents: Any) -> Any:
    (x,) = cotangents  # what it makes is like x
    g, w = node.inputs
    if x is None:
        return [None, None]
    return [
        make1(CONV, (x, w), _plain(node.attrs)),
        make1(CONV_WEIGHT_GRADIENT, (x, g), _sized(node.attrs, w.shape[2:])),
    ]


def _weight_gradient(node: Node, cotangents: Any) -> Any:
    (w,) = cotangents  # what it makes is like w
    x, g = node.inputs
    if w is None:
        return [None, None]
    return [
        make1(CONV_INPUT_GRADIENT, (g, w), _sized(node.attrs, x.shape[2:])),
        make1(CONV, (x, w), _plain(node.attrs)),
    ]


# --- batching -------------------------------------------------------------------------


def _into_channels(x: Tensor) -> Tensor:
    """Move a leading axis into the channels: [B, N, C, ...] -> [N, B*C, ...]."""
    moved = transpose(x, (1, 0, *range(2, x.ndim)))
    b, c = moved.shape[1:3]
    return reshape(moved, (moved.shape[0], b * c, *moved.shape[3:]))


def _out_of_channels(x: Tensor, size: Size) -> Tensor:
    """Undo `_into_channels`."""
    split = reshape(x, (x.shape[0], size, x.shape[1] // size, *x.shape[2:]))
    return transpose(split, (1, 0, *range(2, split.ndim)))


def _conv_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Join the new axis with the batch, or, if weights have it too, make it groups."""
    x, w = inputs
    if not batched[1]:
        y = make1(node.op, (fold(x), w), node.attrs)
        return [unfold(y, size, x.shape[1])]
    x, w = align(inputs, batched, size)
    attrs = replace(node.attrs, groups=node.attrs.groups * size)
    y = make1(node.op, (_into_channels(x), fold(w)), attrs)
    return [_out_of_channels(y, size)]


def _weight_batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    x, g = (_into_channels(t) for t in align(inputs, batched, size))
    attrs = replace(node.attrs, groups=node.attrs.groups * size)
    w = make1(node.op, (x, g), attrs)
    return [unfold(w, size, w.shape[0] // size)]


# --- the ops --------------------------------------------------------------------------


CONV = register(
    Op(
        name="conv",
        attrs=Conv,
        infer=_conv_infer,
        evaluate=_conv_value,
        gradient=_conv_gradient,
        lower=Reduction("sum", lambda types, _: types[1].shape[1:], _conv_rule),
        doc="y[n, o, i] = sum over c, k of x[n, c, i stride + k dilation] w[o, c, k];  "
        "dx = conv_input_gradient(g, w), dw = conv_weight_gradient(x, g)",
        guards=lambda types, a: fits(
            types[0].shape[2:], types[1].shape[2:], a.dilation
        ),
        batch=_conv_batch,
    )
)

CONV_INPUT_GRADIENT = register(
    Op(
        name="conv_input_gradient",
        attrs=ConvSized,
        infer=_input_infer,
        evaluate=_input_value,
        gradient=_input_gradient,
        lower=Decomposed(_input_pieces),
        doc="dx[n, c, i stride + k dilation] += g[n, o, i] w[o, c, k], the gradient of "
        "conv;  dg = conv(x, w), dw = conv_weight_gradient(x, g) for a cotangent x",
        guards=lambda types, a: fits(a.size, types[1].shape[2:], a.dilation),
        batch=_conv_batch,
    )
)

CONV_WEIGHT_GRADIENT = register(
    Op(
        name="conv_weight_gradient",
        attrs=ConvSized,
        infer=_weight_infer,
        evaluate=_weight_value,
        gradient=_weight_gradient,
        lower=Reduction(
            "sum",
            lambda types, _: (types[1].shape[0], *types[1].shape[2:]),
            _weight_rule,
        ),
        doc="dw[o, c, k] = sum over n, i of x[n, c, i stride + k dilation] g[n, o, i], "
        "the gradient of conv;  dx = conv_input_gradient(g, w), dg = conv(x, w) for a "
        "cotangent w",
        guards=lambda types, a: fits(types[0].shape[2:], a.size, a.dilation),
        batch=_weight_batch,
    )
)
