"""The threads that teams run on: one pool a process, of threads that wait for jobs.

They are Python threads that never come back from one native call (`serve` in
``driver.py``), so they need neither the GIL nor a threading library. A job costs about
a microsecond while they wait awake, which they do for 5 ms after the last one unless
the machine has more to run than cores; see ``layout.py`` for a pool's memory.

    pool = shared()
    pool.grow(1)            # for teams of two
    pool.address            # goes into a team's memory

One team runs at a time. Whoever comes meanwhile, from another Python thread, runs its
step on its own thread: the cores are busy. A child of `os.fork` has none of its
parent's threads; they are started again for the next team that is made in it.
"""

from __future__ import annotations

import atexit
import os
import threading
from functools import cache

from . import driver, layout, native
from .layout import aligned_words

LOADS = "/proc/loadavg"


class Pool:
    """Threads that run shares of a region; `grow` starts them."""

    def __init__(self) -> None:
        """Make a pool without threads."""
        self._memory = aligned_words(layout.POOL_BYTES // 8)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._ended = False
        self._set(layout.CORES, os.cpu_count() or 1)
        self._set(layout.LOADS, _loads())
        self.address: int = self._memory.ctypes.data

    def grow(self, workers: int) -> int:
        """Have at least so many threads, if the system gives them; return how many."""
        serve = native.c_function(driver.addresses()["serve"], 3)
        with self._lock:
            while not self._ended and len(self._threads) < min(
                workers, layout.EVERYBODY - 1
            ):
                # The jobs until now are not for the new thread; those after WORKERS has
                # changed may be.
                arguments = (
                    self.address,
                    len(self._threads) + 1,
                    self._get(layout.JOB),
                )
                thread = threading.Thread(
                    target=serve,
                    args=arguments,
                    name=f"graphc-{arguments[1]}",
                    daemon=True,
                )
                try:
                    thread.start()
                except RuntimeError:  # a limit of the system, or Python is ending
                    break
                self._threads.append(thread)
                self._set(layout.WORKERS, len(self._threads))
            return len(self._threads)

    def end(self) -> None:
        """End the threads, before the code that they run goes; a running team stays."""
        dismiss = native.c_function(driver.addresses()["dismiss"], 1, returns=True)
        with self._lock:
            self._ended = True
            if self._threads and dismiss(self.address):
                self._set(layout.WORKERS, 0)
                for thread in self._threads:
                    thread.join()
                self._threads.clear()

    def forget(self) -> None:
        """Forget the threads, which a child of fork has not."""
        self._lock = threading.Lock()
        self._threads.clear()
        for offset in (layout.WORKERS, layout.BUSY, layout.JOB + 8, layout.DONE + 8):
            self._set(offset, 0)

    def _get(self, offset: int) -> int:
        return int(self._memory[offset // 8])

    def _set(self, offset: int, value: int) -> None:
        self._memory[offset // 8] = value


@cache
def shared() -> Pool:
    """Return the process's pool."""
    pool = Pool()
    atexit.register(pool.end)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=pool.forget)
    return pool


def _loads() -> int:
    try:
        return os.open(LOADS, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
