"""What is printed: each workload's row, how far from its floor and from the limits."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rich.table import Table

from benchmarks.timing import Compiling, Times
from benchmarks.workloads import Workload

if TYPE_CHECKING:
    from benchmarks.machine import Limits

NEAR = 0.97  # of the floor counts, the machine is shared


@dataclass
class Row:
    """What was measured of one workload; peers that could not are in `reasons`."""

    work: Workload
    times: dict[str, Times] = field(default_factory=dict)
    temporaries: dict[str, int] = field(default_factory=dict)
    compiling: dict[str, Compiling] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def ratio(self, peer: str, median: bool = False) -> float | None:
        """Return how many times as long as graphc a peer takes."""
        if "graphc" not in self.times or peer not in self.times:
            return None
        if median:
            return self.times[peer].median / self.times["graphc"].median
        return self.times[peer].least / self.times["graphc"].least

    @property
    def fastest(self) -> float | None:
        """The ratio to the fastest peer."""
        ratios = [self.ratio(p) for p in self.times if p != "graphc"]
        return min((r for r in ratios if r is not None), default=None)

    @property
    def met(self) -> bool | None:
        """Whether the floor is reached; None where nothing was compared."""
        found = self.fastest
        return None if found is None else found >= NEAR * self.work.floor

    @property
    def needs_more(self) -> bool | None:
        """Whether graphc needs more memory than the peer that needs the least."""
        others = [n for p, n in self.temporaries.items() if p != "graphc"]
        if "graphc" not in self.temporaries or not others:
            return None
        return self.temporaries["graphc"] > min(others)

    def share(self, limits: Limits) -> float | None:
        """Return the least time that the machine allows, by the time it took."""
        if "graphc" not in self.times:
            return None
        least, _ = limits.seconds(self.work.flops, self.work.bytes)
        return least / self.times["graphc"].least

    def record(self, limits: Limits) -> dict[str, Any]:
        """Return everything for JSON."""
        peers = {
            p: {
                "least_us": t.least * 1e6,
                "median_us": t.median * 1e6,
                "free_turns": t.free,
                "ratio_least": self.ratio(p),
                "ratio_median": self.ratio(p, median=True),
                "gflops": self.work.flops / t.least / 1e9,
                "gbytes": self.work.bytes / t.least / 1e9,
                "temporaries_bytes": self.temporaries.get(p),
                **{
                    f"{name}_s": getattr(self.compiling.get(p), name, None)
                    for name in ("bare", "cold", "warm")
                },
            }
            for p, t in self.times.items()
        }
        return {
            "workload": self.work.name,
            "floor": self.work.floor,
            "ratio_to_fastest": self.fastest,
            "met": self.met,
            "limited_by": limits.seconds(self.work.flops, self.work.bytes)[1],
            "needs_more_memory": self.needs_more,
            "share_of_limit": self.share(limits),
            "peers": peers,
            "skipped": self.reasons,
        }


def line(row: Row) -> str:
    """Return a row in short, for those who wait."""
    times = (f"{peer} {t.least * 1e6:.1f}" for peer, t in row.times.items())
    found = "" if row.fastest is None else f"; {row.fastest:.2f} of {row.work.floor:g}"
    return f"{row.work.name}: {', '.join(times)} us{found}"


def geometric_mean(rows: Iterable[Row]) -> float | None:
    """Return that of the ratios to the fastest peer."""
    ratios = [r.fastest for r in rows if r.fastest is not None]
    return statistics.geometric_mean(ratios) if ratios else None


def speed(rows: Sequence[Row], peers: Sequence[str], limits: Limits) -> Table:
    """Return the table of times, ratios, floors and limits."""
    one, every = (f"{f / 1e9:.0f}" for f in (limits.flops_of_one, limits.flops))
    table = Table(
        title="us a step: least / median; each peer's time by graphc's (least)",
        caption=f"float32, {limits.threads} threads; limits: {every} GFLOP/s ({one} on "
        f"one core), {limits.bytes / 1e9:.1f} GB/s; free: turns with free cores",
    )
    table.add_column("workload", no_wrap=True)
    others = [p for p in peers if p != "graphc"]
    heads = (
        "graphc us",
        *others,
        "fastest",
        "floor",
        "",
        "GFLOP/s",
        "GB/s",
        "limit",
        "free",
    )
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        own = row.times.get("graphc")
        share, work = row.share(limits), row.work
        _, limit = limits.seconds(work.flops, work.bytes)
        table.add_row(
            work.name,
            f"{own.least * 1e6:.1f} / {own.median * 1e6:.1f}" if own else "failed",
            *(_number(row.ratio(p)) for p in others),
            _number(row.fastest),
            f"{work.floor:g}",
            {True: "[green]met", False: "[red]under", None: ""}[row.met],
            f"{work.flops / own.least / 1e9:.1f}" if own else "-",
            f"{work.bytes / own.least / 1e9:.1f}" if own else "-",
            "-" if share is None else f"{share:.0%} {limit}",
            f"{own.free:.0%}" if own else "-",
        )
    table.add_section()
    mean = geometric_mean(rows)
    met = f"{sum(r.met is True for r in rows)} of {len(rows)} met"
    table.add_row(
        "geometric mean", "", *("" for _ in others), _number(mean), "2.5", met
    )
    return table


def other(rows: Sequence[Row], peers: Sequence[str]) -> Table:
    """Return the table of compile times and of memory."""
    title = (
        "seconds to the first step: (with a bare cache) cold / warm; MB of temporaries"
    )
    table = Table(title=title)
    table.add_column("workload", no_wrap=True)
    for peer in peers:
        table.add_column(peer, justify="right", no_wrap=True)
    for row in rows:
        cells = []
        for peer in peers:
            parts = []
            if peer in row.compiling:
                took = row.compiling[peer]
                bare = f"({took.bare:.2f}) " * (took.bare != took.cold)
                parts.append(f"{bare}{took.cold:.2f} / {took.warm:.2f}")
            if peer in row.temporaries:
                colour = "[red]" * (peer == "graphc" and row.needs_more is True)
                parts.append(f"{colour}{row.temporaries[peer] / 1e6:.3f} MB")
            cells.append("  ".join(parts) or "-")
        table.add_row(row.work.name, *cells)
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
