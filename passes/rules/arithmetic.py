"""Identities of arithmetic.

All hold for every real number and for inf and NaN too, except where a note says
what changes. `mul(x, 0) => 0` is not here: it would hide a NaN or an infinity.
"""

from __future__ import annotations

from graphc.ir.rewrite import Match, rule


def _floating(match: Match) -> bool:
    return match.tensors["x"].dtype.is_float


def _one_axis(match: Match) -> bool:
    outer, inner = match.nodes
    return outer.attrs.axis == inner.attrs.axis  # type: ignore[no-any-return]


RULES = (
    rule("add(x, 0) => x", note="-0.0 + 0 is 0.0, here -0.0"),
    rule("sub(x, 0) => x"),
    rule("mul(x, 1) => x"),
    rule("div(x, 1) => x", when=_floating),
    rule("mul(x, -1) => neg(x)"),
    rule("div(x, -1) => neg(x)", when=_floating),
    rule("neg(neg(x)) => x"),
    rule("sub(0, x) => neg(x)", note="0 - 0.0 is 0.0, here -0.0"),
    rule("add(x, neg(y)) => sub(x, y)"),
    rule("sub(x, neg(y)) => add(x, y)"),
    rule("mul(neg(x), neg(y)) => mul(x, y)"),
    rule("div(neg(x), neg(y)) => div(x, y)", when=_floating),  # ints have no -0
    rule("pow(x, 1) => x", when=_floating),
    rule("pow(x, 2) => mul(x, x)", when=_floating),
    rule("pow(x, 0.5) => sqrt(x)", when=_floating, note="-0.0 and -inf: as sqrt"),
    rule("pow(x, -1) => div(1, x)", when=_floating),
    rule("div(1, sqrt(x)) => rsqrt(x)"),
    rule("abs(abs(x)) => abs(x)"),
    rule("abs(neg(x)) => abs(x)"),
    rule("relu(relu(x)) => relu(x)"),
    rule("maximum(x, 0) => relu(x)", when=_floating),
    rule("maximum(x, x) => x"),
    rule("minimum(x, x) => x"),
    rule("logical_not(logical_not(x)) => x"),
    rule("logical_and(x, x) => x"),
    rule("logical_or(x, x) => x"),
    rule("where(c, x, x) => x"),
    rule("where(logical_not(c), x, y) => where(c, y, x)"),
    rule("stop_gradient(x) => x"),
    rule(
        "argmax(softmax(x)) => argmax(x)",
        when=_one_axis,
        note="a row with a NaN: its place, not 0; ties that softmax rounds to: none",
    ),
)
