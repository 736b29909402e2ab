"""What sizes simplify to: division, minimum, maximum, and the bounds they rest on.

Division takes out what the divisor goes into, (4*N+3)//4 => N + 3//4 => N, cancels
common factors, (6*N)//4 => N + N//2, and merges nested ones, (N//2)//3 => N//6. Minimum
and maximum drop operands that never decide. Each rule is applied until none fits, so
a form built again from its own text is the same form.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache, reduce
from operator import and_
from typing import Literal

from graphc.ir.dims_form import (
    CACHED,
    Atom,
    Compound,
    DimError,
    Monomial,
    Size,
    cancel,
    constant,
    from_terms,
    join,
    lift,
    product,
    rank,
    single,
    terms,
    without,
)

# Division. One division with remainder serves // and %, so that they agree.


@lru_cache(maxsize=CACHED)
def divide(p: Size, q: Size) -> tuple[Size, Size]:
    """Return p//q and p%q, where q is an int or a form whose values are > 0."""
    if isinstance(q, int):
        if q == 0:
            raise DimError(f"{p} is divided by zero")
        if isinstance(p, int):
            return divmod(p, q)
        if q < 0:
            quotient, remainder = divide(-p, -q)
            return quotient, -remainder
    whole, rest = _reduce(p, q)
    certain = _certain_quotient(rest, q)
    if certain is not None:
        return whole + certain, rest - certain * q
    if monomial := _common(rest, q):  # (N*M)//(K*M) => N//K
        quotient, remainder = divide(cancel(rest, 1, monomial), cancel(q, 1, monomial))
        return whole + quotient, remainder * lift(*monomial)
    factor = math.gcd(*(c for m, c in terms(rest) if m), *(c for _, c in terms(q)))
    if factor > 1:  # (2*N+1)//4 => N//2; (2*N+1)%4 => 2*(N%2)+1
        odd = constant(rest) % factor
        quotient, remainder = divide(
            cancel(rest - odd, factor, ()), cancel(q, factor, ())
        )
        return whole + quotient, factor * remainder + odd
    return whole + _quotient(rest, q), _remainder(rest, q)


