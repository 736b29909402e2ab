"""Tensors from nothing: constants, full, iota, sizes; and conversion of dtypes."""

from __future__ import annotations

import builtins
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.dims import Dim, Size, evaluate
from graphc.ir.leaves import make_input
from graphc.ir.nodes import Array, Node, Tensor, make1
from graphc.ir.op import (
    Meaning,
    NonDifferentiable,
    Op,
    Pointwise,
    Unsupported,
    public,
    register,
)
from graphc.ir.origins import here
from graphc.ir.scalar import cast as cast_expr
from graphc.ir.scalar import const, evaluate_expr, ref, size_of
from graphc.ir.types import (
    DType,
    DTypeLike,
    Shape,
    TensorType,
    as_dtype,
    as_shape,
    as_size,
    bool_,
    float32,
    float64,
    int32,
    int64,
)
from graphc.ops.batching import batch_leading


def concrete(shape: Shape, meaning: Meaning) -> tuple[int, ...]:
    """Return a shape with its symbolic dimensions replaced by their sizes."""
    return tuple(evaluate(s, meaning.sizes) for s in shape)


@dataclass(frozen=True, slots=True)
class Full:
    """One value everywhere."""

    dtype: DType
    shape: Shape
    value: float | int | bool


@dataclass(frozen=True, slots=True)
class Constant:
    """The elements of a constant."""

    value: Array


@dataclass(frozen=True, slots=True)
class Dimension:
    """The dimension whose size is wanted."""

    size: Size


@dataclass(frozen=True, slots=True)
class Iota:
    """Shape, dtype, and the axis along which values count up."""

    dtype: DType
    shape: Shape
    axis: int


@dataclass(frozen=True, slots=True)
class Cast:
    """The dtype to convert to."""

    dtype: DType


def _full_infer(_: Any, attrs: Full) -> TensorType:
    kinds = {"b": bool, "i": int, "f": float}
    if type(attrs.value) is not kinds[attrs.dtype.kind]:
        raise DTypeError(f"the value {attrs.value!r} is no {attrs.dtype}")
    return TensorType(attrs.dtype, attrs.shape)


FULL = register(
    Op(
        name="full",
        attrs=Full,
        infer=_full_infer,
        evaluate=lambda _, m: np.full(
            concrete(m.attrs.shape, m), m.attrs.value, m.attrs.dtype.numpy
        ),
        gradient=NonDifferentiable("it is a constant"),
        lower=Pointwise(lambda s: const(s.attrs.value, s.attrs.dtype), layout=True),
        doc="y[...] = value",
    )
)

CONSTANT = register(
    Op(
        name="constant",
        attrs=Constant,
        infer=lambda _, a: TensorType(
            as_dtype(a.value.value.dtype), a.value.value.shape
        ),
        evaluate=lambda _, m: m.attrs.value.value,
        gradient=NonDifferentiable("it is a constant"),
        lower=Unsupported("it is a buffer"),
        doc="y = value",
    )
)

DIM = register(
    Op(
        name="dim",
        attrs=Dimension,
        infer=lambda _, a: TensorType(int64, ()),
        evaluate=lambda _, m: np.array(evaluate(m.attrs.size, m.sizes), np.int64),
        gradient=NonDifferentiable("a size is an integer"),
        lower=Pointwise(lambda s: size_of(s.attrs.size), layout=True),
        doc="y = N, a dimension as a number",
    )
)


def _iota_infer(_: Any, attrs: Iota) -> TensorType:
    if not 0 <= attrs.axis < len(attrs.shape):
        raise ArgumentError(
            f"axis {attrs.axis} of a shape with {len(attrs.shape)} axes"
        )
    return TensorType(attrs.dtype, attrs.shape)


def _iota_value(_: Any, meaning: Meaning) -> np.ndarray[Any, Any]:
    shape = concrete(meaning.attrs.shape, meaning)
    axis = meaning.attrs.axis
    line = np.arange(shape[axis], dtype=meaning.attrs.dtype.numpy)
    along = [1] * len(shape)
    along[axis] = shape[axis]
    return np.broadcast_to(line.reshape(along), shape).copy()


IOTA = register(
    Op(
        name="iota",
        attrs=Iota,
        infer=_iota_infer,
        evaluate=_iota_value,
        gradient=NonDifferentiable("it counts"),
        lower=Pointwise(
            lambda s: cast_expr(s.index[s.attrs.axis], s.attrs.dtype), layout=True
        ),
        doc="y[..., i, ...] = i",
    )
)


def _cast_gradient(node: Node, cotangents: Any) -> Any:
    (g,) = cotangents
    source = node.inputs[0].dtype
    if g is None or not source.is_float:
        return [None]
    return [cast(g, source)]


CAST = register(
    Op(
        name="cast",
        attrs=Cast,
        infer=lambda types, a: types[0].with_dtype(a.dtype),
        evaluate=lambda arrays, m: evaluate_expr(
            cast_expr(ref("x", m.types[0].dtype), m.attrs.dtype), lambda _: arrays[0]
        ),
        gradient=_cast_gradient,
        lower=Pointwise(lambda s: cast_expr(s.load(0, s.index), s.attrs.dtype)),
        doc="y = x as another dtype; float to int truncates and saturates, NaN gives 0",
        moves=True,
        batch=batch_leading,
    )
)


