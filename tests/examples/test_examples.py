"""Each example runs by itself, and reaches what it states at its top."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
FILES = sorted(EXAMPLES.glob("*.py"))
LONG = {
    "char_text.py",
    "digits_convnet.py",
    "digits.py",
    "digits_nn.py",
    "gan.py",
    "reverse_attention.py",
}
# For `main`: what runs in seconds and is still enough, and what is not.
SMALL = [
    ("char_text.py", "'rnn', epochs=20, units=64, most=2.55"),
    ("char_text.py", "'lstm', epochs=30, units=64, most=2.65"),
    ("char_text.py", "'gru', epochs=20, units=64, most=2.7"),
    ("gan.py", "seeds=(0,), steps=400, least=0.6"),
    ("reverse_attention.py", "steps=300, longest=6, units=32, least=0.5"),
]
TOO_LITTLE = [
    ("char_text.py", "'rnn', epochs=2, units=64, most=2.55"),
    ("reverse_attention.py", "False, steps=300, longest=6, units=32, least=0.5"),
]


def params() -> list[object]:
    return [
        pytest.param(p, id=p.stem, marks=[pytest.mark.long] if p.name in LONG else [])
        for p in FILES
    ]


@pytest.mark.parametrize("path", params())
def test_example_reaches_its_figure(path: Path, tmp_path: Path) -> None:
    run(tmp_path, str(path))


@pytest.mark.parametrize(("name", "given"), SMALL)
def test_long_example_works_in_a_small_form(
    name: str, given: str, tmp_path: Path
) -> None:
    module = name.removesuffix(".py")
    run(tmp_path, "-c", f"import {module}; {module}.main({given})")


@pytest.mark.parametrize(("name", "given"), TOO_LITTLE)
def test_example_that_does_not_reach_its_figure_fails(
    name: str, given: str, tmp_path: Path
) -> None:
    module = name.removesuffix(".py")
    with pytest.raises(AssertionError, match="not reached"):
        run(tmp_path, "-c", f"import {module}; {module}.main({given})")


def run(tmp_path: Path, *arguments: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONPATH": str(EXAMPLES),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert not list(tmp_path.iterdir()), "an example leaves files behind"


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_example_states_what_it_reaches_and_how_to_run_it(path: Path) -> None:
    doc = path.read_text(encoding="utf-8").split('"""')[1]
    assert f"python examples/{path.name}" in doc
    assert "%" in doc
    assert "SystemExit" in path.read_text(encoding="utf-8")
