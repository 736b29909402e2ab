"""Derivatives, batching and control flow."""

from __future__ import annotations

from typing import Any

import torch

import graphc as gc
from torch_table.case import FEW, LINE, SCALAR, Pair, Spec, X, Y, within

WEIGHT = Spec("w", ("M", 3))
VECTOR = Spec("v", ("N",))


class Scaled(torch.autograd.Function):
    """PyTorch's custom gradient: the identity, with 3 for its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        return 3.0 * g


def _ours(x: Any) -> Any:
    return gc.sum(gc.tanh(x) * gc.cumsum(x * x, 0))


def _theirs(x: Any) -> Any:
    return torch.sum(torch.tanh(x) * torch.cumsum(x * x, 0))


def _derivatives() -> list[Pair]:
    x = within(-1, 1, LINE)
    return [
        Pair("grad", "vector", lambda x: gc.grad(_ours(x), x), torch.func.grad(_theirs),
             (x,)),
        Pair("value_and_grad", "vector", lambda x: gc.value_and_grad(_ours(x), x),
             lambda x: tuple(reversed(torch.func.grad_and_value(_theirs)(x))), (x,)),
        Pair("vjp", "softmax", lambda x, v: gc.vjp(gc.softmax(x), x, v),
             lambda x, v: torch.func.vjp(lambda t: torch.softmax(t, -1), x)[1](v)[0],
             (x, VECTOR)),
        Pair("jvp", "softmax", lambda x, v: gc.jvp(gc.softmax(x), x, v),
             lambda x, v: torch.func.jvp(
                 lambda t: torch.softmax(t, -1), (x,), (v,))[1], (x, VECTOR)),
        Pair("jacobian", "softmax", lambda x: gc.jacobian(gc.softmax(x), x),
             torch.func.jacrev(lambda t: torch.softmax(t, -1)), (x,), FEW),
        Pair("hessian", "vector", lambda x: gc.hessian(_ours(x), x),
             torch.func.hessian(_theirs), (x,), FEW),
        Pair("hvp", "vector", lambda x, v: gc.hvp(_ours(x), x, v),
             lambda x, v: torch.func.jvp(torch.func.grad(_theirs), (x,), (v,))[1],
             (x, VECTOR)),
        Pair("stop_gradient", "factor", lambda x: x * gc.stop_gradient(gc.exp(x)),
             lambda x: x * torch.exp(x).detach(), (x,)),
        Pair("custom_gradient", "scaled",
             gc.custom_gradient(lambda t: t * 1.0, lambda g, y, t: g * 3.0),
             Scaled.apply, (x,)),
    ]  # fmt: skip


# --- batching and control flow --------------------------------------------------------


def _step(tanh: Any, w: Any) -> Any:
    return lambda h, x: tanh(h @ w + x)


def _scanned(xs: Any, w: Any, h: Any) -> Any:
    step = _step(gc.tanh, w)

    def body(carry: Any, x: Any) -> Any:
        new = step(carry, x)
        return new, new

    return gc.scan(body, h, xs)


def _looped(xs: Any, w: Any, h: Any) -> Any:
    step, found = _step(torch.tanh, w), []
    for x in xs:
        h = step(h, x)
        found.append(h)
    return h, torch.stack(found)


def _halved(x: Any) -> Any:
    while x > 1.0:
        x = x / 2.0
    return x


def _control() -> list[Pair]:
    return [
        Pair("vmap", "rows", lambda x, w: gc.vmap(
                 lambda r: gc.softmax(r @ w))(x),
             lambda x, w: torch.func.vmap(lambda r: torch.softmax(r @ w, -1))(x),
             (X, WEIGHT)),
        Pair("vmap", "gradients", lambda x, y: gc.vmap(
                 lambda r, s: gc.grad(_ours(r * s), r))(x, y),
             lambda x, y: torch.func.vmap(torch.func.grad(
                 lambda r, s: _theirs(r * s)))(x, y), (within(-1, 1), Y), FEW),
        Pair("scan", "rnn", _scanned, _looped,
             (Spec("x", ("N", 2, 5)), Spec("w", (5, 5), "float32", -0.5, 0.5),
              Spec("h", (2, 5))), (1, 2, 7, 17, 64)),
        Pair("cond", "both", lambda x, y: gc.cond(
                 gc.sum(x) > 0.0, lambda v: v * y, gc.sin, x),
             lambda x, y: x * y if x.sum() > 0 else torch.sin(x) + 0 * y, (X, Y)),
        Pair("while_loop", "halving",
             lambda x: gc.while_loop(lambda v: v > 1.0, lambda v: v / 2.0, x),
             _halved, (within(1, 900, SCALAR),), gradient=False),
    ]  # fmt: skip


PAIRS = (*_derivatives(), *_control())

OTHER_BITS = "PyTorch draws by another generator; tests/graphc holds it to its own laws"
NO_OP = "it takes no tensors, or returns none"
PEERLESS: dict[str, str] = {
    "bernoulli": OTHER_BITS,
    "dropout": OTHER_BITS,
    "normal": OTHER_BITS,
    "uniform": OTHER_BITS,
    "compile": NO_OP,
    "ensure": "what it says is looked at by graphc's check=True",
    "elementwise": "it defines an op",
    "kernel_op": "it defines an op",
    "evaluate": "it is the interpreter, not an op",
    "parse": NO_OP,
    "state_updates": NO_OP,
    "verify": NO_OP,
}
