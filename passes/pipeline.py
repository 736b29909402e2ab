"""Pipelines: which passes run, in which order, and why.

A pipeline is text, `"simplify,cse,fuse{max_inputs=8}"`, or a tuple of steps. The
default one is written out here, a reason beside each line. A pipeline that stops
earlier is completed with the default's remaining program passes. `recompute`, which
trades time for memory, is in no pipeline unless named: "default,recompute".
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from graphc.errors import GraphcError, ParseError, PassError, VerifyError
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.ir.program.verifier import verify_program
from graphc.ir.target import GENERIC, Target
from graphc.ir.verifier import verify
from graphc.passes.registry import Level, NoOptions, Pass, find, make_options

GRAPH_PASSES: tuple[str, ...] = (
    "stabilize",  # first: patterns are as the user wrote them
    "simplify",  # fewer nodes for all that follows
    "constant-fold",  # simplify leaves constants side by side
    "decompose",  # softmax and mean as the ops that fusion can join
    "simplify",  # the pieces of decomposed ops simplify again
    "cse",  # forward and backward decomposed the same things
    "merge-scans",  # the loops of the loss and of its gradient are one
    "dce",  # what no loop needs is not hoisted, and fusion counts no dead users
    "hoist",  # after dce: what only dead results need stays behind
    "sink",  # the products that hoisting has moved are passed too
    "simplify",  # what hoisting and sinking have reshaped and transposed
    "cse",  # what is computed before a loop and again after it
    "dce",  # inputs of loops that only hoisted work read
    "fuse",  # last: no pattern matches inside a group
)
PROGRAM_PASSES: tuple[str, ...] = (
    "lower",  # one nest for each node or group
    "pick",  # right after: fewer sums, and fewer reads for all that follows
    "frame",  # before coalesce: each padding is still a nest of its own axes
    "coalesce",  # before lanes are chosen: rows of ten would fill no vector
    "split-sums",  # after coalesce: rows are one axis; both nests need schedules
    "schedule",  # which axis runs along lanes, which contractions are tiled
    "unroll-jam",  # by what the lanes leave: points that share reads in one
    "keep",  # before widen: a phase that computes less waits for its sums
    "widen",  # after unroll-jam, whose sums fill the registers already
    "pair-rows",  # by the registers that the sums of widen leave
    "order",  # statements that need nothing of each other side by side
    "place-barriers",  # after the order is final
    "plan-memory",  # lifetimes end at barriers
)
OPTIONAL = (
    "pick",
    "frame",
    "coalesce",
    "split-sums",
    "unroll-jam",
    "keep",
    "widen",
    "pair-rows",
    "order",
)
DEFAULT: tuple[str, ...] = (*GRAPH_PASSES, *PROGRAM_PASSES)


@dataclass(frozen=True, slots=True)
class Step:
    """A pass with its options."""

    run: Pass
    options: Any

    def __str__(self) -> str:
        if isinstance(self.options, NoOptions):
            return self.run.name
        names = [f.name for f in dataclasses.fields(self.options)]
        fields = ", ".join(f"{n}={_show(getattr(self.options, n))}" for n in names)
        return f"{self.run.name}{{{fields}}}"


@dataclass(frozen=True, slots=True)
class Stage:
    """What a pass made of its input, and how long it took (seconds)."""

    name: str
    result: Level
    seconds: float


def _show(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


_STEP = re.compile(r"\s*(?P<name>[a-z][a-z0-9-]*)\s*(?:\{(?P<options>[^}]*)\})?\s*")
_OPTION = re.compile(r"\s*(?P<name>\w+)\s*=\s*(?P<value>[^,]+?)\s*(?:,|$)")


def parse_pipeline(text: str | Iterable[str]) -> tuple[Step, ...]:
    """Return the steps that a text names; "default" stands for the default ones.

    Raises:  PassError for an unknown pass or option, listing the known ones;
             ParseError with the column for a text that is no pipeline.
    Example:
        >>> [str(s) for s in parse_pipeline("cse,fuse{max_inputs=8}")][0]
        'cse'
    """
    if not isinstance(text, str):
        return tuple(s for part in text for s in parse_pipeline(part))
    steps: list[Step] = []
    at = 0
    while at < len(text):
        found = _STEP.match(text, at)
        if found is None or (found.end() < len(text) and text[found.end()] != ","):
            place = found.end() if found else at
            what = "a comma" if found else "a pass"
            if found and text[place] == "{":
                what = "a } behind this {"
            raise ParseError(
                f"pipeline: expected {what}, at column {place + 1}",
                details=[text, " " * place + "^"],
                help='for example "simplify,cse,fuse{max_inputs=8}"',
            )
        at = found.end() + 1
        if found["name"] == "default":
            if found["options"] is not None:
                raise PassError(
                    "'default' stands for many passes and has no options",
                    help=f"write them out: {','.join(DEFAULT)}",
                )
            steps.extend(parse_pipeline(",".join(DEFAULT)))
            continue
        chosen = find(found["name"])
        steps.append(
            Step(chosen, make_options(chosen, _options(found["options"], text)))
        )
    return tuple(steps)


def _options(text: str | None, whole: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    at = 0
    while text and at < len(text):
        match = _OPTION.match(text, at)
        if match is None:
            raise ParseError(
                f"pipeline: expected name=value, got {text[at:]!r}",
                details=[whole],
                help="for example fuse{max_inputs=8}",
            )
        found[match["name"]] = _value(match["value"])
        at = match.end()
    return found


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def complete(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Add the default's program passes that come after the last one named.

    Only those of `OPTIONAL` may be left out: without the others a program does
    not run, and those from the first that is missing are added.
    Example:
        >>> [str(s) for s in complete(parse_pipeline("lower,schedule,place-barriers"))]
        ['lower', 'schedule', 'place-barriers', 'plan-memory']
    """
    named = {s.run.name for s in steps}
    if any(s.run.result is Program for s in steps):
        named.add("lower")  # or one in its place
    start = 0
    for i, name in enumerate(PROGRAM_PASSES):
        if name in named:
            start = i + 1
        elif name not in OPTIONAL:
            break
    return (*steps, *parse_pipeline(PROGRAM_PASSES[start:]))


