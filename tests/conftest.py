"""What all tests share: golden texts, and the table of ops."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# Times say nothing on a machine that is shared.
settings.register_profile("graphc", deadline=None)
settings.load_profile("graphc")

HERE = Path(__file__).parent
GOLDEN = HERE / "golden"


def _share(name: str) -> None:
    """Make a module or package of this folder importable, without its folder.

    (The folder itself on the path would hide graphc behind tests/graphc.)
    """
    if name in sys.modules:
        return
    folder = HERE / name
    package = folder.is_dir()
    spec = importlib.util.spec_from_file_location(
        name,
        folder / "__init__.py" if package else HERE / f"{name}.py",
        submodule_search_locations=[str(folder)] if package else None,
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


_share("loop_programs")
_share("ops_table")
_share("strategies")
_share("random_ops")
_share("random_loops")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --update-golden."""
    parser.addoption(
        "--update-golden",
        action="store_true",
        help="write the golden texts instead of comparing with them",
    )


Golden = Callable[[str, str], None]


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Return `golden(name, text)`, which compares with tests/golden/<name>.txt."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / f"{name}.txt"
        found = text.rstrip("\n") + "\n"
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            whole = path.with_suffix(f".{os.getpid()}.tmp")
            whole.write_text(found, encoding="utf-8")
            whole.replace(path)
            return
        if not path.exists():
            pytest.fail(f"there is no {path}; run pytest --update-golden")
        assert found == path.read_text(encoding="utf-8"), (
            f"differs from {path}; if the change is right, run pytest --update-golden"
        )

    return compare
