"""The table that `model.summary()` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphc.nn.layer import Layer

if TYPE_CHECKING:
    from rich.table import Table

    from graphc.nn.model import Sequential


def summary_table(model: Sequential) -> Table:
    """Return layers, output shapes and numbers of parameters as a table."""
    from rich.table import Table

    table = Table(title=model.title, title_justify="left")
    table.add_column("Layer (type)")
    table.add_column("Output shape")
    table.add_column("Parameters", justify="right")
    for layer in model.layers:
        table.add_row(
            f"{layer.name} ({type(layer).__name__})",
            _shape(layer),
            f"{count_of(layer):,}" if layer.built else "?",
        )
    return table


def summary_totals(model: Sequential) -> list[str]:
    """Return the lines below the table."""
    if not model.built:
        return ["Not built yet: call fit, or model.build((None, features))."]
    total = count_of(model)
    kept = sum(int(s.value.size) for s in model.parameters)
    return [
        f"Total parameters: {total:,}",
        f"Trainable: {kept:,}",
        f"Not trainable: {total - kept:,}",
    ]


def count_of(layer: Layer) -> int:
    """Return how many numbers the states of a layer hold."""
    return sum(int(s.value.size) for s in layer.states)


def _shape(layer: Layer) -> str:
    if layer.output is None:
        return "?"
    return f"({', '.join(map(str, layer.output.shape))})"
