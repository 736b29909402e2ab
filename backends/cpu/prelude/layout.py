"""Say where things lie in a step's table and in a team's memory.

A table is an int64 array of rows, 8 words (one cache line) each:

    word  meaning
    0     address of the kernel; 0: the row calls nothing
    1     address of the kernel's args
    2     flags: BARRIER | ONE | JUMP
    3     JUMP: address of an int64, the condition
    4     JUMP: the row to go on with if the condition is not 0
    5-7   free for whoever makes the table; the driver does not look at them

A row is run in the order of its words: first the barrier (every share has finished the
rows before), then the kernel (`ONE`: by share 0 alone, as share 0 of 1), then the jump.
All shares must read the same condition: the row that jumps needs a barrier after the
row that writes the condition, and that row a barrier after the jump.
"""

from __future__ import annotations

ROW_WORDS = 8
ROW_BYTES = 8 * ROW_WORDS

BARRIER, ONE, JUMP = 1, 2, 4

# Byte offsets in a team's memory. Words that several threads write have a cache line
# (two, since x86 fetches lines in pairs) of their own.
# The word after a count holds how many threads sleep until it moves.
ARRIVED = 0  # shares that have come to the region, or POISON
COUNT = 128  # arrivals at barriers since the region began
SERIAL = 256  # 1: the region ran as one thread
TABLE = 384
N_ROWS = 392
NT = 400
PARALLEL_FOR = 424  # the address of Numba's function of this name
ARGS_BASE = 432  # three words for parallel_for: base address, number, step in bytes
RUNS = 456  # runs so far, serial ones included
TEAM_BYTES = 512

ADVANCE = 8  # the step in bytes: share t sees the base address + 8 t
POISON = -1

SPINS = 1000  # turns of a spin loop before it sleeps, about 0.05 ms
PATIENCE = SPINS + 30  # turns before a region gives up its team: 30 ms at most
