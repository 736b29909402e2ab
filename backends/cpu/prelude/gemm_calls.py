"""Call the register tile and the panel copy from a kernel, through their addresses.

They stand in tables (`gemm.table`), whose addresses come in the kernel's args table:
were the functions linked into each kernel, LLVM would compile them again there. Which
piece of a table is called depends on sizes and strides.
Pointers are typed, as those that the vector operations take.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .gemm_ir import LINES, shape

_WORD = ir.IntType(64)


@intrinsic
def at(typing, pointer, i):  # type: ignore[no-untyped-def]
    """Return the pointer to element ``i`` behind ``pointer``."""
    if not isinstance(pointer, types.CPointer):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


# From a builder, the first pointer's type and the arguments of a call: where in its
# table a piece stands, and the arguments that the piece takes.
Choose = Callable[[Any, Any, Sequence[Any]], tuple[Any, Sequence[Any]]]


def call_at(b: Any, table: Any, place: Any, values: Sequence[Any]) -> None:
    """Append a call of the function at a place in a table of addresses."""
    entry = b.gep(b.inttoptr(table, _WORD.as_pointer()), [place])
    call_function(b, [b.load(entry), *values])


def call_function(b: Any, args: Sequence[Any]) -> None:
    """Append a call of the function whose address is the first argument."""
    kind = ir.FunctionType(ir.VoidType(), [value.type for value in args[1:]])
    b.call(b.inttoptr(args[0], kind.as_pointer()), args[1:])


def call_pointer(
    pattern: str, kinds: tuple[Any, ...], call: Any = call_function
) -> Any:
    """Return the typing and code of a call; ``pattern`` has p for a pointer, i else.

    call: appends it, from a builder and the arguments.
    """
    if len(kinds) != len(pattern):
        return None
    chosen = []
    for letter, kind in zip(pattern, kinds, strict=True):
        if letter == "p" and not isinstance(kind, types.CPointer):
            return None
        chosen.append(kind if letter == "p" else types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        call(builder, args)
        return context.get_dummy_value()

    return types.void(*chosen), codegen


def call_piece(pattern: str, kinds: tuple[Any, ...], choose: Choose) -> Any:
    """Return the same of a piece, whose table's address is the first argument."""

    def call(builder: ir.IRBuilder, args: Sequence[Any]) -> None:
        place, values = choose(builder, kinds[1], args[1:])
        call_at(builder, args[0], place, values)

    return call_pointer(pattern, kinds, call)


