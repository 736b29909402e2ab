"""sink: what a loop has stacked keeps its order until nobody needs another.

    %1 = transpose(%h) {axes=[1, 0, 2]}         %1 = matmul(%h rows, %w)
    %2 = matmul(%1 rows, %w)                    %2 = tanh(%1)
    %3 = tanh(%2)                          =>   %3 = sum(%2) {axis=[0, 1]}
    %4 = sum(%3) {axis=[0, 1]}                  return %3
    return %4

A loop stacks the steps first, layers take the batch first: what is between the loop of
a recurrent network and its loss, and from there to the loop of its gradient, would be
turned twice. Here a transpose of the first two axes moves below products of matrices,
elementwise work and reductions, and is gone where another turns it back, or where both
axes are summed up. What else such work reads is turned itself. Both axes become one,
the rows of matrices: so work on them is one loop, whatever else is read.

Taken only if the transposes that are left move fewer bytes. Values agree within
rounding: a sum is taken in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from graphc.control.scan_op import SCAN
from graphc.ir.dims import Size, evaluate, product
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.types import Shape
from graphc.ops.arithmetic import WHERE
from graphc.ops.broadcast import BROADCAST_TO, broadcast_to
from graphc.ops.creation import CAST, FULL, Full
from graphc.ops.indexing import ONE_HOT
from graphc.ops.linear import MATMUL
from graphc.ops.reduction import MAX, MIN, SUM
from graphc.ops.shape import (
    CONCATENATE,
    RESHAPE,
    SLICE,
    TRANSPOSE,
    Axis,
    Slices,
    reshape,
    transpose,
)
from graphc.passes.lowering.group import is_contraction
from graphc.passes.registry import graph_pass

UNKNOWN = 256  # what stands for a size that is not known
DEEPEST = 32  # so many ops may be made anew of turned tensors

Tensors: TypeAlias = Sequence[Tensor]
Rule: TypeAlias = Callable[[Node, Tensors], "_Turned | Tensor | None"]


@graph_pass("sink")
def sink(graph: Graph) -> Graph:
    """Move transposes of what loops have stacked to where they are gone."""
    if not any(n.op is SCAN for n in graph.nodes):
        return graph
    done = graph.transform(_Sinking().change)
    return done if _moved(done) < _moved(graph) else graph


def _moved(graph: Graph) -> int:
    """Return how many bytes transposes write, but for those that products read."""
    stored = {t for n in graph.nodes if not is_contraction(n) for t in n.inputs}
    stored |= set(graph.roots)
    sizes = dict.fromkeys(graph.dims, UNKNOWN)
    return sum(
        evaluate(product((*t.shape, t.dtype.itemsize)), sizes)
        for n in graph.nodes
        if n.op is TRANSPOSE
        for t in n.results
        if t in stored
    )


@dataclass(frozen=True, slots=True)
class _Turned:
    """A tensor whose elements another one has in the order of a loop's stacks.

    rows: that one; its first axis is the tensor's first two, the second before the
    first. sizes: of these two. one: they are one axis of the tensor too.
    """

    rows: Tensor
    sizes: tuple[Size, Size]
    one: bool

    def like(self, rows: Tensor) -> _Turned:
        """Return what another tensor's rows are turned in the same way."""
        return _Turned(rows, self.sizes, self.one)

    @property
    def rank(self) -> int:
        """How many axes the two are."""
        return 1 if self.one else 2

    @property
    def lead(self) -> Shape:
        """The sizes of these axes."""
        return (self.sizes[0] * self.sizes[1],) if self.one else self.sizes

    def shape(self, shape: Shape) -> Shape:
        """Return the shape that rows of a tensor of this shape have."""
        return (self.rows.shape[0], *shape[self.rank :])

    def axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """Return which axes of rows these axes are."""
        return tuple(sorted({max(a - self.rank + 1, 0) for a in axes}))

    def stack(self) -> Tensor:
        """Return the rows with both axes."""
        return reshape(self.rows, (*self.sizes[::-1], *self.rows.shape[1:]))

    def tensor(self) -> Tensor:
        """Return the tensor itself."""
        found = _swapped(self.stack())
        return reshape(found, (*self.lead, *self.rows.shape[1:]))

    def rows_of(self, tensor: Tensor) -> Tensor:
        """Return the rows of another tensor by turning it."""
        rest = tensor.shape[self.rank :]
        found = _swapped(reshape(tensor, (*self.sizes, *rest)))
        return reshape(found, self.shape(tensor.shape))


