"""Every function that PyTorch has too gives what PyTorch gives, gradients as well.

    python -m pip install -e '.[test,peers]'
    python -m pytest tests/peers

The cases of one function are one compiled step, which computes their values and, for
random cotangents, their gradients; it runs at every size. PyTorch runs the same in
float64, and in float32, which says how much float32 has to lose.

Samples keep off ties, where there is more than one right gradient: of two equal numbers
PyTorch's `maximum` gives each a half, graphc's neither, and at its limits PyTorch's
`clip` has the gradient 1, graphc's 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from ops_table import tensors  # noqa: E402
from torch_table import PAIRS, PEERLESS, universe  # noqa: E402
from torch_table.case import Array, Pair, sizes_of  # noqa: E402
from torch_table.elementwise import UNARY, WHOLE  # noqa: E402

import graphc as gc  # noqa: E402
from graphc.executable import Executable  # noqa: E402
from graphc.ir.dims import evaluate  # noqa: E402
from graphc.ir.nodes import Tensor  # noqa: E402

EPS = float(np.finfo(np.float32).eps)


def groups() -> dict[str, list[Pair]]:
    """Return the pairs that are one step: those of a function, with equal sizes."""
    found: dict[tuple[Any, ...], list[Pair]] = {}
    for pair in PAIRS:
        found.setdefault((pair.name, pair.sizes), []).append(pair)
    return {"-".join([k[0], *(p.case for p in v)]): v for k, v in found.items()}


GROUPS = groups()


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# --- graphc ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """Some pairs, compiled as one function."""

    pairs: list[Pair]
    outputs: list[list[Tensor]]  # of each pair: its results, then its gradients
    cotangents: list[list[Tensor]]
    run: Executable


def compiled(pairs: list[Pair]) -> Step:
    inputs: list[Tensor] = []
    outputs, starts = [], []
    for k, pair in enumerate(pairs):
        own = tensors(pair.call, prefix=f"{k}_")
        found = several(pair.graphc(*own))
        floats = [y for y in found if y.dtype.is_float]
        wanted = [own[i] for i in pair.wanted]
        cotangents = [
            gc.input(f"{k}_g{i}", y.shape) for i, y in enumerate(floats) if wanted
        ]
        gradients = gc.vjp(floats, wanted, cotangents) if wanted else []
        outputs.append([*found, *gradients])
        starts.append(cotangents)
        inputs += [*own, *cotangents]
    run = gc.compile(inputs, [y for ys in outputs for y in ys])
    return Step(pairs, outputs, starts, run)


def several(found: Any) -> list[Any]:
    return list(found) if isinstance(found, (tuple, list)) else [found]


# --- PyTorch --------------------------------------------------------------------------


def peer(pair: Pair, given: list[Array], cotangents: list[Array], kind: Any) -> Any:
    """Return PyTorch's results and gradients; `kind` replaces float32."""
    own = []
    for i, a in enumerate(given):
        t = torch.from_numpy(a)
        if a.dtype.kind == "f":
            t = t.to(kind).requires_grad_(i in pair.wanted)
        elif a.dtype.kind == "i":
            t = t.long()  # the only kind of index that all of PyTorch takes
        own.append(t)
    found = several(pair.torch(*own))
    gradients = []
    if pair.wanted:
        floats = [t for t in found if t.is_floating_point()]
        starts = [torch.from_numpy(g).to(kind) for g in cotangents]
        wanted = [own[i] for i in pair.wanted]
        gradients = torch.autograd.grad(
            floats, wanted, starts, allow_unused=True, materialize_grads=True
        )
    return [t.detach().numpy() for t in (*found, *gradients)]


# --- the comparison -------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # in torch.func
@pytest.mark.parametrize("group", GROUPS)
def test_values_and_gradients_are_those_of_torch(group: str) -> None:
    step = compiled(GROUPS[group])
    for n in step.pairs[0].sizes:
        rng = np.random.default_rng(n)
        samples = [pair.sample(n) for pair in step.pairs]
        cotangents = [
            [rng.standard_normal(shape_of(g, n), np.float32) for g in starts]
            for starts in step.cotangents
        ]
        both = zip(samples, cotangents, strict=True)
        results = iter(step.run(*(a for one in both for part in one for a in part)))
        for pair, own, starts, outputs in zip(
            step.pairs, samples, cotangents, step.outputs, strict=True
        ):
            exact = peer(pair, own, starts, torch.float64)
            rounded = peer(pair, own, starts, torch.float32)
            assert len(exact) == len(outputs)
            many = len(outputs) - len(pair.wanted)
            for i in range(len(outputs)):
                what = f"result {i}" if i < many else f"gradient {i - many}"
                close(next(results), exact[i], rounded[i], pair, f"{what}, N={n}")


def shape_of(t: Tensor, n: int) -> tuple[int, ...]:
    return tuple(evaluate(size, sizes_of(n)) for size in t.shape)


def close(found: Array, exact: Array, rounded: Array, pair: Pair, where: str) -> None:
    """Check that what graphc found is as near as float32 can be."""
    what = f"{pair.id}: {where}"
    assert found.shape == exact.shape, what
    if exact.dtype.kind != "f":
        assert found.dtype.kind == exact.dtype.kind, what
        np.testing.assert_array_equal(found, exact, what)
        return
    assert found.dtype == rounded.dtype == np.float32, what
    largest = float(np.abs(exact).max(initial=0))
    lost = float(np.abs(rounded - exact).max(initial=0))
    np.testing.assert_allclose(
        found, exact, 8 * EPS, pair.loss * EPS * largest + 2 * lost, err_msg=what
    )


# --- NaN and infinities ---------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.5, 2.5, 1e30, -1e30, 1e-40, 90.0]
# What PyTorch gives where graphc keeps to the limit of the formula, or to NaN.
ELSE = {
    ("gelu", np.inf): np.nan,
    ("gelu", -np.inf): np.nan,
    ("silu", -np.inf): np.nan,
    ("softsign", np.inf): np.nan,
    ("softsign", -np.inf): np.nan,
    ("sign", "nan"): 0.0,
}


def test_special_values_are_those_of_torch() -> None:
    x = gc.input("x", ("N",))
    names = [*UNARY, *WHOLE]
    given = np.resize(np.array(SPECIAL, np.float32), 37)
    found = gc.compile([x], [getattr(gc, name)(x) for name in names])(given)
    for name, ours in zip(names, found, strict=True):
        function = UNARY[name][0] if name in UNARY else getattr(torch, name)
        theirs = function(torch.from_numpy(given)).numpy()
        for value, our, their in zip(given, ours, theirs, strict=True):
            key = name, "nan" if np.isnan(value) else float(value)
            what = f"{name}({value})"
            if key in ELSE:
                np.testing.assert_equal(their, ELSE[key], what)
                assert np.isnan(our) == np.isnan(value), what
            else:
                np.testing.assert_allclose(our, their, 1e-6, 1e-38, err_msg=what)


# --- nothing is left out --------------------------------------------------------------


def test_every_public_function_has_a_counterpart_or_a_reason() -> None:
    compared, reasons = {pair.name for pair in PAIRS}, set(PEERLESS)
    names = universe()
    assert sorted(names - compared - reasons) == [], "neither a pair nor a reason"
    assert sorted(reasons & compared) == [], "a pair, and a reason why there is none"
    assert sorted((compared | reasons) - names) == [], "no public function"


def test_every_case_has_another_name() -> None:
    assert len({pair.id for pair in PAIRS}) == len(PAIRS)
