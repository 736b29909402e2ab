"""Rules of random graphs: scans, conds, while_loops and vmaps of random bodies.

A body is a function of a seed: called again, it draws the same. So it can be declared
once by `gc.scan` and once, step by step, without it: where the number of steps is an
int, half of the samples have the loop on one side and its turns on the other, and the
truth about the loop and its gradient comes from ops that know nothing of loops.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from strategies import Grower, Rejected, Rule, Value, need, off_zero

import graphc as gc
from graphc.ir.nodes import Tensor

Scan = Callable[..., tuple[Any, Any]]
MOST = 400  # elements of a value of a body


class Body:
    """Draws the ops of one body; values stay of moderate size.

    scan, cond: graphc's, or what does the same without loops. chance: whether it may
    draw what differs between those two, random numbers.
    """

    def __init__(self, seed: int, scan: Scan, cond: Any, chance: bool, depth: int):
        self.random = random.Random(seed)
        self.scan, self.cond = scan, cond
        self.chance = chance
        self.depth = depth

    def one(self, items: Sequence[Any]) -> Any:
        return items[self.random.randrange(len(items))]

    def grow(self, known: Sequence[Tensor], count: int) -> list[Tensor]:
        """Return the known tensors and `count` more computed from them."""
        pool = list(known)
        for _ in range(count):
            try:
                made = self.one([self.alone, self.alone, self.pair, self.pair])(pool)
            except gc.GraphcError:
                continue
            pool += [t for t in made if _is_small(t)]
        return pool

    def recent(self, pool: Sequence[Tensor]) -> Tensor:
        floats = [t for t in pool if t.dtype.is_float]
        return self.one(floats[-3:] if self.random.random() < 0.6 else floats)

    def alone(self, pool: Sequence[Tensor]) -> list[Tensor]:
        x = self.recent(pool)
        simple: list[Callable[[Tensor], Tensor]] = [
            gc.tanh,
            gc.tanh,
            gc.sigmoid,
            gc.gelu,
            lambda t: t * 0.5,
            lambda t: 0.3 - t,
            lambda t: gc.tanh(t) * gc.tanh(t),
            gc.relu,
            lambda t: gc.where(t > 0.1, t, t * 0.25),
            lambda t: gc.clip(t, -0.9, 0.8),
            gc.stop_gradient,
        ]
        if x.ndim == 0:
            return [self.one(simple)(x)]
        axis = self.random.randrange(x.ndim)
        keep = self.one([True, False])
        front = (slice(None),) * axis
        n = x.shape[axis]
        rows = np.array([self.random.randrange(-2, 3) for _ in range(3)])
        w = np.random.default_rng(self.random.randrange(99)).uniform(-0.5, 0.5, (99, 4))
        moving: list[Callable[[Tensor], Any]] = [
            lambda t: gc.mean(t, axis, keepdims=keep),
            lambda t: gc.sum(t * 0.2, axis, keepdims=keep),
            lambda t: gc.max(t, axis, keepdims=keep),
            lambda t: gc.mean(t),
            lambda t: gc.softmax(t, axis),
            lambda t: gc.logsumexp(t, axis),
            lambda t: gc.transpose(t),
            lambda t: gc.reshape(t, (-1,)),
            lambda t: t[(*front, None)],
            lambda t: t[(*front, slice(1, None))],
            lambda t: t[(*front, 0)],
            lambda t: t[(*front, -1)],
            lambda t: gc.flip(t, axis),
            lambda t: gc.cumsum(t, axis) * 0.2,
            lambda t: gc.take(t, rows, axis),
            lambda t: gc.concatenate([t, t * 0.5], axis),
            lambda t: gc.broadcast_to(t, (2, *t.shape)),
            lambda t: gc.stack([t, gc.tanh(t)], axis),
            lambda t: gc.layer_norm(t, axis=axis, eps=0.1),
            lambda t: t / gc.cast(gc.dim(n) + 1, t.dtype),
            lambda t: t + gc.cast(gc.iota(t.shape, axis), t.dtype) * 0.1,
            lambda t: (gc.swapaxes(t, -1, -2) @ t) * 0.2,
            lambda t: gc.sort(t, axis),
        ]
        if isinstance(x.shape[-1], int) and x.shape[-1] < 99:
            matrix = w[: x.shape[-1]].astype(np.float32)
            moving += [lambda t: gc.tanh(t @ gc.constant(matrix, t.dtype))] * 4
        if self.chance:
            moving += [
                lambda t: t + gc.uniform(t.shape, stream=7).astype(t.dtype),
                lambda t: gc.dropout(t, 0.5, stream=8),
            ]
        if self.depth:
            moving += [self.loop, self.loop, self.branch]
        found = self.one(simple + moving if self.one([0, 1]) else moving)(x)
        return found if isinstance(found, list) else [found]

    def pair(self, pool: Sequence[Tensor]) -> list[Tensor]:
        x = self.recent(pool)
        y = self.one([t for t in pool if t.dtype.is_float])
        table: list[Callable[[Tensor, Tensor], Tensor]] = [
            lambda a, b: (a + b) * 0.5,
            lambda a, b: a - b,
            lambda a, b: a * b,
            lambda a, b: gc.maximum(a, b),
            lambda a, b: gc.where(a > b, gc.tanh(a), b),
        ]
        if x.ndim and y.ndim:
            n = gc.cast(gc.dim(x.shape[-1]) + 1, x.dtype)
            table += [lambda a, b: (a @ b) / n] * 3
            if y.ndim == 2:
                table += [lambda a, b: (a @ gc.transpose(b)) / n] * 2
        order = list(table)
        self.random.shuffle(order)
        for function in order:
            try:
                return [function(x, y)]
            except gc.GraphcError:
                continue
        return []

    def loop(self, x: Tensor) -> list[Tensor]:
        """Loop inside of the loop."""
        inner = self.random.randrange(1 << 30)
        over = self.one([True, False])

        def body(c: Tensor, row: Any) -> tuple[Tensor, Tensor]:
            own = Body(inner, self.scan, self.cond, self.chance, self.depth - 1)
            known = [c, x] if row is None else [c, x, row]
            pool = own.grow(known, 3)
            return fitted(own, pool, c, pool[-1]), pool[-1]

        start = gc.mean(x, 0)
        back = self.one([True, False])
        if over:
            last, ys = self.scan(body, start, x, reverse=back)
        else:
            last, ys = self.scan(body, start, None, length=2, reverse=back)
        return [last, ys]

    def branch(self, x: Tensor) -> list[Tensor]:
        seeds = [self.random.randrange(1 << 30) for _ in range(2)]

        def side(which: int) -> Callable[[Tensor], Tensor]:
            def function(t: Tensor) -> Tensor:
                own = Body(
                    seeds[which], self.scan, self.cond, self.chance, self.depth - 1
                )
                return fitted(own, own.grow([t], 3), t, t)

            return function

        return [self.cond(gc.mean(x) > 0.05, side(0), side(1), x)]


def fitted(body: Body, pool: Sequence[Tensor], old: Tensor, new: Tensor) -> Tensor:
    """Return the next value of a carry, of its type."""
    same = [t for t in pool if t.type == old.type]
    how = body.random.randrange(8)
    if how == 0:
        return old
    if how == 1 and same:
        return body.one(same)
    if new.type != old.type:
        try:
            new = gc.broadcast_to(new, old.shape)
        except gc.GraphcError:
            new = gc.broadcast_to(gc.mean(new), old.shape)
    if how in (2, 3):
        return old + new * 0.25
    if how == 4 and same:
        return gc.tanh(body.one(same) + new)
    return gc.tanh(old * 0.7 + new)


def _is_small(t: Tensor) -> bool:
    """Whether a value of a body is small enough; names count as 33."""
    sizes = [s if isinstance(s, int) else 33 for s in t.shape]
    return t.ndim <= 4 and int(np.prod(sizes)) <= max(MOST, 33 * 33 * 4)


# --- the same without loops -----------------------------------------------------------


def turns(
    body: Any, init: Any, xs: Any, *, length: Any = None, reverse: bool = False,
    lengths: Any = None, truncate: Any = None,
) -> tuple[Any, Any]:  # fmt: skip
    """Do what `gc.scan` does, one step after the other, if their number is an int."""
    slices = list(xs) if isinstance(xs, (list, tuple)) else [xs]
    count = length if xs is None or not slices else slices[0].shape[0]
    if not isinstance(count, int) or count == 0 or truncate is not None:
        return gc.scan(
            body, init, xs, length=length, reverse=reverse, lengths=lengths,
            truncate=truncate,
        )  # fmt: skip
    single = isinstance(init, Tensor)
    carry, stacks = init, [None] * count
    for t in reversed(range(count)) if reverse else range(count):
        if xs is None:
            x = None
        else:
            x = [v[t] for v in slices] if isinstance(xs, (list, tuple)) else xs[t]
        new, y = body(carry, x)
        if lengths is not None:
            runs = gc.cast(lengths, "int64") > t

            def held(a: Tensor, b: Any, runs: Tensor = runs) -> Tensor:
                column = gc.reshape(runs, (a.shape[0], *[1] * (a.ndim - 1)))
                return gc.where(gc.broadcast_to(column, a.shape), a, b)

            pairs = zip(new, carry, strict=True) if not single else [(new, carry)]
            new = [held(a, b) for a, b in pairs]
            new = new[0] if single else new
            y = [held(v, 0.0 if v.dtype.is_float else 0) for v in y]
        carry, stacks[t] = new, y
    first = stacks[0]
    if isinstance(first, Tensor):
        return carry, gc.stack(stacks, 0)
    return carry, [gc.stack([s[i] for s in stacks], 0) for i in range(len(first))]


def chosen(p: Tensor, then: Any, otherwise: Any, *operands: Tensor) -> Any:
    """Do what `gc.cond` does by computing both branches."""
    a, b = then(*operands), otherwise(*operands)
    if isinstance(a, Tensor):
        return gc.where(p, a, b)
    return [gc.where(p, x, y) for x, y in zip(a, b, strict=True)]


# --- rules ----------------------------------------------------------------------------


def _small(g: Grower, ndim: int = 0, most: int = MOST) -> Value:
    x = g.floats(ndim)
    need(x.array.size <= most)
    need(x.array.size > 0)
    return x


def _both(g: Grower, function: Callable[..., Any], values: Sequence[Value],
          apart: bool) -> list[Value]:  # fmt: skip
    """Apply a function to both sides; `apart`: the wide one without loops."""
    narrow = function(gc.scan, gc.cond, gc.vmap, *(v.narrow for v in values))
    ways = (turns, chosen, each) if apart else (gc.scan, gc.cond, gc.vmap)
    wide = function(*ways, *(v.wide for v in values))
    if [t.shape for t in narrow] != [t.shape for t in wide]:
        raise AssertionError(f"{narrow} without loops is {wide}")
    return [g.paired(a, b) for a, b in zip(narrow, wide, strict=True)]


def each(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Do what `gc.vmap` does one by one, if their number is an int."""

    def apply(t: Tensor) -> Tensor:
        if not isinstance(t.shape[0], int) or t.shape[0] > 5:
            return gc.vmap(function)(t)
        return gc.stack([function(t[i]) for i in range(t.shape[0])], 0)

    return apply


