"""How the CPU runs library routines: a function of the prelude for each.

    call cumsum(x) -> t0 outer=N length=4     =>    p0 = f32(args, 0)
                                                    p1 = f32(args, 1)
                                                    outer = args[2] ...
                                                    cumsum(p0, p1, outer, ..., t, nt)

The function takes the buffers that are read, those that are written, the options, the
scratch it asks for, the addresses of the LAPACK functions that it calls, its share and
the number of shares. It is written once for all dtypes: pointers bring theirs.

A user's own kernel is a function of a table, which begins at its second word:

    function = args[0]
    invoke(function, at(args, 1))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.backends.cpu import lapack
from graphc.backends.cpu.arguments import POINTERS, read_lines
from graphc.backends.cpu.user_kernel import compile_kernel
from graphc.backends.shared.arguments import Argument, Arguments
from graphc.backends.shared.blocks import PAD
from graphc.backends.shared.module import KernelText
from graphc.errors import CompileError, GraphcError
from graphc.ir.dims import Size
from graphc.ir.program import Buffer, Call, Program
from graphc.ir.program.routines import routine
from graphc.ir.program.text import call_line

SCRATCH, FAILED = "scratch", "failed"
USER = "kernel"  # the address of a user's own


@dataclass(frozen=True, slots=True)
class Fill:
    """A function of the prelude that runs a routine.

    scratch: how many words of 8 bytes each share needs of its own, by the options.
    lapack: the functions that it calls, without the letter of their dtype.
    """

    function: str
    scratch: Callable[[Mapping[str, Any]], Size] | None = None
    lapack: tuple[str, ...] = ()


def _pairs(options: Mapping[str, Any]) -> Size:
    """Keys and indices of a line, twice: a merge goes from one to the other."""
    found: Size = 4 * options["length"]
    return found


def _matrix(options: Mapping[str, Any]) -> Size:
    """Numbers for LAPACK, pivots, a matrix, and its right-hand sides if it has any."""
    n, columns = options["n"], options.get("columns", 0)
    found: Size = 8 + n + n * n + n * columns
    return found


FILLS: dict[str, Fill] = {
    "cumsum": Fill("cumsum"),
    "cumprod": Fill("cumprod"),
    "cumextremum": Fill("cumextremum"),
    "linear_recurrence": Fill("linear_recurrence"),
    "sort": Fill("sort", _pairs),
    "top_k": Fill("top_k", _pairs),
    "searchsorted": Fill("searchsorted"),
    "solve": Fill("solve", _matrix, ("getrf", "getrs")),
    "solve_triangular": Fill("solve_triangular", _matrix, ("trtrs",)),
    "cholesky": Fill("cholesky", _matrix, ("potrf",)),
    "det": Fill("det", _matrix, ("getrf",)),
    "slogdet": Fill("slogdet", _matrix, ("getrf",)),
}


def prepare(call: Call, program: Program) -> None:
    """Find what a call needs beside the prelude, and compile a user's own kernel.

    Raises:  CompileError naming the routine and the user's line, where there is no such
             routine, LAPACK is not installed, or Numba refuses the kernel.
    """
    if routine(call.routine).function is not None:
        _user_address(call, program)
    elif call.routine not in FILLS:
        raise refused(call, f"the cpu backend has no routine {call.routine!r}")
    elif FILLS[call.routine].lapack and not lapack.found():
        raise refused(
            call,
            f"{call.routine} on the cpu needs LAPACK, which comes with SciPy and "
            "threadpoolctl, and they are not installed",
            'pip install "graphc[linalg]", or use backend="reference"',
        )


def refused(call: Call, message: str, help: str = "") -> CompileError:
    """Return the error that a call cannot be compiled, with the user's line."""
    return CompileError(
        message,
        details=[call.summary] if call.summary else [],
        where=call.origins[0].quoted if call.origins else "",
        help=help or 'use backend="reference"',
    )


