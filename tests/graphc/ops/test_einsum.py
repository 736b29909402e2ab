"""einsum and its kin against NumPy, over random subscripts; orders; errors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import ArgumentError, ShapeError
from graphc.ops.einsum import contraction_order

Array = np.ndarray[Any, Any]
LETTERS = "abcdeF"


@st.composite
def problems(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """Return subscripts and the shapes of their operands."""
    size = {c: draw(st.integers(1, 4)) for c in LETTERS}
    batch = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(0, 2)))]
    parts: list[str] = []
    shapes: list[tuple[int, ...]] = []
    for _ in range(draw(st.integers(1, 4))):
        letters = draw(st.lists(st.sampled_from(LETTERS), max_size=4))
        # An axis of size 1 broadcasts, but not beside itself on a diagonal.
        one = {
            c for c in letters if letters.count(c) == 1 and draw(st.integers(0, 9)) == 0
        }
        shape = [1 if c in one else size[c] for c in letters]
        part = "".join(letters)
        if batch and draw(st.booleans()):
            at = draw(st.integers(0, len(letters)))
            count = draw(st.integers(0, len(batch)))
            ones = draw(st.integers(0, count))
            some = [1] * ones + batch[len(batch) - count + ones :]
            part = part[:at] + "..." + part[at:]
            shape[at:at] = some
        parts.append(part)
        shapes.append(tuple(shape))
    text = ",".join(parts)
    if draw(st.booleans()):
        known = sorted({c for p in parts for c in p if c != "."})
        kept = draw(st.permutations(known))[: draw(st.integers(0, len(known)))]
        dots = "..." if "..." in text else ""
        text += "->" + "".join(
            draw(st.permutations([*kept, *([dots] if dots else [])]))
        )
    return text, shapes


def sample(shapes: list[tuple[int, ...]], seed: int = 0) -> list[Array]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, s) for s in shapes]


@settings(max_examples=200)
@given(problems())
def test_einsum_is_numpys(problem: tuple[str, list[tuple[int, ...]]]) -> None:
    text, shapes = problem
    note(f"{text} {shapes}")
    arrays = sample(shapes)
    inputs = [gc.input(f"x{i}", s, "float64") for i, s in enumerate(shapes)]
    found = gc.evaluate(
        gc.einsum(text, *inputs), dict(zip(inputs, arrays, strict=True))
    )
    expected = np.einsum(text, *arrays)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, 1e-11, 1e-11)


@settings(max_examples=30)
@given(problems())
def test_gradient_of_einsum_is_linear_in_each_operand(
    problem: tuple[str, list[tuple[int, ...]]],
) -> None:
    """<dy/dx, x> = y for what is linear in x, if each operand is used once."""
    text, shapes = problem
    note(f"{text} {shapes}")
    arrays = sample(shapes, 1)
    inputs = [gc.input(f"x{i}", s, "float64") for i, s in enumerate(shapes)]
    y = gc.sum(gc.einsum(text, *inputs))
    given_ = dict(zip(inputs, arrays, strict=True))
    value = gc.evaluate(y, given_)
    for slope, x in zip(gc.evaluate(gc.grad(y, inputs), given_), arrays, strict=True):
        np.testing.assert_allclose(np.sum(slope * x), value, 1e-9, 1e-9)


@pytest.mark.parametrize(
    ("text", "shapes"),
    [
        ("bij,bjk->bik", [("B", "N", 5), ("B", 5, "M")]),
        ("bthd,bshd->bhts", [("B", "N", 2, 5), ("B", "M", 2, 5)]),
        ("nchw,oc->nohw", [("N", 3, "H", "W"), (4, 3)]),
        ("ij,jk,kl,i->l", [("N", 7), (7, "M"), ("M", 5), ("N",)]),
        ("...i,...i", [("N", "M", 3), ("M", 3)]),
    ],
)
def test_symbolic_sizes_on_the_cpu(text: str, shapes: list[Any]) -> None:
    inputs = [gc.input(f"x{i}", s) for i, s in enumerate(shapes)]
    step = gc.compile(inputs, gc.einsum(text, *inputs))
    for n in (1, 3, 17):
        sizes = {"N": n, "M": n + 1, "B": 2, "H": 3, "W": n}
        full = [tuple(sizes.get(d, d) for d in s) for s in shapes]
        arrays = [a.astype(np.float32) for a in sample(full)]
        np.testing.assert_allclose(
            step(*arrays), np.einsum(text, *arrays), 1e-4, 1e-5, err_msg=text
        )


def test_contractions_run_on_register_tiles() -> None:
    a, b = gc.input("a", ("B", "N", 4, 16)), gc.input("b", ("B", "M", 4, 16))
    step = gc.compile([a, b], gc.einsum("bthd,bshd->bhts", a, b))
    (nest,) = step.program.nests
    assert nest.schedule is not None
    assert nest.schedule.strategy == "tile"


def test_the_cheapest_order_is_taken() -> None:
    sizes = {"i": 1000, "j": 2, "k": 1000, "l": 3}
    chain = [("i", "j"), ("j", "k"), ("k", "l")]
    assert contraction_order(chain, ("i", "l"), sizes) == [(1, 2), (0, 3)]
    sizes = {"i": 2, "j": 1000, "k": 3, "l": 1000}
    assert contraction_order(chain, ("i", "l"), sizes) == [(0, 1), (2, 3)]


def test_many_operands_are_contracted_step_by_step() -> None:
    letters = "abcdefghijkl"
    text = ",".join(f"{p}{q}" for p, q in itertools.pairwise(letters))
    arrays = sample([(2, 2)] * (len(letters) - 1))
    found = gc.evaluate(gc.einsum(f"{text}->al", *arrays))
    np.testing.assert_allclose(found, np.linalg.multi_dot(arrays), 1e-12)


def test_ints_stay_ints_and_bools_count() -> None:
    a = np.arange(6, dtype=np.int32).reshape(2, 3)
    found = gc.evaluate(gc.einsum("ij,kj", a, a))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, a @ a.T)
    counted = gc.evaluate(gc.einsum("ij->j", a > 1))
    assert counted.tolist() == [1, 1, 2]
    assert counted.dtype == np.int32


def test_empty_axes_sum_to_zero() -> None:
    a, b = gc.input("a", (2, "N")), gc.input("b", ("N", 3))
    step = gc.compile([a, b], gc.einsum("ij,jk", a, b))
    found = step(np.zeros((2, 0), np.float32), np.zeros((0, 3), np.float32))
    np.testing.assert_array_equal(found, np.zeros((2, 3)))


def test_infinities_stay_in_their_rows() -> None:
    a = np.array([[np.inf, 1.0], [1.0, 2.0]])
    with np.errstate(invalid="ignore"):
        expected = np.einsum("ij,jk", a, np.eye(2))
    np.testing.assert_array_equal(
        gc.evaluate(gc.einsum("ij,jk", a, np.eye(2))), expected
    )


# --- tensordot and its kin ----------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "axes"),
    [
        (((2, 3, 4), (3, 4, 5)), 2),
        (((2, 3), (4, 5)), 0),
        (((2, 3, 4), (4, 2, 5)), ((2, 0), (0, 1))),
        (((2, 3), (3, 2)), ([-1], [0])),
        (((3,), (3,)), 1),
    ],
)
def test_tensordot_is_numpys(shapes: Any, axes: Any) -> None:
    a, b = sample(list(shapes))
    found = gc.evaluate(gc.tensordot(a, b, axes))
    np.testing.assert_allclose(found, np.tensordot(a, b, axes), 1e-12)


@pytest.mark.parametrize("name", ["dot", "inner", "outer"])
@pytest.mark.parametrize(
    "shapes", [((3,), (3,)), ((2, 3), (3, 3)), ((), (2, 3)), ((4, 3), (3,))]
)
def test_products_are_numpys(name: str, shapes: Any) -> None:
    a, b = sample(list(shapes))
    found = gc.evaluate(getattr(gc, name)(a, b))
    np.testing.assert_allclose(found, getattr(np, name)(a, b), 1e-12)


# --- errors -------------------------------------------------------------------------


def a_and_b(*more: Any) -> tuple[gc.Tensor, gc.Tensor]:
    return gc.input("a", ("N", 3)), gc.input("b", (4, "M"))


def test_two_sizes_of_one_subscript_are_both_named() -> None:
    a, b = a_and_b()
    with pytest.raises(ShapeError) as raised:
        gc.einsum("ij,jk->ik", a, b)
    text = str(raised.value)
    assert "'ij,jk->ik': the subscript 'j' has two sizes: a[1]=3, b[0]=4" in text
    assert "a : f32[N,3]  declared at" in text
    assert "test_einsum.py" in text
    with pytest.raises(
        ShapeError, match=r"'j' cannot be proved equal: a\[1\]=3, b\[1\]=M"
    ):
        gc.einsum("ij,kj", a, b)
    with pytest.raises(ShapeError, match=r"'i' cannot be proved equal: a\[0\]=N"):
        gc.einsum("ii", a)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ij", "names 1 operand, 2 given"),
        ("ijk,kl", "'ijk' names 3 axes, a has 2"),
        ("i,kl", "'i' names 1 axes, a has 2"),
        ("ij,kl->iz", "the result has 'z', which no operand has"),
        ("ij,kl->iik", "the result has 'i' twice"),
        ("i1,kl", "'1' is no subscript"),
        ("i...,kl->kl", "the result has no '...'"),
    ],
)
def test_a_text_that_does_not_fit_is_explained(text: str, says: str) -> None:
    a, b = a_and_b()
    with pytest.raises(ArgumentError) as raised:
        gc.einsum(text, a, b)
    assert says in str(raised.value)
    assert "test_einsum.py" in str(raised.value)


def test_operands_in_the_place_of_the_text() -> None:
    a, _ = a_and_b()
    with pytest.raises(ArgumentError, match="before the operands"):
        gc.einsum(a, "ij")  # type: ignore[arg-type]


def test_axes_that_differ_in_tensordot() -> None:
    a, b = a_and_b()
    with pytest.raises(ShapeError, match=r"sizes differ: a\[1\]=3, b\[0\]=4"):
        gc.tensordot(a, b, 1)
    with pytest.raises(ArgumentError, match="3 axes of a and b"):
        gc.tensordot(a, b, 3)
    with pytest.raises(ArgumentError, match="1 axes of a, 2 of b"):
        gc.tensordot(a, b, ([0], [0, 1]))
