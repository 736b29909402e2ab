"""Call the register tile and the panel copy from a kernel, through their addresses.

The addresses come in the kernel's args table (`gemm.tile_address`,
`gemm.pack_address`): were the functions linked into each kernel, LLVM would compile
them again there.
Pointers are typed, as those that the vector operations take.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from .gemm_ir import LINES

_WORD = ir.IntType(64)


@intrinsic
def at(typing, pointer, i):  # type: ignore[no-untyped-def]
    """Return the pointer to element ``i`` behind ``pointer``."""
    if not isinstance(pointer, types.CPointer):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), codegen


def call_pointer(pattern: str, kinds: tuple[Any, ...]) -> Any:
    """Return the typing and code of a call; ``pattern`` has p for a pointer, i else.

    The first argument is the function's address.
    """
    if len(kinds) != len(pattern):
        return None
    chosen = []
    for letter, kind in zip(pattern, kinds, strict=True):
        if letter == "p" and not isinstance(kind, types.CPointer):
            return None
        chosen.append(kind if letter == "p" else types.int64)

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        function = ir.FunctionType(ir.VoidType(), [value.type for value in args[1:]])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(*chosen), codegen


@intrinsic
def tile(typing, function, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines):  # type: ignore[no-untyped-def]
    """Compute a tile of a matrix product.

    Math:    c[i sc + j] (+)= sum_p a[i sa_i + p sa_k] b[p sb_k + j],
             i < rows <= MR, p < k, j < cols <= NR; added to c if adds is not 0.

    Strides count elements. Nothing beyond rows, k and cols is written, or read but for
    b, whose rows are whole vectors. lines: 0, or the address of a `line_table`.
    """
    kinds = (function, c, sc, a, sa_i, sa_k, rows, b, sb_k, k, cols, adds, lines)
    return call_pointer("ipipiiipiiiii", kinds)


@intrinsic
def tile_rows(
    typing, function, c, sc, a, across, deep, rows, b, sb_k, k, cols, adds, lines
):  # type: ignore[no-untyped-def]
    """Compute a tile whose rows lie where two tables of offsets say.

    Math:    c[i sc + j] (+)= sum_p a[across[i] + deep[p]] b[p sb_k + j],
             i < rows <= MR, p < k, j < cols <= NR; added to c if adds is not 0

    across and deep are addresses of int64 offsets in elements; lines is 0.
    """
    kinds = (function, c, sc, a, across, deep, rows, b, sb_k, k, cols, adds, lines)
    return call_pointer("ipipiiipiiiii", kinds)


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
def gather_panel(typing, function, to, width, b, deep, k, across, cols, turn):  # type: ignore[no-untyped-def]
    """Copy a panel whose elements lie where two tables of offsets say.

    Math:    to[p width + j] = b[deep[p] + across[j]] for p < k, j < cols <= width

    deep and across are addresses of int64 offsets in elements. Neighbours are copied as
    vectors: those across the panel, or, if turn is not 0, those along p.
    """
    kinds = (function, to, width, b, deep, k, across, cols, turn)
    return call_pointer("ipipiiiii", kinds)


@intrinsic
def pack(typing, function, to, width, b, sb_k, sb_j, k, cols):  # type: ignore[no-untyped-def]
    """Copy a panel of k x cols elements to k x width contiguous ones, padded with 0.

    Math:    to[p width + j] = b[p sb_k + j sb_j] for p < k, j < cols <= width

    ``width`` is a multiple of the vector's lanes. It is fast where sb_j or sb_k is 1.
    """
    return call_pointer("ipipiiii", (function, to, width, b, sb_k, sb_j, k, cols))


@intrinsic
def fill_frame(typing, function, to, width, a, lines, n, low, step, size):  # type: ignore[no-untyped-def]
    """Copy the lines of a tensor into a frame of zeros.

    Math:    to[r width + low + i step] = a[lines[r] + i] for i < size, where
             lines[r] >= 0; 0 elsewhere, for r < n; vectors behind the end too

    lines is the address of int64 offsets in elements.
    """
    kinds = (function, to, width, a, lines, n, low, step, size)
    return call_pointer("ipipiiiii", kinds)
