"""A SIMD vector as a Numba type: masks, pointers, loads and stores.

A kernel works on `Vec(dtype, lanes)` values, LLVM's `<lanes x dtype>`, under a
`Mask(lanes)` that says which lanes exist; the number of lanes of everything follows
from the mask:

    m = mask(n - i, 16)              # lanes i .. i + 15 that are below n
    store(y, i, load(x, i, m) + splat_f32(1.0, m), m)

Each function is an intrinsic that appends LLVM instructions: there is no Python body
for Numba to type, so a use costs little to compile. Pointers are assumed aligned to
their element and no more, and lanes that are off are neither read nor written.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.extending import intrinsic, register_model

from .instructions import kind
from .lanes import I1, I8, I32, I64, Equal, constant, declare, suffix, vector

DTYPES = (types.float32, types.float64, types.int32, types.int64)


class Vec(types.Type):
    """The type of a vector of `lanes` numbers of a Numba dtype."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        """Name the type; the name is also what tells it from others."""
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"vec{lanes}x{dtype}")

    @property
    def is_float(self) -> bool:
        """Whether the lanes are floating-point numbers."""
        return isinstance(self.dtype, types.Float)


class Mask(types.Type):
    """The type of a vector of `lanes` booleans."""

    dtype = types.boolean
    is_float = False

    def __init__(self, lanes: int) -> None:
        """Name the type; the name is also what tells it from others."""
        self.lanes = lanes
        super().__init__(name=f"mask{lanes}")


_LLVM = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: I32,
    types.int64: I64,
    types.boolean: ir.IntType(1),
}


def llvm_type(type_: Vec | Mask) -> ir.VectorType:
    """Return the LLVM type that holds a vector or a mask."""
    return vector(_LLVM[type_.dtype], type_.lanes)


def vector_type(dtype: types.Type, lanes: int) -> Vec | Mask:
    """Return the vector type of a dtype; that of booleans is the mask."""
    return Mask(lanes) if dtype == types.boolean else Vec(dtype, lanes)


@register_model(Vec)
@register_model(Mask)
class VectorModel(PrimitiveModel):
    """Hold a vector or a mask as one LLVM vector value."""

    def __init__(self, manager: Any, type_: Vec | Mask) -> None:
        """Choose the LLVM type."""
        super().__init__(  # type: ignore[no-untyped-call]
            manager, type_, llvm_type(type_)
        )


# ---- pointers ------------------------------------------------------------------------


TABLE: Any = types.CPointer(types.int64)  # type: ignore[no-untyped-call]


def _pointer_reader(name: str, dtype: types.Type, what: str) -> Any:
    pointer: Any = types.CPointer(dtype)  # type: ignore[no-untyped-call]

    def definition(typingctx, args, i):  # type: ignore[no-untyped-def]
        if args != TABLE:
            return None

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            address = builder.load(builder.gep(values[0], [values[1]]))
            return builder.inttoptr(address, context.get_value_type(sig.return_type))

        return pointer(args, types.int64), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = (
        f"Return entry i of a kernel's argument table as a pointer to {what}."
    )
    return intrinsic(definition)


f32 = _pointer_reader("f32", types.float32, "float32")
f64 = _pointer_reader("f64", types.float64, "float64")
i32 = _pointer_reader("i32", types.int32, "int32")
i64 = _pointer_reader("i64", types.int64, "int64")
b8 = _pointer_reader("b8", types.boolean, "booleans of one byte")


def is_pointer(type_: types.Type) -> bool:
    """Whether a Numba type is a pointer to numbers of one of the dtypes."""
    return isinstance(type_, types.CPointer) and type_.dtype in _LLVM


@intrinsic
def get(typingctx, ptr, i):  # type: ignore[no-untyped-def]
    """Read the scalar ptr[i]."""
    if not is_pointer(ptr):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        return _load_scalar(builder, values[0], values[1], ptr.dtype)

    return ptr.dtype(ptr, types.int64), codegen


@intrinsic
def put(typingctx, ptr, i, value):  # type: ignore[no-untyped-def]
    """Write a scalar, converted to the pointer's dtype, to ptr[i]."""
    if not is_pointer(ptr):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, value = values
        if ptr.dtype == types.boolean:
            value = builder.zext(value, I8)
        builder.store(value, builder.gep(pointer, [i]))
        return context.get_dummy_value()

    return types.void(ptr, types.int64, ptr.dtype), codegen


