"""split-sums: blocks of rows, what is left over, and every value as before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import pace
from graphc.backends.cpu.parts import Parts
from graphc.backends.cpu.prelude import team
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.program.interpret import run_program
from graphc.ir.target import Target
from graphc.passes import DEFAULT

Tensors = list[gc.Tensor]
Shape = tuple[int | str, ...]

WIDE = Target("wide", lanes=16, tiles=True)
BEFORE = "decompose,cse,fuse,lower,coalesce"
SPLIT = "split-sums{fewest=2, most=4, least=1}"
EARLY = ",".join(SPLIT if p == "split-sums" else p for p in DEFAULT)
needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have small nests run in parts, and on a team."""
    monkeypatch.setattr(pace, "CACHE", 1)
    monkeypatch.setattr(pace, "START", 0)
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)


# --- formulas whose sums go down rows -------------------------------------------------


def norm(shape: Shape) -> tuple[Tensors, Tensors]:
    """Return a layer norm with its gradients."""
    x, g = gc.input("x", shape), gc.input("g", shape)
    scale, shift = gc.input("scale", shape[-1:]), gc.input("shift", shape[-1:])
    y = gc.layer_norm(x, scale, shift)
    return [x, scale, shift, g], [y, *gc.vjp(y, [x, scale, shift], g)]


def bias(shape: Shape) -> tuple[Tensors, Tensors]:
    """Return elementwise work with a bias, whose gradient is stored beside a sum."""
    x, b, g = gc.input("x", shape), gc.input("b", shape[-1:]), gc.input("g", shape)
    y = gc.tanh(x + b)
    return [x, b, g], [y, *gc.vjp(y, [x, b], g)]


def softmax(shape: Shape) -> tuple[Tensors, Tensors]:
    """Return a softmax with a bias, with its gradients."""
    x, b, g = gc.input("x", shape), gc.input("b", shape[-1:]), gc.input("g", shape)
    y = gc.softmax(x + b, axis=-1)
    return [x, b, g], [y, *gc.vjp(y, [x, b], g)]


def sums(shape: Shape) -> tuple[Tensors, Tensors]:
    """Return two sums of one nest, and what is made of them."""
    x, g = gc.input("x", shape), gc.input("g", shape)
    return [x, g], [gc.sum(x, axis=0) + 1.0, gc.sum(x * g, axis=0, keepdims=True)]


FORMULAS: dict[str, Callable[[Shape], tuple[Tensors, Tensors]]] = {
    f.__name__: f for f in (norm, bias, softmax, sums)
}


def numbers(inputs: Tensors, rows: int) -> list[np.ndarray]:
    rng = np.random.default_rng(rows)
    shapes = [[evaluate(s, {"N": rows}) for s in t.shape] for t in inputs]
    return [rng.standard_normal(s).astype(np.float32) for s in shapes]


def step_of(formula: str, shape: Shape, passes: str = EARLY, **options: Any) -> Any:
    inputs, outputs = FORMULAS[formula](shape)
    return gc.compile(inputs, outputs, passes=passes, **options)


def parts_of(step: Any) -> list[tuple[int, int]]:
    """Return how many parts, and of how many nests, of the sizes of the last call."""
    (bound,) = step._bound.values()
    return [(s.count, len(s.body)) for s in bound._body if isinstance(s, Parts)]


# --- what becomes of a nest -----------------------------------------------------------


def test_text(apply_passes: Any) -> None:
    x, g = gc.input("x", ("N", 20)), gc.input("g", ("N", 20))
    found = Graph.build([x, g], [gc.sum(x * g, axis=0) * 2.0], name="example")
    program = apply_passes(f"{BEFORE},{SPLIT}", found, WIDE)
    text = program.text()
    assert text[text.index("  temp") :] == (
        """\
  temp     sums0: f32[N//4,20]
  nest mul_sum_of_rows (i0: N//4, i1: 20)  // %0 mul, sum, full, mul
    for k0: 4 {
      v0 = ((i0 * 4) + k0)
      r0 = sum (x[v0, i1] * g[v0, i1])
    }
    sums0[i0, i1] = f32(r0)
  nest mul_sum (i0: 20)  // %0 mul, sum, full, mul
    for k0: N//4 {
      r0 = sum sums0[k0, i0]
    }
    for k0: N%4 {
      v0 = (size(4*(N//4)) + k0)
      r0_left = sum (x[v0, i0] * g[v0, i0])
    }
    out0[i0] = ((f32(r0) + f32(r0_left)) * 2.0)
}"""
    )


