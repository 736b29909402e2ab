"""sink: networks between the loop that stacks and the loop of its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ops.shape import TRANSPOSE

EARLIER = "simplify,decompose,simplify,cse,merge-scans,dce,hoist"
Head = Callable[[Tensor, Tensor], Tensor]


def stacked(x: Tensor) -> Tensor:
    """Return the running sums of x [N, T, D] along T, as a recurrent layer has them."""
    first = gc.zeros((x.shape[0], x.shape[2]), x.dtype)

    def body(h: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        new = gc.tanh(h + row)
        return new, new

    _, stack = gc.scan(body, first, gc.swapaxes(x, 0, 1))
    return gc.swapaxes(stack, 0, 1)


def loss_graph(head: Head, n: Any = "N", t: Any = 3) -> Graph:
    """Return the graph of a head's mean and of its gradient by x."""
    x = gc.input("x", (n, t, 4), "float64")
    y = gc.input("y", (n, t), "int32")
    value = gc.mean(head(stacked(x), y))
    return Graph.build([x, y], [value, gc.grad(value, x)])


def turned_bytes(graph: Graph) -> int:
    """Return how many numbers transposes of more than two axes move."""
    found = [t for n in graph.nodes if n.op is TRANSPOSE for t in n.results]
    return sum(
        evaluate(t.shape[0] * t.shape[1] * t.shape[2], {"N": 5})
        for t in found
        if t.ndim > 2
    )


def dense(h: Tensor, y: Tensor) -> Tensor:
    w = gc.constant(np.linspace(-1, 1, 12).reshape(4, 3))
    n, t, units = h.shape
    logits = gc.reshape(gc.reshape(h, (n * t, units)) @ w, (n, t, 3))
    return nn.losses.softmax_cross_entropy(logits + 0.5, y)


def masked(h: Tensor, y: Tensor) -> Tensor:
    runs = gc.expand_dims(y, -1)
    return gc.where(runs > 0, h * h * gc.cast(runs, h.dtype), 0.0)


def normed(h: Tensor, y: Tensor) -> Tensor:
    return h / (1.0 + gc.max(gc.abs(h), axis=-1, keepdims=True))


def joined(h: Tensor, y: Tensor) -> Tensor:
    return gc.concatenate([h * 2.0, gc.tanh(h)], axis=2)


def summed_twice(h: Tensor, y: Tensor) -> Tensor:
    return gc.sum(gc.exp(h), axis=(0, 1), keepdims=True)


def of_each_step(h: Tensor, y: Tensor) -> Tensor:
    return gc.exp(gc.sum(h, axis=0))


def of_each_sequence(h: Tensor, y: Tensor) -> Tensor:
    return gc.exp(gc.sum(h, axis=1))


def ranged(h: Tensor, y: Tensor) -> Tensor:
    steps = gc.cast(gc.arange(h.shape[1]), h.dtype)
    return gc.exp(h * steps[:, None])


HEADS = [
    dense,
    masked,
    normed,
    joined,
    summed_twice,
    of_each_step,
    of_each_sequence,
    ranged,
]


@pytest.mark.parametrize(("n", "t"), [("N", 3), (3, 3), (1, 4), (5, 1), (1, 1)])
@pytest.mark.parametrize("head", HEADS)
def test_values_and_gradients_stay(
    head: Head, n: Any, t: int, apply_passes, same_values
) -> None:
    graph = apply_passes(EARLIER, loss_graph(head, n, t))
    same_values(graph, apply_passes("sink,simplify,cse,dce", graph), 1e-12)


@pytest.mark.parametrize("head", [dense, masked, normed, joined])
def test_what_lies_between_loops_is_turned_no_more(head: Head, apply_passes) -> None:
    graph = apply_passes(EARLIER, loss_graph(head))
    done = apply_passes("sink,simplify,cse,dce", graph)
    ends = 2 * 5 * 3 * 4  # x, and its gradient
    assert turned_bytes(graph) > ends
    assert turned_bytes(done) == ends


def test_labels_are_turned_before_they_are_spread(apply_passes) -> None:
    graph = apply_passes(EARLIER, loss_graph(dense))
    done = apply_passes("sink,simplify,cse,dce", graph)
    (hit,) = [n for n in done.nodes if n.op.name == "one_hot"]
    (turned,) = {
        n
        for n in done.nodes
        if n.op is TRANSPOSE and n.results[0].dtype.name == "int32"
    }
    assert hit.inputs[0].node.inputs[0] is turned.results[0]


def test_nothing_moves_where_as_much_would_be_turned(apply_passes) -> None:
    x = gc.input("x", ("N", 3, 4), "float64")
    for wanted in ([gc.exp(stacked(x))], [stacked(x), stacked(x) + 1.0]):
        graph = apply_passes(EARLIER, Graph.build([x], wanted))
        assert apply_passes("sink", graph) is graph


def test_without_a_loop_nothing_moves(apply_passes) -> None:
    x = gc.input("x", ("N", 3, 4))
    graph = Graph.build([x], [gc.sum(gc.exp(gc.swapaxes(x, 0, 1)))])
    assert apply_passes("sink", graph) is graph


def test_what_is_smaller_is_turned_instead(apply_passes, same_values) -> None:
    x = gc.input("x", ("N", 3, 4), "float64")
    graph = apply_passes(
        EARLIER, Graph.build([x], [gc.sum(stacked(x) ** 2.0, axis=-1)])
    )
    done = apply_passes("sink,simplify", graph)
    sizes = [n.results[0].ndim for n in done.nodes if n.op is TRANSPOSE]
    assert sorted(sizes) == [2, 3]  # the sums, and x
    same_values(graph, done, 1e-12)
