"""Random graphs, each with arrays to run it on.

A `Sample` holds one random function twice, in float32 and in float64, with the same
nodes. It is grown with its values at hand: an op is applied only where its value and
its derivatives are of moderate size, and comparisons, extrema and conversions to
integers only where no value is near a tie. So no two ways of computing a sample may
differ by more than roundings.

    sample = grow(pick)     # pick(n): an int in range(n), from hypothesis or an rng
    samples()               # the same as a hypothesis strategy
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import GradientError
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph, broken_guards
from graphc.ir.interpret import run_nodes
from graphc.ir.nodes import Tensor, topological
from graphc.ops.broadcast import broadcast_shapes
from graphc.state import Parameter

Array = np.ndarray[Any, Any]
Pick = Callable[[int], int]

GAP = 1e-2  # values are at least so far from a tie, and from what cannot be divided by
LARGEST = 60.0
SIZES = (1, 2, 3, 5, 16, 17, 33)


@dataclass(frozen=True)
class Value:
    """One tensor of both functions, and its value."""

    narrow: Tensor
    wide: Tensor
    array: Array

    @property
    def shape(self) -> tuple[Any, ...]:
        return self.wide.shape

    @property
    def kind(self) -> str:
        return self.array.dtype.kind


@dataclass
class Sample:
    """A random function in float32 and float64, and arguments for it."""

    sizes: dict[str, int]
    inputs: list[Value] = field(default_factory=list)
    states: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    updates: list[tuple[Value, Value]] = field(default_factory=list)

    def graph(self, wide: bool = False) -> Graph:
        """Return the declared graph."""
        side = "wide" if wide else "narrow"
        return Graph.build(
            [getattr(v, side) for v in self.inputs],
            [getattr(v, side) for v in self.outputs],
            [(getattr(s, side), getattr(v, side)) for s, v in self.updates],
            "random",
        )

    @property
    def arrays(self) -> list[Array]:
        """The arguments, in float32."""
        return [v.array.astype(v.narrow.dtype.numpy) for v in self.inputs]

    def parameters(self) -> list[Parameter]:
        """Return the states of the float32 function."""
        found = [s.narrow for s in self.states]
        assert all(isinstance(s, Parameter) for s in found)
        return found  # type: ignore[return-value]


def samples(rules: Sequence[Rule] | None = None) -> st.SearchStrategy[Sample]:
    """Return random samples as a hypothesis strategy."""

    @st.composite
    def draw_one(draw: Any) -> Sample:
        return grow(lambda n: draw(st.integers(0, n - 1)), rules)

    return draw_one()


def grow(pick: Pick, rules: Sequence[Rule] | None = None) -> Sample:
    """Return a random sample, of these rules (RULES)."""
    return Grower(pick, RULES if rules is None else rules).run()


class Rejected(Exception):
    """An op does not fit the values."""


class Grower:
    """Grows one sample: a pool of values, to which rules add."""

    def __init__(self, pick: Pick, rules: Sequence[Rule]) -> None:
        self.pick = pick
        self.rules = rules
        self.rng = np.random.default_rng(pick(1 << 16))
        self.sizes = {"N": self.one(SIZES), "M": self.one(SIZES)}
        self.sample = Sample(self.sizes)
        self.pool: list[Value] = []
        self.known: dict[Tensor, Array] = {}

    def one(self, items: Sequence[Any]) -> Any:
        return items[self.pick(len(items))]

    def run(self) -> Sample:
        for i in range(1 + self.pick(3)):
            self.input(f"x{i}")
        for i in range(self.pick(4)):
            self.parameter(f"w{i}")
        for _ in range(3 + self.pick(20)):
            rule = self.one(self.rules)
            try:
                made = rule(self)
            except (Rejected, gc.GraphcError):
                continue
            self.pool.extend(made if isinstance(made, list) else [made])
        self.finish()
        return self.sample

    # --- leaves -------------------------------------------------------------------

    def shape(self, symbolic: bool) -> tuple[Any, ...]:
        choices: list[Any] = [1, 2, 3, 4, 17]
        if symbolic:
            choices += ["N", "N", "N", "M", "M"]
        return tuple(self.one(choices) for _ in range(self.pick(4)))

    def fresh(self, shape: tuple[Any, ...]) -> Array:
        concrete = tuple(self.sizes[s] if isinstance(s, str) else s for s in shape)
        low, high = self.one([(-2.0, 2.0), (0.2, 2.0), (-1.0, 0.5)])
        drawn = self.rng.uniform(low, high, concrete).astype(np.float32)
        return drawn.astype(np.float64)

    def input(self, name: str) -> None:
        shape = self.shape(symbolic=True)
        array = self.fresh(shape)
        pair = [gc.input(name, shape, d) for d in ("float32", "float64")]
        self.enter(self.sample.inputs, *pair, array)

    def parameter(self, name: str) -> None:
        shape = self.one([self.shape(symbolic=False), (3, 4), (4,), (4, 3), (17, 3)])
        array = self.fresh(shape)
        pair = [
            gc.parameter(name, shape, array.astype(d), dtype=d)
            for d in ("float32", "float64")
        ]
        self.enter(self.sample.states, *pair, array)

    def enter(
        self, into: list[Value], narrow: Tensor, wide: Tensor, array: Array
    ) -> None:
        value = Value(narrow, wide, array)
        self.known[wide] = array
        self.pool.append(value)
        into.append(value)

    # --- nodes --------------------------------------------------------------------

    def floats(self, ndim: int = 0) -> Value:
        """Return a value of floats; later ones are likelier."""
        found = [v for v in self.pool if v.kind == "f" and v.array.ndim >= ndim]
        if not found:
            raise Rejected
        recent = found[-4:]
        return self.one(recent if self.pick(3) else found)

    def partner(self, x: Value) -> Value:
        """Return a value that broadcasts with x."""
        found = []
        for v in self.pool:
            if v.kind != "f":
                continue
            try:
                shape = broadcast_shapes(v.shape, x.shape)
            except gc.GraphcError:
                continue
            if np.prod([evaluate(s, self.sizes) for s in shape]) <= 6000:
                found.append(v)
        need(found)
        return self.one(found)

    def make(self, function: Callable[..., Tensor], *values: Value) -> Value:
        """Apply a function to both sides; refuse what is too large or not finite."""
        narrow = function(*(v.narrow for v in values))
        wide = function(*(v.wide for v in values))
        return self.paired(narrow, wide)

    def paired(self, narrow: Tensor, wide: Tensor) -> Value:
        """Return a value of both sides; refuse what is too large or not finite."""
        array = self.value(wide)
        if array.dtype.kind == "f" and not np.all(np.abs(array) < LARGEST):
            raise Rejected
        if array.size > 6000:
            raise Rejected
        return Value(narrow, wide, array)

    def value(self, tensor: Tensor) -> Array:
        order = [n for n in topological([tensor]) if not n.op.leaf]
        graph = Graph.build([v.wide for v in self.sample.inputs], [tensor])
        if broken_guards(graph.guards, self.sizes):
            raise Rejected
        todo = [n for n in order if n.results[0] not in self.known]
        run_nodes(todo, self.known, self.sizes)
        return self.known[tensor]

    # --- outputs ------------------------------------------------------------------

    def finish(self) -> None:
        sample = self.sample
        made = self.pool[len(sample.inputs) + len(sample.states) :] or self.pool
        for _ in range(1 + self.pick(3)):
            sample.outputs.append(self.one(made[-6:]))
        self.gradients()
        self.updates()

    def gradients(self) -> None:
        """Add the gradients of a scalar to the outputs."""
        leaves = [*self.sample.inputs, *self.sample.states]
        floats = [v for v in self.pool if v.kind == "f"]
        y = self.one(floats[-6:])
        for x in leaves:
            if not self.pick(4):
                continue
            try:
                pair = [
                    gc.grad(gc.sum(a * 1.5), b)
                    for a, b in ((y.narrow, x.narrow), (y.wide, x.wide))
                ]
                array = self.value(pair[1])
            except (GradientError, Rejected):
                continue
            if np.all(np.abs(array) < 1e6):
                self.sample.outputs.append(Value(*pair, array))

    def updates(self) -> None:
        states = self.sample.states
        for s in states:
            if self.pick(2):
                continue
            fit = [
                v
                for v in (*self.pool, *self.sample.outputs)
                if v.wide.type == s.wide.type and v.narrow.type == s.narrow.type
            ]
            self.sample.updates.append((s, self.one(fit)))


# --- what may be applied ------------------------------------------------------------

Rule = Callable[[Grower], Value | list[Value]]


def need(condition: Any) -> None:
    """Refuse an op where a condition does not hold everywhere, or there is nothing."""
    if not np.all(condition) or (isinstance(condition, list) and not condition):
        raise Rejected


def off_zero(a: Array) -> None:
    need(np.abs(a) > GAP)


def smooth(g: Grower) -> Value:
    x = g.floats()
    a = x.array
    table: list[tuple[Callable[[Tensor], Tensor], Any]] = [
        (gc.tanh, True),
        (gc.sigmoid, True),
        (gc.softplus, True),
        (gc.neg, True),
        (lambda t: t * t, True),
        (lambda t: t**3, True),
        (lambda t: 2.0 * t - 0.5, True),
        (lambda t: 1 - t, True),
        (gc.exp, a < 3),
        (gc.expm1, a < 3),
        (gc.log, a > 0.05),
        (gc.log1p, a > -0.9),
        (gc.sqrt, a > 0.05),
        (gc.rsqrt, a > 0.05),
        (lambda t: 1 / t, np.abs(a) > 0.1),
        (lambda t: t**0.5, a > 0.05),
        (lambda t: t**-1.5, a > 0.1),
        (gc.abs, np.abs(a) > GAP),
        (gc.relu, np.abs(a) > GAP),
        (gc.sign, np.abs(a) > GAP),
        (gc.stop_gradient, True),
    ]
    function, domain = g.one(table)
    need(domain)
    return g.make(function, x)


def binary(g: Grower) -> Value:
    x = g.floats()
    y = g.partner(x)
    if g.pick(2):
        x, y = y, x
    name = g.one(["add", "sub", "mul", "mul", "div", "maximum", "minimum", "pow"])
    if name == "div":
        need(np.abs(y.array) > 0.1)
    elif name == "pow":
        need(x.array > 0.1)
        need(np.abs(y.array) < 3)
    elif name in ("maximum", "minimum"):
        off_zero(x.array - y.array)
    return g.make(getattr(gc, name), x, y)


def select(g: Grower) -> Value:
    x = g.floats()
    y = g.partner(x)
    z = g.partner(x)
    name = g.one(["less", "greater", "less_equal", "greater_equal"])
    off_zero(x.array - y.array)
    if g.pick(3) == 0:
        return g.make(
            lambda a, b, c: gc.where(~getattr(gc, name)(a, b) | (c > 100.0), c, a),
            x,
            y,
            z,
        )
    return g.make(lambda a, b, c: gc.where(getattr(gc, name)(a, b), c, a), x, y, z)


def guarded(g: Grower) -> Value:
    """Guard a function by `where`, infinite or NaN on the branch not taken."""
    x = g.floats()
    off_zero(x.array)
    function = g.one([gc.sqrt, gc.log, lambda t: 1 / t, lambda t: t**0.5])
    need((x.array < 0) | (x.array > 0.05))
    return g.make(lambda t: gc.where(t > 0, function(t), 0.0), x)


def axes_of(g: Grower, x: Value) -> Any:
    ndim = x.array.ndim
    chosen = [i for i in range(ndim) if g.pick(2)]
    return tuple(chosen) or g.pick(ndim)


def reduction(g: Grower) -> Value:
    x = g.floats(1)
    axis = axes_of(g, x)
    keepdims = bool(g.pick(2))
    name = g.one(["sum", "sum", "mean", "max", "min", "var", "logsumexp", "norm"])
    need(x.array.size > 0)
    if name in ("max", "min"):
        untied(x.array, axis, name)
    if name == "norm":
        need(np.sum(x.array**2, axis=axis) > GAP)
    return g.make(lambda t: getattr(gc, name)(t, axis, keepdims=keepdims), x)


def untied(a: Array, axis: Any, name: str) -> None:
    need(a.size > 0)
    sign = 1 if name == "max" else -1
    best = np.max(sign * a, axis=axis, keepdims=True)
    need(np.sum(sign * a > best - GAP, axis=axis) == 1)


def normalised(g: Grower) -> Value:
    x = g.floats(1)
    axis = axes_of(g, x)
    name = g.one(["softmax", "log_softmax"])
    return g.make(lambda t: getattr(gc, name)(t, axis), x)


def index_of_largest(g: Grower) -> Value:
    x = g.floats(1)
    axis = axes_of(g, x)
    untied(x.array, axis, "max")
    return g.make(lambda t: gc.argmax(t, axis), x)


def spelled_out(g: Grower) -> Value:
    """Write what the stable forms know by hand."""
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    need(np.abs(x.array) < 5)

    def total(t: Tensor) -> Tensor:
        return gc.sum(gc.exp(t), axis, keepdims=True)

    table: list[Callable[[Tensor], Tensor]] = [
        lambda t: gc.exp(t) / total(t),
        lambda t: gc.log(gc.exp(t) / total(t)),
        lambda t: gc.log(total(t)),
        lambda t: gc.log(1 + gc.exp(t)),
        lambda t: 1 / (1 + gc.exp(-t)),
        lambda t: gc.exp(t) - 1,
        lambda t: (gc.exp(t) - gc.exp(-t)) / (gc.exp(t) + gc.exp(-t)),
        lambda t: gc.sqrt(gc.sum(t * t, axis) + 1.0),
        lambda t: t - gc.max(t, axis, keepdims=True) * 0.0,
        lambda t: (
            (t - gc.mean(t, axis, keepdims=True))
            * gc.rsqrt(gc.var(t, axis, keepdims=True) + 0.1)
        ),
    ]
    which = g.pick(len(table))
    if which == 8:
        untied(x.array, axis, "max")
    return g.make(table[which], x)


def product(g: Grower) -> Value:
    x = g.floats(2)
    found = [
        (v, turned)
        for v in g.pool
        if v.kind == "f" and v.array.ndim >= 1
        for turned in (False, True)
        if _inner(v, turned) == x.shape[-1] and (v.array.ndim > 1 or not turned)
    ]
    if not found:
        raise Rejected
    y, turned = g.one(found)
    scale = 1 / max(x.array.shape[-1], 1)
    order = (*range(y.array.ndim - 2), y.array.ndim - 1, y.array.ndim - 2)
    return g.make(
        lambda a, b: gc.matmul(a, gc.transpose(b, order) if turned else b) * scale, x, y
    )


def _inner(v: Value, turned: bool) -> Any:
    if v.array.ndim == 1:
        return v.shape[0]
    return v.shape[-1] if turned else v.shape[-2]


def dense(g: Grower) -> Value:
    """Multiply by fixed weights and add a bias."""
    x = g.floats(2)
    k = x.shape[-1]
    if not isinstance(k, int):
        raise Rejected
    n = g.one([1, 3, 4, 17])
    w = g.rng.uniform(-1, 1, (k, n)).astype(np.float32)
    b = g.rng.uniform(-1, 1, n).astype(np.float32)

    def function(t: Tensor) -> Tensor:
        return t @ gc.constant(w, t.dtype) + gc.constant(b, t.dtype)

    return g.make(function, x)


def movement(g: Grower) -> Value:
    x = g.floats(1)
    ndim = x.array.ndim
    order = list(range(ndim))
    for i in range(ndim):
        j = i + g.pick(ndim - i)
        order[i], order[j] = order[j], order[i]
    axis = g.pick(ndim)
    front = (slice(None),) * axis
    table: list[Callable[[Tensor], Tensor]] = [
        lambda t: gc.transpose(t, order),
        lambda t: gc.reshape(t, (-1,)),
        lambda t: gc.reshape(t, (-1, t.shape[-1])),
        lambda t: t[(*front, None)],
        lambda t: t[(*front, slice(1, None))],
        lambda t: t[(*front, slice(None, -1))],
        lambda t: t[(*front, slice(None, None, 2))],
        lambda t: t[(*front, slice(1, None, 2))],
        lambda t: t[(*front, 0)],
        lambda t: t[(*front, -1)],
        lambda t: gc.concatenate([t, t * 0.5], axis),
        lambda t: gc.concatenate([t[(*front, slice(1, None))], t], axis),
        lambda t: gc.broadcast_to(t, (2, *t.shape)),
        lambda t: gc.broadcast_to(t, ("N", *t.shape)),
    ]
    if not any("N" in map(str, v.shape) for v in g.sample.inputs):
        table.pop()
    return g.make(g.one(table), x)


def indexed(g: Grower) -> Value:
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    need(x.array.shape[axis] > 0)
    found = [v for v in g.pool if v.kind == "i" and v.array.ndim < 3]
    if found and g.pick(2):
        return g.make(lambda t, i: gc.take(t, i, axis), x, g.one(found))
    rows = g.rng.integers(-3, 5, g.one([(3,), (2, 2), (5,)]))
    return g.make(lambda t: gc.take(t, rows, axis), x)


def counted(g: Grower) -> Value:
    """Use sizes, counts and truths as numbers."""
    x = g.floats(1)
    axis = g.pick(x.array.ndim)
    off_zero(x.array)
    table: list[Callable[[Tensor], Tensor]] = [
        lambda t: t / gc.cast(gc.dim(t.shape[axis]) + 1, t.dtype),
        lambda t: t + gc.cast(gc.iota(t.shape, axis), t.dtype) * 0.1,
        lambda t: t * gc.cast(t > 0, t.dtype),
        lambda t: t * gc.cast(gc.sum(t > 0, axis, keepdims=True), t.dtype) * 0.1,
        lambda t: t + gc.uniform(t.shape, stream=3, dtype="float32").astype(t.dtype),
        lambda t: gc.dropout(t, 0.5, stream=4),
    ]
    return g.make(g.one(table), x)


def integers(g: Grower) -> Value:
    x = g.floats()
    scaled = x.array * 3
    off_zero(scaled - np.round(scaled))
    dtype = g.one(["int32", "int64"])
    return g.make(lambda t: gc.cast(t * 3.0, dtype), x)


def back_to_floats(g: Grower) -> Value:
    found = [v for v in g.pool if v.kind == "i"]
    x, y = g.floats(), g.one(found) if found else None
    if y is None:
        raise Rejected
    return g.make(lambda a, b: a + gc.cast(b, a.dtype) * 0.1, x, y)


def one_hot(g: Grower) -> Value:
    found = [v for v in g.pool if v.kind == "i" and v.array.ndim < 3]
    if not found:
        raise Rejected
    x = g.one(found)
    like = g.floats()
    return g.make(lambda i, t: gc.one_hot(i, 4, t.dtype) * 2.0, x, like)


def twice(g: Grower) -> Value:
    """Compute something a second time, for common subexpressions to be found."""
    x = g.floats()
    return g.make(lambda t: gc.tanh(t + 0.5) * gc.tanh(t + 0.5), x)


RULES: tuple[Rule, ...] = (
    *(smooth,) * 4,
    *(binary,) * 4,
    select,
    guarded,
    *(reduction,) * 3,
    normalised,
    index_of_largest,
    spelled_out,
    *(product,) * 2,
    dense,
    *(movement,) * 3,
    indexed,
    counted,
    integers,
    back_to_floats,
    one_hot,
    twice,
)