def test_what_is_stored_beside_sums_is_stored_on_the_way(apply_passes: Any) -> None:
    inputs, outputs = bias((12, 20))
    found = Graph.build(inputs, outputs, name="example")
    program = apply_passes(f"{BEFORE},{SPLIT}", found, WIDE)
    blocks, whole = program.nests
    assert [a.extent for a in blocks.axes] == [3, 20]
    assert [s.buffer for s in blocks.phases[0].stores] == ["out0", "out1"]
    assert not set(blocks.writes) & set(whole.writes)
    assert whole.reads == ("sums0",)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: gc.max(x, axis=0),  # no sum
        lambda x: gc.sum(x, axis=1),  # of what is in a row
        lambda x: x.T @ x,  # a contraction
        lambda x: x - gc.mean(x, axis=0),  # all rows wait for the sum
    ],
)
def test_what_stays_whole(function: Any, apply_passes: Any) -> None:
    x = gc.input("x", (12, 20))
    found = Graph.build([x], [function(x)], name="example")
    before = apply_passes(BEFORE, found, WIDE)
    assert apply_passes(SPLIT, before, WIDE) is before


@pytest.mark.parametrize(
    ("rows", "blocks"), [(12, 3), (9, 3), (11, 2), (3, 0), (4, 2), (8, 2)]
)
def test_blocks_of_known_rows_are_even_where_they_can_be(
    rows: int, blocks: int, apply_passes: Any
) -> None:
    x = gc.input("x", (rows, 20))
    found = Graph.build([x], [gc.sum(x, axis=0)], name="example")
    program = apply_passes(f"{BEFORE},{SPLIT}", found, WIDE)
    made = [program.buffers[n].shape[0] for n in program.buffers if "sums" in n]
    assert made == [blocks] * (blocks > 0)


def test_what_near_caches_hold_stays_whole(apply_passes: Any) -> None:
    near = Target("near", lanes=16, tiles=True, cache=1 << 20)
    for rows, nests in ((128, 1), (4096, 2)):
        x = gc.input("x", (rows, 64))
        found = Graph.build([x], [gc.sum(x, axis=0)], name="example")
        program = apply_passes(f"{BEFORE},split-sums", found, near)
        assert len(program.nests) == nests


def test_blocks_stand_behind_what_goes_over_the_same_rows(apply_passes: Any) -> None:
    x, g, w = gc.input("x", (12, 9)), gc.input("g", (12, 9)), gc.input("w", (8, 7))
    y = gc.softmax(x * g)
    other = gc.softmax(w) + 1.0
    found = Graph.build([x, g, w], [y, other, gc.sum(x * g, axis=0)], name="example")
    program = apply_passes(f"{BEFORE},{SPLIT}", found, WIDE)
    first, second, third, last = program.nests
    assert {"x", "g"} <= set(first.reads) == set(second.reads)
    assert third.reads == ("w",)
    assert last.reads == second.writes


def test_blocks_stay_behind_what_they_read(apply_passes: Any) -> None:
    x = gc.input("x", (12, 12))
    w = gc.parameter("w", (12, 12))
    found = Graph.build(
        [x], [gc.softmax(x), gc.sum(x @ w, axis=0)], [(w, w + x)], name="example"
    )
    program = apply_passes(f"{BEFORE},{SPLIT}", found, WIDE)
    written: set[str] = set()
    for nest in program.nests:
        assert all(n in written for n in nest.reads if n[0] in "ts")
        written |= set(nest.writes)


