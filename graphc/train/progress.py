"""Progress: what a fit shows while it runs.

On a terminal a bar with epoch, steps, time a step, time left, loss and metrics; the
bar of a finished epoch becomes a line above it. Where the output is no terminal, or
with verbose=2, one line for each epoch; with verbose=0 nothing.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.origins import here

REFRESH = 0.1  # seconds between updates of the bar

Logs = Mapping[str, float]


class Progress:
    """Shows nothing, and is the base of those that show something.

    due: the time (of `time.perf_counter`) from which on `show` wants to be called.
    """

    def __init__(self, epochs: int, steps: int) -> None:
        self.epochs = epochs
        self.steps = steps
        self.due = float("inf")
        self.epoch = 0
        self._first = 0
        self._began = 0.0
        self._began_epoch = self._trained = 0.0

    def begin(self, epoch: int) -> None:
        """Note that an epoch begins (counted from 0)."""
        now = time.perf_counter()
        self.epoch = epoch
        self._began_epoch = self._trained = now
        if not self._began:
            self._began, self._first = now, epoch

    def show(self, done: int, logs: Logs) -> None:
        """Show how far the epoch is."""

    def trained(self, logs: Logs) -> None:
        """Note that all steps of the epoch are done; validation may follow."""
        self._trained = time.perf_counter()
        self.show(self.steps, logs)

    def end(self, logs: Logs) -> None:
        """Show the results of an epoch."""

    def close(self) -> None:
        """Take away what is still on the screen."""

    def heading(self) -> str:
        """Return the number of the epoch as people count."""
        return f"Epoch {self.epoch + 1}/{self.epochs}"

    def line(self, logs: Logs) -> str:
        """Return a finished epoch as a line."""
        whole = time.perf_counter() - self._began_epoch
        steps = self._trained - self._began_epoch
        parts = [
            self.heading(),
            f"{whole:.2f} s",
            f"{1e3 * steps / self.steps:.3g} ms/step",
            results(logs),
        ]
        return " - ".join(p for p in parts if p)

    def seconds_left(self, done: int) -> float:
        """Return how long the remaining epochs take at the speed so far."""
        finished = (self.epoch - self._first) * self.steps + done
        remaining = (self.epochs - self._first) * self.steps - finished
        spent = time.perf_counter() - self._began
        return spent / finished * remaining if finished else 0.0


class Lines(Progress):
    """Shows a line for each epoch."""

    def end(self, logs: Logs) -> None:
        """Print the line."""
        print(self.line(logs), flush=True)


class Bar(Progress):
    """Shows a bar for the epoch that runs, and lines for those that are done."""

    def __init__(self, epochs: int, steps: int, console: Any) -> None:
        super().__init__(epochs, steps)
        from rich.live import Live

        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def begin(self, epoch: int) -> None:
        """Start the bar again."""
        super().begin(epoch)
        self._live.start()
        self._draw(0, "")

    def show(self, done: int, logs: Logs) -> None:
        """Move the bar."""
        spent = time.perf_counter() - self._began_epoch
        speed = f"{1e3 * spent / done:.3g} ms/step"
        left = f"{clock(self.seconds_left(done))} left"
        self._draw(done, f" {speed} {left}  {results(logs, ' ')}")

    def end(self, logs: Logs) -> None:
        """Turn the bar into a line."""
        self._say(self.line(logs))

    def close(self) -> None:
        """Remove the bar."""
        self._live.stop()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _draw(self, done: int, text: str) -> None:
        """Draw the bar as wide as the line leaves room for."""
        from rich.text import Text

        heading, count = self.heading(), f" {done}/{self.steps}"
        room = self._console.width - len(heading) - len(count) - len(text) - 2
        width = min(max(room, 4), 24)
        full = width * done // self.steps
        mark = "#" if self._console.options.ascii_only else "━"
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(heading + " " if heading else "")
        line.append(mark * full, "green").append(mark * (width - full), "dim")
        line.append(count + text)
        self._live.update(line, refresh=True)
        self.due = time.perf_counter() + REFRESH


class Evaluation(Lines):
    """Shows a line with the results alone."""

    def line(self, logs: Logs) -> str:
        """Return the results."""
        return results(logs)


class EvaluationBar(Bar):
    """Shows a bar that becomes a line with the results, or nothing without any."""

    def heading(self) -> str:
        """Return nothing: there are no epochs."""
        return ""

    def end(self, logs: Logs) -> None:
        """Turn the bar into a line."""
        if logs:
            self._say(results(logs))


def make_progress(verbose: int | str, epochs: int, steps: int) -> Progress:
    """Return what shows a fit: verbose is "auto", 0, 1 or 2, as in Keras.

    Raises:  ArgumentError for anything else.
    Example:
        >>> type(make_progress(2, epochs=1, steps=10)).__name__
        'Lines'
    """
    console = _terminal(verbose)
    if console is not None:
        return Bar(epochs, steps, console)
    return Lines(epochs, steps) if verbose else Progress(epochs, steps)


def make_evaluation(verbose: int | str, steps: int, results: bool = True) -> Progress:
    """Return what shows an evaluation, or a prediction, which has no results."""
    console = _terminal(verbose)
    if console is not None:
        return EvaluationBar(1, steps, console)
    return Evaluation(1, steps) if verbose and results else Progress(1, steps)


def _terminal(verbose: int | str) -> Any:
    """Return the terminal to draw a bar on, or None."""
    if verbose not in ("auto", 0, 1, 2):
        raise ArgumentError(
            f"verbose must be 'auto', 0, 1 or 2, not {verbose!r}", where=here().quoted
        )
    if verbose not in ("auto", 1):
        return None
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else None


def results(logs: Logs, between: str = " - ") -> str:
    """Return measured numbers as text.

    Example:
        >>> results({"loss": 0.25, "accuracy": 1.0})
        'loss: 0.2500 - accuracy: 1.0000'
    """
    return between.join(f"{name}: {_digits(value)}" for name, value in logs.items())


def _digits(value: float) -> str:
    small = value != 0 and abs(value) < 1e-3
    return f"{value:.4e}" if small else f"{value:.4f}"


def clock(seconds: float) -> str:
    """Return a time as minutes and seconds.

    Example:
        >>> clock(75), clock(3700)
        ('1:15', '1:01:40')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
