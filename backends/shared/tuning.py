"""What a tuner has chosen, and how it is shown.

sizes   chosen             default us  chosen us  from      nest
N=1000  far=ahead               166.7      126.5  measured  nest sum (i0: 256) {...}
N=1000  as the model says        12.1             file      nest add (i0: N) {...}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Value = str | int | bool
DEFAULT = "as the model says"


@dataclass(frozen=True)
class Decision:
    """What was chosen for a nest, and how long it takes by itself, in microseconds.

    text: the nest's first line. chosen: fields of its schedule, by name; none where the
    default is best. source: "file", "measured", or "default" where nothing is known and
    nothing may be measured. default, tuned: the least times either way, if known.
    """

    text: str
    chosen: Mapping[str, Value]
    source: str
    default: float | None = None
    tuned: float | None = None


@dataclass
class Tuning:
    """The decisions for each of the sizes that have been bound; prints as a table.

    Nests that are alike have one decision.
    """

    by_sizes: dict[tuple[tuple[str, int], ...], list[Decision]] = field(
        default_factory=dict
    )

    def add(self, sizes: Mapping[str, int], decisions: list[Decision]) -> None:
        """Take up what was decided for sizes."""
        alike = {id(d): d for d in decisions}
        self.by_sizes[tuple(sorted(sizes.items()))] = list(alike.values())

    @property
    def decisions(self) -> list[Decision]:
        """All of them, in order."""
        return [d for group in self.by_sizes.values() for d in group]

    def __str__(self) -> str:
        rows = [("sizes", "chosen", "default us", "chosen us", "from", "nest")]
        for sizes, decisions in self.by_sizes.items():
            shown = ", ".join(f"{name}={n}" for name, n in sizes)
            rows += [(shown, *_row(d)) for d in decisions]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = []
        for row in rows:
            cells = [
                cell.rjust(width) if i in (2, 3) else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines)


def chosen_text(chosen: Mapping[str, Value]) -> str:
    """Return choices as text."""
    return ", ".join(f"{name}={value}" for name, value in chosen.items()) or DEFAULT


def _row(d: Decision) -> tuple[str, str, str, str, str]:
    default = "" if d.default is None else f"{d.default:.1f}"
    tuned = "" if d.tuned is None or not d.chosen else f"{d.tuned:.1f}"
    return chosen_text(d.chosen), default, tuned, d.source, d.text
