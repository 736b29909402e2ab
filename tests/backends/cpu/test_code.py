"""Machine code of a module: found by its text, without the module and without Numba."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import llvmlite.binding as llvm
import pytest

import graphc
from graphc.backends.cpu.prelude import driver, native, unlocked

SCRIPT = dedent("""
    import sys
    import numpy as np
    import graphc
    x = graphc.input("x", ("N", 8))
    w = graphc.parameter("w", (8, 3), seed=0)
    step = graphc.compile([x], graphc.relu(x @ w).sum(axis=1), threads=1)
    print(step(np.arange(32, dtype=np.float32).reshape(4, 8)).tolist())
    print([m for m in ("numba", "sympy", "networkx") if m in sys.modules])
    print([k.from_cache for k in step.kernels])
    print(all(k.llvm and k.file.endswith(".py") for k in step.kernels))
""")


def run_script(folder: Path) -> list[str]:
    """Return what a fresh process prints whose cache is `folder`."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"GRAPHC_CACHE_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_warm_process_needs_no_numba(tmp_path: Path) -> None:
    value, loaded, cached, looked = run_script(tmp_path)
    assert loaded == "['numba']"
    assert cached == "[False, False]"
    assert looked == "True"
    assert run_script(tmp_path) == [value, "[]", "[True, True]", "True"]

    # Whatever is damaged or missing is made again.
    (keys,) = (tmp_path / "modules").glob("*.keys")
    whole = keys.read_text()
    for damaged in ("", "[", "[1]", '["no such key"]', "{}"):
        keys.write_text(damaged)
        assert run_script(tmp_path) == [value, "['numba']", "[True, True]", "True"]
        assert keys.read_text() == whole
    for file in (tmp_path / "objects").iterdir():
        file.write_bytes(b"rubbish")
    assert run_script(tmp_path) == [value, "['numba']", "[False, False]", "True"]
    assert run_script(tmp_path) == [value, "[]", "[True, True]", "True"]


def test_error_of_a_kernel_names_it(monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise native.NativeError("no")

    monkeypatch.setattr("graphc.backends.cpu.code.address", fail)
    x = graphc.input("x", (3,))
    with pytest.raises(graphc.GraphcError, match=r"kernel k0_.* did not compile: no"):
        graphc.compile([x], graphc.exp(x) * 0.123456)


def test_code_made_past_the_lock_is_the_same() -> None:
    text = driver.source("a_driver")
    found = []
    for module in (llvm.parse_assembly(text), unlocked.parse(text)):
        native.optimize(module)
        found.append(native.compile_object(lambda m=module: m))
    assert found[0] == found[1]
    assert unlocked._function("LLVMPY_RunNewModulePassManager", module) is not None


def test_threads_compile_at_once() -> None:
    texts = [driver.source(f"driver_{i}") for i in range(12)]

    def build(text: str) -> llvm.ModuleRef:
        module = unlocked.parse(text)
        native.optimize(module)
        return module

    waiting = [native.in_background(lambda t=t: build(t)) for t in texts]
    together = [made() for made in waiting]
    assert together == [native.compile_object(lambda t=t: build(t)) for t in texts]
