"""What tests of the cpu backend share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from graphc.backends.cpu.backend import Runner
from graphc.backends.cpu.prelude.layout import aligned_words

Array = np.ndarray[Any, Any]


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Put a pattern around the memory of each step that is bound from now on.

    What it gives is a check that the pattern round the last one is whole; it returns
    the bytes between.
    """
    margin, pattern = 4096, 0x5A5A5A5A5A5A5A5A
    made: list[Array] = []

    def memory(self: Runner, size: int) -> Array:
        words = -(-size // 8)
        whole = aligned_words(words + 2 * margin)
        whole.fill(pattern)
        made.append(whole)
        self.arena = whole[margin : margin + words]
        return self.arena

    def check() -> int:
        whole = made[-1]
        assert (whole[:margin] == pattern).all()
        assert (whole[-margin:] == pattern).all()
        return int(whole.nbytes) - 2 * margin * 8

    monkeypatch.setattr(Runner, "memory", memory)
    return check
