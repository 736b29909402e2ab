"""Reading a text by hand: places, words, marks, and errors with a caret.

A reader calls `fault` where it cannot go on, notes the `Fault` it catches, goes on at
a later line, and raises everything at once with `report`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from graphc.errors import ParseError

_BLANK = re.compile(r"[ \t\r]*")
_SPACE = re.compile(r"\s*")
_REST = re.compile(r"[^\n]*")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_STRING = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_DIGITS = re.compile(r"\d+")
_TOKEN = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"?|[%#]?[\w.]+|->|<-|>=|\S')

_SHOWN = 20  # errors that one report shows
_WINDOW = 88  # columns of a long line that an error shows


class Fault(Exception):
    """What is wrong at one place of a text; an empty one follows from another."""

    def __init__(
        self, at: int = 0, what: str = "", help: str = "", details: Sequence[str] = ()
    ) -> None:
        """Keep the place and what to say of it."""
        super().__init__(what)
        self.at, self.what, self.help, self.details = at, what, help, tuple(details)


class Scanner:
    """A text and a place in it. Blanks are skipped before whatever is read."""

    def __init__(self, text: str) -> None:
        """Start at the beginning."""
        self.text = text
        self.at = 0

    # --- moving -------------------------------------------------------------------

    def skip(self) -> int:
        """Skip blanks within the line; return the place."""
        if self.text[self.at : self.at + 1] not in (" ", "\t", "\r"):  # mostly
            return self.at
        return self._skip(_BLANK)

    def skip_lines(self) -> int:
        """Skip blanks and line ends; return the place."""
        return self._skip(_SPACE)

    def skip_line(self) -> str:
        """Go to the end of the line; return what was skipped."""
        found = _REST.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return found[0]

    def _skip(self, pattern: re.Pattern[str]) -> int:
        found = pattern.match(self.text, self.at)
        assert found is not None
        self.at = found.end()
        return self.at

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.text)

    # --- reading ------------------------------------------------------------------

    def match(self, pattern: re.Pattern[str]) -> str | None:
        """Read what a pattern matches here, or None."""
        found = pattern.match(self.text, self.skip())
        if found is None:
            return None
        self.at = found.end()
        return found[0]

    def looking_at(self, mark: str) -> bool:
        """Whether a mark comes next."""
        return self.text.startswith(mark, self.skip())

    def accept(self, mark: str) -> bool:
        """Read a mark if it comes next."""
        if not self.looking_at(mark):
            return False
        self.at += len(mark)
        return True

    def expect(self, *marks: str) -> str:
        """Read one of these marks."""
        for mark in marks:
            if self.accept(mark):
                return mark
        raise self.expected(" or ".join(repr(m) for m in marks))

    def accept_word(self, *words: str) -> str | None:
        """Read one of these words if it comes next."""
        found = _WORD.match(self.text, self.skip())
        if found is None or found[0] not in words:
            return None
        self.at = found.end()
        return found[0]

    def expect_word(self, word: str) -> None:
        """Read this word."""
        if self.accept_word(word) is None:
            raise self.expected(repr(word))

    def word(self, what: str) -> str:
        """Read an identifier; `what` says what it is."""
        found = self.match(_WORD)
        if found is None:
            raise self.expected(what)
        return found

    def label(self, what: str) -> str:
        """Read a label: bare, or quoted as a JSON string."""
        if self.looking_at('"'):
            return self.string(what)
        found = self.match(_LABEL)
        if found is None:
            raise self.expected(what)
        return found

    def string(self, what: str) -> str:
        """Read a JSON string."""
        start = self.skip()
        found = self.match(_STRING)
        if found is None:
            if self.looking_at('"'):
                raise self.fault('this string has no closing "', start)
            raise self.expected(what)
        try:
            text = json.loads(found)
        except ValueError as error:
            raise self.fault(f"this is no JSON string: {error}", start) from None
        assert isinstance(text, str)
        return text

    def digits(self) -> str | None:
        """Read decimal digits, or None."""
        return self.match(_DIGITS)

    def end_of_line(self) -> None:
        """Check that the line ends here."""
        if not self.ended and self.text[self.skip() : self.at + 1] not in ("\n", ""):
            raise self.expected("the end of the line")

    # --- errors -------------------------------------------------------------------

    def fault(
        self,
        what: str,
        at: int | None = None,
        help: str = "",
        details: Sequence[str] = (),
    ) -> Fault:
        """Return an error at a place, by default here."""
        return Fault(self.skip() if at is None else at, what, help, details)

    def expected(self, what: str) -> Fault:
        """Return the error that something else was expected here."""
        return self.fault(f"expected {what}, found {self.found()}")

    def found(self) -> str:
        """Return what stands here, for a message."""
        token = _TOKEN.match(self.text, self.skip())
        if token is None:
            return "the end of the text" if self.ended else "the end of the line"
        return f"'{token[0]}'" if '"' in token[0] else repr(token[0])


def quote(text: str) -> str:
    """Return a text as a JSON string on one line."""
    return json.dumps(text, ensure_ascii=not text.isprintable())


def bare_or_quoted(label: str) -> str:
    """Return a label bare where `Scanner.label` reads it so, else quoted."""
    return label if _LABEL.fullmatch(label) else quote(label)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a help line with what the word may be a slip of, or all there is."""
    names = sorted(known)
    close = get_close_matches(word, names)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"known: {', '.join(names)}" if 0 < len(names) <= 12 else ""


def report(text: str, faults: Iterable[Fault]) -> ParseError:
    """Return one error that shows every fault with its line."""
    shown = sorted((f for f in faults if f.what), key=lambda f: f.at)
    blocks = [_block(text, f) for f in shown[:_SHOWN]]
    if len(shown) == 1:
        (message, *details) = blocks[0]
        return ParseError(message, details=details, help=shown[0].help)
    lines: list[str] = []
    for fault, block in zip(shown, blocks, strict=False):
        lines += block
        if fault.help:
            lines.append(f"  help: {fault.help}")
    if len(shown) > _SHOWN:
        lines.append(f"and {len(shown) - _SHOWN} more")
    return ParseError(f"the text has {len(shown)} errors", details=lines)


def line_of(text: str, at: int) -> int:
    """Return the number of the line that a place is in, from 1."""
    return text.count("\n", 0, at) + 1


def _block(text: str, fault: Fault) -> list[str]:
    start = text.rfind("\n", 0, fault.at) + 1
    end = text.find("\n", fault.at)
    line = text[start : len(text) if end < 0 else end].replace("\t", " ")
    column = fault.at - start
    head = f"line {line_of(text, fault.at)}, column {column + 1}: {fault.what}"
    shift = min(len(line) - len(line.lstrip()), column)
    if column - shift > _WINDOW - 8:
        shift = column - _WINDOW // 2
    source = line[shift : shift + _WINDOW].rstrip()
    if not source:
        return [head]
    caret = " " * (column - shift) + "^"
    return [head, f"  {source}", f"  {caret}", *(f"  {d}" for d in fault.details)]
