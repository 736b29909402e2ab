"""compile: from declared tensors to a step that runs.

declare -> Graph -> graph passes -> Program -> program passes -> backend -> step
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

from graphc.backends.protocol import Choice, Keeper, get_backend
from graphc.errors import ArgumentError, InputError, ShapeError, StateError, UpdateError
from graphc.executable import Executable, Made
from graphc.ir.collection import no_collection
from graphc.ir.graph import Graph
from graphc.ir.leaves import State, is_input, is_state
from graphc.ir.nodes import Tensor, leaf_name
from graphc.ir.origins import here
from graphc.ir.program import Program
from graphc.ir.verifier import verify
from graphc.passes import Stage, complete, parse_pipeline, run_pipeline
from graphc.passes.checks import with_checks
from graphc.passes.identity import identity
from graphc.state import Parameter


def compile(
    inputs: Sequence[Tensor] | Graph,
    outputs: Any = None,
    updates: Mapping[Any, Any] | None = None,
    *,
    backend: str = "cpu",
    passes: str | Sequence[str] = "default",
    states: Mapping[str, Parameter] | None = None,
    threads: int | None = None,
    name: str = "step",
    verify_passes: bool = True,
    check: bool = False,
    tune: bool | Literal["replay"] = False,
) -> Executable:
    """Compile a step that computes outputs and updates states.

    inputs: the tensors that the step takes, in order; or a Graph, for one that was
    parsed. outputs: a tensor, or a list or dict of tensors. updates: {state: new
    value}; all new values are computed from the old ones. backend: "cpu", "cuda" or
    "reference". passes: a pipeline as text. states: for a parsed graph, the
    parameters that its states stand for, by name. threads: at most so many. check:
    refuse at a call what is otherwise brought into its range, such as an index beyond
    an axis; the call raises CheckError and leaves the states as they were. tune: True
    measures for each nest and its sizes what else a model of the machine decides, and
    keeps it in a file; "replay" uses that file and measures nothing (docs/tuning.md).

    Raises:  GraphcError of the kind that fits, collected before anything is compiled.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> double = graphc.compile([x], x * 2.0)
        >>> double([1.0, 2.0]).tolist()
        [2.0, 4.0]
    """
    if isinstance(inputs, Graph):
        graph, shape = inputs, list(inputs.outputs)
        structure: Any = shape[0] if len(shape) == 1 else shape
    else:
        graph, structure = _declared(inputs, outputs, updates, name)
    verify(graph)
    if not graph.inputs and graph.dims:
        raise ShapeError(
            f"compile: no input has the size {', '.join(graph.dims)}",
            where=here().quoted,
            help="use ints, or declare an input that has the size",
        )
    if threads is not None and threads < 1:
        raise ArgumentError(
            f"compile: threads must be at least 1, not {threads}", where=here().quoted
        )
    if not (isinstance(tune, bool) or tune == "replay"):
        raise ArgumentError(
            f'compile: tune must be True, False or "replay", not {tune!r}',
            where=here().quoted,
        )
    bound = [_bind_state(s, states or {}) for s in graph.states]
    unknown = set(states or {}) - {leaf_name(s) for s in graph.states}
    if unknown:
        raise StateError(
            f"compile: no state is named {', '.join(sorted(unknown))}",
            where=here().quoted,
            help="the states are " + ", ".join(leaf_name(s) for s in graph.states),
        )
    chosen = get_backend(backend, Choice(threads, tune))
    steps = complete(parse_pipeline(passes))
    started, sites = with_checks(graph) if check else (graph, [])

    @cache
    def passed() -> Made:
        with no_collection():
            stages = run_pipeline(started, steps, chosen.target, check=verify_passes)
        graphs = (s.result for s in reversed(stages) if isinstance(s.result, Graph))
        program = stages[-1].result
        assert isinstance(program, Program)
        return Made(next(graphs, started), program, tuple(stages))

    what = None
    if isinstance(chosen, Keeper) and verify_passes and not (check or tune):
        what = identity(graph, steps)
        found = chosen.kept(what, bound, lambda: passed().program) if what else None
        if found is not None:  # its passes run when somebody looks into it
            return Executable(graph, passed, *found, bound, structure, chosen)
    with no_collection():
        made = passed()
        # Passes may find that a state is not needed after all.
        place = {s: i for i, s in enumerate(graph.states)}
        used = [place[s] for s in made.graph.states]
        start = time.perf_counter()
        runner = chosen.build(made.graph, made.program, [bound[i] for i in used])
        if runner.program is not made.program:  # and its kernels are compiled
            tuned = Stage("tune", runner.program, time.perf_counter() - start)
            made = Made(made.graph, runner.program, (*made.stages, tuned))
        dims = made.graph.dims
        if what and isinstance(chosen, Keeper):
            chosen.keep(what, runner, used, dims)
    return Executable(
        graph, lambda: made, runner, dims, bound, structure, chosen, sites
    )


def _declared(
    inputs: Sequence[Tensor], outputs: Any, updates: Mapping[Any, Any] | None, name: str
) -> tuple[Graph, Any]:
    if isinstance(inputs, Tensor):
        inputs = [inputs]
    for i, tensor in enumerate(inputs):
        if not isinstance(tensor, Tensor) or not is_input(tensor):
            raise InputError(
                f"compile: inputs[{i}] is {tensor!r}, not an input",
                where=here().quoted,
                help="declare it with graphc.input",
            )
        if any(tensor is other for other in inputs[:i]):
            raise InputError(
                f"compile: the input {leaf_name(tensor)!r} is listed twice",
                where=here().quoted,
            )
    flat = flatten(outputs)
    for tensor in flat:
        if not isinstance(tensor, Tensor):
            raise InputError(
                f"compile: the output {tensor!r} is no tensor",
                where=here().quoted,
                help="make a tensor of it with graphc.constant",
            )
    pairs = list((updates or {}).items())
    for state, value in pairs:
        if not isinstance(value, Tensor):
            raise UpdateError(
                f"compile: the update of {state!r} is {value!r}, not a tensor",
                where=here().quoted,
                help="make a tensor of it with graphc.full or graphc.constant",
            )
    with no_collection():
        return Graph.build(list(inputs), flat, pairs, name), outputs


def flatten(outputs: Any) -> list[Any]:
    """Return the tensors of an output: one, or those of a list or a dict."""
    if outputs is None:
        return []
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return list(outputs.values())
    return list(outputs)


def _bind_state(state: Tensor, given: Mapping[str, Parameter]) -> Parameter:
    name = leaf_name(state)
    found = given.get(name, state)
    if not isinstance(found, Parameter):
        raise StateError(
            f"compile: the state {name!r} has no value",
            where=here().quoted,
            help=f"pass states={{{name!r}: parameter}}",
        )
    if found.type != state.type:
        raise StateError(
            f"compile: the state {name!r} is {state.type}, "
            f"the parameter is {found.type}",
            where=here().quoted,
        )
    assert is_state(found)
    assert isinstance(found.node.attrs, State)
    return found
