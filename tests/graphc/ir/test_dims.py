"""Sizes: canonical forms, their values, their texts, and what can be proved of them."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from graphc.ir.dims import (
    DimError,
    Size,
    compare,
    dim,
    evaluate,
    is_nonnegative,
    latex,
    lower_bound,
    maximum,
    minimum,
    names,
    parse_size,
    product,
    prove_equal,
    prove_le,
    python,
    solve,
    substitute,
    to_sympy,
    upper_bound,
)

K, M, N = dim("K"), dim("M"), dim("N")


# Random expressions, each with its size and its direct meaning on integers.


@dataclass(frozen=True)
class Expression:
    """Hold a size made by arithmetic, and the same arithmetic on integers."""

    size: Size
    value: Callable[[dict[str, int]], int]


class Undefined(Exception):
    """Say that the arithmetic divides by something that is not positive."""


LEAVES = st.one_of(
    st.sampled_from("KMN").map(lambda n: Expression(dim(n), lambda v: v[n])),
    st.integers(-6, 9).map(lambda i: Expression(i, lambda _: i)),
)


def positive(divisor: int) -> int:
    if divisor <= 0:
        raise Undefined
    return divisor


Binary = tuple[Callable[[Size, Size], Size], Callable[[int, int], int]]
OPERATORS: dict[str, Binary] = {
    "+": (lambda a, b: a + b, lambda a, b: a + b),
    "-": (lambda a, b: a - b, lambda a, b: a - b),
    "*": (lambda a, b: a * b, lambda a, b: a * b),
    "//": (lambda a, b: a // b, lambda a, b: a // positive(b)),
    "%": (lambda a, b: a % b, lambda a, b: a % positive(b)),
    "min": (minimum, min),
    "max": (maximum, max),
}


def combined(parts: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    @st.composite
    def draw_one(draw: st.DrawFn) -> Expression:
        operator = draw(st.sampled_from([*OPERATORS, "//", "%"]))
        a, b = draw(parts), draw(parts)
        if operator in ("//", "%"):
            assume(prove_le(b.size, 0) is not True)
        symbolic, direct = OPERATORS[operator]
        return Expression(
            symbolic(a.size, b.size), lambda v: direct(a.value(v), b.value(v))
        )

    return draw_one()


EXPRESSIONS = st.recursive(LEAVES, combined, max_leaves=9)
SIZES = EXPRESSIONS.map(lambda e: e.size)
BINDINGS = st.fixed_dictionaries({name: st.integers(0, 12) for name in "KMN"})


def meaning(expression: Expression, values: dict[str, int]) -> int:
    """Compute an expression directly, or give the example up where it has no value."""
    try:
        return expression.value(values)
    except Undefined:
        assume(False)
        raise


@settings(max_examples=400, deadline=None)
@given(EXPRESSIONS, BINDINGS)
def test_canonical_form_keeps_the_value(e: Expression, values: dict[str, int]) -> None:
    expected = meaning(e, values)
    assert evaluate(e.size, values) == expected


@settings(max_examples=400, deadline=None)
@given(SIZES)
@example(-(N // 2))
@example(M * (N // 2) ** 2 - N**3 + 7)
@example((N // 2 - 1) % (M + 1))
@example(minimum(N, M // 2, 3) // (K + 1))
def test_text_reads_back_as_the_same_size(size: Size) -> None:
    text = str(size)
    assert parse_size(text) == size
    assert str(parse_size(text)) == text
    assert " " not in text


@settings(deadline=None)
@given(SIZES, BINDINGS)
def test_python_text_computes_the_value(size: Size, values: dict[str, int]) -> None:
    try:
        expected = evaluate(size, values)
    except DimError:
        assume(False)
    source = python(size, lambda name: f"size_{name}")
    bound = {f"size_{name}": value for name, value in values.items()}
    assert eval(source, {"min": min, "max": max}, bound) == expected


@settings(deadline=None)
@given(EXPRESSIONS, BINDINGS)
def test_bounds_hold(e: Expression, values: dict[str, int]) -> None:
    value = meaning(e, values)
    lower, upper = lower_bound(e.size), upper_bound(e.size)
    assert lower is None or lower <= value
    assert upper is None or value <= upper
    assert is_nonnegative(e.size) in (None, value >= 0)


@settings(deadline=None)
@given(EXPRESSIONS, EXPRESSIONS, BINDINGS)
def test_proved_relations_hold(
    a: Expression, b: Expression, values: dict[str, int]
) -> None:
    x, y = meaning(a, values), meaning(b, values)
    holds = {"lt": x < y, "le": x <= y, "eq": x == y, "ge": x >= y, "gt": x > y}
    assert prove_le(a.size, b.size) in (None, x <= y)
    assert holds.get(compare(a.size, b.size), True)
    assert x == y or not prove_equal(a.size, b.size)


@settings(deadline=None)
@given(EXPRESSIONS, LEAVES, BINDINGS)
def test_substitute_then_evaluate_is_evaluate(
    e: Expression, leaf: Expression, values: dict[str, int]
) -> None:
    replacement = leaf.size * leaf.size + 1
    inner = {**values, "N": evaluate(replacement, values)}
    expected = meaning(e, inner)
    assert evaluate(substitute(e.size, {"N": replacement}), values) == expected


@settings(deadline=None)
@given(SIZES, SIZES, SIZES)
def test_polynomial_arithmetic_is_a_ring(a: Size, b: Size, c: Size) -> None:
    assert a + b == b + a
    assert a * (b + c) == a * b + a * c
    assert (a - b) + b == a
    assert hash(a + b) == hash(b + a)


@settings(deadline=None)
@given(SIZES, SIZES, st.sampled_from([1, 2, 6, N + 1, 2 * N, M * N + 3]))
def test_a_multiple_of_the_divisor_moves_out(p: Size, k: Size, q: Size) -> None:
    assert (p + k * q) // q == p // q + k
    assert (p + k * q) % q == p % q


@settings(deadline=None)
@given(SIZES)
def test_no_constant_dim_and_pickles(size: Size) -> None:
    assert isinstance(size, int) == (not names(size))
    assert pickle.loads(pickle.dumps(size)) == size
    assert copy.deepcopy(size) == size


# Canonical forms.


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (2 * N + 1, "2*N+1"),
        (M * N, "M*N"),
        (N * N - N, "N**2-N"),
        (1 - N, "-N+1"),
        (N // 2, "N//2"),
        ((N + 1) // 2, "(N+1)//2"),
        (-(N // 2), "-(N//2)"),
        (M - N // 2, "M-N//2"),
        (M * (N // 2), "M*(N//2)"),
        (N % 3, "N%3"),
        (minimum(3, N), "min(N,3)"),
        (maximum(M, N, 4), "max(M,N,4)"),
        ((4 * N) // 4, "N"),
        ((4 * N + 3) // 4, "N"),
        ((6 * N) // 4, "N+N//2"),
        ((2 * N + 1) // 4, "N//2"),
        ((2 * N + 1) % 4, "2*(N%2)+1"),
        ((N * M) // M, "N"),
        ((N * M + M) // (M * K), "(N+1)//K"),
        (((N + 1) * (M + 2)) // (M + 2), "N+1"),
        ((N // 2) // 3, "N//6"),
        ((4 * N) % 4, "0"),
        ((N % 8 + 1) % 4, "(N+1)%4"),
        (N % 1, "0"),
        (N // 1, "N"),
        (N // (N + 1), "0"),
        (N % (N + 1), "N"),
        ((N % 4) // 4, "0"),
        (3 // (N + 4), "0"),
        (N // -2, "-N+N//2"),
        (N - N, "0"),
        (0 * N, "0"),
        (N**0, "1"),
        (minimum(N, N), "N"),
        (minimum(N, N + 3), "N"),
        (minimum(N, M, N // 2), "min(M,N//2)"),
        (minimum(minimum(N, 5), M, 3), "min(M,N,3)"),
        (minimum(N, 0), "0"),
        (maximum(N, 0), "N"),
        (maximum(minimum(N, 3), 5), "5"),
        (maximum(minimum(N, M), N), "N"),
        (product([]), "1"),
        (product([2, N, 3, M]), "6*M*N"),
    ],
)
def test_canonical_text(size: Size, text: str) -> None:
    assert str(size) == text


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((N - 1) // 2 + 1, (N + 1) // 2),
        ((N + 2 * K) // 2, N // 2 + K),
        (((N - 1) // 2 + 1 - 1) // 2 + 1, (N + 3) // 4),
        ((N + M) * (N - M), N**2 - M**2),
        ((3 * N) // 2, N + N // 2),
        ((N + M) % M, N % M),
        (minimum(N, M), minimum(M, N)),
        (maximum(N, 3) + 1, 1 + maximum(3, N)),
    ],
)
def test_equal_sizes_have_one_form(a: Size, b: Size) -> None:
    assert a == b
    assert hash(a) == hash(b)
    assert prove_equal(a, b)
    assert compare(a, b) == "eq"


def test_different_sizes_differ() -> None:
    assert N != M
    assert N + 1 != N
    assert N // 2 != N % 2
    assert N != 3
    assert len({N, M, dim("N"), 2 * N - N}) == 2


def test_numpy_integers_are_integers() -> None:
    two: Any = np.int64(2)
    assert two * N == 2 * N == N * two
    assert two - N == 2 - N
    assert two // (N + 3) == 0
    assert str((N + two) % two) == "N%2"


def test_a_dim_refuses_what_it_cannot_answer() -> None:
    with pytest.raises(DimError, match="no truth value"):
        bool(N)
    with pytest.raises(TypeError):
        N < M  # type: ignore[operator]  # noqa: B015
    with pytest.raises(TypeError):
        N + 1.5  # type: ignore[operator]
    with pytest.raises(TypeError):
        range(N)  # type: ignore[call-overload]
    with pytest.raises(AttributeError):
        N.value = 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["", "2N", "N M", "N-1", "min", "max", "é"])
def test_dim_refuses_a_bad_name(name: str) -> None:
    with pytest.raises(DimError, match="cannot name a dimension"):
        dim(name)


def test_division_by_zero_is_an_error() -> None:
    with pytest.raises(DimError, match="N is divided by zero"):
        N // 0
    with pytest.raises(DimError, match="N is divided by zero"):
        N % 0


def test_minimum_of_nothing_is_an_error() -> None:
    with pytest.raises(DimError, match="min of no sizes"):
        minimum()


# Values.


def test_evaluate_names_what_is_missing_or_wrong() -> None:
    with pytest.raises(DimError, match="size M has no value; sizes bound: N"):
        evaluate(N + M, {"N": 3})
    with pytest.raises(DimError, match=r"N//M: the divisor M is 0 where M=0, N=3"):
        evaluate(N // M, {"N": 3, "M": 0})
    with pytest.raises(DimError, match="N = -1: a size is at least 0"):
        evaluate(N, {"N": -1})
    assert evaluate(N - 5, {"N": 3}) == -2
    assert evaluate(7, {}) == 7


def test_names() -> None:
    assert names(3) == frozenset()
    assert names(N * (M // (K + 1))) == {"K", "M", "N"}
    assert N.names() == {"N"}


def test_substitute_is_simultaneous() -> None:
    assert substitute(N - M, {"N": M, "M": N}) == M - N
    assert substitute(minimum(N, M) // 2, {"M": N + 1}) == N // 2
    assert substitute(N % 4, {"N": 8}) == 0
    assert substitute(5, {"N": M}) == 5


@pytest.mark.parametrize(
    ("size", "value", "found"),
    [
        (N, 7, ("N", 7)),
        (2 * N + 1, 9, ("N", 4)),
        (10 - N, 3, ("N", 7)),
        (2 * N + 1, 8, None),
        (N + 3, 2, None),
        (N * M, 6, None),
        (N + M, 6, None),
        (N**2, 9, None),
        (N // 2, 3, None),
        (5, 5, None),
    ],
)
def test_solve(size: Size, value: int, found: tuple[str, int] | None) -> None:
    assert solve(size, value) == found


# Proofs.


@pytest.mark.parametrize(
    ("size", "lower", "upper"),
    [
        (4, 4, 4),
        (N, 0, None),
        (3 - N, None, 3),
        (N * M + 2, 2, None),
        (N % 5, 0, 4),
        (N // 3 - 1, -1, None),
        (minimum(N, 3), 0, 3),
        (maximum(N, 3), 3, None),
        (N - N // 2, 0, None),
        (N - minimum(N, M), 0, None),
        (maximum(N, M) - M, 0, None),
        (N % (M + 1) - M, None, 0),
        (N - M, None, None),
    ],
)
def test_bounds(size: Size, lower: int | None, upper: int | None) -> None:
    assert (lower_bound(size), upper_bound(size)) == (lower, upper)


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        (N, N, "eq"),
        (N, N + 1, "lt"),
        (N // 2, N, "le"),
        (N + M, N, "ge"),
        (N + M + 1, N, "gt"),
        (N, M, "unknown"),
        (2, 3, "lt"),
        (N, 3, "unknown"),
    ],
)
def test_compare(a: Size, b: Size, relation: str) -> None:
    assert compare(a, b) == relation


# Texts.


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        (" 2 * N + 1 ", 2 * N + 1),
        ("-N//2", (-N) // 2),
        ("-(N//2)", -(N // 2)),
        ("M*N//2", (M * N) // 2),
        ("M*(N//2)", M * (N // 2)),
        ("-N**2", -(N**2)),
        ("2**10", 1024),
        ("min(N, max(M, 3))", minimum(N, maximum(M, 3))),
        ("min(N)", N),
        ("minimal_1", dim("minimal_1")),
        ("--N", N),
    ],
)
def test_parse_size(text: str, size: Size) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("text", "column", "cause"),
    [
        ("", 1, "expected a name, an integer or '(', found the end"),
        ("N+", 3, "expected a name, an integer or '(', found the end"),
        ("N M", 3, "expected an operator or the end, found 'M'"),
        ("2N", 2, "expected an operator or the end, found 'N'"),
        ("(N+1", 5, "expected ')', found the end"),
        ("N/2", 2, "'/' has no meaning"),
        ("N+é", 3, "'é' has no meaning"),
        ("min", 4, "expected '(', found the end"),
        ("max()", 5, "expected a name"),
        ("N**M", 4, "expected a power"),
        ("N**999", 4, "a power is at most 256"),
        ("1+N//0", 6, "divided by zero"),
        ("1//0", 4, "by zero"),
        ("(" * 200, 101, "levels deep"),
        ("9" * 2000, 1, "digits"),
        ("__import__('os')", 11, "expected an operator or the end"),
    ],
)
def test_parse_size_points_at_the_mistake(text: str, column: int, cause: str) -> None:
    with pytest.raises(DimError) as caught:
        parse_size(text)
    assert f"column {column}: " in str(caught.value)
    assert cause in str(caught.value)


def test_python_is_spaced_and_renamed() -> None:
    size = 2 * (N // 2) + minimum(M, N) * K - 1
    assert python(size) == "K * min(M, N) + 2 * (N // 2) - 1"
    assert python(N % 3, lambda name: f"sizes[{name!r}]") == "sizes['N'] % 3"


def test_latex_and_sympy() -> None:
    assert latex(N**2 + 1) == "N^{2} + 1"
    assert latex(7) == "7"
    size = (N + 1) // 3 + N % 2 + minimum(N, M) - maximum(M, 3)
    symbols = {symbol.name: symbol for symbol in to_sympy(size).free_symbols}
    bound = to_sympy(size).subs({symbols["N"]: 7, symbols["M"]: 5})
    assert bound == evaluate(size, {"N": 7, "M": 5})


def test_sizes_do_not_import_sympy() -> None:
    code = (
        "import sys; from graphc.ir.dims import dim, parse_size;"
        "str(parse_size('(N+1)//2') % 3); sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
