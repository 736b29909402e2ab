"""A process for each peer, so that none lives with another's threads and settings.

    with Worker("jax") as worker:
        worker.build(work)
        worker.first(), worker.time(100), worker.temporaries()

A peer's threads sleep while it is not its turn, as they would in a program of its own.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import traceback
from types import TracebackType
from typing import Any

from benchmarks.networks import Array
from benchmarks.peers import PEERS, Step, UnsupportedError
from benchmarks.workloads import Workload

SPAWN = multiprocessing.get_context("spawn")


class PeerError(Exception):
    """Say what went wrong in a peer's process."""


def limit_threads(threads: int) -> None:
    """Let this process, and those that it starts, use so many cores and threads."""
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA", "GRAPHC"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    if hasattr(os, "sched_setaffinity"):  # JAX counts the cores that it may use
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])


class Worker:
    """A peer in a process of its own; what fails there is raised here.

    Raises:  UnsupportedError and PeerError, from every method.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._ours, theirs = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(peer, theirs), daemon=True)
        self._process.start()
        theirs.close()

    def build(self, work: Workload) -> None:
        """Build the workload's step; the one before is forgotten."""
        self._ask("build", work)

    def first(self) -> list[Array]:
        """Return what the first steps give; see `Step.first`."""
        found: list[Array] = self._ask("first")
        return found

    def time(self, runs: int) -> float:
        """Return the seconds that so many steps take."""
        return float(self._ask("time", runs))

    def temporaries(self) -> int | None:
        """Return the bytes of a step's temporaries, if the peer tells."""
        found: int | None = self._ask("temporaries")
        return found

    def _ask(self, method: str, *args: Any) -> Any:
        try:
            self._ours.send((method, args))
            kind, found = self._ours.recv()
        except (EOFError, OSError) as error:
            self._process.join(5)
            code = self._process.exitcode
            raise PeerError(f"the process ended with code {code}") from error
        if kind == "unsupported":
            raise UnsupportedError(found)
        if kind == "failed":
            raise PeerError(found)
        return found

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self._ours.close()  # the loop there ends
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()


def _serve(peer: str, pipe: Any) -> None:
    build: Any = None
    step: Step | None = None
    while True:
        try:
            method, args = pipe.recv()
        except EOFError:
            return
        try:
            if method == "build":
                step = None  # its memory goes before the next one's comes
                build = build or PEERS[peer].load()
                step, found = build(*args), None
            else:
                found = getattr(step, method)(*args)
        except UnsupportedError as error:
            pipe.send(("unsupported", str(error)))
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(f"{type(error).__name__}: {error}".split())
            place = f"{os.path.basename(last.filename)}:{last.lineno}"
            pipe.send(("failed", f"{text[:300]} ({place})"))
        else:
            pipe.send(("done", found))
