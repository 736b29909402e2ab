"""What the drawing of a program shows, and that it is sound."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

import graphc
from graphc.ir.dims import dim
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.origins import UPDATE, phase
from graphc.ir.printer import value_names
from graphc.ir.program import (
    Barrier,
    Buffer,
    Call,
    If,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Space,
    Statement,
    Store,
    While,
)
from graphc.ir.scalar import axis, load
from graphc.ir.target import Target
from graphc.ir.types import bool_, float32, int64
from graphc.passes import parse_pipeline, run_pipeline
from graphc.viz.dot import record
from graphc.viz.picture import Box, Picture, graph_picture
from graphc.viz.program_dot import amount, program_dot, program_picture

# A fixed machine, so that golden texts are the same on all.
TARGET = Target("cpu", lanes=16, tiles=True)
N = dim("N")
PLACE = re.compile(r"test_program_dot\.py:\d+ \| (?:[^\"\\]|\\[^n])*")


def stages(graph: Graph) -> dict[str, Program]:
    made = run_pipeline(graph, parse_pipeline("default"), TARGET)
    return {s.name: s.result for s in made if isinstance(s.result, Program)}


def training(layers: int, width: int = 8) -> Graph:
    x = graphc.input("x", ("N", width))
    h: Tensor = x
    weights = []
    for i in range(layers):
        w = graphc.parameter(f"w{i}", (width, width))
        b = graphc.parameter(f"b{i}", (width,), init="zeros")
        h = graphc.relu(h @ w + b)
        weights += [w, b]
    loss = graphc.mean(h * h)
    gradients = graphc.grad(loss, weights)
    with phase(UPDATE):
        pairs = zip(weights, gradients, strict=True)
        updates = [(p, p - 0.1 * g) for p, g in pairs]
    return Graph.build([x], [loss], updates, name="step")


def drawn(layers: int) -> Picture:
    return program_picture(stages(training(layers))["plan-memory"])


def boxes(picture: Picture, kind: str) -> list[Box]:
    return [box for box in picture.boxes if box.kind == kind]


def add_one(source: str, target: str) -> Nest:
    i = axis("i0")
    store = Store(target, (i,), load(source, (i,), float32) + 1.0)
    return Nest(f"{source}_{target}", (LoopAxis("i0", N),), (Phase((), (), (store,)),))


def program(*body: Statement) -> Program:
    kinds: dict[str, Space] = {"x": "input", "s": "state", "t": "temp", "out": "output"}
    known = {k: Buffer(k, float32, (N,), v) for k, v in kinds.items()}
    known["flag"] = Buffer("flag", bool_, (), "input")
    known["i"] = Buffer("i", int64, (), "temp")
    return Program("p", known, tuple(body), ("x", "flag"), ("s",), ("out",))


# --- what is shown --------------------------------------------------------------------


def test_program_dot_of_a_training_step(golden: Callable[[str, str], None]) -> None:
    golden("viz/program", PLACE.sub("LINE", drawn_text(2)))


def drawn_text(layers: int) -> str:
    return program_dot(stages(training(layers))["plan-memory"])


def test_program_dot_is_the_same_each_time() -> None:
    assert drawn_text(2) == drawn_text(2)
    last = stages(training(2))["plan-memory"]
    assert last.dot() == program_dot(last)


def test_a_nest_shows_its_loops_its_schedule_and_its_costs() -> None:
    x = graphc.input("x", ("N", 10))
    last = stages(Graph.build([x], [graphc.softmax(x)]))["plan-memory"]
    (box,) = boxes(program_picture(last), "nest")
    name, loops, costs = box.lines
    assert name.startswith("max")
    assert loops.splitlines() == [
        "for i0: N",
        "  for k0: 10 { r0 = max }",
        "  for k0: 10 { r1 = sum, store out0 }",
        "  for k0: 10 { store out0 }",
    ]
    assert costs.splitlines()[0] == "vector k0 x16"
    assert costs.splitlines()[-1] == "80*N bytes"


def test_levels_are_frames_once_barriers_are_placed() -> None:
    found = stages(training(1))
    for stage, framed in (("lower", False), ("order", False), ("place-barriers", True)):
        picture = program_picture(found[stage])
        frames = {f.label for b in picture.boxes for f in b.path}
        assert ("level 0" in frames) is framed, stage
        assert len(picture.rows) == 2  # each nest below those it needs


def test_a_state_that_is_changed_in_place_hangs_on_two_heads() -> None:
    picture = drawn(1)
    both = [a for a in picture.arrows if a.both]
    assert {a.lines for a in both} == {("f32[8,8]", "in place"), ("f32[8]", "in place")}
    assert {b.lines for b in boxes(picture, "update")} == {("w0",), ("b0",)}
    assert 'dir="both"' in drawn_text(1)


def test_arrows_name_buffers_with_types_and_lifetimes() -> None:
    lines = [line for a in drawn(2).arrows for line in a.lines]
    assert any(re.fullmatch(r"t0: f32\[N,8\] @ 0\.\.\d", line) for line in lines)
    assert "t0" in lines  # the other arrows of the buffer


def test_a_large_program_names_buffers_from_far_above() -> None:
    assert not boxes(drawn(2), "saved")
    picture = drawn(8)
    saved = boxes(picture, "saved")
    assert any(b.lines[0].startswith("t0: f32[N,8] @ 0..") for b in saved)
    nests = {
        b.id: i
        for i, row in enumerate(picture.rows)
        for b in boxes(picture, "nest")
        if b.id in row
    }
    assert all(
        nests[a.target] - nests[a.source] <= 3
        for a in picture.arrows
        if a.source in nests and a.target in nests
    )


def test_a_wide_level_is_drawn_in_rows() -> None:
    picture = program_picture(program(*(Call("sort", ("x",), ()) for _ in range(20))))
    assert [len(row) for row in picture.rows] == [5, 5, 5, 5]


def test_leaves_that_nothing_reads_are_drawn() -> None:
    picture = program_picture(program(add_one("x", "out")))
    assert [b.lines for b in boxes(picture, "input")] == [("x",), ("flag",)]
    assert [b.lines for b in boxes(picture, "state")] == [("s",)]


def test_a_reader_of_a_changed_state_stands_below_the_writer() -> None:
    picture = program_picture(program(add_one("x", "s"), add_one("s", "out")))
    assert ("s0", "s1") in [(a.source, a.target) for a in picture.arrows]
    assert not boxes(picture, "state")


# --- regions --------------------------------------------------------------------------


def test_a_loop_is_a_frame_and_feeds_its_next_turn() -> None:
    body = (add_one("t", "out"), Barrier(), add_one("out", "t"))
    picture = program_picture(program(add_one("x", "t"), Loop("i", 3, body)))
    (head,) = boxes(picture, "loop")
    assert head.lines == ("i: 3",)
    assert head.path[-1].label == "loop"
    back = [a for a in picture.arrows if a.back]
    assert [a.lines for a in back] == [("next t",)]


def test_a_nest_that_reads_what_it_wrote_a_turn_before_leads_to_itself() -> None:
    picture = program_picture(program(Loop("i", 3, (add_one("t", "t"),))))
    (back,) = [a for a in picture.arrows if a.back]
    assert (back.source, back.lines) == (back.target, ("next t",))


def test_a_branch_has_two_frames_and_both_may_have_written() -> None:
    branch = If("flag", (add_one("x", "t"),), (add_one("s", "t"),))
    picture = program_picture(program(branch, add_one("t", "out")))
    labels = [b.path[-1].label for b in boxes(picture, "nest")[:2]]
    assert labels == ["then", "else"]
    last = boxes(picture, "nest")[2].id
    assert len([a for a in picture.arrows if a.target == last]) == 2


def test_a_loop_that_asks_has_a_test_above_and_a_turn_below_its_condition() -> None:
    asking = While("flag", (add_one("t", "out"),), (add_one("out", "t"), Barrier()))
    picture = program_picture(program(add_one("x", "t"), asking, add_one("out", "s")))
    (head,) = boxes(picture, "branch")
    assert head.lines == ("flag",)
    labels = [[f.label for f in b.path] for b in boxes(picture, "nest")]
    assert labels[:3] == [[], ["while"], ["while", "do", "level 1"]]
    assert [a.lines for a in picture.arrows if a.back] == [("next t",)]


def test_levels_count_on_within_regions() -> None:
    """As lifetimes do: `@ 2..3` means the same everywhere."""
    body = (add_one("x", "t"), Barrier(), add_one("t", "s"))
    made = program(Loop("i", 3, body), Barrier(), add_one("s", "out"))
    frames = {f.label for b in program_picture(made).boxes for f in b.path}
    assert frames == {"loop", "levels 0..1", "level 0", "level 1", "level 2"}


def test_empty_bodies_are_drawn() -> None:
    picture = program_picture(program(If("flag", ()), Loop("i", 2, (Barrier(),))))
    assert len(boxes(picture, "quiet")) >= 2
    assert ElementTree.fromstring(program(If("flag", ()))._repr_svg_()) is not None


# --- texts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "expected"),
    [(999, "999"), (1000, "1k"), (1254, "1.3k"), (9_996, "10k"), (999_600, "1M"),
     (25_000_000 * N + 1, "25M*N+1"), (dim("N1000") * 3, "3*N1000")],
)  # fmt: skip
def test_amount_is_short(size: int, expected: str) -> None:
    assert amount(size) == expected


def test_record_escapes_its_own_signs() -> None:
    assert record(["a|b <c>", "{x}"]) == r'"{a\|b\ \<c\>\l|\{x\}\l}"'


# --- formats --------------------------------------------------------------------------


def test_program_svg_is_valid_and_shows_the_text() -> None:
    svg = stages(training(2))["plan-memory"]._repr_svg_()
    found = " ".join(ElementTree.fromstring(svg).itertext()).replace("\xa0", " ")
    assert "for k0: 8 { r0 = sum }" in found
    assert "tile i0 by i1 x16" in found
    assert "level 0" in found


def test_program_svg_takes_any_name() -> None:
    nasty = "a \"b\" <c> & [d] {e|f} \\N \\l é → 漢 'g'"
    x = graphc.input(nasty, ("N", 4))
    w = graphc.parameter(nasty + "w", (4,), init="zeros")
    graph = Graph.build([x], [graphc.sum(x * w)], [(w, w * 0.5)], name=nasty)
    svg = stages(graph)["plan-memory"]._repr_svg_()
    assert any(nasty in t for t in ElementTree.fromstring(svg).itertext())


@pytest.mark.parametrize("suffix", ["svg", "png", "pdf", "dot"])
def test_program_draws_each_format(suffix: str, tmp_path: Path) -> None:
    path = program(add_one("x", "out")).draw(tmp_path / f"p.{suffix}")
    assert path.stat().st_size > 100


# --- numbers in drawings of graphs ----------------------------------------------------


def test_numbers_in_a_graph_are_those_of_its_text() -> None:
    made = run_pipeline(training(16), parse_pipeline("default"), TARGET)
    graph = next(s.result for s in made if s.name == "cse")
    assert isinstance(graph, Graph)
    saved = {b.lines[0] for b in boxes(graph_picture(graph), "saved")}
    assert saved
    for line in saved:
        number, op = line.split()
        assert f"  {number}: " in graph.text()
        assert re.search(rf"  {number}: \S+ = {op}\(", graph.text())


def test_a_number_out_of_a_group_is_that_of_its_result() -> None:
    made = run_pipeline(training(24), parse_pipeline("default"), TARGET)
    graph = next(s.result for s in made if s.name == "fuse")
    assert isinstance(graph, Graph)
    picture = graph_picture(graph)
    found = {b.lines[0].split()[0] for b in boxes(picture, "saved")}
    outside = {n for n in found if "." not in n}
    assert outside
    results = {value_names(graph)[r] for n in graph.nodes for r in n.results}
    assert outside <= results
