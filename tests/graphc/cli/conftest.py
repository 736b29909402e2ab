"""Running the command in this process, and files to run it on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from graphc.cli.main import app

MODEL = """\
import graphc

print("loading")
x = graphc.input("x", ("N", 4))
w = graphc.parameter("w", (4, 2))
h = x @ w
loss = graphc.mean(graphc.softmax(h))
step = graphc.compile([x], loss, backend="reference")

if __name__ == "__main__":
    raise SystemExit("not when it is only looked at")
"""

Command = Callable[..., Result]


@pytest.fixture
def graphc_command() -> Command:
    def run(*args: str, input: str | None = None) -> Result:
        return CliRunner().invoke(app, list(map(str, args)), input=input)

    return run


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(MODEL, encoding="utf-8")
    return path
