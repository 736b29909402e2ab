"""Scans along an axis: running sums, products, extrema, linear recurrences.

An array is seen as outer x length x inner elements; each of the outer x inner lines
along the middle axis is scanned by itself, so shares are shares of lines. A scan that
is reversed begins at a line's end.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from .plain import get, put, share


@njit(inline="always")
def line(u: Any, length: Any, inner: Any, reverse: Any) -> Any:
    """Return where line u begins, and the step along it."""
    start = u // inner * length * inner + u % inner
    if reverse != 0:
        return start + (length - 1) * inner, -inner
    return start, inner


@njit(inline="always")
def cumsum(
    x: Any, y: Any, outer: Any, length: Any, inner: Any, reverse: Any, t: Any, nt: Any
) -> None:
    """Store at each place of each line the sum of the elements so far."""
    first, last = share(outer * inner * (length > 0), t, nt)
    for u in range(first, last):
        at, step = line(u, length, inner, reverse)
        total = get(x, at)
        put(y, at, total)
        for _ in range(1, length):
            at += step
            total = total + get(x, at)
            put(y, at, total)


@njit(inline="always")
def cumprod(
    x: Any, y: Any, outer: Any, length: Any, inner: Any, reverse: Any, t: Any, nt: Any
) -> None:
    """Store at each place of each line the product of the elements so far."""
    first, last = share(outer * inner * (length > 0), t, nt)
    for u in range(first, last):
        at, step = line(u, length, inner, reverse)
        total = get(x, at)
        put(y, at, total)
        for _ in range(1, length):
            at += step
            total = total * get(x, at)
            put(y, at, total)


@njit(inline="always")
def linear_recurrence(
    a: Any,
    b: Any,
    y: Any,
    outer: Any,
    length: Any,
    inner: Any,
    reverse: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store y[i] = a[i] y[i-1] + b[i] along each line; y is 0 before it begins."""
    first, last = share(outer * inner * (length > 0), t, nt)
    for u in range(first, last):
        at, step = line(u, length, inner, reverse)
        total = get(b, at)
        put(y, at, total)
        for _ in range(1, length):
            at += step
            total = get(a, at) * total + get(b, at)
            put(y, at, total)


@njit(inline="always")
def cumextremum(
    x: Any,
    y: Any,
    where: Any,
    outer: Any,
    length: Any,
    inner: Any,
    reverse: Any,
    least: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store the largest, or least, element so far and its first index; NaN stays."""
    first, last = share(outer * inner * (length > 0), t, nt)
    for u in range(first, last):
        at, step = line(u, length, inner, reverse)
        best = get(x, at)
        found = (length - 1) * (reverse != 0)
        for i in range(length):
            value = get(x, at)
            worse = value >= best if least != 0 else value <= best
            if best == best and not worse:  # NaN is unequal to itself
                best = value
                found = length - 1 - i if reverse != 0 else i
            put(y, at, best)
            put(where, at, found)
            at += step
