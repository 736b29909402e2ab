"""One nest alone, on memory of its own, to be timed with one schedule and another.

    program step { ... nest softmax (...) {...} ... }
                                                =>
    program softmax { input p0 ...  output p1 ...  nest softmax (...) {...} }

The user's states and inputs are not touched: numbers are random, integers are 0, which
is in range of all that they may count. All schedules run on the same memory, in turns,
so that what slows the machine down slows all of them down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.ir.dims import evaluate
from graphc.ir.program import Buffer, Nest, Program, Schedule
from graphc.ir.program.memory import MemoryPlan

if TYPE_CHECKING:
    from graphc.backends.cpu.backend import Bound

Array = np.ndarray[Any, Any]

# So long is a sample at least, and so long all of one schedule take; in seconds.
SAMPLE, WHOLE = 1e-4, 0.04
LEAST, MOST = 7, 25  # samples

# A page of memory, and where in one NumPy's large arrays begin.
PAGE, BEHIND = 4096, 16


@dataclass(frozen=True)
class Times:
    """The least and the median of samples of one run, in microseconds."""

    least: float
    median: float

    def beats(self, other: Times, margin: float) -> bool:
        """Whether both are less than the other's by more than a share of them."""
        low = 1.0 - margin
        return self.least < low * other.least and self.median < low * other.median


@dataclass(frozen=True)
class Memory:
    """A buffer's memory, as a state has it."""

    array: Array


def alone(nest: Nest, program: Program) -> Program:
    """Return the program of one nest of a program.

    What lies in the arena there is a state here, since both begin at a cache line.
    """
    names = list(dict.fromkeys((*nest.reads, *nest.writes)))
    for name in names:  # which grows by what these are views of
        source = program.buffers[name].view_of
        if source and source not in names:
            names.append(source)
    buffers = {n: _placed(program.buffers[n]) for n in names}
    roots = [b for b in buffers.values() if not b.view_of]
    by_space = {
        space: tuple(b.name for b in roots if b.space == space)
        for space in ("input", "state", "output")
    }
    return Program(
        nest.name,
        buffers,
        (nest,),
        by_space["input"],
        by_space["state"],
        by_space["output"],
        plan=MemoryPlan(()),
    )


def _placed(buffer: Buffer) -> Buffer:
    outside = buffer.space in ("input", "output")
    return buffer if outside else replace(buffer, space="state")


Bind = Callable[[Program, Sequence[Memory], Mapping[str, int]], "Bound"]


class Trial:
    """Times one nest with several schedules.

    bind: compiles a program, and binds it to states and to sizes.
    """

    def __init__(
        self,
        nest: Nest,
        program: Program,
        sizes: Mapping[str, int],
        bind: Bind,
    ) -> None:
        self.nest = nest
        self.program = alone(nest, program)
        self.sizes = sizes
        self._bind = bind
        self._memory = {
            name: self._filled(b)
            for name, b in self.program.buffers.items()
            if not b.view_of
        }
        changed = {self.program.root(n) for n in nest.writes}
        changed &= {self.program.root(n) for n in nest.reads}
        self._fresh = {name: self._memory[name].copy() for name in changed}
        self._known: dict[Schedule, Bound] = {}

    def bound(self, schedule: Schedule) -> Bound:
        """Return what runs the nest with a schedule; it has run once."""
        if schedule not in self._known:
            nest = self.nest.replace(schedule=schedule)
            program = self.program.replace(body=(nest,))
            states = [Memory(self._memory[name]) for name in program.states]
            bound = self._known[schedule] = self._bind(program, states, self.sizes)
            self._reset()
            bound.run(
                [self._memory[name] for name in program.inputs],
                [self._memory[name] for name in program.outputs],
            )
        return self._known[schedule]

    def times(
        self, schedules: Sequence[Schedule], patience: float = 1.0
    ) -> list[Times]:
        """Return how long the nest takes with each of these, measured in turns."""
        found = [self.bound(schedule) for schedule in schedules]
        once = min(self._sample(bound, 1) for bound in found)
        turns = max(1, round(SAMPLE / max(once, 1e-7)))
        count = patience * WHOLE / (turns * max(once, 1e-7))
        samples: list[list[float]] = [[] for _ in found]
        for _ in range(round(min(max(count, LEAST), patience * MOST))):
            for bound, mine in zip(found, samples, strict=True):
                mine.append(1e6 * self._sample(bound, turns))
        return [Times(min(mine), median(mine)) for mine in samples]

    def _sample(self, bound: Bound, turns: int) -> float:
        """Return the seconds of one of so many runs."""
        self._reset()
        start = time.perf_counter()
        for _ in range(turns):
            bound.again()
        return (time.perf_counter() - start) / turns

    def _reset(self) -> None:
        # What a nest reads and writes would grow, or fade into slow denormal numbers.
        for name, value in self._fresh.items():
            self._memory[name][...] = value

    def _filled(self, buffer: Buffer) -> Array:
        shape = tuple(evaluate(s, self.sizes) for s in buffer.shape)
        begin = 0 if buffer.space == "state" else BEHIND
        found = placed(shape, buffer.dtype.numpy, begin)
        if buffer.dtype.is_float:
            found[...] = np.random.default_rng(0).random(shape, np.float32) + 0.1
        return found


def placed(shape: tuple[int, ...], dtype: np.dtype[Any], begin: int) -> Array:
    """Return zeros that begin so many bytes behind the begin of a page.

    Where arrays lie to each other in their pages may double the time of a nest, so that
    it must not be left to chance.
    """
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    whole = np.zeros(size + 2 * PAGE, np.uint8)
    skip = (begin - whole.ctypes.data) % PAGE
    found: Array = whole[skip : skip + size].view(dtype).reshape(shape)
    return found
