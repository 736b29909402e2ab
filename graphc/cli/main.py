"""The `graphc` command. Each subcommand stands in its own file.

Start-up imports only typer and rich; a subcommand imports what it needs when it runs,
so that `graphc --help` is instant.
"""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from graphc.cli.demo import demo
from graphc.cli.doctor import doctor
from graphc.cli.kernels import kernels
from graphc.cli.opt import opt
from graphc.cli.output import complain
from graphc.cli.prepare import prepare
from graphc.cli.show import show
from graphc.errors import GraphcError


class _Commands(TyperGroup):
    """Subcommands that report errors of graphc as its messages, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand; a GraphcError becomes its message and exit code 1."""
        try:
            return super().invoke(ctx)
        except GraphcError as error:
            complain(f"{type(error).__name__}: {error}")
            raise typer.Exit(1) from None
        except FileNotFoundError as error:
            complain(f"there is no file or folder {error.filename}")
            raise typer.Exit(1) from None
        except BrokenPipeError:  # the reader, `head` for one, has seen enough
            raise typer.Exit(0) from None


app = typer.Typer(
    cls=_Commands,
    help="Train neural networks, and look into every stage of their compilation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for _command in (demo, show, opt, kernels, doctor, prepare):
    app.command()(_command)
