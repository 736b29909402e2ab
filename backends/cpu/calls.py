"""How the CPU runs library routines: a function of the prelude for each.

    call cumsum(x) -> t0 outer=N length=4     =>    p0 = f32(args, 0)
                                                    p1 = f32(args, 1)
                                                    outer = args[2] ...
                                                    cumsum(p0, p1, outer, ..., t, nt)

The function takes the buffers that are read, those that are written, the options, the
scratch it asks for, the functions of libraries that it calls, its share and the number
of shares. It is written once for all dtypes: pointers bring theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from graphc.backends.cpu.arguments import POINTERS, read_lines
from graphc.backends.shared.arguments import Arguments
from graphc.backends.shared.blocks import PAD
from graphc.backends.shared.module import KernelText
from graphc.errors import CompileError
from graphc.ir.dims import Size
from graphc.ir.program import Call, Program
from graphc.ir.program.text import call_line

SCRATCH = "scratch"


@dataclass(frozen=True, slots=True)
class Fill:
    """A function of the prelude that runs a routine.

    scratch: how many elements of 8 bytes each share needs of its own, by the options.
    """

    function: str
    scratch: Callable[[Mapping[str, Any]], Size] | None = None


def _pairs(options: Mapping[str, Any]) -> Size:
    """Keys and indices of a line, twice: a merge goes from one to the other."""
    found: Size = 4 * options["length"]
    return found


FILLS: dict[str, Fill] = {
    "cumsum": Fill("cumsum"),
    "cumprod": Fill("cumprod"),
    "cumextremum": Fill("cumextremum"),
    "linear_recurrence": Fill("linear_recurrence"),
    "sort": Fill("sort", _pairs),
    "top_k": Fill("top_k", _pairs),
    "searchsorted": Fill("searchsorted"),
}


def check(call: Call) -> None:
    """Refuse a call of a routine that the CPU does not have.

    Raises:  CompileError naming it and the user's line.
    """
    if call.routine not in FILLS:
        raise refused(call, f"the cpu backend has no routine {call.routine!r}")


def refused(call: Call, message: str, help: str = "") -> CompileError:
    """Return the error that a call cannot be compiled, with the user's line."""
    return CompileError(
        message,
        details=[call.summary],
        where=call.origins[0].quoted if call.origins else "",
        help=help or 'use backend="reference"',
    )


def write_call(call: Call, program: Program) -> KernelText:
    """Write the kernel of a call."""
    fill = FILLS[call.routine]
    arguments = Arguments(program)
    buffers = [arguments.buffer(n) for n in (*call.reads, *call.writes)]
    given = [*buffers, *(arguments.size(k, v) for k, v in call.options)]
    used = {fill.function}
    if fill.scratch is not None:
        arguments.special("choice", "room", "words of scratch that a thread has")
        given.append(arguments.special("scratch", SCRATCH, "i64"))
        used |= {"at", "i64"}
    lines = read_lines(arguments)
    used |= {POINTERS[d.name] for d in arguments.dtypes.values()}
    lines.append(f"{fill.function}({', '.join([*given, 't', 'nt'])})")
    names = dict(zip((*call.reads, *call.writes), buffers, strict=True))
    shown = call_line(call, names)
    return KernelText(
        call.name,
        "args, t, nt",
        "\n".join(PAD + line for line in lines),
        tuple(arguments.words),
        frozenset(used),
        (f"{call.name}.", "", shown),
    )


def scratch_words(call: Call, sizes: Mapping[str, int]) -> int:
    """Return how many words of scratch each share of a call needs."""
    fill = FILLS[call.routine]
    return 0 if fill.scratch is None else int(fill.scratch(call.bound(sizes)))
