"""Every function that PyTorch has too gives what PyTorch gives, gradients as well.

    python -m pip install -e '.[test,peers]'
    python -m pytest tests/peers

The cases of one function are one compiled step, which computes their values and, for
random cotangents, their gradients; it runs at every size. PyTorch runs the same in
float64, and in float32, which says how much float32 must lose.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from ops_table import tensors  # noqa: E402
from torch_table import PAIRS, PEERLESS  # noqa: E402
from torch_table.case import Array, Pair  # noqa: E402

import graphc as gc  # noqa: E402
from graphc.executable import Executable  # noqa: E402
from graphc.ir.nodes import Tensor  # noqa: E402
from graphc.ir.op import FUNCTIONS  # noqa: E402

EPS = float(np.finfo(np.float32).eps)
NAMES = list(dict.fromkeys(pair.name for pair in PAIRS))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- graphc ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """The pairs of one function, compiled as one."""

    pairs: tuple[Pair, ...]
    outputs: tuple[tuple[Tensor, ...], ...]  # of each pair
    gradients: tuple[tuple[Tensor, ...], ...]
    run: Executable


@cache
def compiled(name: str) -> Step:
    pairs = tuple(p for p in PAIRS if p.name == name)
    inputs: list[Tensor] = []
    outputs, gradients = [], []
    for k, pair in enumerate(pairs):
        own = tensors(pair.call, prefix=f"{k}_")
        found = several(pair.graphc(*own))
        floats = [y for y in found if y.dtype.is_float]
        wanted = [own[i] for i in pair.wanted]
        cotangents = [
            gc.input(f"{k}_g{i}", y.shape) for i, y in enumerate(floats) if wanted
        ]
        outputs.append(found)
        gradients.append(tuple(gc.vjp(floats, wanted, cotangents)) if wanted else ())
        inputs += [*own, *cotangents]
    flat = [t for both in zip(outputs, gradients, strict=True) for ts in both for t in ts]
    run = gc.compile(inputs, flat, name=f"peer_{name}".replace(".", "_"))
    return Step(pairs, tuple(outputs), tuple(gradients), run)


def several(found: Any) -> tuple[Any, ...]:
    return tuple(found) if isinstance(found, (tuple, list)) else (found,)


# --- PyTorch --------------------------------------------------------------------------


def peer(
    pair: Pair, given: list[Array], cotangents: list[Array], kind: Any
) -> tuple[list[Any], list[Any]]:
    """Return PyTorch's results and gradients; `kind` replaces the float dtype."""
    own = []
    for i, a in enumerate(given):
        t = torch.from_numpy(a)
        if a.dtype.kind == "f":
            t = t.to(kind).requires_grad_(i in pair.wanted)
        elif a.dtype.kind == "i":
            t = t.long()  # the only kind of index that all of PyTorch takes
        own.append(t)
    found = several(pair.torch(*own))
    if not pair.wanted:
        return [t.detach() for t in found], []
    floats = [t for t in found if t.is_floating_point()]
    starts = [torch.from_numpy(g).to(kind) for g in cotangents]
    gradients = torch.autograd.grad(floats, [own[i] for i in pair.wanted], starts)
    return [t.detach() for t in found], list(gradients)


# --- the comparison -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_values_and_gradients_are_those_of_torch(name: str) -> None:
    step = compiled(name)
    for n in sorted({n for p in step.pairs for n in p.sizes}):
        compare(step, n)


def compare(step: Step, n: int) -> None:
    """Compare all pairs of a function at one size."""
    rng = np.random.default_rng(n)
    arguments: list[Array] = []
    expected: list[Any] = []
    for pair in step.pairs:
        # A pair that has no such size takes part with its nearest.
        own = pair.sample(n)
        plain, _ = peer(pair, own, [], torch.float32) if not pair.wanted else (
            [t.detach() for t in several(pair.torch(*as_torch(own)))], []
        )
        cotangents = [
            rng.standard_normal(t.shape).astype(np.float32)
            for t in plain
            if pair.wanted and t.is_floating_point()
        ]
        arguments += [*own, *cotangents]
        expected.append([peer(pair, own, cotangents, k) for k in KINDS])
    results = iter(step.run(*arguments))
