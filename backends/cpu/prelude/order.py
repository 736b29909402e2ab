"""Sorting lines of an array, and searching in sorted ones.

Elements are compared by keys, int64 numbers in the same order: -0.0 is 0.0, and NaN is
above all, as in NumPy's order. A line is sorted in scratch, by merging runs of keys and
their indices from one half of it to the other; equal keys keep their order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit
from numba.core import types
from numba.core.extending import intrinsic

from .plain import at, get, put, share

RUN = 12  # so many elements are sorted by insertion before runs are merged
FEW = 48  # so many largest elements are kept in order while a line is read

_WORD = ir.IntType(64)
_LARGEST = ir.Constant(_WORD, 2**63 - 1)


@intrinsic
def _order_key(typingctx, ptr, i):  # type: ignore[no-untyped-def]
    """Return an int64 that stands in the order of keys where ptr[i] stands."""
    if not isinstance(ptr, types.CPointer):
        return None
    dtype = ptr.dtype

    def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
        value = builder.load(builder.gep(values[0], [values[1]]))
        if dtype == types.boolean:
            return builder.zext(value, _WORD)
        if not isinstance(dtype, types.Float):
            return value if value.type == _WORD else builder.sext(value, _WORD)
        if value.type != ir.DoubleType():
            value = builder.fpext(value, ir.DoubleType())
        value = builder.fadd(value, ir.Constant(ir.DoubleType(), 0.0))  # -0.0 is 0.0
        bits = builder.bitcast(value, _WORD)
        mirrored = builder.xor(bits, _LARGEST)  # negative numbers descend
        negative = builder.icmp_signed("<", bits, ir.Constant(_WORD, 0))
        key = builder.select(negative, mirrored, bits)
        is_nan = builder.fcmp_unordered("uno", value, value)
        return builder.select(is_nan, _LARGEST, key)

    return types.int64(ptr, types.int64), codegen


order_key: Any = _order_key


@njit(inline="always")
def sort_keys(keys: Any, which: Any, n: Any) -> Any:
    """Sort n keys and the numbers that go with them; return where they are then.

    Behind each array of n there is room for as many.
    """
    for start in range(0, n, RUN):
        for i in range(start + 1, min(start + RUN, n)):
            key, index = keys[i], which[i]
            j = i
            while j > start and keys[j - 1] > key:
                keys[j] = keys[j - 1]
                which[j] = which[j - 1]
                j -= 1
            keys[j] = key
            which[j] = index
    source, target = 0, n
    width = RUN
    while width < n:
        for start in range(0, n, 2 * width):
            middle = min(start + width, n)
            end = min(middle + width, n)
            i, j = start, middle
            for k in range(start, end):
                left = i < middle
                if left and j < end:
                    left = keys[source + i] <= keys[source + j]
                chosen = source + (i if left else j)
                keys[target + k] = keys[chosen]
                which[target + k] = which[chosen]
                i += left
                j += not left
        source, target = target, source
        width *= 2
    return source


@njit(inline="always")
def sort(
    x: Any,
    values: Any,
    indices: Any,
    outer: Any,
    length: Any,
    inner: Any,
    descending: Any,
    scratch: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store each line in order, and the index that each element had before."""
    keys, which = scratch, at(scratch, 2 * length)
    flip = -(descending != 0)
    first, last = share(outer * inner, t, nt)
    for u in range(first, last):
        start = u // inner * length * inner + u % inner
        for i in range(length):
            keys[i] = order_key(x, start + i * inner) ^ flip
            which[i] = i
        begin = sort_keys(keys, which, length)
        for i in range(length):
            index = which[begin + i]
            put(values, start + i * inner, get(x, start + index * inner))
            put(indices, start + i * inner, index)


@njit(inline="always")
def top_k(
    x: Any,
    values: Any,
    indices: Any,
    outer: Any,
    length: Any,
    inner: Any,
    k: Any,
    scratch: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store the k largest elements of each line, in descending order, and where."""
    keys, which = scratch, at(scratch, 2 * length)
    few = k <= FEW
    first, last = share(outer * inner * (k > 0), t, nt)
    for u in range(first, last):
        start = u // inner * length * inner + u % inner
        begin = 0
        for i in range(length):
            key = ~order_key(x, start + i * inner)
            j = i
            if few:
                # The best so far stand in order; one that is no better is passed over.
                if i >= k and key >= keys[k - 1]:
                    continue
                j = min(i, k - 1)
                while j > 0 and keys[j - 1] > key:
                    keys[j] = keys[j - 1]
                    which[j] = which[j - 1]
                    j -= 1
            keys[j] = key
            which[j] = i
        if not few:
            begin = sort_keys(keys, which, length)
        target = u // inner * k * inner + u % inner
        for i in range(k):
            index = which[begin + i]
            put(values, target + i * inner, get(x, start + index * inner))
            put(indices, target + i * inner, index)


@njit(inline="always")
def searchsorted(
    a: Any,
    v: Any,
    found: Any,
    outer: Any,
    length: Any,
    queries: Any,
    right: Any,
    t: Any,
    nt: Any,
) -> None:
    """Store for each query the place in its sorted line where it keeps the order."""
    first, last = share(outer * queries, t, nt)
    for u in range(first, last):
        start = u // queries * length
        key = order_key(v, u)
        low, high = 0, length
        while low < high:
            middle = (low + high) // 2
            other = order_key(a, start + middle)
            before = other <= key if right != 0 else other < key
            if before:
                low = middle + 1
            else:
                high = middle
        put(found, u, low)
