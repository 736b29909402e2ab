"""Rules of random graphs: the ops beyond arithmetic, reductions and contractions.

As in strategies.py, an op is applied only where its value and its derivatives are of
moderate size, and what compares only where no two values are near a tie.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from strategies import (
    GAP,
    Array,
    Grower,
    Rejected,
    Rule,
    Value,
    axes_of,
    need,
    off_zero,
)

import graphc as gc
from graphc.ir.nodes import Tensor

CLOSE = 1e-4  # values that are sorted differ at least so much


def distinct(a: Array, axis: int | None = None) -> None:
    """Refuse values that might be taken for each other."""
    line = np.sort(a.ravel() if axis is None else a, -1 if axis is None else axis)
    need(np.diff(line, axis=-1 if axis is None else axis) > CLOSE)


def off_whole(a: Array) -> None:
    """Refuse values near whole numbers."""
    off_zero(a - np.round(a))


def activation(g: Grower) -> Value:
    x = g.floats()
    a = x.array
    edge = np.minimum(np.abs(a - 0.7), np.abs(a + 0.4))
    table: list[tuple[Callable[[Tensor], Tensor], Any]] = [
        (gc.sin, True),
        (gc.cos, True),
        (gc.erf, True),
        (gc.gelu, True),
        (lambda t: gc.gelu(t, approximate="tanh"), True),
        (gc.silu, True),
        (gc.square, True),
        (gc.arctan, True),
        (gc.cosh, np.abs(a) < 3),
        (gc.elu, np.abs(a) > GAP),
        (gc.selu, np.abs(a) > GAP),
        (gc.leaky_relu, np.abs(a) > GAP),
        (gc.softsign, np.abs(a) > GAP),
        (gc.reciprocal, np.abs(a) > 0.1),
        (gc.log2, a > 0.05),
        (lambda t: gc.clip(t, -0.4, 0.7), edge > GAP),
        (lambda t: gc.clip(t, None, 0.7), edge > GAP),
        (lambda t: gc.where(gc.isfinite(t), t, 0.0), True),
    ]
    function, domain = g.one(table)
    need(domain)
    return g.make(function, x)


def stepwise(g: Grower) -> Value:
    """Round, and divide with a remainder."""
    x = g.floats()
    name = g.one(["floor", "ceil", "round", "trunc", "remainder", "floor_divide"])
    if name in ("remainder", "floor_divide"):
        off_whole(x.array / 0.75)
        return g.make(lambda t: getattr(gc, name)(t, 0.75), x)
    off_whole(x.array * 2)  # halves are ties of round
    return g.make(getattr(gc, name), x)


def reduced(g: Grower) -> Value:
    x = g.floats(1)
    axis, keepdims = axes_of(g, x), bool(g.pick(2))
    name = g.one(["prod", "any", "all", "argmin", "std"])
    need(x.array.size > 0)
    if name == "prod":
        off_zero(x.array)
        return g.make(lambda t: gc.prod(t, axis, keepdims), x)
    if name == "std":
        need(np.var(x.array, axis=axis) > GAP)
        return g.make(lambda t: gc.std(t, axis, keepdims=keepdims), x)
    if name == "argmin":
        a = np.moveaxis(x.array, axis, range(np.size(axis)))
        distinct(a.reshape(-1, *a.shape[np.size(axis) :]), 0)
        return g.make(lambda t: gc.argmin(t, axis, keepdims), x)
    off_zero(x.array)
    return g.make(lambda t: getattr(gc, name)(t > 0, axis, keepdims), x)


def contracted(g: Grower) -> Value:
    x = g.floats(1)
    scale = 1 / max(x.array.shape[-1], 1)
    table: dict[int, list[str]] = {
        1: ["i,i->", "i,j->ij", "i->i"],
        2: ["ij,kj->ik", "ij,ik->jk", "ij,ij->i", "ij,ij->", "ij->ji", "ij,j...->i..."],
        3: ["bij,bkj->bik", "bij,bij->bj", "bij->jb", "bij,bij->", "bij,cij->bc"],
    }
    if x.array.ndim not in table:
        raise Rejected
    spec = g.one(table[x.array.ndim])
    count = spec.count(",") + 1
    if "..." in spec:
        n = x.shape[-1]
        if not isinstance(n, int):
            raise Rejected
        w = g.rng.uniform(-1, 1, (n, 2, 3)).astype(np.float32)
        return g.make(lambda t: gc.einsum(spec, t, gc.constant(w, t.dtype)) * scale, x)
    return g.make(lambda t: gc.einsum(spec, *[t] * count) * scale, x)


def arranged(g: Grower) -> Value | list[Value]:
    x = g.floats(1)
    ndim = x.array.ndim
    axis = g.pick(ndim)
    width = [(g.pick(3), g.pick(3)) for _ in range(ndim)]
    shift = g.pick(7) - 3
    n = x.shape[axis]
    table: list[Callable[[Tensor], Any]] = [
        lambda t: gc.pad(t, width),
        lambda t: gc.pad(t, width, constant_values=0.5),
        lambda t: gc.pad(t, [(1, 0)] * ndim, mode="edge"),
        lambda t: gc.pad(t, [(1, 1)] * ndim, mode="reflect"),
        lambda t: gc.stack([t, t * 0.5], axis),
        lambda t: gc.flip(t, axis),
        lambda t: gc.flip(t),
        lambda t: gc.tile(t, (2,) * ndim),
        lambda t: gc.repeat(t, 2, axis),
        lambda t: gc.roll(t, shift, axis),
        lambda t: gc.swapaxes(t, 0, axis),
        lambda t: gc.expand_dims(t, axis),
        lambda t: gc.tril(t) if ndim > 1 else gc.diag(t),
        lambda t: gc.triu(t, 1) if ndim > 1 else gc.diag(t, 1),
        lambda t: gc.split(t, [1], axis)[1],
    ]
    if isinstance(n, int) and n % 2 == 0:
        table.append(lambda t: gc.split(t, 2, axis)[1])
    if n == 1:
        table.append(lambda t: gc.squeeze(t, axis))
    if ndim > 1:
        table += [
            lambda t: gc.diagonal(t, 0, 0, 1),
            lambda t: gc.trace(t),
            lambda t: gc.diagonal(t, 1, 0, 1),
        ]
    return g.make(g.one(table), x)


def looked_up(g: Grower) -> Value:
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    need(x.array.size > 0)
    rows = g.rng.integers(-2, 4, 3).astype(np.int32)
    start = g.pick(5) - 1

    def along(t: Tensor) -> Tensor:
        return gc.remainder(gc.iota(t.shape, axis) * 3 + 1, 4)

    def column(t: Tensor) -> Tensor:
        return t[(slice(None),) * axis + (slice(0, 1),)]

    table: list[Callable[[Tensor], Tensor]] = [
        lambda t: gc.take_along_axis(t, along(t), axis),
        lambda t: gc.take(t, rows, axis),
        lambda t: gc.scatter_add(
            t, gc.constant(rows), gc.take(t * 0.5, np.array([0, 0, 0]), axis), axis
        ),
        lambda t: gc.put_along_axis(
            t, gc.cast(gc.iota(t.shape, axis) * 0 + 1, "int32"), 0.25, axis
        ),
        lambda t: gc.index_update(t, (*(slice(None),) * axis, slice(0, 1)), 0.5),
        lambda t: gc.index_add(t, (*(slice(None),) * axis, -1), 0.5),
        lambda t: gc.dynamic_slice(t, [start] * t.ndim, [1] * t.ndim),
        lambda t: gc.dynamic_update_slice(t, column(t) * 2.0, [start] * t.ndim),
        lambda t: t[(*(slice(None),) * axis, rows)],
        lambda t: t[(Ellipsis, None, slice(None, None, -1))],
    ]
    return g.make(g.one(table), x)


def in_order(g: Grower) -> Value | list[Value]:
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    distinct(x.array, axis)
    down = bool(g.pick(2))
    name = g.one(["sort", "argsort", "top_k", "cummax", "cummin", "pick", "search"])
    if name == "sort":
        return g.make(lambda t: gc.sort(t, axis, down), x)
    if name == "argsort":
        return g.make(lambda t: gc.argsort(t, axis, down), x)
    if name == "top_k":
        k = min(2, x.array.shape[axis])
        if k < 1:
            raise Rejected
        return [g.make(lambda t, i=i: gc.top_k(t, k, axis)[i], x) for i in (0, 1)]
    if name == "pick":
        return g.make(
            lambda t: gc.take_along_axis(t, gc.argsort(t, axis, down), axis), x
        )
    if name == "search":
        return g.make(
            lambda t: gc.searchsorted(
                gc.constant(np.array([-1.03, 0.11, 0.57]), t.dtype), t
            ),
            x,
        )
    return g.make(lambda t: getattr(gc, name)(t, axis, reverse=down), x)


def accumulated(g: Grower) -> Value:
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    back = bool(g.pick(2))
    name = g.one(["cumsum", "cumsum", "cumprod", "linear_recurrence"])
    if name == "linear_recurrence":
        return g.make(
            lambda t: gc.linear_recurrence(gc.tanh(t) * 0.9, t, axis, back), x
        )
    if name == "cumprod":
        off_zero(x.array)
    return g.make(lambda t: getattr(gc, name)(t, axis, reverse=back), x)


def norm(g: Grower) -> Value:
    x = g.floats(1)
    ndim = x.array.ndim
    axis = g.pick(ndim)
    name = g.one(["layer", "rms", "batch", "group"])
    if name == "rms":
        need(np.mean(x.array**2, axis=axis) > GAP)
        return g.make(lambda t: gc.rms_norm(t, axis=axis), x)
    if name == "layer":
        need(np.var(x.array, axis=axis) > GAP)
        return g.make(lambda t: gc.layer_norm(t, axis=axis), x)
    if ndim < 2:
        raise Rejected
    if name == "batch":
        others = tuple(i for i in range(ndim) if i != axis)
        need(np.var(x.array, axis=others) > GAP)
        return g.make(lambda t: gc.batch_norm_training(t, axis=axis)[0], x)
    n = x.shape[1]
    if not isinstance(n, int):
        raise Rejected
    groups = 2 if n % 2 == 0 else 1
    parts = x.array.reshape(x.array.shape[0], groups, -1)
    need(np.var(parts, axis=-1) > GAP)
    return g.make(lambda t: gc.group_norm(t, groups), x)


def channels(x: Value, ndim: int) -> Callable[[Tensor], Tensor]:
    """Return how to see a value as a batch of images of `ndim` axes."""
    more = ndim + 2 - x.array.ndim
    if more < 0 or (more == 0 and not isinstance(x.shape[1], int)):
        raise Rejected
    if x.array.ndim < ndim:
        raise Rejected
    front: tuple[Any, ...] = ()
    if more == 2:
        front = (None, None)
    elif more == 1:
        front = (slice(None), None)
    return lambda t: t[(*front, Ellipsis)] if front else t


def convolved(g: Grower) -> Value:
    x = g.floats(1)
    ndim = g.one([1, 1, 2])
    see = channels(x, ndim)
    c = x.shape[1] if x.array.ndim == ndim + 2 else 1
    groups = c if g.pick(3) == 0 else 1
    out = groups * g.one([1, 2])
    kernel = tuple(1 + g.pick(3) for _ in range(ndim))
    stride, dilation = 1 + g.pick(2), 1 + g.pick(2)
    padding = g.one(["valid", "same", 1, 2])
    size = c // groups * int(np.prod(kernel))
    if g.pick(4) == 0:
        w = g.rng.uniform(-1, 1, (c, out // groups, *kernel)) / max(size, 1)
        function = gc.conv_transpose1d if ndim == 1 else gc.conv_transpose2d
        if padding == "same":
            padding = "valid"
    else:
        w = g.rng.uniform(-1, 1, (out, c // groups, *kernel)) / max(size, 1)
        function = gc.conv1d if ndim == 1 else gc.conv2d
    w = w.astype(np.float32)

    def apply(t: Tensor) -> Tensor:
        k = gc.constant(w, t.dtype)
        return function(
            see(t), k, stride=stride, padding=padding, dilation=dilation, groups=groups
        )

    return g.make(apply, x)


def pooled(g: Grower) -> Value:
    x = g.floats(1)
    ndim = g.one([1, 1, 2])
    see = channels(x, ndim)
    size = 1 + g.pick(3)
    stride = g.one([None, 1, 2])
    padding = g.pick(size // 2 + 1)
    ceil = bool(g.pick(2))
    name = g.one(["max", "avg", "avg", "global", "resize"])
    if name == "max":
        distinct(x.array)
        function = gc.max_pool1d if ndim == 1 else gc.max_pool2d
        return g.make(
            lambda t: function(see(t), size, stride, padding, ceil_mode=ceil), x
        )
    if name == "avg":
        function = gc.avg_pool1d if ndim == 1 else gc.avg_pool2d
        pads = bool(g.pick(2))
        return g.make(
            lambda t: function(
                see(t), size, stride, padding, ceil_mode=ceil, count_include_pad=pads
            ),
            x,
        )
    if name == "global":
        return g.make(lambda t: gc.global_average_pool(see(t)), x)
    method = g.one(["nearest", "linear" if ndim == 1 else "bilinear"])
    return g.make(lambda t: gc.resize(see(t), (5,) * ndim, method), x)


def attended(g: Grower) -> Value:
    x = g.floats(2)
    masked, causal = bool(g.pick(2)), bool(g.pick(2))

    def apply(t: Tensor) -> Tensor:
        length = t.shape[-2]
        mask = None
        if masked:
            mask = gc.iota((length, length), 0) + 1 >= gc.iota((length, length), 1)
        return gc.scaled_dot_product_attention(
            t, t * 0.5, gc.tanh(t), mask, is_causal=causal
        )

    return g.make(apply, x)


def factored(g: Grower) -> Value:
    """Use routines of linear algebra on a matrix that is far from singular."""
    x = g.floats(2)
    k = x.shape[-1]
    if not isinstance(k, int) or k > 6 or x.array.ndim > 3:
        raise Rejected

    def matrix(t: Tensor) -> Tensor:
        t = gc.tanh(t)
        product = gc.swapaxes(t, -1, -2) @ t
        count = gc.cast(gc.dim(t.shape[-2]), t.dtype)
        return product / count + 2.0 * gc.eye(k, dtype=t.dtype)

    need(x.array.size > 0)
    table: list[Callable[[Tensor], Tensor]] = [
        lambda t: gc.cholesky(matrix(t)),
        lambda t: gc.inv(matrix(t)),
        lambda t: gc.slogdet(matrix(t))[1],
        lambda t: gc.solve(matrix(t), gc.swapaxes(t, -1, -2)),
    ]
    return g.make(g.one(table), x)


OPS: tuple[Rule, ...] = (
    *(activation,) * 3,
    stepwise,
    reduced,
    *(contracted,) * 2,
    *(arranged,) * 3,
    *(looked_up,) * 2,
    in_order,
    *(accumulated,) * 2,
    *(norm,) * 2,
    *(convolved,) * 2,
    *(pooled,) * 2,
    attended,
    factored,
)
