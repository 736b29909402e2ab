"""Reads and writes for more data than the caches hold.

A store through the caches first reads the line that it overwrites, and puts out lines
that are needed again; a streamed one goes to memory by itself. What is read in order is
asked for early, so that arithmetic does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from . import native
from .lanes import I8, I32, I64, declare
from .vector import (
    Mask,
    alignment,
    is_full,
    is_pointer,
    read,
    stored_type,
    to_memory,
    vector_type,
    write,
)

PIECE = 16  # bytes; NumPy aligns its arrays to no more


def _ask(builder: ir.IRBuilder, place: ir.Value, further: ir.Value, to: int) -> None:
    """Append a prefetch of the line so many elements further, to read 0 or write 1."""
    later = builder.bitcast(builder.gep(place, [further]), I8.as_pointer())
    kinds = [later.type, I32, I32, I32]
    function = declare(builder, "llvm.prefetch.p0", ir.VoidType(), kinds)
    # Into the nearest cache; data.
    builder.call(function, [later, *(ir.Constant(I32, k) for k in (to, 3, 1))])


@intrinsic
def load_ahead(typingctx, ptr, i, m, further):  # type: ignore[no-untyped-def]
    """Read lanes as `load` does, and ask for those that lie so many elements further.

    Nothing happens where there are none.
    """
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, mask, further = values
        place = builder.gep(pointer, [i])
        _ask(builder, place, further, 0)
        return read(builder, "load", place, mask, ptr.dtype)

    result = vector_type(ptr.dtype, m.lanes)
    return result(ptr, types.int64, m, types.int64), codegen


@intrinsic
def store_ahead(typingctx, ptr, i, value, m, further):  # type: ignore[no-untyped-def]
    """Write lanes as `store` does, and ask to write those so many elements further."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if value != vector_type(ptr.dtype, m.lanes):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, value, mask, further = values
        place = builder.gep(pointer, [i])
        _ask(builder, place, further, 1)
        write(builder, "store", place, value, mask, ptr.dtype)
        return context.get_dummy_value()

    return types.void(ptr, types.int64, value, m, types.int64), codegen


@intrinsic
def load_later(typingctx, ptr, i, m, further, lines, number):  # type: ignore[no-untyped-def]
    """Read lanes as `load` does; a tile then asks for those so many elements further.

    lines: the address of a `line_table`, number: that of a line in it.
    """
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, mask, *later = values
        place = builder.gep(pointer, [i])
        _note(builder, place, *later)
        return read(builder, "load", place, mask, ptr.dtype)

    result = vector_type(ptr.dtype, m.lanes)
    return result(ptr, types.int64, m, *[types.int64] * 3), codegen


