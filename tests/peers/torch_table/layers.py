"""Layers, with the parameters that graphc drew.

Their results are the output y, and the gradients of the sum of y^3 / 3 by the
parameters and by the inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

import graphc as gc
from graphc import nn
from torch_table.case import FEW, Pair, Spec, X, whole

ROWS = Spec("x", ("N", 6))
IMAGE = Spec("x", ("N", 4, 7, "K"))
STEPS = Spec("x", ("M", "N", 3))
DRAWN = {"bias_initializer": "normal"}
SCALED = {"beta_initializer": "normal", "gamma_initializer": "uniform", "epsilon": 1e-5}


def _layer(
    name: str,
    case: str,
    make: Callable[[], Any],
    theirs: Callable[..., Any],
    *inputs: Spec,
    call: Callable[..., Any] = lambda layer, *x: layer(*x),
    sizes: tuple[int, ...] = FEW,
    but: str = "",
) -> Pair:
    """Compare a layer. theirs: (its parameters, *inputs) -> the output, or several.

    but: the end of the name of a parameter whose gradient is 0 but for roundings.
    """
    made: dict[str, Any] = {}

    def ours(*x: Any) -> Any:
        layer = made["layer"] = make()
        found = call(layer, *x)
        ys = list(found) if isinstance(found, tuple) else [found]
        loss = sum(gc.sum(y * y * y) for y in ys) / 3.0
        floats = [t for t in x if t.dtype.is_float]
        trained = [p for p in layer.parameters if not but or not p.name.endswith(but)]
        return (*ys, *gc.grad(loss, [*trained, *floats]))

    def peer(*x: Any) -> Any:
        floats = [t.requires_grad_() for t in x if t.is_floating_point()]
        kind = floats[0].dtype if floats else torch.float32
        weights = {
            p.name: torch.from_numpy(p.value).to(kind).requires_grad_()
            for p in made["layer"].parameters
        }
        trained = [w for n, w in weights.items() if not but or not n.endswith(but)]
        found = theirs(list(weights.values()), *x)
        ys = list(found) if isinstance(found, tuple) else [found]
        loss = sum((y * y * y).sum() for y in ys) / 3.0
        return (*ys, *torch.autograd.grad(loss, [*trained, *floats]))

    return Pair(name, case, ours, peer, inputs, sizes, gradient=False, loss=32)


def _dense_and_convolutions() -> list[Pair]:
    def conv(kind: str, function: Any, x: Spec, **options: Any) -> Pair:
        make = getattr(nn, kind)
        given = {"stride": options.get("strides", 1)}
        given |= {k: v for k, v in options.items() if k in ("padding", "groups")}
        return _layer(
            f"nn.{kind}", "channels_first", lambda: make(6, 3, **options, **DRAWN),
            lambda p, x: function(x, p[0], p[1], **given), x,
        )  # fmt: skip

    line, space = Spec("x", ("N", 4, "K")), Spec("x", (2, 4, 5, "N", 4))
    longer = {"sizes": (2, 5, 13)}  # K is 15, 36, 31
    found = [
        _layer("nn.Dense", "tanh", lambda: nn.Dense(5, "tanh", **DRAWN),
               lambda p, x: torch.tanh(x @ p[0] + p[1]), ROWS),
        _layer("nn.Dense", "steps", lambda: nn.Dense(5, use_bias=False),
               lambda p, x: x @ p[0], STEPS),
        _layer("nn.Embedding", "words", lambda: nn.Embedding(11, 3),
               lambda p, i: F.embedding(i, p[0]), whole("i", ("N", "M"), 0, 11)),
        conv("Conv1D", F.conv1d, line),
        conv("Conv2D", F.conv2d, IMAGE, strides=2, groups=2),
        conv("Conv1DTranspose", F.conv_transpose1d, line, strides=2),
        conv("Conv2DTranspose", F.conv_transpose2d, IMAGE, strides=2),
        conv("Conv3DTranspose", F.conv_transpose3d, space),
    ]  # fmt: skip
    wide = Spec("x", (2, 4, 5, "K", 4))
    found.append(
        _layer(
            "nn.Conv3D",
            "channels_first",
            lambda: nn.Conv3D(6, 3, **DRAWN),
            lambda p, x: F.conv3d(x, p[0], p[1]),
            wide,
            **longer,
        )
    )
    return found


def _norms() -> list[Pair]:
    return [
        _layer("nn.BatchNormalization", "training",
               lambda: nn.BatchNormalization(**SCALED),
               lambda p, x: F.batch_norm(x, None, None, *p, training=True), IMAGE,
               call=lambda layer, x: layer(x, training=True)),
        _layer("nn.BatchNormalization", "inference",
               lambda: nn.BatchNormalization(**SCALED),
               lambda p, x: F.batch_norm(x, torch.zeros(4).to(x), torch.ones(4).to(x),
                                         *p), IMAGE),
        _layer("nn.LayerNormalization", "rows",
               lambda: nn.LayerNormalization(**SCALED),
               lambda p, x: F.layer_norm(x, (6,), *p), ROWS),
        _layer("nn.RMSNormalization", "rows",
               lambda: nn.RMSNormalization(gamma_initializer="uniform"),
               lambda p, x: F.rms_norm(x, (6,), *p, eps=1e-6), ROWS),
        _layer("nn.GroupNormalization", "images",
               lambda: nn.GroupNormalization(2, **SCALED),
               lambda p, x: F.group_norm(x, 2, *p), IMAGE),
    ]  # fmt: skip


# --- attention ------------------------------------------------------------------------


def _attended(p: Any, x: Any, memory: Any) -> Any:
    (wq, bq), (wk, bk), (wv, bv), (wo, bo) = zip(p[::2], p[1::2], strict=True)
    y, _ = F.multi_head_attention_forward(
        x.transpose(0, 1), memory.transpose(0, 1), memory.transpose(0, 1), 6, 2,
        None, torch.cat([bq, bk, bv]), None, None, False, 0.0, wo.T, bo,
        need_weights=False, use_separate_proj_weight=True, q_proj_weight=wq.T,
        k_proj_weight=wk.T, v_proj_weight=wv.T,
    )  # fmt: skip
    return y.transpose(0, 1)


ATTENTION = _layer(
    "nn.MultiHeadAttention", "memory", lambda: nn.MultiHeadAttention(2, 3, **DRAWN),
    _attended, Spec("x", (2, "N", 6)), Spec("m", (2, "K", 6)),
    but="key/bias",  # it adds the same to all scores of a query
)  # fmt: skip


# --- recurrent layers -----------------------------------------------------------------


def _turned(w: Any, order: tuple[int, ...]) -> Any:
    """Return rows of gates in PyTorch's order, of columns in graphc's."""
    parts = (w.T if w.ndim == 2 else w).chunk(len(order))
    return torch.cat([parts[i] for i in order])


def _recurrent(kind: Any, order: tuple[int, ...], both: bool = False) -> Any:
    """Return PyTorch's layer over [N, T, 3] with 5 units: every step and the end."""
    module = kind(3, 5, batch_first=True, bidirectional=both)
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    names += tuple(n + "_reverse" for n in names) if both else ()

    def run(p: Any, x: Any) -> Any:
        turned = [_turned(w, order) for w in p]
        given = dict(zip(names, turned, strict=True))
        ys, end = torch.func.functional_call(module, given, (x,))
        states = end if isinstance(end, tuple) else (end,)
        return (ys,) if both else (ys, *(s[0] for s in states))

    return run


