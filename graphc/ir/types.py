"""Tensor types: a dtype and a shape of integers and symbolic dimensions.

The names of dtypes are NumPy's; the text form shortens them (`f32[N,784]`).
Promotion: Python scalars are weak, an int with a float gives that float, only
float64 makes float64. (JAX has the same lattice; NumPy would widen int32 with
float32 to float64.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.dims import Dim, DimError, Size, parse_size, product
from graphc.ir.origins import here


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """An element type: NumPy's name, the short name of the text form, its kind.

    There is one object of each.
    """

    name: str
    short: str
    kind: str  # "b", "i" or "f", as NumPy's dtype.kind
    itemsize: int  # bytes

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return as_dtype, (self.name,)  # so that a copy is the same object

    @property
    def numpy(self) -> np.dtype[Any]:
        """The NumPy dtype of the same name."""
        return _NUMPY[self.name]

    @property
    def is_float(self) -> bool:
        """Whether values are floating-point numbers."""
        return self.kind == "f"


bool_ = DType("bool", "bool", "b", 1)
int32 = DType("int32", "i32", "i", 4)
int64 = DType("int64", "i64", "i", 8)
float32 = DType("float32", "f32", "f", 4)
float64 = DType("float64", "f64", "f", 8)

DTYPES: tuple[DType, ...] = (bool_, int32, int64, float32, float64)
_NUMPY = {d.name: np.dtype(d.name) for d in DTYPES}
_RANK = {d: i for i, d in enumerate(DTYPES)}
_BY_NAME = {d.name: d for d in DTYPES}
BY_SHORT = {d.short: d for d in DTYPES}

DTypeLike = DType | str | type | np.dtype[Any]


NARROW = {"int8", "int16", "uint8", "uint16", "float16"}


def as_dtype(like: DTypeLike) -> DType:
    """Return the dtype that a name, a NumPy dtype or a DType means.

    Raises:  DTypeError for anything else, listing what there is.
    Example:
        >>> as_dtype("float32").short
        'f32'
    """
    if isinstance(like, DType):
        return like
    try:
        name = np.dtype(like).name
    except TypeError:
        name = str(like)
    found = _BY_NAME.get(name)
    if found is None:
        raise DTypeError(
            f"unknown dtype {name!r}",
            where=here().quoted,
            help="use one of "
            + ", ".join(d.name for d in DTYPES)
            + (
                "; a call takes arrays of it, and widens them" if name in NARROW else ""
            ),
        )
    return found


def promote(*dtypes: DType) -> DType:
    """Return the dtype in which an operation on these dtypes computes.

    Example:
        >>> promote(int64, float32).name, promote(int32, int64).name
        ('float32', 'int64')
    """
    return max(dtypes, key=_RANK.__getitem__)


Shape = tuple[Size, ...]


@dataclass(frozen=True, slots=True, repr=False)
class TensorType:
    """The type of a tensor: `f32[N,784]`.

    Example:
        >>> TensorType(float32, (2, 3)).size
        6
    """

    dtype: DType
    shape: Shape

    def __str__(self) -> str:
        return f"{self.dtype.short}[{','.join(map(str, self.shape))}]"

    def __repr__(self) -> str:
        return f"TensorType({self})"

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> Size:
        """The number of elements, possibly symbolic."""
        return product(self.shape)

    def with_shape(self, shape: Iterable[Size]) -> TensorType:
        """Return the type with another shape."""
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        """Return the type with another dtype."""
        return TensorType(dtype, self.shape)


def as_size(like: object) -> Size:
    """Return a dimension from an int, a name such as "N" or "2*N+1", or a Dim.

    Raises:  ArgumentError for a negative int or a text that is no dimension.
    """
    if isinstance(like, Dim):
        return like
    if isinstance(like, str):
        try:
            return parse_size(like)
        except DimError as error:
            raise ArgumentError(f"not a dimension: {like!r}: {error}") from error
    if isinstance(like, (int, np.integer)) and not isinstance(like, bool):
        if like < 0:
            raise ArgumentError(
                f"a dimension cannot be negative: {like}",
                where=here().quoted,
                help='give a symbolic dimension a name, such as "N"',
            )
        return int(like)
    raise ArgumentError(
        f"not a dimension: {like!r}",
        where=here().quoted,
        help='use an int or a name such as "N"',
    )


def as_shape(like: object) -> Shape:
    """Return a shape from an int, a name, or an iterable of dimensions."""
    if isinstance(like, (int, np.integer, str, Dim)):
        return (as_size(like),)
    if isinstance(like, Iterable):
        return tuple(as_size(item) for item in like)
    raise ArgumentError(f"not a shape: {like!r}", help='for example ("N", 784)')
