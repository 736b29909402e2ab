"""Equations hold: both sides of every rule, on ordinary and on special numbers.

The left side is built from the rule's own terms, over tensors of three columns whose
rows are triples of numbers; the rule is applied to it, and both sides are evaluated.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import passes
from graphc.errors import GraphcError, ParseError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import FUNCTIONS
from graphc.ir.rewrite import CONDITIONS, Literal, Rule, Term, Var, stable_rules
from graphc.passes.rules import SIMPLIFY

Array = np.ndarray[Any, Any]

ORDINARY = [float(v) for v in np.random.default_rng(0).normal(0, 1, 6)]
SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan]
LARGE = [40.0, -40.0, 800.0, -800.0]
WHOLE = [0.0, 1.0, -1.0, 7.0, -7.0]
STABLE = stable_rules()

# The stable forms that give a NaN where the plain one gives an infinity, and where.
# All other negative numbers give a NaN on both sides.
NAN_BELOW_ZERO = {
    "pow(x, 0.5) => sqrt(x)": -np.inf,
    "log(div(1, x)) => neg(log(x))": -np.inf,
}


# --- the left side of a rule ----------------------------------------------------------


@dataclass
class Builder:
    """Builds terms over tensors of `rows` triples.

    A rule that reshapes a reduction gets one that drops its axis, others one that keeps
    it; a reshape flattens, or gives the dropped axis back.
    """

    rule: Rule
    values: list[float]
    dtype: str

    def __post_init__(self) -> None:
        self.given: dict[Tensor, Array] = {}
        self.variables: dict[str, Tensor] = {}
        self.left = self.term(self.rule.left)

    def term(self, term: Term, role: str = "value") -> Any:
        if isinstance(term, Literal):
            return int(term.value) if self.dtype == "int32" else term.value
        if isinstance(term, Var):
            if term.name not in self.variables:
                self.variables[term.name] = self.variable(term.name, role)
            return self.variables[term.name]
        truths = term.op.startswith("logical") or term.op == "where"
        args = []
        for k, a in enumerate(term.args):
            truth = truths and (term.op != "where" or k == 0)
            index = term.op == "take" and k == 1
            args.append(self.term(a, "truth" if truth else "index" if index else role))
        made = getattr(self, f"op_{term.op}", None) or FUNCTIONS[term.op]
        return made(*args)

    def variable(self, name: str, role: str) -> Tensor:
        rows = np.array(list(itertools.product(self.values, repeat=3)))
        if role == "index":
            array: Array = np.array([2, 0, 5], np.int32)
        elif role == "truth":
            array = np.isnan(rows) | (rows > 0)
        else:
            array = rows.astype(self.dtype)
        if self.given and role != "index":
            array = array[:, ::-1]  # all pairs of values meet
        tensor = gc.input(name, array.shape, str(array.dtype))
        self.given[tensor] = array
        return tensor

    # --- ops with attributes ---

    def _keepdims(self) -> bool:
        return "reshape" not in self.rule.text

    def op_sum(self, x: Tensor) -> Tensor:
        return gc.sum(x, 1, keepdims=self._keepdims())

    def op_logsumexp(self, x: Tensor) -> Tensor:
        return gc.logsumexp(x, 1, keepdims=self._keepdims())

    def op_argmax(self, x: Tensor) -> Tensor:
        return gc.argmax(x, 1)

    def op_reshape(self, x: Tensor) -> Tensor:
        return gc.reshape(x, (x.shape[0], 1) if x.ndim == 1 else (x.size,))

    def op_broadcast_to(self, x: Tensor) -> Tensor:
        row = x.ndim == 2 and x.shape[1] == 1
        return gc.broadcast_to(x, (x.shape[0], 3) if row else (2, *x.shape))

    def op_slice(self, x: Tensor) -> Tensor:
        return x[1::2, :2]

    def op_take(self, x: Tensor, index: Tensor) -> Tensor:
        return gc.take(x, index, axis=0)

    def op_stop_gradient(self, x: Tensor) -> Tensor:
        return gc.stop_gradient(x)


def both_sides(
    rule: Rule, values: list[float], dtype: str = "float64"
) -> tuple[Array, Array]:
    """Evaluate what a rule matches, and what it makes of it."""
    built = Builder(rule, values, dtype)
    right = rule.apply(built.left.node, set())
    assert right is not None, f"{rule.text} does not apply to {built.left}"
    left, made = gc.evaluate([built.left, right], built.given)
    assert left.dtype == made.dtype
    return left, made


def bits_differ(left: Array, right: Array) -> Array:
    """Return where two arrays differ; the sign of a zero counts, that of a NaN not."""
    if left.dtype.kind != "f":
        return left != right
    same = (left == right) & (np.signbit(left) == np.signbit(right))
    return ~(same | (np.isnan(left) & np.isnan(right)))


def by_text(rule: Rule) -> str:
    return rule.text


# --- simplify -------------------------------------------------------------------------


@pytest.mark.parametrize("rule", SIMPLIFY, ids=by_text)
def test_a_rule_of_simplify_holds(rule: Rule) -> None:
    left, right = both_sides(rule, ORDINARY)
    np.testing.assert_allclose(right, left, 4e-16)


@pytest.mark.parametrize("rule", SIMPLIFY, ids=by_text)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_rule_has_a_note_just_if_special_values_change(
    rule: Rule, dtype: str
) -> None:
    differ = bits_differ(*both_sides(rule, SPECIAL, dtype))
    assert bool(rule.note) == bool(differ.any())


@pytest.mark.parametrize("rule", SIMPLIFY, ids=by_text)
def test_a_rule_that_applies_to_ints_holds_for_them(rule: Rule) -> None:
    try:
        built = Builder(rule, WHOLE, "int32")
    except GraphcError:
        return  # the left side takes floats only
    if rule.apply(built.left.node, set()) is not None:
        left, right = both_sides(rule, WHOLE, "int32")
        np.testing.assert_allclose(right, left, 1e-6)


def test_division_of_ints_by_zero_keeps_its_sign() -> None:
    """The ints have no -0, so -x / -0 is -inf where x / 0 is inf."""
    x = gc.input("x", (2,), "int32")
    y = gc.input("y", (2,), "int32")
    graph = Graph.build([x, y], [-x / -y])
    assert passes.rewrite(graph, SIMPLIFY) is graph


# --- stabilize ------------------------------------------------------------------------


@pytest.mark.parametrize("rule", STABLE, ids=by_text)
def test_a_stable_form_is_the_formula(rule: Rule) -> None:
    positive = "log" in rule.text or "sqrt" in rule.text
    values = [abs(v) % 1 for v in ORDINARY] if positive else ORDINARY
    left, right = both_sides(rule, values)
    assert np.isfinite(left).any()
    np.testing.assert_allclose(right, left, 1e-12, 1e-15)


@pytest.mark.parametrize("rule", STABLE, ids=by_text)
def test_a_stable_form_changes_non_finite_results_only(rule: Rule) -> None:
    left, right = both_sides(rule, [*SPECIAL, *LARGE])
    finite = np.isfinite(left)
    np.testing.assert_allclose(right[finite], left[finite], 1e-12, 1e-15)
    lost = np.isinf(left) & np.isnan(right)
    below_zero = NAN_BELOW_ZERO.get(rule.text)
    if below_zero is None:
        assert not lost.any()
    else:
        (x,) = Builder(rule, [*SPECIAL, *LARGE], "float64").given.values()
        assert set(x[lost]) == {below_zero}


def test_a_stable_form_is_finite_where_the_formula_overflows() -> None:
    plain = {r.text: r for r in STABLE}
    overflow = [
        ("log(add(1, exp(x))) => softplus(x)", np.inf, 800.0),
        ("log(exp(x)) => x", -np.inf, -800.0),
        ("div(exp(x), add(1, exp(x))) => sigmoid(x)", np.nan, 1.0),
        ("sqrt(mul(x, x)) => abs(x)", np.inf, 1e200),
    ]
    for text, lost, kept in overflow:
        value = {1.0: 800.0}.get(kept, kept)
        left, right = both_sides(plain[text], [value])
        np.testing.assert_array_equal(left, lost, text)
        np.testing.assert_array_equal(right, kept, text)


# Sums over one axis of a square matrix, put along the other: no softmax.
CROSSWISE = {
    "reshape of a dropped axis": lambda e: gc.reshape(gc.sum(e, 0), (3, 1)),
    "reshape of a kept axis": lambda e: gc.reshape(gc.sum(e, 1, keepdims=True), (1, 3)),
    "a dropped axis at the end": lambda e: gc.sum(e, 1),
}


@pytest.mark.parametrize("how", CROSSWISE)
def test_a_sum_along_the_other_axis_is_no_softmax(how: str) -> None:
    x = gc.input("x", (3, 3))
    e = gc.exp(x)
    graph = Graph.build([x], [e / gc.broadcast_to(CROSSWISE[how](e), (3, 3))])
    assert passes.rewrite(graph, STABLE) is graph


def test_an_op_on_the_right_takes_the_attributes_of_its_own_kind() -> None:
    """`take` has an axis too, but not that of the softmax."""
    x = gc.input("x", (3, 4))
    rows = gc.constant(np.array([2, 0], np.int32))
    graph = Graph.build([x], [gc.log(gc.take(gc.softmax(x, 1), rows, axis=0))])
    done = passes.rewrite(graph, STABLE)
    assert [n.op.name for n in done.nodes] == ["log_softmax", "constant", "take"]
    assert [n.attrs.axis for n in done.nodes if n.op.name != "constant"] == [(1,), 0]


# --- the language ---------------------------------------------------------------------

WRONG = [
    "neg(x)",
    "neg(x) =>",
    "neg(x => x",
    "neg(x) => x x",
    "neg(x) => y",
    "x => neg(x)",
    "1 => neg(x)",
    "nge(x) => x",
    "neg(x) => nge(x)",
    "add(x 0) => x",
    "add(x,, 0) => x",
    "neg(x) -> x",
    "neg((x)) => x",
    "mul(x, 1.5.2) => x",
    "neg(x) => x if sunny",
    "",
]


def test_a_text_that_is_no_equation_is_refused_in_full(golden) -> None:
    messages = []
    for text in WRONG:
        with pytest.raises(ParseError) as error:
            passes.rule(text)
        messages.append(f"rule({text!r})\n{error.value}")
    known = ", ".join(sorted(CONDITIONS))
    text = "\n\n".join(messages).replace(known, "(the conditions)")
    golden("passes/rule_errors", "\n".join(t.rstrip() for t in text.splitlines()))


def test_rules_that_undo_each_other_are_reported() -> None:
    x = gc.input("x", ("N",))
    y = gc.input("y", ("N",))
    graph = Graph.build([x, y], [x - y])
    back_and_forth = [
        passes.rule("sub(x, y) => add(x, neg(y))"),
        passes.rule("add(x, neg(y)) => sub(x, y)"),
    ]
    with pytest.raises(GraphcError, match="the rules do not come to an end") as error:
        passes.rewrite(graph, back_and_forth)
    assert any(r.text in str(error.value) for r in back_and_forth)
    assert "help: remove a rule that undoes another" in str(error.value)


def test_one_variable_is_one_tensor_and_a_commutative_op_matches_either_way() -> None:
    x = gc.input("x", ("N",))
    y = gc.input("y", ("N",))
    rules = [passes.rule("add(x, neg(x)) => sub(x, x)")]
    assert (
        passes.rewrite(different := Graph.build([x, y], [x + -y]), rules) is different
    )
    for equal in (x + -x, -x + x):
        done = passes.rewrite(Graph.build([x, y], [equal]), rules)
        assert [n.op.name for n in done.nodes] == ["sub"]


def test_what_a_rule_makes_has_the_line_of_what_it_replaces_and_the_rule() -> None:
    x = gc.input("x", ("N",))
    old = gc.exp(x)
    graph = Graph.build([x], [old + 1.0])
    swap = passes.rule("add(x, 1) => sub(x, -1)")
    (was,) = (n for n in graph.nodes if n.op.name == "add")
    done = passes.rewrite(graph, [swap])
    (made,) = (n for n in done.nodes if n.op.name == "sub")
    assert done.origin(made).place == graph.origin(was).place
    assert done.origin(made).rules == (swap.text,)
