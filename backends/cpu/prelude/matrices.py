"""Linear algebra on batches of matrices, each by LAPACK.

Shares are shares of the batch. LAPACK sees a row-major matrix as its transpose, so its
options say the opposite of what they mean here. A matrix that it cannot factor gives
NaN. What LAPACK is told stands in scratch, a word for each number:

    0 n    1 columns    2 info    3, 4, 5 letters    8... pivots, then a matrix
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from .plain import (
    at,
    call_getrf,
    call_getrs,
    call_potrf,
    call_trtrs,
    get,
    half,
    like,
    put,
    share,
)

NAN = math.nan
N, T, U, L = ord("N"), ord("T"), ord("U"), ord("L")


@njit(inline="always")
def place_columns(b: Any, start: Any, target: Any, n: Any, columns: Any) -> None:
    """Copy right-hand sides, row by row, to where they stand column by column."""
    for i in range(n):
        for j in range(columns):
            put(target, j * n + i, get(b, start + i * columns + j))


@njit(inline="always")
def store_rows(
    source: Any, x: Any, start: Any, n: Any, columns: Any, failed: Any
) -> None:
    """Copy solutions back row by row; NaN if there are none."""
    for i in range(n):
        for j in range(columns):
            value = get(source, j * n + i)
            put(x, start + i * columns + j, NAN if failed else value)


@njit(inline="always")
def solve(
    a: Any,
    b: Any,
    x: Any,
    batch: Any,
    n: Any,
    columns: Any,
    scratch: Any,
    getrf: Any,
    getrs: Any,
    t: Any,
    nt: Any,
) -> None:
    """Solve a x = b for each matrix of the batch."""
    order, width, info = at(scratch, 0), at(scratch, 1), at(scratch, 2)
    trans, pivots = at(scratch, 3), at(scratch, 8)
    matrix = like(at(scratch, 8 + n), a)
    sides = like(at(scratch, 8 + n + n * n), a)
    put(order, 0, n)
    put(width, 0, columns)
    put(trans, 0, T)
    first, last = share(batch * (n > 0) * (columns > 0), t, nt)
    for u in range(first, last):
        for i in range(n * n):
            put(matrix, i, get(a, u * n * n + i))
        place_columns(b, u * n * columns, sides, n, columns)
        put(info, 0, 0)
        call_getrf(getrf, order, order, matrix, order, pivots, info)
        failed = half(info, 0) != 0
        if not failed:
            call_getrs(
                getrs, trans, order, width, matrix, order, pivots, sides, order, info
            )
        store_rows(sides, x, u * n * columns, n, columns, failed)


@njit(inline="always")
def solve_triangular(
    a: Any,
    b: Any,
    x: Any,
    batch: Any,
    n: Any,
    columns: Any,
    lower: Any,
    trans: Any,
    unit: Any,
    scratch: Any,
    trtrs: Any,
    t: Any,
    nt: Any,
) -> None:
    """Solve with the lower or upper triangle of each matrix, or its transpose."""
    order, width, info = at(scratch, 0), at(scratch, 1), at(scratch, 2)
    uplo, turned, diag = at(scratch, 3), at(scratch, 4), at(scratch, 5)
    sides = like(at(scratch, 8 + n + n * n), a)
    put(order, 0, n)
    put(width, 0, columns)
    put(uplo, 0, U if lower != 0 else L)
    put(turned, 0, N if trans != 0 else T)
    put(diag, 0, U if unit != 0 else N)
    first, last = share(batch * (n > 0) * (columns > 0), t, nt)
    for u in range(first, last):
        matrix = at(a, u * n * n)
        place_columns(b, u * n * columns, sides, n, columns)
        put(info, 0, 0)
        call_trtrs(
            trtrs, uplo, turned, diag, order, width, matrix, order, sides, order, info
        )
        store_rows(sides, x, u * n * columns, n, columns, half(info, 0) != 0)


@njit(inline="always")
def cholesky(
    a: Any, y: Any, batch: Any, n: Any, scratch: Any, potrf: Any, t: Any, nt: Any
) -> None:
    """Store the lower factor of the matrix whose lower triangle each one holds."""
    order, info, uplo = at(scratch, 0), at(scratch, 2), at(scratch, 3)
    put(order, 0, n)
    put(uplo, 0, U)
    first, last = share(batch * (n > 0), t, nt)
    for u in range(first, last):
        matrix = at(y, u * n * n)
        for i in range(n):
            for j in range(n):
                value = get(a, (u * n + i) * n + j)
                put(matrix, i * n + j, value if j <= i else 0.0)
        put(info, 0, 0)
        call_potrf(potrf, uplo, order, matrix, order, info)
        if half(info, 0) != 0:
            for i in range(n * n):
                put(matrix, i, NAN)


@njit(inline="always")
def factor(a: Any, u: Any, n: Any, scratch: Any, getrf: Any) -> Any:
    """Factor matrix u in scratch; return the sign of its permutation."""
    order, info, pivots = at(scratch, 0), at(scratch, 2), at(scratch, 8)
    matrix = like(at(scratch, 8 + n), a)
    for i in range(n * n):
        put(matrix, i, get(a, u * n * n + i))
    put(order, 0, n)
    put(info, 0, 0)
    sign = 1
    if n > 0:
        call_getrf(getrf, order, order, matrix, order, pivots, info)
    for i in range(n):
        if half(pivots, i) != i + 1:
            sign = -sign
    return sign


@njit(inline="always")
def det(
    a: Any, y: Any, batch: Any, n: Any, scratch: Any, getrf: Any, t: Any, nt: Any
) -> None:
    """Store the determinant of each matrix."""
    factors = like(at(scratch, 8 + n), a)
    first, last = share(batch, t, nt)
    for u in range(first, last):
        put(y, u, factor(a, u, n, scratch, getrf))
        for i in range(n):
            put(y, u, get(y, u) * get(factors, i * n + i))


@njit(inline="always")
def slogdet(
    a: Any,
    sign: Any,
    y: Any,
    batch: Any,
    n: Any,
    scratch: Any,
    getrf: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store the sign of each determinant, and the logarithm of its magnitude."""
    factors = like(at(scratch, 8 + n), a)
    first, last = share(batch, t, nt)
    for u in range(first, last):
        positive = factor(a, u, n, scratch, getrf)
        put(y, u, 0.0)
        for i in range(n):
            value = get(factors, i * n + i)
            if value < 0:
                positive = -positive
            if value == 0:
                positive = 0
            size = math.log(abs(value)) if value != 0 else -math.inf
            put(y, u, get(y, u) + size)
        put(sign, u, positive)
