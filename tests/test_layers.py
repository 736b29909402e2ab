"""Imports run one way: read from the source, those inside functions included.

errors <- ir <- ops <- state <- autodiff <- control <- nn, optim
                ops, control <- passes <- backends
all of these <- executable <- compiler <- train, viz, cli
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"graphc": "graphc", "passes": "graphc.passes", "backends": "graphc.backends"}

IR = {"errors", "ir"}
OPS = IR | {"ops"}
STATE = OPS | {"state"}
GRADIENT = STATE | {"autodiff"}
CONTROL = GRADIENT | {"control"}
BACKENDS = OPS | {"passes", "backends"}
RUN = CONTROL | {"nn", "optim"} | BACKENDS | {"executable"}

# Layer -> the layers that it may import, itself included.
ALLOWED = {
    "errors": {"errors"},
    "ir": IR,
    "ops": OPS,
    "state": STATE,
    "autodiff": GRADIENT,
    "control": CONTROL,
    "nn": CONTROL | {"nn"},
    "optim": CONTROL | {"optim"},
    "passes": OPS | {"control", "passes"},
    "backends": BACKENDS,
    "executable": RUN,
    "compiler": RUN | {"compiler"},
    "train": RUN | {"compiler", "train"},
    "viz": RUN | {"compiler", "viz"},
}
ANYTHING = {"cli", ""}  # the command, and graphc/__init__.py

Import = tuple[int, str]  # line, module


def module_of(path: Path) -> str:
    """Return the name under which a file of the three folders is imported."""
    folder, *rest = path.relative_to(ROOT).with_suffix("").parts
    if rest[-1] == "__init__":
        rest.pop()
    return ".".join([FOLDERS[folder], *rest])


def files() -> list[Path]:
    return sorted(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))


def imports(path: Path) -> Iterator[Import]:
    """Yield every import of a module of graphc, from anywhere in a file."""
    package = module_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    known = {module_of(p) for p in files()}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            parent = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*parent, *([node.module] if node.module else [])])
            # `from graphc.passes import cse` may name a module or something in one.
            whole = [f"{base}.{a.name}" for a in node.names]
            found = [w if w in known else base for w in whole]
        else:
            continue
        for name in found:
            if name.partition(".")[0] == "graphc":
                yield node.lineno, name


def layer(module: str) -> str:
    """Return `ir` for `graphc.ir.nodes`; nothing for `graphc` itself."""
    return [*module.split("."), ""][1]


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downward(path: Path) -> None:
    mine = layer(module_of(path))
    if mine in ANYTHING:
        return
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for line, name in imports(path)
        if layer(name) not in ALLOWED[mine]
    ]
    assert not upward, "\n".join(upward)


def test_layers_are_all_named() -> None:
    found = {layer(module_of(p)) for p in files()}
    assert found <= ALLOWED.keys() | ANYTHING


def test_backends_do_not_import_each_other() -> None:
    crossing = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for one, other in (("cpu", "cuda"), ("cuda", "cpu"))
        for path in (ROOT / "backends" / one).rglob("*.py")
        for line, name in imports(path)
        if name.startswith(f"graphc.backends.{other}")
    ]
    assert not crossing, "\n".join(crossing)


def test_prelude_imports_nothing_else_of_graphc() -> None:
    """A standalone export of a module copies the prelude along, and only that."""
    prelude = "graphc.backends.cpu.prelude"
    outside = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in (ROOT / "backends/cpu/prelude").rglob("*.py")
        for line, name in imports(path)
        if not name.startswith(prelude)
    ]
    assert not outside, "\n".join(outside)
