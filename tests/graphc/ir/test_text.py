"""Graphs as text: what is printed, and that it reads back as the same graph."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ops_table
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc as gc
from graphc.errors import GraphcError, ModelFileError, ParseError
from graphc.ir.attributes import format_value, read_value
from graphc.ir.dims import Dim, dim, parse_size
from graphc.ir.graph import Graph, Guard
from graphc.ir.leaves import make_input, make_state
from graphc.ir.nodes import Array, Tensor, make1
from graphc.ir.op import OPS, NonDifferentiable, Op, Unsupported
from graphc.ir.origin_text import origin_text, read_origin
from graphc.ir.origins import Origin, phase, scope
from graphc.ir.scanner import Scanner
from graphc.ir.text_files import large_constants, load_text, save_text
from graphc.ir.types import DTYPES, TensorType, as_dtype, float32

Golden = Callable[[str, str], None]

# --- every op -----------------------------------------------------------------------


def test_table_has_every_op() -> None:
    assert ops_table.missing() == []


@pytest.mark.parametrize("case", ops_table.CASES, ids=lambda c: c.id)
def test_every_op_round_trips(case: ops_table.Case) -> None:
    graph = ops_table.build(case)
    assert graph.count(case.op) > 0
    check_round_trip(graph)


def test_gradients_round_trip() -> None:
    for case in ops_table.CASES:
        if isinstance(OPS[case.op].gradient, NonDifferentiable) or case.op == "fused":
            continue
        inputs = ops_table.tensors(case)
        output = case.function(*inputs)
        floats = [t for t in inputs if t.dtype.is_float]
        if not floats or isinstance(output, tuple) or case.op == "stop_gradient":
            continue
        if not output.dtype.is_float:
            continue
        loss = gc.sum(output * output)
        check_round_trip(Graph.build(inputs, [loss, *gc.grad(loss, floats)]))


def check_round_trip(graph: Graph) -> str:
    text = graph.text()
    again = gc.parse(text, large_constants(graph))
    assert again == graph
    assert again.text() == text
    return text


# --- the form -----------------------------------------------------------------------


def model() -> Graph:
    """Return a graph with everything in it, its origins given by hand."""
    x = make_input("x", TensorType(float32, (dim("N"), 784)))
    y = make_input("my input", TensorType(as_dtype("int32"), (dim("N"),)))
    w = make_state("dense_1/kernel", TensorType(float32, (784, 10)))
    t = make_state("0", TensorType(as_dtype("int64"), ()), trainable=False)
    with scope("dense_1", ("/home/me/model.py", 12)):
        h = x @ w
    with scope("loss", ("/home/me/model.py", 13)):
        total = gc.max(h, 1, keepdims=True).named("the maximum")
        joined = gc.concatenate([h, gc.one_hot(y, 1)], 1)
    with phase("update", derived="matmul", like=Origin("my model.py", 14)):
        stepped, counted = w - 0.1 * w, t + 1
    return Graph.build([x, y], [total, joined], [(w, stepped), (t, counted)], "head")


def test_model_text(golden: Golden) -> None:
    golden("ir/model", check_round_trip(model()))


def test_regions_text(golden: Golden) -> None:
    x = gc.input("x", ("N", 4))
    with scope("block", ("model.py", 3)):
        nested = ops_table.fused(
            lambda a: ops_table.fused(lambda b: gc.tanh(b) * 2.0, -a)[0] + a, x
        )
        several = ops_table.fused(lambda a: (gc.exp(a), gc.sum(a, 1)), *nested)
        clip = gc.custom_gradient(gc.tanh, lambda g, y, x: g * y)
        graph = Graph.build([x], [several[1], clip(several[0])])
    golden("ir/regions", check_round_trip(graph))


def test_long_lines_are_broken(golden: Golden) -> None:
    shape = (1000, 1000)
    states = [gc.parameter(f"layer_{i}/kernel", shape, "zeros") for i in range(4)]
    x = gc.input("x", ("batch", 1000))
    with scope("net", ("model.py", 1)):
        loss = gc.sum(x @ states[0] @ states[1] @ states[2] @ states[3])
        updates = [(s, s * 0.5) for s in states]
        graph = Graph.build([x], [loss], updates, "four_layers")
    golden("ir/long_lines", check_round_trip(graph))


def test_graph_without_nodes() -> None:
    x = gc.input("x", ("N",))
    w = gc.parameter("w", (2,), "zeros")
    assert check_round_trip(Graph.build([x], [x], name="same")) == (
        "graph same(%x: f32[N]) -> (f32[N]) {\n  return %x\n}"
    )
    assert check_round_trip(Graph.build([], [w], name="state")) == (
        "graph state(; %w: f32[2]) -> (f32[2]) {\n  return %w\n}"
    )
    assert check_round_trip(Graph.build([], [], name="2 things")) == (
        'graph "2 things"() -> () {\n  return\n}'
    )


def test_updates_only() -> None:
    a, b = (gc.parameter(n, (2,), "zeros", trainable=n == "a") for n in "ab")
    assert check_round_trip(Graph.build([], [], [(a, b), (b, a)], "swap")) == (
        "graph swap(; %b: f32[2] frozen, %a: f32[2]) -> () {\n"
        "  return; update %a <- %b, %b <- %a\n"
        "}"
    )


@pytest.mark.parametrize(
    ("label", "shown"),
    [
        ("x", "%x"),
        ("dense_1/kernel", "%dense_1/kernel"),
        ("a.b-c", "%a.b-c"),
        ("0", '%"0"'),
        ("12x", '%"12x"'),
        ("my input", '%"my input"'),
        ('say "hi"\\', '%"say \\"hi\\"\\\\"'),
        ("two\nlines", '%"two\\nlines"'),
        ("größe", '%"größe"'),
        ("a\u2028b", '%"a\\u2028b"'),
    ],
)
def test_labels(label: str, shown: str) -> None:
    x = gc.input(label, (2,))
    assert f"({shown}: f32[2])" in check_round_trip(Graph.build([x], [-x]))


def test_equal_names_in_regions_do_not_clash() -> None:
    a0, b0 = gc.input("a0", ("N",)), gc.input("b0", ("N",))
    graph = Graph.build([a0, b0], ops_table.fused(lambda x, y: gc.exp(y) - x, a0, b0))
    check_round_trip(graph)


def test_guards_keep_their_lines() -> None:
    x = gc.input("x", ("N", 2))
    origin = Origin("m.py", 7)
    guard = Guard(dim("N"), parse_size("3"), origin)
    graph = Graph("g", [x], [-x]).replace(guards=[guard])
    text = check_round_trip(graph)
    assert "  require N >= 3 " in text
    assert gc.parse(text).guards == (guard,)


# --- values -------------------------------------------------------------------------


def read(text: str) -> Any:
    """Read a value as it stands within attributes."""
    scan = Scanner(text + "}")
    value = read_value(scan, None)
    scan.expect("}")
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-(10**30), "-1000000000000000000000000000000"),
        (0.1, "0.1"),
        (-0.0, "-0.0"),
        (1e-300, "1e-300"),
        (1e16, "1e+16"),
        (float("inf"), "inf"),
        (float("-inf"), "-inf"),
        ("a\n\u00e9", '"a\\n\\u00e9"'),
        ((), "[]"),
        (((1, 2), "x", None), '[[1, 2], "x", none]'),
        (float32, "f32"),
        (dim("N"), "N"),
        (parse_size("2*N-M//3"), "2*N-M//3"),
        (parse_size("min(N,3)"), "min(N,3)"),
        (dim("inf"), "(inf)"),
        (-dim("nan"), "(-nan)"),
        (dim("f32") * 2, "2*f32"),
        (dim("true") + 1, "(true+1)"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert format_value(value) == text
    assert read(text) == value
    assert type(read(text)) is type(value)


def bits(value: float) -> bytes:
    """Return the bits of a float."""
    return struct.pack("<d", value)


def test_nan_keeps_its_bits() -> None:
    negative = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]
    assert format_value(negative) == "nan(0xfff8000000000001)"
    assert bits(read("nan(0xfff8000000000001)")) == bits(negative)
    assert bits(read(format_value(float("nan")))) == bits(float("nan"))


floats = st.floats(allow_nan=True)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    floats,
    st.text(),
    st.sampled_from(DTYPES),
    st.sampled_from([dim("N"), dim("N") // 2 + dim("inf"), dim("none") * dim("M")]),
)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=4).map(tuple))


def key(value: object) -> object:
    """Return what is equal for values of equal bits and types."""
    if isinstance(value, tuple):
        return tuple(map(key, value))
    if isinstance(value, float):
        return bits(value)
    return type(value), value


@given(values)
def test_values_round_trip(value: object) -> None:
    assert key(read(format_value(value))) == key(value)


@given(
    st.sampled_from(DTYPES),
    st.sampled_from([(), (0, 3), (1,), (2, 3), (8, 8)]),
    st.binary(min_size=512, max_size=512),
)
def test_arrays_round_trip(dtype: Any, shape: tuple[int, ...], content: bytes) -> None:
    count = int(np.prod(shape))
    if dtype.kind == "b":
        content = bytes(b % 2 for b in content)
    array = Array(np.frombuffer(content, dtype.numpy)[:count].reshape(shape))
    assert read(format_value(array)) == array


def test_array_text() -> None:
    array = np.array([[1.0, 0.1], [-0.0, 1e20]], np.float32)
    assert format_value(Array(array)) == "f32[2,2] [1.0, 0.1, -0.0, 1e+20]"
    assert format_value(Array(np.array([True, False]))) == "bool[2] [true, false]"
    special = np.array([np.inf, -np.inf, np.nan, -np.nan], np.float32)
    assert format_value(Array(special)) == "f32[4] [inf, -inf, nan, nan(0xffc00000)]"


def test_value_without_text_is_refused() -> None:
    with pytest.raises(GraphcError, match="no text form"):
        format_value(np.int64(3))


@dataclass(frozen=True, slots=True)
class Everything:
    """Attributes of all kinds."""

    flag: bool
    number: float | None
    words: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...] = ()


def test_op_of_a_user_round_trips() -> None:
    op = Op(
        "my-op 2",
        lambda types, _: (types[0], types[0]),
        lambda arrays, m: (arrays[0], arrays[0]),
        NonDifferentiable("a test"),
        Unsupported("a test"),
        "",
        Everything,
    )
    OPS[op.name] = op
    try:
        x = gc.input("x", ("N",))
        first = make1(op, (x,), Everything(True, None, ("a", "b"), ((0, 1), (2, 3))))
        second = make1(op, (first.node.results[1],), Everything(False, 1, ()))
        with scope("", ("m.py", 1)):
            graph = Graph.build([x], [second.node.results[1]], name="user")
        text = check_round_trip(graph)
    finally:
        del OPS[op.name]
    assert '"my-op 2"(%x) {flag=true, number=none, words=["a", "b"], pairs=' in text
    assert "%2: f32[N], %3: f32[N] = " in text


# --- origins ------------------------------------------------------------------------


def test_origin_text() -> None:
    origin = Origin(
        "/home/me/my model.py",
        12,
        ("encoder", "layer 1", "a/b"),
        "backward",
        "the loss",
        "matmul",
        ("mul(x, 1) => x", "cse"),
    )
    assert origin_text(origin) == (
        '@ "my model.py":12 backward in encoder/"layer 1"/"a/b" as "the loss" '
        'from matmul by "mul(x, 1) => x", "cse"'
    )
    assert origin_text(Origin()) == ""


names = st.one_of(
    st.sampled_from(["in", "as", "by", "backward", "a.py", "<stdin>"]), st.text()
)


@given(
    st.builds(
        Origin,
        file=names.map(os.path.basename),
        line=st.integers(0, 10**6),
        scope=st.lists(names, max_size=3).map(tuple),
        phase=st.sampled_from(["forward", "backward", "update"]),
        label=names,
        derived=names,
        rules=st.lists(names, max_size=3).map(tuple),
    )
)
def test_origins_round_trip(origin: Origin) -> None:
    if not origin.file:
        origin = dataclasses.replace(origin, line=0)
    scan = Scanner(origin_text(origin))
    assert read_origin(scan) == origin
    assert scan.ended


def test_origins_are_kept() -> None:
    graph = model()
    again = gc.parse(graph.text())
    for old, new in zip(graph.nodes, again.nodes, strict=True):
        origin = graph.origin(old)
        assert again.origin(new) == dataclasses.replace(
            origin, file=os.path.basename(origin.file)
        )


def test_origins_of_regions_are_kept() -> None:
    x = gc.input("x", ("N",))
    with scope("inside", ("m.py", 5)):
        graph = Graph.build([x], ops_table.fused(gc.exp, x))
    again = gc.parse(graph.text())
    inner = again.nodes[0].regions[0].nodes[0]
    assert inner.birth == Origin("m.py", 5, ("inside",))


# --- files --------------------------------------------------------------------------


def large() -> Graph:
    """Return a graph with a large constant, at the top and within a region."""
    x = gc.input("x", ("N", 100))
    noise = np.random.default_rng(0).normal(size=(100,)).astype(np.float32)
    inner = ops_table.fused(lambda a: a * gc.constant(noise * 2), x)[0]
    return Graph.build([x], [inner + gc.constant(noise)])


def test_save_and_load(tmp_path: Path) -> None:
    graph = large()
    save_text(graph, tmp_path / "g.gc")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["g.gc", "g.gc.safetensors"]
    again = load_text(tmp_path / "g.gc")
    assert again == graph
    save_text(again, tmp_path / "h.gc")
    for suffix in ("", ".safetensors"):
        first, second = (tmp_path / f"{name}.gc{suffix}" for name in "gh")
        assert first.read_bytes() == second.read_bytes()


def test_small_graphs_need_one_file(tmp_path: Path) -> None:
    x = gc.input("x", ("N", 2))
    save_text(Graph.build([x], [x + gc.constant([1.0, 2.0])]), str(tmp_path / "g.gc"))
    assert [p.name for p in tmp_path.iterdir()] == ["g.gc"]


def test_failed_save_keeps_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.gc"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        save_text(model(), path)
    assert [p.name for p in tmp_path.iterdir()] == ["g.gc"]
    assert path.read_text() == "old"


def test_constants_that_are_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "g.gc"
    save_text(large(), path)
    with pytest.raises(ParseError, match="read it with load_text"):
        gc.parse(path.read_text())
    beside = tmp_path / "g.gc.safetensors"
    content = bytearray(beside.read_bytes())
    content[-1] ^= 1
    beside.write_bytes(content)
    with pytest.raises(ParseError, match=r"g\.gc: .*is another one"):
        load_text(path)
    beside.write_bytes(content[:-3])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_text(path)
    beside.unlink()
    with pytest.raises(ParseError, match="but in a file beside the text"):
        load_text(path)


# --- random graphs ------------------------------------------------------------------


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    """Draw a small graph of many kinds of ops."""
    sizes = [dim("N"), 3, 1, dim("N") + 1]
    x = gc.input("x", (dim("N"), draw(st.sampled_from(sizes))))
    w = gc.parameter("w", (3,), "zeros")
    pool: list[Tensor] = [x, w, gc.constant([0.5, float("nan"), -0.0])]

    def pick() -> Tensor:
        return draw(st.sampled_from(pool))

    for _ in range(draw(st.integers(0, 8))):
        kind = draw(
            st.sampled_from(["unary", "binary", "reduce", "move", "fused", "full"])
        )
        t = pick()
        if kind == "unary":
            pool.append(draw(st.sampled_from([gc.exp, gc.relu, gc.tanh]))(t))
        elif kind == "binary":
            same = [u for u in pool if u.shape == t.shape]
            pool.append(t * draw(st.sampled_from(same)))
        elif kind == "reduce" and t.ndim:
            axis = draw(st.integers(0, t.ndim - 1))
            keep = draw(st.booleans())
            pool.append(draw(st.sampled_from([gc.sum, gc.max, gc.mean]))(t, axis, keep))
        elif kind == "move":
            pool.append(gc.reshape(t.T, (-1,)))
        elif kind == "fused":
            pool += ops_table.fused(lambda a: (gc.exp(a), a + 1.0), t)
        else:
            value = draw(st.floats(width=32))
            pool.append(t + gc.full((), value))
    outputs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3))
    fit = [t for t in pool if t.type == w.type]
    updates = [(w, draw(st.sampled_from(fit)))] if draw(st.booleans()) else []
    label = draw(st.text(min_size=1, max_size=5))
    return Graph.build([x], outputs, updates, label)


@given(graphs())
def test_random_graphs_round_trip(graph: Graph) -> None:
    check_round_trip(graph)


def test_sizes_in_attributes_are_dims() -> None:
    x = gc.input("x", ("inf", "true"))
    graph = Graph.build([x], [gc.one_hot(gc.cast(x, "int32"), dim("inf"))])
    text = check_round_trip(graph)
    assert "{depth=(inf), dtype=f32}" in text
    assert isinstance(gc.parse(text).outputs[0].node.attrs.depth, Dim)
