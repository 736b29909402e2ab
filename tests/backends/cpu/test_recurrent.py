"""A recurrent network trains: the same on every backend, in the memory it planned."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu import pace
from graphc.executable import Executable

Array = np.ndarray[Any, Any]
FEATURES, UNITS, CLASSES = 5, 19, 7  # no multiple of any vector


def lstm(backend: str = "cpu", threads: int | None = None) -> Executable:
    """Return the training step of an LSTM with an output at each step.

    Shapes:  x f32[T, N, 5], y i32[T, N] -> loss f32[]
    """
    x = gc.input("x", ("T", "N", FEATURES))
    y = gc.input("y", ("T", "N"), "int32")
    w = gc.parameter("w", (FEATURES, 4 * UNITS), seed=1)
    u = gc.parameter("u", (UNITS, 4 * UNITS), seed=2)
    b = gc.parameter("b", (4 * UNITS,), init="zeros")
    v = gc.parameter("v", (UNITS, CLASSES), seed=3)

    def cell(state: Any, row: gc.Tensor) -> Any:
        h, c = state
        i, f, g, o = gc.split(row @ w + h @ u + b, 4, axis=1)
        c = gc.sigmoid(f) * c + gc.sigmoid(i) * gc.tanh(g)
        h = gc.sigmoid(o) * gc.tanh(c)
        return (h, c), h

    zero = gc.zeros((x.shape[1], UNITS))
    _, hs = gc.scan(cell, (zero, zero), x)
    logits = gc.reshape(hs @ v, (-1, CLASSES))
    loss = nn.losses.softmax_cross_entropy(logits, gc.reshape(y, (-1,)))
    updates = optim.Adam(0.01).updates(loss)
    return gc.compile([x, y], loss, updates=updates, backend=backend, threads=threads)


def sample(t: int, n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(t * 100 + n)
    x = rng.normal(size=(t, n, FEATURES)).astype(np.float32)
    return x, rng.integers(0, CLASSES, (t, n)).astype(np.int32)


def test_it_learns_as_reference_does() -> None:
    fast, slow = lstm(), lstm("reference")
    given = sample(9, 4)
    losses = [(float(fast(*given)), float(slow(*given))) for _ in range(15)]
    for a, b in losses:
        assert a == pytest.approx(b, rel=1e-4)
    assert losses[-1][0] < 0.85 * losses[0][0]


def test_equal_bits_on_one_thread_and_two(monkeypatch) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    one, two = lstm(threads=1), lstm(threads=2)
    for t, n in ((1, 1), (13, 3), (2, 33)):
        given = sample(t, n)
        assert one(*given).tobytes() == two(*given).tobytes()


def test_one_product_a_step_is_left_in_each_loop() -> None:
    """The other six, each of all steps at once, are outside."""
    program = lstm().program
    loops = [s for s in program.body if type(s).__name__ == "Loop"]
    inside = [n for s in loops for n in s.body if "matmul" in getattr(n, "name", "")]
    everywhere = [n for n in program.nests if "matmul" in n.name]
    assert (len(loops), len(inside), len(everywhere)) == (2, 2, 8)


@pytest.mark.parametrize("n", [1, 2, 33])
def test_a_step_of_any_batch_agrees_with_reference(n) -> None:
    """One row reads its weights in another way than many, and backwards turned."""
    fast, slow = lstm(), lstm("reference")
    for _ in range(3):
        given = sample(6, n)
        assert float(fast(*given)) == pytest.approx(float(slow(*given)), rel=1e-4)
    for mine, other in zip(fast.states, slow.states, strict=True):
        np.testing.assert_allclose(mine.value, other.value, 1e-2, 1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_it_stays_within_the_memory_that_the_plan_said(
    threads, monkeypatch, guarded
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    step = lstm(threads=threads)
    for t, n in ((1, 1), (5, 3), (40, 17)):
        step(*sample(t, n))
        planned = step.memory(T=t, N=n)
        assert guarded() == -(-planned.bytes // 8) * 8
        assert 0 < planned.scratch <= threads * 2**18  # for tiles


def test_peak_memory_grows_with_the_steps_by_what_is_kept_of_each() -> None:
    step = lstm()
    small, large = (step.memory(T=t, N=8) for t in (100, 1100))
    kept = (large.bytes - large.scratch) - (small.bytes - small.scratch)
    a_step = kept / 1000 / (4 * 8)  # floats a sequence
    # Gates and cell, kept for the backward pass, the projections, and what comes back.
    assert a_step < 20 * UNITS
