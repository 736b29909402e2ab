"""The peers; each has a module with `build(work) -> Step`, loaded when needed."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.networks import Array
from benchmarks.workloads import Workload

CHECKED_RATE = 1e-3

# Once the first steps are checked, the learning rate is so small that thousands of
# steps on one batch leave the network as it is: one that has learnt its batch by heart
# has gradients of 0, whose squares are subnormal, which costs some processors a
# hundredfold.
TIMED_RATE = 1e-7


class UnsupportedError(Exception):
    """Say why a peer has no form of a workload."""


@dataclass
class Step:
    """A step that runs: a training step, or one evaluation of a formula.

    run: do one; the results are there when it returns. arrays: what `run` returned, as
    NumPy arrays in the workload's order. set_rate: change the learning rate.
    temporaries: the bytes that a step needs beside its arguments, states and results,
    for peers that tell.
    """

    run: Callable[[], Any]
    arrays: Callable[[Any], Sequence[Array]]
    set_rate: Callable[[float], None] | None = None  # None: nothing is trained
    temporaries: Callable[[], int | None] = lambda: None

    def first(self) -> list[Array]:
        """Return what an evaluation gives, or the losses of three steps of training."""
        if self.set_rate is None:
            return list(self.arrays(self.run()))
        self.set_rate(CHECKED_RATE)
        found = [self.arrays(self.run())[0] for _ in range(3)]
        self.set_rate(TIMED_RATE)
        return found

    def time(self, runs: int) -> float:
        """Return the seconds that so many steps take, one after the other."""
        start = time.perf_counter()
        for _ in range(runs):
            self.run()
        return time.perf_counter() - start


@dataclass(frozen=True)
class Peer:
    """A framework: the package that it needs, and the module that builds for it."""

    name: str
    package: str
    module: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def installed(self) -> bool:
        """Whether this Python can import it."""
        return importlib.util.find_spec(self.package) is not None

    def load(self) -> Callable[[Workload], Step]:
        """Import the framework, start its runtime, and return what builds steps."""
        module = importlib.import_module(f"benchmarks.peers.{self.module}")
        module.start()
        return functools.partial(module.build, **dict(self.options))


PEERS = {
    p.name: p
    for p in (
        Peer("graphc", "graphc", "in_graphc"),
        Peer("torch", "torch", "in_torch"),
        Peer("torch.compile", "torch", "in_torch", (("compiled", True),)),
        Peer("jax", "jax", "in_jax"),
        Peer("pytensor", "pytensor", "in_pytensor"),
    )
}