def _swapped(x: Tensor) -> Tensor:
    return transpose(x, (1, 0, *range(2, x.ndim)))


class _Sinking:
    """Makes each node of rows in the order of stacks, where it may."""

    def __init__(self) -> None:
        self.turned: dict[Tensor, _Turned] = {}
        # What `_rows` has returned, by the tensor and how it is turned.
        self.known: dict[tuple[Tensor, tuple[Size, Size], bool], Tensor] = {}
        self.rules: dict[object, Rule] = {
            TRANSPOSE: self._transpose,
            RESHAPE: self._reshape,
            BROADCAST_TO: self._broadcast,
            CONCATENATE: self._concatenate,
            SLICE: self._slice,
            MATMUL: self._matmul,
            SUM: self._reduce,
            MAX: self._reduce,
            MIN: self._reduce,
        }

    def change(self, node: Node, inputs: Tensors) -> Sequence[Tensor] | None:
        """Return what stands for a node's result, if anything."""
        plain = _is_elementwise(node)
        rule = self._elementwise if plain else self.rules.get(node.op)
        found = None if rule is None else rule(node, inputs)
        if isinstance(found, _Turned):
            made = found.tensor()
            self.turned[made] = found
            return (made,)
        return None if found is None else (found,)

    # --- where it begins and ends -----------------------------------------------------

    def _transpose(self, node: Node, inputs: Tensors) -> _Turned | Tensor | None:
        (x,) = inputs
        if node.attrs.axes != (1, 0, *range(2, x.ndim)):
            return None
        if x in self.turned and not self.turned[x].one:
            return self.turned[x].stack()
        if x.node.op is not SCAN:
            return None
        steps, n, *rest = x.shape
        return _Turned(reshape(x, (steps * n, *rest)), (n, steps), False)

    def _reduce(self, node: Node, inputs: Tensors) -> _Turned | Tensor | None:
        x = self.turned.get(inputs[0])
        if x is None:
            return None
        within = sum(a < x.rank for a in node.attrs.axis)
        if 0 < within < x.rank:
            return None
        attrs = replace(node.attrs, axis=x.axes(node.attrs.axis))
        found = make1(node.op, (x.rows,), attrs)
        return reshape(found, node.results[0].shape) if within else x.like(found)

    def _matmul(self, node: Node, inputs: Tensors) -> _Turned | Tensor | None:
        a, b = inputs
        if a.ndim != 2 or b.ndim != 2:
            return None
        x = self.turned.get(a)
        if x is not None and x.one and b not in self.turned:
            return x.like(make1(MATMUL, (x.rows, b), node.attrs))
        # A sum over what is turned: of both, or of neither.
        if a.node.op is not TRANSPOSE:
            return None
        (tall,) = a.node.inputs
        x = self.turned.get(tall) or self.turned.get(b)
        if x is None or not x.one:
            return None
        left, right = self._rows(x, tall), self._rows(x, b)
        if left is None or right is None:
            return None
        return make1(MATMUL, (transpose(left), right), node.attrs)

    # --- what it passes ---------------------------------------------------------------

    def _reshape(self, node: Node, inputs: Tensors) -> _Turned | None:
        x = self.turned.get(inputs[0])
        if x is None:
            return None
        shape = node.results[0].shape
        for one, lead in ((False, x.sizes), (True, (x.sizes[0] * x.sizes[1],))):
            if shape[: len(lead)] == lead:
                rows = reshape(x.rows, (x.rows.shape[0], *shape[len(lead) :]))
                return _Turned(rows, x.sizes, one)
        return None

    def _broadcast(self, node: Node, inputs: Tensors) -> _Turned | None:
        x, shape = self.turned.get(inputs[0]), node.results[0].shape
        if x is None or inputs[0].ndim != len(shape) or shape[: x.rank] != x.lead:
            return None
        return x.like(broadcast_to(x.rows, x.shape(shape)))

    def _concatenate(self, node: Node, inputs: Tensors) -> _Turned | None:
        x = self._first(inputs)
        if x is None or node.attrs.axis < x.rank:
            return None
        (axis,) = x.axes([node.attrs.axis])
        rows = self._rows_of_all(x, inputs)
        return None if rows is None else x.like(make1(CONCATENATE, rows, Axis(axis)))

    def _slice(self, node: Node, inputs: Tensors) -> _Turned | None:
        x = self.turned.get(inputs[0])
        attrs = None if x is None else _slices(x, node)
        if x is None or attrs is None:
            return None
        return x.like(make1(SLICE, (x.rows,), attrs))

    def _elementwise(self, node: Node, inputs: Tensors) -> _Turned | None:
        x = self._first(inputs)
        rows = None if x is None else self._rows_of_all(x, inputs)
        if x is None or rows is None:
            return None
        return x.like(make1(node.op, rows, node.attrs))

    def _first(self, inputs: Tensors) -> _Turned | None:
        return next((self.turned[t] for t in inputs if t in self.turned), None)

    # --- what else is read ------------------------------------------------------------

    def _rows_of_all(
        self, x: _Turned, tensors: Tensors, deep: int = DEEPEST
    ) -> list[Tensor] | None:
        found = [self._rows(x, t, deep) for t in tensors]
        made = [t for t in found if t is not None]
        return made if len(made) == len(found) else None

    def _rows(self, x: _Turned, tensor: Tensor, deep: int = DEEPEST) -> Tensor | None:
        """Return the rows of a tensor, turned as another one's; None if they are not.

        What is not turned yet is turned early, where it is small, or made of what needs
        no turning.
        """
        known = self.turned.get(tensor)
        if known is not None:
            same = (known.sizes, known.one) == (x.sizes, x.one)
            return known.rows if same else None
        if tensor.shape[: x.rank] != x.lead:
            return None
        key = (tensor, x.sizes, x.one)
        if key not in self.known:
            found = self._early(x, tensor, deep - 1) if deep else None
            self.known[key] = x.rows_of(tensor) if found is None else found
        return self.known[key]

    def _early(self, x: _Turned, tensor: Tensor, deep: int) -> Tensor | None:
        """Return rows made anew of those of what a tensor's node reads."""
        node, attrs, shape = tensor.node, tensor.node.attrs, x.shape(tensor.shape)
        if node.op is FULL:
            return make1(FULL, (), Full(tensor.dtype, shape, attrs.value))
        if node.op is BROADCAST_TO:
            (of,) = node.inputs
            begin = max(of.ndim - tensor.ndim + x.rank, 0)
            if all(size == 1 for size in of.shape[:begin]):
                return broadcast_to(reshape(of, of.shape[begin:]), shape)
            if of.ndim != tensor.ndim:
                return None
        if node.op is ONE_HOT and tensor.ndim == x.rank:
            return None
        if node.op in (SUM, MAX, MIN):
            if any(a < x.rank for a in attrs.axis):
                return None
            attrs = replace(attrs, axis=x.axes(attrs.axis))
        elif node.op is SLICE:
            attrs = _slices(x, node)
        elif not (_is_elementwise(node) or node.op in (BROADCAST_TO, RESHAPE, ONE_HOT)):
            return None
        rows = self._rows_of_all(x, node.inputs, deep)
        if rows is None or attrs is None:
            return None
        if node.op is BROADCAST_TO:
            return broadcast_to(rows[0], shape)
        return (
            reshape(rows[0], shape)
            if node.op is RESHAPE
            else make1(node.op, rows, attrs)
        )


def _slices(x: _Turned, node: Node) -> Slices | None:
    """Return which part of rows a slice is; None if it leaves some rows out."""
    old: Slices = node.attrs
    if node.inputs[0].shape[: x.rank] != x.lead or old.shape[: x.rank] != x.lead:
        return None
    rest = slice(x.rank, None)
    first, step = (0, *old.start[rest]), (1, *old.step[rest])
    return Slices(first, x.shape(old.shape), step)


def _is_elementwise(node: Node) -> bool:
    """Whether it computes each element of those at the same place."""
    plain = node.op.scalar is not None and not node.op.regions
    return plain or node.op in (WHERE, CAST)
