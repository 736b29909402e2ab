"""One nest from a group of ops: reading by demand.

Every op says what its element at an index is, in terms of elements of its inputs
(`Pointwise`), or over which elements it reduces (`Reduction`). Asking the outputs of
a group for their elements therefore writes the body of the nest: producers are
inlined into consumers, and a reduction becomes an accumulator of an earlier phase.

The parallel axes of the nest are the axes that its reductions keep; every reduction
of a group is asked for at just that point, or the group is not one nest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from graphc.errors import LoweringError
from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor
from graphc.ir.op import Pointwise, Reduction, ScatterAdd, Site, View
from graphc.ir.program import LoopAxis, Nest, Phase, Reduce, Store
from graphc.ir.program.program import ARGS
from graphc.ir.scalar import Expr, Ref, axis, cast, const, load, ref, size_of, walk
from graphc.ir.types import Shape, int64
from graphc.passes.lowering.buffers import Place

ZERO = const(0, int64)


class NotOneNest(LoweringError):
    """The ops of a group do not fit one nest."""


@dataclass
class _Accumulator:
    level: int
    extents: tuple[Size, ...]
    step: Reduce


@dataclass
class GroupLowering:
    """Lowers one group.

    sources: tensors from outside, and where they lie. outputs: what is stored, and
    where; a tensor may be stored at several places.
    """

    sources: Mapping[Tensor, Place]
    outputs: Sequence[tuple[Tensor, Place]]
    labels: dict[Expr, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._memo: dict[tuple[Tensor, tuple[Expr, ...]], Expr] = {}
        self._accumulators: dict[Tensor, _Accumulator] = {}
        self._point: tuple[Expr, ...] = ()
        inside = {t.node for t, _ in self.outputs}
        stop = {t.node for t in self.sources}
        self.nodes = [
            n
            for n in reached([t for t, _ in self.outputs], self.sources)
            if n not in stop or n in inside
        ]
        self.numbers = {n: i for i, n in enumerate(self.nodes)}

    # --- the nest -----------------------------------------------------------------

    def nest(self, name: str) -> Nest:
        """Return the nest.

        Raises:  NotOneNest saying which op does not fit.
        """
        scatter = [n for n in self.nodes if isinstance(n.op.lower, ScatterAdd)]
        if scatter:
            return self._scatter(name, scatter)
        anchor = next(
            (n for n in self.nodes if isinstance(n.op.lower, Reduction)), None
        )
        inner: tuple[LoopAxis, ...] = ()
        full: Shape | None = None
        outputs = [part for t, place in self.outputs for part in self._pieces(t, place)]
        if anchor is None:
            shapes = {_solid(t.shape) for t, _ in outputs}
            if len(shapes) != 1:
                raise NotOneNest(
                    f"outputs of several shapes: {sorted(map(str, shapes))}"
                )
            axes = _axes("i", outputs[0][0].shape)
        else:
            result = anchor.results[0]
            axes = _axes("i", result.shape)
            row = _row_form(anchor)
            if row is not None:
                full = row
                kept = set(_kept(anchor))
                inner = tuple(
                    LoopAxis(f"k{j}", size)
                    for j, size in enumerate(
                        s for i, s in enumerate(row) if i not in kept
                    )
                    if size != 1
                )
        self._point = tuple(axis(a.name) for a in axes)
        stores: dict[tuple[LoopAxis, ...], list[Store]] = {}
        for tensor, place in outputs:
            index, along = self._place(tensor, axes, full, anchor, inner)
            store = Store(place.buffer, place.index(index), self.value(tensor, index))
            stores.setdefault(along, []).append(store)
        return Nest(
            name,
            axes,
            (*self._reduction_phases(), *self._store_phases(stores)),
            labels=self.labels,
            nodes=tuple(self.nodes),
        )

    def _pieces(self, tensor: Tensor, place: Place) -> Iterator[tuple[Tensor, Place]]:
        """Yield what is stored for an output, and where: equal pieces one by one."""
        node = tensor.node
        how = node.op.lower
        shapes = {t.shape for t in node.inputs}
        if (
            tensor in self.sources
            or not isinstance(how, Pointwise)
            or how.pieces is None
            or len(shapes) != 1
        ):
            yield tensor, place
            return
        axis = how.pieces(node.attrs)
        start: Size = 0
        for piece in node.inputs:
            yield from self._pieces(piece, place.shifted(tensor.ndim, axis, start))
            start = start + piece.shape[axis]

    def _place(
        self,
        tensor: Tensor,
        axes: tuple[LoopAxis, ...],
        full: Shape | None,
        anchor: Node | None,
        inner: tuple[LoopAxis, ...],
    ) -> tuple[tuple[Expr, ...], tuple[LoopAxis, ...]]:
        """Return the index at which an output is stored, and the axes it needs."""
        point = tuple(a.extent for a in axes)
        if _solid(tensor.shape) == point:
            return _index(tensor.shape, self._point), ()
        if full is None or anchor is None or tensor.shape != full:
            raise NotOneNest(f"{tensor.node.op.name} {tensor.type} has another shape")
        kept = set(_kept(anchor))
        outer, along = iter(self._point), iter(inner)
        index: list[Expr] = []
        for i, size in enumerate(full):
            if size == 1:
                index.append(ZERO)
            elif i in kept:
                index.append(next(outer))
            else:
                index.append(axis(next(along).name))
        return tuple(index), inner

    def _reduction_phases(self) -> list[Phase]:
        grouped: dict[tuple[int, tuple[Size, ...]], list[Reduce]] = {}
        for acc in self._accumulators.values():
            grouped.setdefault((acc.level, acc.extents), []).append(acc.step)
        phases = []
        for (_, extents), steps in sorted(grouped.items(), key=lambda x: x[0][0]):
            axes = tuple(
                LoopAxis(f"k{j}", size)
                for j, size in enumerate(s for s in extents if s != 1)
            )
            phases.append(Phase(axes, reduces=tuple(steps)))
        return phases

    def _store_phases(
        self, stores: Mapping[tuple[LoopAxis, ...], Sequence[Store]]
    ) -> list[Phase]:
        # Whole rows first: a row may still read what a per-row store overwrites.
        order = sorted(stores.items(), key=lambda x: -len(x[0]))
        return [Phase(axes, stores=tuple(found)) for axes, found in order]

    # --- elements -----------------------------------------------------------------

    def value(self, tensor: Tensor, index: Sequence[Expr]) -> Expr:
        """Return the element of a tensor at an index."""
        at = tuple(
            ZERO if size == 1 else i
            for i, size in zip(index, tensor.shape, strict=True)
        )
        key = (tensor, at)
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._element(tensor, at)
        return found

    def _element(self, tensor: Tensor, index: tuple[Expr, ...]) -> Expr:
        if tensor in self.sources:
            place = self.sources[tensor]
            return load(place.buffer, place.index(index), tensor.dtype)
        node = tensor.node
        how = node.op.lower
        if isinstance(how, Pointwise):
            found = cast(how.rule(self._site(node, index)), tensor.dtype)
        elif isinstance(how, Reduction):
            found = self._reduce(node, how, index)
        elif isinstance(how, View):
            found = self.value(node.inputs[0], _same_place(node, index))
        else:
            raise NotOneNest(f"{node.op.name} is no part of a nest")
        self.labels.setdefault(found, f"%{self.numbers.get(node, 0)} {node.op.name}")
        return found

    def _site(self, node: Node, index: tuple[Expr, ...]) -> Site:
        return Site(
            index,
            node.attrs,
            tuple(t.type for t in node.inputs),
            node.results[0].type,
            lambda k, at: self.value(node.inputs[k], tuple(at)),
        )

    def _reduce(self, node: Node, how: Reduction, index: tuple[Expr, ...]) -> Expr:
        result = node.results[0]
        if tuple(i for i in index if i is not ZERO) != self._point:
            raise NotOneNest(f"{node.op.name} is read away from its point")
        known = self._accumulators.get(result)
        if known is None:
            types = tuple(t.type for t in node.inputs)
            extents = how.extents(types, node.attrs)
            names = iter(range(len(extents)))
            inner = tuple(
                ZERO if size == 1 else axis(f"k{next(names)}") for size in extents
            )
            value = how.rule(self._site(node, index), inner)
            values: tuple[Expr, ...] = (value,)
            if how.monoid in ARGS:
                position: Expr = ZERO
                for i, size in zip(inner, extents, strict=True):
                    position = position * size_of(size) + i
                if how.position is not None:
                    position = how.position(self._site(node, index), inner)
                values = (value, position)
            level = 1 + max(
                (
                    self._level(e.name)
                    for v in values
                    for e in walk(v)
                    if isinstance(e, Ref)
                ),
                default=-1,
            )
            step = Reduce(f"r{len(self._accumulators)}", how.monoid, values)
            known = _Accumulator(level, extents, step)
            self._accumulators[result] = known
        found = ref(known.step.name, known.step.dtype)
        return cast(found, result.dtype)

    def _level(self, name: str) -> int:
        return next(a.level for a in self._accumulators.values() if a.step.name == name)

    # --- scatter-add --------------------------------------------------------------

    def _scatter(self, name: str, nodes: Sequence[Node]) -> Nest:
        """Start the result, then put each update where it belongs, one by one."""
        (node,) = nodes
        if len(self.outputs) != 1 or self.outputs[0][0].node is not node:
            raise NotOneNest(f"{node.op.name} stands alone in its nest")
        how = node.op.lower
        assert isinstance(how, ScatterAdd)
        result, place = self.outputs[0]
        types = tuple(t.type for t in node.inputs)
        chosen = how.parallel(types, node.attrs)
        axes = tuple(
            LoopAxis(f"i{j}", result.shape[i])
            for j, i in enumerate(chosen)
            if result.shape[i] != 1
        )
        self._point = tuple(axis(a.name) for a in axes)
        outer = _index(tuple(result.shape[i] for i in chosen), self._point)
        site = self._site(node, outer)
        rest = [i for i in range(result.ndim) if i not in chosen]
        zeroed = tuple(LoopAxis(f"k{j}", result.shape[i]) for j, i in enumerate(rest))
        along = dict(zip(chosen, outer, strict=True))
        along.update(zip(rest, (axis(a.name) for a in zeroed), strict=True))
        at = (*place.lead, *(along[i] for i in range(result.ndim)))
        start: Expr = const(0, result.dtype)
        if how.start is not None:
            start = how.start(site, at[len(place.lead) :])
        clear = Phase(zeroed, stores=(Store(place.buffer, at, start),))
        extents = how.extents(types, node.attrs)
        loops = tuple(LoopAxis(f"k{j}", size) for j, size in enumerate(extents))
        inner = tuple(axis(a.name) for a in loops)
        target = (*place.lead, *how.target(site, inner))
        store = Store(place.buffer, target, how.value(site, inner), how.accumulate)
        add = Phase(loops, stores=(store,))
        return Nest(name, axes, (clear, add), labels=self.labels, nodes=(node,))


def reached(outputs: Sequence[Tensor], sources: Collection[Tensor]) -> list[Node]:
    """Return the nodes between sources and outputs, in order."""
    stop = {t.node for t in sources}
    order: list[Node] = []
    done: set[Node] = set()
    stack = [t.node for t in reversed(outputs)]
    while stack:
        node = stack.pop()
        if node in done or node.op.leaf:
            continue
        before = [
            t.node
            for t in reversed(node.inputs)
            if t.node not in stop and not t.node.op.leaf
        ]
        if done.issuperset(before):
            done.add(node)
            order.append(node)
        else:
            stack.append(node)
            stack += before
    return order


def _solid(shape: Shape) -> Shape:
    return tuple(s for s in shape if s != 1)


def _axes(prefix: str, shape: Shape) -> tuple[LoopAxis, ...]:
    return tuple(LoopAxis(f"{prefix}{j}", s) for j, s in enumerate(_solid(shape)))


def _index(shape: Shape, point: Sequence[Expr]) -> tuple[Expr, ...]:
    along = iter(point)
    return tuple(ZERO if size == 1 else next(along) for size in shape)


def _row_form(node: Node) -> Shape | None:
    """Return the shape a plain reduction goes over; None for one of other reads."""
    if len(node.inputs) == 1 and hasattr(node.attrs, "axis"):
        return node.inputs[0].shape
    return None


def reads_again(node: Node) -> bool:
    """Whether a node may reduce an element several times: contractions, windows."""
    return isinstance(node.op.lower, Reduction) and _row_form(node) is None


def same_elements(a: Node, b: Node) -> bool:
    """Whether two reductions of equal shapes go over the same places."""
    rows = _row_form(a) is not None and _row_form(b) is not None
    return a.attrs == b.attrs or (rows and bool(a.attrs.axis == b.attrs.axis))


def is_contraction(node: Node) -> bool:
    """Whether a node reduces over products of several tensors' elements."""
    return reads_again(node) and len(node.inputs) > 1


def _kept(node: Node) -> list[int]:
    return [i for i in range(node.inputs[0].ndim) if i not in node.attrs.axis]


def keeps_order(node: Node) -> bool:
    """Whether a node is a reshape that only adds or drops axes of size 1."""
    return isinstance(node.op.lower, View) and _solid(node.inputs[0].shape) == _solid(
        node.results[0].shape
    )


def _same_place(node: Node, index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Return the index in a reshape's input, where only axes of size 1 differ."""
    source, target = node.inputs[0].shape, node.results[0].shape
    if not keeps_order(node):
        raise NotOneNest("a reshape that regroups elements is a view of a buffer")
    return _index(source, [i for i, s in zip(index, target, strict=True) if s != 1])


def fits(sources: Sequence[Tensor], outputs: Sequence[Tensor]) -> bool:
    """Whether ops between these tensors can be one nest."""
    try:
        GroupLowering(
            {t: Place(f"s{i}") for i, t in enumerate(sources)},
            [(t, Place(f"o{i}")) for i, t in enumerate(outputs)],
        ).nest("probe")
    except NotOneNest:
        return False
    return True
