"""Divide work: shares among threads, and the tiles of a matrix product.

Each is a few integer operations that every kernel would otherwise spell out; as
intrinsics they cost Numba's front end one call instead of ten.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .gemm_calls import call_at, of_pack

WORD = ir.IntType(64)


def _word(value: int) -> ir.Constant:
    return ir.Constant(WORD, value)


def _tuple(context: Any, builder: Any, sig: Any, *values: Any) -> Any:
    return context.make_tuple(builder, sig.return_type, values)


def _least(builder: Any, a: Any, b: Any) -> Any:
    return builder.select(builder.icmp_signed("<", a, b), a, b)


def _ceiling(builder: Any, a: Any, b: Any) -> Any:
    """Return a / b rounded up; neither is negative, b is not 0."""
    return builder.udiv(builder.add(a, builder.sub(b, _word(1))), b)


def _share(builder: Any, n: Any, t: Any, nt: Any) -> tuple[Any, Any]:
    """Return the first and one past the last of n items that share t of nt does."""
    first = builder.udiv(builder.mul(n, t), nt)
    last = builder.udiv(builder.mul(n, builder.add(t, _word(1))), nt)
    return first, last


def _words(n: int) -> Any:
    return types.UniTuple(types.int64, n)  # type: ignore[no-untyped-call]


@intrinsic
def share(typing, n, t, nt):  # type: ignore[no-untyped-def]
    """Return the first and one past the last of the n items that share t of nt does."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _tuple(context, builder, sig, *_share(builder, *args))

    return _words(2)(types.int64, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def tiling(typing, rows, columns, copied, mr, nr):  # type: ignore[no-untyped-def]
    """Return (tall, height, wide, span): how a rows x columns product is tiled.

    There are `tall` tiles of at most `height` <= mr rows, as even as they can be, and
    `wide` panels of `span` columns: nr, or twice that for a single row whose panels
    are not copied. mr and nr are literals.
    """
    if not isinstance(mr, types.IntegerLiteral) or not isinstance(
        nr, types.IntegerLiteral
    ):
        return None
    mr_value, nr_value = mr.literal_value, nr.literal_value

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        rows, columns, copied, _, _ = args
        none = builder.icmp_signed("==", rows, _word(0))
        tall = _ceiling(builder, rows, _word(mr_value))
        height = _ceiling(builder, rows, builder.select(none, _word(1), tall))
        single = builder.icmp_signed("==", rows, _word(1))
        plain = builder.icmp_signed("==", copied, _word(0))
        long = builder.and_(single, plain)
        span = builder.select(long, _word(2 * nr_value), _word(nr_value))
        return _tuple(
            context, builder, sig, tall, height, _ceiling(builder, columns, span), span
        )

    arguments = (types.int64, types.int64, types.int64, mr, nr)
    return _words(4)(*arguments), codegen


@intrinsic
def divide(typing, wide, tall, rowwise, t, nt):  # type: ignore[no-untyped-def]
    """Return (first, last, step, from_band, to_band): the tiles that t of nt computes.

    They are first .. last - 1, counted along each of `wide` panels of `tall` tiles; or,
    where threads divide the rows, the same tiles of every panel. Of a panel they are
    those from first - panel * step on. A share of no tile has no panel.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide, tall, rowwise, t, nt = args
        zero = _word(0)
        rows = builder.icmp_signed("!=", rowwise, zero)
        count = builder.select(rows, tall, builder.mul(wide, tall))
        first, last = _share(builder, count, t, nt)
        none = builder.icmp_signed("==", tall, zero)
        each = builder.select(none, _word(1), tall)
        begin = builder.select(rows, zero, builder.udiv(first, each))
        end = builder.select(rows, wide, _ceiling(builder, last, each))
        end = builder.select(builder.icmp_signed("==", first, last), begin, end)
        step = builder.select(rows, zero, tall)
        return _tuple(context, builder, sig, first, last, step, begin, end)

    return _words(5)(*(types.int64,) * 5), codegen


@intrinsic
def panel_place(typing, band, wide, span, n_columns):  # type: ignore[no-untyped-def]
    """Return (which, column, columns) of a panel: its matrix, and where it lies there.

    Panels run across a matrix, matrices through the batch.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        band, wide, span, n_columns = args
        which = builder.udiv(band, wide)
        column = builder.mul(builder.urem(band, wide), span)
        columns = _least(builder, span, builder.sub(n_columns, column))
        return _tuple(context, builder, sig, which, column, columns)

    return _words(3)(*(types.int64,) * 4), codegen


@intrinsic
def fetch(typing, pack_at, copied, fresh, to, width, source, deep, across, k, n):  # type: ignore[no-untyped-def]
    """Return (pointer, step along k, step across) of an operand of a tile.

    Where it is not `copied` that is (source, deep, across). Else it is the copy at
    `to`, (to, width, 1), which is made first, by `pack`, if it is not there yet:
    `fresh`.
    """
    if not isinstance(source, types.CPointer) or not isinstance(to, types.CPointer):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pack_at, copied, fresh, to, width, source, deep, across, k, n = args
        copies = builder.icmp_signed("!=", copied, _word(0))
        begins = builder.and_(copies, fresh)
        with builder.if_then(begins):
            place, values = of_pack(
                builder, to, (to, width, source, deep, across, k, n)
            )
            call_at(builder, pack_at, place, values)
        return _tuple(
            context,
            builder,
            sig,
            builder.select(copies, to, source),
            builder.select(copies, width, deep),
            builder.select(copies, _word(1), across),
        )

    found: Any = types.Tuple((source, types.int64, types.int64))  # type: ignore[no-untyped-call]
    i64, truth = types.int64, types.boolean
    arguments = (i64, i64, truth, to, i64, source, i64, i64, i64, i64)
    return found(*arguments), codegen