def _load_scalar(
    builder: ir.IRBuilder, pointer: ir.Value, i: ir.Value, dtype: types.Type
) -> ir.Value:
    value = builder.load(builder.gep(pointer, [i]))
    if dtype == types.boolean:
        return builder.icmp_unsigned("!=", value, ir.Constant(I8, 0))
    return value


# ---- masks and splats ----------------------------------------------------------------


def broadcast(builder: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    """Copy an LLVM scalar to every lane."""
    type_ = vector(value.type, lanes)
    if isinstance(value, ir.Constant):
        return Equal(type_, value)
    undefined = ir.Constant(type_, ir.Undefined)
    first = builder.insert_element(undefined, value, constant(I32, 0))
    return builder.shuffle_vector(first, undefined, constant(vector(I32, lanes), 0))


def _lane_numbers(element: ir.IntType, lanes: int) -> ir.Constant:
    return ir.Constant(vector(element, lanes), list(range(lanes)))


def _build_mask(builder: ir.IRBuilder, n: ir.Value, lanes: int) -> ir.Value:
    if isinstance(n, ir.Constant):
        if n.constant >= lanes:
            return constant(vector(I1, lanes), 1)
        return ir.Constant(
            vector(I1, lanes), [int(k < n.constant) for k in range(lanes)]
        )
    least, most = constant(I64, 0), constant(I64, lanes)
    n = builder.select(builder.icmp_signed("<", n, least), least, n)
    n = builder.select(builder.icmp_signed(">", n, most), most, n)
    if kind() == "avx512":
        # Masks are bits there, so none of the units that compute is needed.
        one = constant(I64, 1)
        bits = builder.sub(builder.shl(one, n), one)
        word = builder.trunc(bits, ir.IntType(lanes))
        return builder.bitcast(word, vector(I1, lanes))
    # In 32 bits: comparing 64-bit lanes would need twice the registers.
    count = broadcast(builder, builder.trunc(n, I32), lanes)
    return builder.icmp_signed("<", _lane_numbers(I32, lanes), count)


@intrinsic(prefer_literal=True)
def mask(typingctx, n, lanes):  # type: ignore[no-untyped-def]
    """Return the Mask of `lanes` (a literal number) whose lanes k < n are set.

    n may be zero or less, or more than there are lanes. A constant n makes a constant
    mask: `mask(16, 16)` turns the loads under it into plain ones.
    """
    if not isinstance(lanes, types.IntegerLiteral):
        return None
    count = lanes.literal_value

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        return _build_mask(builder, values[0], count)

    return Mask(count)(types.int64, lanes), codegen


def is_full(m: ir.Value) -> bool:
    """Tell whether a mask is known to have all its lanes set."""
    return isinstance(m, Equal) and bool(m.constant[0].constant)


def _mask_of(count: int) -> Any:
    def definition(typingctx, n):  # type: ignore[no-untyped-def]
        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            return _build_mask(builder, values[0], count)

        return Mask(count)(types.int64), codegen

    definition.__name__ = definition.__qualname__ = f"mask{count}"
    definition.__doc__ = f"Return the mask of {count} lanes whose lanes k < n are set."
    return intrinsic(definition)


mask4, mask8, mask16 = _mask_of(4), _mask_of(8), _mask_of(16)


@intrinsic
def splat(typingctx, scalar, m):  # type: ignore[no-untyped-def]
    """Copy a scalar of any of the dtypes to every lane; a bool gives a Mask."""
    dtype: Any = types.unliteral(scalar)  # type: ignore[no-untyped-call]
    if not isinstance(m, Mask) or dtype not in _LLVM:
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        return broadcast(builder, values[0], m.lanes)

    return vector_type(dtype, m.lanes)(dtype, m), codegen


def _splat_as(name: str, dtype: types.Type) -> Any:
    def definition(typingctx, scalar, m):  # type: ignore[no-untyped-def]
        if not isinstance(m, Mask):
            return None

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            return broadcast(builder, values[0], m.lanes)

        return vector_type(dtype, m.lanes)(dtype, m), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = f"Convert a scalar to {dtype} and copy it to every lane."
    return intrinsic(definition)


splat_f32 = _splat_as("splat_f32", types.float32)
splat_f64 = _splat_as("splat_f64", types.float64)
splat_i32 = _splat_as("splat_i32", types.int32)
splat_i64 = _splat_as("splat_i64", types.int64)
splat_bool = _splat_as("splat_bool", types.boolean)


@intrinsic
def iota(typingctx, start, m):  # type: ignore[no-untyped-def]
    """Return int64 lanes start, start + 1, start + 2, ..."""
    if not isinstance(m, Mask):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        start = broadcast(builder, values[0], m.lanes)
        return builder.add(start, _lane_numbers(I64, m.lanes))

    return Vec(types.int64, m.lanes)(types.int64, m), codegen


# ---- memory --------------------------------------------------------------------------


def stored_type(dtype: types.Type, lanes: int) -> ir.VectorType:
    """Return the type of lanes in memory."""
    element = I8 if dtype == types.boolean else _LLVM[dtype]
    return vector(element, lanes)


def _from_memory(builder: ir.IRBuilder, value: ir.Value, dtype: types.Type) -> ir.Value:
    if dtype == types.boolean:
        return builder.icmp_unsigned("!=", value, constant(value.type, 0))
    return value


def to_memory(builder: ir.IRBuilder, value: ir.Value, dtype: types.Type) -> ir.Value:
    """Return lanes as they lie in memory: booleans as bytes."""
    if dtype == types.boolean:
        return builder.zext(value, ir.VectorType(I8, value.type.count))
    return value


def alignment(type_: ir.VectorType) -> ir.Constant:
    """Return the bytes of an element, which pointers are aligned to."""
    element = type_.element
    size = element.width // 8 if isinstance(element, ir.IntType) else 4
    return constant(I32, 8 if element == ir.DoubleType() else size)


def read(
    builder: ir.IRBuilder, kind: str, pointers: ir.Value, m: ir.Value, dtype: types.Type
) -> ir.Value:
    """Append a masked load or gather; lanes that are off become zero."""
    lanes = m.type.count
    type_ = stored_type(dtype, lanes)
    if kind == "load" and is_full(m):
        place = builder.bitcast(pointers, type_.as_pointer())
        whole = builder.load(place, align=alignment(type_).constant)
        return _from_memory(builder, whole, dtype)
    where = "p0" if kind == "load" else f"v{lanes}p0"
    function = declare(
        builder,
        f"llvm.masked.{kind}.{suffix(type_)}.{where}",
        type_,
        [pointers.type, I32, m.type, type_],
    )
    values = [pointers, alignment(type_), m, constant(type_, 0)]
    value = builder.call(function, values)
    return _from_memory(builder, value, dtype)


def write(
    builder: ir.IRBuilder,
    kind: str,
    pointers: ir.Value,
    value: ir.Value,
    m: ir.Value,
    dtype: types.Type,
) -> None:
    """Append a masked store or scatter."""
    value = to_memory(builder, value, dtype)
    if kind == "store" and is_full(m):
        place = builder.bitcast(pointers, value.type.as_pointer())
        builder.store(value, place, align=alignment(value.type).constant)
        return
    where = "p0" if kind == "store" else f"v{m.type.count}p0"
    function = declare(
        builder,
        f"llvm.masked.{kind}.{suffix(value.type)}.{where}",
        ir.VoidType(),
        [value.type, pointers.type, I32, m.type],
    )
    builder.call(function, [value, pointers, alignment(value.type), m])


def _addresses(
    builder: ir.IRBuilder, pointer: ir.Value, index: ir.Value, dtype: types.Type
) -> ir.Value:
    """Return the vector of pointers to pointer[index[k]].

    As integers, because llvmlite cannot index a pointer by a vector; beside a gather,
    the shift and the addition cost nothing.
    """
    lanes = index.type.count
    size = alignment(stored_type(dtype, lanes)).constant
    base = broadcast(builder, builder.ptrtoint(pointer, I64), lanes)
    address = builder.add(base, builder.mul(index, constant(index.type, size)))
    return builder.inttoptr(address, ir.VectorType(pointer.type, lanes))


@intrinsic
def load(typingctx, ptr, i, m):  # type: ignore[no-untyped-def]
    """Read lanes ptr[i + k]; lanes that are off are 0. Booleans give a Mask."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, mask = values
        return read(builder, "load", builder.gep(pointer, [i]), mask, ptr.dtype)

    return vector_type(ptr.dtype, m.lanes)(ptr, types.int64, m), codegen


@intrinsic
def store(typingctx, ptr, i, value, m):  # type: ignore[no-untyped-def]
    """Write lanes to ptr[i + k]; the dtypes must agree."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if value != vector_type(ptr.dtype, m.lanes):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, value, mask = values
        write(builder, "store", builder.gep(pointer, [i]), value, mask, ptr.dtype)
        return context.get_dummy_value()

    return types.void(ptr, types.int64, value, m), codegen


@intrinsic
def load1(typingctx, ptr, i, m):  # type: ignore[no-untyped-def]
    """Read the one element ptr[i], whatever the mask, and copy it to every lane."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        scalar = _load_scalar(builder, values[0], values[1], ptr.dtype)
        return broadcast(builder, scalar, m.lanes)

    return vector_type(ptr.dtype, m.lanes)(ptr, types.int64, m), codegen


@intrinsic
def gather(typingctx, ptr, index, m):  # type: ignore[no-untyped-def]
    """Read lanes ptr[index[k]] for an int64 vector of indices; lanes off are 0."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if index != Vec(types.int64, m.lanes):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, index, mask = values
        pointers = _addresses(builder, pointer, index, ptr.dtype)
        return read(builder, "gather", pointers, mask, ptr.dtype)

    return vector_type(ptr.dtype, m.lanes)(ptr, index, m), codegen


@intrinsic
def scatter(typingctx, ptr, index, value, m):  # type: ignore[no-untyped-def]
    """Write lanes to ptr[index[k]]; of lanes with equal indices the last one stays."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if index != Vec(types.int64, m.lanes) or value != vector_type(ptr.dtype, m.lanes):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, index, value, mask = values
        pointers = _addresses(builder, pointer, index, ptr.dtype)
        write(builder, "scatter", pointers, value, mask, ptr.dtype)
        return context.get_dummy_value()

    return types.void(ptr, index, value, m), codegen


@intrinsic
def strided(typingctx, ptr, i, stride, m):  # type: ignore[no-untyped-def]
    """Read lanes ptr[i + k * stride]; lanes that are off are 0."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, stride, mask = values
        step = builder.mul(
            broadcast(builder, stride, m.lanes), _lane_numbers(I64, m.lanes)
        )
        start = builder.gep(pointer, [i])
        pointers = _addresses(builder, start, step, ptr.dtype)
        return read(builder, "gather", pointers, mask, ptr.dtype)

    result = vector_type(ptr.dtype, m.lanes)
    return result(ptr, types.int64, types.int64, m), codegen


@intrinsic
def every_other(typingctx, ptr, i, m):  # type: ignore[no-untyped-def]
    """Read lanes ptr[i + 2 * k]; lanes that are off are 0.

    As two reads of neighbours, which take a fraction of the time of a gather. What
    lies between two lanes that are on is read too, what is behind the last is not.
    """
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, mask = values
        lanes = m.lanes
        off = ir.Constant(mask.type, None)
        numbers = [(k + 1) // 2 for k in range(2 * lanes)]
        between = ir.Constant(ir.VectorType(I32, 2 * lanes), numbers)
        wide = builder.shuffle_vector(mask, off, between)
        pair = read(builder, "load", builder.gep(pointer, [i]), wide, ptr.dtype)
        even = ir.Constant(ir.VectorType(I32, lanes), list(range(0, 2 * lanes, 2)))
        return builder.shuffle_vector(pair, ir.Constant(pair.type, ir.Undefined), even)

    return vector_type(ptr.dtype, m.lanes)(ptr, types.int64, m), codegen
