"""Identities of ops that move elements. Values stay, bit for bit."""

from __future__ import annotations

from graphc.ir.rewrite import Match, rule


def _inverse(match: Match) -> bool:
    outer, inner = (n.attrs.axes for n in match.nodes)
    return all(inner[a] == i for i, a in enumerate(outer))


RULES = (
    rule("reshape(reshape(x)) => reshape(x)"),
    rule("transpose(transpose(x)) => x", when=_inverse),
    rule("broadcast_to(broadcast_to(x)) => broadcast_to(x)"),
)
