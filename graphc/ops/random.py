"""Random numbers: pure functions of seed, stream and step.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
2011 (Philox4x32-10). Element i of an op draws from the counter (i, step, stream)
under the key `seed`, so equal arguments give equal bits on every backend.

Each op has a stream of its own, so two draws are never the same draw; pass
`stream=` to name one, for numbers that do not depend on what was declared before.
In the body of a scan the iteration enters the counter, so each one draws anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, BatchError, DTypeError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import (
    Meaning,
    NonDifferentiable,
    Op,
    Pointwise,
    Site,
    Types,
    public,
    register,
)
from graphc.ir.origins import here
from graphc.ir.scalar import Expr, apply, const, evaluate_expr, ref, size_of
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.types import (
    DType,
    DTypeLike,
    Shape,
    TensorType,
    as_dtype,
    as_shape,
    float32,
    int64,
)
from graphc.ops.arithmetic import where
from graphc.ops.creation import cast, concrete, constant, full


@dataclass(frozen=True, slots=True)
class Draw:
    """What is drawn, and from which stream of which seed."""

    dtype: DType
    shape: Shape
    seed: int
    stream: int


# Philox takes 32 bits of the step and 64 of the counter, of which elements need 32 at
# most. What a step has above its 32 bits, the iteration, goes where counters have room.
ITERATION = 2**32


def _word(which: int, a: Draw, step: Expr, counter: Expr) -> Expr:
    high = const(ITERATION, int64)
    place = counter + step // high * high
    return apply(
        f"philox{which}", const(a.seed, int64), const(a.stream, int64), step, place
    )


def _unit(a: Draw, step: Expr, counter: Expr) -> Expr:
    """Return a number in [0, 1): 24 random bits, 53 for float64."""
    high = _word(0, a, step, counter)
    if a.dtype is float32:
        bits = cast_expr(high // const(256, int64), float32)
        return bits * const(2.0**-24, float32)
    low = _word(1, a, step, counter)
    bits = (high // const(32, int64)) * const(2**26, int64) + low // const(64, int64)
    return cast_expr(bits, a.dtype) * const(2.0**-53, a.dtype)


def _gauss(a: Draw, step: Expr, counter: Expr) -> Expr:
    """Return a standard normal number by the method of Box and Muller (1958)."""
    half = const(2.0**-25, a.dtype)
    scale = const(2.0**-24, a.dtype)
    words = [_word(i, a, step, counter) // const(256, int64) for i in (0, 1)]
    u, v = (cast_expr(w, a.dtype) * scale for w in words)
    radius = apply("sqrt", apply("log", u + half) * const(-2.0, a.dtype))
    return radius * apply("cos", v * const(2.0 * np.pi, a.dtype))


def _batch(
    node: Node, inputs: Sequence[Tensor], batched: Sequence[bool], size: Size
) -> Sequence[Tensor]:
    """Draw for all elements at once: each gets numbers of its own."""
    if batched[0]:
        raise BatchError(
            f"{node.op.name}: the step differs from element to element",
            where=node.birth.quoted,
            help="use one step; each element draws numbers of its own",
        )
    attrs = replace(node.attrs, shape=(size, *node.attrs.shape))
    return [_recorded(make1(node.op, inputs, attrs))]


_draws: ContextVar[set[Any] | None] = ContextVar("graphc_draws", default=None)


@contextmanager
def draws() -> Iterator[set[Any]]:
    """Collect what is drawn inside, as the attributes of those nodes.

    `vmap` gives each element numbers of its own where the function draws them, and
    the same where the function reads those that were drawn outside of it.
    """
    outer = _draws.get()
    mine: set[Any] = set()
    token = _draws.set(mine)
    try:
        yield mine
    finally:
        _draws.reset(token)
        if outer is not None:
            outer |= mine


def _recorded(tensor: Tensor) -> Tensor:
    found = _draws.get()
    if found is not None:
        found.add(tensor.node.attrs)
    return tensor


def _draw(name: str, element: Callable[[Draw, Expr, Expr], Expr], doc: str) -> Op:
    def infer(types: Types, attrs: Draw) -> TensorType:
        if types[0].shape != () or types[0].dtype.kind != "i":
            raise DTypeError(f"the step must be an integer scalar, {{0}} is {types[0]}")
        return TensorType(attrs.dtype, attrs.shape)

    def evaluate(arrays: Any, meaning: Any) -> Any:
        shape = concrete(meaning.attrs.shape, meaning)
        counter = np.arange(int(np.prod(shape)), dtype=np.int64)
        leaves = {"step": arrays[0].astype(np.int64), "counter": counter}
        expr = element(meaning.attrs, ref("step", int64), ref("counter", int64))
        found = evaluate_expr(expr, lambda leaf: leaves[leaf.key[0]])
        return found.reshape(shape)

    def lower(site: Site) -> Expr:
        counter: Expr = const(0, int64)
        for i, size in zip(site.index, site.attrs.shape, strict=True):
            counter = counter * size_of(size) + i
        return element(site.attrs, cast_expr(site.load(0, ()), int64), counter)

    return register(
        Op(
            name=name,
            attrs=Draw,
            infer=infer,
            evaluate=evaluate,
            gradient=NonDifferentiable("it is drawn at random"),
            lower=Pointwise(lower),
            doc=doc,
            batch=_batch,
        )
    )


RANDOM_UNIT = _draw(
    "random_uniform", _unit, "y in [0, 1), 24 bits in float32 and 53 in float64"
)
RANDOM_NORMAL = _draw("random_normal", _gauss, "y ~ N(0, 1), by Box and Muller")

_streams = itertools.count(2**20)
_iteration: ContextVar[Tensor | None] = ContextVar("iteration", default=None)


@contextmanager
def iterating(iteration: Tensor) -> Iterator[None]:
    """Let draws within depend on an iteration, an int64 scalar.

    In a loop within a loop it becomes the number of the inner iteration over all.
    """
    token = _iteration.set(iteration)
    try:
        yield
    finally:
        _iteration.reset(token)


def current_iteration() -> Tensor | None:
    """Return the iteration that draws depend on here; None outside of loops."""
    return _iteration.get()


def _make(
    op: Op, shape: Any, dtype: DTypeLike, seed: int, step: Any, stream: int | None
) -> Tensor:
    kind = as_dtype(dtype)
    if not kind.is_float:
        raise DTypeError(f"random numbers are floats, not {kind}", where=here().quoted)
    chosen = next(_streams) if stream is None else stream
    for what, value, bits in (("seed", seed, 63), ("stream", chosen, 31)):
        if not isinstance(value, (int, np.integer)) or not 0 <= value < 2**bits:
            raise ArgumentError(
                f"{what} must be an int in [0, 2**{bits}), not {value!r}",
                where=here().quoted,
            )
    counter = step if isinstance(step, Tensor) else full((), int(step), int64)
    iteration = _iteration.get()
    if iteration is not None:
        counter = cast(counter, int64) + iteration * ITERATION
    attrs = Draw(kind, as_shape(shape), int(seed), int(chosen))
    return _recorded(make1(op, (counter,), attrs))


def uniform(
    shape: Any,
    low: Any = 0.0,
    high: Any = 1.0,
    *,
    dtype: DTypeLike = float32,
    seed: int = 0,
    step: Any = 0,
    stream: int | None = None,
) -> Tensor:
    """Draw from the half-open interval [low, high).

    step: an int or an integer scalar tensor (a state that counts calls, say);
    another step gives fresh numbers.
    Example:
        >>> import graphc
        >>> graphc.uniform((2, 3), seed=1, stream=0).type
        TensorType(f32[2,3])
    """
    unit = _make(RANDOM_UNIT, shape, dtype, seed, step, stream)
    if (low, high) == (0.0, 1.0):
        return unit
    found: Tensor = unit * (high - low) + low
    return found


def normal(
    shape: Any,
    mean: Any = 0.0,
    std: Any = 1.0,
    *,
    dtype: DTypeLike = float32,
    seed: int = 0,
    step: Any = 0,
    stream: int | None = None,
) -> Tensor:
    """Draw from the normal distribution. See `uniform` for seed, step and stream."""
    unit = _make(RANDOM_NORMAL, shape, dtype, seed, step, stream)
    if (mean, std) == (0.0, 1.0):
        return unit
    found: Tensor = unit * std + mean
    return found


def bernoulli(
    p: Any,
    shape: Any,
    *,
    seed: int = 0,
    step: Any = 0,
    stream: int | None = None,
) -> Tensor:
    """Draw bools that are true with probability p (a number or a float32 tensor)."""
    found: Tensor = _make(RANDOM_UNIT, shape, float32, seed, step, stream) < p
    return found


@public
def dropout(
    x: Any,
    rate: float,
    *,
    seed: int = 0,
    step: Any = 0,
    stream: int | None = None,
) -> Tensor:
    """Set elements to zero with probability `rate`, scale the others by 1/(1-rate).

    Shapes:  x [...] -> [...]
    Source:  Srivastava et al., "Dropout", 2014; scaled at training time.
    Raises:  ArgumentError unless 0 <= rate < 1.
    """
    if not 0 <= rate < 1:
        raise ArgumentError(
            f"dropout: the rate must be in [0, 1), not {rate}", where=here().quoted
        )
    tensor = constant(x)
    if rate == 0:
        return tensor
    kept = bernoulli(1 - rate, tensor.shape, seed=seed, step=step, stream=stream)
    found: Tensor = where(kept, tensor * (1 / (1 - rate)), 0.0)
    return found


def fresh(shape: tuple[int, ...], kind: str, seed: int, stream: int) -> Any:
    """Draw a NumPy array at once (initial values): kind "uniform" or "normal"."""
    op = {"uniform": RANDOM_UNIT, "normal": RANDOM_NORMAL}[kind]
    attrs = Draw(float32, shape, seed, stream)
    types = (TensorType(int64, ()),)
    return op.evaluate((np.array(0, np.int64),), Meaning(attrs, types, {}))
