"""Reads that a test allows: a masked read instead of a clamped index.

    select(i - 1 >= 0 & i - 1 < n, x[max(min(i - 1, n - 1), 0)], 0)

An op that looks beside a tensor, such as `pad`, clamps its index, so that a read is
always allowed, and chooses by a test whether it counts. Along the lanes a clamped index
must be gathered. Where the test says that the index is in its range, the lanes for
which it holds may read it as it is, neighbours at once, and the others need not read.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.ir.scalar import Apply, Axis, Const, Expr, Load, linear, load, walk


def guarded(e: Expr, axis: str) -> Load | None:
    """Return what a choice reads where its test holds, free of clamps along an axis.

    None if it is no such choice, or its test does not cover what the clamps do.
    """
    if not isinstance(e, Apply) or e.prim != "select" or not axis:
        return None
    test, value, _ = e.args
    if not isinstance(value, Load):
        return None
    tests = set(_conjuncts(test))
    index = []
    for x in value.args:
        along = any(isinstance(y, Axis) and y.name == axis for y in walk(x))
        found = _unclamped(x, tests) if along and linear(x) is None else x
        if found is None:
            return None
        index.append(found)
    free = load(value.buffer, index, value.dtype)
    return free if isinstance(free, Load) and free is not value else None


def _conjuncts(test: Expr) -> Iterator[Expr]:
    if isinstance(test, Apply) and test.prim == "logical_and":
        for e in test.args:
            yield from _conjuncts(e)
    else:
        yield test


def _unclamped(e: Expr, tests: set[Expr]) -> Expr | None:
    """Return v of max(min(v, n - 1), 0), if it is affine and tests say 0 <= v < n."""
    inner = _clamp(e, "maximum", 0)
    if inner is None or not isinstance(inner, Apply) or inner.prim != "minimum":
        return None
    value, top = inner.args
    if linear(value) is None:
        return None
    above = any(_is(t, "greater_equal", value) and _is_zero(t.args[1]) for t in tests)
    below = any(_is(t, "less", value) and t.args[1] - 1 is top for t in tests)
    return value if above and below else None


def _clamp(e: Expr, prim: str, limit: int) -> Expr | None:
    if not isinstance(e, Apply) or e.prim != prim:
        return None
    value, at = e.args
    return value if isinstance(at, Const) and at.value == limit else None


def _is(test: Expr, prim: str, value: Expr) -> bool:
    return isinstance(test, Apply) and test.prim == prim and test.args[0] is value


def _is_zero(e: Expr) -> bool:
    return isinstance(e, Const) and e.value == 0
