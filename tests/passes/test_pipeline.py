"""Pipelines: their text, what completes them, what is checked, and passes of users."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.errors import GraphcError, ParseError, PassError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node
from graphc.ir.program import Program
from graphc.passes import PASSES, complete, parse_pipeline, run_pipeline
from graphc.passes.pipeline import GRAPH_PASSES, OPTIONAL, PROGRAM_PASSES


@pytest.fixture(autouse=True)
def same_passes_afterwards() -> Iterator[None]:
    """Forget the passes that a test registers."""
    known = dict(PASSES)
    yield
    PASSES.clear()
    PASSES.update(known)


def small() -> Graph:
    x = gc.input("x", ("N",))
    return Graph.build([x], [gc.exp(-gc.neg(x)), x + 0.0])


def names(text: str) -> list[str]:
    return [s.run.name for s in parse_pipeline(text)]


# --- texts ----------------------------------------------------------------------------

WRONG = [
    "simplfy",
    "vectorise",
    "default{limit=1}",
    "cse{limit=1}",
    "fuse{max_input=8}",
    "fuse{max_inputs=8.0}",
    "fuse{max_inputs=true}",
    "fuse{max_inputs=eight}",
    "constant-fold{limit=1, limit=}",
    "fuse{max_inputs}",
    "fuse{max_inputs=8",
    "fuse}",
    "cse dce",
    "cse,,dce",
    "cse;dce",
    "Fuse",
    "3",
]


def test_a_text_that_is_no_pipeline_is_refused_in_full(golden) -> None:
    messages = []
    for text in WRONG:
        with pytest.raises((PassError, ParseError)) as error:
            parse_pipeline(text)
        kind = type(error.value).__name__
        messages.append(f"{text!r}\n{kind}: {error.value}")
    golden("passes/pipeline_errors", "\n\n".join(messages))


TEXTS = [
    "cse",
    "fuse{max_inputs=8}",
    "fuse{ max_ops = 3 , max_outputs=1 }",
    "constant-fold{limit=0},  simplify ,dce,",
    "default",
]


@pytest.mark.parametrize("text", TEXTS)
def test_steps_print_and_parse_back(text) -> None:
    steps = parse_pipeline(text)
    printed = ",".join(map(str, steps))
    assert parse_pipeline(printed) == steps
    assert ",".join(map(str, parse_pipeline(printed))) == printed


def test_a_step_prints_all_its_options() -> None:
    (step,) = parse_pipeline("fuse{max_inputs=8}")
    assert str(step) == "fuse{max_inputs=8, max_outputs=8, max_ops=64}"


def test_options_of_every_kind_print_and_parse_back() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        deep: bool = False
        most: int = 1
        share: float = 0.5
        mode: str = "plain"

    passes.graph_pass("every-kind", Options)(lambda graph, options: graph)
    text = "every-kind{deep=true, most=-3, share=1e-05, mode=row-major}"
    (step,) = parse_pipeline(text)
    assert step.options == Options(True, -3, 1e-5, "row-major")
    assert str(step) == text


def test_a_pipeline_may_be_a_list_of_texts() -> None:
    assert parse_pipeline(["cse", "simplify,dce"]) == parse_pipeline("cse,simplify,dce")
    assert parse_pipeline("") == ()


def test_default_inside_a_text_stands_for_its_steps() -> None:
    graph_passes = ",".join(GRAPH_PASSES)
    assert names("default") == [*GRAPH_PASSES, *PROGRAM_PASSES]
    assert names("cse,default") == ["cse", *passes.DEFAULT]
    assert names(f"dce,{graph_passes}") == ["dce", *GRAPH_PASSES]


# --- completion -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "added"),
    [
        ("", PROGRAM_PASSES),
        ("simplify,fuse", PROGRAM_PASSES),
        ("lower", PROGRAM_PASSES[1:]),
        ("cse,lower,schedule", PROGRAM_PASSES[6:]),
        ("lower,schedule,order,place-barriers", ("plan-memory",)),
        ("default", ()),
    ],
)
def test_a_pipeline_is_completed_with_the_steps_that_are_left(text, added) -> None:
    steps = parse_pipeline(text)
    assert [s.run.name for s in complete(steps)] == [
        *(s.run.name for s in steps),
        *added,
    ]


def test_what_only_makes_faster_may_be_left_out_of_a_program() -> None:
    without = [p for p in PROGRAM_PASSES if p not in OPTIONAL]
    assert [s.run.name for s in complete(parse_pipeline(without))] == without
    risky = complete(parse_pipeline("lower,schedule,plan-memory"))
    assert [s.run.name for s in risky[3:]] == list(PROGRAM_PASSES[6:])


@pytest.mark.parametrize(
    "text", ["", "lower", "fuse,lower,plan-memory", "cse,simplify"]
)
def test_a_completed_pipeline_compiles(text) -> None:
    x = gc.input("x", ("N",))
    step = gc.compile([x], gc.sum(gc.tanh(x) * 2.0), passes=text)
    assert [n for n, _ in step.stages][-1] == "plan-memory"
    assert step([0.5, 1.0]) == pytest.approx(2 * np.tanh([0.5, 1.0]).sum(), rel=1e-6)


# --- running --------------------------------------------------------------------------


def test_every_stage_is_kept_with_its_time() -> None:
    stages = run_pipeline(small(), parse_pipeline("simplify,lower,order"))
    assert [s.name for s in stages] == ["simplify", "lower", "order"]
    assert [type(s.result) for s in stages] == [Graph, Program, Program]
    assert all(s.seconds >= 0 for s in stages)


def test_a_pass_at_the_wrong_level_is_refused() -> None:
    for text, name, wants, stands in (
        ("schedule", "schedule", "Program", "Graph"),
        ("lower,fuse", "fuse", "Graph", "Program"),
        ("lower,lower", "lower", "Graph", "Program"),
    ):
        with pytest.raises(PassError) as error:
            run_pipeline(small(), parse_pipeline(text))
        assert str(error.value) == (
            f"the pass {name!r} takes a {wants}, but stands where there is a {stands}\n"
            "  help: graph passes come before lower, program passes after it"
        )


def lie_about_a_type(graph: Graph) -> Graph:
    """Store f64 where exp infers f32."""

    def change(node, inputs):
        wrong = [dataclasses.replace(t, dtype=gc.ir.types.float64) for t in node.types]
        return Node(node.op, inputs, node.attrs, wrong).results

    return graph.transform(change)


def drop_an_output(graph: Graph) -> Graph:
    return graph.replace(outputs=graph.outputs[:1])


def change_a_type(graph: Graph) -> Graph:
    return graph.replace(outputs=[gc.sum(t) for t in graph.outputs])


def take_other_inputs(graph: Graph) -> Graph:
    y = gc.input("x", ("N",))
    return Graph(graph.name, [y], [gc.exp(y), y])


def read_from_nowhere(graph: Graph) -> Graph:
    stray = gc.input("stray", ("N",))
    return graph.replace(outputs=[t + stray for t in graph.outputs])


BREAKERS: list[Callable[[Graph], Graph]] = [
    lie_about_a_type,
    drop_an_output,
    change_a_type,
    take_other_inputs,
    read_from_nowhere,
]


@pytest.mark.parametrize("function", BREAKERS, ids=lambda f: f.__name__)
def test_a_pass_that_breaks_its_graph_is_named(function, golden) -> None:
    passes.graph_pass("broken")(function)
    with pytest.raises(PassError) as error:
        run_pipeline(small(), parse_pipeline("simplify,broken,cse"))
    text = re.sub(r" +@ \S+\n", "\n", str(error.value))
    golden(f"passes/broken_{function.__name__}", re.sub(r"\.py:\d+", ".py:LINE", text))


def test_a_pass_may_not_change_which_states_are_updated() -> None:
    p, q = gc.parameter("p", (2,)), gc.parameter("q", (2,))
    graph = Graph.build([], [], [(p, p + q), (q, q * p)])
    for wrong in (
        lambda g: g.replace(updates=g.updates[::-1]),
        lambda g: g.replace(updates=g.updates[:1]),
        lambda g: g.replace(updates=(), outputs=[v for _, v in g.updates]),
    ):
        passes.graph_pass("broken")(wrong)
        with pytest.raises(PassError, match="'broken' changed what its graph takes"):
            run_pipeline(graph, parse_pipeline("broken"))


def test_a_pass_that_forgets_to_return_is_told_so() -> None:
    passes.graph_pass("forgetful")(lambda graph: None)
    with pytest.raises(PassError) as error:
        run_pipeline(small(), parse_pipeline("forgetful"))
    assert str(error.value) == (
        "the pass 'forgetful' returned None, not a Graph\n"
        "  help: a pass returns the new one, or the same object"
    )


def test_a_program_pass_that_breaks_its_program_is_named() -> None:
    passes.program_pass("broken")(lambda program: program.replace(body=()))
    with pytest.raises(PassError) as error:
        run_pipeline(small(), parse_pipeline("lower,broken"))
    text = str(error.value)
    assert text.startswith("the pass 'broken' broke its program: ")
    assert "before:" in text
    assert "after:" in text


def test_an_error_inside_a_pass_says_in_which() -> None:
    endless = [passes.rule("add(x, y) => add(y, x)")]
    passes.graph_pass("endless")(lambda graph: passes.rewrite(graph, endless))
    x, y = gc.input("x", ("N",)), gc.input("y", ("N",))
    with pytest.raises(GraphcError, match="do not come to an end") as error:
        run_pipeline(Graph.build([x, y], [x + y]), parse_pipeline("cse,endless"))
    assert error.value.__notes__ == ["in the pass 'endless'"]


def test_the_check_can_be_left_out() -> None:
    passes.graph_pass("broken")(drop_an_output)
    stages = run_pipeline(small(), parse_pipeline("broken"), check=False)
    assert len(stages[0].result.outputs) == 1


# --- passes of users ------------------------------------------------------------------


def test_a_user_adds_a_pass_in_two_lines() -> None:
    @passes.graph_pass("drop-double-neg")
    def drop_double_neg(graph):
        """Drop what is negated twice."""
        return passes.rewrite(graph, [passes.rule("neg(neg(x)) => x")])

    x = gc.input("x", ("N",))
    step = gc.compile(
        [x],
        gc.exp(-gc.neg(x)),
        passes="simplify,cse,drop-double-neg,fuse{max_inputs=8}",
    )
    stages = dict(step.stages)
    assert list(stages)[1:5] == ["simplify", "cse", "drop-double-neg", "fuse"]
    assert stages["fuse"].count("neg") == 0
    assert step([0.0, 1.0]).tolist() == pytest.approx(np.exp([0.0, 1.0]).tolist())
    assert PASSES["drop-double-neg"].doc == "Drop what is negated twice."


def test_a_pass_alone_does_what_it_says() -> None:
    passes.graph_pass("drop-double-neg")(
        lambda graph: passes.rewrite(graph, [passes.rule("neg(neg(x)) => x")])
    )
    (stage,) = run_pipeline(small(), parse_pipeline("drop-double-neg"))
    assert [n.op.name for n in stage.result.nodes] == ["exp", "full", "add"]


def test_a_pass_gets_the_options_and_the_target_that_it_asks_for() -> None:
    @dataclasses.dataclass(frozen=True)
    class Options:
        most: int = 3

    seen: list[Any] = []

    @passes.graph_pass("looks", Options)
    def looks(graph, target, options):
        seen.append((target.lanes, options.most))
        return graph

    wide = gc.ir.target.Target("wide", lanes=16)
    run_pipeline(small(), parse_pipeline("looks{most=5},looks"), wide)
    assert seen == [(16, 5), (16, 3)]


def test_registering_a_pass_again_replaces_it() -> None:
    for wanted in ("tanh", "sqrt"):
        rules = [passes.rule(f"exp(x) => {wanted}(x)")]
        passes.graph_pass("swap-exp")(lambda g, rules=rules: passes.rewrite(g, rules))
        (stage,) = run_pipeline(small(), parse_pipeline("swap-exp"))
        assert stage.result.count(wanted) == 1


def test_every_pass_has_a_sentence_of_documentation() -> None:
    assert {*passes.DEFAULT, "recompute"} == set(PASSES)
    for found in PASSES.values():
        assert found.doc.endswith("."), found.name
