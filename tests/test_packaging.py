"""What pyproject.toml and the README promise about the distribution."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")


def python(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_packages_are_the_folders_with_an_init() -> None:
    listed = PROJECT["tool"]["setuptools"]["packages"]
    where = PROJECT["tool"]["setuptools"]["package-dir"]
    found = set()
    for name, folder in where.items():
        for init in (ROOT / folder).rglob("__init__.py"):
            inner = init.parent.relative_to(ROOT / folder).parts
            found.add(".".join([name, *inner]))
    assert sorted(listed) == sorted(found)


def test_package_data_exists() -> None:
    where = PROJECT["tool"]["setuptools"]["package-dir"]
    for package, patterns in PROJECT["tool"]["setuptools"]["package-data"].items():
        base = max((p for p in where if package.startswith(p)), key=len)
        inner = package.removeprefix(base).strip(".").replace(".", "/")
        for pattern in patterns:
            assert list((ROOT / where[base] / inner).glob(pattern)), pattern


def test_every_dependency_is_installed_and_used_somewhere() -> None:
    """A dependency that nothing uses is one too many."""
    sources = "\n".join(
        p.read_text(encoding="utf-8")
        for folder in ("graphc", "passes", "backends")
        for p in (ROOT / folder).rglob("*.py")
    )
    unused = []
    for requirement in PROJECT["project"]["dependencies"]:
        name = re.split(r"[<>=~!\[ ]", requirement)[0]
        importlib.metadata.version(name)
        module = name.replace("-", "_")
        if not re.search(rf"\b{module}\b", sources):
            unused.append(name)
    assert not unused, f"nothing uses {', '.join(unused)}"


def test_importing_a_root_folder_says_what_to_import() -> None:
    for folder in ("passes", "backends"):
        ended = python("-c", f"import {folder}")
        assert ended.returncode == 1
        assert f"import graphc.{folder}, not {folder}" in ended.stderr


def test_command_is_installed() -> None:
    found = importlib.metadata.entry_points(group="console_scripts", name="graphc")
    assert [e.value for e in found] == ["graphc.cli.main:app"]


def test_readme_examples_run(tmp_path: Path) -> None:
    """Each ```python block of the README runs, one after the other."""
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert blocks
    script = tmp_path / "readme.py"
    script.write_text("\n\n".join(blocks), encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "-W", "error", str(script)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr


def test_readme_has_the_two_commands_that_ci_takes_out_of_it() -> None:
    marked = re.findall(
        r"^<!-- ci: (\w+) -->\n```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL
    )
    assert [name for name, _ in marked] == ["demo", "test"]
    for _, block in marked:
        assert len(block.replace("\\\n", "").splitlines()) == 1