def run_pipeline(
    level: Level,
    steps: tuple[Step, ...],
    target: Target = GENERIC,
    *,
    check: bool = True,
) -> list[Stage]:
    """Run steps in order, verifying after each; returns every stage.

    Raises:  PassError naming the pass that failed or broke its input, with the
             graph before and after.
    """
    stages: list[Stage] = []
    for step in steps:
        if not isinstance(level, step.run.source):
            raise PassError(
                f"the pass {step.run.name!r} takes a {step.run.source.__name__}, "
                f"but stands where there is a {type(level).__name__}",
                help="graph passes come before lower, program passes after it",
            )
        start = time.perf_counter()
        try:
            result = step.run.run(level, step.options, target)
        except GraphcError as error:
            error.add_note(f"in the pass {step.run.name!r}")
            raise
        seconds = time.perf_counter() - start
        if not isinstance(result, step.run.result):
            raise PassError(
                f"the pass {step.run.name!r} returned {result!r}, "
                f"not a {step.run.result.__name__}",
                help="a pass returns the new one, or the same object",
            )
        if check and result is not level:
            _verify(step, level, result)
        stages.append(Stage(step.run.name, result, seconds))
        level = result
    return stages


def _verify(step: Step, before: Level, after: Level) -> None:
    try:
        if isinstance(after, Graph):
            verify(after, before if isinstance(before, Graph) else None)
        else:
            verify_program(after, before if isinstance(before, Program) else None)
    except VerifyError as error:
        raise PassError(
            f"the pass {step.run.name!r} broke its {type(before).__name__.lower()}: "
            f"{error.message}",
            details=[*error.details, *_both(before, after)],
        ) from error
    graphs = isinstance(before, Graph) and isinstance(after, Graph)
    if graphs and _ends(before) != _ends(after):
        raise PassError(
            f"the pass {step.run.name!r} changed what its graph takes or returns",
            details=_both(before, after),
        )


def _ends(graph: Any) -> tuple[object, ...]:
    return (
        [id(t) for t in graph.inputs],
        [t.type for t in graph.outputs],
        [id(s) for s, _ in graph.updates],
    )


def _both(before: Level, after: Level) -> list[str]:
    old, new = before.text().splitlines(), after.text().splitlines()
    return ["before:", *old, "after:", *new]
