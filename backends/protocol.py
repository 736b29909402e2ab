"""What a backend is: it turns a program into something that runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

from graphc.backends.shared.tuning import Tuning
from graphc.errors import CompileError
from graphc.ir.dims import Size
from graphc.ir.graph import Graph
from graphc.ir.nodes import Node
from graphc.ir.origins import Origin
from graphc.ir.program import Program
from graphc.ir.program.memory import Arena
from graphc.ir.target import Target

Array = np.ndarray[Any, Any]


class Kernel(Protocol):
    """One compiled nest."""

    name: str
    source: str
    nodes: tuple[Node, ...]
    origins: tuple[Origin, ...]
    flops: Size
    bytes: Size


class Bound(Protocol):
    """A program bound to sizes, ready to run."""

    arena: Arena

    @property
    def sizes(self) -> Mapping[str, int]:
        """The size of each dimension."""

    def run(self, inputs: Sequence[Array], out: Sequence[Array] | None) -> list[Array]:
        """Run a step: read inputs, update the states, return the outputs."""

    def quick(self, inputs: Sequence[Any], out: list[Any] | None) -> list[Array] | None:
        """Run a step, by a short way, if all are arrays just as `run` takes them.

        None: they are not, or there is no such way, and nothing was done.
        """


class Runner(Protocol):
    """A compiled program.

    program: what it runs: as it was given, or tuned. tuning: what was chosen.
    """

    program: Program
    tuning: Tuning

    @property
    def kernels(self) -> Sequence[Any]:
        """What was compiled; empty for an interpreter."""

    def bind(self, sizes: Mapping[str, int]) -> Bound:
        """Plan memory for these sizes; compiles nothing."""


class Backend(Protocol):
    """A way to run programs."""

    name: str
    target: Target

    def build(self, graph: Graph, program: Program, states: Sequence[Any]) -> Runner:
        """Compile a program. states: the Parameters of the program's states."""


@runtime_checkable
class Keeper(Backend, Protocol):
    """A backend that keeps compiled steps on disk, by what they are compiled from."""

    def keep(
        self, what: str, runner: Runner, states: Sequence[int], dims: Sequence[str]
    ) -> None:
        """Keep a step. states: which of the declared graph's it has."""

    def kept(
        self, what: str, states: Sequence[Any], look: Callable[[], Program]
    ) -> tuple[Runner, tuple[str, ...]] | None:
        """Return a step that was kept, and the names of its sizes.

        states: the Parameters of the declared graph. look: makes the program anew, for
        whoever looks into its kernels.
        """


@dataclass(frozen=True, slots=True)
class Choice:
    """What a caller of `compile` may say about the backend."""

    threads: int | None = None
    tune: bool | Literal["replay"] = False


def get_backend(name: str, choice: Choice) -> Backend:
    """Return a backend by name; imports only that one.

    Raises:  CompileError listing the known ones.
    """
    if name == "cpu":
        from graphc.backends.cpu.backend import CpuBackend

        return CpuBackend(choice.threads, choice.tune)
    if choice.tune and name in ("cuda", "reference"):
        raise CompileError(
            f"the backend {name!r} has nothing to tune",
            help='leave tune away, or use backend="cpu"',
        )
    if name == "cuda":
        from graphc.backends.cuda.backend import CudaBackend

        return CudaBackend()
    if name == "reference":
        from graphc.backends.reference.backend import ReferenceBackend

        return ReferenceBackend()
    raise CompileError(
        f"unknown backend {name!r}", help='use "cpu", "cuda" or "reference"'
    )