def loop(g: Grower) -> list[Value]:
    """Scan over some values, or for a number of steps."""
    xs: list[Value] = []
    length: Any = None
    if g.pick(4):
        first = g.floats(1)
        need(first.array.size <= 2000)
        xs = [first]
        alike = [v for v in g.pool if v.kind in "fi" and v.array.ndim
                 and v.shape[0] == first.shape[0] and v.array.size <= 2000]  # fmt: skip
        if g.pick(2):
            xs.append(g.one(alike))
        steps = first.shape[0]
    else:
        steps = length = g.one([1, 2, 3, 5, "N"] if _has_n(g) else [1, 2, 3, 5])
    inits = [_small(g) for _ in range(g.pick(4))]
    need(sum(v.array.size for v in inits) < 900)
    captured = [_small(g) for _ in range(g.pick(4))]
    weights = [v for v in g.pool if v.array.ndim == 2 and v.kind == "f"
               and v.array.size <= MOST]  # fmt: skip
    if weights and g.pick(2):
        captured.append(g.one(weights))
    if not inits and not xs and not captured:
        raise Rejected
    apart = isinstance(steps, int) and steps <= 5 and bool(g.pick(2))
    seed, size, outs = g.pick(1 << 30), 1 + g.pick(9), g.pick(4)
    depth = g.pick(3) == 0
    counter = g.pick(3) == 0
    reverse = bool(g.pick(2))
    truncate = 1 + g.pick(3) if not apart and g.pick(6) == 0 else None
    long = bool(g.pick(6) == 0)
    m = len(xs)

    def function(scan: Scan, cond: Any, _: Any, *tensors: Tensor) -> list[Tensor]:
        over = list(tensors[:m])
        start = list(tensors[m : m + len(inits)])
        outside = list(tensors[m + len(inits) :])
        if counter:
            start.append(gc.constant(np.int32(1)))

        def body(carry: Any, x: Any) -> tuple[Any, Any]:
            own = Body(seed, scan, cond, not apart, int(depth))
            floats = [c for c in carry if c.dtype.is_float]
            rows = [gc.cast(r, dtype) for r in (x or [])]
            if counter:
                rows.append(gc.cast(carry[-1], dtype) * 0.1)
            pool = own.grow([*outside, *rows, *floats], size)
            new = [fitted(own, pool, c, own.recent(pool)) for c in floats]
            if counter:
                new.append(carry[-1] + 1)
            ys = [own.one([*pool[-3:], *new, *pool]) for _ in range(outs)]
            return new, ys

        dtype = next(t.dtype for t in tensors if t.dtype.is_float)
        lengths = None
        if long and start and all(t.ndim for t in start):
            n = start[0].shape[0]
            if all(t.shape[0] == n for t in start) and not counter and outs == 0:
                lengths = gc.remainder(gc.iota((n,)) * 2 + 1, 4)
        how = {"length": length} if not over else {}
        carry, ys = scan(body, start, over or None, reverse=reverse, lengths=lengths,
                         truncate=truncate, **how)  # fmt: skip
        return [*carry, *ys]

    return _both(g, function, [*xs, *inits, *captured], apart)


