"""Run a step's table on a team of threads, in one parallel region.

A step is a table of kernels (``layout.py``). With one thread it is a plain loop; with
more, one region whose threads all walk through the table, share by share, with a spin
barrier where a row asks for one. The threads are those of the process's pool
(``pool.py``).

    team = Team()                   # as many threads as the process may use
    team.bind(table, len(table))    # again when the table has moved
    team.run()                      # 0.15 us more than its kernels; 1 us if nt > 1
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from . import driver, entry, layout, pool
from .layout import aligned_words

# --- how many threads --------------------------------------------------------------

_limit: list[int] = []


def set_threads(limit: int | None) -> None:
    """Use at most ``limit`` threads in teams made from now on; None: no limit."""
    _limit[:] = [] if limit is None else [max(1, limit)]


def threads() -> int:
    """Return how many threads a team gets.

    The least of the cores that the process may use, its cgroup's quota of processor
    time, and the limit: `set_threads`, else ``GRAPHC_NUM_THREADS``.
    """
    counts = [cores()]
    quota = cgroup_quota()
    if quota is not None:
        # Spinning threads that the quota takes off their cores cost more than they give
        counts.append(max(1, math.floor(quota)))
    if _limit:
        counts.append(_limit[0])
    else:
        named = os.environ.get("GRAPHC_NUM_THREADS", "")
        if named.isdecimal():
            counts.append(max(1, int(named)))
    return min(counts)


def cores() -> int:
    """Return the number of cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cgroup_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the cores' worth of time that the process's cgroup may use."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    quotas = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, read = root, _quota_v2
        elif "cpu" in controllers.split(","):
            base, read = root / "cpu", _quota_v1
        else:
            continue
        # A quota holds for everything below it. In a container the path may lead
        # outside of what is mounted, then only the root is there.
        folder = Path(path.lstrip("/"))
        for part in (folder, *folder.parents):
            quota = read(base / part)
            if quota is not None:
                quotas.append(quota)
    return min(quotas, default=None)


def _quota_v2(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None


def _quota_v1(folder: Path) -> float | None:
    try:
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        period = int((folder / "cpu.cfs_period_us").read_text())
        return quota / period if quota > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


# --- the team ----------------------------------------------------------------------


class _MethodDef(ctypes.Structure):
    """CPython's PyMethodDef."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("function", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


@cache
def _driver() -> _MethodDef:
    arguments = 0x0080  # METH_FASTCALL: the address of the arguments, and their number
    return _MethodDef(b"run", driver.addresses()["run"], arguments, None)


class Entry:
    """A way into a team's table: `enter` takes the arrays that a record speaks of."""

    def __init__(self, record: entry.Record) -> None:
        """Bind the driver's function to the record."""
        create = ctypes.pythonapi.PyCFunction_NewEx
        create.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
        create.restype = ctypes.py_object
        self._record = record  # the function knows its address alone
        self.enter: Callable[..., int] = create(
            ctypes.addressof(_driver()), record.address, None
        )


class Team:
    """Run tables on ``nt`` threads, by default on as many as `threads` says.

    A team belongs to one caller at a time: its memory holds the state of the region.
    A small one does not wait for threads that sleep: it runs on one then, and wakes
    them for the next runs if it runs often.
    """

    def __init__(self, nt: int | None = None, *, small: bool = False) -> None:
        """Make a team; it has no table yet."""
        self._memory = aligned_words(layout.TEAM_BYTES // 8)
        self._table: np.ndarray[Any, Any] | None = None
        self.address: int = self._memory.ctypes.data
        nt = threads() if nt is None else nt
        if nt > 1:
            self._memory[layout.POOL // 8] = pool.shared().address
            nt = min(nt, 1 + pool.shared().grow(nt - 1))
        self._set_nt(nt)
        self._memory[layout.SMALL // 8] = small
        self._entry = Entry(entry.Record(self.address))

    @property
    def nt(self) -> int:
        """Return how many threads the next run asks for."""
        return int(self._memory[layout.NT // 8])

    @property
    def small(self) -> bool:
        """Whether it leaves threads that sleep alone."""
        return bool(self._memory[layout.SMALL // 8])

    @property
    def runs(self) -> int:
        """Return how often the team has run."""
        return int(self._memory[layout.RUNS // 8])

    def bind(self, table: np.ndarray[Any, np.dtype[np.int64]], rows: int) -> None:
        """Run the first ``rows`` rows of ``table`` from now on."""
        self._table = table
        self._memory[layout.TABLE // 8] = table.ctypes.data
        self._memory[layout.N_ROWS // 8] = rows

    def run(self) -> bool:
        """Run the table; return whether it ran on the threads that were asked for.

        The result of the step is right in any case. The GIL is released meanwhile.
        """
        return self._entry.enter() == 0

    def entry(self, arrays: Sequence[entry.Wanted], given: int = 0) -> Entry | None:
        """Return the way into the table for a call's arrays; None if there is none.

        given: how many of them, the last ones, are a caller's own to write to.
        Its `enter` returns 0, or 1 after a run as one thread, or -1: the arrays are
        others than the wanted, and nothing ran.
        """
        if not entry.is_known():
            return None
        return Entry(entry.Record(self.address, arrays, given))

    def _set_nt(self, nt: int) -> None:
        self._memory[layout.NT // 8] = nt
