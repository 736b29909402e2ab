"""graphc opt: text in, text out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graphc

Command = Callable[..., Any]

TEXT = """\
graph g(%x: f32[N]) -> (f32[N]) {
  %0: f32[N] = exp(%x)
  %1: f32[N] = exp(%x)
  %2: f32[N] = neg(%0)
  %3: f32[N] = neg(%2)
  %4: f32[N] = add(%3, %1)
  return %4
}
"""


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "g.gc"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_opt_without_passes_prints_the_text(
    graphc_command: Command, text_file: Path
) -> None:
    ended = graphc_command("opt", text_file)
    assert ended.exit_code == 0, ended.stderr
    assert graphc.parse(ended.stdout) == graphc.parse(TEXT)


def test_opt_runs_passes(graphc_command: Command, text_file: Path) -> None:
    ended = graphc_command("opt", text_file, "-p", "simplify,cse")
    assert [n.op.name for n in graphc.parse(ended.stdout).nodes] == ["exp", "add"]
    assert ended.stderr == ""


def test_opt_reads_stdin_and_writes_a_file(
    graphc_command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out.gc"
    ended = graphc_command("opt", "-", "-p", "simplify", "-o", out, input=TEXT)
    assert ended.exit_code == 0, ended.stderr
    assert ended.stdout == ""
    assert graphc.parse(out.read_text(encoding="utf-8")).count("neg") == 0


def test_opt_options_of_a_pass(graphc_command: Command, text_file: Path) -> None:
    ended = graphc_command("opt", text_file, "-p", "cse,fuse{max_inputs=8}")
    assert "fused" in ended.stdout


def test_opt_to_the_program(graphc_command: Command, text_file: Path) -> None:
    ended = graphc_command("opt", text_file, "-p", "default")
    assert ended.stdout.startswith("program g {")


def test_opt_print_after_all_and_time(graphc_command: Command, text_file: Path) -> None:
    args = ("opt", text_file, "-p", "simplify,cse", "--print-after-all", "--time")
    ended = graphc_command(*args)
    assert graphc.parse(ended.stdout).count("exp") == 1
    assert "// 1/2 after simplify" in ended.stderr
    assert "// 2/2 after cse" in ended.stderr
    rows = [line.split() for line in ended.stderr.splitlines()]
    assert ["cse", "3", "2"] in [r[:3] for r in rows]


@pytest.mark.parametrize(
    ("text", "passes", "message"),
    [
        (TEXT, "css", "did you mean 'cse'?"),
        (TEXT, "fuse{max=1}", "has no option 'max'"),
        (TEXT, "cse,,", "column 5"),
        (TEXT.replace("f32[N] = add", "f32[N,2] = add"), "cse", "line 6"),
        ("graph", "cse", "ParseError"),
    ],
)
def test_opt_errors_are_messages(
    graphc_command: Command, text_file: Path, text: str, passes: str, message: str
) -> None:
    text_file.write_text(text, encoding="utf-8")
    ended = graphc_command("opt", text_file, "-p", passes)
    assert ended.exit_code == 1
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_opt_missing_file(graphc_command: Command, tmp_path: Path) -> None:
    ended = graphc_command("opt", tmp_path / "none.gc")
    assert ended.exit_code == 1
    assert "none.gc" in ended.stderr
