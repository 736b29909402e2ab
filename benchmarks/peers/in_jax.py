"""Workloads in JAX: one jitted function a step, whose states are donated.

Images have channels last and sequences time first, as it likes them best.
"""

from __future__ import annotations

import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import arithmetic
from benchmarks import networks as net
from benchmarks.peers import CHECKED_RATE, Step
from benchmarks.workloads import Formula, Training, Workload

F = types.SimpleNamespace(
    tanh=jnp.tanh, exp=jnp.exp, sqrt=jnp.sqrt, expm1=jnp.expm1, sigmoid=jax.nn.sigmoid
)
IMAGES = ("NHWC", "HWIO", "NHWC")
tree: Any = jax.tree_util


def start() -> None:
    """Start its devices."""
    jax.devices()


def build(work: Workload) -> Step:
    """Return a step."""
    return training(work) if isinstance(work, Training) else formula(work)


# --- training -------------------------------------------------------------------------


class Context:
    """What layers need beside weights: random numbers, and a place for statistics."""

    def __init__(self, key: Any) -> None:
        self.key, self.drawn = key, 0
        self.statistics: list[Any] = []

    def keep(self, rate: float, shape: tuple[int, ...]) -> Any:
        """Return which elements stay."""
        self.drawn += 1
        key = jax.random.fold_in(self.key, self.drawn)
        return jax.random.bernoulli(key, 1 - rate, shape)


def training(work: Training) -> Step:
    """Return a training step."""
    xs, ys = (jnp.asarray(a) for a in turned(work))
    params = tree.tree_map(lambda a: jnp.asarray(inner_last(a)), work.weights())
    optimise = {"adam": arithmetic.adam, "sgd": arithmetic.momentum}[work.optimiser]

    def loss_of(params: Any, key: Any, x: Any, y: Any) -> Any:
        context = Context(key)
        log_p = jax.nn.log_softmax(apply(work.network, params, x, context))
        chosen = jnp.take_along_axis(log_p, y[..., None], axis=-1)
        return -chosen.mean(), context.statistics

    def update(state: Any, x: Any, y: Any) -> Any:
        params, slots, running, rate, t, key = state
        key, now = jax.random.split(key)
        differentiate = jax.value_and_grad(loss_of, has_aux=True)
        (loss, seen), gradients = differentiate(params, now, x, y)
        t, scaled = t + 1, rate
        if work.optimiser == "adam":
            scaled = arithmetic.corrected(F, rate, t.astype(jnp.float32))
        old, structure = tree.tree_flatten(params)
        new = [
            optimise(F, p, g, s, scaled)
            for p, g, s in zip(old, tree.tree_leaves(gradients), slots, strict=True)
        ]
        params = tree.tree_unflatten(structure, [p for p, _ in new])
        running = [0.9 * r + 0.1 * s for r, s in zip(running, seen, strict=True)]
        return loss, (params, [s for _, s in new], running, rate, t, key)

    key, number = jax.random.key(0), {"adam": 2, "sgd": 1}[work.optimiser]
    slots = [
        tuple(jnp.zeros_like(p) for _ in range(number))
        for p in tree.tree_leaves(params)
    ]
    _, seen = jax.eval_shape(loss_of, params, key, xs, ys)
    running = [jnp.zeros(s.shape) for s in seen]
    state = (params, slots, running, jnp.float32(CHECKED_RATE), jnp.int32(0), key)
    compiled = jax.jit(update, donate_argnums=0).lower(state, xs, ys).compile()

    def run() -> float:
        nonlocal state
        loss, state = compiled(state, xs, ys)
        return float(loss)

    def set_rate(rate: float) -> None:
        nonlocal state
        state = (*state[:3], jnp.float32(rate), *state[4:])

    return Step(
        run, lambda loss: [np.asarray(loss)], set_rate, lambda: temporaries(compiled)
    )


def turned(work: Training) -> tuple[net.Array, net.Array]:
    """Return the batch with channels last, or time first."""
    x, y = work.data()
    if work.sequences:
        return x.swapaxes(0, 1), y.swapaxes(0, 1)
    return x.transpose(0, 2, 3, 1) if x.ndim == 4 else x, y


def inner_last(array: net.Array) -> net.Array:
    """Return the kernel of a convolution as [height, width, in, out]."""
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