# --- values ---------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 11, 16])
@pytest.mark.parametrize("formula", FORMULAS)
def test_programs_give_what_they_gave(
    formula: str, rows: int, apply_passes: Any
) -> None:
    inputs, outputs = FORMULAS[formula](("N", 18))
    found = Graph.build(inputs, outputs, name="example")
    before = apply_passes(BEFORE, found, WIDE)
    after = apply_passes(SPLIT, before, WIDE)
    assert len(after.nests) > len(before.nests)
    given = dict(zip(before.inputs, numbers(inputs, rows), strict=True))
    want, have = (run_program(p, given, {"N": rows}) for p in (before, after))
    for name in before.outputs:
        np.testing.assert_allclose(have[name], want[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=needs_two)])
@pytest.mark.parametrize("formula", FORMULAS)
def test_kernels_agree_with_reference(formula: str, threads: int, eager: None) -> None:
    for shape in (("N", 37), ("N", 5, 16)):
        step = step_of(formula, shape, threads=threads)
        exact = step_of(formula, shape, passes="default", backend="reference")
        for rows in (0, 1, 3, 4, 7, 8, 13, 40):
            given = numbers(list(step.graph.inputs), rows)
            pairs = zip(step(*given), exact(*given), strict=True)
            for found, want in pairs:
                np.testing.assert_allclose(found, want, rtol=2e-5, atol=2e-5)


@needs_two
@pytest.mark.parametrize("rows", [37, 40])
def test_bits_are_those_of_one_thread(rows: int, eager: None) -> None:
    one, two = (step_of("norm", ("N", 70), threads=n) for n in (1, 2))
    given = numbers(list(one.graph.inputs), rows)
    want = one(*given)
    for _ in range(20):
        pairs = zip(two(*given), want, strict=True)
        assert all(np.array_equal(a, b) for a, b in pairs)
    assert parts_of(one) == parts_of(two) == ([(10, 2)] if rows == 40 else [])


def test_rows_are_summed_up_while_they_are_near(
    eager: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for formula in ("norm", "softmax"):
        step = step_of(formula, (40, 70), threads=1)
        given = numbers(list(step.graph.inputs), 40)
        found = step(*given)
        assert parts_of(step) == [(10, 2)]
        with monkeypatch.context() as patch:
            patch.setattr(pace, "CACHE", 1 << 40)
            apart = step_of(formula, (40, 70), threads=1)
            want = apart(*given)
        assert parts_of(apart) == []
        assert all(np.array_equal(a, b) for a, b in zip(found, want, strict=True))


@pytest.mark.parametrize("what", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 9, 10])
def test_what_is_not_finite_stays_so(what: float, row: int) -> None:
    step = step_of("sums", ("N", 20))
    x, g = numbers(list(step.graph.inputs), 11)
    x[row, 3] = what
    found, products = step(x, g)
    with np.errstate(invalid="ignore"):
        want = x.sum(axis=0) + 1.0, (x * g).sum(axis=0, keepdims=True)
    np.testing.assert_allclose(found, want[0], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(products, want[1], rtol=1e-5, atol=1e-5)
    x[row - 1, 3] = -what
    assert np.isnan(step(x, g)[0][3])


def test_a_state_may_be_what_comes_of_its_sum() -> None:
    x = gc.input("x", ("N", 20))
    b = gc.parameter("b", (20,), init="ones")
    y = gc.sum(gc.relu(x + b), axis=0)
    step = gc.compile([x], y, updates={b: b - 0.1 * y}, passes=EARLY)
    given = np.random.default_rng(0).standard_normal((11, 20)).astype(np.float32)
    state = np.ones(20, np.float32)
    for _ in range(3):
        want = np.maximum(given + state, 0).sum(axis=0)
        np.testing.assert_allclose(step(given), want, rtol=1e-5, atol=1e-5)
        state = state - np.float32(0.1) * want
    np.testing.assert_allclose(b.value, state, rtol=1e-5, atol=1e-5)
