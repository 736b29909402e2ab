"""Run a step's table: the driver, compiled once for ever.

`rows` walks through a table as one share of a team, `share` is what each thread of a
parallel region runs, `run` is what Python calls. See ``team.py`` for the table, the
team's memory and the use of all this.
"""

from __future__ import annotations

from numba import njit

from .kernel import kernel
from .layout import (
    ADVANCE,
    ARGS_BASE,
    ARRIVED,
    BARRIER,
    COUNT,
    JUMP,
    N_ROWS,
    NT,
    ONE,
    PARALLEL_FOR,
    PATIENCE,
    POISON,
    ROW_BYTES,
    ROWS,
    RUNS,
    SERIAL,
    SHARE,
    SPINS,
    TABLE,
)
from .machine import (
    add_atomic,
    call_kernel,
    call_parallel_for,
    call_rows,
    give_way,
    int_object,
    int_value,
    load_acquire,
    load_word,
    pause,
    release_gil,
    store_word,
    swap_if_equal,
    take_gil,
)


@njit(inline="always")
def _wait(spins: int) -> None:
    # A short wait costs least when spinning; in a long one the thread that everybody
    # waits for may need this very core.
    if spins < SPINS:
        pause()
    else:
        give_way()


@kernel(arguments="iiiii")
def rows(table: int, n_rows: int, t: int, nt: int, team: int) -> None:
    """Run all rows of a table as share ``t`` of ``nt``."""
    row = 0
    passed = 0  # what the team's count must reach at the next barrier
    while row < n_rows:
        here = table + row * ROW_BYTES
        flags = load_word(here + 16)
        if flags & BARRIER and nt > 1:
            passed += nt
            if add_atomic(team + COUNT, 1) + 1 < passed:
                spins = 0
                while load_acquire(team + COUNT) < passed:
                    _wait(spins)
                    spins += 1
        code = load_word(here)
        if code != 0:
            if flags & ONE == 0:
                call_kernel(code, load_word(here + 8), t, nt)
            elif t == 0:
                call_kernel(code, load_word(here + 8), 0, 1)
        row += 1
        if flags & JUMP and load_word(load_word(here + 24)) != 0:
            row = load_word(here + 32)


@kernel(arguments="iiii")
def share(args: int, dims: int, steps: int, team: int) -> None:
    """Run one share in a parallel region, if the whole team has come.

    Shares arrive by counting a word up. If they are not all there in time, one thread
    runs several shares in turn, and a barrier would wait for ever; then whoever first
    replaces the count by POISON runs the step alone.
    """
    t = (load_word(args) - team) // ADVANCE
    nt = load_word(team + NT)
    arrived = load_acquire(team + ARRIVED)
    while arrived >= 0:
        seen = swap_if_equal(team + ARRIVED, arrived, arrived + 1)
        if seen == arrived:
            arrived += 1
            break
        arrived = seen
    spins = 0
    while 0 <= arrived < nt:
        if spins < PATIENCE:
            _wait(spins)
            spins += 1
        elif swap_if_equal(team + ARRIVED, arrived, POISON) == arrived:
            store_word(team + SERIAL, 1)
            t, nt = 0, 1
            break
        arrived = load_acquire(team + ARRIVED)
    if arrived >= 0:
        call_rows(
            load_word(team + ROWS),
            load_word(team + TABLE),
            load_word(team + N_ROWS),
            t,
            nt,
            team,
        )


@njit(inline="always")
def _run(team: int, table: int, n_rows: int) -> int:
    nt = load_word(team + NT)
    store_word(team + RUNS, load_word(team + RUNS) + 1)
    if nt <= 1:
        call_rows(load_word(team + ROWS), table, n_rows, 0, 1, team)
        return 0
    store_word(team + TABLE, table)
    store_word(team + N_ROWS, n_rows)
    store_word(team + ARRIVED, 0)
    store_word(team + COUNT, 0)
    store_word(team + SERIAL, 0)
    call_parallel_for(
        load_word(team + PARALLEL_FOR),
        load_word(team + SHARE),
        team + ARGS_BASE,
        team + ARGS_BASE + 8,
        team + ARGS_BASE + 16,
        team,
        nt,
    )
    return int(load_word(team + SERIAL))


@kernel(arguments="iii", returns="i")
def run(team: int, table: int, n_rows: int) -> int:
    """Run a table on a team; return 1 if it ran as one thread against the wish.

    This is the entry for native callers.
    """
    return _run(team, table, n_rows)


@kernel(arguments="ii", returns="i")
def python_run(team: int, nothing: int) -> int:
    """Run a team's table: a CPython function without arguments, bound to an int.

    Such a function takes 0.1 us a call; one made by ctypes takes 0.4 us.
    """
    address = int_value(team)
    state = release_gil()
    serial = _run(address, load_word(address + TABLE), load_word(address + N_ROWS))
    take_gil(state)
    return int(int_object(serial))
