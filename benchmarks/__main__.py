"""`python -m benchmarks`: graphc beside its peers, each row against its floor."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from benchmarks import agreement, table
from benchmarks.peers import PEERS, UnsupportedError
from benchmarks.timing import compile_times, in_turns
from benchmarks.worker import PeerError, Worker, limit_threads
from benchmarks.workloads import WORKLOADS, Workload

if TYPE_CHECKING:
    from benchmarks.machine import Limits, Machine

ALL = ",".join(PEERS)


def main(
    only: Annotated[
        list[str] | None, typer.Argument(help="workloads, by how their names start")
    ] = None,
    seconds: Annotated[float, typer.Option(help="of timing for each workload")] = 10.0,
    compiling: Annotated[bool, typer.Option(help="also time compilation")] = True,
    peers: Annotated[str, typer.Option(help="beside graphc, by commas")] = ALL,
    threads: Annotated[int, typer.Option(help="all cores unless given")] = 0,
    to_json: Annotated[Path | None, typer.Option("--json", help="write here")] = None,
) -> None:
    """Time workloads in turns; print ratios, floors, limits, compile time and memory.

    All peers must find the same before they are timed, or the run stops.
    """
    threads = threads or _cores()
    limit_threads(threads)
    from benchmarks.machine import Machine  # Numba counts threads at its import

    names = _chosen(only or [])
    console = Console(width=150)
    installed = [p for p in _named(peers) if PEERS[p].installed]
    for missing in sorted({*_named(peers)} - {*installed}):
        console.print(f"{missing}: not installed")
    machine = Machine(threads)
    limits = machine.limits
    rows: list[table.Row] = []
    with contextlib.ExitStack() as stack:
        workers = {p: stack.enter_context(Worker(p)) for p in installed}
        for name in names:
            try:
                row = _measured(WORKLOADS[name], workers, seconds, machine)
            except agreement.DisagreementError as error:
                console.print(f"[red]{error}")
                raise typer.Exit(1) from error
            for peer, reason in row.reasons.items():
                console.print(f"{name}: {peer} is left out: {reason}", markup=False)
            for peer in row.times if compiling else ():
                row.compiling[peer] = compile_times(peer, name)
            rows.append(row)
            console.print(table.line(row), markup=False)
            if to_json:  # after each, as a run takes long and may be cut short
                _write(to_json, rows, limits)
    console.print(table.speed(rows, installed, limits))
    console.print(table.other(rows, installed))


def _write(path: Path, rows: list[table.Row], limits: Limits) -> None:
    found = {
        "threads": limits.threads,
        "gflops_limit": limits.flops / 1e9,
        "gflops_limit_of_one": limits.flops_of_one / 1e9,
        "gbytes_limit": limits.bytes / 1e9,
        "geometric_mean": table.geometric_mean(rows),
        "rows": [row.record(limits) for row in rows],
    }
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _measured(
    work: Workload, workers: Mapping[str, Worker], seconds: float, machine: Machine
) -> table.Row:
    """Build the workload everywhere, compare, and time in turns.

    Raises:  DisagreementError
    """
    row, found = table.Row(work), {}
    calm = work.without_chance()
    for peer, worker in workers.items():
        try:
            worker.build(calm)
            found[peer] = worker.first()
            if calm is not work:
                worker.build(work)
                worker.first()
            memory = worker.temporaries()
        except (UnsupportedError, PeerError) as error:
            found.pop(peer, None)
            row.reasons[peer] = str(error)
            continue
        if memory is not None:
            row.temporaries[peer] = memory
    if found:
        agreement.check(work.name, found)
        row.times = in_turns({p: workers[p] for p in found}, seconds, machine.is_free)
    return row


def _chosen(starts: list[str]) -> list[str]:
    for start in starts:
        if not any(name.startswith(start) for name in WORKLOADS):
            known = ", ".join(WORKLOADS)
            raise typer.BadParameter(f"no workload starts with {start}: {known}")
    return [n for n in WORKLOADS if not starts or n.startswith(tuple(starts))]


def _named(peers: str) -> list[str]:
    named = [p.strip() for p in peers.split(",") if p.strip()]
    for peer in named:
        if peer not in PEERS:
            raise typer.BadParameter(f"no peer {peer}: {', '.join(PEERS)}")
    return list(dict.fromkeys(["graphc", *named]))


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


if __name__ == "__main__":
    typer.run(main)
