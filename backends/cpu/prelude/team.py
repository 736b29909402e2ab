"""Run a step's table on a team of threads, in one parallel region.

A step is a table of kernels (``layout.py``). With one thread it is a plain loop; with
more, one OpenMP region whose threads all walk through the table, share by share, with a
spin barrier where a row asks for one. That costs one fork and join a step, about 3 us,
and 0.1 to 0.3 us a barrier, where a region a kernel would cost 3 us a kernel.

    team = Team()                   # as many threads as the process may use
    team.bind(table, len(table))    # again when the table has moved
    team.run()                      # 0.15 us more than its kernels; 3 us if nt > 1

The region is opened through the function that Numba's own `prange` calls, so it runs on
the threads that Numba would use, but the driver need not be compiled by Numba's
parallel pipeline (0.5 s), nor Numba be started in a warm process.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.machinery
import importlib.util
import math
import os
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from . import driver, entry, layout

# A team that did not come together this often in a row is given up.
STRIKES = 3


# --- how many threads --------------------------------------------------------------

_limit: list[int] = []
_forked: list[bool] = []


def set_threads(limit: int | None) -> None:
    """Use at most ``limit`` threads in teams made from now on; None: no limit."""
    _limit[:] = [] if limit is None else [max(1, limit)]


def threads() -> int:
    """Return how many threads a team gets.

    The least of the cores that the process may use, its cgroup's quota of processor
    time, and the limit: `set_threads`, else ``GRAPHC_NUM_THREADS``. It is 1 in a child
    of `os.fork`, where GNU OpenMP does not work, and without OpenMP.
    """
    if _forked:
        return 1
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
    n = min(counts)
    return n if n > 1 and threading_layer() == "omp" else 1


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


# --- the threading layer -----------------------------------------------------------


def threading_layer() -> str:
    """Return ``"omp"`` where Numba's OpenMP layer can be loaded, else ``"none"``.

    Numba's other layers are not used: a region of its work queue takes 57 us and must
    not be entered by two threads.
    """
    return "none" if _openmp() is None else "omp"


# GNU OpenMP's threads spin this often between regions before they sleep, some 1 ms: the
# time between two steps of a loop. A thread that sleeps at once is woken for each step,
# often beside the one that wakes it: after a pause of 0.2 s, products that take 1.3 ms
# took 2.5 for the next twenty. By itself it spins for some 10 ms, which starves whoever
# shares the cores, and this process too: with one other busy process, steps took 8 ms
# that take 0.6 to 1.5 ms so.
SPIN_COUNT = "20000"


@contextlib.contextmanager
def _short_spins() -> Iterator[None]:
    """Set the spin count while the library reads its environment, if nobody has."""
    names = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    if any(name in os.environ for name in names):
        yield
        return
    os.environ[names[0]] = SPIN_COUNT
    try:
        yield
    finally:
        os.environ.pop(names[0], None)


@cache
def _openmp() -> ModuleType | None:
    try:
        with _short_spins():
            layer = _load_openmp()
    except (ImportError, OSError):
        return None
    if layer is not None:
        # The layer kills a process whose parent's number is the one noted here, 0 until
        # then, and 0 is the parent of a container's first process. A count of 0 notes
        # this process's number and changes nothing else.
        ctypes.CFUNCTYPE(None, ctypes.c_int)(layer.launch_threads)(0)
    return layer


def _load_openmp() -> ModuleType | None:
    if "numba" in sys.modules:
        return importlib.import_module("numba.np.ufunc.omppool")
    # The extension stands for itself: loading it by its path saves importing Numba.
    found = importlib.util.find_spec("numba")
    if found is None:
        return None
    folders = found.submodule_search_locations or []
    spec = importlib.machinery.PathFinder.find_spec(
        "omppool", [str(Path(folder, "np", "ufunc")) for folder in folders]
    )
    return None if spec is None else importlib.util.module_from_spec(spec)


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
    return _MethodDef(b"run", driver.address(), arguments, None)


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
    Any number of teams may run at once, from several Python threads; each gets threads
    of its own from OpenMP.
    """

    def __init__(self, nt: int | None = None) -> None:
        """Make a team; it has no table yet."""
        self._memory = aligned_words(layout.TEAM_BYTES // 8)
        self._table: np.ndarray[Any, Any] | None = None
        self._strikes = 0
        self._last_serial = 0
        self.address: int = self._memory.ctypes.data
        omp = _openmp()
        nt = threads() if nt is None else nt
        if nt > 1 and (omp is None or _forked or not _comes_together(nt)):
            nt = 1
        words = {
            layout.PARALLEL_FOR: omp.parallel_for if omp is not None else 0,
            layout.ARGS_BASE: self.address,
            layout.ARGS_BASE + 16: layout.ADVANCE,
        }
        for offset, value in words.items():
            self._memory[offset // 8] = value
        self._set_nt(nt)
        self._entry = Entry(entry.Record(self.address))
        _teams.add(self)

    @property
    def nt(self) -> int:
        """Return how many threads the next run asks for."""
        return int(self._memory[layout.NT // 8])

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
        if self._entry.enter():
            self.ran_serially()
            return False
        return True

    def entry(self, arrays: Sequence[entry.Wanted], given: int = 0) -> Entry | None:
        """Return the way into the table for a call's arrays; None if there is none.

        given: how many of them, the last ones, are a caller's own to write to.
        Its `enter` returns 0, or 1 after a run as one thread, of which `ran_serially`
        wants to know, or -1: the arrays are others than the wanted, and nothing ran.
        """
        if not entry.is_known():
            return None
        return Entry(entry.Record(self.address, arrays, given))

    def _set_nt(self, nt: int) -> None:
        self._memory[layout.NT // 8] = nt
        self._memory[layout.ARGS_BASE // 8 + 1] = nt

    def ran_serially(self) -> None:
        """Stop asking for a team that does not come: each try costs 20 ms."""
        in_a_row = self.runs == self._last_serial + 1
        self._strikes = self._strikes + 1 if in_a_row else 1
        self._last_serial = self.runs
        if self._strikes >= STRIKES:
            self._set_nt(1)


# A child of fork has its parent's teams but not its threads.
_teams: weakref.WeakSet[Team] = weakref.WeakSet()


def _after_fork() -> None:
    _forked[:] = [True]
    for team in list(_teams):
        team._set_nt(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_probed: dict[int, bool] = {}


def _comes_together(nt: int) -> bool:
    """Tell whether OpenMP gives this process ``nt`` threads; ask it once."""
    if nt not in _probed:
        _probed[nt] = True  # so that the probe is not probed
        probe = Team(nt)
        _probed[nt] = any(probe.run() for _ in range(STRIKES))
    return _probed[nt]


def aligned_words(n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``n`` zeroed int64 that begin at a cache line (a pair of them, 128 B)."""
    whole = np.zeros(n + 16, np.int64)
    skip = (-whole.ctypes.data % 128) // 8
    return whole[skip : skip + n]