@intrinsic
def store_later(typingctx, ptr, i, value, m, further, lines, number):  # type: ignore[no-untyped-def]
    """Write lanes as `store` does; a tile then asks for those so much further."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if value != vector_type(ptr.dtype, m.lanes):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        pointer, i, value, mask, *later = values
        place = builder.gep(pointer, [i])
        _note(builder, place, *later)
        write(builder, "store", place, value, mask, ptr.dtype)
        return context.get_dummy_value()

    return types.void(ptr, types.int64, value, m, *[types.int64] * 3), codegen


def _note(
    builder: ir.IRBuilder,
    place: ir.Value,
    further: ir.Value,
    lines: ir.Value,
    number: ir.Value,
) -> None:
    """Append the note of an address in a table of lines."""
    table = builder.inttoptr(lines, I64.as_pointer())
    address = builder.ptrtoint(builder.gep(place, [further]), I64)
    builder.store(address, builder.gep(table, [number]))


@intrinsic
def stream(typingctx, ptr, i, value, m):  # type: ignore[no-untyped-def]
    """Write lanes as `store` does; whole vectors go past the caches.

    Other threads see them after `drain` and a barrier.
    """
    return _passing(ptr, value, m, _stream)


@intrinsic
def stream_line(typingctx, ptr, i, value, m):  # type: ignore[no-untyped-def]
    """Write lanes as `stream` does, to where whole vectors fill whole lines.

    ptr + i must be a multiple of a vector's bytes, or of a line's where it has more.
    """
    return _passing(ptr, value, m, _stream_line)


def _passing(ptr: Any, value: Any, m: Any, append: Callable[..., None]) -> Any:
    """Return the typing of a store past the caches, and the code that `append` adds."""
    if not (is_pointer(ptr) and isinstance(m, Mask)):
        return None
    if value != vector_type(ptr.dtype, m.lanes):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
        pointer, i, lanes, mask = values
        append(builder, builder.gep(pointer, [i]), lanes, mask, ptr.dtype)
        return context.get_dummy_value()

    return types.void(ptr, types.int64, value, m), codegen


def _stream_line(
    builder: ir.IRBuilder, place: ir.Value, value: ir.Value, mask: ir.Value, dtype: Any
) -> None:
    stored = to_memory(builder, value, dtype)
    whole = _bytes(stored.type, alignment(stored.type).constant)
    if is_full(mask):
        _past(builder, place, stored, stored.type.count, whole)
        return
    with builder.if_else(_has_all(builder, mask)) as (past, through):
        with past:
            _past(builder, place, stored, stored.type.count, whole)
        with through:
            write(builder, "store", place, value, mask, dtype)


def _stream(
    builder: ir.IRBuilder, place: ir.Value, value: ir.Value, mask: ir.Value, dtype: Any
) -> None:
    stored = to_memory(builder, value, dtype)
    size = alignment(stored.type).constant
    whole, piece = _bytes(stored.type, size), PIECE // size
    address = builder.ptrtoint(place, I64)

    def aligned(to: int) -> ir.Value:
        rest = builder.and_(address, ir.Constant(I64, to - 1))
        found = builder.icmp_unsigned("==", rest, ir.Constant(I64, 0))
        if is_full(mask):
            return found
        return builder.and_(_has_all(builder, mask), found)

    ways = [
        (aligned(whole), stored.type.count),
        *([(aligned(PIECE), piece)] if piece < stored.type.count else []),
    ]
    after = builder.append_basic_block("streamed")
    for test, count in ways:
        one, other = (builder.append_basic_block(n) for n in ("past", "through"))
        builder.cbranch(test, one, other)
        builder.position_at_end(one)
        _past(builder, place, stored, count, count * size)
        builder.branch(after)
        builder.position_at_end(other)
    write(builder, "store", place, value, mask, dtype)
    builder.branch(after)
    builder.position_at_end(after)


def _has_all(builder: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """Append whether all lanes of a mask are set."""
    word = ir.IntType(mask.type.count)
    bits = builder.bitcast(mask, word)
    return builder.icmp_unsigned("==", bits, ir.Constant(word, -1))


def _bytes(type_: ir.VectorType, size: int) -> int:
    """Return the bytes of a vector, at most those of the largest register."""
    return min(int(type_.count) * size, 64)


def _past(
    builder: ir.IRBuilder, place: ir.Value, value: ir.Value, count: int, align: int
) -> None:
    """Append stores past the caches, so many lanes each."""
    temporal = builder.module.add_metadata([ir.Constant(I32, 1)])
    kind = ir.VectorType(value.type.element, count)
    whole = count == value.type.count
    for first in range(0, value.type.count, count):
        lanes = ir.Constant(
            ir.VectorType(I32, count), list(range(first, first + count))
        )
        part = value if whole else builder.shuffle_vector(value, value, lanes)
        at = builder.gep(place, [ir.Constant(I64, first)])
        store = builder.store(
            part, builder.bitcast(at, kind.as_pointer()), align=min(align, 64)
        )
        store.set_metadata("nontemporal", temporal)


@intrinsic
def lead(typingctx, ptr):  # type: ignore[no-untyped-def]
    """Return how many elements lie between the beginning of a cache line and ptr[0]."""
    if not is_pointer(ptr):
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        size = alignment(stored_type(ptr.dtype, 1)).constant
        rest = builder.and_(builder.ptrtoint(values[0], I64), ir.Constant(I64, 63))
        return builder.udiv(rest, ir.Constant(I64, size))

    return types.int64(ptr), codegen


@intrinsic
def gap(typingctx, ptr, other):  # type: ignore[no-untyped-def]
    """Return how many elements behind other[0] the next lies that is alike to ptr[0].

    A processor tells a load from the stores before it by the last twelve bits of their
    addresses, and lets it wait if they are equal: long, if the store is a stream.
    """
    if not is_pointer(ptr) or ptr != other:
        return None

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        size = alignment(stored_type(ptr.dtype, 1)).constant
        here, there = (builder.ptrtoint(v, I64) for v in values)
        rest = builder.and_(builder.sub(here, there), ir.Constant(I64, 4095))
        return builder.udiv(rest, ir.Constant(I64, size))

    return types.int64(ptr, ptr), codegen


@intrinsic(prefer_literal=True)
def drafts(typingctx, ptr, count):  # type: ignore[no-untyped-def]
    """Return room for so many (a literal) numbers like ptr's, until the kernel ends.

    It begins at a cache line.
    """
    if not (is_pointer(ptr) and isinstance(count, types.IntegerLiteral)):
        return None
    element = stored_type(ptr.dtype, 1).element
    kind = ir.ArrayType(element, count.literal_value)

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        # Not by Numba's `alloca_once`, which writes zeros: a store for each number.
        with builder.goto_entry_block():
            room = builder.alloca(kind)
        room.align = 64
        return builder.bitcast(room, element.as_pointer())

    return ptr(ptr, count), codegen


@intrinsic
def drain(typingctx):  # type: ignore[no-untyped-def]
    """Wait until what this thread has streamed is in memory."""

    def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
        # Elsewhere the barrier between kernels orders these stores like any other.
        if native.target().triple.startswith("x86_64"):
            fence = declare(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
            builder.call(fence, [])
        return context.get_dummy_value()

    return types.void(), codegen