def needs_lapack(program: Program) -> bool:
    """Whether a program calls LAPACK, so that its threads have to be held."""
    return any(
        t.routine in FILLS and bool(FILLS[t.routine].lapack)
        for t in program.tasks
        if isinstance(t, Call)
    )


# --- the kernel -----------------------------------------------------------------------


def write_call(call: Call, program: Program) -> KernelText:
    """Write the kernel of a call."""
    if routine(call.routine).function is not None:
        return _write_user(call, program)
    fill = FILLS[call.routine]
    arguments = Arguments(program)
    buffers = [arguments.buffer(n) for n in (*call.reads, *call.writes)]
    given = [*buffers, *(arguments.size(k, v) for k, v in call.options)]
    used = {fill.function}
    if fill.scratch is not None:
        arguments.special("choice", "room", "words of scratch that a thread has")
        given.append(arguments.special("scratch", SCRATCH, "i64"))
        used |= {"at", "i64"}
    letter = {"float32": "s", "float64": "d"}.get(
        program.buffers[call.reads[0]].dtype.name
    )
    given += [arguments.special("routine", f, f"{letter}{f}") for f in fill.lapack]
    lines = read_lines(arguments)
    used |= {POINTERS[d.name] for d in arguments.dtypes.values()}
    lines.append(f"{fill.function}({', '.join([*given, 't', 'nt'])})")
    names = dict(zip((*call.reads, *call.writes), buffers, strict=True))
    return _text(call, lines, tuple(arguments.words), used, names)


def _write_user(call: Call, program: Program) -> KernelText:
    buffers = _buffers(call, program)
    words = [
        Argument("routine", "function", USER),
        Argument("choice", FAILED, "whether it raised an exception"),
    ]
    words += [
        Argument("buffer", f"p{i}", program.root(b.name)) for i, b in enumerate(buffers)
    ]
    words += [
        Argument("size", f"p{i}_n{k}", size)
        for i, b in enumerate(buffers)
        for k, size in enumerate(b.shape)
    ]
    lines = ["function = args[0]", "invoke(function, at(args, 1))"]
    names = {b.name: f"p{i}" for i, b in enumerate(buffers)}
    return _text(call, lines, tuple(words), {"at", "invoke"}, names)


def _text(
    call: Call,
    lines: list[str],
    words: tuple[Argument, ...],
    used: set[str],
    names: Mapping[str, str],
) -> KernelText:
    return KernelText(
        call.name,
        "args, t, nt",
        "\n".join(PAD + line for line in lines),
        words,
        frozenset(used),
        (f"{call.name}.", "", call_line(call, names)),
    )


# --- what its words hold --------------------------------------------------------------


def scratch_words(call: Call, sizes: Mapping[str, int]) -> int:
    """Return how many words of scratch each share of a call needs."""
    fill = FILLS.get(call.routine)
    if fill is None or fill.scratch is None:
        return 0
    found = fill.scratch(call.bound(sizes))
    assert isinstance(found, int)
    return found


def routine_address(call: Call, word: Argument, program: Program) -> int:
    """Return the address that a word of a call holds: a function's."""
    if word.value == USER:
        return _user_address(call, program)
    return lapack.address(str(word.value))


def failure(call: Call) -> GraphcError:
    """Return the error that a user's own kernel raised an exception."""
    return GraphcError(
        f"{call.summary.partition(' ')[2]}: its kernel raised an exception",
        where=call.origins[0].quoted if call.origins else "",
        help='backend="reference" shows it; the states may have new values, and what '
        "the kernel should have written is not to be trusted",
    )


def _user_address(call: Call, program: Program) -> int:
    buffers = _buffers(call, program)
    reads = len(call.reads)
    return compile_kernel(routine(call.routine), call, buffers[:reads], buffers[reads:])


def _buffers(call: Call, program: Program) -> list[Buffer]:
    return [program.buffers[n] for n in (*call.reads, *call.writes)]
