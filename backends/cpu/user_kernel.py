"""A user's own kernel: compiled by Numba as it is, called through its address.

Numba's usual pipeline compiles it, with its runtime, so that it may allocate arrays and
call whatever Numba knows. What it raises cannot leave native code: `invoke` sets a flag
that the step looks at when it is done.
"""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from typing import Any

from graphc.errors import CompileError
from graphc.ir.program import Buffer, Call
from graphc.ir.program.routines import LibraryRoutine

READERS = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
READERS["bool"] = "b8"

# Compiled functions by function and types: kept, for tables hold their addresses.
_known: dict[tuple[Any, ...], Any] = {}


def compile_kernel(
    routine: LibraryRoutine,
    call: Call,
    reads: Sequence[Buffer],
    writes: Sequence[Buffer],
) -> int:
    """Return the address of a Numba function of a table: flag, addresses, then sizes.

    Raises:  CompileError with Numba's message, the function's file and the user's line.
    """
    types = [(b.dtype.name, len(b.shape)) for b in (*reads, *writes)]
    key = (routine.function, len(reads), *types)
    if key not in _known:
        _known[key] = _compiled(routine, call, types, len(reads))
    (found,) = _known[key].overloads.values()
    return int(found.library.get_pointer_to_function(found.fndesc.llvm_func_name))


def _compiled(
    routine: LibraryRoutine, call: Call, types: list[tuple[str, int]], reads: int
) -> Any:
    import numba as typed_numba

    numba: Any = typed_numba  # used otherwise than it is typed

    from graphc.backends.cpu.prelude import vector

    function: Any = routine.function
    code = getattr(function, "py_func", function).__code__
    if getattr(function, "targetoptions", {}).get("parallel"):
        raise _refused(call, code, "it is compiled with parallel=True", "")
    if not hasattr(function, "py_func"):
        function = numba.njit(error_model="numpy")(function)
    arrays = [
        numba.types.Array(getattr(numba.types, name), ndim, "C", readonly=i < reads)
        for i, (name, ndim) in enumerate(types)
    ]
    known = {
        "carray": numba.carray,
        "function": function,
        **{name: getattr(vector, name) for name in READERS.values()},
    }
    text = _wrapper_text(types)
    # Shown in tracebacks; the text is of numbers and names that stand above.
    file = f"<graphc kernel {call.name}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    exec(compile(text, file, "exec"), known)
    try:
        function.compile(tuple(arrays))
        wrapper = numba.njit(no_cpython_wrapper=True, no_cfunc_wrapper=True)
        made = wrapper(known["wrapper"])
        made.compile((vector.TABLE,))
        return made
    except Exception as error:  # Numba's own, or one of its many internal ones
        raise _refused(call, code, "Numba cannot compile it", str(error)) from error


def _refused(call: Call, code: Any, why: str, message: str) -> CompileError:
    return CompileError(
        f"{call.summary.partition(' ')[2]}: the kernel {code.co_name}: {why}",
        details=[
            f"in {code.co_filename}:{code.co_firstlineno}",
            *(line for line in message.splitlines() if line.strip()),
        ],
        where=call.origins[0].quoted if call.origins else "",
        help="write it in the part of Python that Numba knows, or use "
        'backend="reference"',
    )


def _wrapper_text(types: list[tuple[str, int]]) -> str:
    """Return the function that makes arrays of a table, and calls the kernel."""
    at = 1 + len(types)
    lines = ["def wrapper(table):"]
    for i, (dtype, ndim) in enumerate(types):
        sizes = "".join(f"table[{at + k}], " for k in range(ndim)) or "1, "
        shape = "" if ndim else ".reshape(())"
        pointer = f"{READERS[dtype]}(table, {1 + i})"
        lines.append(f"    a{i} = carray({pointer}, ({sizes})){shape}")
        at += ndim
    arguments = ", ".join(f"a{i}" for i in range(len(types)))
    return "\n".join([*lines, f"    function({arguments})", ""])
