"""What the subcommands share in printing: consoles, tables, code."""

from __future__ import annotations

import sys
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text


def console(*, stderr: bool = False) -> Console:
    """Return a console on the current stdout or stderr.

    Where that is no terminal, lines are not broken to a guessed width.
    """
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def complain(message: str) -> None:
    """Print a message to stderr, as it is."""
    print(message, file=sys.stderr)


def table(*columns: str, numbers: tuple[str, ...] = (), title: str = "") -> Table:
    """Return a plain table; the columns in `numbers` are set flush right.

    The first column and numbers are never broken into lines; other texts are.
    """
    made = Table(
        title=title or None,
        title_justify="left",
        title_style="bold",
        box=None,
        pad_edge=False,
        header_style="dim",
    )
    for name in columns:
        made.add_column(
            name,
            justify="right" if name in numbers else "left",
            overflow="fold",
            no_wrap=name in numbers or name == columns[0],
        )
    return made


def row(made: Table, *cells: Any) -> None:
    """Add a row to a table; brackets in cells are text, not rich's markup."""
    made.add_row(*(c if isinstance(c, Text) else Text(str(c)) for c in cells))


def print_table(made: Table, *, stderr: bool = False) -> None:
    """Print a table; in a file or a pipe without spaces at the ends of lines."""
    out = console(stderr=stderr)
    with out.capture() as drawn:
        out.print(made)
    lines = [line.rstrip() for line in drawn.get().splitlines()]
    print("\n".join(lines), file=out.file)


def show_code(code: str, language: str) -> None:
    """Print code: highlighted on a terminal, and elsewhere exactly as it is."""
    if not sys.stdout.isatty():
        print(code.rstrip("\n"))
        return
    shown = Syntax(code.rstrip("\n"), language, background_color="default")
    console().print(shown)
