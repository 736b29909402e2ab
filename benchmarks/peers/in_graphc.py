"""Workloads in graphc: layers of `nn`, optimisers of `optim`; NumPy in, NumPy out."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import numpy as np

import graphc
from benchmarks import networks as net
from benchmarks.arithmetic import BETA_1, BETA_2, EPSILON, MOMENTUM, chain
from benchmarks.peers import CHECKED_RATE, Step
from benchmarks.workloads import Formula, Training, Workload
from graphc import nn, optim


def start() -> None:
    """Import what the first compilation would import, and start Numba's registries."""
    from numba.core.registry import cpu_target

    import graphc.backends.cpu.backend  # noqa: F401
    from graphc.backends.cpu import prelude

    for module in pkgutil.iter_modules(prelude.__path__, f"{prelude.__name__}."):
        importlib.import_module(module.name)
    cpu_target.typing_context.refresh()
    cpu_target.target_context.refresh()


def build(work: Workload, backend: str = "cpu") -> Step:
    """Return a step."""
    if isinstance(work, Training):
        return training(work, backend)
    return formula(work, backend)


# --- training -------------------------------------------------------------------------


def training(work: Training, backend: str) -> Step:
    """Return a training step; the batch size is symbolic, as users have it."""
    xs, ys = work.data()
    x = graphc.input("x", ("N", *work.shape))
    y = graphc.input("y", ("N", *ys.shape[1:]), dtype="int32")
    logits = apply(work.network, work.weights(), x)
    loss = nn.losses.softmax_cross_entropy(logits, y)
    optimiser: Any
    if work.optimiser == "adam":
        optimiser = optim.Adam(CHECKED_RATE, BETA_1, BETA_2, EPSILON)
    else:
        optimiser = optim.SGD(CHECKED_RATE, momentum=MOMENTUM)
    updates = optimiser.updates(loss)
    step = graphc.compile([x, y], loss, updates=updates, backend=backend)

    def set_rate(rate: float) -> None:
        optimiser.learning_rate = rate

    return Step(
        run=lambda: step(xs, ys),
        arrays=lambda loss: [loss],
        set_rate=set_rate,
        temporaries=lambda: step.memory(N=work.batch).bytes,
    )


def apply(network: net.Network, weights: net.Weights, x: Any) -> Any:
    """Return what the layers make of x in training."""
    for layer, w in zip(network, weights, strict=True):
        if isinstance(layer, net.Residual):
            body = apply(layer.body, w["body"], x)
            x = body + apply(layer.shortcut, w["shortcut"], x)
        else:
            x = made(layer, w)(x, training=True)
    return x


def made(layer: net.Layer, w: dict[str, Any]) -> Any:
    """Return a layer of `nn` that starts with these weights."""
    match layer:
        case net.Dense():
            return nn.Dense(layer.units, None, True, w["kernel"], w["bias"])
        case net.Conv():
            return nn.Conv2D(
                layer.channels,
                layer.size,
                layer.stride,
                layer.padding,
                use_bias=layer.bias,
                kernel_initializer=w["kernel"],
            )
        case net.BatchNorm():
            return nn.BatchNormalization(momentum=0.9, epsilon=1e-5)
        case net.Recurrent():
            kinds: Any = {"rnn": nn.SimpleRNN, "lstm": nn.LSTM, "gru": nn.GRU}
            biases: Any = {"unit_forget_bias": False} if layer.kind == "lstm" else {}
            return kinds[layer.kind](
                layer.units,
                kernel_initializer=w["kernel"],
                recurrent_initializer=w["recurrent"],
                return_sequences=True,
                **biases,
            )
        case net.MaxPool():
            return nn.MaxPool2D(layer.size)
        case net.Relu():
            return nn.Activation("relu")
        case net.Flatten():
            return nn.Flatten()
        case net.Dropout():
            return (nn.Dropout2D if layer.channels else nn.Dropout)(layer.rate)
        case net.GlobalMean():
            return nn.GlobalAveragePooling2D()
    raise TypeError(f"no form of {layer}")


# --- formulas -------------------------------------------------------------------------

FORMULAS: dict[str, Any] = {
    "chain": lambda a, b, c: chain(graphc, a, b, c),
    "layer_norm": graphc.layer_norm,
    "softmax": lambda x: graphc.softmax(x, axis=-1),
    "attention": graphc.scaled_dot_product_attention,
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "conv": lambda x, w: graphc.conv2d(x, w, padding=1),
}


def formula(work: Formula, backend: str) -> Step:
    """Return an evaluation that writes into arrays of its own."""
    given = [graphc.input(f"x{i}", shape) for i, shape in enumerate(work.shapes)]
    output = FORMULAS[work.formula](*given)
    inputs, outputs = list(given), [output]
    if work.backward:
        inputs.append(graphc.input("g", work.output))
        outputs += graphc.vjp(output, given, inputs[-1])
    step = graphc.compile(inputs, outputs, backend=backend)
    arrays = work.data()
    out = [np.empty(t.shape, np.float32) for t in outputs]
    return Step(
        run=lambda: step(*arrays, out=out),
        arrays=lambda found: [a.copy() for a in found],
        temporaries=lambda: step.memory().bytes,
    )
