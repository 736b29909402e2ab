"""`graphc show`: draw or print a graph or a program, at any stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphc.cli.output import complain
from graphc.errors import ArgumentError

if TYPE_CHECKING:
    from graphc.ir.graph import Graph
    from graphc.ir.program import Program

TEXTS = (".gc", ".txt")


def show(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:NAME]",
            help="A .gc file, or a Python file with a global NAME that is a compiled "
            "step, a model, a Graph or a Tensor; without NAME the first one.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Where to draw it: .svg, .png, .pdf or .dot; .gc or .txt for the "
            "text. Without it the text is printed.",
        ),
    ] = None,
    stage: Annotated[
        str,
        typer.Option(
            help="The pass after which to look, NAME or NAME#2 for its second run; "
            "'declared' is before all passes, 'final' the last graph."
        ),
    ] = "declared",
    passes: Annotated[
        str | None,
        typer.Option("-p", "--passes", help="A pipeline, such as 'simplify,cse,fuse'."),
    ] = None,
) -> None:
    """Draw a graph or its program, at any stage, or print the text."""
    from graphc.cli.load import load

    found = stages(load(file), passes)
    level = pick(found, stage)
    if output is None:
        print(level.text())
    elif output.suffix in TEXTS:
        output.write_text(level.text() + "\n", encoding="utf-8")
    else:
        level.draw(output)
    if output is not None:
        complain(f"wrote {output}")


def stages(found: Any, passes: str | None) -> list[tuple[str, Graph | Program]]:
    """Return (pass name, result) for each stage of anything that can be loaded.

    A compiled step has its own stages; for anything else the passes are run here.
    """
    from graphc.cli.load import as_graph, compiled
    from graphc.passes import complete, parse_pipeline, run_pipeline

    step = compiled(found)
    if step is not None and passes is None:
        return step.stages
    graph = as_graph(found)
    steps = complete(parse_pipeline(passes or "default"))
    made = run_pipeline(graph, steps)
    return [("declared", graph), *((s.name, s.result) for s in made)]


def pick(found: list[tuple[str, Graph | Program]], stage: str) -> Graph | Program:
    """Return the level after a stage: `cse`, `simplify#2`, `declared` or `final`.

    A pass that ran more than once is taken at its last run, unless numbered.

    Raises:  ArgumentError listing the stages.
    """
    from graphc.ir.graph import Graph

    if stage == "final":
        return [level for _, level in found if isinstance(level, Graph)][-1]
    name, _, number = stage.partition("#")
    same = [level for other, level in found if other == name]
    if not same or (number and not number.isdecimal()):
        known = [other for other, _ in found]
        raise ArgumentError(
            f"there is no stage {stage!r}",
            help="the stages are " + ", ".join([*known, "final"]),
        )
    at = int(number) if number else len(same)
    if not 1 <= at <= len(same):
        raise ArgumentError(f"the pass {name!r} ran {len(same)} times, not {at}")
    return same[at - 1]
