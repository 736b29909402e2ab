"""The definitions of benchmarks/: on graphc's backends they mean the same.

At toy sizes and without peers, so that a definition cannot rot between runs.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def _share() -> None:
    """Make benchmarks/ importable without the root, which need not be on the path."""
    if "benchmarks" in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(
        "benchmarks", FOLDER / "__init__.py", submodule_search_locations=[str(FOLDER)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["benchmarks"] = module
    spec.loader.exec_module(module)


_share()

from benchmarks import agreement, table, warm  # noqa: E402
from benchmarks.machine import Limits  # noqa: E402
from benchmarks.networks import (  # noqa: E402
    BatchNorm,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalMean,
    MaxPool,
    Recurrent,
    Relu,
    Residual,
)
from benchmarks.peers import Step, in_graphc  # noqa: E402
from benchmarks.timing import Times, in_turns  # noqa: E402
from benchmarks.workloads import (  # noqa: E402
    WORKLOADS,
    Formula,
    Training,
    Workload,
    convolution,
    matmul,
    mlp,
)

IMAGES = (Conv(2, 3), MaxPool(2), Relu(), Dropout(0.1, True), Flatten(), Dense(3))
RESIDUAL = (
    Residual((BatchNorm(), Conv(3, 3, 2, 1, False)), (Conv(3, 1, 2, bias=False),)),
    *(Relu(), GlobalMean(), Dense(3)),
)

TOYS: list[Workload] = [
    mlp(3, 4, 2, batch=5, floor=1),
    Training("images", 1, IMAGES, (1, 6, 6), 3, "sgd"),
    *(
        Training(kind, 1, (Recurrent(kind, 3), Dense(2)), (4, 2), 3)
        for kind in ("rnn", "lstm", "gru")
    ),
    Training("residual", 1, RESIDUAL, (2, 6, 6), 3, "sgd"),
    Formula("chain", 1, "chain", ((7,),) * 3, (7,), 11),
    Formula("layer norm", 1, "layer_norm", ((3, 5), (5,), (5,)), (3, 5), 8, True),
    Formula("softmax", 1, "softmax", ((3, 5),), (3, 5), 5, True),
    Formula("attention", 1, "attention", ((2, 5, 3),) * 3, (2, 5, 3), 20, True),
    *(matmul(form, 5) for form in ("matmul", "matmul_tn", "matmul_nt")),
    convolution(2, 3, 5),
]


@pytest.mark.parametrize("work", TOYS, ids=lambda w: w.name)
def test_workload_means_the_same_on_cpu_and_reference(work: Workload) -> None:
    work = work.without_chance()
    found = {b: in_graphc.build(work, b).first() for b in ("reference", "cpu")}
    agreement.check(work.name, found)
    if isinstance(work, Training):
        losses = found["cpu"]
        assert losses[0] > losses[1] > losses[2], "it does not learn"


def test_workloads_have_floors_and_costs() -> None:
    for work in WORKLOADS.values():
        assert work.floor >= 1
        assert work.flops > 0
        assert work.bytes > 0
    assert WORKLOADS["matmul-64"].flops == 2 * 64**3
    # Two products of the first layer (no gradient by x), three of the others.
    layers = 2 * (10 * 32) + 3 * (32 * 64 + 64 * 10)
    assert WORKLOADS["mlp-10-32-64-10"].flops == 2 * 32 * layers


def test_agreement_names_workload_and_peers() -> None:
    one = [np.array([1.0, 2.0], np.float32)]
    agreement.check("same", {"a": one, "b": [one[0] + np.float32(1e-5)]})
    with pytest.raises(agreement.DisagreementError, match=r"other: .* of a and b"):
        agreement.check("other", {"a": one, "b": [one[0] * 1.01]})
    with pytest.raises(agreement.DisagreementError, match="not finite"):
        agreement.check("broken", {"a": [one[0] * np.nan], "b": one})


def test_turns_count_runs() -> None:
    runs = [0, 0]

    def runner(i: int) -> Step:
        def run() -> None:
            runs[i] += 1

        return Step(run, lambda found: [])

    times = in_turns({"a": runner(0), "b": runner(1)}, seconds=0.0)
    assert min(runs) > 10
    assert all(0 < t.least <= t.median for t in times.values())


@pytest.mark.parametrize(("free_for", "least"), [(6, 1.0), (4, 0.5)])
def test_turns_count_where_cores_are_free_before_and_after(
    free_for: int, least: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first turns are on free cores; the others are shorter, but do not count."""
    clock = iter(range(1000))
    monkeypatch.setattr("benchmarks.timing.WARM_UP", -1)
    monkeypatch.setattr("benchmarks.timing.REST", 0)
    monkeypatch.setattr("benchmarks.timing.TURN", 1)
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    turns = 0

    class Fake:
        def time(self, runs: int) -> float:
            return 1.0 if turns <= free_for else 0.5

    def is_free() -> bool:
        nonlocal turns
        turns += 1
        return turns <= free_for + 1

    times = in_turns({"a": Fake()}, 12, is_free)["a"]
    assert times.free == free_for / (turns - 1)
    assert times.least == least


def test_row_compares_with_the_fastest_peer() -> None:
    work = WORKLOADS["matmul-64"]  # whose floor is 1.5
    times = {
        "graphc": Times(2e-6, 3e-6),
        "a": Times(3e-6, 9e-6),
        "b": Times(4e-6, 4e-6),
    }
    row = table.Row(work, times)
    assert row.fastest == pytest.approx(1.5)
    assert row.met
    assert row.ratio("a", median=True) == pytest.approx(3.0)
    limits = Limits(1e11, 1e12, 1e10, 2)
    assert row.share(limits) == pytest.approx(work.bytes / 1e10 / 2e-6)
    assert row.record(limits)["limited_by"] == "bytes"


@pytest.mark.parametrize(
    ("found", "more"),
    [
        ({"graphc": 5, "a": 4, "b": 9}, True),
        ({"graphc": 4, "a": 4, "b": 9}, False),
        ({"graphc": 4}, None),
        ({"a": 4}, None),
    ],
)
def test_row_compares_memory_with_the_least(found, more) -> None:
    row = table.Row(WORKLOADS["matmul-64"], temporaries=found)
    assert row.needs_more is more


def test_warm_processes_run_what_they_are_timed_for() -> None:
    step, trivial = warm.compare("matmul-64", repeats=1)
    assert 0.05 < step < 60
    assert 0.05 < trivial < 60
