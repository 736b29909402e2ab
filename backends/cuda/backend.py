"""The CUDA backend in its simplest form: a launch for each nest, loops on the host.

Inputs and states are copied to the device before each step, outputs and the states
that it writes back after it. Temporaries lie in one arena, placed by the program's
memory plan, that stays on the device. A launch sees what those before it wrote, so
barriers need nothing.

Without a device every kernel is still compiled to PTX, and calling the step raises.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from graphc.backends.cuda.api import (
    NO_DEVICE,
    SIMULATED,
    compute_capability,
    cuda,
    has_device,
)
from graphc.backends.cuda.host import Host, nested
from graphc.backends.cuda.kernels import CudaKernel
from graphc.backends.cuda.module import write_module
from graphc.backends.cuda.nest import Launch
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.costs import bytes_of, flops_of
from graphc.backends.shared.files import load_module
from graphc.backends.shared.tuning import Tuning
from graphc.errors import CompileError
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.program import Call, Program
from graphc.ir.program.memory import Arena
from graphc.ir.target import Target

Array = np.ndarray[Any, Any]


class CudaBackend:
    """Compiles for the device, or for compute capability 9.0 where there is none."""

    name = "cuda"

    def __init__(self) -> None:
        self.cc = compute_capability()
        key = f"sm_{self.cc[0]}{self.cc[1]}"
        self.target = Target("cuda", lanes=1, tiles=True, key=key)

    def build(self, graph: Graph, program: Program, states: Sequence[Any]) -> Runner:
        """Write the kernels of a program, and compile them.

        Raises:  CompileError naming the kernel, its file and its nodes.
        """
        for s in program.tasks:
            if isinstance(s, Call):
                raise CompileError(
                    f"the cuda backend has no routine {s.routine!r}",
                    details=[s.summary],
                    where=s.origins[0].quoted if s.origins else "",
                    help='use backend="cpu" or "reference"',
                )
        source, launches = write_module(program)
        name = f"graphc_cuda_{source.digest}"
        module = load_module(name, source.text, source.lines())
        kernels = []
        for k, text in enumerate(source.kernels):
            tasks = source.tasks[k]
            kernels.append(
                CudaKernel(
                    text,
                    tasks,
                    flops_of(tasks[0]),
                    bytes_of(tasks[0], program),
                    str(module.__file__),
                    getattr(module, text.name),
                    self.cc,
                )
            )
        if not has_device():
            for kernel in kernels:
                assert kernel.ptx
        steps = [
            Step(kernels[k], words, launch)
            for (_, k, words), launch in zip(source.steps, launches, strict=True)
        ]
        return Runner(program, kernels, steps, states)


class Step:
    """A launch of a step, for any sizes."""

    def __init__(
        self, kernel: CudaKernel, words: tuple[Argument, ...], launch: Launch
    ) -> None:
        self.kernel = kernel
        self.words = words
        self.launch = launch

    def run(self, memory: Mapping[str, Any], sizes: Mapping[str, int]) -> None:
        """Launch the kernel on buffers in the device's memory."""
        blocks, threads = self.launch.grid(sizes)
        if blocks == 0:
            return
        args = [
            memory[w.value] if isinstance(w.value, str) else evaluate(w.value, sizes)
            for w in self.words
        ]
        try:
            self.kernel.function[blocks, threads](*args)
        except Exception as error:
            raise self.kernel.failed("failed", error) from error


class Runner:
    """A compiled program."""

    def __init__(
        self,
        program: Program,
        kernels: Sequence[CudaKernel],
        steps: Sequence[Step],
        states: Sequence[Any],
    ) -> None:
        self.program = program
        self.tuning = Tuning()  # nothing is
        self.kernels = kernels
        self.launches = nested(program.body, iter(steps))
        self.states = states
        self._constants: dict[str, Any] | None = None
        self._memory: Any = None
        self._bytes = 0

    def constants(self) -> dict[str, Any]:
        """Return the constants on the device."""
        if self._constants is None:
            found = {n: upload(v) for n, v in self.program.constants.items()}
            self._constants = found
        return self._constants

    def memory(self, size: int) -> Any:
        """Return the arena; one serves all sizes, since steps exclude each other."""
        if self._memory is None or self._bytes < size:
            self._memory = cuda.device_array(max(size, 1), np.uint8)
            self._bytes = size
        return self._memory

    def bind(self, sizes: Mapping[str, int]) -> Bound:
        """Plan memory for these sizes; needs no device."""
        return Bound(self, sizes)


class Bound:
    """A program bound to sizes."""

    def __init__(self, runner: Runner, sizes: Mapping[str, int]) -> None:
        self.runner = runner
        self.sizes = dict(sizes)
        buffers = runner.program.buffers
        self.shapes = {
            name: tuple(evaluate(s, sizes) for s in b.shape)
            for name, b in buffers.items()
        }
        self.nbytes = {n: evaluate(b.bytes, sizes) for n, b in buffers.items()}
        plan = runner.program.plan
        assert plan is not None
        self.arena: Arena = plan.place(self.nbytes)
        written = {n for s in runner.program.nests for n in s.writes}
        self.changed = [n for n in runner.program.states if n in written]

    def run(self, inputs: Sequence[Array], out: Sequence[Array] | None) -> list[Array]:
        """Run a step on C-contiguous arrays of the right dtypes and shapes.

        Raises:  CompileError if there is no device; the states are as they were.
        """
        if not has_device():
            raise CompileError("no CUDA device was found", help=NO_DEVICE)
        program, runner = self.runner.program, self.runner
        if out is None:
            out = [
                np.empty(self.shapes[n], program.buffers[n].dtype.numpy)
                for n in program.outputs
            ]
        states = {
            n: s.array for n, s in zip(program.states, runner.states, strict=True)
        }
        given = dict(zip(program.inputs, inputs, strict=True)) | states
        memory = runner.constants() | {n: upload(a) for n, a in given.items()}
        memory |= {
            n: cuda.device_array(max(a.size, 1), a.dtype)
            for n, a in zip(program.outputs, out, strict=True)
        }
        memory |= self._temporaries()
        with warnings.catch_warnings():
            if SIMULATED:  # its arithmetic is NumPy's, which warns of inf and NaN
                warnings.simplefilter("ignore", RuntimeWarning)
            host = Host(
                program,
                memory,
                lambda size: evaluate(size, self.sizes),
                lambda step: step.run(memory, self.sizes),
            )
            host.run(runner.launches)
        # All that can fail is done.
        for name, array in zip(program.outputs, out, strict=True):
            download(memory[name], array)
        for name in self.changed:
            download(memory[name], states[name])
        return list(out)

    def quick(self, inputs: Sequence[Any], out: list[Any] | None) -> None:
        """Do nothing: there is no short way."""

    def _temporaries(self) -> dict[str, Any]:
        """Return the temporaries as arrays in the arena."""
        arena = self.runner.memory(self.arena.bytes)
        found = {}
        for name, at in self.arena.offsets.items():
            dtype = self.runner.program.buffers[name].dtype.numpy
            room = max(self.nbytes[name], dtype.itemsize)
            found[name] = arena[at : at + room].view(dtype)
        return found


def upload(array: Array) -> Any:
    """Copy an array to the device, flat; an empty one gets an element, unread."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return cuda.to_device(flat if flat.size else np.zeros(1, flat.dtype))


def download(memory: Any, array: Array) -> None:
    """Copy the device's memory into a C-contiguous array."""
    if array.size:
        memory.copy_to_host(array.reshape(-1))