def _reduce(p: Size, q: Size) -> tuple[Size, Size]:
    """Split p into whole*q + rest, with as little in the rest as q allows.

    Adding a multiple of q to p leaves the rest as it is: this is what makes
    (N+2)//2 and N//2+1 one form.
    """
    if isinstance(q, int):
        whole = {m: c // q for m, c in terms(p)}
        return from_terms(whole), from_terms({m: c % q for m, c in terms(p)})
    head, lead = terms(q)[0]
    wholes: dict[Monomial, int] = {}
    rests = dict(terms(p))
    done: set[Monomial] = set()
    while left := rests.keys() - done:
        monomial = min(left, key=rank)  # what follows changes only lower ones
        done.add(monomial)
        part, times = without(monomial, head), rests[monomial] // lead
        if part is not None and times:
            wholes[part] = times
            for m, c in terms(q):
                joined = join(part, m)
                rests[joined] = rests.get(joined, 0) - times * c
    return from_terms(wholes), from_terms(rests)


def _certain_quotient(rest: Size, q: Size) -> int | None:
    """Return rest//q where bounds alone decide it."""
    if rest == 0:
        return 0
    if isinstance(q, int):
        low, high = lower(rest), -lower(-rest)
        if math.isinf(low) or math.isinf(high):
            return None
        return int(low // q) if low // q == high // q else None
    if lower(rest) >= 0:
        return 0 if lower(q - rest) >= 1 else None
    if rest == -1 or (lower(-1 - rest) >= 0 and lower(rest + q) >= 0):
        return -1
    return None


def _common(p: Size, q: Size) -> Monomial:
    """Return the atoms, never negative, that divide both p and q."""
    shared = reduce(and_, (Counter(m) for m, _ in terms(p) + terms(q)))
    return tuple(a for a in shared.elements() if interval(lift(a))[0] >= 0)


def _quotient(p: Size, q: Size) -> Size:
    offset = constant(p)
    inner = single(p - offset)
    if isinstance(inner, Compound) and inner.op == "//":  # (a//b+k)//q
        a, b = inner.args
        return divide(a + offset * b, b * q)[0]
    return lift(Compound("//", (p, q)))


def _remainder(p: Size, q: Size) -> Size:
    unwrapped: Size = 0
    for monomial, factor in terms(p):  # (a%b+c)%q => (a+c)%q where q divides b
        unwrapped += product([factor, *(_unwrap(atom, q) for atom in monomial)])
    if unwrapped != p:
        return divide(unwrapped, q)[1]
    return lift(Compound("%", (p, q)))


def _unwrap(atom: Atom, q: Size) -> Size:
    if isinstance(atom, Compound) and atom.op == "%":
        a, b = atom.args
        if _reduce(b, q)[1] == 0:
            return a
    return lift(atom)


# Minimum and maximum.


def minimum(*sizes: Size) -> Size:
    """Return the smallest of the sizes, without those that can never be it.

    Raises:  DimError if there is none.
    Example:
        >>> from graphc.ir.dims import dim
        >>> n = dim("N")
        >>> minimum(n, n + 3), minimum(3, n, 5)
        (N, min(N,3))
    """
    return extreme("min", sizes)


def maximum(*sizes: Size) -> Size:
    """Return the largest of the sizes, without those that can never be it.

    Raises:  DimError if there is none.
    Example:
        >>> from graphc.ir.dims import dim
        >>> n = dim("N")
        >>> maximum(n, n + 3), maximum(0, n), maximum(1, n)
        (N+3, N, max(N,1))
    """
    return extreme("max", sizes)


def extreme(op: Literal["min", "max"], sizes: Iterable[Size]) -> Size:
    """Return the least or the greatest of sizes."""
    flat: set[Size] = set()
    for size in sizes:
        atom = single(size)
        if isinstance(atom, Compound) and atom.op == op:
            flat.update(atom.args)
        else:
            flat.add(size)
    if not flat:
        raise DimError(f"{op} of no sizes; give it at least one")
    kept: list[Size] = []
    for size in sorted(flat, key=lambda s: (isinstance(s, int), str(s))):
        if not any(_beats(op, other, size) for other in kept):
            kept = [k for k in kept if not _beats(op, size, k)] + [size]
    return kept[0] if len(kept) == 1 else lift(Compound(op, tuple(kept)))


def _beats(op: str, a: Size, b: Size) -> bool:
    return lower(b - a if op == "min" else a - b) >= 0


# Bounds.


@lru_cache(maxsize=CACHED)
def interval(size: Size) -> tuple[float, float]:
    """Bound a size by interval arithmetic; ints, or infinities where unbounded."""
    low: float = 0
    high: float = 0
    for monomial, factor in terms(size):
        ends: tuple[float, float] = factor, factor
        for atom in monomial:
            ends = _times(ends, _atom_interval(atom))
        low, high = low + ends[0], high + ends[1]
    return low, high


def _times(a: tuple[float, float], b: tuple[float, float]) -> tuple[float, float]:
    corners = [x * y if x and y else 0 for x in a for y in b]  # never 0 * inf
    return min(corners), max(corners)


def _atom_interval(atom: Atom) -> tuple[float, float]:
    if isinstance(atom, str):
        return 0, math.inf
    lows, highs = zip(*map(interval, atom.args), strict=True)
    if atom.op == "min":
        return min(lows), min(highs)
    if atom.op == "max":
        return max(lows), max(highs)
    (low, low_q), (high, high_q) = lows, highs
    if atom.op == "%":
        return 0, min(high_q - 1, high if low >= 0 else math.inf)
    low_q = max(low_q, 1)
    ends = [_floor(x, y) for x in (low, high) for y in (low_q, max(high_q, 1))]
    return min(ends), max(ends)


def _floor(a: float, b: float) -> float:
    if math.isinf(b):
        return 0 if a >= 0 else -1
    return a if math.isinf(a) else a // b


@lru_cache(maxsize=CACHED)
def lower(size: Size, effort: int = 4) -> float:
    """Return a value that the size never goes below; sharper than `interval`.

    Atoms that stand alone are replaced, one after the other, by their own bounds
    in names, so that N - N//2 and N - min(N, M) are seen to be >= 0.
    """
    best = interval(size)[0]
    for monomial, factor in terms(size) if effort else ():
        if len(monomial) == 1 and isinstance(monomial[0], Compound):
            others = size - factor * lift(monomial[0])
            for scale, bound in _relaxed(monomial[0], factor > 0):
                low = lower(others * scale + factor * bound, effort - 1)
                if not math.isinf(low):
                    best = max(best, -(-low // scale))
            break
    return best


def _relaxed(atom: Compound, below: bool) -> Iterator[tuple[int, Size]]:
    """Yield (scale, bound): scale*atom >= bound if `below`, else <= bound."""
    end = _atom_interval(atom)[0 if below else 1]
    if not math.isinf(end):
        yield 1, int(end)
    if atom.op in ("min", "max"):
        if below == (atom.op == "max"):
            yield from ((1, arg) for arg in atom.args)
        return
    p, q = atom.args
    if atom.op == "%" and not below:
        yield 1, q - 1
    if not below and interval(p)[0] >= 0:
        yield 1, p
    if atom.op == "//" and isinstance(q, int):
        yield q, p - (q - 1) if below else p
