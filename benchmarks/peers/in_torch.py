"""Workloads in PyTorch: eager, and compiled by Inductor.

Modules, fused optimisers, images with channels last, which its convolutions like best.
Recurrent layers are its own `torch.nn.LSTM` and kin, which `torch.compile` runs as they
are, since it would unroll them.
"""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from benchmarks import networks as net
from benchmarks.arithmetic import BETA_1, BETA_2, EPSILON, MOMENTUM, chain
from benchmarks.peers import CHECKED_RATE, Step, UnsupportedError
from benchmarks.workloads import Formula, Training, Workload


def start() -> None:
    """Start its threads."""
    torch.ones(1 << 20).sum()


def build(work: Workload, compiled: bool = False) -> Step:
    """Return a step, eager or compiled."""
    if compiled and not (shutil.which("g++") or shutil.which("clang++")):
        raise UnsupportedError("it needs a C++ compiler, and there is none")
    if isinstance(work, Training):
        return training(work, compiled)
    return formula(work, compiled)


def tensor(array: net.Array) -> torch.Tensor:
    """Return a copy as a tensor, images with channels last."""
    made = torch.from_numpy(array.copy(order="C"))
    if made.ndim == 4:
        return made.contiguous(memory_format=torch.channels_last)
    return made


# --- training -------------------------------------------------------------------------


def training(work: Training, compiled: bool) -> Step:
    """Return a training step."""
    model = Chain(work.network, work.weights())
    params = [p for p in model.parameters() if p.requires_grad]
    optimiser: Any
    if work.optimiser == "adam":
        optimiser = torch.optim.Adam(
            params, CHECKED_RATE, (BETA_1, BETA_2), EPSILON, fused=True
        )
    else:
        optimiser = torch.optim.SGD(params, CHECKED_RATE, MOMENTUM, fused=True)
    data = (a.swapaxes(0, 1) if work.sequences else a for a in work.data())
    xs, ys = (tensor(a) for a in data)
    ys = ys.long().flatten()

    def loss_of() -> Any:
        return functional.cross_entropy(model(xs).flatten(0, -2), ys)

    evaluate: Any = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def run() -> float:
        optimiser.zero_grad(set_to_none=True)
        loss = evaluate()
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    def set_rate(rate: float) -> None:
        for group in optimiser.param_groups:
            group["lr"] = rate

    return Step(run, lambda loss: [np.asarray(loss, np.float32)], set_rate)


class Chain(torch.nn.Sequential):
    """Layers one after the other."""

    def __init__(self, network: net.Network, weights: net.Weights) -> None:
        super().__init__(*map(made, network, weights))


class Sum(torch.nn.Module):
    """body(x) + shortcut(x)."""

    def __init__(self, layer: net.Residual, w: dict[str, Any]) -> None:
        super().__init__()
        self.body = Chain(layer.body, w["body"])
        self.shortcut = Chain(layer.shortcut, w["shortcut"])

    def forward(self, x: Any) -> Any:
        """Add both ways."""
        return self.body(x) + self.shortcut(x)


class Outputs(torch.nn.Module):
    """A recurrent layer's outputs of all steps; sequences lie time first."""

    def __init__(self, layer: net.Recurrent, w: dict[str, Any]) -> None:
        super().__init__()
        kinds: Any = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}
        self.layer = kinds[layer.kind](len(w["kernel"]), layer.units)
        for name, kernel in (("ih", "kernel"), ("hh", "recurrent")):
            fill(self.layer, f"weight_{name}_l0", gates(layer, w[kernel]).T)
        fill(self.layer, "bias_ih_l0", gates(layer, w["bias"]))
        # It always has a second bias, which stays 0 where the description has none.
        second = w.get("recurrent_bias", 0 * w["bias"])
        trained = "recurrent_bias" in w
        fill(self.layer, "bias_hh_l0", gates(layer, second), trained)

    def forward(self, x: Any) -> Any:
        """Run over the steps."""
        return self.layer(x)[0]


def gates(layer: net.Recurrent, array: net.Array) -> net.Array:
    """Return the gates in PyTorch's order: r, z, n in a GRU."""
    if layer.kind != "gru":
        return array
    z, r, new = np.split(array, 3, axis=-1)
    return np.concatenate([r, z, new], axis=-1)


def fill(module: Any, name: str, array: net.Array, trained: bool = True) -> None:
    """Give a parameter its value."""
    setattr(module, name, torch.nn.Parameter(tensor(array), requires_grad=trained))


def made(layer: net.Layer, w: dict[str, Any]) -> torch.nn.Module:
    """Return a module that starts with these weights."""
    found: Any
    match layer:
        case net.Residual():
            return Sum(layer, w)
        case net.Recurrent():
            return Outputs(layer, w)
        case net.Dense():
            found = torch.nn.Linear(*w["kernel"].shape)
            fill(found, "weight", w["kernel"].T)
            fill(found, "bias", w["bias"])
            return found
        case net.Conv():
            out, inner = w["kernel"].shape[:2]
            found = torch.nn.Conv2d(
                inner, out, layer.size, layer.stride, layer.padding, bias=layer.bias
            )
            fill(found, "weight", w["kernel"])
            if layer.bias:
                fill(found, "bias", w["bias"])
            return found
        case net.BatchNorm():
            return torch.nn.BatchNorm2d(len(w["gamma"]))
        case net.MaxPool():
            return torch.nn.MaxPool2d(layer.size)
        case net.Relu():
            return torch.nn.ReLU()
        case net.Flatten():
            return torch.nn.Flatten()
        case net.Dropout():
            kind = torch.nn.Dropout2d if layer.channels else torch.nn.Dropout
            return kind(layer.rate)
        case net.GlobalMean():
            pool = torch.nn.AdaptiveAvgPool2d(1)
            return torch.nn.Sequential(pool, torch.nn.Flatten())
    raise TypeError(f"no form of {layer}")


# --- formulas -------------------------------------------------------------------------

FORMULAS: dict[str, Any] = {
    "chain": lambda a, b, c: chain(torch, a, b, c),
    "layer_norm": lambda x, gamma, beta: functional.layer_norm(
        x, gamma.shape, gamma, beta
    ),
    "softmax": lambda x: torch.softmax(x, -1),
    # Its fast form needs the axis of a batch.
    "attention": lambda q, k, v: functional.scaled_dot_product_attention(
        q[None], k[None], v[None]
    )[0],
    "matmul": lambda a, b: a @ b,
    "matmul_tn": lambda a, b: a.T @ b,
    "matmul_nt": lambda a, b: a @ b.T,
    "conv": lambda x, w: functional.conv2d(x, w, padding=1),
}


def formula(work: Formula, compiled: bool) -> Step:
    """Return an evaluation; forward alone keeps nothing for gradients."""
    given = [tensor(a) for a in work.data()]
    function = FORMULAS[work.formula]
    if compiled:
        function = torch.compile(function, dynamic=False, fullgraph=True)

    def forward() -> Any:
        with torch.no_grad():
            return [function(*given)]

    def both() -> Any:
        *xs, g = given
        y = function(*xs)
        return [y, *torch.autograd.grad(y, xs, g)]

    if work.backward:
        for x in given[:-1]:
            x.requires_grad_()
    return Step(
        run=both if work.backward else forward,
        arrays=lambda found: [t.detach().numpy() for t in found],
    )