def _sequences() -> list[Pair]:
    every: dict[str, Any] = {"use_recurrent_bias": True, "return_sequences": True}
    every |= DRAWN
    whole_layer = every | {"return_state": True}
    cells = {"SimpleRNN": nn.SimpleRNNCell, "LSTM": nn.LSTMCell, "GRU": nn.GRUCell}
    gates: dict[str, tuple[int, ...]] = {
        "SimpleRNN": (0,), "LSTM": (0, 1, 2, 3), "GRU": (1, 0, 2),
    }  # fmt: skip
    found = []
    for kind, order in gates.items():
        module = getattr(torch.nn, kind.removeprefix("Simple"))
        make = getattr(nn, kind)
        found.append(_layer(
            f"nn.{kind}", "states", lambda f=make: f(5, **whole_layer),
            _recurrent(module, order), STEPS,
        ))  # fmt: skip
        found.append(_layer(
            f"nn.{kind}Cell", "in_rnn",
            lambda f=cells[kind]: nn.RNN(
                f(5, use_recurrent_bias=True, **DRAWN), True, return_state=True),
            _recurrent(module, order), STEPS, sizes=(1, 5, 17),
        ))  # fmt: skip
        found.append(_layer(
            "nn.Bidirectional", kind.lower(),
            lambda f=make: nn.Bidirectional(f(5, **every)),
            _recurrent(module, order, both=True), STEPS, sizes=(1, 2, 17),
        ))  # fmt: skip
    return found


def _activations() -> list[Pair]:
    functions: dict[str, Any] = {
        "linear": lambda x: x * 1.0,
        "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
        "mish": F.mish,
    }
    return [
        Pair(f"nn.activations.{name}", "ragged", getattr(nn.activations, name), f, (X,))
        for name, f in functions.items()
    ]


PAIRS = (
    *_dense_and_convolutions(),
    *_norms(),
    ATTENTION,
    *_sequences(),
    *_activations(),
)

ITS_FUNCTION = "it calls a function that is compared, and has no parameters"
PARTS = (
    "Activation Flatten MaxPool1D MaxPool2D MaxPool3D AvgPool1D AvgPool2D AvgPool3D "
    "GlobalMaxPooling2D GlobalAveragePooling2D"
)
PEERLESS: dict[str, str] = {
    **{f"nn.{name}": ITS_FUNCTION for name in PARTS.split()},
    "nn.Dropout": "PyTorch draws by another generator",
    "nn.Dropout2D": "PyTorch draws by another generator",
    "nn.RNN": "it runs a cell: the cells are compared in it",
    "nn.Sequential": "it calls its layers",
}
