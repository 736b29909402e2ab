"""The table of a step: a row for each task, and the words that its kernel reads.

    loop i: 3 {          BEGIN i
      nest a        =>   a
    }                    AGAIN i 3, back to a, after a barrier
    if c {               JUMP where c is 0, to after b
      nest b             b
    }
    alone {              ALONE, for others to after c
      nest c             c, for one
    }
    8 parts {            PARTS 8, for a thread without a part to after e
      nest d             d
      nest e             e
    }                    NEXT, back to d
    2 strips {           a row that runs tables of their own
      loop i: 3 {...}
    }

Loops and branches are rows that lead to other rows, so a table has as many rows for
three turns as for three thousand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graphc.backends.cpu.parts import Parts
from graphc.backends.cpu.prelude import driver, layout
from graphc.backends.cpu.prelude.layout import aligned_words
from graphc.backends.cpu.sharing import Alone, Shared
from graphc.backends.cpu.strips import Step, Strip, Strips
from graphc.backends.shared.arguments import Argument
from graphc.errors import CompileError
from graphc.ir.dims import Size
from graphc.ir.program import (
    Barrier,
    Call,
    If,
    Loop,
    Nest,
    Region,
    Statement,
    Task,
    While,
)

Array = np.ndarray[Any, Any]

FLAGS, CELL, TARGET, TURNS, COUNTER, STEP = 2, 3, 4, 5, 6, 7  # words of a row


def check_depth(body: Sequence[Statement], outer: tuple[str, ...] = ()) -> None:
    """Refuse loops within more loops than the driver has counters for.

    Raises:  CompileError naming them.
    """
    for s in body:
        inner = (*outer, s.index) if isinstance(s, Loop) else outer
        if len(inner) > layout.COUNTERS:
            raise CompileError(
                f"{len(inner)} loops stand within each other, the cpu backend takes "
                f"{layout.COUNTERS}: {', '.join(inner)}",
                help='use backend="reference", or scan over fewer axes at a time',
            )
        for each in s.bodies if isinstance(s, Region) else ():
            check_depth(each, inner)


class Table:
    """Rows for the statements of a body, in order; see prelude/layout.py.

    word: what a word of a task holds, given also its place in `words`, and the thread
    that it is for where each has words of its own. address: of a scalar buffer, given
    also the place in `words` where it will stand. number: of a size. strip: of the
    memory that tells the driver a strip's table. The rows are the last of the words.
    """

    def __init__(
        self,
        body: Sequence[Shared],
        steps: Sequence[Step],
        word: Callable[[Task, Argument, int, int | None], int],
        address: Callable[[str, int], int],
        number: Callable[[Size], int],
        threads: int = 1,
        strip: Callable[[Strip, int], int] | None = None,
    ) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._word, self._address, self._number = word, address, number
        self._threads, self._strip = threads, strip
        copied = {id(nest) for s in body if isinstance(s, Parts) for nest in s.body}
        taken = sum(len(w) * (threads if id(s) in copied else 1) for s, _, w in steps)
        taken += sum(1 + len(s.strips) for s in body if isinstance(s, Strips))
        self._first = -(-taken // 16) * 16  # word of a row
        self._taken: list[int] = []  # what kernels take
        self._rows: list[list[int]] = []
        self._barrier = False  # before the next row
        self._alone = False  # whether the rows are those of one thread
        self._depth = 0
        self._fill(body)
        size = self._first + layout.ROW_WORDS * max(len(self), 1)
        self.words: Array = aligned_words(size)
        self.words[: len(self._taken)] = self._taken
        self.rows: Array = self.words[self._first :].reshape(-1, layout.ROW_WORDS)
        if self._rows:
            self.rows[:] = self._rows
            self.rows[:, 1] = self.words.ctypes.data + 8 * self.rows[:, 1]

    def __len__(self) -> int:
        return len(self._rows)

    # --- statements -------------------------------------------------------------------

    def _fill(self, body: Sequence[Shared]) -> None:
        passed = False  # the row before was a barrier for all that come by
        for s in body:
            if isinstance(s, Barrier):
                self._barrier = not passed
            elif isinstance(s, Alone):
                self._for_one(s)
            elif isinstance(s, Parts):
                self._parts(s)
            elif isinstance(s, Strips):
                self._strips(s)
            elif isinstance(s, (Nest, Call)):
                self._task(*next(self._steps))
            elif isinstance(s, If):
                self._branch(s)
            elif isinstance(s, While):
                self._while(s)
            else:
                self._loop(s)
            passed = isinstance(s, Loop) and self._number(s.count) > 0

    def _task(self, task: Task, kernel: int, words: tuple[Argument, ...]) -> None:
        flags = 0 if is_shared(task) else layout.ONE
        self._row(flags, kernel, len(self._taken))
        self._take(task, words, None)

    def _take(self, task: Task, words: tuple[Argument, ...], own: int | None) -> None:
        for word in words:
            self._taken.append(self._word(task, word, len(self._taken), own))

    def _parts(self, s: Parts) -> None:
        if self._alone:  # nothing is between the nests but their order
            self._fill(s.body)
            return
        begin = self._row(layout.PARTS)
        self._rows[begin][TURNS] = s.count
        for _ in s.body:
            task, kernel, words = next(self._steps)
            row = self._row(0, kernel, len(self._taken))
            self._rows[row][STEP] = 8 * len(words)
            # What a thread keeps between the tiles of a part is its own.
            for thread in range(self._threads):
                self._take(task, words, thread)
        self._rows[self._row(layout.NEXT)][TARGET] = begin + 1
        self._rows[begin][TARGET] = len(self)

    def _strips(self, s: Strips) -> None:
        if self._alone:
            self._loop(s.loop)
            return
        assert self._strip is not None
        for _ in s.strips[0].steps:
            next(self._steps)
        self._row(0, driver.addresses()["strips"], len(self._taken))
        self._taken.append(len(s.strips))
        self._taken += [self._strip(each, k) for k, each in enumerate(s.strips)]

    def _loop(self, s: Loop) -> None:
        turns = self._number(s.count)
        begin = self._row(layout.BEGIN if turns else layout.JUMP)
        counter, self._depth = self._depth, self._depth + 1
        self._fill(s.body)
        self._depth = counter
        self._barrier = True
        again = self._row(layout.AGAIN)
        for row in (begin, again) if turns else (again,):
            self._cell(row, s.index)
            self._rows[row][COUNTER] = counter
        self._rows[again][TARGET] = begin + 1
        self._rows[again][TURNS] = turns
        if not turns:
            self._rows[begin][TARGET] = len(self)

    def _branch(self, s: If) -> None:
        jump = self._jump(s.condition)
        self._fill(s.then)
        if s.otherwise:
            over = self._jump()
            self._rows[jump][TARGET] = len(self)
            self._fill(s.otherwise)
            jump = over
        self._settle()
        self._rows[jump][TARGET] = len(self)

    def _while(self, s: While) -> None:
        self._settle()
        top = len(self)
        self._fill(s.test)
        self._barrier = True
        leave = self._jump(s.condition)
        self._fill(s.body)
        self._barrier = True
        self._rows[self._jump()][TARGET] = top
        self._rows[leave][TARGET] = len(self)

    def _for_one(self, s: Alone) -> None:
        pass_by = self._row(layout.ALONE)
        self._alone = True
        self._fill(s.body)
        self._alone = self._barrier = False
        self._rows[pass_by][TARGET] = len(self)

    # --- rows -------------------------------------------------------------------------

    def _jump(self, condition: str = "") -> int:
        """Write a row that jumps, always or where a condition is 0."""
        row = self._row(layout.JUMP)
        if condition:
            self._cell(row, condition)
        return row

    def _cell(self, row: int, name: str) -> None:
        place = self._first + layout.ROW_WORDS * row + CELL
        self._rows[row][CELL] = self._address(name, place)

    def _settle(self) -> None:
        """Write a row for a barrier that others must not take for theirs."""
        if self._barrier and not self._alone:
            self._row(0)

    def _row(self, flags: int, kernel: int = 0, start: int = 0) -> int:
        if self._alone:
            flags |= layout.ONE
        elif self._barrier:
            flags |= layout.BARRIER
        rest = layout.ROW_WORDS - 3
        self._rows.append([kernel, start, flags, *[0] * rest])
        self._barrier = False
        return len(self._rows) - 1


def is_shared(task: Task) -> bool:
    """Whether several shares of a task may run at once."""
    if isinstance(task, Call):
        return task.parallel
    assert task.schedule is not None
    return task.schedule.parallel
