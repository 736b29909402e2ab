"""One readable Python module of CUDA kernels for a program."""

from __future__ import annotations

from graphc.backends.cuda.nest import Launch, write_nest
from graphc.backends.cuda.writer import Writer
from graphc.backends.shared.arguments import Arguments
from graphc.backends.shared.blocks import PAD
from graphc.backends.shared.module import (
    KernelText,
    Source,
    kernel_doc,
    write_source,
)
from graphc.ir.program import Nest, Program, Task

PRELUDE = "graphc.backends.cuda.prelude"
IMPORTS = (
    "import numpy as np",
    "",
    "from graphc.backends.cuda.api import cuda",
)
# The prelude's names for parameters by their dtype.
PARAMETERS = {"float32": "f32", "float64": "f64", "int32": "i32", "int64": "i64"}
PARAMETERS["bool"] = "b8"


def write_module(program: Program) -> tuple[Source, tuple[Launch, ...]]:
    """Write the module of a program; returns also how to launch each of its nests."""
    launches: list[Launch] = []

    def write(task: Task) -> KernelText:
        assert isinstance(task, Nest)  # the backend has refused what is no nest
        text, launch = write_kernel(task, program)
        launches.append(launch)
        return text

    return write_source(program, IMPORTS, PRELUDE, write), tuple(launches)


def write_kernel(nest: Nest, program: Program) -> tuple[KernelText, Launch]:
    """Write the kernel of a nest."""
    arguments = Arguments(program)
    writer = Writer(nest, program, arguments)
    launch = write_nest(writer)
    doc = kernel_doc(nest, arguments)
    parameters = []
    for word in arguments.words:
        dtype = arguments.dtypes.get(word.name)
        kind = writer.use("size" if dtype is None else PARAMETERS[dtype.name])
        parameters.append(f"{word.name}: {kind}")
    body = "\n".join(PAD + line for line in writer.blocks[0].lines)
    text = KernelText(
        nest.name,
        ", ".join(parameters),
        body,
        tuple(arguments.words),
        frozenset(writer.used),
        doc,
    )
    return text, launch
