"""Writing nested loops as text: what is known where, and where an access lies.

Each expression becomes one statement, in the outermost block in which all that it
depends on is known. A backend's writer says how a statement computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphc.backends.shared.arguments import Arguments
from graphc.errors import LoweringError
from graphc.ir.dims import Size
from graphc.ir.program import LoopAxis, Nest, Phase, Program
from graphc.ir.scalar import Axis, Expr, Ref, const, linear, rebuild, walk
from graphc.ir.types import DType

PAD = "    "

INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floor_divide": "//",
    "remainder": "%",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
    "logical_and": "&",
    "logical_or": "|",
}


def identity(monoid: str, dtype: DType) -> float | int:
    """Return the neutral element of a monoid."""
    if monoid in ("sum", "prod"):
        return int(monoid == "prod")
    if monoid in ("any", "all"):
        return monoid == "all"
    lowest = monoid in ("max", "argmax")
    if dtype.is_float:
        return float("-inf") if lowest else float("inf")
    bits = 8 * dtype.itemsize - 1
    return int(-(2**bits) if lowest else 2**bits - 1)


def first_place(nest: Nest, values: Sequence[Expr]) -> Expr:
    """Return the position that argmax begins with: that of the first element.

    It stands where no element beats the neutral one, as when all are -inf.
    """
    points = {a.name for a in nest.axes}

    def change(old: Expr, _: tuple[Expr, ...]) -> Expr | None:
        inner = isinstance(old, Axis) and old.name not in points
        return const(0, old.dtype) if inner else None

    return rebuild(values[1], change)


@dataclass
class Block:
    """The statements of one loop level, and what is known in it."""

    lines: list[str] = field(default_factory=list)
    known: dict[Expr, str] = field(default_factory=dict)
    scalars: dict[Expr, str] = field(default_factory=dict)
    axes: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)


@dataclass
class BlockWriter:
    """Writes statements into nested blocks; the last one is the innermost loop."""

    nest: Nest
    program: Program
    arguments: Arguments
    blocks: list[Block] = field(default_factory=lambda: [Block()], kw_only=True)
    used: set[str] = field(default_factory=set, kw_only=True)
    _count: int = field(default=0, kw_only=True)
    _refs: dict[str, str] = field(default_factory=dict, kw_only=True)

    # --- blocks -------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write a statement into the innermost block."""
        self.blocks[-1].lines.append(text)

    @contextmanager
    def block(self, head: str, *axes: str) -> Iterator[None]:
        """Open a loop or a branch in which these axes are known."""
        self.blocks.append(Block(axes=set(axes)))
        yield
        inner = self.blocks.pop()
        self.line(head)
        self.blocks[-1].lines.extend(PAD + line for line in inner.lines)

    def name(self, prefix: str = "v") -> str:
        """Return a fresh local name."""
        self._count += 1
        return f"{prefix}{self._count - 1}"

    def use(self, function: str) -> str:
        """Note that the module must import a function of the prelude."""
        self.used.add(function)
        return function

    def define(self, accumulator: str, local: str) -> None:
        """Say which local holds the result of a reduction, from this block on."""
        self._refs[accumulator] = local
        self.blocks[-1].refs.add(accumulator)

    def home(self, e: Expr) -> int:
        """Return the outermost block in which an expression can be computed."""
        depth = 0
        for item in walk(e):
            if isinstance(item, Axis):
                depth = max(depth, self._owner(item.name))
            elif isinstance(item, Ref):
                found = (i for i, b in enumerate(self.blocks) if item.name in b.refs)
                depth = max(depth, next(found))
        return depth

    def _owner(self, axis: str) -> int:
        for i, block in enumerate(self.blocks):
            if axis in block.axes:
                return i
        raise LoweringError(f"nest {self.nest.name}: the axis {axis} is not open")

    # --- indices ------------------------------------------------------------------

    def extent(self, axis: LoopAxis, phase: Phase | None = None) -> str:
        """Return the extent of an axis; phases may differ in that of `k0`."""
        phases = self.nest.phases
        clash = any(b.name == axis.name and b != axis for p in phases for b in p.axes)
        if phase is None or not clash:
            return self.arguments.size(f"n_{axis.name}", axis.extent)
        first = next(i for i, p in enumerate(phases) if axis in p.axes)
        return self.arguments.size(f"n{first}_{axis.name}", axis.extent)

    def decode(self, names: Sequence[str], counts: Sequence[str], whole: str) -> None:
        """Write the indices that a flat one stands for, the last running fastest."""
        rest = whole
        for name, count in reversed(list(zip(names[1:], counts[1:], strict=True))):
            self.line(f"{name} = {rest} % {count}")
            self.line(f"rest_{name} = {rest} // {count}")
            rest = f"rest_{name}"
        self.line(f"{names[0]} = {rest}")

    def advance(self, names: Sequence[str], counts: Sequence[str]) -> None:
        """Write the step from one point to the next, the last index running fastest."""
        *outer, last = names
        self.line(f"{last} = {last} + 1")
        if outer:
            with self.block(f"if {last} == {counts[-1]}:"):
                self.line(f"{last} = 0")
                self.advance(outer, counts[:-1])

    def parts(
        self, buffer: str, index: Sequence[Expr]
    ) -> tuple[list[tuple[str, str]], list[tuple[Expr, str]]]:
        """Return the terms whose sum is where an access lies, with their factors.

        First those that are affine, by axis ("" for a constant, which is its own
        factor), then the other expressions: those that are the same at all points of
        the nest, and those that are neither.
        """
        pointer = self.arguments.buffer(buffer)
        steps: dict[str, Size] = {}
        others: list[tuple[Expr, str]] = []
        strides = self.program.buffers[buffer].strides
        for d, (e, stride) in enumerate(zip(index, strides, strict=True)):
            form = linear(e)
            if form is None:
                others.append((e, self.arguments.factor(f"{pointer}_d{d}", stride)))
                continue
            for name, c in form.axes.items():
                steps[name] = steps.get(name, 0) + c * stride
        terms = [
            (name, self.arguments.factor(f"{pointer}_{name or 'at'}", c))
            for name, c in steps.items()
            if c != 0
        ]
        return terms, [*self.uniform(buffer, index), *others]

    def uniform(self, buffer: str, index: Sequence[Expr]) -> list[tuple[Expr, str]]:
        """Return the terms of an access that are loaded, yet the same at all points."""
        steps: dict[Expr, Size] = {}
        for e, stride in zip(index, self.program.buffers[buffer].strides, strict=True):
            form = linear(e)
            for x, c in form.uniform.items() if form else ():
                steps[x] = steps.get(x, 0) + c * stride
        factor, name = self.arguments.factor, f"{self.arguments.buffer(buffer)}_by"
        return [(x, factor(name, c)) for x, c in steps.items() if c != 0]


def times(text: str, factor: str) -> str:
    """Return a product as text."""
    return text if factor == "1" else f"{text} * {factor}"
