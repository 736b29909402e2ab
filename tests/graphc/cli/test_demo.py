"""graphc demo: the whole way, as a user starts it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from graphc.cli import demo as module

Command = Callable[..., Any]


def start(out: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "GRAPHC_CACHE_DIR": str(out.parent / "cache")}
    return subprocess.run(
        [sys.executable, "-m", "graphc.cli", "demo", "--out", str(out), *args],
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.long
def test_demo_reaches_its_goal_and_starts_warm_the_second_time(tmp_path: Path) -> None:
    out = tmp_path / "left"
    first = start(out)
    assert first.returncode == 0, first.stderr
    assert "cold start" in first.stdout
    reached = re.search(r"held out: ([\d.]+)%", first.stdout)
    assert reached
    assert float(reached[1]) >= 97
    for wanted in ("Sequential", "stabilize", "plan-memory", "demo_model.py", "Epoch"):
        assert wanted in first.stdout
    assert sorted(p.name for p in out.iterdir()) == sorted(module.FILES)
    ast.parse((out / "step.py").read_text(encoding="utf-8"))
    for drawing in out.glob("*.svg"):
        assert "<svg" in drawing.read_text(encoding="utf-8")

    second = start(out)
    assert second.returncode == 0, second.stderr
    assert "warm start" in second.stdout
    again = re.search(r"held out: ([\d.]+)%", second.stdout)
    assert again
    assert again[1] == reached[1]


def test_demo_under_its_goal_fails_with_an_explanation(
    graphc_command: Command, tmp_path: Path
) -> None:
    ended = graphc_command("demo", "--epochs", "1", "--out", tmp_path / "left")
    assert ended.exit_code == 1
    assert "after 1 epochs" in ended.stderr
    assert "graphc doctor" in ended.stderr


def test_demo_runs_print_the_median(graphc_command: Command, tmp_path: Path) -> None:
    ended = graphc_command("demo", "--runs", "2", "--epochs", "5")
    assert ended.stdout.count("seed") == 2
    assert "median of 2:" in ended.stdout


def test_demo_without_scikit_learn_says_what_to_install(
    graphc_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    ended = graphc_command("demo")
    assert ended.exit_code == 1
    assert "pip install 'graphc[demo]'" in ended.stderr
