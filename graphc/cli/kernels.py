"""`graphc kernels`: what a step was compiled to, from the table to the assembly."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphc.cli.output import console, print_table, row, show_code, table
from graphc.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.table import Table

# Text form -> (attribute of a kernel, language for highlighting).
_FORMS = {
    "source": "python",
    "llvm": "llvm",
    "asm": "gas",
    "ptx": "ptx",
}


def kernels(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:NAME]",
            help="A Python file with a global NAME that is a compiled step, a model, a "
            "Graph or a Tensor; or a .gc file. Without NAME the first one.",
        ),
    ],
    source: Annotated[
        bool, typer.Option("--source", help="Print the generated Python.")
    ] = False,
    llvm: Annotated[bool, typer.Option("--llvm", help="Print the LLVM IR.")] = False,
    asm: Annotated[bool, typer.Option("--asm", help="Print the assembly.")] = False,
    ptx: Annotated[bool, typer.Option("--ptx", help="Print the PTX (CUDA).")] = False,
    kernel: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only the kernel of this name.")
    ] = None,
    backend: Annotated[
        str | None, typer.Option(help="Compile it again for cpu or cuda.")
    ] = None,
    passes: Annotated[
        str | None,
        typer.Option("-p", "--passes", help="Compile it again with this pipeline."),
    ] = None,
) -> None:
    """List a step's kernels, or print their code."""
    from graphc.cli.load import as_executable, load

    asked = {"source": source, "llvm": llvm, "asm": asm, "ptx": ptx}
    forms = [form for form, wanted in asked.items() if wanted]
    if backend is None and ptx:
        backend = "cuda"
    step = as_executable(load(file), backend, passes)
    chosen = _chosen(step.kernels, kernel)
    if not chosen:
        console().print(f"the backend {step.backend.name!r} compiles no kernels")
    elif not forms:
        print_table(kernel_table(chosen))
    for i, one in enumerate(chosen):
        for form in forms:
            if i or form != forms[0]:
                print()
            show_code(_text(one, form, step.backend.name), _FORMS[form])


def kernel_table(found: Sequence[Any]) -> Table:
    """Return a table of kernels: name, work, nodes, and the user's lines."""
    made = table(
        "kernel", "flops", "bytes", "nodes", "lines", numbers=("flops", "bytes")
    )
    for one in found:
        nodes = ", ".join(_counted([n.op.name for n in one.nodes]))
        lines = dict.fromkeys(o.place for o in one.origins if o.place)
        row(made, one.name, one.flops, one.bytes, nodes, ", ".join(lines))
    return made


def _counted(names: Sequence[str]) -> Iterator[str]:
    """Yield each name once, with how often it stands there: `mul x3`."""
    for name, n in Counter(names).items():
        yield f"{name} x{n}" if n > 1 else name


def _chosen(found: Sequence[Any], name: str | None) -> list[Any]:
    if name is None:
        return list(found)
    chosen = [k for k in found if k.name == name]
    if not chosen:
        raise ArgumentError(
            f"there is no kernel {name!r}",
            help="the kernels are " + ", ".join(dict.fromkeys(k.name for k in found)),
        )
    return chosen


def _text(one: Any, form: str, backend: str) -> str:
    text = getattr(one, form, None)
    if text is None:
        raise ArgumentError(
            f"the kernels of the backend {backend!r} have no {form}",
            help="PTX is of the backend cuda, assembly of cpu",
        )
    return str(text)
