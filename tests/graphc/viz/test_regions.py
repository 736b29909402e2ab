"""How loops and branches are drawn."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import graphc as gc
from graphc.ir.graph import Graph
from graphc.viz.dot import graph_dot
from graphc.viz.picture import Arrow, Box, Picture, graph_picture


def kind(picture: Picture, wanted: str) -> list[Box]:
    return [b for b in picture.boxes if b.kind == wanted]


def into(picture: Picture, box: Box) -> list[Arrow]:
    return [a for a in picture.arrows if a.target == box.id]


def recurrent(**how: Any) -> Graph:
    x, h = gc.input("x", ("T", 2, 3)), gc.input("h", (2, 4))
    w, u = gc.parameter("w", (3, 4)), gc.parameter("u", (4, 4))

    def body(h: Any, x: Any) -> tuple[Any, Any]:
        new = gc.tanh(x @ w + h @ u)
        return new, new * 2.0

    return Graph.build([x, h], list(gc.scan(body, h, x, **how)))


def test_dot_of_a_scan(golden: Callable[[str, str], None]) -> None:
    text = graph_dot(recurrent(reverse=True))
    golden("viz/scan", re.sub(r"test_regions\.py:\d+ \| [^\"\\]*(\\.[^\"\\]*)*", "LINE", text))  # fmt: skip  # noqa: E501


def test_a_scan_is_a_frame_with_ports_and_its_carries_go_back() -> None:
    picture = graph_picture(recurrent())
    carry, step = kind(picture, "port")
    assert (carry.lines, step.lines) == (("carry",), ("x[t]",))
    (end,) = kind(picture, "loop")
    assert end.lines == ("scan t < T",)
    inside = [b for b in picture.boxes if end.path[0] in b.path]
    assert {b.lines[0] for b in inside} == {
        "carry", "x[t]", "matmul", "add", "tanh", "mul(·, 2.0)", "scan t < T",
    }  # fmt: skip
    (back,) = [a for a in picture.arrows if a.back]
    assert (back.source, back.target) == (end.id, carry.id)
    assert [a.lines[0] for a in into(picture, end)] == ["carry", "y[t]"]
    results = [a.lines for a in picture.arrows if a.source == end.id and not a.back]
    assert results == [("#0: f32[2,4]",), ("#1: f32[T,2,4]",)]


def test_what_a_loop_captures_is_said_on_the_arrow() -> None:
    picture = graph_picture(recurrent())
    states = {b.id for b in kind(picture, "state")}
    captured = [a for a in picture.arrows if "captured" in a.lines]
    assert {a.source for a in captured} == states
    assert len(captured) == len(states) == 2
    assert all(not b.path for b in kind(picture, "state"))  # leaves stay out


def test_a_scan_says_its_way() -> None:
    (end,) = kind(graph_picture(recurrent(reverse=True, truncate=3)), "loop")
    assert end.lines == ("scan t < T", "last step first", "gradient through 3")


def test_branches_stand_side_by_side_in_frames_of_their_own() -> None:
    x = gc.input("x", (3,))
    y = gc.cond(gc.sum(x) > 0.0, lambda: gc.tanh(x), lambda: gc.exp(x))
    picture = graph_picture(Graph.build([x], [y]))
    (end,) = kind(picture, "branch")
    assert [a.lines[0] for a in into(picture, end)] == ["if", "then", "else"]
    frames = {b.lines[0]: [f.label for f in b.path] for b in picture.boxes if b.path}
    assert frames["tanh"] == ["cond", "then"]
    assert frames["exp"] == ["cond", "otherwise"]
    assert frames["cond"] == ["cond"]
    assert not any("captured" in a.lines for a in picture.arrows)
    text = graph_dot(Graph.build([x], [y]))
    assert text.count("subgraph") == 3


def test_a_while_loop_has_frames_for_its_condition_and_its_body() -> None:
    x = gc.input("x", (3,))
    _, y = gc.while_loop(
        lambda c: gc.sum(c[1]) > 1.0, lambda c: (c[0] + 1, c[1] * x), (0, x)
    )
    picture = graph_picture(Graph.build([x], [y]))
    (end,) = kind(picture, "loop")
    assert [a.lines[0] for a in into(picture, end)] == ["while", "carry 0", "carry 1"]
    frames = {b.lines[0]: b.path[-1].label for b in picture.boxes if b.path}
    assert frames["sum"] == "while"
    assert frames["mul"] == "do"
    assert sum(a.back for a in picture.arrows) == 2


def test_loops_nest_and_values_within_have_numbers_of_their_own() -> None:
    x = gc.input("x", ("T", 3))
    outer, _ = gc.scan(
        lambda c, r: (gc.scan(lambda d, s: (gc.tanh(d + s * r), None), c, x)[0], None),
        gc.zeros((3,)),
        x,
    )
    picture = graph_picture(Graph.build([x], [outer]))
    (box,) = [b for b in picture.boxes if b.lines[0] == "tanh"]
    assert [f.label for f in box.path] == ["scan", "scan"]
    assert len({b.id for b in picture.boxes}) == len(picture.boxes)
    outer_frame, inner_frame = box.path
    assert inner_frame.key.startswith(outer_frame.key)


def test_what_is_in_a_loop_is_of_its_phase() -> None:
    x, w = gc.input("x", ("T", 3)), gc.parameter("w", (3,))
    last, _ = gc.scan(lambda c, r: (gc.tanh(c * w + r), None), gc.zeros((3,)), x)
    graph = Graph.build([x], [gc.grad(gc.sum(last), w)])
    picture = graph_picture(graph)
    for end in kind(picture, "loop"):
        own = end.path[-1]
        assert {b.phase for b in picture.boxes if own in b.path} == {end.phase}
    assert any("gradient of scan" in b.tooltip for b in kind(picture, "loop"))
