"""Scalar expressions: the bodies and the index arithmetic of loop nests.

One small language serves both: constants, loop axes, run-time sizes, loads from
buffers, results of reductions, and applications of the primitives listed here.
Expressions are hash-consed: equal expressions are one object, so identity is
structural equality and a shared subexpression is computed once.

The primitives are all that a backend must know of arithmetic; every elementwise
op is an expression over them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, TypeVar
from weakref import WeakValueDictionary

import numpy as np

from graphc.ir.dims import Size
from graphc.ir.philox import philox_words
from graphc.ir.types import DType, bool_, float32, int32, int64, promote

CACHED = 1 << 16  # expressions of which is kept what was found out about them


@dataclass(frozen=True, slots=True)
class Primitive:
    """A scalar operation that every backend implements.

    numpy: its meaning, on arrays. result: the rule for its dtype from those of its
    arguments. flops: what it counts for in a kernel's arithmetic.
    """

    name: str
    arity: int
    numpy: Callable[..., Any]
    result: Callable[..., DType]
    flops: int = 1


def _common(*dtypes: DType) -> DType:
    found = promote(*dtypes)
    return int32 if found is bool_ else found


def _floating(*dtypes: DType) -> DType:
    found = promote(*dtypes)
    return found if found.is_float else float32


def _boolean(*_: DType) -> DType:
    return bool_


def _branches(_: DType, then: DType, other: DType) -> DType:
    return promote(then, other)


def _word(*_: DType) -> DType:
    return int64


def _whole(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def divide(a: Any, b: Any) -> Any:
        # An integer divisor of 0 gives 0 in every backend: it must not trap in lanes
        # that a mask or a select discards. Floats are as NumPy has them.
        b = np.asarray(b)
        if b.dtype.kind == "f":
            return function(a, b)
        return np.where(b == 0, 0, function(a, np.where(b == 0, 1, b)))

    return divide


def _each(function: Callable[[float], float]) -> Callable[[Any], Any]:
    """Apply a function of the standard library that NumPy lacks to all elements."""
    over = np.frompyfunc(function, 1, 1)
    return lambda x: np.asarray(over(x)).astype(x.dtype)


def _philox(word: int) -> Callable[..., Any]:
    def words(seed: Any, stream: Any, step: Any, counter: Any) -> Any:
        found = philox_words(int(seed), int(stream), int(step), np.asarray(counter))
        return found[word].astype(np.int64)

    return words


PRIMITIVES: dict[str, Primitive] = {
    p.name: p
    for p in (
        Primitive("add", 2, np.add, _common),
        Primitive("sub", 2, np.subtract, _common),
        Primitive("mul", 2, np.multiply, _common),
        Primitive("div", 2, np.divide, _floating),
        Primitive("floor_divide", 2, _whole(np.floor_divide), _common),
        Primitive("remainder", 2, _whole(np.remainder), _common),
        Primitive("neg", 1, np.negative, _common),
        Primitive("abs", 1, np.absolute, _common),
        Primitive("sign", 1, np.sign, _common),
        Primitive("maximum", 2, np.maximum, _common),
        Primitive("minimum", 2, np.minimum, _common),
        Primitive("exp", 1, np.exp, _floating, 12),
        Primitive("log", 1, np.log, _floating, 14),
        Primitive("log2", 1, np.log2, _floating, 14),
        Primitive("log10", 1, np.log10, _floating, 15),
        Primitive("log1p", 1, np.log1p, _floating, 18),
        Primitive("expm1", 1, np.expm1, _floating, 16),
        Primitive("sqrt", 1, np.sqrt, _floating),
        Primitive("rsqrt", 1, lambda x: 1 / np.sqrt(x), _floating, 2),
        Primitive("tanh", 1, np.tanh, _floating, 20),
        Primitive("sin", 1, np.sin, _floating, 16),
        Primitive("cos", 1, np.cos, _floating, 16),
        Primitive("arctan", 1, np.arctan, _floating, 14),
        Primitive("erf", 1, _each(math.erf), _floating, 20),
        Primitive("erfc", 1, _each(math.erfc), _floating, 30),
        Primitive("pow", 2, np.power, _floating, 40),
        Primitive("floor", 1, np.floor, _floating),
        Primitive("ceil", 1, np.ceil, _floating),
        Primitive("trunc", 1, np.trunc, _floating),
        Primitive("round", 1, np.rint, _floating),
        Primitive("equal", 2, np.equal, _boolean),
        Primitive("not_equal", 2, np.not_equal, _boolean),
        Primitive("less", 2, np.less, _boolean),
        Primitive("less_equal", 2, np.less_equal, _boolean),
        Primitive("greater", 2, np.greater, _boolean),
        Primitive("greater_equal", 2, np.greater_equal, _boolean),
        Primitive("logical_and", 2, np.logical_and, _boolean),
        Primitive("logical_or", 2, np.logical_or, _boolean),
        Primitive("logical_not", 1, np.logical_not, _boolean),
        Primitive("select", 3, np.where, _branches),
        Primitive("philox0", 4, _philox(0), _word, 60),
        Primitive("philox1", 4, _philox(1), _word, 60),
    )
}


class Expr:
    """A scalar expression; also the tracer that elementwise definitions receive.

    Arithmetic and comparisons on it build expressions; Python numbers take the
    dtype of the other side.
    """

    __slots__ = ("__weakref__", "args", "dtype", "key")
    _table: ClassVar[WeakValueDictionary[Any, Expr]] = WeakValueDictionary()

    dtype: DType
    args: tuple[Expr, ...]
    key: tuple[Any, ...]

    @classmethod
    def _intern(cls, key: tuple[Any, ...], dtype: DType, args: tuple[Expr, ...]) -> Any:
        full = (cls, key, dtype, args)
        found = Expr._table.get(full)
        if found is None:
            found = object.__new__(cls)
            found.key, found.dtype, found.args = key, dtype, args
            Expr._table[full] = found
        return found

    def __add__(self, other: Any) -> Expr:
        return apply("add", self, other)

    def __radd__(self, other: Any) -> Expr:
        return apply("add", other, self)

    def __sub__(self, other: Any) -> Expr:
        return apply("sub", self, other)

    def __rsub__(self, other: Any) -> Expr:
        return apply("sub", other, self)

    def __mul__(self, other: Any) -> Expr:
        return apply("mul", self, other)

    def __rmul__(self, other: Any) -> Expr:
        return apply("mul", other, self)

    def __truediv__(self, other: Any) -> Expr:
        return apply("div", self, other)

    def __rtruediv__(self, other: Any) -> Expr:
        return apply("div", other, self)

    def __floordiv__(self, other: Any) -> Expr:
        return apply("floor_divide", self, other)

    def __rfloordiv__(self, other: Any) -> Expr:
        return apply("floor_divide", other, self)

    def __mod__(self, other: Any) -> Expr:
        return apply("remainder", self, other)

    def __rmod__(self, other: Any) -> Expr:
        return apply("remainder", other, self)

    def __pow__(self, other: Any) -> Expr:
        return apply("pow", self, other)

    def __neg__(self) -> Expr:
        return apply("neg", self)

    def __abs__(self) -> Expr:
        return apply("abs", self)

    def __lt__(self, other: Any) -> Expr:
        return apply("less", self, other)

    def __le__(self, other: Any) -> Expr:
        return apply("less_equal", self, other)

    def __gt__(self, other: Any) -> Expr:
        return apply("greater", self, other)

    def __ge__(self, other: Any) -> Expr:
        return apply("greater_equal", self, other)

    def __repr__(self) -> str:
        return show(self)


class Const(Expr):
    """A literal. Floats are told apart by their bits: 0.0 is not -0.0."""

    __slots__ = ()

    @property
    def value(self) -> int | float | bool:
        """The literal as a Python number."""
        return self.key[0]  # type: ignore[no-any-return]


class Axis(Expr):
    """The current index along a loop axis, an int64."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the axis within its nest."""
        return self.key[0]  # type: ignore[no-any-return]


