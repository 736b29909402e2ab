"""graphc prepare: a program then compiles nothing but kernels of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import json
import graphc
from graphc.backends.cpu.prelude import native
made, make = [], native._make
native._make = lambda *asked: made.append(asked[3]) or make(*asked)
a, b = (graphc.input(n, s) for n, s in (("a", (70, 300)), ("b", (65, 300))))
graphc.compile([a, b], a @ b.T)
print(json.dumps(made))
"""


def compiled(folder: Path) -> list[str]:
    """Return the names of what a fresh process compiles for a product."""
    return json.loads(_run(folder, "-c", PROGRAM))


def _run(folder: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "GRAPHC_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_prepare_leaves_a_program_its_own_kernels(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    assert str(prepared) in _run(prepared, "-m", "graphc.cli", "prepare")
    (own,) = compiled(prepared)
    everything = compiled(tmp_path / "bare")
    assert own in everything
    assert "driver" in everything
    assert sum(name.startswith("gemm") for name in everything) >= 2
