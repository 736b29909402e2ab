"""Machine code of a module: found by its text, without the module and without Numba."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
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


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Path]:
    """Use an empty cache folder."""
    native.set_cache_folder(tmp_path)
    yield tmp_path
    native._folder.clear()


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
    (step,) = (tmp_path / "steps").iterdir()
    content = step.read_bytes()
    for rest in (b"", b"rubbish", content[:-1], content[:-1] + b"x"):
        step.write_bytes(rest)
        assert run_script(tmp_path) == [value, "[]", "[True, True]", "True"]
        assert step.read_bytes() == content
    (keys,) = (tmp_path / "modules").glob("*.keys")
    whole = keys.read_text()
    for damaged in ("", "[", "[1]", '["no such key"]', "{}"):
        step.unlink()
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

    builds = [partial(build, text) for text in texts]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(native.compile_object, builds))
    assert together == [native.compile_object(build) for build in builds]


def test_what_several_threads_want_is_compiled_once(cache: Path) -> None:
    built = []

    def build() -> llvm.ModuleRef:
        built.append(1)
        time.sleep(0.05)
        return unlocked.parse("define void @once() { ret void }")

    def load(_: int) -> native.Native:
        return native.load("once", "once", build, "once")

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(load, range(4)))
    assert built == [1]
    assert len({f.address for f in found}) == 1
