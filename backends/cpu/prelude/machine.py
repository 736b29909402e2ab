"""Give Numba functions the few machine operations that the step driver needs.

Words at an address, atomic operations on them, a polite spin loop, and calls through an
address. Addresses are plain int64, as in the tables that kernels read.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types

_WORD = ir.IntType(64)
_BYTE_POINTER = ir.IntType(8).as_pointer()


def intrinsic(define: Callable[..., Any]) -> Any:
    """Make a function for Numba code of one that returns its signature and code."""
    return extending.intrinsic(define)


# A generator of the instructions of an intrinsic: (context, builder, sig, args).
Codegen = Callable[[Any, ir.IRBuilder, Any, list[ir.Value]], ir.Value]


def _words(n: int) -> tuple[types.Type, ...]:
    return (types.int64,) * n


def _pointer(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    return builder.inttoptr(address, _WORD.as_pointer())


def _call(builder: ir.IRBuilder, address: ir.Value, args: list[ir.Value]) -> None:
    function = ir.FunctionType(ir.VoidType(), [value.type for value in args])
    builder.call(builder.inttoptr(address, function.as_pointer()), args)


@intrinsic
def load_word(typing: Any, address: Any) -> tuple[Any, Codegen]:
    """Return the int64 at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.load(_pointer(builder, args[0]))

    return types.int64(*_words(1)), codegen


@intrinsic
def store_word(typing: Any, address: Any, value: Any) -> tuple[Any, Codegen]:
    """Store an int64 at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        builder.store(args[1], _pointer(builder, args[0]))
        return context.get_dummy_value()

    return types.void(*_words(2)), codegen


@intrinsic
def load_acquire(typing: Any, address: Any) -> tuple[Any, Codegen]:
    """Return the int64 at an address, and see all that was stored before it was."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.load_atomic(_pointer(builder, args[0]), "acquire", 8)

    return types.int64(*_words(1)), codegen


@intrinsic
def add_atomic(typing: Any, address: Any, value: Any) -> tuple[Any, Codegen]:
    """Add to the int64 at an address; return what it was."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        return builder.atomic_rmw("add", _pointer(builder, args[0]), args[1], "seq_cst")

    return types.int64(*_words(2)), codegen


@intrinsic
def swap_if_equal(typing: Any, address: Any, old: Any, new: Any) -> tuple[Any, Codegen]:
    """Store ``new`` at an address if ``old`` is there; return what was there."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        pointer = _pointer(builder, args[0])
        pair = builder.cmpxchg(pointer, args[1], args[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 0)

    return types.int64(*_words(3)), codegen


@intrinsic
def pause(typing: Any) -> tuple[Any, Codegen]:
    """Tell the core that this is a spin loop."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        machine = str(builder.module.triple).partition("-")[0]
        word = {"x86_64": "pause", "aarch64": "yield", "arm64": "yield"}.get(machine)
        if word is not None:
            function = ir.FunctionType(ir.VoidType(), [])
            builder.asm(function, word, "~{memory}", [], side_effect=True)
        return context.get_dummy_value()

    return types.void(), codegen


def c_function(name: str, arguments: int, *, returns: bool) -> Any:
    """Return a Numba function that calls the C function ``name`` of this process.

    Arguments and the result, if it returns one, are int64, pointers too.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        result = _WORD if returns else ir.VoidType()
        callee = builder.module.globals.get(name)
        if callee is None:
            function = ir.FunctionType(result, [_WORD] * arguments)
            callee = ir.Function(builder.module, function, name)
        value = builder.call(callee, args)
        return value if returns else context.get_dummy_value()

    result_type = types.int64 if returns else types.void
    signature = result_type(*_words(arguments))
    # An intrinsic must have as many parameters as the function that it stands for.
    if arguments == 0:
        return intrinsic(lambda typing: (signature, codegen))
    return intrinsic(lambda typing, value: (signature, codegen))


# Let the operating system run another thread on this core.
give_way = c_function(
    "SwitchToThread" if sys.platform == "win32" else "sched_yield", 0, returns=False
)

# What a function that Python calls needs of Python.
int_value = c_function("PyLong_AsLongLong", 1, returns=True)
int_object = c_function("PyLong_FromLongLong", 1, returns=True)
release_gil = c_function("PyEval_SaveThread", 0, returns=True)
take_gil = c_function("PyEval_RestoreThread", 1, returns=False)


@intrinsic
def call_kernel(
    typing: Any, kernel: Any, args: Any, t: Any, nt: Any
) -> tuple[Any, Codegen]:
    """Call ``void kernel(args, t, nt)`` at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        _call(builder, args[0], list(args[1:]))
        return context.get_dummy_value()

    return types.void(*_words(4)), codegen


@intrinsic
def call_rows(
    typing: Any, rows: Any, table: Any, n_rows: Any, t: Any, nt: Any, team: Any
) -> tuple[Any, Codegen]:
    """Call ``void rows(table, n_rows, t, nt, team)`` at an address."""

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        _call(builder, args[0], list(args[1:]))
        return context.get_dummy_value()

    return types.void(*_words(6)), codegen


@intrinsic
def call_parallel_for(
    typing: Any,
    parallel_for: Any,
    share: Any,
    args: Any,
    dims: Any,
    steps: Any,
    data: Any,
    nt: Any,
) -> tuple[Any, Codegen]:
    """Call Numba's ``parallel_for`` at an address: ``nt`` shares on ``nt`` threads.

    It calls ``share(char **args, size_t *dims, size_t *steps, void *data)``, where
    ``args[0]`` has advanced by ``steps[0]`` bytes a share.
    """

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, args: Any) -> ir.Value:
        threads = builder.trunc(args[6], ir.IntType(32))
        no_inner_dims, one_array = _WORD(0), _WORD(1)
        _call(builder, args[0], [*args[1:6], no_inner_dims, one_array, threads])
        return context.get_dummy_value()

    return types.void(*_words(7)), codegen
