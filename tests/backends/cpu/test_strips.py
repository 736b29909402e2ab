"""Loops that run strip by strip: what may, what may not, and with the same bits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim
from graphc.backends.cpu import pace
from graphc.backends.cpu.prelude import team
from graphc.backends.cpu.sharing import Alone
from graphc.backends.cpu.strips import ROWS, Strips
from graphc.executable import Executable

Array = np.ndarray[Any, Any]
TURNS, FEATURES, UNITS, CLASSES = 6, 5, 19, 7

needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")
pytestmark = needs_two


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small loops run on a team."""
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)


def cell(kind: str, gates: list[gc.Tensor], h: gc.Tensor, c: gc.Tensor) -> Any:
    if kind == "rnn":
        return gc.tanh(gates[0]), c
    i, f, g, o = gates
    c = gc.sigmoid(f) * c + gc.sigmoid(i) * gc.tanh(g)
    return gc.sigmoid(o) * gc.tanh(c), c


def network(kind: str, n: int | str, units: int, threads: int) -> Executable:
    """Return the training step of a recurrent network with a loss at each turn."""
    gates = {"rnn": 1, "lstm": 4}[kind]
    x = gc.input("x", (TURNS, n, FEATURES))
    y = gc.input("y", (TURNS, n), "int32")
    w = gc.parameter("w", (FEATURES, gates * units), seed=1)
    u = gc.parameter("u", (units, gates * units), seed=2)
    v = gc.parameter("v", (units, CLASSES), seed=3)

    def turn(state: Any, row: gc.Tensor) -> Any:
        h, c = state
        z = row @ w + h @ u
        h, c = cell(kind, gc.split(z, gates, axis=1), h, c)
        return (h, c), h

    zero = gc.zeros((x.shape[1], units))
    _, hs = gc.scan(turn, (zero, zero), x)
    logits = gc.reshape(hs @ v, (-1, CLASSES))
    loss = nn.losses.softmax_cross_entropy(logits, gc.reshape(y, (-1,)))
    updates = optim.Adam(0.01).updates(loss)
    return gc.compile([x, y], loss, updates=updates, threads=threads)


