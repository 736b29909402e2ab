"""Writing the body of a CUDA kernel: scalar expressions as statements of one thread.

Reads and applications become statements; literals, indices, sizes and results of
reductions stand where they are used. Every value has exactly its expression's dtype:
Numba widens int32 arithmetic to int64, so it is cut back at each step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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
    literal_text,
)
from graphc.ir.types import DType, bool_, float32, float64, int32, int64

CALLS = {
    "maximum": "maximum",
    "minimum": "minimum",
    "floor_divide": "floor_divide",
    "remainder": "remainder",
    "sign": "sign",
    "exp": "exp",
    "log": "log",
    "log2": "log2",
    "log10": "log10",
    "log1p": "log1p",
    "expm1": "expm1",
    "sqrt": "sqrt",
    "tanh": "tanh",
    "sin": "sin",
    "cos": "cos",
    "arctan": "arctan",
    "erf": "erf",
    "erfc": "erfc",
    "pow": "power",
}
# Functions of the prelude that are one for each float dtype.
ROUNDINGS = {"floor", "ceil", "trunc", "round"}
# What Numba computes in int64 where its arguments are int32.
WIDENED = {"abs", "sign", "add", "sub", "mul", "neg", "floor_divide", "remainder"}


def of_dtype(text: str, dtype: DType) -> str:
    """Return a number converted to a dtype, as source."""
    return f"np.{dtype.numpy.name}({text})"


def literal(e: Const) -> str:
    """Return a literal as source that has its exact value and its dtype."""
    if e.dtype is bool_:
        return "True" if e.value else "False"
    text = literal_text(e)
    for word in ("inf", "nan"):
        text = text.replace(word, f"np.{word}")
    return text if e.dtype in (float64, int64) else of_dtype(text, e.dtype)


@dataclass
class Writer(BlockWriter):
    """Writes what one thread computes."""

    def value(self, root: Expr) -> str:
        """Return an expression as source: a local, or what needs none."""
        for e in _needed(root):
            if not any(e in block.known for block in self.blocks):
                self._statement(e)
        return self._find(root)

    def _statement(self, e: Expr) -> None:
        if not isinstance(e, (Load, Apply)):
            return
        depth = self.home(e)
        text = self._load(e) if isinstance(e, Load) else self._apply(e)
        local = self.name()
        note = self.nest.labels.get(e, "")
        line = f"{local} = {text}" + (f"  # {note}" if note else "")
        self.blocks[depth].lines.append(line)
        self.blocks[depth].known[e] = local

    def _find(self, e: Expr) -> str:
        if isinstance(e, Const):
            return literal(e)
        if isinstance(e, Axis):
            return e.name
        if isinstance(e, SizeOf):
            return self.arguments.dimension(e.size)
        if isinstance(e, Ref):
            return self._refs[e.name]
        for block in self.blocks:
            if e in block.known:
                return block.known[e]
        raise LoweringError(f"nest {self.nest.name}: {e!r} was not written")

    # --- arithmetic ---------------------------------------------------------------

    def _apply(self, e: Apply) -> str:
        args = [self._find(a) for a in e.args]
        if e.prim == "cast":
            return self._cast(args[0], e.args[0].dtype, e.dtype)
        text = self._primitive(e, args)
        if e.prim in WIDENED and e.dtype is int32:
            return of_dtype(text, e.dtype)
        return text

    def _primitive(self, e: Apply, args: Sequence[str]) -> str:
        if e.prim == "sign" and not e.dtype.is_float:
            return f"{self.use('sign_int')}({args[0]})"
        if e.prim in ("floor_divide", "remainder") and e.dtype.is_float:
            text = f"{self.use(f'{e.prim}_float')}({', '.join(args)})"
            return of_dtype(text, e.dtype) if e.dtype is float32 else text
        if e.prim in CALLS:
            return f"{self.use(CALLS[e.prim])}({', '.join(args)})"
        if e.prim.startswith("philox"):
            word = self.use("philox_word")
            return f"{word}({', '.join(args)}, {e.prim[-1]})"
        if e.prim == "select":
            return f"{args[1]} if {args[0]} else {args[2]}"
        if e.prim == "logical_not":
            return f"not {args[0]}"
        if e.prim == "neg":
            return f"-{args[0]}"
        if e.prim == "abs":
            return f"abs({args[0]})"
        if e.prim == "rsqrt":
            return f"{of_dtype('1.0', e.dtype)} / {self.use('sqrt')}({args[0]})"
        if e.prim in ROUNDINGS:
            return f"{self.use(f'{e.prim}_{e.dtype.short}')}({args[0]})"
        if e.prim in INFIX:
            return f"{args[0]} {INFIX[e.prim]} {args[1]}"
        raise LoweringError(
            f"the cuda backend does not know the primitive {e.prim!r}",
            help="add it to backends/cuda/writer.py",
        )

    def _cast(self, text: str, old: DType, new: DType) -> str:
        if new is bool_:
            return f"{text} != 0"
        if old.is_float and not new.is_float:
            return f"{self.use(f'to_{new.numpy.name}')}({text})"
        return of_dtype(text, new)

    # --- memory -------------------------------------------------------------------

    def offset(self, buffer: str, index: Sequence[Expr]) -> str:
        """Return where an access lies, in elements."""
        terms, others = self.parts(buffer, index)
        texts = [times(name, f) if name else f for name, f in terms]
        texts += [times(self.value(e), factor) for e, factor in others]
        return " + ".join(texts) or "0"

    def _load(self, e: Load) -> str:
        return f"{self.arguments.buffer(e.buffer)}[{self.offset(e.buffer, e.args)}]"


def _needed(root: Expr) -> Iterator[Expr]:
    """Yield what an expression is computed of: indices of reads left out."""
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
