"""Say where things lie in a step's table and in a team's memory.

A table is an int64 array of rows, 8 words (one cache line) each:

    word  meaning
    0     address of the kernel; 0: the row calls nothing
    1     address of the kernel's args
    2     flags: BARRIER | ONE | JUMP | BEGIN | AGAIN | ALONE
    3     JUMP: address of a byte, the condition; 0: there is none
          BEGIN, AGAIN: address of an int64, the number of the turn
    4     JUMP: the row to go on with if there is no condition, or it is 0
          AGAIN: the row that a turn begins with
          ALONE: the row that all shares but the first go on with
    5     AGAIN: how many turns there are, at least one
    6     BEGIN, AGAIN: which counter the loop has, less than COUNTERS
    7     free for whoever makes the table; the driver does not look at it

A row is run in the order of its words: first the barrier (every share has finished the
rows before), then the kernel (`ONE`: by share 0 alone, as share 0 of 1), then what
leads to another row. BEGIN sets a loop's counter and the number of its turn to 0, AGAIN
adds 1 to them and jumps back as long as turns are left.

All shares must read the same condition: the row that jumps needs a barrier after the
row that writes the condition, and that row a barrier after the jump. Each share has
counters of its own, and all of them write the same number of the turn, so AGAIN needs
a barrier of its own, and no other. What only share 0 comes by, behind ALONE, must have
no barriers, and its kernels ONE.
"""

from __future__ import annotations

ROW_WORDS = 8
ROW_BYTES = 8 * ROW_WORDS

BARRIER, ONE, JUMP, BEGIN, AGAIN, ALONE = 1, 2, 4, 8, 16, 32
CONTROL = JUMP | BEGIN | AGAIN | ALONE
COUNTERS = 8  # loops within each other

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
