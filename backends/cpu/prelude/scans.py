"""Scans along an axis: running sums, products, extrema, linear recurrences.

An array is seen as outer x length x inner elements; each of the outer x inner lines
along the middle axis is scanned by itself, so shares are shares of lines. A scan that
is reversed begins at a line's end.

Lines that lie side by side go forward together, a row of elements after the other, so
that memory is read in the order in which it lies. A line alone keeps its total in a
register.
"""

from __future__ import annotations

from typing import Any

from numba import njit

from .plain import get, put, share


@njit(inline="always")
def band(u: Any, last: Any, length: Any, inner: Any, reverse: Any) -> Any:
    """Return where line u begins, how many go with it, and the step along them."""
    column = u % inner
    start = u // inner * length * inner + column
    width = min(inner - column, last - u)
    if reverse != 0:
        return start + (length - 1) * inner, width, -inner
    return start, width, inner


@njit(inline="always")
def cumsum(
    x: Any, y: Any, outer: Any, length: Any, inner: Any, reverse: Any, t: Any, nt: Any
) -> None:
    """Store at each place of each line the sum of the elements so far."""
    u, last = share(outer * inner * (length > 0), t, nt)
    while u < last:
        at, width, step = band(u, last, length, inner, reverse)
        for k in range(at, at + width):
            put(y, k, get(x, k))
        total = get(x, at)
        for _ in range(1, length):
            at += step
            if width == 1:
                total = total + get(x, at)
                put(y, at, total)
                continue
            for k in range(at, at + width):
                put(y, k, get(y, k - step) + get(x, k))
        u += width


@njit(inline="always")
def cumprod(
    x: Any, y: Any, outer: Any, length: Any, inner: Any, reverse: Any, t: Any, nt: Any
) -> None:
    """Store at each place of each line the product of the elements so far."""
    u, last = share(outer * inner * (length > 0), t, nt)
    while u < last:
        at, width, step = band(u, last, length, inner, reverse)
        for k in range(at, at + width):
            put(y, k, get(x, k))
        total = get(x, at)
        for _ in range(1, length):
            at += step
            if width == 1:
                total = total * get(x, at)
                put(y, at, total)
                continue
            for k in range(at, at + width):
                put(y, k, get(y, k - step) * get(x, k))
        u += width


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
    u, last = share(outer * inner * (length > 0), t, nt)
    while u < last:
        at, width, step = band(u, last, length, inner, reverse)
        for k in range(at, at + width):
            put(y, k, get(b, k))
        total = get(b, at)
        for _ in range(1, length):
            at += step
            if width == 1:
                total = get(a, at) * total + get(b, at)
                put(y, at, total)
                continue
            for k in range(at, at + width):
                put(y, k, get(a, k) * get(y, k - step) + get(b, k))
        u += width


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
    u, last = share(outer * inner * (length > 0), t, nt)
    while u < last:
        at, width, step = band(u, last, length, inner, reverse)
        for k in range(at, at + width):
            put(y, k, get(x, k))
            put(where, k, (length - 1) * (reverse != 0))
        for i in range(1, length):
            at += step
            for k in range(at, at + width):
                value, best = get(x, k), get(y, k - step)
                worse = value >= best if least != 0 else value <= best
                if best != best or worse:  # NaN is unequal to itself
                    put(y, k, best)
                    put(where, k, get(where, k - step))
                else:
                    put(y, k, value)
                    put(where, k, length - 1 - i if reverse != 0 else i)
        u += width