# --- public functions ---------------------------------------------------------------


def input(name: str, shape: Any = (), dtype: DTypeLike = float32) -> Tensor:
    """Declare an argument of a graph.

    shape: ints and names of symbolic dimensions, such as ("N", 784).

    Raises:  ArgumentError for an empty name or a bad shape, DTypeError.
    Example:
        >>> import graphc
        >>> graphc.input("x", ("N", 784)).type
        TensorType(f32[N,784])
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(f"an input needs a name, not {name!r}", where=here().quoted)
    try:
        type = TensorType(as_dtype(dtype), as_shape(shape))
    except (ArgumentError, DTypeError) as error:
        raise builtins.type(error)(
            f"input {name!r}: {error.message}", where=here().quoted, help=error.help
        ) from None
    return make_input(name, type)


def full(shape: Any, value: float | bool, dtype: DTypeLike | None = None) -> Tensor:
    """Return a tensor with one value everywhere.

    Shapes:  -> shape; dtype float32 unless the value is an int (int32) or a bool.
    Example:
        >>> import graphc
        >>> graphc.full(("N", 2), 1.0).type
        TensorType(f32[N,2])
    """
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (bool, int, float)):
        raise ArgumentError(
            f"full: the value must be a number, not {value!r}", where=here().quoted
        )
    kind = _weak(value) if dtype is None else as_dtype(dtype)
    exact = kind.numpy.type(value).item() if kind.kind != "f" else float(value)
    return make1(FULL, (), Full(kind, as_shape(shape), exact))


# The dtype of Python's own numbers, by NumPy's kind.
PYTHON = {"b": bool_, "i": int32, "f": float32}


def _weak(value: float | bool) -> DType:
    if isinstance(value, bool):
        return bool_
    return int32 if isinstance(value, int) else float32


def zeros(shape: Any, dtype: DTypeLike = float32) -> Tensor:
    """Return a tensor of zeros."""
    return full(shape, 0, dtype)


def ones(shape: Any, dtype: DTypeLike = float32) -> Tensor:
    """Return a tensor of ones."""
    return full(shape, 1, dtype)


def constant(value: Any, dtype: DTypeLike | None = None) -> Tensor:
    """Make a constant from an array, nested lists or a number.

    float64 arrays stay float64; Python floats become float32, ints int32. A symbolic
    size such as `x.shape[0]` becomes the scalar that `graphc.dim` returns.
    Raises:  DTypeError for arrays of objects, texts or complex numbers.
    Example:
        >>> import graphc
        >>> graphc.constant([[1.0, 2.0]]).type
        TensorType(f32[1,2])
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Dim):
        return make1(DIM, (), Dimension(value))
    python = not isinstance(value, (np.ndarray, np.generic))
    array = np.asarray(value)
    if array.dtype.kind not in "bif":
        raise DTypeError(
            f"constant: an array of {array.dtype} is no tensor",
            where=here().quoted,
            help="give numbers or bools",
        )
    if dtype is None and python:
        dtype = PYTHON[array.dtype.kind]
        fits = np.iinfo(np.int32)
        if (
            dtype is int32
            and array.size
            and (array.max() > fits.max or array.min() < fits.min)
        ):
            dtype = int64
    elif dtype is None and array.dtype.kind == "i":
        dtype = int64 if array.dtype.itemsize == 8 else int32
    elif dtype is None and array.dtype.kind == "f":
        dtype = float64 if array.dtype.itemsize == 8 else float32
    kind = as_dtype(bool_ if dtype is None else dtype)
    array = array.astype(kind.numpy)
    if array.ndim == 0:
        return full((), array.item(), kind)
    return make1(CONSTANT, (), Constant(Array(array)))


@public
def cast(x: Any, dtype: DTypeLike) -> Tensor:
    """Convert to another dtype; itself if it has it.

    Float to int truncates, saturates, and turns NaN to 0.
    Gradient: converted back; none to integers.
    """
    tensor = constant(x)
    kind = as_dtype(dtype)
    return tensor if tensor.dtype is kind else make1(CAST, (tensor,), Cast(kind))


@public
def dim(size: Any) -> Tensor:
    """Return a dimension as an int64 scalar, for means and counts.

    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N", 3))
        >>> graphc.dim(x.shape[0]).type
        TensorType(i64[])
    """
    return make1(DIM, (), Dimension(as_size(size)))


def iota(shape: Any, axis: int = -1, dtype: DTypeLike = int32) -> Tensor:
    """Count 0, 1, 2, ... along an axis.

    Example:
        >>> import graphc
        >>> graphc.evaluate(graphc.iota(3)).tolist()
        [0, 1, 2]
    """
    sizes = as_shape(shape)
    at = axis + len(sizes) if axis < 0 else axis
    if not 0 <= at < len(sizes):
        raise ArgumentError(
            f"iota: axis {axis} is out of range for a shape with {len(sizes)} axes",
            where=here().quoted,
            help=f"use -{len(sizes)} to {len(sizes) - 1}" if sizes else "",
        )
    return make1(IOTA, (), Iota(as_dtype(dtype), sizes, at))
