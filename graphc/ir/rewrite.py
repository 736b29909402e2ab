"""Rewriting by equations: `rule("log(softmax(x)) => log_softmax(x)")`.

    rule     = term "=>" term [ "if" condition ]
    term     = number | variable | op "(" term, ... ")"

A variable stands for any tensor, the same one wherever it occurs; a number for a
`full` of that value. Attributes are matched whatever they are, and each attribute of
an op on the right is taken from the first op on the left that has one of that name.
A rule applies only where both sides have the same type. The rewriter keeps the
origins: rules cannot get them wrong.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Any

from graphc.errors import GraphcError, ParseError
from graphc.ir.graph import Graph, with_inputs
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.op import FUNCTIONS, OPS, Op
from graphc.ir.origins import fixed


@dataclass(frozen=True, slots=True)
class Var:
    """Any tensor."""

    name: str


@dataclass(frozen=True, slots=True)
class Literal:
    """A `full` of this value, of any shape."""

    value: float


@dataclass(frozen=True, slots=True)
class Call:
    """An op applied to terms."""

    op: str
    args: tuple[Term, ...]


Term = Var | Literal | Call


class Match:
    """What the variables stand for, and the nodes that the left side's ops matched."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.nodes: list[Node] = []

    def copy(self) -> Match:
        """Return an independent copy."""
        other = Match()
        other.tensors = dict(self.tensors)
        other.nodes = list(self.nodes)
        return other


Condition = Callable[[Match], bool]
CONDITIONS: dict[str, Condition] = {}


def condition(function: Condition) -> Condition:
    """Register a condition that equations may name after `if`."""
    CONDITIONS[function.__name__] = function
    return function


@condition
def aligned(match: Match) -> bool:
    """The reduction in the match is repeated along the axes it was taken over."""
    reduced = next(n for n in match.nodes if hasattr(n.attrs, "keepdims"))
    repeated = next(n for n in match.nodes if n.op.name == "broadcast_to")
    whole = reduced.inputs[0].shape
    kept = [1 if i in reduced.attrs.axis else s for i, s in enumerate(whole)]
    source = list(repeated.inputs[0].shape)
    return (
        repeated.results[0].shape == whole and source == kept[len(kept) - len(source) :]
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """An equation. note: what it does to inf and NaN, where that is anything."""

    text: str
    left: Call
    right: Term
    condition: Condition | None = None
    note: str = ""

    @property
    def name(self) -> str:
        """The text of the equation."""
        return self.text

    @property
    def around(self) -> frozenset[str | float]:
        """The ops and numbers that must be among a node's inputs, whatever else."""
        args = [a for a in self.left.args if not isinstance(a, Var)]
        return frozenset(a.op if isinstance(a, Call) else a.value for a in args)

    def apply(self, node: Node, opaque: Set[Node]) -> Tensor | None:
        """Return what a node becomes, or None where the rule does not fit."""
        found = self.match(node, opaque)
        return None if found is None else self.build(found, node)

    def match(self, node: Node, opaque: Set[Node]) -> Match | None:
        """Return what the variables stand for, or None where the rule does not fit."""
        found = _match_call(self.left, node, Match(), opaque)
        if found is None or (self.condition and not self.condition(found)):
            return None
        return found

    def build(self, found: Match, node: Node) -> Tensor | None:
        """Return what a node becomes, None if that has another type."""
        root = node.results[0]
        try:
            built = _build(self.right, found, root)
        except GraphcError:
            return None
        return built if built.type == root.type else None


_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?(?:inf|\d+(?:\.\d+)?(?:e-?\d+)?))|(?P<name>\w+)|(?P<mark>=>|[(),]))"
)


