"""recompute: the same values in less memory, and what it says when it cannot."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim, passes
from graphc.errors import PassError
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.nodes import leaf_name
from graphc.ir.program import Program
from graphc.ir.program.interpret import run_program
from graphc.ir.program.verifier import verify_program
from graphc.passes.recompute import fullest
from graphc.passes.recompute_choice import choose
from graphc.passes.recompute_program import Rewriter
from graphc.passes.recompute_steps import Steps

Net = tuple[list[gc.Tensor], gc.Tensor, Any]
WIDTH = 6


def trained(x: gc.Tensor, h: gc.Tensor, optimiser: Any) -> Net:
    """Return inputs, loss and updates of a classifier."""
    y = gc.input("y", ("N",), dtype="int32")
    logits = nn.Dense(3)(h, training=True)
    loss = nn.losses.softmax_cross_entropy(logits, y)
    return [x, y], loss, optimiser.updates(loss)


def mlp(layers: int = 8, width: int = WIDTH, activation: str = "relu") -> Net:
    x = h = gc.input("x", ("N", width))
    for _ in range(layers):
        h = nn.Dense(width, activation=activation)(h, training=True)
    return trained(x, h, optim.SGD(0.01, momentum=0.9))


def dropout() -> Net:
    x = h = gc.input("x", ("N", WIDTH))
    for _ in range(4):
        h = nn.Dense(WIDTH, activation="tanh")(h, training=True)
        h = nn.LayerNormalization()(h, training=True)
        h = nn.Dropout(0.4)(h, training=True)
    return trained(x, h, optim.Adam(0.01))


def convnet() -> Net:
    x = gc.input("x", ("N", 1, WIDTH, WIDTH))
    h = nn.Conv2D(2, 3, padding="same")(x, training=True)
    for _ in range(2):
        k = nn.Conv2D(2, 3, padding="same", use_bias=False)(h, training=True)
        k = nn.BatchNormalization()(k, training=True)
        h = nn.Activation("relu")(h + k, training=True)
    h = nn.Dropout2D(0.3)(h, training=True)
    return trained(x, nn.Flatten()(h), optim.SGD(0.01, momentum=0.9))


def lstm() -> Net:
    x = gc.input("x", ("N", 3, WIDTH))
    h = nn.Dense(WIDTH, activation="tanh")(x, training=True)
    h = nn.LSTM(WIDTH, return_sequences=True)(h, training=True)
    h = nn.Dense(WIDTH, activation="tanh")(h, training=True)
    h = nn.LSTM(WIDTH)(h, training=True)
    return trained(x, h, optim.Adam(0.01))


def routines() -> Net:
    x = h = gc.input("x", ("N", WIDTH))
    for _ in range(3):
        h = gc.sort(nn.Dense(WIDTH, activation="tanh")(h, training=True), 1)
    return trained(x, h, optim.SGD(0.01))


NETS = [mlp, dropout, convnet, lstm, routines]
nets = pytest.mark.parametrize("make", NETS, ids=lambda f: f.__name__)


def planned(net: Net, run: Callable[..., Any]) -> tuple[Graph, Program]:
    inputs, loss, updates = net
    graph = Graph.build(inputs, [loss], list(updates.items()))
    return graph, run("default", graph)


def choices(steps: Steps) -> Iterator[Program]:
    """Yield all programs from doing nothing again to keeping next to nothing."""
    write = Rewriter(steps).program
    total = sum(steps.weights)
    for part in range(8, -1, -1):
        for fixed in (steps.costly, frozenset[int]()):
            yield write(choose(steps, total * part // 8, fixed))


def again(program: Program) -> list[Any]:
    """Return the tasks that are done again."""
    return [t for t in program.tasks if t.summary.endswith("again")]


def arrays(graph: Graph, n: int) -> dict[str, np.ndarray[Any, Any]]:
    """Return values for the inputs and states of a graph, by name."""
    rng = np.random.default_rng(0)
    found = {}
    for t in (*graph.inputs, *graph.states):
        shape = [s if isinstance(s, int) else n for s in t.shape]
        drawn = (
            rng.normal(size=shape) if t.dtype.is_float else rng.integers(0, 3, shape)
        )
        found[leaf_name(t)] = np.abs(drawn).astype(t.dtype.numpy)
    return found


# --- values ---------------------------------------------------------------------------


@nets
def test_whatever_is_done_again_every_value_keeps_its_bits(make, apply_passes) -> None:
    graph, program = planned(make(), apply_passes)
    given = arrays(graph, 5)
    ends = (*program.outputs, *program.states)
    wanted = run_program(program, given, {"N": 5})
    seen = set()
    for done in choices(Steps(program, 5)):
        verify_program(done)
        found = run_program(done, given, {"N": 5})
        for name in ends:
            np.testing.assert_array_equal(found[name], wanted[name], name)
        seen.add(len(again(done)))
    assert len(seen) > 2


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("make", [mlp, dropout, convnet], ids=lambda f: f.__name__)
def test_a_compiled_step_trains_to_the_same_bits(make, threads) -> None:
    inputs, loss, updates = make()
    plain, small = (
        gc.compile(inputs, loss, updates=updates, threads=threads, passes=text)
        for text in ("default", "default,recompute{fraction=0.9, size=37}")
    )
    assert again(small.program)
    assert small.memory(N=37).bytes < plain.memory(N=37).bytes
    first = [np.array(s.value) for s in plain.states]
    given = arrays(plain.declared, 37)
    data = [given[leaf_name(t)] for t in inputs]
    found = []
    for step in (plain, small):
        for state, value in zip(plain.states, first, strict=True):
            state.value = value
        losses = [step(*data) for _ in range(3)]
        found.append([*losses, *(np.array(s.value) for s in plain.states)])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_mask_is_drawn_again_before_the_steps_are_counted(apply_passes) -> None:
    _, program = planned(dropout(), apply_passes)
    steps = Steps(program, 64)
    done = Rewriter(steps).program(choose(steps, sum(steps.weights) // 2, frozenset()))
    order = {id(t): i for i, t in enumerate(done.tasks)}
    drawn = [(order[id(t)], set(t.reads)) for t in again(done)]
    counted = 0
    for t in done.tasks:
        for counter in t.writes:
            late = [i for i, reads in drawn if counter in reads]
            if counter.endswith("/step") and late:
                assert max(late) < order[id(t)]
                counted += 1
    assert counted


# --- memory ---------------------------------------------------------------------------


def bytes_of(program: Program, n: int) -> int:
    """Return the bytes of a program's arena."""
    assert program.plan is not None
    sizes = {k: evaluate(b.bytes, {"N": n}) for k, b in program.buffers.items()}
    return program.plan.place(sizes).bytes


