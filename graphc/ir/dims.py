"""Sizes of tensor dimensions: all that the compiler knows and asks of ``int | Dim``.

This file is the interface. The forms are in dims_form.py, what they simplify to in
dims_rules.py, their texts in dims_text.py.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from graphc.ir.dims_form import Atom, lift, terms
from graphc.ir.dims_form import Dim as Dim
from graphc.ir.dims_form import DimError as DimError
from graphc.ir.dims_form import Size as Size
from graphc.ir.dims_form import dim as dim
from graphc.ir.dims_form import names as names
from graphc.ir.dims_form import product as product
from graphc.ir.dims_rules import divide, extreme, lower
from graphc.ir.dims_rules import maximum as maximum
from graphc.ir.dims_rules import minimum as minimum
from graphc.ir.dims_text import latex as latex
from graphc.ir.dims_text import parse_size as parse_size
from graphc.ir.dims_text import python as python
from graphc.ir.dims_text import to_sympy as to_sympy


def evaluate(size: Size, values: Mapping[str, int]) -> int:
    """Compute a size from the values of its names; the result may be negative.

    Raises:  DimError if a name has no value or a negative one, or a divisor is not > 0.
    Example:
        >>> evaluate((dim("N") + 1) // 2, {"N": 8})
        4
    """
    if isinstance(size, int):
        return size
    total = 0
    for monomial, factor in terms(size):
        for atom in monomial:
            factor *= _value(atom, values)
        total += factor
    return total


def substitute(size: Size, sizes: Mapping[str, Size]) -> Size:
    """Replace names by sizes, all at once; each replacement must be one that is >= 0.

    Example:
        >>> n, m = dim("N"), dim("M")
        >>> substitute(n * m, {"N": m, "M": n + 1})
        M*N+M
    """
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, factor in terms(size):
        total += product([factor, *(_replace(atom, sizes) for atom in monomial)])
    return total


def solve(size: Size, value: int) -> tuple[str, int] | None:
    """Find the name and its value that make a size equal to `value`.

    None unless the size is a*N + b and the N found is an integer >= 0.

    Example:
        >>> solve(2 * dim("N") + 1, 9), solve(2 * dim("N") + 1, 8)
        (('N', 4), None)
    """
    if isinstance(size, int):
        return None
    (monomial, factor), *rest = terms(size)
    if len(monomial) != 1 or len(rest) > 1 or (rest and rest[0][0]):
        return None
    found, remainder = divmod(value - (rest[0][1] if rest else 0), factor)
    if remainder or found < 0 or not isinstance(monomial[0], str):
        return None
    return monomial[0], found


def lower_bound(size: Size) -> int | None:
    """Return an integer that the size never goes below, or None if none is found.

    Example:
        >>> lower_bound(dim("N") - 1), lower_bound(dim("N") - dim("M"))
        (-1, None)
    """
    low = lower(size)
    return None if math.isinf(low) else int(low)


def upper_bound(size: Size) -> int | None:
    """Return an integer that the size never goes above, or None if none is found.

    Example:
        >>> upper_bound(dim("N") % 3 + 1), upper_bound(dim("N"))
        (3, None)
    """
    negated = lower_bound(-size)
    return None if negated is None else -negated


def is_nonnegative(size: Size) -> bool | None:
    """Tell whether a size is >= 0 always (True), never (False) or perhaps (None).

    Example:
        >>> n = dim("N")
        >>> is_nonnegative(n), is_nonnegative(-n - 1), is_nonnegative(n - 1)
        (True, False, None)
    """
    return prove_le(0, size)


def prove_le(a: Size, b: Size) -> bool | None:
    """Tell whether a <= b always (True), never (False) or perhaps (None).

    Example:
        >>> n = dim("N")
        >>> prove_le(n // 2, n), prove_le(n + 1, n), prove_le(3, n)
        (True, False, None)
    """
    if lower(b - a) >= 0:
        return True
    return False if lower(a - b) >= 1 else None


def prove_equal(a: Size, b: Size) -> bool:
    """Tell whether two sizes are surely equal: whether their canonical forms are.

    Example:
        >>> n = dim("N")
        >>> prove_equal((n - 1) // 2 + 1, (n + 1) // 2), prove_equal(n, dim("M"))
        (True, False)
    """
    return a == b


def balance(a: Size, b: Size) -> tuple[Size, Size]:
    """Return what `a >= b` says with no negative term on either side.

    Example:
        >>> n = dim("N")
        >>> balance(n - 3, 0), balance(0, 2 * n - 5)
        ((N, 3), (5, 2*N))
    """
    sides: dict[bool, Size] = {True: 0, False: 0}
    for monomial, factor in terms(a - b):
        term = product([abs(factor), *map(lift, monomial)])
        sides[factor > 0] = sides[factor > 0] + term
    return sides[True], sides[False]


def compare(a: Size, b: Size) -> Literal["lt", "le", "eq", "ge", "gt", "unknown"]:
    """Return the strongest relation that holds between two sizes whatever the names.

    Example:
        >>> n = dim("N")
        >>> compare(n, n + 1), compare(n, n // 2), compare(n, 3)
        ('lt', 'ge', 'unknown')
    """
    if a == b:
        return "eq"
    at_most, at_least = prove_le(a, b), prove_le(b, a)
    if at_most and at_least:
        return "eq"
    if at_most:
        return "lt" if at_least is False else "le"
    if at_least:
        return "gt" if at_most is False else "ge"
    return "unknown"


def _value(atom: Atom, values: Mapping[str, int]) -> int:
    if isinstance(atom, str):
        if atom not in values:
            bound = ", ".join(values) or "none"
            raise DimError(f"the size {atom} has no value; sizes bound: {bound}")
        if values[atom] < 0:
            raise DimError(f"{atom} = {values[atom]}: a size is at least 0")
        return values[atom]
    args = [evaluate(arg, values) for arg in atom.args]
    if atom.op in ("min", "max"):
        return min(args) if atom.op == "min" else max(args)
    if args[1] <= 0:
        where = ", ".join(
            f"{name}={values[name]}" for name in sorted(names(lift(atom)))
        )
        raise DimError(
            f"{atom.text}: the divisor {atom.args[1]} is {args[1]} where {where};"
            " it must be at least 1"
        )
    return args[0] // args[1] if atom.op == "//" else args[0] % args[1]


def _replace(atom: Atom, sizes: Mapping[str, Size]) -> Size:
    if isinstance(atom, str):
        return sizes.get(atom, dim(atom))
    args = [substitute(arg, sizes) for arg in atom.args]
    if atom.op in ("min", "max"):
        return extreme(atom.op, args)
    return divide(args[0], args[1])[0 if atom.op == "//" else 1]
