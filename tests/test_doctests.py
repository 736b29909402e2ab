"""The examples in docstrings run.

pytest's own collection would import `passes/` and `backends/` under their bare names,
where they refuse to be imported; here every module is imported by its own name.
"""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import graphc
import graphc.backends
import graphc.passes
from graphc.ir.op import FUNCTIONS, OPS

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def modules() -> list[str]:
    """Return every module of the three folders."""
    found = {"graphc", "graphc.passes", "graphc.backends"}
    for package in (graphc, graphc.passes, graphc.backends):
        walk = pkgutil.walk_packages(package.__path__, package.__name__ + ".")
        found |= {m.name for m in walk}
    return sorted(found)


@pytest.mark.parametrize("name", modules())
def test_docstring_examples(name: str) -> None:
    known = dict(OPS), dict(FUNCTIONS)
    try:
        found = doctest.testmod(importlib.import_module(name), optionflags=OPTIONS)
    finally:  # an example may define an op
        for table, before in zip((OPS, FUNCTIONS), known, strict=True):
            for extra in table.keys() - before.keys():
                del table[extra]
    assert found.failed == 0
