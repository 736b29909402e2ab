"""Ops that go element by element."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

import graphc as gc
from torch_table.case import BOOLS, COLUMN, ROW, SCALAR, Pair, Spec, X, Y, whole, within

UNARY: dict[str, tuple[Any, float, float]] = {
    "abs": (torch.abs, -3, 3),
    "exp": (torch.exp, -20, 20),
    "expm1": (torch.expm1, -3, 3),
    "log": (torch.log, 0.01, 50),
    "log1p": (torch.log1p, -0.9, 9),
    "log2": (torch.log2, 0.01, 50),
    "log10": (torch.log10, 0.01, 50),
    "neg": (torch.neg, -3, 3),
    "reciprocal": (torch.reciprocal, 0.1, 9),
    "square": (torch.square, -3, 3),
    "sqrt": (torch.sqrt, 0.01, 50),
    "rsqrt": (torch.rsqrt, 0.01, 50),
    "sin": (torch.sin, -10, 10),
    "cos": (torch.cos, -10, 10),
    "tan": (torch.tan, -1.4, 1.4),
    "arctan": (torch.arctan, -10, 10),
    "sinh": (torch.sinh, -5, 5),
    "cosh": (torch.cosh, -5, 5),
    "tanh": (torch.tanh, -5, 5),
    "erf": (torch.erf, -4, 4),
    "erfc": (torch.erfc, -4, 4),
    "sigmoid": (torch.sigmoid, -20, 20),
    "softplus": (F.softplus, -15, 15),
    "relu": (torch.relu, -3, 3),
    "elu": (F.elu, -5, 5),
    "selu": (F.selu, -5, 5),
    "silu": (F.silu, -10, 10),
    "gelu": (F.gelu, -5, 5),
    "leaky_relu": (F.leaky_relu, -3, 3),
    "hardtanh": (F.hardtanh, -3, 3),
    "softsign": (F.softsign, -5, 5),
}
WHOLE = ("floor", "ceil", "trunc", "round", "sign", "isnan", "isinf", "isfinite")
BINARY = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
}
COMPARED = {
    "equal": torch.eq,
    "not_equal": torch.ne,
    "less": torch.lt,
    "less_equal": torch.le,
    "greater": torch.gt,
    "greater_equal": torch.ge,
}
LOGICAL = ("logical_and", "logical_or", "logical_xor")


def _unary() -> list[Pair]:
    found = []
    for name, (function, low, high) in UNARY.items():
        ours = getattr(gc, name)
        for case, spec in (("ragged", X), ("scalar", SCALAR)):
            found.append(Pair(name, case, ours, function, (within(low, high, spec),)))
    for name in WHOLE:
        ours, theirs = getattr(gc, name), getattr(torch, name)
        found.append(Pair(name, "ragged", ours, theirs, (X,), gradient=False))
    return found


def _binary() -> list[Pair]:
    found = []
    for name, function in BINARY.items():
        ours = getattr(gc, name)
        for case, x, y in (
            ("same", X, within(0.5, 3, Y)),
            ("row", X, within(0.5, 3, ROW)),
            ("column", within(-3, 3, Spec("x", ("M",))), within(0.5, 3, COLUMN)),
        ):
            found.append(Pair(name, case, ours, function, (x, y)))
    ints = whole("x", ("N", "M"), -3, 4), whole("y", ("M",), -3, 4)
    for name, function in COMPARED.items():
        ours = getattr(gc, name)
        found += [
            Pair(name, "row", ours, function, (X, ROW), gradient=False),
            Pair(name, "ints", ours, function, ints),
        ]
    more = Spec("d", ("M",), "bool")
    for name in LOGICAL:
        ours, theirs = getattr(gc, name), getattr(torch, name)
        found.append(Pair(name, "row", ours, theirs, (BOOLS, more)))
    found.append(Pair("logical_not", "ragged", gc.logical_not, torch.logical_not,
                      (BOOLS,)))  # fmt: skip
    return found


def _with_parameters() -> list[Pair]:
    slope = Spec("a", ("M",), "float32", 0.1, 0.9)
    low, high = Spec("a", ("N", 1), "float32", -2, -1), Spec("b", ("M",), "float32", 1)
    divisor = within(0.5, 3, Y)
    return [
        Pair("elu", "alpha", lambda x: gc.elu(x, 0.3), lambda x: F.elu(x, 0.3), (X,)),
        Pair("leaky_relu", "slope", lambda x: gc.leaky_relu(x, 0.2),
             lambda x: F.leaky_relu(x, 0.2), (X,)),
        Pair("leaky_relu", "prelu", gc.leaky_relu, F.prelu, (X, slope)),
        Pair("gelu_tanh", "ragged", lambda x: gc.gelu(x, "tanh"),
             lambda x: F.gelu(x, approximate="tanh"), (X,)),
        Pair("hardtanh", "limits", lambda x: gc.hardtanh(x, -0.5, 2.0),
             lambda x: F.hardtanh(x, -0.5, 2.0), (X,)),
        Pair("clip", "numbers", lambda x: gc.clip(x, -1.0, 1.5),
             lambda x: torch.clip(x, -1.0, 1.5), (X,)),
        Pair("clip", "one_side", lambda x: gc.clip(x, max=1.0),
             lambda x: torch.clip(x, max=1.0), (X,)),
        Pair("clip", "tensors", gc.clip, torch.clip, (X, low, high)),
        Pair("pow", "tensors", gc.pow, torch.pow, (within(0.2, 4), ROW)),
        Pair("pow", "square", lambda x: gc.pow(x, 2.0), lambda x: x**2.0, (X,)),
        Pair("pow", "cube", lambda x: x**3, lambda x: x**3, (X,)),
        Pair("pow", "base", lambda x: 2.0**x, lambda x: 2.0**x, (X,)),
        Pair("floor_divide", "row", gc.floor_divide, torch.floor_divide,
             (X, within(0.5, 3, ROW)), gradient=False),
        Pair("remainder", "same", gc.remainder, torch.remainder, (X, divisor)),
        Pair("remainder", "negative", gc.remainder, torch.remainder,
             (X, within(-3, -0.5, ROW))),
        Pair("remainder", "ints", lambda x: x % -3, lambda x: x % -3,
             (whole("x", ("N", "M"), -9, 9),)),
        Pair("floor_divide", "ints", lambda x: x // -3, lambda x: x // -3,
             (whole("x", ("N", "M"), -9, 9),)),
        Pair("where", "same", gc.where, torch.where, (BOOLS, X, Y)),
        Pair("where", "broadcast", gc.where, torch.where,
             (Spec("c", ("N", 1), "bool"), X, ROW)),
    ]  # fmt: skip


PAIRS = (*_unary(), *_binary(), *_with_parameters())
PEERLESS: dict[str, str] = {}
