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

from graphc.backends.cpu.guards import guarded
from graphc.backends.shared.blocks import INFIX, BlockWriter, times
from graphc.errors import LoweringError
from graphc.ir.scalar import (
    Apply,
    Axis,
    Const,
    Expr,
    Load,
    Ref,
    SizeOf,
    axes_of,
    const,
    linear,
    literal_text,
    walk,
)
from graphc.ir.types import DType, bool_, float32

CALLS = {
    "neg": "neg",
    "abs": "absolute",
    "sign": "sign",
    "maximum": "maximum",
    "minimum": "minimum",
    "exp": "exp",
    "log": "log",
    "log2": "log2",
    "log10": "log10",
    "log1p": "log1p",
    "expm1": "expm1",
    "sqrt": "sqrt",
    "rsqrt": "rsqrt",
    "tanh": "tanh",
    "sin": "sin",
    "cos": "cos",
    "arctan": "arctan",
    "erf": "erf",
    "erfc": "erfc",
    "pow": "power",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "round_even",
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
    return f'float("{text}")' if text in ("inf", "-inf", "nan") else text


@dataclass
class Writer(BlockWriter):
    """Writes statements on vectors.

    axis: the axis along lanes, empty where none is open; inside: the lanes that exist
    along it. mask: the lanes that the innermost block stores; `full` are all, `one` is
    the first. early: of which buffers accesses ask for what comes later, as a kind of
    access, "ahead" or "later", and its last arguments; past: the buffers that are
    written past the caches, passing: the operation that does it.
    """

    lanes: int
    axis: str = ""
    inside: str = "m"
    early: dict[str, tuple[str, str]] = field(default_factory=dict)
    past: frozenset[str] = frozenset()
    passing: str = "stream"
    mask: str = "full"

    @contextmanager
    def loop(self, head: str, *axes: str, mask: str = "") -> Iterator[None]:
        """Open a loop in which these axes are known."""
        before, self.mask = self.mask, mask or self.mask
        with self.block(head, *axes):
            yield
        self.mask = before

    @contextmanager
    def lane_axis(self, axis: str, inside: str = "m", mask: str = "") -> Iterator[None]:
        """Let lanes run along another axis for a while."""
        before = self.axis, self.inside, self.mask
        self.axis, self.inside, self.mask = axis, inside, mask or self.mask
        yield
        self.axis, self.inside, self.mask = before

    # --- vectors ------------------------------------------------------------------

    def vector(self, root: Expr) -> str:
        """Return the local that holds an expression as a vector."""
        for e in walk_needed(root, self.axis):
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
        depth = self.home(e)
        along = bool(self.axis) and self.axis in self._axes_upto(depth)
        mask = self.inside if along else "full"
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
        free = guarded(e, self.axis)
        if free is not None:
            return self._guarded(e, free, mask)
        args = [self._find(a) for a in e.args]
        if e.prim == "cast":
            return f"{self.use(CAST[e.dtype.name])}({args[0]})"
        if e.prim == "logical_not":
            return f"~{args[0]}"
        if e.prim == "div" and e.dtype is float32 and self._once(e.args[1], e):
            inverse = self.vector(const(1.0, float32) / e.args[1])
            return f"{self.use('quotient')}({args[0]}, {args[1]}, {inverse})"
        if e.prim in INFIX:
            return f"{args[0]} {INFIX[e.prim]} {args[1]}"
        if e.prim.startswith("philox"):
            word = self.use("philox_word")
            return f"{word}({', '.join(args)}, {e.prim[-1]})"
        return f"{self.use(CALLS[e.prim])}({', '.join(args)})"

    def _guarded(self, e: Expr, free: Load, mask: str) -> str:
        """Return the text of a choice that reads where its test holds, else 0."""
        test, _, other = e.args
        read = self.load(free, f"{mask} & {self._find(test)}")
        if isinstance(other, Const) and other.value == 0:
            return read
        return f"{self.use('select')}({self._find(test)}, {read}, {self._find(other)})"

    def _once(self, e: Expr, user: Expr) -> bool:
        """Whether an expression is computed once for many turns of its user."""
        return self.home(e) < self.home(user)

    # --- memory -------------------------------------------------------------------

    def load(self, e: Load, mask: str) -> str:
        """Return the text that reads an element for each lane."""
        pointer = self.arguments.buffer(e.buffer)
        offset, step, varying = self.place(e.buffer, e.args)
        if varying:
            where = self.spread(offset, varying)
            return f"{self.use('gather')}({pointer}, {where}, {mask})"
        if step == "0":
            return f"{self.use('load1')}({pointer}, {offset}, {mask})"
        if step == "1":
            if e.buffer in self.early:
                kind, far = self.early[e.buffer]
                return f"{self.use(f'load_{kind}')}({pointer}, {offset}, {mask}, {far})"
            return f"{self.use('load')}({pointer}, {offset}, {mask})"
        if self.program.buffers[e.buffer].step(e.args, self.axis) == 2:
            return f"{self.use('every_other')}({pointer}, {offset}, {mask})"
        return f"{self.use('strided')}({pointer}, {offset}, {step}, {mask})"

    def zero_when_off(self, e: Expr) -> bool:
        """Whether lanes that are off hold 0: what a masked read gives, and products."""
        if isinstance(e, Load):
            return any(self.axis in axes_of(x) for x in e.args)
        product = isinstance(e, Apply) and e.prim in ("mul", "cast")
        return product and all(map(self.zero_when_off, e.args))

    def store(self, buffer: str, index: Sequence[Expr], value: Expr) -> None:
        """Write a statement that stores a value for each lane."""
        local = self.vector(value)
        pointer, offset, where = self._target(buffer, index)
        if where:
            text = f"{self.use('scatter')}({pointer}, {where}, {local}, {self.mask})"
        else:
            past = buffer in self.past and self.mask != "one"
            plain = self.passing if past else "store"
            what = f"{pointer}, {offset}, {local}, {self.mask}"
            if buffer in self.early and self.mask != "one":
                kind, far = self.early[buffer]
                text = f"{self.use(f'store_{kind}')}({what}, {far})"
            else:
                text = f"{self.use(plain)}({what})"
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
            varying = [self._ramp(step)]
        return pointer, offset, self.spread(offset, varying)

    def splat(self, text: str) -> str:
        """Return the vector of a scalar index."""
        return f"{self.use('splat_i64')}({text}, full)"

    def spread(self, offset: str, varying: Sequence[str]) -> str:
        """Return a vector of offsets."""
        return " + ".join([self.splat(offset), *varying])

    def place(self, buffer: str, index: tuple[Expr, ...]) -> tuple[str, str, list[str]]:
        """Return where an access is: scalar offset, step along lanes, vector parts."""
        steps, others = self.parts(buffer, index)
        scalars: list[str] = []
        varying: list[str] = []
        for e, factor in others:
            if self.varies(e):
                wide = f"{self.use('cast_i64')}({self.vector(e)})"
                varying.append(
                    times(wide, factor if factor == "1" else self.splat(factor))
                )
            else:
                scalars.append(times(self.scalar(e), factor))
        terms = [times(name, factor) if name else factor for name, factor in steps]
        offset = " + ".join([*terms, *scalars]) or "0"
        lane = dict(steps).get(self.axis, "0") if self.axis else "0"
        if varying and lane != "0":
            varying.append(self._ramp(lane))
        return offset, lane, varying

    def _ramp(self, step: str) -> str:
        """Return the vector of what lanes add to the offset of the first."""
        lanes = f"{self.use('iota')}(0, full)"
        return lanes if step == "1" else f"{lanes} * {self.splat(step)}"

    def prepare(self, e: Expr) -> None:
        """Compute what an index needs before the statement that uses it."""
        form = linear(e)
        for x in form.uniform if form else (e,):
            if self.varies(x):
                self.vector(x)
            else:
                self.scalar(x)

    def varies(self, e: Expr) -> bool:
        """Whether an index must be computed in vectors.

        It differs from lane to lane, or its way leads through floats, whose rounding
        and conversion vectors alone know.
        """
        return any(
            isinstance(x, Ref)
            or (isinstance(x, Axis) and x.name == self.axis)
            or x.dtype.is_float
            or (isinstance(x, Apply) and x.prim.startswith("philox"))
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
        depth = self.home(root)
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


def walk_needed(root: Expr, axis: str) -> Iterator[Expr]:
    """Yield what must be in vectors for an expression: indices of reads left out.

    So is a read that its test allows along an axis of lanes: it is one with its choice.
    """
    done: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(root, False)]
    while stack:
        item, ready = stack.pop()
        if ready:
            yield item
        elif id(item) not in done:
            done.add(id(item))
            stack.append((item, True))
            if isinstance(item, Load):
                continue
            needed = item.args
            if guarded(item, axis) is not None:
                test, _, other = item.args
                needed = (test, other)
            stack.extend((a, False) for a in reversed(needed))
