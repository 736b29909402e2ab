"""`python -m benchmarks`: a table of training steps, graphc beside its peers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.peers import PEERS, installed
from benchmarks.timing import compile_times, in_turns
from benchmarks.workloads import WORKLOADS


def main(
    only: Annotated[list[str] | None, typer.Argument(help="workloads")] = None,
    seconds: Annotated[float, typer.Option(help="time for each workload")] = 10.0,
    compiling: Annotated[bool, typer.Option(help="also time compilation")] = True,
    to_json: Annotated[Path | None, typer.Option("--json", help="write here")] = None,
) -> None:
    """Time training steps in turns and print time, ratio and compile time."""
    rows: list[dict[str, Any]] = []
    peers = installed()
    for name, work in WORKLOADS.items():
        if only and name not in only:
            continue
        steps = {p: PEERS[p][1](work) for p in peers}
        times = in_turns(steps, seconds)
        for peer in peers:
            cold, warm = compile_times(peer, name) if compiling else (None, None)
            rows.append(
                {
                    "workload": name,
                    "peer": peer,
                    "least_us": times[peer].least * 1e6,
                    "median_us": times[peer].median * 1e6,
                    "ratio_least": times[peer].least / times["graphc"].least,
                    "ratio_median": times[peer].median / times["graphc"].median,
                    "gflops": work.flops / times[peer].least / 1e9,
                    "cold_s": cold,
                    "warm_s": warm,
                }
            )
    Console(width=110).print(_table(rows))
    if to_json:
        to_json.write_text(json.dumps(rows, indent=1) + "\n")


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("workload", "peer", title="training step, float32, all cores")
    for column in ("least us", "median us", "x graphc", "GFLOP/s", "cold s", "warm s"):
        table.add_column(column, justify="right")
    last = ""
    for r in rows:
        table.add_row(
            r["workload"] if r["workload"] != last else "",
            r["peer"],
            f"{r['least_us']:.1f}",
            f"{r['median_us']:.1f}",
            f"{r['ratio_least']:.2f} / {r['ratio_median']:.2f}",
            f"{r['gflops']:.1f}",
            "-" if r["cold_s"] is None else f"{r['cold_s']:.2f}",
            "-" if r["warm_s"] is None else f"{r['warm_s']:.2f}",
        )
        last = r["workload"]
    return table


if __name__ == "__main__":
    typer.run(main)