class SizeOf(Expr):
    """A dimension as a number, an int64."""

    __slots__ = ()

    @property
    def size(self) -> Size:
        """The dimension."""
        return self.key[0]  # type: ignore[no-any-return]


class Load(Expr):
    """The element of a buffer at an index, one expression an axis."""

    __slots__ = ()

    @property
    def buffer(self) -> str:
        """The name of the buffer."""
        return self.key[0]  # type: ignore[no-any-return]


class Ref(Expr):
    """The result of a reduction of an earlier phase."""

    __slots__ = ()

    @property
    def name(self) -> str:
        """The name of the accumulator within its nest."""
        return self.key[0]  # type: ignore[no-any-return]


class Apply(Expr):
    """A primitive applied to expressions, or a cast (to the expression's dtype)."""

    __slots__ = ()

    @property
    def prim(self) -> str:
        """The primitive's name, or "cast"."""
        return self.key[0]  # type: ignore[no-any-return]


def const(value: float | bool, dtype: DType) -> Expr:
    """Return a literal of a dtype."""
    if dtype.kind == "b":
        value = bool(value)
    elif dtype.kind == "i":
        value = int(value)
    else:
        value = float(dtype.numpy.type(value))
    bits = value.hex() if isinstance(value, float) else str(value)
    # The bits stand in the key beside the value, since 0.0 == -0.0 and 1 == True.
    if isinstance(value, float) and math.isnan(value):
        value = math.nan
    found: Expr = Const._intern((value, bits), dtype, ())
    return found


