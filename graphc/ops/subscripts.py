"""The text of einsum: labels for the axes of each operand and of the result.

    "bij,...j->...b"     operands ("b", "i", "j") and (".0", "j"), result (".0", "b")

The grammar is NumPy's. The axes that an ellipsis stands for are counted from the last:
those of one number in two operands broadcast against each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.dims import Size, names
from graphc.ir.types import Shape

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Subscripts:
    """Labels of each operand and of the result; those of an ellipsis are '.0', ..."""

    operands: tuple[Labels, ...]
    result: Labels


def parse(text: str, shapes: Sequence[Shape]) -> Subscripts:
    """Return the labels of each axis. Operand i is named {i} in errors.

    Raises:  ArgumentError for a text that is no einsum of as many operands, or that
             names another number of axes than an operand has.
    Example:
        >>> parse("ij,jk", [(2, 3), (3, 4)])
        Subscripts(operands=(('i', 'j'), ('j', 'k')), result=('i', 'k'))
    """
    plain = text.replace(" ", "")
    left, arrow, right = plain.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(shapes):
        raise ArgumentError(
            f"{text!r} names {len(inputs)} operand{'s' * (len(inputs) > 1)}, "
            f"{len(shapes)} given",
            help="a comma stands between the subscripts of two operands",
        )
    for part in (*inputs, right):
        rest = part.replace("...", "", 1)
        strange = [c for c in rest if not (c.isascii() and c.isalpha())]
        if strange:
            raise ArgumentError(
                f"{text!r}: {strange[0]!r} is no subscript",
                help="use letters, at most one '...' for each operand, ',' and '->'",
            )
    dots = [
        _dots(text, part, len(shape), i)
        for i, (part, shape) in enumerate(zip(inputs, shapes, strict=True))
    ]
    most = max(dots)
    operands = tuple(_labels(p, n, most) for p, n in zip(inputs, dots, strict=True))
    if arrow:
        result = _explicit(text, right, most, operands)
    else:
        letters = [c for labels in operands for c in labels if not c.startswith(".")]
        once = sorted(c for c in set(letters) if letters.count(c) == 1)
        result = (*_ellipsis(most, most), *once)
    return Subscripts(operands, result)


def _dots(text: str, part: str, ndim: int, i: int) -> int:
    """Return how many axes the ellipsis of an operand stands for."""
    letters = len(part.replace("...", ""))
    if letters == ndim or (letters < ndim and "..." in part):
        return ndim - letters
    raise ArgumentError(
        f"{text!r}: {part!r} names {letters} axes, {{{i}}} has {ndim}",
        help="use '...' for axes without a name" if letters < ndim else "",
    )


def _ellipsis(count: int, most: int) -> Labels:
    """Return the labels of the last `count` of the axes that ellipses stand for."""
    return tuple(f".{k}" for k in range(most - count, most))


def _labels(part: str, count: int, most: int) -> Labels:
    before, dots, after = part.partition("...")
    return (*before, *(_ellipsis(count, most) if dots else ()), *after)


def _explicit(text: str, right: str, most: int, operands: Sequence[Labels]) -> Labels:
    result = _labels(right, most, most)
    if most and "..." not in right:
        raise ArgumentError(
            f"{text!r}: the result has no '...', which stands for {most} axes of the "
            "operands",
            help="write '...' behind '->' too, or name the axes and leave them out",
        )
    known = {c for labels in operands for c in labels}
    for c in result:
        if result.count(c) > 1:
            raise ArgumentError(f"{text!r}: the result has {c!r} twice")
        if c not in known:
            raise ArgumentError(
                f"{text!r}: the result has {c!r}, which no operand has",
                help="the operands have " + ", ".join(sorted(known)),
            )
    return result


# --- sizes --------------------------------------------------------------------------


def sizes_of(
    text: str, subscripts: Subscripts, shapes: Sequence[Shape]
) -> dict[str, Size]:
    """Return the size of each label; a size of 1 broadcasts.

    Raises:  ShapeError naming the subscript, the operands, their axes and sizes.
    """
    sizes: dict[str, Size] = {}
    owner: dict[str, tuple[int, int]] = {}
    for i, (labels, shape) in enumerate(zip(subscripts.operands, shapes, strict=True)):
        for axis, (c, size) in enumerate(zip(labels, shape, strict=True)):
            first = labels.index(c)
            if size != shape[first]:
                raise _differ(text, c, shape[first], size, (i, first), (i, axis))
            if c not in sizes or sizes[c] == 1:
                sizes[c], owner[c] = size, (i, axis)
            elif size not in (1, sizes[c]):
                raise _differ(text, c, sizes[c], size, owner[c], (i, axis))
    return sizes


def _differ(
    text: str, label: str, a: Size, b: Size, at: tuple[int, int], bt: tuple[int, int]
) -> ShapeError:
    what = "an axis of '...'" if label.startswith(".") else f"the subscript {label!r}"
    sizes = f"{{{at[0]}}}[{at[1]}]={a}, {{{bt[0]}}}[{bt[1]}]={b}"
    if names(a) or names(b):
        return ShapeError(
            f"{text!r}: the sizes of {what} cannot be proved equal: {sizes}",
            help="use one name for both if they are the same size",
        )
    return ShapeError(
        f"{text!r}: {what} has two sizes: {sizes}",
        help="axes of one subscript have one size, or 1",
    )