def _of_tile(b: Any, pointer: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """Choose a tile by its rows and columns; see `Shape.pieces`."""
    *left, rows, right, sb_k, k, cols, adds, lines = args
    size = shape(pointer.dtype.name)
    before = b.udiv(b.sub(cols, _WORD(1)), _WORD(size.lanes))
    place = b.add(rows, b.mul(before, _WORD(size.rows)))
    # Tiles that ask come behind those of whole columns that do not.
    wide = b.icmp_signed("==", before, _WORD(size.vectors - 1))
    asks = b.and_(wide, b.icmp_signed("!=", lines, _WORD(0)))
    place = b.select(asks, b.add(place, _WORD(size.rows)), place)
    long = b.icmp_signed(">", cols, _WORD(size.columns))
    return b.select(long, _WORD(0), place), [*left, right, sb_k, k, cols, adds, lines]


def _of_quads(b: Any, _: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    *left, rows, right, sb_k, k, cols, adds, lines = args
    place = b.sub(rows, _WORD(1))
    return place, [*left, right, sb_k, k, cols, adds, lines]


def of_pack(b: Any, _: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """Choose a way to copy a panel, by its strides."""
    _, _, _, sb_k, sb_j, _, _ = args
    one = _WORD(1)
    way = b.select(b.icmp_signed("==", sb_k, one), one, _WORD(2))
    return b.select(b.icmp_signed("==", sb_j, one), _WORD(0), way), args


def _of_gather(b: Any, _: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    *given, turn = args
    return b.zext(b.icmp_signed("!=", turn, _WORD(0)), _WORD), given


def _of_one(_b: Any, _: Any, args: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    return _WORD(0), args


@intrinsic
def tile(typing, table, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines):  # type: ignore[no-untyped-def]
    """Compute a tile of a matrix product.

    Math:    c[i sc + j] (+)= sum_p a[i sa_i + p sa_k] b[p sb_k + j],
             i < rows <= MR, p < k, j < cols <= NR; added to c if adds is not 0.

    Strides count elements. Nothing beyond rows, k and cols is written, or read but for
    b, whose rows are whole vectors. lines: 0, or the address of a `line_table`.
    """
    kinds = (table, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines)
    return call_piece("ipipiiipiiiii", kinds, _of_tile)


@intrinsic
def tile_rows(  # type: ignore[no-untyped-def]
    typing, table, c, sc, a, across, deep, rows, b, sb_k, k, cols, adds, lines
):
    """Compute a tile whose rows lie where two tables of offsets say.

    Math:    c[i sc + j] (+)= sum_p a[across[i] + deep[p]] b[p sb_k + j],
             i < rows <= MR, p < k, j < cols <= NR; added to c if adds is not 0

    across and deep are addresses of int64 offsets in elements. Where lines is not 0,
    windows are asked for AHEAD turns early, and deep has so many offsets more.
    """
    kinds = (table, c, sc, a, across, deep, rows, b, sb_k, k, cols, adds, lines)
    return call_piece("ipipiiipiiiii", kinds, _of_tile)


@intrinsic
def line_table(typing):  # type: ignore[no-untyped-def]
    """Return the address of a table of cache lines that tiles ask for; see gemm_ir.py.

    It lies on the stack. Until `load_later` and `store_later` fill it, it names itself.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        kind = ir.VectorType(_WORD, 8)
        table = builder.alloca(kind, LINES // 8)
        table.align = 64
        address = builder.ptrtoint(table, _WORD)
        own = ir.Constant(kind, ir.Undefined)
        for lane in range(8):
            own = builder.insert_element(own, address, ir.IntType(32)(lane))
        for block in range(LINES // 8):
            builder.store(own, builder.gep(table, [_WORD(block)]))
        return address

    return types.int64(), codegen


@intrinsic
def tile_columns(  # type: ignore[no-untyped-def]
    typing, table, c, sc, a, sa_i, sa_k, rows, b, deep, k, cols, adds, lines
):
    """Compute a tile of whose columns each row lies where a table of offsets says.

    Math:    c[i sc + j] (+)= sum_p a[i sa_i + p sa_k] b[deep[p] + j],
             i < rows <= MR, p < k, j < cols <= NR; added to c if adds is not 0

    deep is the address of int64 offsets in elements; lines is 0. Whole vectors of b are
    read.
    """
    kinds = (table, c, sc, a, sa_i, sa_k, rows, b, deep, k, cols, adds, lines)
    return call_piece("ipipiiipiiiii", kinds, _of_tile)


@intrinsic
def tile_quads(  # type: ignore[no-untyped-def]
    typing, table, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines
):
    """Compute a tile of at most a vector of columns, from an interleaved panel.

    Math:    c[i sc + j] (+)= sum_p a[i sa_i + p] b[p, j],
             i < rows <= MR, p < k, j < cols <= lanes; added to c if adds is not 0

    Four p at a time (quads_ir.py). sa_k is 1; sb_k and lines are not used.
    """
    kinds = (table, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines)
    return call_piece("ipipiiipiiiii", kinds, _of_quads)


@intrinsic
def interleave(typing, table, panel, k):  # type: ignore[no-untyped-def]
    """Put a copied panel of k rows, a vector each, in the order of `tile_quads`."""
    return call_piece("ipi", (table, panel, k), _of_one)


@intrinsic
def gather_panel(typing, table, to, width, b, deep, k, across, cols, turn):  # type: ignore[no-untyped-def]
    """Copy a panel whose elements lie where two tables of offsets say.

    Math:    to[p width + j] = b[deep[p] + across[j]] for p < k, j < cols <= width

    deep and across are addresses of int64 offsets in elements. Neighbours are copied as
    vectors: those across the panel, or, if turn is not 0, those along p.
    """
    kinds = (table, to, width, b, deep, k, across, cols, turn)
    return call_piece("ipipiiiii", kinds, _of_gather)


@intrinsic
def spread_panel(typing, table, to, deep, k, across, a, width, cols):  # type: ignore[no-untyped-def]
    """Add a panel to elements that lie where two tables of offsets say.

    Math:    to[deep[p] + across[j]] += a[p width + j] for p < k, j < cols <= width

    deep and across are addresses of int64 offsets in elements. Neighbours across the
    panel are added as vectors.
    """
    kinds = (table, to, deep, k, across, a, width, cols)
    return call_piece("ipiiipii", kinds, _of_one)


@intrinsic
def pack(typing, table, to, width, b, sb_k, sb_j, k, cols):  # type: ignore[no-untyped-def]
    """Copy a panel of k x cols elements to k x width contiguous ones, padded with 0.

    Math:    to[p width + j] = b[p sb_k + j sb_j] for p < k, j < cols <= width

    ``width`` is a multiple of the vector's lanes. It is fast where sb_j or sb_k is 1.
    """
    kinds = (table, to, width, b, sb_k, sb_j, k, cols)
    return call_piece("ipipiiii", kinds, of_pack)


@intrinsic
def fill_frame(  # type: ignore[no-untyped-def]
    typing, table, to, width, a, lines, n, low, step, size, copies, apart
):
    """Copy the lines of a tensor into a frame of zeros, and into copies of it.

    Math:    to[r width + low + i step] = a[lines[r] + i] for i < size, where
             lines[r] >= 0; 0 elsewhere, for r < n; each copy n width elements behind
             the one before, its low less by apart

    lines is the address of int64 offsets in elements.
    """
    kinds = (table, to, width, a, lines, n, low, step, size, copies, apart)
    return call_piece("ipipiiiiiii", kinds, _of_one)