def sample(n: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(n)
    x = rng.normal(size=(TURNS, n, FEATURES)).astype(np.float32)
    return x, rng.integers(0, CLASSES, (TURNS, n)).astype(np.int32)


def strips_of(step: Executable) -> list[list[int]]:
    """Return the rows of each strip of each loop, for the sizes of the last call."""
    bound = list(step._bound.values())[-1]
    found = [s for s in bound._body if isinstance(s, Strips)]
    return [[_rows(strip) for strip in s.strips] for s in found]


def _rows(strip: Any) -> int:
    tiled = [nest for nest, _, _ in strip.steps if nest.is_tiled]
    (rows,) = {nest.axes[0].extent for nest in tiled} or {0}
    return int(rows)


def states_of(step: Executable) -> list[bytes]:
    return [state.value.tobytes() for state in step.states]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("units", [16, UNITS, 64])
@pytest.mark.parametrize("kind", ["rnn", "lstm"])
def test_bits_are_those_of_one_thread(kind: str, units: int, known: bool) -> None:
    sizes = (2 * ROWS, 2 * ROWS + 1, 29, 31, 32, 33, 100)
    for batch in [[n] for n in sizes[1::3]] if known else [sizes]:
        declared: int | str = batch[0] if known else "N"
        one, two = (network(kind, declared, units, threads) for threads in (1, 2))
        for n in batch:
            given = sample(n)
            for _ in range(2):
                assert one(*given).tobytes() == two(*given).tobytes()
            assert states_of(one) == states_of(two)
            assert strips_of(two) == [[n // 2, n - n // 2]] * 2
            assert strips_of(one) == []


def test_a_strip_has_rows_enough() -> None:
    step = network("rnn", "N", UNITS, 2)
    one = network("rnn", "N", UNITS, 1)
    for n in (0, 1, 2 * ROWS - 1):
        np.testing.assert_array_equal(step(*sample(n)), one(*sample(n)))
        assert strips_of(step) == []


def test_a_team_that_runs_on_one_thread_runs_all_strips() -> None:
    given = sample(40)
    one, step = network("lstm", "N", UNITS, 1), network("lstm", "N", UNITS, 2)
    for nt in (2, 1, 2):
        list(step._bound.values())[-1].team._set_nt(nt) if step._bound else None
        assert step(*given).tobytes() == one(*given).tobytes()
    assert len(strips_of(step)) == 2


def test_what_one_thread_does_alone_is_a_loop_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "BARRIER", 10**9)
    given = sample(33)
    one, step = network("lstm", "N", UNITS, 1), network("lstm", "N", UNITS, 2)
    assert step(*given).tobytes() == one(*given).tobytes()
    (bound,) = step._bound.values()
    inside = [s for a in bound._body if isinstance(a, Alone) for s in a.body]
    assert any(isinstance(s, Strips) for s in inside)
    assert strips_of(step) == []


def test_another_size_may_move_the_memory() -> None:
    one, step = network("lstm", "N", UNITS, 1), network("lstm", "N", UNITS, 2)
    for n in (20, 90, 20):
        assert step(*sample(n)).tobytes() == one(*sample(n)).tobytes()
        assert len(strips_of(step)) == 2


# --- what may not ---------------------------------------------------------------------

Turn = Callable[[gc.Tensor, gc.Tensor], gc.Tensor]
MEET: dict[str, Turn] = {
    "a mean over the rows": lambda h, x: gc.tanh(h - gc.mean(h, axis=0)) + x,
    "rows turned round": lambda h, x: gc.tanh(gc.flip(h, axis=0) + x),
    "rows times rows": lambda h, x: gc.tanh((h @ gc.transpose(h)) @ x),
    "the number of a row": lambda h, x: (
        gc.tanh(h) + x + gc.uniform((40, 12), seed=2, stream=0)
    ),
}
APART: dict[str, Turn] = {
    "each row by itself": lambda h, x: gc.tanh(h * 0.5 + x),
    "a mean along rows": lambda h, x: h - gc.mean(h, axis=1, keepdims=True) + x,
    "a softmax of each row": lambda h, x: gc.softmax(h + x, axis=1),
    "columns turned round": lambda h, x: gc.flip(h, axis=1) + x,
}


@pytest.mark.parametrize("name", [*MEET, *APART])
def test_rows_that_meet_are_not_cut(name: str) -> None:
    turn = {**MEET, **APART}[name]
    h0, xs = gc.input("h0", (40, 12)), gc.input("xs", (TURNS, 40, 12))

    def step(threads: int) -> Executable:
        given = h0 * 2.0, xs * 2.0 + 1.0  # an input itself is read where it is given

        def body(h: gc.Tensor, x: gc.Tensor) -> Any:
            h = turn(h, x)
            return h, h * h

        last, every = gc.scan(body, *given)
        outs = [last + 1.0, gc.sum(every, axis=0)]
        return gc.compile([h0, xs], outs, threads=threads)

    rng = np.random.default_rng(1)
    given = [rng.standard_normal(s).astype(np.float32) for s in ((40, 12), (6, 40, 12))]
    two = step(2)
    for a, b in zip(step(1)(*given), two(*given), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(strips_of(two)) == (name in APART)


def test_memory_that_is_given_twice_keeps_rows_together() -> None:
    """Another row of one buffer may lie where a row of the other does."""
    step = network("lstm", "N", UNITS, 2)
    step(*sample(32))
    (bound,) = step._bound.values()
    stripping = bound._stripping(2)
    loop = next(s.loop for s in bound._body if isinstance(s, Strips))
    assert isinstance(stripping.body([loop])[0], Strips)
    names = {bound.program.root(name) for name in loop.writes}
    places = {name: (64 * i, 64 * i + 4096) for i, name in enumerate(sorted(names))}
    object.__setattr__(stripping, "place", places.get)
    assert stripping.body([loop]) == (loop,)