@pytest.mark.parametrize("fraction", [0.9, 0.6, 0.45])
def test_memory_falls_as_it_should(fraction, apply_passes) -> None:
    _, program = planned(mlp(24), apply_passes)
    text = f"recompute{{fraction={fraction}, size=640}}"
    done = apply_passes(text, program)
    assert bytes_of(done, 640) <= fraction * bytes_of(program, 640)
    # The sizes of the batch scale what is kept; it need not be the one that was taken.
    assert bytes_of(done, 6400) <= fraction * bytes_of(program, 6400)


def test_the_more_memory_there_is_the_less_is_done_again(apply_passes) -> None:
    _, program = planned(mlp(24), apply_passes)
    texts = [f"recompute{{fraction={f}}}" for f in (0.45, 0.6, 0.75, 0.9)]
    counts = [len(again(apply_passes(t, program))) for t in texts]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] <= 24
    assert counts[-1] > 0


def test_what_costs_no_product_is_done_again_first(apply_passes) -> None:
    _, program = planned(dropout(), apply_passes)
    done = apply_passes("recompute{fraction=0.95}", program)
    assert again(done)
    assert not any("matmul" in t.name for t in again(done))


def test_megabytes_count_for_the_size_that_is_given(apply_passes) -> None:
    _, program = planned(mlp(24), apply_passes)
    needed = bytes_of(program, 1 << 16)
    assert needed > 20e6
    done = apply_passes("recompute{megabytes=20, size=65536}", program)
    assert bytes_of(done, 1 << 16) <= 20e6
    assert apply_passes("recompute{megabytes=20, size=4096}", program) is program


def test_a_step_within_its_budget_stays_the_same_object(apply_passes) -> None:
    x = gc.input("x", ("N", 4))
    done = apply_passes("default", Graph.build([x], [gc.tanh(x @ x.T)]))
    assert apply_passes("recompute{fraction=1.0}", done) is done
    assert apply_passes("recompute", done) is done  # there is nothing to place


def test_a_budget_that_cannot_be_met_says_what_was_reached(
    apply_passes, golden
) -> None:
    _, program = planned(mlp(6), apply_passes)
    with pytest.raises(PassError) as error:
        apply_passes("recompute{fraction=0.1}", program)
    golden("passes/recompute_error", str(error.value))
    reached = re.search(r"reached is ([\d.]+) MB", str(error.value))
    assert reached
    least = min(bytes_of(p, 1024) for p in choices(Steps(program, 1024)))
    assert float(reached[1]) * 1e6 <= 1.01 * least


def test_the_fullest_moment_names_all_that_is_alive(apply_passes) -> None:
    _, program = planned(mlp(6), apply_passes)
    found = fullest(program, Steps(program, 64))
    assert sum(found.values()) <= bytes_of(program, 64)
    assert set(found) <= {x.buffer for x in program.plan.lifetimes}


def test_it_runs_only_if_it_is_asked_for() -> None:
    assert "recompute" not in ",".join(passes.DEFAULT)


# --- how long it takes ----------------------------------------------------------------


@pytest.mark.long
def test_a_hundred_layers_need_a_quarter_of_the_memory_and_little_more_time() -> None:
    inputs, loss, updates = mlp(100, 256)
    texts = ("default", "default,recompute{fraction=0.24}")
    plain, small = (
        gc.compile(inputs, loss, updates=updates, passes=t, threads=1) for t in texts
    )
    assert small.memory(N=1024).bytes <= plain.memory(N=1024).bytes / 4
    given = arrays(plain.declared, 1024)
    data = [given[leaf_name(t)] for t in inputs]
    least = dict.fromkeys((plain, small), float("inf"))
    for _ in range(10):
        for step in least:
            start = time.perf_counter()
            step(*data)
            least[step] = min(least[step], time.perf_counter() - start)
    assert least[small] <= 1.4 * least[plain]
