"""Call functions of other libraries, through addresses that stand among the arguments.

LAPACK takes every argument by reference, and its ints have 32 bits: a word of 8 bytes
serves as one, its lower half on a little-endian machine.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from . import vector
from .gemm_calls import call_pointer

_HALF = ir.IntType(32)
_BYTES = ir.IntType(8).as_pointer()


@intrinsic
def invoke(typing, function, table):  # type: ignore[no-untyped-def]
    """Call a Numba function of a table; table[0] becomes 1 if it raised, else 0.

    Numba's functions are ``int32 f(result *, exception **, arguments...)``.
    """
    if table != vector.TABLE:
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        address, table = args
        result = builder.alloca(_BYTES)
        exception = builder.alloca(_BYTES)
        values = [result, exception, table]
        kind = ir.FunctionType(_HALF, [v.type for v in values])
        status = builder.call(builder.inttoptr(address, kind.as_pointer()), values)
        failed: Any = ir.Constant(ir.IntType(1), 1)
        for well in (0, -2):  # a value, and None
            other = builder.icmp_signed("!=", status, ir.Constant(_HALF, well))
            failed = builder.and_(failed, other)
        builder.store(builder.zext(failed, ir.IntType(64)), table)
        return context.get_dummy_value()

    return types.void(types.int64, table), codegen


@intrinsic
def getrf(typing, function, m, n, a, lda, pivots, info):  # type: ignore[no-untyped-def]
    """Factor a matrix in place: P L U, by columns."""
    return call_pointer("ipppppp", (function, m, n, a, lda, pivots, info))


@intrinsic
def getrs(typing, function, trans, n, columns, a, lda, pivots, b, ldb, info):  # type: ignore[no-untyped-def]
    """Solve with the factors of `getrf`, in place of the right-hand sides."""
    kinds = (function, trans, n, columns, a, lda, pivots, b, ldb, info)
    return call_pointer("ippppppppp", kinds)


@intrinsic
def potrf(typing, function, uplo, n, a, lda, info):  # type: ignore[no-untyped-def]
    """Factor a positive definite matrix in place."""
    return call_pointer("ippppp", (function, uplo, n, a, lda, info))


@intrinsic
def trtrs(typing, function, uplo, trans, diag, n, columns, a, lda, b, ldb, info):  # type: ignore[no-untyped-def]
    """Solve with a triangular matrix, in place of the right-hand sides."""
    kinds = (function, uplo, trans, diag, n, columns, a, lda, b, ldb, info)
    return call_pointer("ipppppppppp", kinds)


@intrinsic
def like(typing, pointer, other):  # type: ignore[no-untyped-def]
    """Return a pointer to the same place as one of another's type."""
    if not isinstance(pointer, types.CPointer) or not isinstance(other, types.CPointer):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.bitcast(args[0], args[1].type)

    return other(pointer, other), codegen


@intrinsic
def half(typing, pointer, i):  # type: ignore[no-untyped-def]
    """Read int32 number i behind a pointer to int64."""
    if pointer != types.CPointer(types.int64):  # type: ignore[no-untyped-call]
        return None

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        numbers = builder.bitcast(args[0], _HALF.as_pointer())
        value = builder.load(builder.gep(numbers, [args[1]]))
        return builder.sext(value, ir.IntType(64))

    return types.int64(pointer, types.int64), codegen
