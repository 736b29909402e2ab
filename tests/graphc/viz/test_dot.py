"""What a drawing shows, and that its text is sound."""

import re
from collections.abc import Callable

import pytest

import graphc
from graphc.ir.graph import Graph
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Tensor, make
from graphc.ir.origins import UPDATE, phase, scope
from graphc.ops.regions import FUSED, close
from graphc.viz.dot import graph_dot, quote
from graphc.viz.picture import Box, Picture, graph_picture


def dense(h: Tensor, n: int, k: int, name: str) -> tuple[Tensor, list[Tensor]]:
    with scope(name):
        w = graphc.parameter(f"{name}.w", (n, k))
        b = graphc.parameter(f"{name}.b", (k,), init="zeros")
        return graphc.relu(h @ w + b), [w, b]


def training(layers: int) -> Graph:
    x = graphc.input("x", ("N", 8))
    h, parameters = x, []
    for i in range(layers):
        h, new = dense(h, 8, 8, f"dense{i}")
        parameters += new
    loss = graphc.mean(h * h)
    gradients = graphc.grad(loss, parameters)
    with phase(UPDATE), scope("sgd"):
        updates = [(p, p - 0.1 * g) for p, g in zip(parameters, gradients, strict=True)]
    return Graph.build([x], [loss], updates, name="step")


def fused_graph() -> Graph:
    x = graphc.input("x", ("N", 4))
    b = graphc.input("b", ("N", 4))
    (p, q) = make_args([x.type, b.type])
    region, captured = close([p, q], [graphc.exp(p + q) * 2.0])
    assert not captured
    (y,) = make(FUSED, [graphc.sqrt(x), b], regions=(region,))
    return Graph.build([x, b], [graphc.neg(y)])


def boxes(picture: Picture, kind: str) -> list[Box]:
    return [box for box in picture.boxes if box.kind == kind]


# --- what is shown --------------------------------------------------------------------


def test_dot_of_a_small_graph(golden: Callable[[str, str], None]) -> None:
    x = graphc.input("x", ("N", 3))
    w = graphc.parameter("w", (3, 2))
    y = graphc.sum(x @ w, axis=1).named("row sums")
    text = graph_dot(Graph.build([x], [y]))
    golden(
        "viz/small", re.sub(r"test_dot\.py:\d+ \| [^\"\\]*(\\.[^\"\\]*)*", "LINE", text)
    )


def test_dot_is_the_same_each_time() -> None:
    assert graph_dot(training(2)) == graph_dot(training(2))
    graph = training(2)
    assert graph.dot() == graph_dot(graph)


def test_picture_tells_phases_apart_by_colour_and_by_line() -> None:
    graph = training(1)
    assert graph_picture(graph).phases == ("forward", "backward", "update")
    text = graph_dot(graph)
    for look in ("rounded,solid", "rounded,dashed", "rounded,bold"):
        assert look in text
    assert "forward: blue, solid   backward: orange, dashed   update: green" in text


def test_picture_frames_layers_by_phase_and_updates_by_parameter() -> None:
    found = {
        frame.label for box in graph_picture(training(1)).boxes for frame in box.path
    }
    assert {"dense0", "dense0 · backward"} < found
    assert {"sgd: dense0.w · update", "sgd: dense0.b · update"} < found


def test_picture_nests_scopes() -> None:
    x = graphc.input("x", (3,))
    with scope("block"), scope("inner"):
        y = graphc.exp(x)
    (box,) = boxes(graph_picture(Graph.build([x], [y])), "op")
    assert [frame.label for frame in box.path] == ["block", "inner"]
    text = graph_dot(Graph.build([x], [y]))
    assert text.index("forward/block/inner") > text.index('forward/block"')


def test_picture_writes_numbers_into_the_op_that_uses_them() -> None:
    x = graphc.input("x", ("N", 3))
    picture = graph_picture(Graph.build([x], [graphc.sum(x * 2.0) / graphc.dim("N")]))
    lines = [box.lines[0] for box in boxes(picture, "op")]
    assert lines == ["mul(·, 2.0)", "sum", "div(·, N)"]


