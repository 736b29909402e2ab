"""The table of a step: a row for each task, and the words that its kernel reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from graphc.backends.cpu.prelude import layout
from graphc.backends.cpu.prelude.team import aligned_words
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.module import refused
from graphc.ir.program import Barrier, Call, Nest, Statement, Task

Array = np.ndarray[Any, Any]

# A task of a program, the address of its kernel, and what the kernel takes.
Step = tuple[Task, int, tuple[Argument, ...]]


class Table:
    """Rows for the statements of a body, in order; see prelude/layout.py.

    word: what a word holds, given its task, what it is, and its place in `words`.
    """

    def __init__(
        self,
        body: Sequence[Statement],
        steps: Sequence[Step],
        word: Callable[[Task, Argument, int], int],
    ) -> None:
        self.words = aligned_words(sum(len(w) for _, _, w in steps) + 8)
        self._steps: Iterator[Step] = iter(steps)
        self._word = word
        self._at = 0  # the next word to fill
        self._barrier = False  # before the next row
        self._rows: list[list[int]] = []
        self._fill(body)
        rows = aligned_words(layout.ROW_WORDS * max(len(self), 1))
        self.rows: Array = rows.reshape(-1, layout.ROW_WORDS)
        for row, words in zip(self.rows, self._rows, strict=False):
            row[: len(words)] = words

    def __len__(self) -> int:
        return len(self._rows)

    def _fill(self, body: Sequence[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Barrier):
                self._barrier = True
            elif isinstance(statement, (Nest, Call)):
                self._task(*next(self._steps))
            else:
                raise refused(statement)

    def _task(self, task: Task, kernel: int, words: tuple[Argument, ...]) -> None:
        start = self.words.ctypes.data + 8 * self._at
        self._row(kernel, start, 0 if _is_shared(task) else layout.ONE)
        for word in words:
            self.words[self._at] = self._word(task, word, self._at)
            self._at += 1

    def _row(self, kernel: int, start: int, flags: int, *jump: int) -> None:
        flags |= layout.BARRIER if self._barrier else 0
        self._rows.append([kernel, start, flags, *jump])
        self._barrier = False


def _is_shared(task: Task) -> bool:
    """Whether several shares of a task may run at once."""
    if isinstance(task, Call):
        return task.parallel
    assert task.schedule is not None
    return task.schedule.parallel
