"""Interpreting graphs with NumPy, op by op, by each op's own meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from graphc.errors import InputError
from graphc.ir.binding import bind_sizes, fit_input
from graphc.ir.dims import names
from graphc.ir.graph import Graph
from graphc.ir.interpret import Values, run_nodes
from graphc.ir.leaves import is_input
from graphc.ir.nodes import Node, Tensor, leaf_name, topological
from graphc.ir.origins import here
from graphc.ops.checks import checking

Array = np.ndarray[Any, Any]


def run_graph(
    graph: Graph,
    inputs: Mapping[Tensor, Array],
    states: Mapping[Tensor, Array],
    sizes: Mapping[str, int],
    watch: Callable[[Node, Values], None] | None = None,
) -> tuple[list[Array], list[Array]]:
    """Compute a graph; returns its outputs and the new values of its updates."""
    values: Values = {**inputs, **states}
    run_nodes(graph.nodes, values, sizes, watch)
    return [values[t] for t in graph.outputs], [values[t] for _, t in graph.updates]


def evaluate(
    outputs: Any,
    inputs: Mapping[Tensor, Any] | None = None,
    *,
    sizes: Mapping[str, int] | None = None,
    check: bool = False,
) -> Any:
    """Compute tensors with NumPy; nothing is compiled and no state changes.

    outputs: a tensor, or a list or dict of them. inputs: {input tensor: array}.
    sizes: sizes of dimensions that no input binds. check: refuse what is otherwise
    brought into its range, such as an index beyond an axis.

    Raises:  InputError if an input is missing or does not fit; CheckError.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> graphc.evaluate(x * 2, {x: [1.0, 2.0]}).tolist()
        [2.0, 4.0]
    """
    given = dict(inputs or {})
    flat: Sequence[Tensor]
    if isinstance(outputs, Tensor):
        flat = [outputs]
    elif isinstance(outputs, Mapping):
        flat = list(outputs.values())
    else:
        flat = list(outputs)
    leaves = [n.results[0] for n in topological(flat) if n.op.leaf]
    needed = [t for t in leaves if is_input(t)]
    missing = [t for t in needed if t not in given]
    if missing:
        raise InputError(
            "evaluate: no value for " + ", ".join(leaf_name(t) for t in missing),
            where=here().quoted,
            help="pass {x: array} for every input",
        )
    graph = Graph.build(list(given), flat)
    known = {name for t in given for size in t.shape for name in names(size)}
    unbound = set(graph.dims) - known - set(sizes or {})
    if unbound:
        raise InputError(
            f"evaluate: no input has the size {', '.join(sorted(unbound))}",
            where=here().quoted,
            help=f"pass sizes={{{min(unbound)!r}: ...}}",
        )
    arrays = {t: fit_input(t, a) for t, a in given.items()}
    bound = bind_sizes([(t, a.shape) for t, a in arrays.items()], graph.guards, sizes)
    states = {t: _value(t) for t in graph.states}
    with checking() if check else nullcontext():
        found, _ = run_graph(graph, arrays, states, bound)
    if isinstance(outputs, Tensor):
        return found[0]
    if isinstance(outputs, Mapping):
        return dict(zip(outputs, found, strict=True))
    return found


def _value(state: Tensor) -> Array:
    value = getattr(state, "value", None)
    if value is None:
        raise InputError(
            f"evaluate: the state {leaf_name(state)!r} has no value",
            help="bind it with compile(..., states={name: parameter})",
        )
    return np.asarray(value)
