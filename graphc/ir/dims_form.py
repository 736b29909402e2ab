"""Sizes of tensor dimensions: integers, or canonical forms over named integers.

A form is a polynomial with integer coefficients over *atoms*: a name (an unknown
integer >= 0), or ``p//q``, ``p%q``, ``min(...)``, ``max(...)`` of forms. Every
operation returns the canonical form, so equal forms are equal sizes; one that comes out
constant is a plain int, never a Dim. The converse is not decidable in general: what
holds only by a deeper identity, such as 2*(N//2) + N%2 and N, stays two forms.

Two promises about the values of names make the rules sound, and are checked when sizes
are bound (see `evaluate`): a name is >= 0, and a divisor that holds a name is > 0. So
``N*M//M`` is N: where M is 0, the size had no meaning to begin with.

What forms simplify to is in dims_rules.py; import all of it from dims.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from operator import index
from typing import Literal, SupportsIndex, TypeAlias

from graphc.errors import GraphcError

MAX_DEGREE = 256
CACHED = 1 << 14


class DimError(GraphcError, ValueError):
    """Say that a size is malformed, unbound, or divides by zero."""


class Dim:
    """Hold a size that depends on at least one name; made by `dim` and arithmetic.

    Immutable and hashable. It has no truth value and no order: ask `prove_le` instead.

    Example:
        >>> n, m = dim("N"), dim("M")
        >>> 2 * (n + m) - m
        M+2*N
        >>> (4 * n + 3) // 4 == n, n - n
        (True, 0)
    """

    __slots__ = ("_hash", "_terms", "_text")
    __array_ufunc__ = None  # a NumPy integer on the left leaves the operation to us

    _terms: tuple[Term, ...]
    _text: str

    def __init__(self, terms: tuple[Term, ...]) -> None:
        """Keep terms that are already canonical."""
        self._terms = terms
        self._hash = hash(terms)
        self._text = ""

    def names(self) -> frozenset[str]:
        """Return the names that the size depends on.

        Example:
            >>> sorted((dim("N") // dim("M")).names())
            ['M', 'N']
        """
        return names(self)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Dim):
            return NotImplemented
        return self._hash == other._hash and self._terms == other._terms

    def __bool__(self) -> bool:
        raise DimError(
            f"the size {self} has no truth value before it is bound;"
            " compare with prove_equal or prove_le"
        )

    def __str__(self) -> str:
        self._text = self._text or format_size(self)
        return self._text

    __repr__ = __str__

    def __reduce__(self) -> tuple[type[Dim], tuple[tuple[Term, ...]]]:
        return Dim, (self._terms,)

    def __add__(self, other: Size) -> Size:
        return _binary(_add, self, other)

    def __sub__(self, other: Size) -> Size:
        return _binary(lambda a, b: _add(a, _mul(b, -1)), self, other)

    def __rsub__(self, other: Size) -> Size:
        return _binary(_add, -self, other)

    def __mul__(self, other: Size) -> Size:
        return _binary(_mul, self, other)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> Size:
        return _mul(self, -1)

    def __pow__(self, power: int) -> Size:
        if not 0 <= power <= MAX_DEGREE:
            raise DimError(f"({self})**{power}: a power is between 0 and {MAX_DEGREE}")
        return product([self] * power)

    def __floordiv__(self, other: Size) -> Size:
        return _binary(_quotient, self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return _binary(lambda q, p: _quotient(p, q), self, other)

    def __mod__(self, other: Size) -> Size:
        return _binary(_remainder, self, other)

    def __rmod__(self, other: Size) -> Size:
        return _binary(lambda q, p: _remainder(p, q), self, other)


class Compound:
    """Hold an atom that is not a name: an operator and its canonical operands."""

    __slots__ = ("args", "op", "text")

    def __init__(self, op: Operator, args: tuple[Size, ...]) -> None:
        """Keep operands that are already canonical."""
        self.op = op
        self.args = args
        if op in ("min", "max"):
            self.text = f"{op}({','.join(map(str, args))})"
        else:
            self.text = op.join(map(_operand, args))

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Compound) and self.text == other.text

    def __reduce__(self) -> tuple[type[Compound], tuple[Operator, tuple[Size, ...]]]:
        return Compound, (self.op, self.args)


Operator: TypeAlias = Literal["//", "%", "min", "max"]
Size: TypeAlias = int | Dim
Atom: TypeAlias = str | Compound
Monomial: TypeAlias = tuple[Atom, ...]  # sorted, repeated for a power; () is 1
Term: TypeAlias = tuple[Monomial, int]


# Making sizes.


@lru_cache(maxsize=CACHED)
def dim(name: str) -> Dim:
    """Return the size called `name`, an unknown integer >= 0.

    Raises:  DimError if the name is no ASCII identifier, or is min or max.
    Example:
        >>> dim("N")
        N
    """
    if not (name.isascii() and name.isidentifier()) or name in ("min", "max"):
        raise DimError(
            f"{name!r} cannot name a dimension; use an ASCII identifier"
            " other than min and max, such as 'N'"
        )
    return Dim((((name,), 1),))


def product(sizes: Iterable[Size]) -> Size:
    """Multiply sizes; the product of none is 1.

    Example:
        >>> product([2, dim("N"), 3, dim("M")])
        6*M*N
    """
    result: Size = 1
    for size in sizes:
        result = result * size
    return result


def names(size: Size) -> frozenset[str]:
    """Return the names that a size depends on.

    Example:
        >>> names(7), sorted(names(dim("N") * dim("M")))
        (frozenset(), ['M', 'N'])
    """
    found: set[str] = set()
    for atom in (atom for monomial, _ in terms(size) for atom in monomial):
        if isinstance(atom, str):
            found.add(atom)
        else:
            found.update(*map(names, atom.args))
    return frozenset(found)


def format_size(
    size: Size, rename: Callable[[str], str] | None = None, space: str = ""
) -> str:
    """Write a size as text, its names mapped by `rename`, with `space` at operators.

    Example:
        >>> format_size(2 * dim("N") + 1, str.lower, " ")
        '2 * n + 1'
    """
    if isinstance(size, int):
        return str(size)
    text = ""
    for monomial, factor in size._terms:
        if text:
            text += f"{space}{'-' if factor < 0 else '+'}{space}"
        elif factor < 0:
            text = "-"
        parts = [] if abs(factor) == 1 and monomial else [str(abs(factor))]
        # Alone, p//q needs no brackets, save after a first sign: -p//q is (-p)//q.
        bare = len(monomial) == 1 and not parts and text != "-"
        for atom in dict.fromkeys(monomial):
            power = monomial.count(atom)
            part = _atom_text(atom, rename, space)
            if not bare and isinstance(atom, Compound) and atom.op in ("//", "%"):
                part = f"({part})"
            parts.append(part if power == 1 else f"{part}**{power}")
        text += f"{space}*{space}".join(parts)
    return text


# The parts of a form.


def _quotient(p: Size, q: Size) -> Size:
    from graphc.ir.dims_rules import divide  # which is written in terms of forms

    return divide(p, q)[0]


def _remainder(p: Size, q: Size) -> Size:
    from graphc.ir.dims_rules import divide  # which is written in terms of forms

    return divide(p, q)[1]


def _binary(operation: Callable[[Size, Size], Size], a: Size, b: object) -> Size:
    """Apply `operation` if b is a size or an integer of any library."""
    if type(b) is int or isinstance(b, Dim):
        return operation(a, b)
    return operation(a, index(b)) if isinstance(b, SupportsIndex) else NotImplemented


def terms(size: Size) -> tuple[Term, ...]:
    """Return (monomial, coefficient) pairs, highest degree first, the constant last.

    Example:
        >>> terms(2 * dim("N") + 1)
        ((('N',), 2), ((), 1))
    """
    if isinstance(size, Dim):
        return size._terms
    return (((), size),) if size else ()


def constant(size: Size) -> int:
    """Return the term without names."""
    parts = terms(size)
    return parts[-1][1] if parts and not parts[-1][0] else 0


def single(size: Size) -> Atom | None:
    """Return the atom that is the whole size."""
    if isinstance(size, Dim) and len(size._terms) == 1:
        monomial, factor = size._terms[0]
        return monomial[0] if len(monomial) == 1 and factor == 1 else None
    return None


def lift(*atoms: Atom) -> Size:
    """Return the size that is a product of sorted atoms."""
    return Dim(((atoms, 1),)) if atoms else 1


def _operand(
    size: Size, rename: Callable[[str], str] | None = None, space: str = ""
) -> str:
    """Write an operand of // or %, in brackets unless it is one word or call."""
    text = format_size(size, rename, space) if rename or space else str(size)
    atom = single(size)
    plain = isinstance(atom, str) or (atom and atom.op in ("min", "max"))
    return text if plain or (isinstance(size, int) and size >= 0) else f"({text})"


def _atom_text(atom: Atom, rename: Callable[[str], str] | None, space: str) -> str:
    if isinstance(atom, str):
        return rename(atom) if rename else atom
    if not rename and not space:
        return atom.text
    if atom.op in ("min", "max"):
        inner = f",{space}".join(format_size(a, rename, space) for a in atom.args)
        return f"{atom.op}({inner})"
    sides = (_operand(a, rename, space) for a in atom.args)
    return f"{space}{atom.op}{space}".join(sides)


# Polynomials.


def rank(monomial: Monomial) -> tuple[object, ...]:
    """Order monomials, greatest first, in a way that multiplying them keeps."""
    return -len(monomial), tuple(map(_atom_rank, monomial))


def _atom_rank(atom: Atom) -> tuple[bool, str]:
    return (False, atom) if isinstance(atom, str) else (True, atom.text)


def from_terms(parts: Mapping[Monomial, int]) -> Size:
    """Return the sum of monomials times coefficients."""
    kept = [term for term in parts.items() if term[1]]
    if not kept:
        return 0
    if len(kept) > 1:
        kept.sort(key=lambda term: rank(term[0]))
    return Dim(tuple(kept)) if kept[0][0] else kept[0][1]


def _add(a: Size, b: Size) -> Size:
    if isinstance(a, int):
        if isinstance(b, int):
            return a + b
        a, b = b, a
    if isinstance(b, int):
        if not b:
            return a
        total = constant(a) + b
        body = a._terms if a._terms[-1][0] else a._terms[:-1]
        return Dim((*body, ((), total)) if total else body)
    parts = dict(a._terms)
    for monomial, factor in b._terms:
        parts[monomial] = parts.get(monomial, 0) + factor
    return from_terms(parts)


def _mul(a: Size, b: Size) -> Size:
    if isinstance(a, int):
        if isinstance(b, int):
            return a * b
        a, b = b, a
    if isinstance(b, int):
        if b == 1:
            return a
        return Dim(tuple((m, c * b) for m, c in a._terms)) if b else 0
    parts: dict[Monomial, int] = {}
    for m, c in a._terms:
        for n, d in b._terms:
            joined = join(m, n)
            parts[joined] = parts.get(joined, 0) + c * d
    return from_terms(parts)


def join(a: Monomial, b: Monomial) -> Monomial:
    """Multiply monomials."""
    if len(a) + len(b) > MAX_DEGREE:
        raise DimError(f"a product of more than {MAX_DEGREE} sizes is not supported")
    return tuple(sorted(a + b, key=_atom_rank)) if a and b else a or b


def without(monomial: Monomial, factor: Monomial) -> Monomial | None:
    """Divide one monomial by another, or return None where it does not go."""
    left = list(monomial)
    for atom in factor:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def cancel(size: Size, factor: int, monomial: Monomial) -> Size:
    """Divide by a common factor of all terms."""
    return from_terms({without(m, monomial) or (): c // factor for m, c in terms(size)})
