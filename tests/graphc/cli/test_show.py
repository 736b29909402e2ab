"""graphc show: which object, which stage, into which file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graphc

Command = Callable[..., Any]


def test_show_prints_the_declared_graph(
    graphc_command: Command, model_file: Path
) -> None:
    ended = graphc_command("show", model_file)
    assert ended.exit_code == 0
    assert graphc.parse(ended.stdout).count("softmax") == 1
    assert "@ model.py:7" in ended.stdout
    assert "loading" in ended.stderr


def test_show_takes_a_tensor_by_name(graphc_command: Command, model_file: Path) -> None:
    ended = graphc_command("show", f"{model_file}:h")
    graph = graphc.parse(ended.stdout)
    assert [n.op.name for n in graph.nodes] == ["matmul"]


@pytest.mark.parametrize("name", ["", ":step", ":loss"])
def test_show_stage_of_a_step_and_of_a_tensor(
    graphc_command: Command, model_file: Path, name: str
) -> None:
    ended = graphc_command("show", f"{model_file}{name}", "--stage", "decompose")
    graph = graphc.parse(ended.stdout)
    assert graph.count("softmax") == 0
    assert graph.count("exp") == 1


def test_show_program_stage_is_text(graphc_command: Command, model_file: Path) -> None:
    ended = graphc_command("show", model_file, "--stage", "lower")
    assert ended.stdout.startswith("program step {")


def test_show_numbered_stage(graphc_command: Command, model_file: Path) -> None:
    first = graphc_command("show", model_file, "--stage", "simplify#1").stdout
    second = graphc_command("show", model_file, "--stage", "simplify#2").stdout
    assert "softmax" in first
    assert "softmax" not in second
    ended = graphc_command("show", model_file, "--stage", "simplify#4")
    assert ended.exit_code == 1
    assert "ran 3 times, not 4" in ended.stderr


def test_show_unknown_stage_lists_the_stages(
    graphc_command: Command, model_file: Path
) -> None:
    ended = graphc_command("show", model_file, "--stage", "simplfy")
    assert ended.exit_code == 1
    assert "there is no stage 'simplfy'" in ended.stderr
    assert "declared, stabilize, simplify" in ended.stderr


@pytest.mark.parametrize("suffix", ["svg", "dot", "gc", "txt"])
def test_show_writes_files(
    graphc_command: Command, model_file: Path, suffix: str
) -> None:
    out = model_file.with_name(f"g.{suffix}")
    ended = graphc_command("show", model_file, "-o", out)
    assert ended.exit_code == 0
    assert ended.stdout == ""
    assert "matmul" in out.read_text(encoding="utf-8")


def test_show_draws_a_program(graphc_command: Command, model_file: Path) -> None:
    out = model_file.with_name("g.svg")
    ended = graphc_command("show", model_file, "--stage", "lower", "-o", out)
    assert ended.exit_code == 0, ended.stderr
    assert "<svg" in out.read_text(encoding="utf-8")


def test_show_unknown_format(graphc_command: Command, model_file: Path) -> None:
    out = model_file.with_name("g.bmp")
    ended = graphc_command("show", model_file, "-o", out)
    assert ended.exit_code == 1
    assert "bmp" in ended.stderr
    assert not out.exists()


def test_show_reads_text_files(graphc_command: Command, model_file: Path) -> None:
    out = model_file.with_name("g.gc")
    graphc_command("show", f"{model_file}:h", "-o", out)
    ended = graphc_command("show", out)
    assert ended.stdout == out.read_text(encoding="utf-8")


def test_show_model(graphc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "net.py"
    text = "from graphc import nn\nmodel = nn.Sequential([nn.Dense(3)])\n"
    path.write_text(text, encoding="utf-8")
    ended = graphc_command("show", path)
    assert ended.exit_code == 1
    assert "does not know the shape of its input" in ended.stderr
    path.write_text(text + "model.build((None, 2))\n", encoding="utf-8")
    ended = graphc_command("show", path)
    assert ended.exit_code == 0, ended.stderr
    assert "matmul" in ended.stdout


# --- what the user did wrong --------------------------------------------------------


def test_show_missing_file_and_name(graphc_command: Command, model_file: Path) -> None:
    ended = graphc_command("show", f"{model_file}x:step")
    assert ended.exit_code == 1
    assert f"there is no file {model_file}x\n" in ended.stderr
    ended = graphc_command("show", f"{model_file}:stp")
    assert ended.exit_code == 1
    assert "no global 'stp'" in ended.stderr
    assert "step" in ended.stderr
    ended = graphc_command("show", f"{model_file}:graphc")
    assert ended.exit_code == 1
    assert "is a module" in ended.stderr


def test_show_file_without_a_graph(graphc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "nothing.py"
    path.write_text("import graphc\nx = graphc.input('x', (2,))\n", encoding="utf-8")
    ended = graphc_command("show", path)
    assert ended.exit_code == 1
    assert "no global that can be shown" in ended.stderr


def test_show_error_in_the_file_is_the_users_own_traceback(
    graphc_command: Command, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.py"
    path.write_text(
        "import graphc\n"
        "x = graphc.input('x', ('N', 4))\n"
        "def head():\n"
        "    return x @ graphc.parameter('w', (5, 2))\n"
        "head()\n",
        encoding="utf-8",
    )
    ended = graphc_command("show", path)
    assert ended.exit_code == 1
    assert f'File "{path}", line 5, in <module>' in ended.stderr
    assert f'File "{path}", line 4, in head' in ended.stderr
    assert "ShapeError: matmul" in ended.stderr
    assert "runpy" not in ended.stderr
    assert "linear.py" not in ended.stderr


def test_show_syntax_error_in_the_file(graphc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "wrong.py"
    path.write_text("x = (\n", encoding="utf-8")
    ended = graphc_command("show", path)
    assert ended.exit_code == 1
    assert "SyntaxError" in ended.stderr


def test_show_file_that_ends_itself(graphc_command: Command, tmp_path: Path) -> None:
    path = tmp_path / "ends.py"
    path.write_text("raise SystemExit('all done')\n", encoding="utf-8")
    ended = graphc_command("show", path)
    assert ended.exit_code == 1
    assert "all done" in ended.stderr
    assert "ended itself" in ended.stderr


def test_show_finds_modules_beside_the_file(
    graphc_command: Command, model_file: Path
) -> None:
    user = model_file.with_name("user_of_it.py")
    user.write_text("from model import h\ny = h + 1.0\n", encoding="utf-8")
    before = list(sys.path)
    ended = graphc_command("show", user)
    sys.modules.pop("model")
    assert ended.exit_code == 0, ended.stderr
    assert sys.path == before
