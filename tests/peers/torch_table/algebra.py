"""Contractions and linear algebra."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import graphc as gc
from torch_table.case import FEW, LINE, Array, Pair, Spec

A, B = Spec("a", ("N", "K")), Spec("b", ("K", "M"))
STACK, OTHERS = Spec("a", (3, "N", "K")), Spec("b", (3, "K", "M"))
MATRIX = Spec("a", ("N", "N"))
MATRICES = Spec("a", (2, "N", "N"))
RIGHT = Spec("b", ("N", "M"))
VECTOR = Spec("v", ("K",))


def _contractions() -> list[Pair]:
    found = [
        Pair("matmul", "matrices", gc.matmul, torch.matmul, (A, B)),
        Pair("matmul", "vector", gc.matmul, torch.matmul, (A, VECTOR)),
        Pair("matmul", "row", gc.matmul, torch.matmul, (VECTOR, B)),
        Pair("matmul", "batches", gc.matmul, torch.matmul, (STACK, OTHERS)),
        Pair("matmul", "shared", gc.matmul, torch.matmul, (STACK, B)),
        Pair("matmul", "transposed", lambda a, b: a @ b.T, lambda a, b: a @ b.T,
             (A, Spec("b", ("M", "K")))),
        Pair("dot", "vectors", gc.dot, torch.dot, (VECTOR, Spec("w", ("K",)))),
        Pair("inner", "matrices", gc.inner, torch.inner, (A, Spec("b", ("M", "K")))),
        Pair("outer", "vectors", gc.outer, torch.outer, (LINE, VECTOR)),
        Pair("tensordot", "one", lambda a, b: gc.tensordot(a, b, 1),
             lambda a, b: torch.tensordot(a, b, 1), (STACK, B)),
        Pair("tensordot", "two", lambda a, b: gc.tensordot(a, b, ([0, 2], [0, 1])),
             lambda a, b: torch.tensordot(a, b, ([0, 2], [0, 1])), (STACK, OTHERS)),
    ]  # fmt: skip
    texts = {
        "ij,jk->ik": (A, B),
        "bij,bjk->bik": (STACK, OTHERS),
        "ij,jk->ki": (A, B),
        "ij->j": (A,),
        "ij->ji": (A,),
        "ii->i": (MATRIX,),
        "i,j->ij": (LINE, VECTOR),
        "ij,j,jk->ik": (A, VECTOR, B),
        "...ij,jk->...ik": (STACK, B),
        "bij,bij->b": (STACK, Spec("b", (3, "N", "K"))),
    }
    for text, inputs in texts.items():
        found.append(Pair(
            "einsum", text, lambda *x, t=text: gc.einsum(t, *x),
            lambda *x, t=text: torch.einsum(t, *x), inputs,
        ))  # fmt: skip
    return found


# --- matrices that are not singular ---------------------------------------------------


def _strong(a: Array, *others: Array) -> list[Array]:
    """Make the diagonal larger than its row."""
    n = a.shape[-1]
    return [a / n + 4 * np.eye(n) * (-1.0) ** np.arange(n), *others]


def _positive(a: Array, *others: Array) -> list[Array]:
    n = a.shape[-1]
    return [a @ np.swapaxes(a, -1, -2) / n + np.eye(n), *others]


def _linalg() -> list[Pair]:
    def pair(name: str, case: str, ours: Any, theirs: Any, *inputs: Spec) -> Pair:
        prepare = _positive if name == "cholesky" else _strong
        return Pair(name, case, ours, theirs, inputs, FEW, prepare=prepare, loss=32)

    def triangular(upper: bool, **more: Any) -> Any:
        return lambda a, b: torch.linalg.solve_triangular(a, b, upper=upper, **more)

    lines = Spec("b", ("N",))
    return [
        pair("solve", "matrix", gc.solve, torch.linalg.solve, MATRIX, RIGHT),
        pair("solve", "vector", gc.solve, torch.linalg.solve, MATRIX, lines),
        pair("solve", "batch", gc.solve, torch.linalg.solve, MATRICES,
             Spec("b", (2, "N", "M"))),
        pair("inv", "batch", gc.inv, torch.linalg.inv, MATRICES),
        pair("det", "batch", gc.det, torch.linalg.det, MATRICES),
        pair("slogdet", "batch", gc.slogdet, lambda a: tuple(torch.linalg.slogdet(a)),
             MATRICES),
        pair("cholesky", "batch", gc.cholesky, torch.linalg.cholesky, MATRICES),
        pair("solve_triangular", "upper", gc.solve_triangular, triangular(True),
             MATRIX, RIGHT),
        pair("solve_triangular", "lower",
             lambda a, b: gc.solve_triangular(a, b, lower=True), triangular(False),
             MATRICES, Spec("b", (2, "N", "M"))),
        pair("solve_triangular", "unit",
             lambda a, b: gc.solve_triangular(a / 9.0, b, unit=True),
             lambda a, b: triangular(True, unitriangular=True)(a / 9.0, b),
             MATRIX, RIGHT),
        pair("solve_triangular", "trans",
             lambda a, b: gc.solve_triangular(a, b, trans=True),
             lambda a, b: triangular(False)(a.mT, b), MATRIX, RIGHT),
    ]  # fmt: skip


PAIRS = (*_contractions(), *_linalg())
PEERLESS: dict[str, str] = {}
