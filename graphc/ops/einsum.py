"""Sums of products over named axes: einsum, and its special cases.

    einsum("bij,bjk->bik", a, b)

The text is parsed into a tuple of labels for each operand and for the result. Then
the operands are contracted two at a time, in the order with the fewest
multiplications; each step is a matrix product with batches:

    a[b, i, j], b[b, j, k]     batch b, left i, right k, contracted j
      -> transpose and reshape to [b, i, j] and [b, j, k], matmul, reshape back

A label twice in one operand takes the diagonal first, a label that no other operand
and not the result has is summed first.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, GraphcError, ShapeError
from graphc.ir.dims import Size, evaluate, names, product
from graphc.ir.nodes import Tensor, explain
from graphc.ir.op import public
from graphc.ir.origins import here
from graphc.ir.types import Shape, bool_, int32
from graphc.ops.axes import places
from graphc.ops.broadcast import as_tensors, broadcast_to
from graphc.ops.creation import cast
from graphc.ops.diagonal import diagonal
from graphc.ops.linear import matmul
from graphc.ops.reduction import sum
from graphc.ops.shape import reshape, transpose
from graphc.ops.subscripts import Labels, Subscripts, parse, sizes_of

# What a symbolic size counts as when orders of contraction are compared.
TYPICAL = 64
EXHAUSTIVE = 8  # up to as many operands, all orders are compared


# --- operands and pairs -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operand:
    """A tensor and the labels of its axes, each once."""

    tensor: Tensor
    labels: Labels

    def ordered(self, labels: Sequence[str]) -> Tensor:
        """Return the tensor with its axes in this order."""
        return transpose(self.tensor, tuple(self.labels.index(c) for c in labels))


def _single(
    x: Tensor, labels: Labels, sizes: Mapping[str, Size], wanted: set[str]
) -> Operand:
    """Take diagonals, drop axes that broadcast, sum what nothing else has."""
    while len(set(labels)) < len(labels):
        c = next(c for c in labels if labels.count(c) > 1)
        i = labels.index(c)
        j = labels.index(c, i + 1)
        x = diagonal(x, 0, i, j)
        labels = (*(d for k, d in enumerate(labels) if k not in (i, j)), c)
    same = [i for i, c in enumerate(labels) if x.shape[i] != sizes[c]]
    if same:
        x = reshape(x, tuple(s for i, s in enumerate(x.shape) if i not in same))
        labels = tuple(c for i, c in enumerate(labels) if i not in same)
    return _summed(Operand(x, labels), wanted)


def _summed(x: Operand, wanted: set[str]) -> Operand:
    alone = tuple(i for i, c in enumerate(x.labels) if c not in wanted)
    if not alone:
        return x
    return Operand(sum(x.tensor, alone), tuple(c for c in x.labels if c in wanted))


def _pair(
    a: Operand, b: Operand, wanted: set[str], sizes: Mapping[str, Size]
) -> Operand:
    """Multiply two operands and sum over what is in both and wanted no more."""
    a = _summed(a, wanted | set(b.labels))
    b = _summed(b, wanted | set(a.labels))
    both = [c for c in a.labels if c in b.labels]
    batch = [c for c in both if c in wanted]
    inner = [c for c in both if c not in wanted]
    left = [c for c in a.labels if c not in both]
    right = [c for c in b.labels if c not in both]
    result = (*batch, *left, *right)
    if not inner or not (left or right):
        full = (*result, *inner)
        product_ = _spread(a, full, sizes) * _spread(b, full, sizes)
        return _summed(Operand(product_, full), wanted)
    groups = [tuple(sizes[c] for c in part) for part in (batch, left, inner, right)]
    lead, rows, deep, columns = groups
    first = _reshaped(a.ordered([*batch, *left, *inner]), lead, rows, deep)
    second = _reshaped(b.ordered([*batch, *inner, *right]), lead, deep, columns)
    found = matmul(first, second)
    return Operand(reshape(found, (*lead, *rows, *columns)), result)


def _reshaped(x: Tensor, lead: Shape, rows: Shape, columns: Shape) -> Tensor:
    return reshape(x, (*lead, product(rows), product(columns)))


def _spread(x: Operand, labels: Sequence[str], sizes: Mapping[str, Size]) -> Tensor:
    """Return a tensor repeated to the axes of all these labels."""
    found = x.ordered([c for c in labels if c in x.labels])
    ones = tuple(sizes[c] if c in x.labels else 1 for c in labels)
    return broadcast_to(reshape(found, ones), tuple(sizes[c] for c in labels))


# --- the order ----------------------------------------------------------------------


def contraction_order(
    operands: Sequence[Labels], result: Labels, sizes: Mapping[str, int]
) -> list[tuple[int, int]]:
    """Return which two operands to contract, step after step.

    Operands are numbered in order; what a step makes gets the next number. Up to
    eight operands all orders are compared, beyond that each step takes the pair with
    the fewest multiplications.

    Example:
        >>> sizes = {"i": 2, "j": 100, "k": 100, "l": 1}
        >>> contraction_order([("i", "j"), ("j", "k"), ("k", "l")], ("i", "l"), sizes)
        [(1, 2), (0, 3)]
    """
    count = len(operands)
    everything = (1 << count) - 1

    @cache
    def labels(which: int) -> set[str]:
        inside = {c for i in range(count) if which >> i & 1 for c in operands[i]}
        if which & (which - 1) == 0:
            return inside
        outside = {c for i in range(count) if not which >> i & 1 for c in operands[i]}
        return inside & (outside | set(result))

    def cost(a: int, b: int) -> int:
        return math.prod(sizes[c] for c in labels(a) | labels(b))

    if count > EXHAUSTIVE:
        return _greedy(count, cost)
    best: dict[int, tuple[int, tuple[int, int] | None]] = {
        1 << i: (0, None) for i in range(count)
    }
    for which in range(1, everything + 1):
        if which in best:
            continue
        half = (which - 1) & which
        options = []
        while half > which ^ half:  # each split once
            rest = which ^ half
            options.append(
                (best[half][0] + best[rest][0] + cost(half, rest), (rest, half))
            )
            half = (half - 1) & which
        best[which] = min(options)
    steps: list[tuple[int, int]] = []
    numbers = {1 << i: i for i in range(count)}

    def visit(which: int) -> int:
        split = best[which][1]
        if split is not None:
            a, b = sorted(visit(part) for part in split)
            steps.append((a, b))
            numbers[which] = count + len(steps) - 1
        return numbers[which]

    visit(everything)
    return steps


def _greedy(count: int, cost: Any) -> list[tuple[int, int]]:
    alive = {i: 1 << i for i in range(count)}
    steps: list[tuple[int, int]] = []
    while len(alive) > 1:
        pairs = itertools.combinations(alive, 2)
        a, b = min(pairs, key=lambda p: (cost(alive[p[0]], alive[p[1]]), p))
        joined = alive.pop(a) | alive.pop(b)
        alive[count + len(steps)] = joined
        steps.append((a, b))
    return steps


def _typical(size: Size) -> int:
    return max(evaluate(size, dict.fromkeys(names(size), TYPICAL)), 1)


# --- public functions ---------------------------------------------------------------


@public
def einsum(subscripts: str, *operands: Any) -> Tensor:
    """Sum of products over named axes, in NumPy's notation.

    Each letter is an axis; those behind `->` are the axes of the result, all others
    are summed. Without `->` the result has the letters that occur once, in
    alphabetical order. `...` stands for axes without a name, which broadcast. A
    letter twice in one operand takes its diagonal. Bools count as int32.

    Shapes:  "ij,jk->ik": a [N, K], b [K, D] -> [N, D]
    Math:    as a product of matrices, whose gradients are products of matrices
    Raises:  ArgumentError for a text that does not fit the operands, ShapeError for a
             letter with two sizes.
    Example:
        >>> import graphc
        >>> a, b = graphc.input("a", ("B", "N", 3)), graphc.input("b", ("B", 3, "M"))
        >>> graphc.einsum("bij,bjk->bik", a, b).type
        TensorType(f32[B,N,M])
    """
    if not isinstance(subscripts, str) or not operands:
        raise ArgumentError(
            f"einsum: the subscripts are a text, before the operands, not "
            f"{subscripts!r}",
            where=here().quoted,
            help='for example graphc.einsum("ij,jk->ik", a, b)',
        )
    tensors = _numbers(operands)
    shapes = [t.shape for t in tensors]
    try:
        parsed = parse(subscripts, shapes)
        sizes = sizes_of(subscripts, parsed, shapes)
    except GraphcError as error:
        raise explain(error, "einsum", tensors) from None
    return _contract(tensors, parsed, sizes)


def _numbers(operands: Sequence[Any]) -> list[Tensor]:
    tensors = as_tensors(operands)
    return [cast(t, int32) if t.dtype is bool_ else t for t in tensors]


def _contract(
    tensors: Sequence[Tensor], parsed: Subscripts, sizes: Mapping[str, Size]
) -> Tensor:
    result = parsed.result
    alive: dict[int, Operand] = {}
    for i, (x, labels) in enumerate(zip(tensors, parsed.operands, strict=True)):
        others = {c for j, o in enumerate(parsed.operands) if j != i for c in o}
        alive[i] = _single(x, labels, sizes, others | set(result))
    order = contraction_order(
        [o.labels for o in alive.values()],
        result,
        {c: _typical(size) for c, size in sizes.items()},
    )
    for n, (i, j) in enumerate(order):
        a, b = alive.pop(i), alive.pop(j)
        wanted = {c for o in alive.values() for c in o.labels} | set(result)
        # The axis that runs fastest in the result belongs to the second operand.
        if result and result[-1] in a.labels and result[-1] not in b.labels:
            a, b = b, a
        alive[len(tensors) + n] = _pair(a, b, wanted, sizes)
    (found,) = alive.values()
    return _spread(_summed(found, set(result)), result, sizes)


@public
def tensordot(a: Any, b: Any, axes: Any = 2) -> Tensor:
    """Sum of products over axes of two tensors.

    axes: how many, the last of a with the first of b; or (axes of a, axes of b).

    Shapes:  a [N, 3, 4], b [3, 4, M] -> [N, M];  axes=([0], [1]): a [K, N], b [M, K]
             -> [N, M]
    Raises:  ArgumentError for axes out of range or not as many, ShapeError if sizes
             differ.
    """
    left, right = _numbers([a, b])
    try:
        if isinstance(axes, (int, np.integer)):
            count = int(axes)
            if not 0 <= count <= min(left.ndim, right.ndim):
                raise ArgumentError(f"{count} axes of {{0}} and {{1}} cannot be summed")
            first = tuple(range(left.ndim - count, left.ndim))
            second = tuple(range(count))
        else:
            first, second = places(axes[0], left.ndim), places(axes[1], right.ndim)
        if len(first) != len(second):
            raise ArgumentError(f"{len(first)} axes of {{0}}, {len(second)} of {{1}}")
    except ArgumentError as error:
        raise explain(error, "tensordot", [left, right]) from None
    a_labels = [f"a{i}" for i in range(left.ndim)]
    b_labels = [f"b{i}" for i in range(right.ndim)]
    for i, j in zip(first, second, strict=True):
        b_labels[j] = a_labels[i]
    kept = [c for i, c in enumerate(a_labels) if i not in first]
    kept += [c for j, c in enumerate(b_labels) if j not in second]
    return _named("tensordot", [left, right], (a_labels, b_labels), kept)


def _named(
    what: str,
    tensors: Sequence[Tensor],
    labels: Sequence[Sequence[str]],
    result: Sequence[str],
) -> Tensor:
    """Contract tensors whose labels are known; sizes must be equal."""
    parsed = Subscripts(tuple(tuple(each) for each in labels), tuple(result))
    sizes: dict[str, Size] = {}
    for i, (names_, t) in enumerate(zip(labels, tensors, strict=True)):
        for axis, (c, size) in enumerate(zip(names_, t.shape, strict=True)):
            if sizes.setdefault(c, size) != size:
                at = list(labels[0]).index(c)
                error = ShapeError(
                    f"sizes differ: {{0}}[{at}]={sizes[c]}, {{{i}}}[{axis}]={size}",
                    help="axes that are summed together have one size",
                )
                raise explain(error, what, tensors)
    return _contract(tensors, parsed, sizes)


@public
def inner(a: Any, b: Any) -> Tensor:
    """Sum of products over the last axes.

    Shapes:  a [N, D], b [M, D] -> [N, M];  vectors [D], [D] -> []
    Raises:  ShapeError if the last axes differ.
    """
    left, right = _numbers([a, b])
    if left.ndim == 0 or right.ndim == 0:
        found: Tensor = left * right
        return found
    return tensordot(left, right, ((-1,), (-1,)))


@public
def dot(a: Any, b: Any) -> Tensor:
    """Sum of products over the last axis of a and the last but one of b.

    Shapes:  a [N, D], b [D, M] -> [N, M];  b [D] -> [N];  a scalar scales
    Raises:  ShapeError if these axes differ.
    """
    left, right = _numbers([a, b])
    if left.ndim == 0 or right.ndim == 0:
        found: Tensor = left * right
        return found
    return tensordot(left, right, ((-1,), (-min(right.ndim, 2),)))


@public
def outer(a: Any, b: Any) -> Tensor:
    """Products of all elements of one tensor with all of another, both flattened.

    Shapes:  a [N], b [M] -> [N, M]
    """
    left, right = as_tensors([a, b])
    found: Tensor = reshape(left, (-1, 1)) * reshape(right, (1, -1))
    return found