def rule(text: str, *, when: Condition | None = None, note: str = "") -> Rule:
    """Make a rule from an equation.

    when: a condition on the match, beside one that the text names after `if`.

    Raises:  ParseError with the column, for a text that is no equation, an unknown
             op, or a variable on the right that the left does not bind.
    Example:
        >>> rule("neg(neg(x)) => x").text
        'neg(neg(x)) => x'
    """
    equation, _, named = text.partition(" if ")
    test = when
    if named:
        if named.strip() not in CONDITIONS:
            raise ParseError(
                f"unknown condition {named.strip()!r} in the rule {text!r}",
                help="known: " + ", ".join(sorted(CONDITIONS)),
            )
        test = CONDITIONS[named.strip()]
    parser = _Parser(equation, text)
    left = parser.term()
    parser.expect("=>")
    middle = parser.place
    right = parser.term()
    parser.end()
    if not isinstance(left, Call):
        raise parser.error("the left side must be an op", 0)
    free = _variables(right) - _variables(left)
    if free:
        what = f"the left side does not bind {', '.join(sorted(free))}"
        raise parser.error(what, middle)
    return Rule(text, left, right, test, note)


class _Parser:
    def __init__(self, text: str, whole: str) -> None:
        self.text, self.whole, self.at = text, whole, 0

    @property
    def place(self) -> int:
        """Where the next token starts."""
        return self.at + len(self.text[self.at :]) - len(self.text[self.at :].lstrip())

    def error(self, what: str, at: int | None = None) -> ParseError:
        at = self.place if at is None else at
        return ParseError(
            f"rule: {what}, at column {at + 1}",
            details=[self.whole, " " * at + "^"],
            help='for example "mul(x, 1) => x"',
        )

    def next(self) -> tuple[str, str]:
        found = _TOKEN.match(self.text, self.at)
        if found is None:
            raise self.error("expected a number, a variable, an op, or =>")
        assert found.lastgroup is not None
        self.at = found.end()
        return found.lastgroup, found[found.lastgroup]

    def peek(self) -> str:
        found = _TOKEN.match(self.text, self.at)
        return found[0].strip() if found else ""

    def expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise self.error(f"expected {mark!r}")
        self.next()

    def end(self) -> None:
        if self.text[self.at :].strip():
            raise self.error("expected the end")

    def term(self) -> Term:
        start = self.place
        kind, token = self.next()
        if kind == "number" or token in ("inf", "nan"):
            return Literal(float(token))
        if kind == "mark":
            raise self.error(f"unexpected {token!r}", start)
        if self.peek() != "(":
            return Var(token)
        if token not in OPS:
            raise self.error(f"unknown op {token!r}", start)
        self.expect("(")
        args: list[Term] = []
        while self.peek() != ")":
            args.append(self.term())
            if self.peek() != ")":
                self.expect(",")
        self.expect(")")
        return Call(token, tuple(args))


def _variables(term: Term) -> set[str]:
    if isinstance(term, Var):
        return {term.name}
    if isinstance(term, Call):
        return set().union(*(_variables(a) for a in term.args))
    return set()


def _match(term: Term, tensor: Tensor, match: Match, opaque: Set[Node]) -> Match | None:
    if isinstance(term, Var):
        bound = match.tensors.get(term.name)
        if bound is None:
            match.tensors[term.name] = tensor
            return match
        return match if bound is tensor else None
    if isinstance(term, Literal):
        full = tensor.node.op.name == "full" and tensor.node.attrs.value == term.value
        return match if full else None
    if tensor.node in opaque or tensor.index != 0:
        return None
    return _match_call(term, tensor.node, match, opaque)


def _match_call(
    term: Call, node: Node, match: Match, opaque: Set[Node]
) -> Match | None:
    if node.op.name != term.op or len(node.inputs) != len(term.args):
        return None
    orders: list[Sequence[Tensor]] = [node.inputs]
    if node.op.commutative:
        orders.append(node.inputs[::-1])
    for order in orders:
        trial: Match | None = match.copy()
        assert trial is not None
        trial.nodes.append(node)
        for inner, tensor in zip(term.args, order, strict=True):
            trial = _match(inner, tensor, trial, opaque)
            if trial is None:
                break
        if trial is not None:
            return trial
    return None


