"""Texts written by hand: what is read, and what is said of a text that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import graphc as gc
import graphc.ir.parser
from graphc.errors import GraphcError, ParseError, VerifyError
from graphc.ir.attributes import digest
from graphc.ir.graph import Graph
from graphc.ir.op import OPS, NonDifferentiable, Op, Unsupported
from graphc.ir.origins import Origin
from graphc.ir.scanner import Fault, Scanner, report

Golden = Callable[[str, str], None]

GOOD = """graph head(%x: f32[N,784]; %w: f32[784,10]) -> (f32[N,1]) {
  %h: f32[N,10] = matmul(%x, %w)  @ model.py:12 in dense_1
  %s: f32[N,1] = sum(%h) {axis=[1], keepdims=true}
  return %s; update %w <- %w
}"""


def error(text: str) -> str:
    """Return what is said of a wrong text."""
    with pytest.raises(ParseError) as caught:
        gc.parse(text)
    return str(caught.value)


def body(*lines: str, args: str = "%x: f32[N,4]", results: str = "f32[N,4]") -> str:
    """Return the text of a graph with these statements."""
    inner = "".join(f"  {line}\n" for line in lines)
    return f"graph g({args}) -> ({results}) {{\n{inner}}}"


# --- what is read -------------------------------------------------------------------


def test_a_text_by_hand() -> None:
    graph = gc.parse(GOOD)
    assert graph.name == "head"
    assert [n.op.name for n in graph.nodes] == ["matmul", "sum"]
    assert str(graph.inputs[0].type) == "f32[N,784]"
    (state,) = graph.states
    assert state.node.attrs.trainable
    assert graph.updates == ((state, state),)
    assert graph.origin(graph.nodes[0]) == Origin("model.py", 12, ("dense_1",))
    assert graph.origin(graph.nodes[1]) == Origin()


def test_inputs_and_states_are_fresh() -> None:
    first, second = gc.parse(GOOD), gc.parse(GOOD)
    assert first == second
    assert first.inputs[0] is not second.inputs[0]
    assert first.states[0] is not second.states[0]


def test_it_computes() -> None:
    graph = gc.parse(
        body("%0: f32[N,4] = exp(%x)", "%1: f32[N,4] = add(%0, %x)", "return %1")
    )
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    found = gc.evaluate(graph.outputs[0], {graph.inputs[0]: x})
    np.testing.assert_allclose(found, np.exp(x) + x, rtol=1e-6)


def test_blanks_and_empty_lines_do_not_matter() -> None:
    spaced = GOOD.replace(
        "{axis=[1], keepdims=true}", "{ axis = [ 1 ] , keepdims=true }"
    )
    spaced = "\n\n " + spaced.replace("\n", "\n\n\t").replace(": ", " : ") + "\n\n"
    assert gc.parse(spaced) == gc.parse(GOOD)
    assert gc.parse(GOOD.replace("\n", "\r\n")) == gc.parse(GOOD)


def test_defaults_may_be_left_out() -> None:
    text = GOOD.replace(", keepdims=true", "").replace("f32[N,1]", "f32[N]")
    assert gc.parse(text).nodes[1].attrs.keepdims is False


def test_dead_values_are_dropped() -> None:
    text = body("%0: f32[N,4] = exp(%x)", "return %x")
    assert len(gc.parse(text)) == 0


def test_long_signatures_may_be_broken() -> None:
    text = (
        "graph g(\n  %x: f32[2],\n  %y: f32[2];\n  %w: f32[2]\n) -> () {\n  return\n}"
    )
    assert len(gc.parse(text).inputs) == 2


def test_constants_are_given() -> None:
    array = np.arange(100, dtype=np.float32)
    line = f"%0: f32[100] = constant() {{value=f32[100] #{digest(array)}}}"
    text = body(line, "return %0", args="", results="f32[100]")
    (node,) = gc.parse(text, {digest(array): array}).nodes
    assert node.attrs.value.value.tolist() == array.tolist()
    assert "but in a file beside the text" in error(text)
    with pytest.raises(ParseError, match="is not among the constants given"):
        gc.parse(text, {})
    with pytest.raises(ParseError, match=r"is another one, a f32\[3\]"):
        gc.parse(text, {digest(array): array[:3]})


def test_rules_that_are_not_of_the_text() -> None:
    text = body("%0: f32[M] = full() {dtype=f32, shape=[M], value=1.0}", "return %x")
    assert len(gc.parse(text)) == 0
    with pytest.raises(VerifyError, match="no input has the size M"):
        gc.parse(
            text.replace("return %x", "return %0").replace("(f32[N,4])", "(f32[M])")
        )


def test_the_example_of_the_grammar() -> None:
    page = Path(graphc.ir.parser.__file__).with_name("grammar.md").read_text()
    example = page.split("```")[-2].strip()
    assert gc.parse(example).text() == example


# --- errors, in full ----------------------------------------------------------------

WRONG = {
    "missing_bracket": body("%0: f32[N,4] = add(%x, %x", "return %0"),
    "missing_brace": body(
        "%0: f32[N] = sum(%x) {axis=[1]", "return %0", results="f32[N]"
    ),
    "unknown_op": body("%0: f32[N,4] = reluu(%x)", "return %0"),
    "leaf_op": body("%0: f32[N,4] = input()", "return %0"),
    "wrong_type": body("%0: f32[N,5] = relu(%x)", "return %0"),
    "refused_by_the_rule": body(
        "%0: f32[N,4] = matmul(%x, %w)",
        "return %0",
        args="%x: f32[N,4]; %w: f32[5,4]",
    ),
    "number_of_operands": body("%0: f32[N,4] = matmul(%x)", "return %0"),
    "number_of_results": body("%0: f32[N,4], %1: f32[N] = neg(%x)", "return %0"),
    "undefined_value": body("%0: f32[N,4] = add(%x, %y)", "return %0"),
    "own_value": body("%0: f32[N,4] = neg(%0)", "return %0"),
    "unknown_dtype": body("%0: float32[N,4] = neg(%x)", "return %x"),
    "bad_size": body("%0: f32[N+,4] = neg(%x)", "return %x"),
    "name_taken": body("%0: f32[N,4] = neg(%x)", "%0: f32[N,4] = neg(%x)", "return %0"),
    "name_of_two_inputs": body("return %x", args="%x: f32[N,4]; %x: f32[2]"),
    "unknown_attribute": body(
        "%0: f32[N] = sum(%x) {axes=[1]}", "return %0", results="f32[N]"
    ),
    "missing_attribute": body("%0: f32[N] = sum(%x)", "return %0", results="f32[N]"),
    "doubled_attribute": body(
        "%0: f32[N] = sum(%x) {axis=[1], axis=[1]}", "return %0", results="f32[N]"
    ),
    "kind_of_attribute": body(
        "%0: f32[N] = sum(%x) {axis=1}", "return %0", results="f32[N]"
    ),
    "no_attributes": body("%0: f32[N,4] = neg(%x) {axis=1}", "return %0"),
    "capture": body(
        "%0: f32[N,4] = neg(%x)",
        "%1: f32[N,4] = fused(%x) {",
        "  (%a0: f32[N,4]):",
        "  %b0: f32[N,4] = add(%a0, %0)",
        "  yield %b0",
        "}",
        "return %1",
    ),
    "region_types": body(
        "%1: f32[N,4] = fused(%x) {",
        "  (%a0: f32[N,5]):",
        "  yield %a0",
        "}",
        "return %1",
    ),
    "no_region": body("%1: f32[N,4] = fused(%x)", "return %1"),
    "region_of_another_op": body("%1: f32[N,4] = neg(%x) {", "}", "return %1"),
    "results": body("%0: f32[N,4] = neg(%x)", "return %0", results="f32[N,5]"),
    "number_returned": body("return %x, %x"),
    "no_return": body("%0: f32[N,4] = neg(%x)"),
    "after_return": body("return %x", "%0: f32[N,4] = neg(%x)"),
    "updates": body(
        "return; update %w <- %x, %v <- %v, %v <- %v",
        args="%x: f32[N,4]; %w: f32[5,4], %v: f32[]",
        results="",
    ),
    "update_twice": body(
        "return; update %v <- %v, %v <- %v", args="; %v: f32[]", results=""
    ),
    "update_of_an_input": body("return; update %x <- %x", results=""),
    "unclosed": "graph g() -> () {\n  return\n",
    "more_after_the_end": body("return %x") + "\nmore",
    "header": "graph g(%x: f32[N,4] -> (f32[N,4]) {\n  return %x\n}",
    "empty": "",
    "string": body('%0: f32[N,4] = neg(%"x)', "return %x"),
    "array": body(
        "%0: f32[3] = constant() {value=f32[3] [1.0, 2.0]}",
        "%1: i32[1] = constant() {value=i32[1] [3000000000]}",
        "%2: f32[1] = constant() {value=f32[1] [1e39]}",
        "%3: f32[1] = constant() {value=f32[1] [one]}",
        "return %x",
    ),
}


def test_errors(golden: Golden) -> None:
    blocks = [f"--- {name}\n{error(text)}\n" for name, text in WRONG.items()]
    golden("ir/parse_errors", "\n".join(blocks))


def test_all_errors_are_told_at_once(golden: Golden) -> None:
    text = body(
        "require N >> 1",
        "%0: f32[N,4] = reluu(%x)",
        "%1: f32[N,4] = add(%0, %y)",
        "%2: f32[N,4] = fused(%1) {",
        "  (%a0: f32[N,4]):",
        "  %b0: f32[N,4] = exp(%x)",
        "  %b1: f32[N,4] = add(%b0, %a9)",
        "  yield %b1",
        "}",
        "%3: f32[N,5] = relu(%2)",
        "return %3, %2",
    )
    golden("ir/parse_errors_at_once", error(text))


def test_a_broken_value_stands_with_its_type() -> None:
    text = body("%0: f32[N,4] = wrong(%x)", "%1: f32[N,5] = neg(%0)", "return %1")
    said = error(text)
    assert "unknown op 'wrong'" in said
    assert "stated as f32[N,5], but neg gives f32[N,4]" in said


def test_many_errors_are_cut() -> None:
    said = error(body(*[f"%{i}: f32[N,4] = wrong(%x)" for i in range(30)], "return %x"))
    assert said.startswith("the text has 30 errors")
    assert said.endswith("and 10 more")


def test_long_lines_are_cut() -> None:
    numbers = ", ".join(["1.0"] * 60)
    said = error(
        body(f"%0: f32[61] = constant() {{value=f32[61] [{numbers}, x]}}", "return %x")
    )
    _, source, caret, *_ = said.splitlines()
    assert len(source) <= 90
    assert source[caret.index("^")] == "x"


@pytest.mark.parametrize(
    "text",
    [
        body(f"%0: f32[] = full() {{dtype=f32, shape={'[' * 5000}}}", "return %x"),
        body(f"%0: f32[{'(' * 5000}] = neg(%x)", "return %x"),
        body(f"%0: f32[{'9' * 5000}] = neg(%x)", "return %x"),
        body(f"%0: f32[] = full() {{value={'9' * 5000}}}", "return %x"),
        body("%0: f32[] = full() {value=1e999}", "return %x"),
        body(*["%0: f32[] = fused() {\n ():"] * 3000),
        "graph" * 10000,
        "graph g(%x: f32[N]) -> (f32[N]) {" * 100,
    ],
)
def test_hostile_texts_are_errors(text: str) -> None:
    error(text)


WORDS = (
    "graph g require return update yield frozen in as by from backward "
    "%x %0 %a0 f32[N,4] -> <- >= neg add fused sum axis true nan 1 -1.5"
)
PIECES = ("\n", *'(){}[]:;,=%@#"', *WORDS.split())


def attempt(text: str) -> Graph | None:
    """Parse a text that may be wrong, but not so that anything else is raised."""
    try:
        return gc.parse(text)
    except (ParseError, VerifyError):
        return None


@given(st.lists(st.sampled_from(PIECES), max_size=40).map(" ".join))
def test_nothing_but_parse_errors(text: str) -> None:
    attempt(text)


@given(st.integers(0, len(GOOD) - 1), st.sampled_from(["", *PIECES]))
def test_slips_are_parse_errors(at: int, piece: str) -> None:
    for text in (GOOD[:at] + piece + GOOD[at + 1 :], GOOD[:at] + piece + GOOD[at:]):
        graph = attempt(text)
        assert graph is None or gc.parse(graph.text()) == graph


# --- ops of users -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Picky:
    """Attributes that refuse some values."""

    level: int

    def __post_init__(self) -> None:
        """Refuse negative levels."""
        if self.level < 0:
            raise GraphcError(f"the level is {self.level}")


@pytest.fixture
def picky() -> Iterator[None]:
    """Register an op with such attributes."""
    OPS["picky"] = Op(
        "picky",
        lambda types, _: types[0],
        lambda arrays, m: arrays[0],
        NonDifferentiable("a test"),
        Unsupported("a test"),
        "",
        Picky,
    )
    yield
    del OPS["picky"]


@pytest.mark.usefixtures("picky")
def test_attributes_that_refuse() -> None:
    text = body("%0: f32[N,4] = picky(%x) {level=-1}", "return %0")
    assert "column 28: picky: the level is -1" in error(text)
    assert isinstance(gc.parse(text.replace("-1", "1")), Graph)


# --- the scanner --------------------------------------------------------------------


def test_report_of_one_fault() -> None:
    found = report("one\ntwo three", [Fault(8, "bad word", "try another")])
    assert str(found) == (
        "line 2, column 5: bad word\n    two three\n        ^\n  help: try another"
    )


def test_scanner_words_are_whole() -> None:
    scan = Scanner("input x")
    assert scan.accept_word("in") is None
    assert scan.accept_word("input") == "input"
