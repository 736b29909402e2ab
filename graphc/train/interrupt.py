"""Ctrl-C during a fit: it ends between two steps, so no step is done by half."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupt:
    """Whether Ctrl-C was pressed."""

    __slots__ = ("pressed",)

    def __init__(self) -> None:
        self.pressed = False


@contextmanager
def held_interrupt() -> Iterator[Interrupt]:
    """Note Ctrl-C instead of acting on it; a second one acts at once.

    What is inside looks at `pressed` where it can stop, and raises KeyboardInterrupt;
    if it does not, that is raised at the end. Where Python's own handler is not in
    place, or outside the main thread, nothing changes.
    """
    seen = Interrupt()

    def note(number: int, frame: FrameType | None) -> None:
        seen.pressed = True
        signal.signal(signal.SIGINT, signal.default_int_handler)

    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    try:
        if usual:
            signal.signal(signal.SIGINT, note)
    except ValueError:  # not the main thread
        usual = False
    try:
        yield seen
    finally:
        if usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)
    if seen.pressed:
        raise KeyboardInterrupt
