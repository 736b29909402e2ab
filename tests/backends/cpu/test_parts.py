"""Nests that run part by part: what may, what may not, and with the same bits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import pace
from graphc.backends.cpu.parts import Parting, Parts
from graphc.backends.cpu.prelude import team
from graphc.ir.program import Barrier

needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small nests run in parts, and on a team."""
    monkeypatch.setattr(pace, "CACHE", 1)
    monkeypatch.setattr(pace, "START", 0)
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)


def attention(shape: tuple[int, ...], **options: Any) -> gc.Step:
    """Return attention over heads, with its gradients."""
    q, k, v, g = (gc.input(name, shape) for name in "qkvg")
    out = gc.scaled_dot_product_attention(q, k, v)
    return gc.compile([q, k, v, g], [out, *gc.vjp(out, [q, k, v], g)], **options)


def numbers(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def parts_of(step: gc.Step) -> list[tuple[int, int]]:
    """Return how many parts, and of how many nests, of the sizes of the last call."""
    (bound,) = step._bound.values()
    return [(s.count, len(s.body)) for s in bound._body if isinstance(s, Parts)]


def apart(monkeypatch: pytest.MonkeyPatch, step: Any) -> Any:
    """Return what a step gives with its nests one after another."""
    with monkeypatch.context() as patch:
        patch.setattr(Parting, "body", lambda self, body: tuple(body))
        return step()


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_two)])
@pytest.mark.parametrize("shape", [(8, 40, 16), (7, 33, 17), (2, 3, 5), (12, 1, 8)])
def test_heads_of_attention_run_one_after_another(
    shape: tuple[int, ...], threads: int, eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = numbers(*[shape] * 4)
    step = attention(shape, threads=threads)
    found = step(*given)
    even = shape[0] % threads == 0
    assert [count for count, _ in parts_of(step)] == ([shape[0]] if even else [])
    want = apart(monkeypatch, lambda: attention(shape, threads=threads)(*given))
    reference = attention(shape, backend="reference")(*given)
    for a, b, c in zip(found, want, reference, strict=True):
        assert np.array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=2e-5, atol=2e-5)


@needs_two
def test_bits_are_those_of_one_thread(eager: None) -> None:
    given = numbers(*[(6, 20, 8)] * 4)
    one, two = (attention((6, 20, 8), threads=n) for n in (1, 2))
    for _ in range(20):
        pairs = zip(one(*given), two(*given), strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert parts_of(one) == parts_of(two) == [(6, 7)]


@needs_two
def test_a_team_that_runs_on_one_thread_runs_all_parts(eager: None) -> None:
    given = numbers(*[(8, 20, 8)] * 4)
    step = attention((8, 20, 8), threads=2)
    want = step(*given)
    (bound,) = step._bound.values()
    bound.team._set_nt(1)
    assert all(np.array_equal(a, b) for a, b in zip(step(*given), want, strict=True))


def test_images_of_convolutions_run_one_after_another(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = (6, 3, 12, 10), (4, 3, 3, 3)

    def run() -> tuple[gc.Step, Any]:
        x, w = (gc.input(name, s) for name, s in zip("xw", shapes, strict=True))
        made = gc.max_pool2d(gc.conv2d(x, w, padding=1) + 1.0, 2)
        step = gc.compile([x, w], made, threads=1)
        return step, step(*numbers(*shapes))

    step, found = run()
    assert parts_of(step) == [(6, 2)]
    _, want = apart(monkeypatch, run)
    assert np.array_equal(found, want)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_nest_that_needs_other_parts_waits_for_all(axis: int, eager: None) -> None:
    """A softmax over the heads meets all of them."""
    x, w = gc.input("x", (8, 16, 16)), gc.input("w", (8, 16, 16))
    step = gc.compile([x, w], gc.softmax(x @ w, axis=axis) @ w, threads=1)
    given = numbers((8, 16, 16), (8, 16, 16))
    found = step(*given)
    whole = [(8, 3)] if axis else []
    assert parts_of(step) == whole
    e = np.exp(given[0] @ given[1])
    np.testing.assert_allclose(
        found, e / e.sum(axis, keepdims=True) @ given[1], rtol=1e-4, atol=1e-5
    )


def test_what_a_cache_holds_is_not_cut() -> None:
    given = numbers(*[(8, 40, 16)] * 4)
    step = attention((8, 40, 16), threads=1)
    step(*given)
    assert parts_of(step) == []


def test_memory_that_is_given_twice_keeps_nests_apart(eager: None) -> None:
    """Another part of one buffer may lie where a part of the other does."""
    step = attention((8, 16, 8), threads=1)
    step(*numbers(*[(8, 16, 8)] * 4))
    (bound,) = step._bound.values()
    whole = bound._parting(1)
    (parts,) = (s for s in whole.body(bound.program.body) if isinstance(s, Parts))
    written = {bound.program.root(name) for nest in parts.body for name in nest.writes}
    temps = sorted(written & set(bound.arena.offsets))
    assert len(temps) > 1
    places = {name: (64 * i, 64 * i + 4096) for i, name in enumerate(temps)}
    mixed = Parting(whole.program, whole.sizes, 1, whole.rooms, places.get)
    body = mixed.body(bound.program.body)
    longest = max((len(s.body) for s in body if isinstance(s, Parts)), default=0)
    assert longest < len(parts.body)


def test_what_stands_beside_parts_waits_for_them(eager: None) -> None:
    """The barriers that parts do without were those of their neighbours too."""
    x, w = gc.input("x", (8, 16, 16)), gc.input("w", (8, 16, 16))
    y = x @ w
    step = gc.compile([x, w], [gc.softmax(y) @ w, gc.sum(y, axis=0) @ w], threads=1)
    step(*numbers((8, 16, 16), (8, 16, 16)))
    (bound,) = step._bound.values()
    body = bound._body
    parts = [s for s in body if isinstance(s, Parts)]
    assert len(body) > len(parts)
    for one, other in pairwise(body):
        if one in parts or other in parts:
            assert isinstance(one, Barrier) or isinstance(other, Barrier)


def test_what_nests_read_alike_is_brought_near_once(eager: None) -> None:
    """Neither writes what the other reads, and still they run part by part."""
    x, v, w = (gc.input(name, (8, 16, 16)) for name in "xvw")
    step = gc.compile([x, v, w], [x @ v, x @ w], threads=1)
    step(*numbers(*[(8, 16, 16)] * 3))
    assert parts_of(step) == [(8, 2)]