def apply(network: net.Network, weights: Any, x: Any, context: Context) -> Any:
    """Return what the layers make of x in training."""
    for layer, w in zip(network, weights, strict=True):
        match layer:
            case net.Dense():
                x = x @ w["kernel"] + w["bias"]
            case net.Conv():
                sides = ((layer.padding,) * 2,) * 2
                x = jax.lax.conv_general_dilated(
                    x, w["kernel"], (layer.stride,) * 2, sides, dimension_numbers=IMAGES
                )
                x = x + w["bias"] if layer.bias else x
            case net.BatchNorm():
                mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
                context.statistics += [mean, variance]
                x = (x - mean) / jnp.sqrt(variance + 1e-5) * w["gamma"] + w["beta"]
            case net.Recurrent():
                x = recurrent(layer, w, x)
            case net.Residual():
                body = apply(layer.body, w["body"], x, context)
                x = body + apply(layer.shortcut, w["shortcut"], x, context)
            case net.MaxPool():
                window = (1, layer.size, layer.size, 1)
                x = jax.lax.reduce_window(
                    x, -jnp.inf, jax.lax.max, window, window, "VALID"
                )
            case net.Relu():
                x = jax.nn.relu(x)
            case net.Flatten():
                x = x.transpose(0, 3, 1, 2).reshape(len(x), -1)
            case net.Dropout(rate, channels):
                if rate:
                    shape = (len(x), 1, 1, x.shape[-1]) if channels else x.shape
                    x = jnp.where(context.keep(rate, shape), x / (1 - rate), 0.0)
            case net.GlobalMean():
                x = x.mean((1, 2))
            case _:
                raise TypeError(f"no form of {layer}")
    return x


def recurrent(layer: net.Recurrent, w: Any, x: Any) -> Any:
    """Return the outputs of all steps."""

    def body(states: Any, x_t: Any) -> Any:
        new = arithmetic.cell(F, layer.kind, x_t, states, w, layer.units)
        return new, new[0]

    zeros = jnp.zeros((x.shape[1], layer.units))
    first = (zeros,) * (2 if layer.kind == "lstm" else 1)
    return jax.lax.scan(body, first, x @ w["kernel"] + w["bias"])[1]


# --- formulas -------------------------------------------------------------------------


def attention(q: Any, k: Any, v: Any) -> Any:
    """Return the values as the keys answer the queries."""
    scores = jnp.einsum("hqe,hke->hqk", q, k) / np.float32(np.sqrt(q.shape[-1]))
    return jnp.einsum("hqk,hke->hqe", jax.nn.softmax(scores), v)


FORMULAS: dict[str, Any] = {
    "chain": lambda a, b, c: arithmetic.chain(F, a, b, c),
    "layer_norm": lambda x, gamma, beta: arithmetic.layer_norm(F, x, gamma, beta),
    "softmax": lambda x: jax.nn.softmax(x),
    "attention": attention,
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "conv": lambda x, w: jax.lax.conv_general_dilated(
        x, w, (1, 1), "SAME", dimension_numbers=IMAGES
    ),
}


def formula(work: Formula) -> Step:
    """Return an evaluation."""
    function = FORMULAS[work.formula]
    before, after = layouts(work)
    arrays = zip(work.data(), before, strict=True)
    given = [jnp.asarray(a.transpose(axes)) for a, axes in arrays]

    def evaluate(*given: Any) -> Any:
        if not work.backward:
            return [function(*given)]
        y, pull = jax.vjp(function, *given[:-1])
        return [y, *pull(given[-1])]

    compiled = jax.jit(evaluate).lower(*given).compile()
    return Step(
        run=lambda: jax.block_until_ready(compiled(*given)),
        arrays=lambda found: [
            np.asarray(a).transpose(axes) for a, axes in zip(found, after, strict=True)
        ],
        temporaries=lambda: temporaries(compiled),
    )


def layouts(work: Formula) -> tuple[list[Any], list[Any]]:
    """Return how the axes of arguments are turned before, and of results after."""
    if work.formula == "conv":
        to, back = (0, 2, 3, 1), (0, 3, 1, 2)
        return [to, (2, 3, 1, 0), to], [back, back, (3, 2, 0, 1)]
    *inputs, output = [tuple(range(len(s))) for s in (*work.shapes, work.output)]
    if work.backward:
        return [*inputs, output], [output, *inputs]
    return inputs, [output]


def temporaries(compiled: Any) -> int:
    """Return the bytes of a compiled step's temporaries."""
    return int(compiled.memory_analysis().temp_size_in_bytes)
