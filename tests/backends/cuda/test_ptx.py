"""CUDA kernels compile to PTX without a GPU, and read well."""

from __future__ import annotations

import ast
import importlib.util
import runpy
from typing import Any

import numpy as np
import pytest

import graphc
from graphc.errors import CompileError
from graphc.executable import Executable

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")

from graphc.backends.cuda import api
from graphc.backends.cuda.api import has_device
from graphc.backends.cuda.backend import CudaBackend

no_device = pytest.mark.skipif(has_device(), reason="there is a CUDA device")


@pytest.mark.long
def test_every_kernel_of_a_digits_step_compiles_to_ptx(scenarios: Any) -> None:
    step, _ = scenarios.network((64, 32, 10), "cuda")
    assert len(step.kernels) >= 6
    for kernel in step.kernels:
        assert ".target sm_" in kernel.ptx
        assert ".visible .entry" in kernel.ptx
        assert ".f64" not in kernel.ptx, f"{kernel.name} widens float32"
        assert "define" in kernel.llvm
        assert kernel.nodes
        assert any(o.file.endswith("scenarios.py") for o in kernel.origins)
        ast.parse(kernel.source)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_every_primitive_compiles_to_ptx(scenarios: Any, dtype: str) -> None:
    program = scenarios.primitive_program(getattr(scenarios, dtype))
    (kernel,) = CudaBackend().build(None, program, ()).kernels  # type: ignore[arg-type]
    assert kernel.ptx


def small(backend: str = "cuda") -> Executable:
    x = graphc.input("secret", ("N", 4))
    w = graphc.parameter("__import__('os')", (4, 3))
    return graphc.compile([x], graphc.relu(x @ w), backend=backend)


def test_users_names_stay_out_of_kernels() -> None:
    (kernel,) = small().kernels
    assert "secret" not in kernel.source
    assert "import" not in kernel.source


def test_costs_are_those_of_the_cpu() -> None:
    (cuda,), (cpu,) = small().kernels, small("cpu").kernels
    assert (cuda.flops, cuda.bytes) == (cpu.flops, cpu.bytes)


def test_equal_kernels_are_compiled_once() -> None:
    x = graphc.input("x", ("N", 8))
    ws = [graphc.parameter(f"w{i}", (8, n)) for i, n in enumerate((8, 5))]
    h = graphc.relu(x @ ws[0])
    step = graphc.compile([x], graphc.relu(h @ ws[1]), backend="cuda")
    assert len(step.program.nests) == 2
    (kernel,) = step.kernels
    assert len(kernel.tasks) == 2


@no_device
def test_step_without_a_device_says_what_to_do() -> None:
    step = small()
    with pytest.raises(CompileError, match="no CUDA device") as error:
        step(np.zeros((2, 4), np.float32))
    assert "NUMBA_ENABLE_CUDASIM" in str(error.value)


def test_missing_numba_cuda_says_what_to_install(monkeypatch: Any) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CompileError, match="numba-cuda") as error:
        runpy.run_path(str(api.__file__))
    assert "graphc[cuda]" in error.value.help


def test_memory_is_planned_without_a_device() -> None:
    x = graphc.input("x", ("N", 64))
    step = graphc.compile([x], graphc.sum(graphc.softmax(x) @ x.T), backend="cuda")
    on_cpu = graphc.compile([x], graphc.sum(graphc.softmax(x) @ x.T), backend="cpu")
    assert step.memory(N=3).bytes > 0
    assert step.memory(N=3).offsets == on_cpu.memory(N=3).offsets


def test_routines_are_refused_by_name() -> None:
    x = graphc.input("x", ("N", 4))
    with pytest.raises(CompileError, match="cuda backend has no routine 'sort'") as e:
        graphc.compile([x], graphc.sort(x), backend="cuda")
    assert "test_ptx.py" in str(e.value)


def test_an_unknown_strategy_is_refused_by_name() -> None:
    program = small().program
    (nest,) = program.nests
    assert nest.schedule is not None
    other = nest.replace(schedule=type(nest.schedule)("diagonal"))
    with pytest.raises(graphc.GraphcError, match="diagonal"):
        CudaBackend().build(None, program.replace(body=(other,)), ())  # type: ignore[arg-type]


@no_device
def test_a_kernel_that_fails_to_compile_names_itself(monkeypatch: Any) -> None:
    def broken(*_: Any) -> Any:
        raise ValueError("no such type\nand more")

    monkeypatch.setattr("graphc.backends.cuda.kernels.compile_kernel", broken)
    with pytest.raises(CompileError, match="k0_matmul_relu did not compile") as error:
        small()
    assert "no such type" in str(error.value)
    assert "matmul" in error.value.details[1]


@pytest.mark.parametrize("axis", [0, 1])
def test_every_reduction_compiles_to_ptx(axis: int) -> None:
    x = graphc.input("x", ("N", "D"))
    names = ("sum", "prod", "max", "min", "any", "all", "argmax", "argmin")
    outputs = [getattr(graphc, name)(x, axis) for name in names]
    for kernel in graphc.compile([x], outputs, backend="cuda").kernels:
        assert ".visible .entry" in kernel.ptx
        assert ".f64" not in kernel.ptx, f"{kernel.name} widens float32"


@pytest.mark.parametrize("shape", ["points", "rows", "tile"])
def test_source_of_a_kernel(shape: str, golden: Any) -> None:
    x = graphc.input("x", ("N", 6))
    w = graphc.input("w", (6, 3))
    outputs = {
        "points": graphc.relu(x * 2.0 + 1.0),
        "rows": graphc.softmax(x),
        "tile": graphc.tanh(x @ w),
    }
    (kernel,) = graphc.compile([x, w], outputs[shape], backend="cuda").kernels
    golden(f"cuda/{shape}", kernel.source)