def test_picture_draws_an_output_that_is_a_number() -> None:
    picture = graph_picture(Graph.build([], [graphc.ones((3,))]))
    assert [b.kind for b in picture.boxes] == ["output", "number"]
    assert [a.lines for a in picture.arrows] == [("f32[3]",)]


def test_picture_draws_layout_ops_on_arrows() -> None:
    x = graphc.input("x", (2, 3))
    picture = graph_picture(Graph.build([x], [graphc.exp(x.reshape(6))]))
    assert [a.lines for a in picture.arrows] == [("reshape", "f32[6]"), ("f32[6]",)]
    assert len(boxes(picture, "op")) == 1


def test_picture_shows_the_type_of_a_wide_value_once() -> None:
    x = graphc.input("x", (3,))
    h = graphc.exp(x)
    ys = [graphc.tanh(h), graphc.neg(h), graphc.sqrt(h), graphc.relu(h)]
    picture = graph_picture(Graph.build([x], ys))
    assert [a.lines for a in picture.arrows if a.source == "n0"] == [
        ("f32[3]",),
        (),
        (),
        (),
    ]


def test_picture_names_saved_values_in_a_large_graph() -> None:
    small, large = graph_picture(training(1)), graph_picture(training(6))
    assert not boxes(small, "saved")
    assert any(a.crosses for a in small.arrows)
    assert not any(a.crosses for a in large.arrows)
    named = {box.lines[0] for box in boxes(large, "saved")}
    ops = {box.lines[0] for box in boxes(large, "op")}
    assert named
    assert named <= ops  # the number on a saved value is that of an op's box


def test_picture_tells_leaves_apart() -> None:
    x = graphc.input("x", ())
    w = graphc.parameter("w", ())
    step = graphc.variable("step", 0.0)
    graph = Graph.build([x], [x * w], [(step, step + 1.0)])
    kinds = {b.kind: b.lines for b in graph_picture(graph).boxes if b.kind != "op"}
    assert kinds == {
        "input": ("x",),
        "state": ("w",),
        "fixed-state": ("step",),
        "output": ("output",),
        "update": ("step", "next value"),
    }


def test_picture_draws_leaves_that_nothing_reads() -> None:
    x, y = graphc.input("x", ()), graphc.input("y", ())
    picture = graph_picture(Graph.build([x, y], [graphc.exp(x)]))
    assert [b.lines for b in boxes(picture, "input")] == [("x",), ("y",)]


def test_picture_opens_fused_groups() -> None:
    picture = graph_picture(fused_graph())
    inside = [b for b in picture.boxes if any(f.kind == "group" for f in b.path)]
    assert [b.lines[0] for b in inside] == ["add", "exp", "mul(·, 2.0)"]
    edges = [(a.source, a.target) for a in picture.arrows]
    assert ("n0", inside[0].id) in edges  # sqrt -> add, across the frame
    assert (inside[2].id, "n2") in edges  # mul -> neg
    assert 'subgraph "cluster_group_n1"' in graph_dot(fused_graph())


def test_picture_opens_custom_gradients() -> None:
    x = graphc.input("x", ())
    clip = graphc.custom_gradient(lambda v: graphc.exp(v), lambda g, y, v: g * 0.5)
    picture = graph_picture(Graph.build([x], [clip(x)]))
    (box,) = boxes(picture, "op")
    assert box.lines == ("exp",)
    assert box.path[0].label == "custom_gradient"


# --- any text -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('say "hi"', '"say \\"hi\\""'),
        ("a\\nb", '"a\\\\nb"'),
        ("one\ntwo", '"one\\ntwo"'),
        ("<b>&amp;</b>", '"<b>&amp;amp;</b>"'),
        ("nul\0", '"nul\ufffd"'),
    ],
)
def test_quote_keeps_the_text(text: str, expected: str) -> None:
    assert quote(text) == expected


def test_dot_shortens_long_names_and_keeps_them_in_the_tooltip() -> None:
    name = "a" * 100
    x = graphc.input(name, ())
    text = graph_dot(Graph.build([x], [graphc.exp(x)]))
    assert f'label="{"a" * 35}…"' in text
    assert name in text


def test_dot_says_where_a_node_comes_from() -> None:
    text = graph_dot(training(1))
    assert "test_dot.py:" in text
    assert "from the gradient of relu" in text
    assert "in sgd" in text
