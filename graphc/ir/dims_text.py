"""Sizes read from text, and written for Python, LaTeX and SymPy.

The text of a size is Python's own syntax for integers, without spaces:

    size    = term {("+" | "-") term}
    term    = factor {("*" | "//" | "%") factor}
    factor  = "-" factor | primary ["**" integer]
    primary = integer | name | ("min" | "max") "(" size {"," size} ")" | "(" size ")"

Reading it does the arithmetic, so ``parse_size("N+N")`` is ``2*N``, and
``parse_size(str(size)) == size`` always.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any

from graphc.ir.dims_form import (
    CACHED,
    MAX_DEGREE,
    DimError,
    Size,
    dim,
    format_size,
    product,
    terms,
)
from graphc.ir.dims_rules import maximum, minimum

_TOKEN = re.compile(r"\s*(?:([0-9]+|[A-Za-z_][A-Za-z_0-9]*|//|\*\*|[-+*%(),])|(\S|$))")
_MAX_DEPTH = 100
_MAX_DIGITS = 1000


@lru_cache(maxsize=CACHED)
def parse_size(text: str) -> Size:
    """Read a size from its text; the inverse of str.

    Raises:  DimError, with the column, if the text is no size.
    Example:
        >>> parse_size("2*N + 1"), parse_size("(4*N+3)//4"), parse_size("7")
        (2*N+1, N, 7)
    """
    return _Reader(text).read()


def python(size: Size, rename: Callable[[str], str] = str) -> str:
    """Write a size as Python source; `rename` turns a name into a word or call.

    Example:
        >>> python(parse_size("(N+1)//2*M"), lambda name: f"size_{name.lower()}")
        'size_m * ((size_n + 1) // 2)'
    """
    return format_size(size, rename, " ")


def latex(size: Size) -> str:
    r"""Write a size as LaTeX, by SymPy.

    Example:
        >>> print(latex(parse_size("N//2+1")))
        \left\lfloor{\frac{N}{2}}\right\rfloor + 1
    """
    return str(_sympy().latex(to_sympy(size)))


def to_sympy(size: Size) -> Any:
    """Convert a size to a SymPy expression over non-negative integer symbols.

    Example:
        >>> to_sympy(parse_size("N*M+1"))
        M*N + 1
    """
    sympy = _sympy()
    total = sympy.Integer(0)
    for monomial, factor in terms(size):
        term = sympy.Integer(factor)
        for atom in monomial:
            if isinstance(atom, str):
                term *= sympy.Symbol(atom, integer=True, nonnegative=True)
                continue
            args = [to_sympy(arg) for arg in atom.args]
            if atom.op == "//":
                term *= sympy.floor(args[0] / args[1])
            else:
                named = {"%": sympy.Mod, "min": sympy.Min, "max": sympy.Max}
                term *= named[atom.op](*args)
        total += term
    return total


def _sympy() -> Any:
    return import_module("sympy")  # takes 0.4 s, so only when asked for


class _Reader:
    """Read one text, a token ahead; each method is the grammar's rule of its name."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.end = 0
        self.token = ""
        self.column = 1
        self.advance()

    def read(self) -> Size:
        size = self.size()
        if self.token:
            raise self.error("an operator or the end")
        return size

    def size(self) -> Size:
        size = self.term()
        while self.token in ("+", "-"):
            size = size + self.term() if self.advance() == "+" else size - self.term()
        return size

    def term(self) -> Size:
        size = self.factor()
        while self.token in ("*", "//", "%"):
            operator = self.advance()
            column = self.column
            other = self.factor()
            try:
                if operator == "*":
                    size = size * other
                else:
                    size = size // other if operator == "//" else size % other
            except (DimError, ZeroDivisionError) as error:
                raise self.failure(str(error), column) from error
        return size

    def factor(self) -> Size:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.failure(f"more than {_MAX_DEPTH} levels deep", self.column)
        if self.token == "-":
            self.advance()
            size = -self.factor()
        else:
            size = self.primary()
            if self.token == "**":
                self.advance()
                size = self.power(size)
        self.depth -= 1
        return size

    def power(self, size: Size) -> Size:
        column = self.column
        if not self.token.isdigit():
            raise self.error("a power, an integer")
        power = self.integer()
        if power > MAX_DEGREE:
            raise self.failure(f"a power is at most {MAX_DEGREE}", column)
        try:
            return product([size] * power)
        except DimError as error:
            raise self.failure(str(error), column) from error

    def primary(self) -> Size:
        token = self.token
        if token.isdigit():
            return self.integer()
        if token == "(":
            self.advance()
            size = self.size()
            self.expect(")")
            return size
        if not (token[:1].isalpha() or token[:1] == "_"):
            raise self.error("a name, an integer or '('")
        self.advance()
        if token not in ("min", "max"):
            return dim(token)
        self.expect("(")
        sizes = [self.size()]
        while self.token == ",":
            self.advance()
            sizes.append(self.size())
        self.expect(")")
        return minimum(*sizes) if token == "min" else maximum(*sizes)

    def integer(self) -> int:
        if len(self.token) > _MAX_DIGITS:
            raise self.failure(f"more than {_MAX_DIGITS} digits", self.column)
        return int(self.advance())

    def advance(self) -> str:
        """Step to the next token and return the one left behind."""
        last = self.token
        match = _TOKEN.match(self.text, self.end)
        assert match, "the pattern ends in one that fits any text"
        self.token = match[1] or ""
        self.column = match.start(match.lastindex or 0) + 1
        self.end = match.end()
        if match[2]:
            raise self.failure(f"{match[2]!r} has no meaning in a size", self.column)
        return last

    def expect(self, token: str) -> None:
        if self.token != token:
            raise self.error(repr(token))
        self.advance()

    def error(self, expected: str) -> DimError:
        found = repr(self.token) if self.token else "the end"
        return self.failure(f"expected {expected}, found {found}", self.column)

    def failure(self, cause: str, column: int) -> DimError:
        return DimError(
            f"cannot read the size {self.text!r}: column {column}: {cause}\n"
            "  help: write one like N, 2*N+1, (N+1)//2, N%3 or min(N,3)"
        )
