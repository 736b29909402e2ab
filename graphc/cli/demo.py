"""`graphc demo`: train a real classifier, and leave everything open on the table."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from graphc.cli.kernels import kernel_table
from graphc.cli.output import complain, print_table, row, table

if TYPE_CHECKING:
    import numpy as np

    from graphc.executable import Executable
    from graphc.nn import Sequential

    Array = np.ndarray[Any, Any]

GOAL = 0.97


def demo(
    out: Annotated[
        Path, typer.Option(help="The folder for drawings and the generated module.")
    ] = Path("graphc-demo"),
    seed: Annotated[
        int,
        typer.Option(help="For the held-out digits, the weights, order and dropout."),
    ] = 0,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the data.")] = 40,
    runs: Annotated[
        int,
        typer.Option(min=1, help="Train with that many seeds and print the median."),
    ] = 1,
) -> None:
    """Train a classifier of handwritten digits."""
    digits = _digits(seed)
    if runs > 1:
        _many(seed, epochs, runs)
        return
    from graphc.cli.demo_model import accuracy, digits_model, train

    print(
        f"{len(digits.train[0])} handwritten digits of 8x8 pixels to learn from, "
        f"{len(digits.test[0])} held out\n"
    )
    model = digits_model(seed)
    model.summary()
    train(model, *digits.train, epochs, [Compiled(model, out)])
    reached = accuracy(model, *digits.test)
    print(f"\naccuracy on the digits held out: {reached:.2%}")
    print(f"left in {out.resolve()}:")
    for name, what in FILES.items():
        print(f"  {name:<16}  {what}")
    _judge(reached, f"with seed {seed}, after {epochs} epochs, the accuracy")


FILES = {
    "model.svg": "the network",
    "step-before.svg": "the training step as declared: forward, backward, update",
    "step-after.svg": "the same after the passes, its fused groups as frames",
    "step.txt": "the loop nests that it was lowered to",
    "step.py": "the generated module, with all kernels",
}


class Compiled:
    """A callback: when the training step is compiled, shows what it became."""

    def __init__(self, model: Sequential, out: Path) -> None:
        self.model = model
        self.out = out
        self.began = time.perf_counter()

    def on_train_begin(self, logs: Mapping[str, float]) -> None:
        """Print the passes and kernels, and leave the files."""
        from graphc.cli.load import model_step

        seconds = time.perf_counter() - self.began
        step = model_step(self.model, "train")
        assert step is not None
        print("\nThe training step, pass by pass:")
        print_table(pass_table(step))
        print("\nIts kernels, N being the size of the batch:")
        print_table(kernel_table(step.kernels))
        print(f"\n{start_line(step, seconds)}\n")
        leave(self.model, step, self.out)


def pass_table(step: Executable) -> Any:
    """Return a table of passes: nodes before and after, and time."""
    made = table("pass", "before", "after", "ms", numbers=("before", "after", "ms"))
    levels = [level for _, level in step.stages]
    for (name, seconds), before, after in zip(
        step.timings, levels, levels[1:], strict=False
    ):
        row(made, name, len(before), len(after), f"{seconds * 1e3:.1f}")
    return made


def start_line(step: Executable, seconds: float) -> str:
    """Say whether the kernels came from the cache."""
    total = len(step.kernels)
    cached = sum(k.from_cache for k in step.kernels)
    if cached == total:
        return (
            f"warm start: all {total} kernels came from the cache; "
            f"ready in {seconds:.2f} s"
        )
    return (
        f"cold start: {total - cached} of {total} kernels were compiled; "
        f"ready in {seconds:.2f} s; the next run finds them in the cache"
    )


def leave(model: Sequential, step: Executable, out: Path) -> None:
    """Write the drawings, the loop nests and the generated module into a folder."""
    from graphc.cli.load import forward

    out.mkdir(parents=True, exist_ok=True)
    forward(model).draw(out / "model.svg")
    step.declared.draw(out / "step-before.svg")
    step.graph.draw(out / "step-after.svg")
    (out / "step.txt").write_text(f"{step.program.text()}\n", encoding="utf-8")
    shutil.copyfile(step.kernels[0].file, out / "step.py")


# --- data and verdict ---------------------------------------------------------------


@dataclass(frozen=True)
class Digits:
    """Pixels from 0 to 1 and labels, to train and to test."""

    train: tuple[Array, Array]
    test: tuple[Array, Array]


def _digits(seed: int) -> Digits:
    """Return the digits, a fifth of them held out at random."""
    import numpy as np

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        complain(
            "graphc demo takes its handwritten digits from scikit-learn, which is not "
            "installed.\n  help: pip install 'graphc[demo]', or in a clone: "
            "pip install -e '.[demo]'"
        )
        raise typer.Exit(1) from None
    found = load_digits()
    pixels = (found.data / 16).astype(np.float32)
    labels = found.target.astype(np.int32)
    order = np.random.default_rng(seed).permutation(len(labels))
    test, train = np.split(order, [len(labels) // 5])
    return Digits((pixels[train], labels[train]), (pixels[test], labels[test]))


def _many(seed: int, epochs: int, runs: int) -> None:
    from graphc.cli.demo_model import accuracy, digits_model, train

    reached = []
    for one in range(seed, seed + runs):
        digits, model = _digits(one), digits_model(one)
        train(model, *digits.train, epochs, verbose=0)
        reached.append(accuracy(model, *digits.test))
        print(f"seed {one:3}: {reached[-1]:.2%}", flush=True)
    median = statistics.median(reached)
    print(
        f"median of {runs}: {median:.2%}, from {min(reached):.2%} to {max(reached):.2%}"
    )
    _judge(median, f"the median of {runs} runs")


def _judge(reached: float, what: str) -> None:
    if reached < GOAL:
        complain(
            f"{what} is {reached:.2%}, under the {GOAL:.0%} that the network reaches.\n"
            "  help: with the default --epochs this is a fault of graphc; please "
            "report it with the output of graphc doctor"
        )
        raise typer.Exit(1)
