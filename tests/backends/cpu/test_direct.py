"""The short way to LLVM means what Numba's front end means, on all that it takes."""

from __future__ import annotations

import itertools
import linecache
import operator
import sys
import tempfile
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import pytest
from ops_table import CASES, Case, batch

import graphc as gc
from graphc.backends.cpu.prelude import direct, frontend, native
from graphc.backends.cpu.prelude.expressions import Beyond
from graphc.backends.cpu.prelude.kernel import Kernel, kernel
from graphc.backends.cpu.prelude.vector import i64, put
from graphc.backends.shared import files
from graphc.ir.op import OPS, Routine

Array = np.ndarray[Any, Any]
Way = Callable[..., Any]


def numbers(n: int, *given: int) -> tuple[Array, Array]:
    """Return room for n results, and a table: its address, then numbers."""
    room = np.zeros(n, np.int64)
    return room, np.array([room.ctypes.data, *given], np.int64)


@kernel
def arithmetic(args, t, nt):  # type: ignore[no-untyped-def]
    """Divisions with all signs, and operations that wrap."""
    out = i64(args, 0)
    a, b = args[1], args[2]
    put(out, 0, a // b)
    put(out, 1, a % b)
    put(out, 2, a // 8)
    put(out, 3, a % 8)
    put(out, 4, a // 7)
    put(out, 5, a % 7)
    put(out, 6, a // -7)
    put(out, 7, a % -7)
    put(out, 8, a * b - (a + b))
    put(out, 9, (a & b) | (a ^ 5))
    put(out, 10, -a)
    put(out, 11, ~b)
    put(out, 12, min(a, b) * 10 + max(a, b))


@pytest.mark.parametrize(
    ("a", "b"),
    list(itertools.product((-9, -8, -7, -1, 0, 1, 7, 8, 100), (-3, -1, 1, 2, 7))),
)
def test_integers_are_pythons(a: int, b: int) -> None:
    room, table = numbers(13, a, b)
    arithmetic(table)
    assert room.tolist() == [
        a // b, a % b, a // 8, a % 8, a // 7, a % 7, a // -7, a % -7,
        a * b - (a + b), (a & b) | (a ^ 5), -a, ~b, min(a, b) * 10 + max(a, b),
    ]  # fmt: skip


def test_a_division_by_zero_gives_zero() -> None:
    room, table = numbers(13, 5, 0)
    arithmetic(table)
    assert room[:2].tolist() == [0, 0]


@kernel
def asks_python(args, t, nt):  # type: ignore[no-untyped-def]
    """Call a function that is no intrinsic."""
    put(i64(args, 0), 0, steps_of(args[1]))


def steps_of(n: Any) -> Any:
    return 1


def test_what_calls_python_goes_to_numba() -> None:
    with pytest.raises(Beyond, match="Call in line"):
        direct.lower(asks_python.function, "pii", "", "f")


@kernel
def branches(args, t, nt):  # type: ignore[no-untyped-def]
    """Loops, branches, conditions, and variables that change."""
    out = i64(args, 0)
    n = args[1]
    total, steps = 0, 0
    for i in range(n):
        if i % 2 == 0 and (i > 3 or n < 4):
            total += i
        elif not i % 3:
            total -= 1
        else:
            for j in range(i, -3, -2):
                total += j if j < 2 else 1
    put(out, 0, total)
    while total > 0 and steps < 5:
        total -= 3
        steps += 1
    put(out, 1, steps)
    first, second = 1, 2
    first, second = second, first
    put(out, 2, first * 10 + second)


def in_python(kernel: Kernel, n: int, *given: int) -> list[int]:
    """Return what Python itself makes of a kernel's source: n results."""
    room = [0] * n
    known = {"i64": lambda table, i: table[i], "put": operator.setitem}
    function = FunctionType(kernel.function.__code__, known)
    function([room, *given], 0, 1)
    return room


@pytest.mark.parametrize("n", [0, 1, 2, 3, 5, 8, 30])
def test_loops_and_branches_are_pythons(n: int) -> None:
    room, table = numbers(3, n)
    branches(table)
    assert room.tolist() == in_python(branches, 3, n)
    assert room[2] == 21
    assert direct.lower(branches.function, "pii", "", "f")


def test_a_source_that_has_changed_is_not_believed(tmp_path: Any) -> None:
    path = tmp_path / "changing.py"
    path.write_text("def f(args, t, nt):\n    a = args[0] + 1\n")
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    assert direct.lower(space["f"], "pii", "", "f")
    path.write_text("def f(args, t, nt):\n    a = args[0] + 2\n")
    linecache.clearcache()
    with pytest.raises(Beyond, match="has changed"):
        direct.lower(space["f"], "pii", "", "g")


# --- the table of ops ---------------------------------------------------------------

ROUTINES = {op.lower.name for op in OPS.values() if isinstance(op.lower, Routine)}


def values(
    cases: list[Case], dtype: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> list[Array]:
    """Compute cases by kernels that are compiled one way, no cache having them."""
    taken: list[str] = []

    def numbas(function: Any, *asked: Any) -> Any:
        taken.append(function.__name__)
        return lower(function, *asked)

    def refuse(*asked: Any) -> Any:
        raise Beyond

    lower = frontend.lower
    with tempfile.TemporaryDirectory() as folder, monkeypatch.context() as m:
        m.setenv("GRAPHC_CACHE_DIR", folder)
        m.setattr(sys.modules[Kernel.__module__], "_LOADED", {})
        m.setattr(files, "_modules", {})
        m.setattr(frontend, "lower", numbas)
        if way == "numba":
            m.setattr(direct, "lower", refuse)
        both = batch(cases, dtype)
        step = gc.compile(list(both.inputs), list(both.outputs))
        found = step(*both.arrays({"N": 5, "M": 3}))
    if way == "numba":
        assert taken
    else:
        assert {name.partition("_")[2] for name in taken} <= ROUTINES
    return found


QUICK = {"argmax", "gather", "matmul"}


REST = sorted(
    op for op in {c.op for c in CASES} - QUICK if not isinstance(OPS[op].lower, Routine)
)


def check(op: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [c for c in CASES if c.op == op]
    ways = (values(cases, dtype, monkeypatch, way) for way in ("direct", "numba"))
    for a, b in zip(*ways, strict=True):
        eps = np.finfo(a.dtype).eps if a.dtype.kind == "f" else 0.0
        np.testing.assert_allclose(a, b, rtol=8 * eps, atol=8 * eps)


@pytest.mark.parametrize("op", sorted(QUICK))
def test_kernels_mean_what_numba_makes_of_them(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(op, "float32", monkeypatch)


@pytest.mark.long
@pytest.mark.parametrize("op", REST)
def test_all_kernels_mean_what_numba_makes_of_them(
    op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(op, "float64", monkeypatch)


def test_a_kernel_that_numba_refuses_too_says_why() -> None:
    def wrong(args: Any, t: Any, nt: Any) -> None:
        put(args, 0, "text")

    with pytest.raises(native.NativeError, match="Numba cannot compile it"):
        Kernel(wrong).module()
