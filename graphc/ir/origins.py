"""Origins: which line of the user's code a node comes from, and what made it.

A node is born with an origin (the ambient scope and phase, and the nearest frame
outside graphc); from then on origins are a side table of the Graph, kept by
whoever rewrites it, so that neither equality nor a kernel's identity sees them.
"""

from __future__ import annotations

import linecache
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cached_property

FORWARD, BACKWARD, UPDATE = "forward", "backward", "update"

# Modules of graphc that stand for a user's code: their lines are worth showing.
_USER_MODULES = ("graphc.cli.demo_model",)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a node comes from.

    file, line: the user's line; scope: path of layers; phase: forward, backward
    or update; label: the name the user gave; derived: what it was derived from
    (the gradient of which op); rules: names of the rewrites that made it.
    """

    file: str = ""
    line: int = 0
    scope: tuple[str, ...] = ()
    phase: str = FORWARD
    label: str = ""
    derived: str = ""
    rules: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """`model.py:12`, or an empty text when no line is known."""
        return f"{os.path.basename(self.file)}:{self.line}" if self.file else ""

    @property
    def quoted(self) -> str:
        """`model.py:12 | h = x @ w`: the place with its source line."""
        if not self.file:
            return ""
        source = linecache.getline(self.file, self.line).strip()
        return f"{self.place} | {source}" if source else self.place

    def made_by(self, rule: str) -> Origin:
        """Return the origin with one more rule in its history."""
        if self.rules and self.rules[-1] == rule:
            return self
        return replace(self, rules=(*self.rules, rule))

    def merged(self, other: Origin) -> Origin:
        """Return the origin of a node that stands for two equal ones.

        The earlier phase wins: a value the forward pass needs is forward work.
        """
        order = (FORWARD, BACKWARD, UPDATE)
        first, second = self, other
        if order.index(second.phase) < order.index(first.phase):
            first, second = second, first
        if not first.label and second.label:
            first = replace(first, label=second.label)
        return first


UNKNOWN = Origin()


@dataclass(frozen=True)
class _Ambient:
    scope: tuple[str, ...] = ()
    phase: str = FORWARD
    place: tuple[str, int] | None = None
    derived: str = ""

    @cached_property
    def origin(self) -> Origin:
        """The origin of what is declared at its place, one for all of it."""
        return self.at(*(self.place or ("", 0)))

    def at(self, file: str, line: int) -> Origin:
        """Return the origin of what is declared at a line."""
        return Origin(file, line, self.scope, self.phase, derived=self.derived)


_PLAIN = _Ambient()
_ambient: ContextVar[_Ambient] = ContextVar("graphc_ambient", default=_PLAIN)
_fixed: ContextVar[fixed | None] = ContextVar("graphc_fixed", default=None)


def user_line() -> tuple[str, int]:
    """Return file and line of the nearest frame outside graphc."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        inside = name == "graphc" or name.startswith("graphc.")
        if not inside or name in _USER_MODULES:
            return frame.f_code.co_filename, frame.f_lineno
        if frame.f_back is None:
            break
        frame = frame.f_back
    return "", 0


def here() -> Origin:
    """Return the origin of a node that is declared now."""
    known = _fixed.get()
    if known is not None:
        return known.origin
    ambient = _ambient.get()
    return ambient.at(*user_line()) if ambient.place is None else ambient.origin


@contextmanager
def scope(name: str, place: tuple[str, int] | None = None) -> Iterator[None]:
    """Put what is declared inside under `name`; `place` overrides the user's line."""
    old = _ambient.get()
    token = _ambient.set(
        replace(old, scope=(*old.scope, name), place=place or old.place)
    )
    try:
        yield
    finally:
        _ambient.reset(token)


@contextmanager
def phase(
    name: str, *, derived: str = "", like: Origin | None = None
) -> Iterator[None]:
    """Mark what is declared inside as forward, backward or update.

    `like` is the origin of the node that the new ones are derived from: they bear
    its line and scope.
    """
    old = _ambient.get()
    new = replace(old, phase=name, derived=derived)
    if like is not None:
        new = replace(new, scope=like.scope, place=(like.file, like.line))
    token = _ambient.set(new)
    try:
        yield
    finally:
        _ambient.reset(token)


class fixed:
    """Give everything declared inside exactly this origin (rewriting).

    Whoever rewrites node by node enters once, and sets one origin after the other.
    """

    __slots__ = ("_token", "origin")

    def __init__(self, origin: Origin) -> None:
        """Take the origin."""
        self.origin = origin

    def __enter__(self) -> fixed:
        """Begin."""
        self._token = _fixed.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        _fixed.reset(self._token)
