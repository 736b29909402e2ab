"""The CPU backend: compile a program's kernels, bind sizes, run one native call a step.

A step is a table of rows, one for each nest: the address of its kernel, the address
of the kernel's words, and whether a barrier comes before it. The driver that runs the
table is compiled once for ever; binding a step to new sizes fills tables and compiles
nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc.backends.cpu import calls, lapack
from graphc.backends.cpu.code import Code
from graphc.backends.cpu.kernels import CpuKernel
from graphc.backends.cpu.machine import target
from graphc.backends.cpu.module import write_module
from graphc.backends.cpu.prelude import gemm, native
from graphc.backends.cpu.prelude.team import Team, aligned_words, threads
from graphc.backends.cpu.table import Step, Table, check_depth
from graphc.backends.cpu.tile_nest import operand_strides
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.costs import (
    barriers_run,
    bytes_of,
    flops_of,
    times_run,
)
from graphc.backends.shared.files import cache_folder
from graphc.ir.dims import Size, evaluate
from graphc.ir.graph import Graph
from graphc.ir.program import Call, Nest, Program, Task
from graphc.ir.program.memory import Arena

Array = np.ndarray[Any, Any]

# A step of less work than this (operations and bytes, so about 0.1 ms) runs on one
# thread: a team gains little there, and loses much where it has to share its cores.
PARALLEL_WORK = 4_000_000

# Each barrier takes a team as long as much work, and far longer where cores are shared,
# so for this many there must be so much: a loop of short turns runs on one thread.
BARRIERS = 40

# The most that each thread copies of a first operand. What a cache holds no more is
# still worth it: 2048 x 2048 transposed runs 1.6 times as fast from a copy.
TURNED_BYTES = 32 << 20
# So many bytes of copied panels a thread keeps over the turns of a loop.
KEPT_BYTES = 1 << 20


class CpuBackend:
    """Compiles for the machine it runs on. limit: at most so many threads."""

    name = "cpu"

    def __init__(self, limit: int | None = None) -> None:
        self.limit = limit
        self.target = target()

    def build(self, graph: Graph, program: Program, states: Sequence[Any]) -> Runner:
        """Compile the kernels of a program.

        Raises:  CompileError naming the kernel, its file and its nodes.
        """
        tiles = {
            dtype: (gemm.shape(dtype).rows, gemm.shape(dtype).columns)
            for dtype in ("float32", "float64")
        }
        for task in program.tasks:
            if isinstance(task, Call):
                calls.prepare(task, program)
        check_depth(program.body)
        source = write_module(program, tiles)
        native.set_cache_folder(cache_folder() / "objects")
        for nest in program.nests:
            if nest.schedule is not None and nest.schedule.strategy == "tile":
                gemm.prepare(nest.phases[0].reduces[0].dtype.name)
        code = Code(source)
        kernels = [
            CpuKernel(
                text,
                tasks,
                flops_of(tasks[0]),
                bytes_of(tasks[0], program),
                code.file,
                code,
                k,
            )
            for k, (text, tasks) in enumerate(
                zip(source.kernels, source.tasks, strict=True)
            )
        ]

        def refuse(k: int, error: Exception) -> NoReturn:
            raise kernels[k].failure(f"did not compile: {error}") from error

        addresses = code.addresses(refuse)
        steps = [(task, addresses[i], words) for task, i, words in source.steps]
        return Runner(program, kernels, steps, states, self.limit)


class Runner:
    """A compiled program."""

    def __init__(
        self,
        program: Program,
        kernels: Sequence[CpuKernel],
        steps: Sequence[Step],
        states: Sequence[Any],
        limit: int | None,
    ) -> None:
        self.program = program
        self.kernels = kernels
        self.steps = list(steps)
        self.states = states
        self.limit = limit
        self.held: contextlib.AbstractContextManager[None] = (
            lapack.ONE_THREAD
            if calls.needs_lapack(program)
            else contextlib.nullcontext()
        )
        self.constants = {
            name: aligned_copy(value) for name, value in program.constants.items()
        }
        self.arena: Array | None = None

    def memory(self, size: int) -> Array:
        """Return the arena; one serves all sizes, since steps exclude each other."""
        if self.arena is None or self.arena.nbytes < size:
            self.arena = aligned_words(-(-size // 8) + 8)
        return self.arena

    def bind(self, sizes: Mapping[str, int]) -> Bound:
        """Plan memory and fill the tables for these sizes."""
        return Bound(self, sizes)


class Bound:
    """A program bound to sizes: tables filled, memory placed."""

    def __init__(self, runner: Runner, sizes: Mapping[str, int]) -> None:
        self.runner = runner
        self.program = runner.program
        self.sizes = dict(sizes)
        buffers = self.program.buffers
        self.shapes = {
            name: tuple(evaluate(s, sizes) for s in b.shape)
            for name, b in buffers.items()
        }
        self.nbytes = {
            n: int(np.prod(s, dtype=np.int64)) * buffers[n].dtype.itemsize
            for n, s in self.shapes.items()
        }
        plan = self.program.plan
        assert plan is not None
        self.arena: Arena = plan.place(self.nbytes)
        program = self.program
        self._given = [*program.inputs, *program.outputs]
        self._outputs = [
            (self.shapes[n], buffers[n].dtype.numpy) for n in program.outputs
        ]
        limit = threads() if runner.limit is None else min(threads(), runner.limit)
        waits = barriers_run(program.body, sizes) / BARRIERS
        self.team = Team(limit if self._work() > PARALLEL_WORK * max(1, waits) else 1)
        self._place()

    def _work(self) -> int:
        """Return how many operations and bytes a step takes, all turns counted."""
        total = 0
        often = times_run(self.program.body, self.sizes)
        for (task, _, _), times in zip(self.runner.steps, often, strict=True):
            work = flops_of(task) + bytes_of(task, self.program)
            total += times * evaluate(work, self.sizes)
        return total

    # --- tables -------------------------------------------------------------------

    def _place(self) -> None:
        """Lay out the arena, each thread's scratch, and the tables."""
        steps = self.runner.steps
        self._kept = {
            id(s): 0 for s, _, w in steps if isinstance(s, Nest) and self._keeps(s, w)
        }
        scratch = max((self._scratch(s, w) for s, _, w in steps), default=0)
        # Behind what each task may use, panels that stay from turn to turn of a loop.
        for s, _, _ in steps:
            if isinstance(s, Nest) and id(s) in self._kept:
                self._kept[id(s)] = scratch
                scratch += self._panels(s)
        self._scratch_size = -(-scratch // 128) * 128
        buffers = self.arena.bytes
        self.arena = self.arena.beside(self._scratch_size * self.team.nt)
        self._memory = self.runner.memory(self.arena.bytes)
        base = self._memory.ctypes.data
        self._fixed: dict[str, int] = {
            n: base + offset for n, offset in self.arena.offsets.items()
        }
        for name, state in zip(self.program.states, self.runner.states, strict=True):
            self._fixed[name] = state.array.ctypes.data
        for name, value in self.runner.constants.items():
            self._fixed[name] = value.ctypes.data
        self._fill(base + buffers)

    def _scratch(self, task: Task, words: Sequence[Argument]) -> int:
        """Return how many bytes of scratch a thread needs for a task."""
        if isinstance(task, Call):
            return 8 * calls.scratch_words(task, self.sizes)
        if not any(w.kind == "scratch" for w in words):
            return 0
        return sum(self._rooms(task).values())

    def _rooms(self, nest: Nest) -> dict[str, int]:
        """Return the bytes of each part of a contraction's scratch."""
        dtype = nest.phases[0].reduces[0].dtype
        shape = gemm.shape(dtype.name)
        depth = evaluate(nest.phases[0].axes[0].extent, self.sizes)
        tall = -(-evaluate(nest.axes[-2].extent, self.sizes) // shape.rows)
        width = -(-shape.rows // shape.lanes) * shape.lanes
        panel, turned = self._copies(nest)
        sizes = {
            "c": shape.rows * shape.columns,
            "panel": depth * shape.columns * (panel and id(nest) not in self._kept),
            "turned": tall * width * depth * turned,
        }
        return {k: -(-n * dtype.itemsize // 64) * 64 for k, n in sizes.items()}

    def _keeps(self, nest: Nest, words: Sequence[Argument]) -> bool:
        """Decide whether a contraction's panels stay from turn to turn of its loop."""
        if not any(w.kind == "choice" and w.value == "keep b" for w in words):
            return False
        several = evaluate(nest.axes[-2].extent, self.sizes) > 1
        return several and self._panels(nest) <= KEPT_BYTES

    def _panels(self, nest: Nest) -> int:
        """Return the bytes of all panels of a second operand.

        A thread has room for all of them: a team that does not come together leaves the
        whole step to one.
        """
        *batch, _, j = nest.axes
        dtype = nest.phases[0].reduces[0].dtype
        shape = gemm.shape(dtype.name)
        depth = evaluate(nest.phases[0].axes[0].extent, self.sizes)
        bands = -(-evaluate(j.extent, self.sizes) // shape.columns)
        for axis in batch:
            bands *= evaluate(axis.extent, self.sizes)
        return -(-bands * depth * shape.columns * dtype.itemsize // 64) * 64

    def _copies(self, nest: Nest) -> tuple[bool, bool]:
        """Decide whether a contraction copies panels of b, and rows of a."""
        *_, i, j = nest.axes
        deep, across = operand_strides(nest, self.program)
        m, n = evaluate(i.extent, self.sizes), evaluate(j.extent, self.sizes)
        k = evaluate(nest.phases[0].axes[0].extent, self.sizes)
        dtype = nest.phases[0].reduces[0].dtype
        panel = id(nest) in self._kept or gemm.should_pack_b(
            m, n, evaluate(across, self.sizes), dtype.name
        )
        step = evaluate(deep, self.sizes)
        turned = gemm.should_pack_a(m, n, k, step, dtype.name)
        fits = m * k * dtype.itemsize <= TURNED_BYTES
        return panel, turned and fits

    def _fill(self, scratch: int) -> None:
        self._patches: list[list[int]] = [[] for _ in self._given]
        self._may_fail: list[tuple[int, Call]] = []

        def word(task: Task, word: Argument, at: int) -> int:
            return self._word(task, word, scratch, at)

        def number(size: Size) -> int:
            return evaluate(size, self.sizes)

        body, steps = self.program.body, self.runner.steps
        self._table = Table(body, steps, word, self._address, number)
        self.team.bind(self._table.rows, len(self._table))

    def _word(self, task: Task, word: Argument, scratch: int, at: int) -> int:
        value = word.value
        if word.kind == "size":
            assert not isinstance(value, str)
            return evaluate(value, self.sizes)
        if word.kind == "buffer":
            assert isinstance(value, str)
            return self._address(value, at)
        if isinstance(task, Call):
            if word.kind == "routine":
                return calls.routine_address(task, word, self.program)
            if word.name == calls.FAILED:
                self._may_fail.append((at, task))
                return 0
            return scratch if word.kind == "scratch" else self._scratch_size // 8
        if word.kind == "routine":
            which, _, dtype = str(value).partition(" ")
            find = gemm.tile_address if which == "tile" else gemm.pack_address
            return find(dtype)
        if word.kind == "scratch":
            if word.name == "panel" and id(task) in self._kept:
                return scratch + self._kept[id(task)]
            for part, room in self._rooms(task).items():
                if part == word.name:
                    return scratch
                scratch += room
        assert word.kind == "choice", word
        if word.name == "room":
            return self._scratch_size // task.phases[0].reduces[0].dtype.itemsize
        if value == "keep b":
            return int(id(task) in self._kept)
        return int(self._copies(task)[value == "pack a"])

    def _address(self, name: str, at: int) -> int:
        """Return where a buffer lies; `at` is the word that will say so."""
        root = self.program.root(name)
        if root in self._fixed:
            return self._fixed[root]
        # An input or an output: its address comes with each call.
        self._patches[self._given.index(root)].append(at)
        return 0

    # --- running ------------------------------------------------------------------

    def run(self, inputs: Sequence[Array], out: Sequence[Array] | None) -> list[Array]:
        """Run a step on C-contiguous arrays of the right dtypes and shapes."""
        if self.runner.arena is not self._memory:
            self._place()  # a larger size has replaced the arena
        if out is None:
            out = [np.empty(shape, dtype) for shape, dtype in self._outputs]
        words = self._table.words
        for array, places in zip((*inputs, *out), self._patches, strict=True):
            address = array.__array_interface__["data"][0]
            for at in places:
                words[at] = address
        with self.runner.held:
            self.team.run()
        for at, call in self._may_fail:
            if words[at]:
                words[at] = 0
                raise calls.failure(call)
        return list(out)


def aligned_copy(value: Array) -> Array:
    """Return a copy of an array that begins at a cache line."""
    words = aligned_words(-(-value.nbytes // 8) + 1)
    flat = words.view(np.uint8)[: value.nbytes].view(value.dtype)
    found = flat.reshape(value.shape)
    found[...] = value
    return found
