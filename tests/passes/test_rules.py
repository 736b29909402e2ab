"""Equations hold: both sides of every rule, on random and on special numbers.

The left side is built from the rule's own terms, on tensors of three columns whose rows
are all triples of special values; the rule is applied, and both sides are evaluated.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.ir.nodes import Tensor
from graphc.ir.op import FUNCTIONS
from graphc.ir.rewrite import Call, Literal, Rule, Term, Var, rule, stable_rules
from graphc.passes.rules import SIMPLIFY

Array = np.ndarray[Any, Any]

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]
ROWS = len(SPECIAL) ** 3
DTYPES = ["float64", "float32", "int32", "bool"]
STABLE = stable_rules()

# What the plain power is at -inf, stabilize changes from inf to NaN.
TO_NAN = {"pow(x, 0.5) => sqrt(x)"}


# --- left sides ---------------------------------------------------------------------

_OPS = {
    "sum": lambda x: gc.sum(x, 1, keepdims=True),
    "logsumexp": lambda x: gc.logsumexp(x, 1, keepdims=True),
    "reshape": lambda x: gc.reshape(x, (x.size,) if x.shape[-1] != 1 else x.shape[:1]),
    "broadcast_to": lambda x: gc.broadcast_to(
        x, (ROWS, 3) if x.shape in ((ROWS, 1), (ROWS,)) else (2, *x.shape)
    ),
    "slice": lambda x: x[1::2, :2],
    "take": lambda x, i: gc.take(x, i, axis=0),
}


def build(term: Term, variables: dict[str, Tensor]) -> Any:
    """Return the tensor that a term describes."""
    if isinstance(term, Literal):
        return term.value
    if isinstance(term, Var):
        return variables[term.name]
    function = _OPS.get(term.op, FUNCTIONS[term.op])
    return function(*(build(a, variables) for a in term.args))


def roles(term: Term, role: str = "value") -> dict[str, str]:
    """Return what each variable of a term stands for: a value, a truth or an index."""
    if isinstance(term, Var):
        return {term.name: role}
    found: dict[str, str] = {}
    if isinstance(term, Call):
        for k, a in enumerate(term.args):
            inner = role
            if term.op.startswith("logical") or (term.op, k) == ("where", 0):
                inner = "truth"
            elif (term.op, k) == ("take", 1):
                inner = "index"
            found |= roles(a, inner)
    return found
