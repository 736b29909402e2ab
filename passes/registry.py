"""What a pass is, and the table of all passes.

A pass is a pure function of a Graph or a Program, registered under a kebab-case
name. Its options are a frozen dataclass, which is also their text form:
`fuse{max_inputs=8}`.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from graphc.errors import PassError
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.ir.target import Target
from graphc.passes.everywhere import everywhere

Level = Graph | Program


@dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of a pass that has none."""


@dataclass(frozen=True, slots=True)
class Pass:
    """A registered pass. source, result: the levels it goes between."""

    name: str
    function: Callable[..., Any]
    options: type[Any]
    source: type[Any]
    result: type[Any]

    @property
    def doc(self) -> str:
        """The first line of its documentation."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def run(self, level: Level, options: Any, target: Target) -> Level:
        """Run it; hands over the options and the target if it asks for them."""
        wanted = inspect.signature(self.function).parameters
        offered = {"options": options, "target": target}
        given = {k: v for k, v in offered.items() if k in wanted}
        found: Level
        if isinstance(level, Graph) and self.result is Graph:
            found = everywhere(level, lambda graph: self.function(graph, **given))
        else:
            found = self.function(level, **given)
        return found


PASSES: dict[str, Pass] = {}


def _register(
    name: str, options: type[Any], source: type[Any], result: type[Any]
) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        PASSES[name] = Pass(name, function, options, source, result)
        return function

    return enter


def graph_pass(name: str, options: type[Any] = NoOptions) -> Callable[[Any], Any]:
    """Register a pass Graph -> Graph: `f(graph)`, or with `options` and `target`.

    It is applied to the bodies of loops and branches too, inner ones first.
    Running it again under one name replaces the pass.
    Example:
        >>> from graphc import passes
        >>> @passes.graph_pass("drop-double-neg")
        ... def drop_double_neg(graph):
        ...     return passes.rewrite(graph, [passes.rule("neg(neg(x)) => x")])
    """
    return _register(name, options, Graph, Graph)


def program_pass(name: str, options: type[Any] = NoOptions) -> Callable[[Any], Any]:
    """Register a pass Program -> Program."""
    return _register(name, options, Program, Program)


def lowering_pass(name: str, options: type[Any] = NoOptions) -> Callable[[Any], Any]:
    """Register the step from Graph to Program."""
    return _register(name, options, Graph, Program)


def find(name: str) -> Pass:
    """Return a pass by name.

    Raises:  PassError listing the known passes.
    """
    found = PASSES.get(name)
    if found is None:
        close = difflib.get_close_matches(name, PASSES, 1)
        raise PassError(
            f"unknown pass {name!r}"
            + (f", did you mean {close[0]!r}?" if close else ""),
            help="known passes: " + ", ".join(sorted(PASSES)),
        )
    return found


def make_options(found: Pass, given: dict[str, Any]) -> Any:
    """Return a pass's options from their text form.

    Raises:  PassError listing the known options, or naming one of a wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(found.options)}
    unknown = [k for k in given if k not in fields]
    if unknown:
        raise PassError(
            f"the pass {found.name!r} has no option {unknown[0]!r}",
            help=f"known options: {', '.join(fields)}" if fields else "it has none",
        )
    defaults = found.options()
    for name, value in given.items():
        kind = type(getattr(defaults, name))
        if type(value) is not kind:
            raise PassError(
                f"the option {name} of {found.name!r} must be {kind.__name__}, "
                f"not {value!r}",
                help=f"by default {name} is {getattr(defaults, name)!r}",
            )
    return dataclasses.replace(defaults, **given)
