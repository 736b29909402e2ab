"""Ops along axes: reductions, sums so far, order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import graphc as gc
from torch_table.case import BOOLS, CUBE, LINE, Pair, Spec, X, whole, within

REDUCED = {
    "sum": torch.sum,
    "mean": torch.mean,
    "max": torch.amax,
    "min": torch.amin,
    "prod": torch.prod,
    "logsumexp": torch.logsumexp,
    "norm": lambda x, axis, **keep: torch.linalg.vector_norm(x, 2, axis, **keep),
}
ALONG = {
    "softmax": torch.softmax,
    "log_softmax": torch.log_softmax,
}
SPREAD = {"var": torch.var, "std": torch.std}
SCANS: dict[str, Any] = {
    "cumsum": torch.cumsum,
    "cumprod": torch.cumprod,
    "cummax": lambda x, axis: torch.cummax(x, axis)[0],
    "cummin": lambda x, axis: torch.cummin(x, axis)[0],
}
INTS = whole("x", ("N", "M"), -5, 6)


def _reductions() -> list[Pair]:
    found = []
    for name, function in REDUCED.items():
        ours = getattr(gc, name)
        # A product of many numbers stays within float32 if they lie around 1, and a
        # sum has many digits in common with PyTorch's if its terms do not cancel.
        low, high = (0.8, 1.2) if name == "prod" else (-1, 3)
        x, cube = within(low, high), within(low, high, CUBE)
        for axis in (0, 1):
            found.append(Pair(
                name, f"axis{axis}", lambda x, f=ours, a=axis: f(x, a),
                lambda x, f=function, a=axis: f(x, a), (x,),
            ))  # fmt: skip
        found.append(Pair(
            name, "keepdims", lambda x, f=ours: f(x, -1, keepdims=True),
            lambda x, f=function: f(x, -1, keepdim=True), (cube,),
        ))  # fmt: skip
        if name != "prod":
            found.append(Pair(
                name, "axes", lambda x, f=ours: f(x, (0, 2)),
                lambda x, f=function: f(x, (0, 2)), (cube,),
            ))  # fmt: skip
        found.append(Pair(
            name, "all", ours, lambda x, f=function: f(x.reshape(-1), 0), (x,)
        ))  # fmt: skip
    found.append(Pair("sum", "ints", lambda x: gc.sum(x, 1),
                      lambda x: x.sum(1), (INTS,)))  # fmt: skip
    return found


def _along() -> list[Pair]:
    found = []
    for name, function in (ALONG | SCANS).items():
        ours = getattr(gc, name)
        x, cube = X, CUBE
        if name == "cumprod":
            x, cube = within(0.8, 1.2), within(0.8, 1.2, CUBE)
        for case, spec, axis in (("rows", x, 1), ("columns", x, 0), ("cube", cube, 1)):
            found.append(Pair(
                name, case, lambda x, f=ours, a=axis: f(x, a),
                lambda x, f=function, a=axis: f(x, a), (spec,),
            ))  # fmt: skip
    for name, function in SPREAD.items():
        ours = getattr(gc, name)
        found += [
            Pair(name, "rows", lambda x, f=ours: f(x, 1),
                 lambda x, f=function: f(x, 1, correction=0), (within(-3, 3, TALL),)),
            Pair(name, "columns", lambda x, f=ours: f(x, 0),
                 lambda x, f=function: f(x, 0, correction=0), (X,), MANY),
            Pair(name, "ddof", lambda x, f=ours: f(x, (0, 1), keepdims=True, ddof=1),
                 lambda x, f=function: f(x, (0, 1), correction=1, keepdim=True),
                 (X,)),
        ]  # fmt: skip
    return found


TALL = Spec("x", ("N", 5))
MANY = (2, 3, 7, 13, 17, 100, 257)  # the deviation of one element has no gradient


def _arguments() -> list[Pair]:
    found = []
    for name in ("argmax", "argmin"):
        ours, theirs = getattr(gc, name), getattr(torch, name)
        for axis in (0, 1, None):
            found.append(Pair(
                name, f"axis_{axis}", lambda x, f=ours, a=axis: f(x, a),
                lambda x, f=theirs, a=axis: f(x, a), (X,), gradient=False,
            ))  # fmt: skip
    for name in ("any", "all"):
        ours, theirs = getattr(gc, name), getattr(torch, name)
        found += [
            Pair(name, "rows", lambda x, f=ours: f(x, 1),
                 lambda x, f=theirs: f(x, 1), (BOOLS,)),
            Pair(name, "whole", ours, theirs, (BOOLS,)),
        ]  # fmt: skip
    return found


def _ordered(a: Any, v: Any) -> list[Any]:
    return [np.sort(a, axis=-1), v]


def _order() -> list[Pair]:
    keys, rows = Spec("v", ("M", 3)), Spec("v", ("N", 3))
    return [
        Pair("sort", "rows", gc.sort, lambda x: torch.sort(x)[0], (X,)),
        Pair("sort", "columns", lambda x: gc.sort(x, 0, descending=True),
             lambda x: torch.sort(x, 0, descending=True)[0], (X,)),
        Pair("argsort", "stable", lambda x: gc.argsort(x, 0),
             lambda x: torch.argsort(x, dim=0, stable=True), (INTS,)),
        Pair("argsort", "columns", lambda x: gc.argsort(x, 0),
             lambda x: torch.argsort(x, 0), (X,), gradient=False),
        Pair("top_k", "columns", lambda x: gc.top_k(x, 3, 0),
             lambda x: tuple(torch.topk(x, 3, 0)), (X,), (3, 7, 17, 64, 257)),
        Pair("top_k", "one", lambda x: gc.top_k(x, 1),
             lambda x: tuple(torch.topk(x, 1)), (X,)),
        Pair("searchsorted", "vector", gc.searchsorted, torch.searchsorted,
             (LINE, keys), gradient=False, prepare=_ordered),
        Pair("searchsorted", "right", lambda a, v: gc.searchsorted(a, v, "right"),
             lambda a, v: torch.searchsorted(a, v, right=True),
             (X, rows), gradient=False, prepare=_ordered),
        Pair("cumsum", "reverse", lambda x: gc.cumsum(x, 0, reverse=True),
             lambda x: x.flip(0).cumsum(0).flip(0), (X,)),
        Pair("linear_recurrence", "loop", lambda a, b: gc.linear_recurrence(a, b, 0),
             _recurrence, (Spec("a", ("N", 3), "float32", -0.9, 0.9),
                           Spec("b", ("N", 3))), (1, 2, 7, 17, 64)),
    ]  # fmt: skip


def _recurrence(a: Any, b: Any) -> Any:
    found = [b[0]]
    for i in range(1, len(a)):
        found.append(a[i] * found[-1] + b[i])
    return torch.stack(found)


PAIRS = (*_reductions(), *_along(), *_arguments(), *_order())
PEERLESS: dict[str, str] = {}
