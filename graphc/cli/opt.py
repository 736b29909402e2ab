"""`graphc opt`: passes on a text; text in, text out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from graphc.cli.output import complain, print_table, row, table


def opt(
    file: Annotated[
        str, typer.Argument(metavar="FILE.gc", help="A graph's text; - for stdin.")
    ],
    passes: Annotated[
        str,
        typer.Option(
            "-p",
            "--passes",
            help="The pipeline, such as 'simplify,cse,fuse{max_inputs=8}'; 'default' "
            "is the whole default one. Without it nothing is run: the text is read, "
            "verified and printed.",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the result there, not to stdout."),
    ] = None,
    print_after_all: Annotated[
        bool,
        typer.Option("--print-after-all", help="Print to stderr what each pass made."),
    ] = False,
    verify: Annotated[
        bool, typer.Option(help="Verify the graph as read and after each pass.")
    ] = True,
    time: Annotated[
        bool,
        typer.Option(
            "--time", help="Print to stderr how long each pass took, and its nodes."
        ),
    ] = False,
) -> None:
    """Run passes on a graph's text, text out."""
    from graphc.ir.graph import Graph
    from graphc.ir.parser import parse
    from graphc.ir.text_files import load_text, save_text
    from graphc.ir.verifier import verify as check
    from graphc.passes import parse_pipeline, run_pipeline

    steps = parse_pipeline(passes)
    graph = parse(sys.stdin.read()) if file == "-" else load_text(file)
    if verify:
        check(graph)
    stages = run_pipeline(graph, steps, check=verify)
    if print_after_all:
        for i, stage in enumerate(stages, 1):
            complain(f"// {i}/{len(stages)} after {stage.name}")
            complain(f"{stage.result.text()}\n")
    if time:
        report = table(
            "pass", "before", "after", "ms", numbers=("before", "after", "ms")
        )
        levels = [graph, *(s.result for s in stages)]
        for stage, before in zip(stages, levels, strict=False):
            ms = f"{stage.seconds * 1e3:.2f}"
            row(report, stage.name, len(before), len(stage.result), ms)
        print_table(report, stderr=True)
    result = stages[-1].result if stages else graph
    if output is None:
        print(result.text())
    elif isinstance(result, Graph):
        save_text(result, output)
    else:
        output.write_text(result.text() + "\n", encoding="utf-8")
