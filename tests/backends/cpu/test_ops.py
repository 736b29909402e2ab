"""Every op's kernel agrees with `reference`, at every size, and is compiled once.

The cases of one op are one compiled function, so that a failure names the op and its
case and the whole table takes seconds.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import Any

import numpy as np
import ops_table
import pytest
from ops_table import CASES, Batch, Case, batch

import graphc as gc
from graphc.backends.cpu.prelude.kernel import _LOADED
from graphc.errors import GuardError
from graphc.executable import Executable

Array = np.ndarray[Any, Any]
SIZES = (1, 2, 3, 5, 7, 13, 15, 16, 17, 31, 33, 64, 100, 257)
OPS = list(dict.fromkeys(case.op for case in CASES))
DTYPES = ["float32", "float64"]


def test_every_case_has_another_name() -> None:
    assert len({c.id for c in CASES}) == len(CASES)


@cache
def compiled(op: str, dtype: str) -> tuple[Batch, Executable]:
    both = batch([c for c in CASES if c.op == op], dtype)
    return both, gc.compile(list(both.inputs), list(both.outputs))


def check(both: Batch, given: list[Array], found: list[Array], note: str = "") -> None:
    """Compare what a kernel made with `reference`."""
    given_by = dict(zip(both.inputs, given, strict=True))
    expected = gc.evaluate(list(both.outputs), given_by)
    for label, e, f in zip(both.labels, expected, found, strict=True):
        compare(f, e, f"{label} {note}")


def compare(found: Array, expected: Array, what: str) -> None:
    """Compare within some roundings; NaN and infinities stand where they should."""
    assert found.dtype == expected.dtype, what
    assert found.shape == expected.shape, what
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(found, expected, what)
        return
    finite = np.abs(expected[np.isfinite(expected)])
    eps = float(np.finfo(expected.dtype).eps)
    scale = float(finite.max(initial=1.0))
    # Of a hundred products that cancel, the scale is not that of the result.
    np.testing.assert_allclose(
        found, expected, rtol=16 * eps, atol=64 * eps * scale, err_msg=what
    )


def sizes_of(n: int) -> dict[str, int]:
    return {"N": n, "M": n % 7 + 1}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("op", OPS)
def test_kernels_agree_with_reference_at_every_size(op: str, dtype: str) -> None:
    both, step = compiled(op, dtype)
    step(*both.arrays(sizes_of(4)))
    kernels = [k.native for k in step.kernels]
    known = len(_LOADED)
    for n in SIZES:
        given = both.arrays(sizes_of(n))
        check(both, given, step(*given), f"N={n}")
    assert [k.native for k in step.kernels] == kernels
    assert len(_LOADED) == known, "a new size compiled a kernel"


@pytest.mark.parametrize("op", OPS)
def test_arrays_need_not_be_contiguous(op: str) -> None:
    both, step = compiled(op, "float32")
    given = both.arrays(sizes_of(9))
    loose = [spread(a) for a in given]
    assert not any(a.flags.c_contiguous for a in loose if a.ndim and a.size > 1)
    check(both, given, step(*loose))


def spread(a: Array) -> Array:
    """Return an equal array whose elements are not neighbours."""
    if a.ndim == 0:
        return a
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)[..., ::2]
    wide = wide if a.ndim < 2 else np.asfortranarray(np.repeat(wide, 2, 0))[::2]
    wide[...] = a
    return wide


SYMBOLIC = [
    c for c in CASES if any(isinstance(n, str) for i in c.inputs for n in i.shape)
]


@pytest.mark.parametrize("case", SYMBOLIC, ids=lambda c: c.id)
def test_empty_arrays_work_or_break_a_guard(case: Case) -> None:
    one = batch([case])
    step = gc.compile(list(one.inputs), list(one.outputs))
    given = one.arrays({"N": 0, "M": 0})
    by_input = dict(zip(one.inputs, given, strict=True))
    if step.declared.guards:
        with pytest.raises(GuardError):
            step(*given)
        with pytest.raises(GuardError):
            gc.evaluate(list(one.outputs), by_input)
    else:
        check(one, given, step(*given), "N=0")


# --- NaN and infinities -------------------------------------------------------------

SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5, -1e-3, 1e30, -1e30, 90.0]


def special_pairs(dtype: str) -> tuple[Array, Array]:
    """Return every pair of special values, 17 more than whole vectors."""
    a, b = np.meshgrid(SPECIAL, SPECIAL)
    x, y = (np.resize(v.ravel(), 16 * 9 + 17).astype(dtype) for v in (a, b))
    return x, y


@pytest.mark.parametrize("dtype", DTYPES)
def test_elementwise_ops_propagate_nan_and_infinities(dtype: str) -> None:
    x, y = gc.input("x", ("N",), dtype), gc.input("y", ("N",), dtype)
    made: dict[str, Any] = {}
    for op in ops_table.OPS.values():
        if op.scalar is None or not ops_table.own(op):
            continue
        if op.name.startswith("logical"):
            continue
        made[op.name] = op(*[x, y][: arity(op)])
    made["where"] = gc.where(x < y, x, y)
    made["to int"] = gc.cast(x, "int32")
    made["to long"] = gc.cast(x, "int64")
    made["to bool"] = gc.cast(x, "bool")
    step = gc.compile([x, y], made)
    a, b = special_pairs(dtype)
    found, expected = step(a, b), gc.evaluate(made, {x: a, y: b})
    for name in made:
        compare_special(found[name], expected[name], f"{name} {dtype}")


def arity(op: Any) -> int:
    return len(inspect.signature(op.scalar.formula).parameters)


def compare_special(found: Array, expected: Array, what: str) -> None:
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected), what)
    np.testing.assert_array_equal(np.isinf(found), np.isinf(expected), what)
    kind = expected.dtype
    close = 4 * float(np.finfo(kind).eps) if kind.kind == "f" else 0
    tiny = float(np.finfo(kind).tiny) if kind.kind == "f" else 0
    np.testing.assert_allclose(found, expected, close, tiny, err_msg=what)


REDUCTIONS = [
    "sum", "prod", "max", "min", "argmax", "argmin", "mean", "var", "std", "any", "all",
    "logsumexp", "norm", "softmax", "log_softmax",
]  # fmt: skip


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_reductions_propagate_nan_and_infinities_from_anywhere(
    axis: int, value: float
) -> None:
    x = gc.input("x", ("N", "M"))
    made = {name: getattr(gc, name)(x, axis) for name in REDUCTIONS}
    step = gc.compile([x], made)
    for n in (1, 5, 16, 33):
        a = np.arange(n * n, dtype=np.float32).reshape(n, n) / (n * n)
        np.fill_diagonal(a, value)  # each place of a row, once
        found, expected = step(a), gc.evaluate(made, {x: a})
        for name in made:
            same = np.isfinite(expected[name])
            np.testing.assert_array_equal(
                found[name][~same], expected[name][~same], f"{name} {n}"
            )
            np.testing.assert_allclose(
                found[name][same],
                expected[name][same],
                1e-5,
                1e-6,
                err_msg=f"{name} {n}",
            )


def test_opposite_infinities_in_a_row() -> None:
    x = gc.input("x", ("N", "M"))
    made = {name: getattr(gc, name)(x, 1) for name in REDUCTIONS}
    step = gc.compile([x], made)
    rows = [[np.inf, -np.inf, 1.0], [-np.inf] * 3, [np.inf] * 3, [np.nan, np.inf, 0.0]]
    a = np.array(rows, np.float32)
    found, expected = step(a), gc.evaluate(made, {x: a})
    for name in made:
        np.testing.assert_allclose(found[name], expected[name], 1e-6, err_msg=name)


def test_first_of_equal_maxima_and_nan_win_in_argmax() -> None:
    x = gc.input("x", ("N", "M"))
    step = gc.compile([x], [gc.argmax(x, 1), gc.argmax(x, 0), gc.argmax(x)])
    rng = np.random.default_rng(0)
    for n in (1, 7, 16, 17, 40):
        a = rng.integers(0, 3, (n, n)).astype(np.float32)
        if n > 5:
            a[n // 2, n - 2] = a[n // 2, n - 1] = np.nan
        for found, axis in zip(step(a), (1, 0, None), strict=True):
            np.testing.assert_array_equal(found, np.argmax(a, axis))


# --- other dtypes -------------------------------------------------------------------


def test_integers_wrap_and_divide_as_numpy() -> None:
    for dtype in ("int32", "int64"):
        x, y = gc.input("x", ("N",), dtype), gc.input("y", ("N",), dtype)
        made = [x + y, x - y, x * y, x / y, gc.maximum(x, y), -x, abs(x), gc.sum(x * y)]
        step = gc.compile([x, y], made)
        info = np.iinfo(dtype)
        a = np.array([info.max, info.min, 7, -7, 0, 3] * 7, dtype)
        b = np.array([1, -1, 2, -2, 5, info.max] * 7, dtype)
        with np.errstate(over="ignore"):
            expected = [a + b, a - b, a * b, (a / b).astype(np.float32)]
            expected += [np.maximum(a, b), -a, np.abs(a), np.sum(a * b, dtype=dtype)]
        for f, e in zip(step(a, b), expected, strict=True):
            np.testing.assert_array_equal(f, e)
        assert [f.dtype for f in step(a, b)] == [e.dtype for e in expected]


def test_float_to_int_truncates_and_saturates() -> None:
    for source in DTYPES:
        x = gc.input("x", ("N",), source)
        step = gc.compile([x], [gc.cast(x, "int32"), gc.cast(x, "int64")])
        a = np.array(
            [1.9, -1.9, 3e9, -3e9, 1e19, -1e19, np.nan, np.inf, -np.inf], source
        )
        narrow, wide = step(a)
        low, high = np.iinfo(np.int32).min, np.iinfo(np.int32).max
        assert narrow.tolist() == [1, -1, high, low, high, low, 0, high, low]
        low, high = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        ends = [high, low, 0, high, low]
        assert wide.tolist() == [1, -1, int(a[2]), int(a[3]), *ends]


def test_sum_of_bools_counts() -> None:
    x = gc.input("x", ("N", "M"), "bool")
    step = gc.compile([x], [gc.sum(x), gc.sum(x, 0), gc.sum(x, 1), gc.max(x, 1)])
    a = np.random.default_rng(0).integers(0, 2, (257, 33)).astype(bool)
    expected = [a.sum(), a.sum(0), a.sum(1), a.max(1)]
    for f, e in zip(step(a), expected, strict=True):
        np.testing.assert_array_equal(f, e)
        assert f.dtype == np.int32


def test_large_sums_keep_their_digits() -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], [gc.sum(x), gc.mean(x), gc.var(x)])
    a = np.random.default_rng(0).normal(3.0, 1.0, 1_000_003).astype(np.float32)
    wide = a.astype(np.float64)
    for f, e in zip(step(a), [wide.sum(), wide.mean(), wide.var()], strict=True):
        assert abs(f - e) <= 1e-5 * abs(e)


# --- indices that are computed ------------------------------------------------------


def test_indices_computed_from_floats_are_rounded_as_elsewhere() -> None:
    """Such an index is the same for a whole row, yet its way leads through floats."""
    i, w = gc.input("i", ("M",)), gc.input("w", ("N", "K"))
    chosen = gc.cast(i * 3.0 - 0.5, "int32")
    step = gc.compile([i, w], gc.take(gc.tanh(w), chosen, 0))
    at = np.array([0.4, -0.2, 0.7, 0.1, 5.0], np.float32)
    for k in (1, 3, 17):
        rows = np.arange(4 * k, dtype=np.float32).reshape(4, k) / 10
        index = np.trunc(at * np.float32(3) - np.float32(0.5)).astype(int)
        wrapped = np.clip(np.where(index < 0, index + 4, index), 0, 3)
        np.testing.assert_allclose(step(at, rows), np.tanh(rows[wrapped]), 1e-6)


def test_an_index_may_be_drawn_at_random() -> None:
    x = gc.input("x", ("N", 5))
    drawn = gc.cast(gc.uniform((7,), 0.0, 4.0, stream=1), "int32")
    step = gc.compile([x], [gc.take(x, drawn, 0), gc.take(x, drawn, 1), drawn])
    a = np.arange(20, dtype=np.float32).reshape(4, 5)
    rows, columns, index = step(a)
    np.testing.assert_array_equal(rows, a[index])
    np.testing.assert_array_equal(columns, a[:, index])


def test_an_index_may_be_that_of_the_largest() -> None:
    x, y = gc.input("x", ("N", "M")), gc.input("y", ("M", 3))
    best = gc.argmax(x, 1)
    step = gc.compile([x, y], [gc.take(y, best, 0), gc.take(gc.exp(y), best, 0)])
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (5, 17), (33, 40)):
        a = rng.normal(size=(n, m)).astype(np.float32)
        b = rng.normal(size=(m, 3)).astype(np.float32)
        rows = b[a.argmax(1)]
        for f, e in zip(step(a, b), [rows, np.exp(rows)], strict=True):
            np.testing.assert_allclose(f, e, 1e-6)


# --- slices of arrays that may be too short -----------------------------------------


@pytest.mark.parametrize(
    ("key", "least", "says"),
    [
        (-1, 1, "N >= 1"),
        (-3, 3, "N >= 3"),
        (2, 3, "N >= 3"),
        (slice(1, None), 1, "N >= 1"),
        (slice(None, -1), 1, "N >= 1"),
        (slice(2, -2), 4, "N >= 4"),
        (slice(-3, None), 3, "N >= 3"),
        (slice(0, 3), 3, "N >= 3"),
        (slice(1, None, 2), 0, None),
        (slice(None, None, 3), 0, None),
    ],
    ids=str,
)
def test_a_slice_says_how_long_an_axis_must_be(
    key: Any, least: int, says: str | None
) -> None:
    x = gc.input("x", ("N", 2))
    y = x[key]
    step = gc.compile([x], [y, gc.grad(gc.sum(y * y), x)])
    for n in range(8):
        a = np.arange(2 * n, dtype=np.float32).reshape(n, 2)
        if n >= least:
            found, slope = step(a)
            np.testing.assert_array_equal(found, a[key])
            expected = np.zeros_like(a)
            expected[key] = 2 * a[key]
            np.testing.assert_array_equal(slope, expected)
        elif says is not None:
            with pytest.raises(GuardError, match=says):
                step(a)
            with pytest.raises(GuardError, match=says):
                gc.evaluate(y, {x: a})