def _has_n(g: Grower) -> bool:
    return any("N" in map(str, v.shape) for v in g.sample.inputs)


def branch(g: Grower) -> list[Value]:
    """Take one of two branches."""
    x, other = _small(g), _small(g)
    above = g.one([-0.5, 0.05, 0.5])
    off_zero(np.mean(x.array) - above)
    seeds = [g.pick(1 << 30), g.pick(1 << 30)]
    size, depth, apart = 1 + g.pick(5), int(g.pick(3) == 0), bool(g.pick(2))

    def function(scan: Scan, cond: Any, _: Any, a: Tensor, b: Tensor) -> list[Tensor]:
        def side(which: int) -> Callable[[Tensor], list[Tensor]]:
            def run(t: Tensor) -> list[Tensor]:
                own = Body(seeds[which], scan, cond, not apart, depth)
                pool = own.grow([t, b], size)
                return [fitted(own, pool, v, own.recent(pool)) for v in (a, b)]

            return run

        return list(cond(gc.mean(a) > above, side(0), side(1), a))

    return _both(g, function, [x, other], apart)


def until(g: Grower) -> list[Value]:
    """Loop until something becomes small."""
    x, other = _small(g), _small(g)
    seed, most = g.pick(1 << 30), g.pick(5)

    def function(_: Any, cond: Any, __: Any, a: Tensor, b: Tensor) -> list[Tensor]:
        def body(c: Any) -> Any:
            own = Body(seed, gc.scan, cond, False, 0)
            pool = own.grow([c[0], b], 3)
            return [gc.tanh(fitted(own, pool, c[0], own.recent(pool))), c[1] + 1]

        def test(c: Any) -> Tensor:
            return (c[1] < most) & (gc.mean(c[0] * c[0]) > 0.123)

        return list(gc.while_loop(test, body, [a, 0]))

    return _both(g, function, [x, other], False)


def mapped(g: Grower) -> list[Value]:
    """vmap a body over the first axis of a value."""
    x, other = g.floats(1), _small(g)
    need(x.array.size <= 2000)
    need(x.array.size > 0)
    seed, size, depth = g.pick(1 << 30), 1 + g.pick(5), int(g.pick(2))
    apart = bool(g.pick(2))

    def function(scan: Any, cond: Any, vmap: Any, a: Tensor, b: Tensor) -> list[Tensor]:
        def body(t: Tensor) -> Tensor:
            own = Body(seed, scan, cond, False, depth)
            return own.grow([b, t], size)[-1]

        return [vmap(body)(a)]

    return _both(g, function, [x, other], apart)


LOOPS: tuple[Rule, ...] = (*(loop,) * 5, branch, branch, until, mapped)
