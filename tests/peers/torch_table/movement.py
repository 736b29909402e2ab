"""Ops that move elements, and those that make tensors."""

from __future__ import annotations

from typing import Any

import torch

import graphc as gc
from torch_table.case import CUBE, LINE, Pair, Spec, X, Y, whole

WIDE = Spec("x", ("N", 6))
SQUARE = Spec("x", ("N", "N"))
SOME = (2, 3, 7, 16, 17, 100)


def _axes() -> list[Pair]:
    return [
        Pair("reshape", "rows", lambda x: gc.reshape(x, (-1, 3)),
             lambda x: torch.reshape(x, (-1, 3)), (WIDE,)),
        Pair("ravel", "cube", gc.ravel, torch.ravel, (CUBE,)),
        Pair("flatten", "cube", gc.flatten, torch.flatten, (CUBE,)),
        Pair("transpose", "matrix", gc.transpose, lambda x: x.T, (X,)),
        Pair("transpose", "cube", lambda x: gc.transpose(x, (2, 0, 1)),
             lambda x: torch.permute(x, (2, 0, 1)), (CUBE,)),
        Pair("moveaxis", "cube", lambda x: gc.moveaxis(x, 0, -1),
             lambda x: torch.moveaxis(x, 0, -1), (CUBE,)),
        Pair("swapaxes", "cube", lambda x: gc.swapaxes(x, 0, 1),
             lambda x: torch.swapaxes(x, 0, 1), (CUBE,)),
        Pair("expand_dims", "middle", lambda x: gc.expand_dims(x, 1),
             lambda x: torch.unsqueeze(x, 1), (X,)),
        Pair("squeeze", "middle", lambda x: gc.squeeze(x, 1),
             lambda x: torch.squeeze(x, 1), (Spec("x", ("N", 1, 3)),)),
        Pair("broadcast_to", "rows",
             lambda x: gc.broadcast_to(x, (3, *x.shape)),
             lambda x: torch.broadcast_to(x, (3, *x.shape)), (X,)),
    ]  # fmt: skip


def _joined() -> list[Pair]:
    parts = Spec("y", ("K", "M"))
    return [
        Pair("concatenate", "rows", lambda x, y: gc.concatenate([x, y]),
             lambda x, y: torch.concatenate([x, y]), (X, parts)),
        Pair("concatenate", "columns", lambda x, y: gc.concatenate([x, y, x], 1),
             lambda x, y: torch.concatenate([x, y, x], 1), (X, Spec("y", ("N", 2)))),
        Pair("stack", "last", lambda x, y: gc.stack([x, y], -1),
             lambda x, y: torch.stack([x, y], -1), (X, Y)),
        Pair("split", "equal", lambda x: gc.split(x, 3, 1),
             lambda x: torch.tensor_split(x, 3, 1), (WIDE,)),
        Pair("split", "at", lambda x: gc.split(x, [1, 4], 1),
             lambda x: torch.tensor_split(x, [1, 4], 1), (WIDE,)),
        Pair("tile", "both", lambda x: gc.tile(x, (2, 3)),
             lambda x: torch.tile(x, (2, 3)), (X,)),
        Pair("repeat", "rows", lambda x: gc.repeat(x, 3, 0),
             lambda x: torch.repeat_interleave(x, 3, 0), (X,)),
        Pair("flip", "rows", lambda x: gc.flip(x, 0), lambda x: torch.flip(x, (0,)),
             (X,)),
        Pair("flip", "all", gc.flip, lambda x: torch.flip(x, (0, 1, 2)), (CUBE,)),
        Pair("roll", "rows", lambda x: gc.roll(x, 2, 0),
             lambda x: torch.roll(x, 2, 0), (X,)),
        Pair("roll", "flat", lambda x: gc.roll(x, -3),
             lambda x: torch.roll(x, -3), (X,)),
    ]  # fmt: skip


def _diagonals() -> list[Pair]:
    return [
        Pair("diagonal", "main", gc.diagonal, torch.diagonal, (X,)),
        Pair("diagonal", "cube", lambda x: gc.diagonal(x, 1, 1, 2),
             lambda x: torch.diagonal(x, 1, 1, 2), (Spec("x", ("N", 3, 5)),)),
        Pair("diag", "place", lambda x: gc.diag(x, -1),
             lambda x: torch.diag(x, -1), (LINE,)),
        Pair("diag", "read", gc.diag, torch.diag, (X,)),
        Pair("trace", "square", gc.trace, torch.trace,
             (Spec("x", ("N", "N"), "float32", -1, 3),)),
        Pair("tril", "below", lambda x: gc.tril(x, -1),
             lambda x: torch.tril(x, -1), (SQUARE,)),
        Pair("triu", "above", lambda x: gc.triu(x, 1),
             lambda x: torch.triu(x, 1), (CUBE,)),
    ]  # fmt: skip


def _made() -> list[Pair]:
    def made(name: str, ours: Any, theirs: Any, *inputs: Spec) -> Pair:
        return Pair(name, "made", ours, theirs, inputs or (X,), gradient=False)

    def kind(x: Any) -> dict[str, Any]:
        return {"dtype": x.dtype}

    return [
        made("eye", lambda x: gc.eye(x.shape[0], x.shape[1]),
             lambda x: torch.eye(*x.shape, **kind(x))),
        made("full", lambda x: gc.full(x.shape, 2.5),
             lambda x: torch.full(x.shape, 2.5, **kind(x))),
        made("ones", lambda x: gc.ones(x.shape),
             lambda x: torch.ones(x.shape, **kind(x))),
        made("zeros", lambda x: gc.zeros(x.shape),
             lambda x: torch.zeros(x.shape, **kind(x))),
        made("full_like", lambda x: gc.full_like(x, 2.5),
             lambda x: torch.full_like(x, 2.5)),
        made("ones_like", gc.ones_like, torch.ones_like),
        made("zeros_like", gc.zeros_like, torch.zeros_like),
        made("iota", lambda x: gc.iota(x.shape, 0),
             lambda x: torch.arange(len(x))[:, None].expand(x.shape)),
        made("arange", lambda x: gc.arange(2, 20, 3),
             lambda x: torch.arange(2, 20, 3)),
        made("linspace", lambda x: gc.linspace(-1.0, 2.0, 7),
             lambda x: torch.linspace(-1.0, 2.0, 7, **kind(x))),
        made("meshgrid", lambda x, y: gc.meshgrid(x, y),
             lambda x, y: torch.meshgrid(x, y, indexing="xy"),
             LINE, Spec("y", ("M",))),
        made("cast", lambda x: gc.cast(x, "int32"), lambda x: x.to(torch.int32)),
        Pair("cast", "from_int", lambda i, x: gc.cast(i, "float32") * x,
             lambda i, x: i.to(x.dtype) * x, (whole("i", ("N", "M"), -5, 6), Y)),
        made("constant", lambda x: gc.constant([1.0, 2.0]) + gc.sum(x) * 0.0,
             lambda x: torch.tensor([1.0, 2.0], **kind(x)) + x.sum() * 0.0),
        made("one_hot", lambda i: gc.one_hot(i, 9),
             lambda i: torch.nn.functional.one_hot(i, 9).float(),
             whole("i", ("N", "M"), 0, 9)),
    ]  # fmt: skip


PAIRS = (*_axes(), *_joined(), *_diagonals(), *_made())
PEERLESS: dict[str, str] = {
    "dim": "in PyTorch sizes are ints of Python",
    "input": "PyTorch's tensors are not declared",
    "parameter": "it makes a state, the layers' tests read theirs",
    "variable": "it makes a state",
}
