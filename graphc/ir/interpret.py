"""Running nodes by their NumPy meaning: what `reference` and regions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from graphc.errors import GraphcError
from graphc.ir.dims import DimError
from graphc.ir.nodes import Node, Region, Tensor, describe
from graphc.ir.op import Meaning

Values = dict[Tensor, np.ndarray[Any, Any]]

# What looks at each node before it is computed: (node, its arrays, sizes).
Observer = Callable[[Node, Sequence[np.ndarray[Any, Any]], Mapping[str, int]], None]
_observer: ContextVar[Observer | None] = ContextVar("graphc_observer", default=None)


@contextmanager
def observing(observer: Observer | None) -> Iterator[None]:
    """Show each node that is interpreted inside to a function, those in regions too."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


def run_nodes(
    nodes: Iterable[Node],
    values: Values,
    sizes: Mapping[str, int],
    watch: Callable[[Node, Values], None] | None = None,
) -> None:
    """Compute nodes in order, adding their results to `values`.

    Raises:  GraphcError naming the node and its line if its meaning fails.
    """
    observer = _observer.get()
    for node in nodes:
        arrays = tuple(values[t] for t in node.inputs)
        if observer is not None:
            observer(node, arrays, sizes)
        types = tuple(t.type for t in node.inputs)
        try:
            with np.errstate(all="ignore"):
                meaning = Meaning(node.attrs, types, sizes, node.regions)
                found = node.op.evaluate(arrays, meaning)
        except Exception as error:
            if isinstance(error, GraphcError) and not isinstance(error, DimError):
                raise
            raise GraphcError(
                f"{node.op.name}: its NumPy meaning failed: {error}",
                details=[f"{describe(t)} : {t.type}" for t in node.inputs],
                where=node.birth.quoted,
            ) from error
        results = found if isinstance(found, tuple) else (found,)
        for tensor, array in zip(node.results, results, strict=True):
            values[tensor] = np.asarray(array, dtype=tensor.dtype.numpy)
        if watch is not None:
            watch(node, values)


def run_region(
    region: Region, arrays: Sequence[np.ndarray[Any, Any]], sizes: Mapping[str, int]
) -> tuple[np.ndarray[Any, Any], ...]:
    """Interpret a region on arrays."""
    values: Values = dict(zip(region.args, arrays, strict=True))
    run_nodes(region.nodes, values, sizes)
    return tuple(values[t] for t in region.outputs)
