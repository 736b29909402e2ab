"""Each rule of a well-formed graph, and what is said of a graph that breaks it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import ops_table
import pytest

import graphc as gc
from graphc.errors import VerifyError
from graphc.ir import verifier
from graphc.ir.dims import dim
from graphc.ir.graph import Graph, Guard
from graphc.ir.leaves import make_args, make_input, make_state
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ir.op import NO_ATTRS, OPS, NonDifferentiable, Op, Unsupported
from graphc.ir.origins import Origin
from graphc.ir.types import Shape, TensorType, as_dtype, float32, int32
from graphc.ops.regions import FUSED

Golden = Callable[[str, str], None]

PLACE = Origin("model.py", 7)


def f32(*shape: Any) -> TensorType:
    """Return a type; names are dimensions."""
    sizes: Shape = tuple(dim(s) if isinstance(s, str) else s for s in shape)
    return TensorType(float32, sizes)


def node(
    name: str,
    *inputs: Tensor,
    types: tuple[TensorType, ...] | None = None,
    regions: tuple[Region, ...] = (),
    **attrs: Any,
) -> Node:
    """Return a node without any checks; it has the type of its first input."""
    op = OPS[name]
    values = op.attrs(**attrs) if attrs else NO_ATTRS
    return Node(op, inputs, values, types or (inputs[0].type,), regions, PLACE)


def graph(
    output: Node, *inputs: Tensor, updates: tuple[tuple[Tensor, Tensor], ...] = ()
) -> Graph:
    """Return a graph of one output."""
    return Graph("g", inputs, output.results[:1], updates)


def said(broken: Graph) -> str:
    """Return what the verifier says."""
    with pytest.raises(VerifyError) as caught:
        gc.verify(broken)
    return str(caught.value)


X = make_input("x", f32("N", 4), PLACE)


def test_good_graphs_pass() -> None:
    for case in ops_table.CASES:
        gc.verify(ops_table.build(case))


def cycle() -> Graph:
    """Return a graph with a cycle."""
    first = node("neg", X)
    second = node("exp", first.results[0])
    first.inputs = second.results
    return graph(second, X)


def captured() -> Graph:
    """Return a graph with a region that uses a value of the outside."""
    (arg,) = make_args([X.type])
    inner = node("add", arg, X)
    region = Region([arg], inner.results)
    return graph(node("fused", X, regions=(region,)), X)


def yielded() -> Graph:
    """Return a graph with a region that yields a value of the outside."""
    (arg,) = make_args([X.type])
    return graph(node("fused", X, regions=(Region([arg], [X]),)), X)


def nested() -> Graph:
    """Return a graph with a capture in a region of a region."""
    outer, inner = make_args([X.type, X.type])
    deep = Region([inner], node("add", inner, outer).results)
    middle = node("fused", outer, regions=(deep,))
    region = Region([outer], middle.results)
    return graph(node("fused", X, regions=(region,)), X)


def wrong_args() -> Graph:
    """Return a graph with a region whose arguments do not fit the operands."""
    (arg,) = make_args([f32("N", 5)])
    region = Region([arg], node("neg", arg).results)
    return graph(node("fused", X, regions=(region,), types=(f32("N", 5),)), X)


def unregistered() -> Graph:
    """Return a graph with an op that is not in the table."""
    op = Op(
        "nowhere",
        lambda types, _: types[0],
        lambda arrays, m: arrays[0],
        NonDifferentiable("a test"),
        Unsupported("a test"),
        "",
    )
    return graph(Node(op, [X], NO_ATTRS, [X.type], birth=PLACE), X)


def defined_again() -> Graph:
    """Return a graph with an op that was replaced in the table."""
    old = OPS["neg"]
    op = Op("neg", old.infer, old.evaluate, old.gradient, old.lower, "")
    return graph(Node(op, [X], NO_ATTRS, [X.type], birth=PLACE), X)


def unbound_guard() -> Graph:
    """Return a graph with a guard over a size of no input."""
    return graph(node("neg", X), X).replace(guards=[Guard(dim("K"), 3, PLACE)])


def updates() -> Graph:
    """Return a graph with three wrong updates."""
    w, v = make_state("w", f32(4)), make_state("v", f32(2))
    pairs = ((w, v), (v, v), (v, v), (X, X))
    return graph(node("neg", X), X, updates=pairs)


def several() -> Graph:
    """Return a graph with several faults."""
    other = make_input("y", f32("N", 4))
    first = node("add", X, other)
    second = node("relu", first.results[0], types=(f32("N", 5),))
    return graph(node("neg", second.results[0], types=(f32("K"),)), X)


W = make_state("x", f32(4))
SYMBOLIC = make_state("s", f32("N", 4))
STRAY = make_args([f32("N", 4)])[0]

BROKEN: dict[str, Callable[[], Graph]] = {
    "cycle": cycle,
    "input_missing": lambda: graph(node("neg", X)),
    "output_missing": lambda: Graph("g", [], [X]),
    "argument_outside": lambda: graph(node("neg", STRAY), X),
    "not_an_input": lambda: graph(node("neg", X), X, node("exp", X).results[0]),
    "same_names": lambda: Graph("g", [X], [X, W]),
    "same_input_twice": lambda: graph(node("neg", X), X, X),
    "no_name": lambda: Graph("g", [make_input("", f32(2))], []),
    "stored_type": lambda: graph(node("relu", X, types=(f32("N", 5),)), X),
    "number_of_results": lambda: graph(node("relu", X, types=(X.type, X.type)), X),
    "type_rule": lambda: graph(node("matmul", X, X), X),
    "number_of_operands": lambda: graph(node("matmul", X), X),
    "attributes_missing": lambda: graph(node("sum", X, types=(f32("N"),)), X),
    "kind_of_attribute": lambda: graph(
        node("sum", X, types=(f32("N"),), axis=(np.int64(1),)), X
    ),
    "kind_of_value": lambda: graph(
        node("full", types=(f32(),), dtype=float32, shape=(), value="1"), X
    ),
    "unregistered": unregistered,
    "defined_again": defined_again,
    "captured": captured,
    "yielded": yielded,
    "nested": nested,
    "wrong_args": wrong_args,
    "unbound_size": lambda: graph(
        node("full", types=(f32("K"),), dtype=float32, shape=(dim("K"),), value=1.0), X
    ),
    "unbound_guard": unbound_guard,
    "symbolic_state": lambda: graph(node("neg", SYMBOLIC), X),
    "updates": updates,
    "several": several,
}


def test_messages(golden: Golden) -> None:
    blocks = [f"--- {name}\n{said(make())}\n" for name, make in BROKEN.items()]
    golden("ir/verify_errors", "\n".join(blocks))


def test_graphs_without_inputs_may_have_sizes() -> None:
    full = node("full", types=(f32("K"),), dtype=float32, shape=(dim("K"),), value=1.0)
    gc.verify(graph(full))


def test_constants_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verifier, "LARGEST_CONSTANT", 10)
    constant = gc.constant([1.0, 2.0, 3.0])
    assert "value has 12 bytes, a constant at most 10" in said(
        Graph("g", [], [constant])
    )


def test_many_faults_are_cut() -> None:
    bad = [node("relu", X, types=(f32("N", i),)).results[0] for i in range(5, 35)]
    message = said(Graph("g", [X], bad))
    assert "breaks 30 rules" in message
    assert message.endswith("and 10 more")


def test_shared_regions_are_walked_once() -> None:
    (arg,) = make_args([X.type])
    region = Region([arg], node("neg", arg, types=(f32("N", 5),)).results)
    first = Node(FUSED, [X], NO_ATTRS, [f32("N", 5)], [region], PLACE)
    second = Node(FUSED, [X], NO_ATTRS, [f32("N", 5)], [region], PLACE)
    both = Graph("g", [X], [*first.results, *second.results])
    assert said(both).count("it is stored as") == 1


def test_deep_graphs_pass() -> None:
    found = X
    for _ in range(5000):
        found = node("neg", found).results[0]
    gc.verify(Graph("g", [X], [found]))


def test_an_int_input_is_no_float() -> None:
    ints = make_input("i", TensorType(int32, (2,)))
    added = Node(OPS["cast"], [ints], OPS["cast"].attrs(as_dtype("int64")), [f32(2)])
    assert "it is stored as f32[2], but is i64[2]" in said(graph(added, ints))