def axis(name: str) -> Expr:
    """Return the index along a loop axis."""
    found: Expr = Axis._intern((name,), int64, ())
    return found


def size_of(size: Size) -> Expr:
    """Return a dimension as an expression; an int becomes a literal."""
    if isinstance(size, int):
        return const(size, int64)
    found: Expr = SizeOf._intern((size,), int64, ())
    return found


def load(buffer: str, index: Iterable[Expr], dtype: DType) -> Expr:
    """Return the element of a buffer at an index."""
    found: Expr = Load._intern((buffer,), dtype, tuple(index))
    return found


def ref(name: str, dtype: DType) -> Expr:
    """Return the result of a reduction by its accumulator's name."""
    found: Expr = Ref._intern((name,), dtype, ())
    return found


def cast(value: Expr, dtype: DType) -> Expr:
    """Return the expression converted to a dtype (itself if it has it)."""
    if value.dtype is dtype:
        return value
    if isinstance(value, Const):
        return const(value.value, dtype)
    found: Expr = Apply._intern(("cast",), dtype, (value,))
    return found


def lift(value: Any, like: DType) -> Expr:
    """Return a Python number as a literal; numbers are weak."""
    if isinstance(value, Expr):
        return value
    if isinstance(value, (bool, np.bool_)):
        return const(bool(value), bool_)
    if isinstance(value, float) and not like.is_float:
        like = float32
    if isinstance(value, int) and like is bool_:
        like = int32
    return const(value, like)


def apply(prim: str, *args: Any) -> Expr:
    """Apply a primitive: casts the arguments to their common dtype, folds indices."""
    rule = PRIMITIVES[prim]
    known = [a.dtype for a in args if isinstance(a, Expr)]
    strong = promote(*known)
    exprs = tuple(lift(a, strong) for a in args)
    dtype = rule.result(*(e.dtype for e in exprs))
    if prim == "select":
        exprs = (exprs[0], cast(exprs[1], dtype), cast(exprs[2], dtype))
    elif prim.startswith("philox"):
        exprs = tuple(cast(e, int64) for e in exprs)
    elif dtype is bool_ and prim.startswith("logical"):
        exprs = tuple(cast(e, bool_) for e in exprs)
    else:
        # Bools are compared as ints: backends need no comparison of truth values.
        inner = dtype if dtype is not bool_ else _common(*(e.dtype for e in exprs))
        exprs = tuple(cast(e, inner) for e in exprs)
    if dtype.kind == "i":
        folded = _fold_index(prim, exprs)
        if folded is not None:
            return folded
    found: Expr = Apply._intern((prim,), dtype, exprs)
    return found


