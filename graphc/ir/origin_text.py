"""Origins as text, both ways.

    origin = "@" [file ":" line] ["backward" | "update"] ["in" step {"/" step}]
             ["as" string] ["from" label] ["by" string {"," string}]

Of a file only its name is kept. An origin that says nothing is not written.
"""

from __future__ import annotations

import os
import re

from graphc.ir.origins import BACKWARD, FORWARD, UPDATE, Origin
from graphc.ir.scanner import Scanner, bare_or_quoted, quote

_FILE = re.compile(r"[A-Za-z0-9_.<>-]+")
_FILE_HERE = re.compile(_FILE.pattern + "(?=:)")
_STEP = re.compile(r"[A-Za-z0-9_.-]+")
_LINE = re.compile(r"\d{1,18}")


def origin_text(origin: Origin) -> str:
    """Return an origin as text, empty if nothing is known.

    Example:
        >>> origin_text(Origin("model.py", 12, ("dense",), derived="matmul"))
        '@ model.py:12 in dense from matmul'
    """
    parts = []
    file = os.path.basename(origin.file)
    if file:
        name = file if _FILE.fullmatch(file) else quote(file)
        parts.append(f"{name}:{max(origin.line, 0)}")
    if origin.phase != FORWARD:
        parts.append(origin.phase)
    if origin.scope:
        steps = (s if _STEP.fullmatch(s) else quote(s) for s in origin.scope)
        parts.append(f"in {'/'.join(steps)}")
    if origin.label:
        parts.append(f"as {quote(origin.label)}")
    if origin.derived:
        parts.append(f"from {bare_or_quoted(origin.derived)}")
    if origin.rules:
        parts.append(f"by {', '.join(map(quote, origin.rules))}")
    return " ".join(["@", *parts]) if parts else ""


def read_origin(scan: Scanner) -> Origin:
    """Read an origin, if one stands here."""
    if not scan.accept("@"):
        return Origin()
    quoted = scan.looking_at('"')
    file = scan.string("a file") if quoted else scan.match(_FILE_HERE) or ""
    line = _read_line(scan) if file else 0
    phase = scan.accept_word(BACKWARD, UPDATE) or FORWARD
    scope = _read_steps(scan) if scan.accept_word("in") else ()
    label = scan.string("a label in quotes") if scan.accept_word("as") else ""
    derived = scan.label("an op") if scan.accept_word("from") else ""
    rules = _read_rules(scan) if scan.accept_word("by") else ()
    return Origin(file, line, scope, phase, label, derived, rules)


def _read_line(scan: Scanner) -> int:
    scan.expect(":")
    digits = scan.match(_LINE)
    if digits is None:
        raise scan.expected("a line")
    return int(digits)


def _read_steps(scan: Scanner) -> tuple[str, ...]:
    steps: list[str] = []
    while not steps or scan.accept("/"):
        step = scan.string("a scope") if scan.looking_at('"') else scan.match(_STEP)
        if step is None:
            raise scan.expected("a scope")
        steps.append(step)
    return tuple(steps)


def _read_rules(scan: Scanner) -> tuple[str, ...]:
    rules = [scan.string("a rule in quotes")]
    while scan.accept(","):
        rules.append(scan.string("a rule in quotes"))
    return tuple(rules)