def _build(term: Term, match: Match, like: Tensor) -> Tensor:
    built = _build_any(term, match)
    if isinstance(built, Tensor):
        return built
    return make1(OPS["full"], (), OPS["full"].attrs(like.dtype, like.shape, built))


def _build_any(term: Term, match: Match) -> Any:
    if isinstance(term, Var):
        return match.tensors[term.name]
    if isinstance(term, Literal):
        return term.value
    args = [_build_any(a, match) for a in term.args]
    op = OPS[term.op]
    fields = [f.name for f in dataclasses.fields(op.attrs)]
    if not fields:
        return FUNCTIONS[term.op](*args)
    values = {}
    for name in fields:
        owner = _owner(op, name, match.nodes)
        if owner is None:
            raise GraphcError(f"no op on the left has the attribute {name!r}")
        values[name] = getattr(owner.attrs, name)
    return make1(op, args, op.attrs(**values))


def _owner(op: Op, attribute: str, nodes: Sequence[Node]) -> Node | None:
    """Return the node on the left that an op on the right has an attribute from.

    The one of the same op if there is one, else one with attributes of its kind.
    """
    found = [n for n in nodes if hasattr(n.attrs, attribute)]
    found = [n for n in found if n.op is op] or found
    found = [n for n in found if isinstance(n.attrs, op.attrs)] or found
    return found[0] if found else None


# --- applying rules to a graph ------------------------------------------------------


def rewrite(graph: Graph, rules: Iterable[Rule]) -> Graph:
    """Apply rules everywhere until none fits; the same object if none ever did.

    Raises:  GraphcError naming a rule if they still find work after 100 sweeps.
    """
    table = list(rules)
    for _ in range(100):
        done = rewrite_once(graph, table)
        if done is graph:
            return graph
        graph = done
    names = {rule for o in graph.origins.values() for rule in o.rules[-1:]}
    raise GraphcError(
        f"the rules do not come to an end; among the last applied: {sorted(names)}",
        help="remove a rule that undoes another",
    )


def rewrite_once(
    graph: Graph, rules: Iterable[Rule], opaque: frozenset[Node] = frozenset()
) -> Graph:
    """Sweep over the graph, inputs before users; at each node the first rule that fits.

    Nodes in `opaque` may be bound by a variable but are not looked into.
    """
    by_root: dict[str, list[tuple[Rule, frozenset[str | float]]]] = {}
    for r in rules:
        by_root.setdefault(r.left.op, []).append((r, r.around))
    hidden = set(opaque)

    def change(node: Node, inputs: tuple[Tensor, ...]) -> Sequence[Tensor] | None:
        current = with_inputs(node, inputs)
        if node in hidden:
            hidden.add(current)
            return current.results
        candidates = by_root.get(node.op.name)
        if candidates is None:
            return current.results
        around = {t.node.op.name for t in inputs}
        if "full" in around:
            around |= {t.node.attrs.value for t in inputs if t.node.op.name == "full"}
        for r, needed in candidates:
            found = r.match(current, hidden) if needed <= around else None
            if found is not None:
                with fixed(graph.origin(node).made_by(r.name)):
                    built = r.build(found, current)
                if built is not None:
                    return (built,)
        return current.results

    return graph.transform(change)


def stable_rules() -> tuple[Rule, ...]:
    """Return the equations that ops declare as ways of writing themselves."""
    found: list[Rule] = []
    for name, op in OPS.items():
        key = (name, op.stable)
        if key not in _parsed:
            _parsed[key] = tuple(rule(text) for text in op.stable)
        found.extend(_parsed[key])
    return tuple(found)


_parsed: dict[tuple[str, tuple[str, ...]], tuple[Rule, ...]] = {}