_FOLD: dict[str, Callable[[int, int], int]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "maximum": max,
    "minimum": min,
}


def _fold_index(prim: str, args: tuple[Expr, ...]) -> Expr | None:
    """Keep index arithmetic small: i+0, i*1, i*0 and integer literals."""
    if len(args) != 2:
        return None
    left, right = args
    if isinstance(left, Const) and isinstance(right, Const) and prim in _FOLD:
        return const(_FOLD[prim](int(left.value), int(right.value)), left.dtype)
    for here, there in ((left, right), (right, left)):
        if not isinstance(here, Const):
            continue
        if prim == "add" and here.value == 0:
            return there
        if prim == "mul" and here.value in (0, 1):
            return there if here.value == 1 else here
        if here is right and prim == "sub" and here.value == 0:
            return there
        if here is right and prim == "floor_divide" and here.value == 1:
            return there
    return None


def walk(*roots: Expr) -> Iterator[Expr]:
    """Yield every expression below the roots once, arguments first."""
    done: set[Expr] = set()
    stack = list(reversed(roots))
    while stack:
        item = stack.pop()
        if item in done:
            continue
        first = item.args and [a for a in reversed(item.args) if a not in done]
        if first:
            stack.append(item)
            stack += first
        else:
            done.add(item)
            yield item


@lru_cache(maxsize=CACHED)
def loads(root: Expr) -> tuple[Load, ...]:
    """Return the loads in an expression, each once."""
    return tuple([e for e in walk(root) if isinstance(e, Load)])


def rebuild(
    root: Expr, change: Callable[[Expr, tuple[Expr, ...]], Expr | None]
) -> Expr:
    """Rebuild an expression bottom up.

    `change(old, new_args)` returns the replacement, or None to keep the operation
    with its new arguments.
    """
    return rebuilt((root,), change)[root]


def rebuilt(
    roots: Iterable[Expr], change: Callable[[Expr, tuple[Expr, ...]], Expr | None]
) -> dict[Expr, Expr]:
    """Rebuild expressions; return what became of each and of each that is in them."""
    new: dict[Expr, Expr] = {}
    for item in walk(*roots):
        args = tuple([new[a] for a in item.args])
        changed = change(item, args)
        if changed is None:
            changed = (
                item if args == item.args else item._intern(item.key, item.dtype, args)
            )
        new[item] = changed
    return new


Affine = dict[str, Size]
_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class Linear:
    """An index as a sum: by axis, "" for the constant part, and what no axis moves.

    uniform: coefficients of expressions that load, yet are the same at all points of
    a nest, such as the number of a loop's turn.
    """

    axes: Affine
    uniform: dict[Expr, Size]


@lru_cache(maxsize=CACHED)
def linear(root: Expr) -> Linear | None:
    """Return an index as a sum; None if it depends on axes in another way."""
    found = _sum(root)
    if found is None and is_uniform(root):
        return Linear({}, {root: 1})
    return found


def _sum(root: Expr) -> Linear | None:
    if isinstance(root, Const):
        return Linear({"": int(root.value)} if root.value else {}, {})
    if isinstance(root, SizeOf):
        return Linear({"": root.size}, {})
    if isinstance(root, Axis):
        return Linear({root.name: 1}, {})
    if not isinstance(root, Apply) or root.prim not in ("add", "sub", "mul"):
        return None
    left, right = linear(root.args[0]), linear(root.args[1])
    if left is None or right is None:
        return None
    if root.prim != "mul":
        sign = 1 if root.prim == "add" else -1
        return Linear(
            _added(left.axes, right.axes, sign),
            _added(left.uniform, right.uniform, sign),
        )
    for factor, other in ((left, right), (right, left)):
        if not factor.uniform and not set(factor.axes) - {""}:
            scale = factor.axes.get("", 0)
            if scale == 0:
                return Linear({}, {})
            return Linear(
                {a: c * scale for a, c in other.axes.items()},
                {e: c * scale for e, c in other.uniform.items()},
            )
    return None


