"""Say where things lie in a step's table, in a team's memory and in a pool's.

A table is an int64 array of rows, 8 words (one cache line) each:

    word  meaning
    0     address of the kernel; 0: the row calls nothing
    1     address of the kernel's args
    2     flags: BARRIER | ONE | JUMP | BEGIN | AGAIN | ALONE | PARTS | NEXT
    3     JUMP: address of a byte, the condition; 0: there is none
          BEGIN, AGAIN: address of an int64, the number of the turn
    4     JUMP: the row to go on with if there is no condition, or it is 0
          AGAIN: the row that a turn begins with
          ALONE: the row that all shares but the first go on with
          PARTS: the row that a share without a part goes on with
          NEXT: the row that a part begins with
    5     AGAIN: how many turns there are, at least one
          PARTS: how many parts there are
    6     BEGIN, AGAIN: which counter the loop has, less than COUNTERS
    7     how many bytes behind a share's args those of the next one are; mostly 0

A row is run in the order of its words: first the barrier (every share has finished the
rows before), then the kernel (`ONE`: by share 0 alone, as share 0 of 1), then what
leads to another row. BEGIN sets a loop's counter and the number of its turn to 0, AGAIN
adds 1 to them and jumps back as long as turns are left.

All shares must read the same condition: the row that jumps needs a barrier after the
row that writes the condition, and that row a barrier after the jump. Each share has
counters of its own, and all of them write the same number of the turn, so AGAIN needs
a barrier of its own, and no other. What only share 0 comes by, behind ALONE, must have
no barriers, and its kernels ONE.

PARTS gives each share its own of so many parts, and NEXT leads back until they are
done. A kernel between them runs once for each, as that share of as many as there are
parts; no other control and no barrier may stand there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

ROW_WORDS = 8
ROW_BYTES = 8 * ROW_WORDS

BARRIER, ONE, JUMP, BEGIN, AGAIN, ALONE, PARTS, NEXT = (1 << i for i in range(8))
CONTROL = JUMP | BEGIN | AGAIN | ALONE | PARTS | NEXT
COUNTERS = 8  # loops within each other

# Byte offsets in a team's memory. A word that threads wait for has a cache line (two,
# since x86 fetches lines in pairs) of its own; the word after it holds how many sleep
# until it moves.
COUNT = 0  # arrivals at barriers since the region began
TABLE = 128
N_ROWS = 136
NT = 144
POOL = 152  # the address of the pool whose threads the team runs on
RUNS = 160  # runs so far, those on one thread included
SMALL = 168  # 1: so small that it must not wait for threads to wake
TEAM_BYTES = 256

# And in a pool's.
JOB = 0  # which region runs and on how many threads: its number << NT_BITS | nt
DONE = 128  # shares of it that are done, the first one's aside
BUSY = 256  # 1 from the begin of a region to its end
TEAM_NOW = 384  # the address of its team; 0: the threads end
WORKERS = 392  # threads that wait for jobs
LOADS = 400  # a file that says how many threads run on the machine, or -1
CORES = 408  # of the machine
ASKED = 416  # when a small team last found threads asleep, in ns
ROUSED = 424  # when such a one last woke them
POOL_BYTES = 512

NT_BITS = 10
EVERYBODY = (1 << NT_BITS) - 1  # more than there are threads

# A thread that waits spins. Every LOOK turns, about 0.05 ms, it sleeps if the machine
# has more to run than cores; after PATIENCE turns, 5 ms, it sleeps in any case.
LOOK = 1024
PATIENCE = 100 * LOOK

# Small teams wake threads if they come so soon one after the other, but not so soon
# after they did so, in ns.
OFTEN, SELDOM = 5_000_000, 20_000_000


def aligned_words(n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return ``n`` zeroed int64 that begin at a cache line (a pair of them, 128 B)."""
    whole: np.ndarray[Any, Any] = np.zeros(n + 16, np.int64)
    skip = (-whole.ctypes.data % 128) // 8
    return whole[skip : skip + n]
