"""How a CPU kernel reads its arguments: a table of words, each 8 bytes.

A buffer is an address, a size a number. Other words are "scratch" (the address of
bytes of this thread's own), "routine" (the address of a function of the prelude),
"choice" (a decision taken when sizes are bound), and "offsets" and "table" (the address
of a table of offsets, as a number for routines and as a pointer).
"""

from __future__ import annotations

from graphc.backends.shared.arguments import Arguments

# Reads an address from the table as a pointer of a dtype.
POINTERS = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
POINTERS["bool"] = "b8"


def read_lines(arguments: Arguments) -> list[str]:
    """Return the statements that read the table."""
    found = []
    for i, word in enumerate(arguments.words):
        note = f"  # {word.note}" if word.note else ""
        if word.kind == "buffer":
            read = POINTERS[arguments.dtypes[word.name].name]
            found.append(f"{word.name} = {read}(args, {i}){note}")
        elif word.kind == "scratch":
            read = f"{word.value}(args, {i})"
            found.append(f"{word.name} = at({read}, t * room){note}")
        elif word.kind == "table":
            found.append(f"{word.name} = i64(args, {i}){note}")
        else:
            found.append(f"{word.name} = args[{i}]{note}")
    return found
