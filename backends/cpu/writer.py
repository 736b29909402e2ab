"""Writing the body of a kernel: scalar expressions as statements on vectors.

Each expression becomes one statement, in the outermost loop in which all that it
depends on is known, and is computed once there. Values are vectors; an expression
that does not vary along the lanes is the same in all of them. Indices that depend on
loaded values are worked out as scalars where they are uniform, as vectors else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from graphc.backends.cpu.arguments import Arguments
from graphc.errors import LoweringError
from graphc.ir.dims import Size
from graphc.ir.program import Nest, Program
from graphc.ir.scalar import (
    Apply,
    Axis,
    Const,
    Expr,
    Load,
    Ref,
    SizeOf,
    affine,
    const,
    literal_text,
    walk,
)
from graphc.ir.types import DType, bool_

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
CALLS = {
    "neg": "neg",
    "abs": "absolute",
    "sign": "sign",
    "maximum": "maximum",
    "minimum": "minimum",
    "exp": "exp",
    "log": "log",
    "log1p": "log1p",
    "expm1": "expm1",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "tanh": "tanh",
    "cos": "cos",
    "pow": "power",
    "floor": "floor",
    "select": "select",
}
CAST = {
    "float32": "cast_f32",
    "float64": "cast_f64",
    "int32": "cast_i32",
    "int64": "cast_i64",
    "bool": "cast_bool",
}
SPLAT = {
    "float32": "splat_f32",
    "float64": "splat_f64",
    "int32": "splat_i32",
    "int64": "splat_i64",
    "bool": "splat_bool",
}


def literal(value: float | bool, dtype: DType) -> str:
    """Return a number as Python source that has its exact value in its dtype."""
    if dtype is bool_:
        return "True" if value else "False"
    found = const(value, dtype)
    assert isinstance(found, Const)
    text = literal_text(found)
    return f"float('{text}')" if text in ("inf", "-inf", "nan") else text


@dataclass
class Block:
    """The statements of one loop level, and what is known in it."""

    lines: list[str] = field(default_factory=list)
    known: dict[Expr, str] = field(default_factory=dict)
    scalars: dict[Expr, str] = field(default_factory=dict)
    axes: set[str] = field(default_factory=set)
    refs: set[str] = field(default_factory=set)


@dataclass
class Writer:
    """Writes statements into nested blocks; the last one is the innermost loop.

    axis: the axis along lanes, empty where none is open. mask: the lanes that the
    innermost block stores; `m` are those along the axis, `full` all, `one` the first.
    """

    nest: Nest
    program: Program
    arguments: Arguments
    lanes: int
    axis: str = ""
    mask: str = "full"
    blocks: list[Block] = field(default_factory=lambda: [Block()])
    used: set[str] = field(default_factory=set)
    _count: int = 0
    _refs: dict[str, str] = field(default_factory=dict)

    # --- blocks -------------------------------------------------------------------

    def line(self, text: str) -> None:
        """Write a statement into the innermost block."""
        self.blocks[-1].lines.append(text)

    @contextmanager
    def loop(self, head: str, *axes: str, mask: str = "") -> Iterator[None]:
        """Open a loop in which these axes are known."""
        self.blocks.append(Block(axes=set(axes)))
        before, self.mask = self.mask, mask or self.mask
        yield
        self.mask = before
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

    def _home(self, e: Expr) -> int:
        """Return the outermost block in which an expression can be computed."""
        depth = 0
        for item in walk(e):
            if isinstance(item, Axis):
                owner = self._owner(item.name)
                depth = max(depth, owner)
            elif isinstance(item, Ref):
                depth = max(
                    depth,
                    next(i for i, b in enumerate(self.blocks) if item.name in b.refs),
                )
        return depth

    def _owner(self, axis: str) -> int:
        for i, block in enumerate(self.blocks):
            if axis in block.axes:
                return i
        raise LoweringError(f"nest {self.nest.name}: the axis {axis} is not open")

    # --- vectors ------------------------------------------------------------------

    def vector(self, root: Expr) -> str:
        """Return the local that holds an expression as a vector."""
        for e in walk_needed(root):
            self._vector_one(e)
        return self._find(root)

    def _find(self, e: Expr) -> str:
        for block in self.blocks:
            if e in block.known:
                return block.known[e]
        raise LoweringError(f"nest {self.nest.name}: {e!r} was not written")

    def _is_known(self, e: Expr) -> bool:
        return any(e in block.known for block in self.blocks)

    def _vector_one(self, e: Expr) -> None:
        if self._is_known(e):
            return
        depth = self._home(e)
        along = bool(self.axis) and self.axis in self._axes_upto(depth)
        mask = "m" if along else "full"
        text = self._vector_text(e, mask)
        local = self._refs[e.name] if isinstance(e, Ref) else self.name()
        if not isinstance(e, Ref):
            note = self.nest.labels.get(e, "")
            self.blocks[depth].lines.append(
                f"{local} = {text}" + (f"  # {note}" if note else "")
            )
        self.blocks[depth].known[e] = local

    def _axes_upto(self, depth: int) -> set[str]:
        return set().union(*(b.axes for b in self.blocks[: depth + 1]))

    def _vector_text(self, e: Expr, mask: str) -> str:
        if isinstance(e, Const):
            splat = self.use(SPLAT[e.dtype.name])
            return f"{splat}({literal(e.value, e.dtype)}, full)"
        if isinstance(e, SizeOf):
            return f"{self.use('splat_i64')}({self.arguments.dimension(e.size)}, full)"
        if isinstance(e, Axis):
            if e.name == self.axis:
                return f"{self.use('iota')}({e.name}, {mask})"
            return f"{self.use('splat_i64')}({e.name}, full)"
        if isinstance(e, Ref):
            return ""
        if isinstance(e, Load):
            return self.load(e, mask)
        assert isinstance(e, Apply)
        args = [self._find(a) for a in e.args]
        if e.prim == "cast":
            return f"{self.use(CAST[e.dtype.name])}({args[0]})"
        if e.prim == "logical_not":
            return f"~{args[0]}"
        if e.prim in INFIX:
            return f"{args[0]} {INFIX[e.prim]} {args[1]}"
        if e.prim.startswith("philox"):
            word = self.use("philox_word")
            return f"{word}({', '.join(args)}, {e.prim[-1]})"
        return f"{self.use(CALLS[e.prim])}({', '.join(args)})"

    # --- memory -------------------------------------------------------------------

    def load(self, e: Load, mask: str) -> str:
        """Return the text that reads an element for each lane."""
        pointer = self.arguments.buffer(e.buffer)
        offset, step, varying = self.place(e.buffer, e.args)
        if varying:
            return f"{self.use('gather')}({pointer}, {self.spread(offset, varying)}, {mask})"
        if step == "0":
            return f"{self.use('load1')}({pointer}, {offset}, {mask})"
        if step == "1":
            return f"{self.use('load')}({pointer}, {offset}, {mask})"
        return f"{self.use('strided')}({pointer}, {offset}, {step}, {mask})"

    def store(self, buffer: str, index: Sequence[Expr], value: Expr) -> None:
        """Write a statement that stores a value for each lane."""
        local = self.vector(value)
        pointer, offset, where = self._target(buffer, index)
        if where:
            text = f"{self.use('scatter')}({pointer}, {where}, {local}, {self.mask})"
        else:
            text = f"{self.use('store')}({pointer}, {offset}, {local}, {self.mask})"
        self.line(text)

    def accumulate(self, buffer: str, index: Sequence[Expr], value: Expr) -> None:
        """Write statements that add a value for each lane to what is there.

        No two lanes add to one element: lanes run along an axis of the target.
        """
        local = self.vector(value)
        pointer, offset, where = self._target(buffer, index)
        read, write = ("gather", "scatter") if where else ("load", "store")
        place, mask = where or offset, self.mask
        if where:
            place = self.name("at")
            self.line(f"{place} = {where}")
        total = f"{self.use(read)}({pointer}, {place}, {mask}) + {local}"
        self.line(f"{self.use(write)}({pointer}, {place}, {total}, {mask})")

    def _target(self, buffer: str, index: Sequence[Expr]) -> tuple[str, str, str]:
        """Return where a store goes: pointer, offset, and the lanes' offsets if any.

        The latter are empty where lanes are neighbours, or all the same element.
        """
        pointer = self.arguments.buffer(buffer)
        for i in index:
            self.prepare(i)
        offset, step, varying = self.place(buffer, tuple(index))
        if not varying and step in ("0", "1"):
            return pointer, offset, ""
        if not varying:
            varying = [f"{self.use('iota')}(0, full) * {self.splat(step)}"]
        return pointer, offset, self.spread(offset, varying)

    def splat(self, text: str) -> str:
        """Return the vector of a scalar index."""
        return f"{self.use('splat_i64')}({text}, full)"

    def spread(self, offset: str, varying: Sequence[str]) -> str:
        """Return a vector of offsets."""
        return " + ".join([self.splat(offset), *varying])

    def place(
        self, buffer: str, index: tuple[Expr, ...]
    ) -> tuple[str, str, list[str]]:
        """Return where an access is: scalar offset, step along lanes, vector parts."""
        known = self.program.buffers[buffer]
        pointer = self.arguments.buffer(buffer)
        steps: dict[str, Size] = {}
        scalars: list[str] = []
        varying: list[str] = []
        for d, (e, stride) in enumerate(zip(index, known.strides, strict=True)):
            form = affine(e)
            if form is not None:
                for name, c in form.items():
                    steps[name] = steps.get(name, 0) + c * stride
                continue
            factor = self._factor(f"{pointer}_d{d}", stride)
            if self.varies(e):
                local = self.vector(e)
                wide = f"{self.use('cast_i64')}({local})"
                varying.append(f"{wide} * {self.splat(factor)}" if factor != "1" else wide)
            else:
                text = self.scalar(e)
                scalars.append(text if factor == "1" else f"{text} * {factor}")
        terms: list[str] = []
        lane = "0"
        for name, c in steps.items():
            if c == 0:
                continue
            if name == "":
                terms.append(self._factor(f"{pointer}_at", c))
                continue
            factor = self._factor(f"{pointer}_{name}", c)
            if name == self.axis:
                lane = factor
            terms.append(name if factor == "1" else f"{name} * {factor}")
        offset = " + ".join([*terms, *scalars]) or "0"
        return offset, lane, varying

    def _factor(self, name: str, value: Size) -> str:
        """Return a stride: 0 and 1 are part of the kernel, others of its arguments."""
        if value == 1:
            return "1"
        known = {w.name: w.value for w in self.arguments.words}
        base, i = name, 1
        while name in known and known[name] != value:
            name, i = f"{base}_{i}", i + 1
        return self.arguments.size(name, value)

    def prepare(self, e: Expr) -> None:
        """Compute what an index needs before the statement that uses it."""
        if affine(e) is None:
            if self.varies(e):
                self.vector(e)
            else:
                self.scalar(e)

    def varies(self, e: Expr) -> bool:
        """Whether an expression differs from lane to lane."""
        return any(
            isinstance(x, Ref) or (isinstance(x, Axis) and x.name == self.axis)
            for x in walk(e)
        )

    # --- scalars ------------------------------------------------------------------

    def scalar(self, root: Expr) -> str:
        """Return a uniform integer expression as Python source, in a local if long."""
        if isinstance(root, Const):
            return literal(root.value, root.dtype)
        if isinstance(root, SizeOf):
            return self.arguments.dimension(root.size)
        if isinstance(root, Axis):
            return root.name
        for block in self.blocks:
            if root in block.scalars:
                return block.scalars[root]
        depth = self._home(root)
        text = self._scalar_text(root)
        local = self.name("j")
        self.blocks[depth].lines.append(f"{local} = {text}")
        self.blocks[depth].scalars[root] = local
        return local

    def _scalar_text(self, e: Expr) -> str:
        if isinstance(e, Load):
            pointer = self.arguments.buffer(e.buffer)
            offset, _, _ = self.place(e.buffer, e.args)
            return f"{self.use('get')}({pointer}, {offset})"
        assert isinstance(e, Apply), e
        args = [self.scalar(a) for a in e.args]
        if e.prim == "cast":
            return args[0]
        if e.prim == "select":
            return f"{args[1]} if {args[0]} else {args[2]}"
        if e.prim in ("maximum", "minimum"):
            return f"{e.prim[:3]}({args[0]}, {args[1]})"
        if e.prim == "neg":
            return f"-{args[0]}"
        if e.prim == "logical_not":
            return f"not {args[0]}"
        if e.prim in INFIX:
            return f"{args[0]} {INFIX[e.prim]} {args[1]}"
        raise LoweringError(f"nest {self.nest.name}: {e.prim} in an index")


def walk_needed(root: Expr) -> Iterator[Expr]:
    """Yield what must be in vectors for an expression: indices of reads left out."""
    done: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        item, ready = stack.pop()
        if ready:
            yield item
        elif id(item) not in done:
            done.add(id(item))
            stack.append((item, True))
            if not isinstance(item, Load):
                stack.extend((a, False) for a in reversed(item.args))