def _added(left: dict[_K, Size], right: dict[_K, Size], sign: int) -> dict[_K, Size]:
    total = dict(left)
    for name, c in right.items():
        value = total.get(name, 0) + sign * c
        if value == 0:
            total.pop(name, None)
        else:
            total[name] = value
    return total


def is_uniform(root: Expr) -> bool:
    """Whether an index depends on loads of integers alone, and on no axis.

    Backends compute such a one once for a nest, as a scalar.
    """
    return all(
        e.dtype.kind in "ib"
        and not isinstance(e, (Axis, Ref))
        and not (isinstance(e, Apply) and e.prim.startswith("philox"))
        for e in walk(root)
    )


def affine(root: Expr) -> Affine | None:
    """Return the coefficients of an index, by axis, "" for the constant part.

    None where the index is not affine in the axes (it divides, or loads).
    """
    found = linear(root)
    return None if found is None or found.uniform else found.axes


def axes_of(root: Expr) -> frozenset[str]:
    """Return the names of the axes that an expression depends on directly."""
    return frozenset(e.name for e in walk(root) if isinstance(e, Axis))


_INFIX = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floor_divide": "//",
    "remainder": "%",
}


def number(value: int | float | bool) -> str:
    """Return the exact text of a number: `true`, `3`, `0.1`, `-inf`, `nan`."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    return repr(float(value)) if isinstance(value, float) else str(int(value))


def literal_text(e: Const) -> str:
    """Return the shortest text that is a literal's exact value in its dtype."""
    if e.dtype is float32:
        return number(float(str(np.float32(e.value))))
    return number(e.value)


def show(root: Expr, names: dict[int, str] | None = None) -> str:
    """Return an expression as text; `names` are stood in for by their name."""
    names = names or {}
    if id(root) in names:
        return names[id(root)]
    if isinstance(root, Const):
        text = literal_text(root)
        return (
            text
            if root.dtype in (int64, float32, bool_)
            else (f"{root.dtype.short}({text})")
        )
    if isinstance(root, SizeOf):
        return f"size({root.size})"
    if isinstance(root, Axis):
        return root.name
    if isinstance(root, Ref):
        return f"{root.dtype.short}({root.name})"
    inner = [show(a, names) for a in root.args]
    if isinstance(root, Load):
        return f"{root.buffer}[{', '.join(inner)}]"
    assert isinstance(root, Apply)
    if root.prim == "cast":
        return f"{root.dtype.short}({inner[0]})"
    if root.prim in _INFIX:
        return f"({inner[0]} {_INFIX[root.prim]} {inner[1]})"
    return f"{root.prim}({', '.join(inner)})"


def evaluate_expr(root: Expr, leaf: Callable[[Expr], Any]) -> Any:
    """Compute an expression with NumPy; `leaf` gives arrays for what is no primitive.

    Every value has exactly the expression's dtype, as in a kernel.
    """
    values: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for item in walk(root):
            if isinstance(item, Const):
                found = item.dtype.numpy.type(item.value)
            elif isinstance(item, Apply):
                args = [values[id(a)] for a in item.args]
                found = (
                    _numpy_cast(args[0], item.dtype)
                    if item.prim == "cast"
                    else PRIMITIVES[item.prim].numpy(*args)
                )
            else:
                found = leaf(item)
            values[id(item)] = np.asarray(found, dtype=item.dtype.numpy)
    return values[id(root)]


def _numpy_cast(value: Any, dtype: DType) -> Any:
    """Convert as kernels do: float to int truncates, saturates, and NaN gives 0."""
    if dtype.kind == "i" and value.dtype.kind == "f":
        info = np.iinfo(dtype.numpy)
        # 2**63 - 1 is no float64: clip in float to the neighbours that are.
        wide = np.nan_to_num(value.astype(np.float64), nan=0.0)
        top = np.nextafter(float(info.max) + 1.0, 0.0)
        whole = np.clip(np.trunc(wide), float(info.min), top).astype(dtype.numpy)
        return np.where(wide > top, info.max, whole)
    return value.astype(dtype.numpy)
