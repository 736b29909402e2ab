"""graphc kernels: the table and the texts."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]


def test_kernels_of_the_interpreter_are_none(
    graphc_command: Command, model_file: Path
) -> None:
    ended = graphc_command("kernels", model_file)
    assert ended.exit_code == 0
    assert "the backend 'reference' compiles no kernels" in ended.stdout


def test_kernels_table(graphc_command: Command, model_file: Path) -> None:
    ended = graphc_command("kernels", model_file, "--backend", "cpu")
    assert ended.exit_code == 0, ended.stderr
    head, *rows = ended.stdout.splitlines()
    assert head.split() == ["kernel", "flops", "bytes", "nodes", "lines"]
    assert "matmul" in rows[0]
    assert "model.py:6" in ended.stdout
    assert all(line == line.rstrip() for line in rows)


def test_kernels_source_is_python(graphc_command: Command, model_file: Path) -> None:
    ended = graphc_command("kernels", f"{model_file}:loss", "--source")
    tree = ast.parse(ended.stdout)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    assert functions
    assert all(ast.get_docstring(f) for f in functions)


@pytest.mark.parametrize(
    ("form", "sign"), [("--llvm", "define void"), ("--asm", "\tret")]
)
def test_kernels_lower_forms(
    graphc_command: Command, model_file: Path, form: str, sign: str
) -> None:
    ended = graphc_command("kernels", f"{model_file}:h", form)
    assert ended.exit_code == 0, ended.stderr
    assert sign in ended.stdout


def test_kernels_picks_one_by_name(graphc_command: Command, model_file: Path) -> None:
    table = graphc_command("kernels", f"{model_file}:loss").stdout.splitlines()
    name = table[1].split()[0]
    args = ("kernels", f"{model_file}:loss", "--source", "--kernel", name)
    assert graphc_command(*args).stdout.count("def ") == 1
    ended = graphc_command("kernels", f"{model_file}:loss", "--kernel", "k99")
    assert ended.exit_code == 1
    assert name in ended.stderr


def test_kernels_of_a_text_file_with_states(
    graphc_command: Command, model_file: Path
) -> None:
    out = model_file.with_name("g.gc")
    graphc_command("show", f"{model_file}:h", "-o", out)
    ended = graphc_command("kernels", out)
    assert ended.exit_code == 0, ended.stderr
    assert "matmul" in ended.stdout


def test_kernels_ptx_of_cpu_is_refused(
    graphc_command: Command, model_file: Path
) -> None:
    ended = graphc_command("kernels", model_file, "--ptx", "--backend", "cpu")
    assert ended.exit_code == 1
    assert "have no ptx" in ended.stderr
