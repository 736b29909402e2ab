"""Workloads in PyTensor, compiled by its Numba linker."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt

from benchmarks import arithmetic
from benchmarks import networks as net
from benchmarks.peers import CHECKED_RATE, Step, UnsupportedError
from benchmarks.workloads import Formula, Training, Workload

IMAGES = "PyTensor has no convolution of batches of images for its Numba linker"


def start() -> None:
    """Compile a trivial function, which starts Numba."""
    pytensor.config.floatX = "float32"
    x = pt.vector("x")
    pytensor.function([x], x + 1, mode="NUMBA")(np.ones(1, np.float32))


def build(work: Workload) -> Step:
    """Return a step."""
    return training(work) if isinstance(work, Training) else formula(work)


# --- training -------------------------------------------------------------------------


def training(work: Training) -> Step:
    """Return a training step; parameters and slots are shared variables."""
    data = [a.swapaxes(0, 1) if work.sequences else a for a in work.data()]
    xs, ys = np.ascontiguousarray(data[0]), data[1].flatten()
    x, y = (pt.tensor(shape=a.shape, dtype=str(a.dtype)) for a in (xs, ys))
    weights = shared(work.weights())
    logits = apply(work.network, weights, x)
    log_p = pt.special.log_softmax(logits.reshape((len(ys), -1)), axis=-1)
    loss = -log_p[np.arange(len(ys)), y].mean()
    params = list(net.leaves(weights))
    rate = pytensor.shared(np.float32(CHECKED_RATE))
    scaled: Any = rate
    updates: dict[Any, Any] = {}
    if work.optimiser == "adam":
        t = pytensor.shared(np.float32(0))
        updates[t] = t + np.float32(1)
        scaled = arithmetic.corrected(pt, rate, updates[t])
    optimise = {"adam": arithmetic.adam, "sgd": arithmetic.momentum}[work.optimiser]
    number = {"adam": 2, "sgd": 1}[work.optimiser]
    for p, g in zip(params, pt.grad(loss, params), strict=True):
        slots = tuple(shared(np.zeros_like(p.get_value())) for _ in range(number))
        updates[p], moved = optimise(pt, p, g, slots, scaled)
        updates |= zip(slots, moved, strict=True)
    step = pytensor.function([x, y], loss, updates=updates, mode="NUMBA")
    step.trust_input = True
    return Step(
        run=lambda: float(step(xs, ys)),
        arrays=lambda loss: [np.asarray(loss, np.float32)],
        set_rate=lambda value: rate.set_value(np.float32(value)),
    )


def shared(tree: Any) -> Any:
    """Return the weights as shared variables."""
    if isinstance(tree, dict):
        return {k: shared(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [shared(v) for v in tree]
    return pytensor.shared(tree.copy(), shape=tree.shape)


def apply(network: net.Network, weights: Any, x: Any) -> Any:
    """Return what the layers make of x."""
    for layer, w in zip(network, weights, strict=True):
        match layer:
            case net.Dense():
                x = x @ w["kernel"] + w["bias"]
            case net.Relu():
                x = pt.maximum(x, np.float32(0))
            case net.Recurrent():
                x = recurrent(layer, w, x)
            case _:
                raise UnsupportedError(IMAGES)
    return x


def recurrent(layer: net.Recurrent, w: Any, x: Any) -> Any:
    """Return the outputs of all steps; time comes first."""
    zeros = pt.zeros((x.type.shape[1], layer.units), dtype="float32")
    number = 2 if layer.kind == "lstm" else 1
    names = [n for n in ("recurrent", "recurrent_bias") if n in w]

    def body(x_t: Any, *rest: Any) -> Any:
        own = dict(zip(names, rest[number:], strict=True))
        return list(
            arithmetic.cell(pt, layer.kind, x_t, rest[:number], own, layer.units)
        )

    found = pytensor.scan(
        body,
        sequences=[x @ w["kernel"] + w["bias"]],
        outputs_info=[zeros] * number,
        non_sequences=[w[n] for n in names],
        return_updates=False,
    )
    return found[0] if isinstance(found, list | tuple) else found


# --- formulas -------------------------------------------------------------------------


def attention(q: Any, k: Any, v: Any) -> Any:
    """Return the values as the keys answer the queries."""
    scores = q @ k.mT / np.float32(np.sqrt(q.type.shape[-1]))
    return pt.special.softmax(scores, axis=-1) @ v


FORMULAS: dict[str, Any] = {
    "chain": lambda a, b, c: arithmetic.chain(pt, a, b, c),
    "layer_norm": lambda x, gamma, beta: arithmetic.layer_norm(pt, x, gamma, beta),
    "softmax": lambda x: pt.special.softmax(x, axis=-1),
    "attention": attention,
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
}


def formula(work: Formula) -> Step:
    """Return an evaluation."""
    if work.formula not in FORMULAS:
        raise UnsupportedError(IMAGES)
    arrays = work.data()
    inputs = [pt.tensor(shape=a.shape, dtype="float32") for a in arrays]
    xs = inputs[:-1] if work.backward else inputs
    outputs = [FORMULAS[work.formula](*xs)]
    if work.backward:
        outputs += pt.grad(None, xs, known_grads={outputs[0]: inputs[-1]})
    evaluate = pytensor.function(inputs, outputs, mode="NUMBA")
    evaluate.trust_input = True
    return Step(run=lambda: evaluate(*arrays), arrays=list)
