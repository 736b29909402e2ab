"""Finding what the user means by `FILE[:NAME]`.

A `.gc` file is parsed. A Python file is run, and one of its globals is taken: the one
that is named, or else the first of the most telling kind it has. What stands under
`if __name__ == "__main__":` is not run, so a script that trains there can be looked
into at once.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from graphc.cli.output import complain
from graphc.errors import ArgumentError
from graphc.executable import Executable
from graphc.ir.graph import Graph
from graphc.ir.leaves import State, is_input
from graphc.ir.nodes import Tensor, leaf_name, topological
from graphc.ops.creation import input as graph_input
from graphc.state import Parameter, parameter

if TYPE_CHECKING:
    from graphc.nn import Sequential

TEXT = ".gc"

# Under this name a user's file runs: not __main__, and not within graphc, whose lines
# would not count as the user's.
_RUN_NAME = "graphc_user_file"


def load(spec: str) -> Any:
    """Return what `FILE[:NAME]` names: an Executable, a Graph, a Tensor or a model.

    Raises:  ArgumentError if there is no such file, no such global, or none that can
             be shown; typer.Exit after printing the traceback of the user's own error.
    """
    path, name = _split(spec)
    if path.suffix == TEXT:
        from graphc.ir.text_files import load_text

        return load_text(path)
    found = run_file(path)
    if name:
        return _named(found, name, path)
    return _first(found, path)


def compiled(found: Any) -> Executable | None:
    """Return the step of what is compiled: an Executable, or a model that trained."""
    if isinstance(found, Executable):
        return found
    return model_step(found, "train") if _is_model(found) else None


def as_graph(found: Any) -> Graph:
    """Return the graph, as declared, of anything that `load` returns."""
    if isinstance(found, Graph):
        return found
    if isinstance(found, Tensor):
        inputs = [t for n in topological([found]) if is_input(t := n.results[0])]
        return Graph.build(inputs, [found])
    step = compiled(found)
    return forward(found) if step is None else step.declared


def model_step(model: Sequential, mode: str) -> Executable | None:
    """Return a model's step to "train", "evaluate" or "predict", if it has one yet."""
    steps: Mapping[Any, Executable] = getattr(model.trainer, "_steps", {})
    return next((s for (kind, *_), s in steps.items() if kind == mode), None)


def forward(model: Sequential) -> Graph:
    """Return the graph of a model that predicts.

    Raises:  ArgumentError if the model does not know the shape of its input yet.
    """
    if model.input_type is None:
        raise ArgumentError(
            f"{model.title} does not know the shape of its input yet",
            help="call model.build((None, features)) after making it",
        )
    x = graph_input("x", model.input_type.shape, model.input_type.dtype)
    return Graph.build([x], [model(x)], name="model")


def as_executable(found: Any, backend: str | None, passes: str | None) -> Executable:
    """Return a compiled step of anything that `load` returns.

    backend, passes: None to keep those of what is compiled already; others compile it
    again.
    """
    step = compiled(found)
    if step is not None and passes is None and backend in (None, step.backend.name):
        return step
    graph = as_graph(found)
    states = {leaf_name(s): _fresh(s) for s in graph.states if not _owned(s)}
    if step is not None:
        states = {leaf_name(s): s for s in step.states}
    from graphc.compiler import compile as compile_step

    return compile_step(
        graph, backend=backend or "cpu", passes=passes or "default", states=states
    )


def _owned(state: Tensor) -> bool:
    return isinstance(state, Parameter)


def _fresh(state: Tensor) -> Parameter:
    """Return zeros for a state of a graph that was read from text."""
    assert isinstance(state.node.attrs, State)
    trainable = state.node.attrs.trainable
    return parameter(leaf_name(state), state.shape, "zeros", 0, state.dtype, trainable)


def run_file(path: Path) -> dict[str, Any]:
    """Run a Python file and return its globals.

    What it prints goes to stderr: stdout is for what the command was asked for.

    Raises:  typer.Exit after printing the user's own traceback, if it fails.
    """
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return runpy.run_path(str(path), run_name=_RUN_NAME)
    except SystemExit as end:
        if end.code not in (None, 0):
            complain(str(end.code))
        raise ArgumentError(
            f"{path} ended itself before its globals could be read",
            help='put what should not run here under if __name__ == "__main__":',
        ) from None
    except Exception as error:
        complain(user_traceback(error))
        raise typer.Exit(1) from None
    finally:
        sys.path.remove(folder)


def user_traceback(error: BaseException) -> str:
    """Return an error's traceback without the frames of graphc and of runpy."""
    ours = str(Path(__file__).resolve().parents[1]) + os.sep
    shown = traceback.TracebackException.from_exception(error)
    one: traceback.TracebackException | None = shown
    while one is not None:
        kept = [
            f
            for f in one.stack
            if "runpy" not in f.filename and not f.filename.startswith(ours)
        ]
        one.stack = traceback.StackSummary.from_list(kept)
        one = one.__cause__ or one.__context__
    return "".join(shown.format()).rstrip("\n")


def _split(spec: str) -> tuple[Path, str]:
    """Split FILE:NAME; a file whose name has a colon wins."""
    if not Path(spec).is_file():
        file, colon, name = spec.rpartition(":")
        if colon and Path(file).is_file():
            return Path(file), name
        file = file if colon and name.isidentifier() else spec
        raise ArgumentError(
            f"there is no file {file}",
            help="give FILE or FILE:NAME, a .py file or a .gc file",
        )
    return Path(spec), ""


# --- choosing a global --------------------------------------------------------------


def _is_model(value: Any) -> bool:
    from graphc import nn

    return isinstance(value, nn.Sequential)


def _is_computed(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.node.op.leaf


# From the most telling kind to the least; of tensors the last, which uses the others.
_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "Executable": lambda v: isinstance(v, Executable),
    "model": _is_model,
    "Graph": lambda v: isinstance(v, Graph),
    "Tensor": _is_computed,
}


def _first(found: Mapping[str, Any], path: Path) -> Any:
    for kind, fits in _KINDS.items():
        good = [v for k, v in found.items() if not k.startswith("__") and fits(v)]
        if good:
            return good[-1] if kind == "Tensor" else good[0]
    raise ArgumentError(
        f"{path} has no global that can be shown",
        help="it needs a compiled step, a model, a Graph or a computed Tensor as a "
        "global; what is under if __name__ == '__main__': is not run",
    )


def _named(found: Mapping[str, Any], name: str, path: Path) -> Any:
    if name not in found:
        there = [k for k, v in found.items() if any(f(v) for f in _KINDS.values())]
        raise ArgumentError(
            f"{path} has no global {name!r}",
            help=f"it has {', '.join(there)}" if there else "it has none to show",
        )
    value = found[name]
    if not isinstance(value, Tensor) and not any(f(value) for f in _KINDS.values()):
        raise ArgumentError(
            f"{path}:{name} is a {type(value).__name__}",
            help="name an Executable, a Graph, a Tensor or a model",
        )
    return value
