"""Running steps: threads, forks, memory and the cache on disk."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import pace
from graphc.backends.cpu.prelude import team
from graphc.errors import GraphcError
from graphc.executable import Executable

Array = np.ndarray[Any, Any]

needs_two = pytest.mark.skipif(team.threads() < 2, reason="one thread is all there is")


def network(seed: int = 0, **options: Any) -> tuple[Executable, list[gc.Parameter]]:
    """Return a training step 64-32-10, written with tensors alone."""
    x, y = gc.input("x", ("N", 64)), gc.input("y", ("N",), "int32")
    w1 = gc.parameter("w1", (64, 32), seed=seed)
    b1 = gc.parameter("b1", (32,), init="zeros")
    w2 = gc.parameter("w2", (32, 10), seed=seed)
    b2 = gc.parameter("b2", (10,), init="zeros")
    hidden = gc.relu(x @ w1 + b1)
    scores = gc.log_softmax(hidden @ w2 + b2)
    loss = -gc.mean(gc.sum(gc.one_hot(y, 10) * scores, 1))
    weights = [w1, b1, w2, b2]
    updates = {
        w: w - 0.1 * g for w, g in zip(weights, gc.grad(loss, weights), strict=True)
    }
    return gc.compile([x, y], loss, updates=updates, **options), weights


def data(n: int, seed: int = 0) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    xs = rng.normal(0, 1, (n, 64)).astype(np.float32)
    return xs, np.argmax(xs[:, :10], 1).astype(np.int32)


def train(step: Executable, batches: int = 20) -> list[float]:
    return [float(step(*data(5 + 7 * (i % 5), i))) for i in range(batches)]


def values(weights: list[gc.Parameter]) -> list[Array]:
    return [w.value for w in weights]


def same(a: list[Array], b: list[Array]) -> bool:
    return all(x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


def at_once(*functions: Callable[[], Any]) -> None:
    """Run functions in threads of their own; raise what any of them raises."""
    errors: list[BaseException] = []
    start = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> None:
        start.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(f,)) for f in functions]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
        assert not t.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


# --- training is right, and the same every time -------------------------------------


def test_training_equals_numpy() -> None:
    step, (w1, b1, w2, b2) = network()
    p = [w.value.astype(np.float64) for w in (w1, b1, w2, b2)]
    for i in range(8):
        x, y = data(32, i)
        h = np.maximum(x @ p[0] + p[1], 0)
        z = h @ p[2] + p[3]
        e = np.exp(z - z.max(1, keepdims=True))
        q = e / e.sum(1, keepdims=True)
        loss = -np.mean(np.log(q[np.arange(32), y]))
        dz = (q - np.eye(10)[y]) / 32
        dh = (dz @ p[2].T) * (h > 0)
        grads = [x.T @ dh, dh.sum(0), h.T @ dz, dz.sum(0)]
        np.testing.assert_allclose(step(x, y), loss, 1e-5)
        p = [v - 0.1 * g for v, g in zip(p, grads, strict=True)]
    for w, v in zip((w1, b1, w2, b2), p, strict=True):
        np.testing.assert_allclose(w.value, v, 1e-4, 1e-6)


def test_training_twice_gives_equal_bits() -> None:
    runs = []
    for _ in range(2):
        step, weights = network()
        losses = train(step)
        runs.append([np.array(losses), *values(weights)])
    assert same(*runs)


@needs_two
def test_bits_do_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    runs = []
    for threads in (1, 2):
        step, weights = network(threads=threads)
        losses = train(step)
        assert {b.team.nt for b in step._bound.values()} == {threads}
        runs.append([np.array(losses), *values(weights)])
    assert same(*runs)


def test_the_network_learns() -> None:
    step, _ = network()
    x, y = data(256)
    losses = [float(step(x, y)) for _ in range(200)]
    assert losses[-1] < 0.5 * losses[0]


# --- several Python threads ---------------------------------------------------------


def test_one_step_called_from_several_threads() -> None:
    x = gc.input("x", ("N",))
    count = gc.variable("count", 0)
    total = gc.variable("total", np.zeros((), np.float64))
    wide = gc.cast(gc.sum(x), "float64")
    step = gc.compile([x], wide, updates={count: count + 1, total: total + wide})
    ones = [np.ones(n, np.float32) for n in (1, 100, 1000)]

    def work() -> None:
        for i in range(200):
            n = ones[i % 3]
            assert step(n) == len(n)

    at_once(work, work, work)
    assert count.value == 600
    assert total.value == 3 * (67 * 1 + 67 * 100 + 66 * 1000)


@needs_two
def test_one_parallel_step_called_from_several_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pace, "TEAM", -1)
    monkeypatch.setattr(pace, "BARRIER", 0)
    step, weights = network(threads=2)
    for w in weights:
        w.value = np.zeros(w.type.shape)
    x, y = data(64)
    expected, others = network(threads=1)
    for w in others:
        w.value = np.zeros(w.type.shape)
    for _ in range(40):
        expected(x, y)
    at_once(*[lambda: [step(x, y) for _ in range(20)]] * 2)
    assert same(values(weights), values(others))


def test_two_steps_that_share_a_state_exclude_each_other() -> None:
    x = gc.input("x", ())
    w = gc.parameter("w", (1000,), init="zeros")
    up = gc.compile([x], None, updates={w: w + x})
    spread = gc.compile([x], gc.max(w) - gc.min(w) + 0.0 * x)
    seen: list[float] = []
    one = np.float32(1)
    at_once(
        lambda: [up(one) for _ in range(300)],
        lambda: [up(one) for _ in range(300)],
        lambda: seen.extend(float(spread(one)) for _ in range(300)),
    )
    assert set(seen) == {0.0}, "a step saw half of an update"
    assert set(w.value.tolist()) == {600.0}


def test_states_can_be_read_and_set_while_a_step_runs() -> None:
    x = gc.input("x", ())
    w = gc.parameter("w", (4096,), init="zeros")
    step = gc.compile([x], None, updates={w: w + x})
    seen: list[float] = []

    def read() -> None:
        for _ in range(300):
            v = w.value
            seen.append(float(v.max() - v.min()))

    def write() -> None:
        for i in range(100):
            w.value = np.full(4096, float(i))

    at_once(lambda: [step(np.float32(1)) for _ in range(300)], read, write)
    assert set(seen) == {0.0}


def test_two_independent_steps_run_at_once() -> None:
    results: dict[int, list[Array]] = {}

    def work(k: int) -> None:
        step, weights = network(seed=k)
        train(step)
        results[k] = values(weights)

    at_once(lambda: work(1), lambda: work(2))
    for k in (1, 2):
        step, weights = network(seed=k)
        train(step)
        assert same(results[k], values(weights))


def test_compiling_in_two_threads_at_once() -> None:
    def work(k: int) -> None:
        x = gc.input("x", ("N",))
        y = x
        for i in range(4):
            y = gc.tanh(y * (1.0 + k + 0.25 * i)) + gc.mean(y * y)
        at = np.linspace(-1, 1, 37, dtype=np.float32)
        step = gc.compile([x], y)
        np.testing.assert_allclose(step(at), gc.evaluate(y, {x: at}), 1e-4, 1e-5)

    at_once(*[lambda k=k: work(k) for k in range(4)])


# --- other processes ----------------------------------------------------------------

MODEL = Path(__file__)


def python(text: str, **environment: str) -> str:
    """Run a script in a process of its own and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", dedent(text)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHORT = """
import os, sys, threading
import numpy as np, graphc as gc
from graphc.backends.cpu import pace
pace.TEAM, pace.BARRIER = -1, 0
x = gc.input("x", ("N", 8))
w = gc.parameter("w", (8, 3), init="ones")
loss = gc.mean(gc.tanh(x @ w) ** 2)
step = gc.compile([x], loss, updates={w: w - 0.5 * gc.grad(loss, w)})
xs = np.linspace(-1, 1, 80, dtype=np.float32).reshape(10, 8)
def run(n):
    for i in range(n):
        found = step(xs)
    return f"{float(found):.6f}"
"""


def expected_of(n: int) -> str:
    return python(SHORT + f"\nprint(run({n}))", GRAPHC_NUM_THREADS="1")


def test_a_child_of_fork_trains_on() -> None:
    text = """
    first = run(5)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, run(5).encode())
        os._exit(0)
    _, status = os.waitpid(child, 0)
    told = os.read(reader, 100).decode()
    print(status, told, run(5))  # each went on by itself
    """
    warned = "import warnings; warnings.simplefilter('ignore')\n"
    status, child, parent = python(warned + SHORT + dedent(text)).split()
    assert (status, child, parent) == ("0", expected_of(10), expected_of(10))


def test_a_child_of_fork_compiles() -> None:
    text = """
    run(3)
    child = os.fork()
    if child == 0:
        y = gc.compile([x], gc.softmax(x * 3.0, 0))
        right = gc.evaluate(gc.softmax(x * 3.0, 0), {x: xs})
        good = np.allclose(y(xs), right, atol=1e-6)
        os._exit(0 if good else 1)
    print(os.waitpid(child, 0)[1])
    """
    warned = "import warnings; warnings.simplefilter('ignore')\n"
    assert python(warned + SHORT + dedent(text)) == "0"


def test_a_fork_while_another_thread_runs_a_step() -> None:
    text = """
    stop = []
    def work():
        while not stop:
            step(xs)
    thread = threading.Thread(target=work)
    thread.start()
    bad = 0
    for _ in range(20):
        child = os.fork()
        if child == 0:
            w.value = np.ones((8, 3))
            os._exit(0 if run(3) == %r else 1)
        for _ in range(2000):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                break
            import time; time.sleep(0.01)
        else:
            os.kill(child, 9); os.waitpid(child, 0); status = "hangs"
        bad += status != 0
    stop.append(1)
    thread.join()
    print(bad)
    """
    warned = "import warnings; warnings.simplefilter('ignore')\n"
    assert python(warned + SHORT + dedent(text) % expected_of(3)) == "0"


@pytest.mark.parametrize(
    "environment",
    [
        {"OMP_THREAD_LIMIT": "1"},
        {"OMP_NUM_THREADS": "1"},
        {"GRAPHC_NUM_THREADS": "7"},
        {"GRAPHC_NUM_THREADS": "nonsense"},
        {"NUMBA_NUM_THREADS": "1"},
    ],
    ids=lambda e: "-".join(f"{k}={v}" for k, v in e.items()),
)
def test_whatever_threads_there_are_the_result_is_right(
    environment: dict[str, str],
) -> None:
    assert python(SHORT + "\nprint(run(20))", **environment) == expected_of(20)


# --- the cache ----------------------------------------------------------------------

CACHED = """
print([k.from_cache for k in step.kernels])
print(run(3))
"""
SAVED = """
import graphc as gc, numpy as np
x = gc.input("x", ("N", 8))
w = gc.parameter("w", (8, 3), init="ones")
{comment}
loss = gc.mean(gc.exp(x @ w) ** 2)  {comment}
step = gc.compile([x], loss, updates={{w: w - 0.01 * gc.grad(loss, w)}})
print([k.from_cache for k in step.kernels])
print(float(step(np.ones((4, 8)) / 9)))
"""


def test_a_comment_compiles_nothing_again(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    found = []
    for comment in ("", "# a comment\n\n# and another"):
        file.write_text(SAVED.format(comment=comment))
        text = f"import runpy; runpy.run_path({str(file)!r})"
        found.append(python(text, GRAPHC_CACHE_DIR=str(tmp_path / "cache")).split("\n"))
    assert set(eval(found[0][0])) == {False}
    assert set(eval(found[1][0])) == {True}
    assert found[0][1] == found[1][1]


def test_damaged_files_are_compiled_over(tmp_path: Path) -> None:
    folder = {"GRAPHC_CACHE_DIR": str(tmp_path)}
    _, result = python(SHORT + CACHED, **folder).split("\n")
    files = [f for f in tmp_path.rglob("*") if f.is_file() and f.suffix != ".pyc"]
    assert {f.suffix for f in files} >= {".o", ".py", ".json"}
    for damage in (lambda b: b[: len(b) // 2], lambda b: b"\0" * len(b), lambda b: b""):
        for f in files:
            f.write_bytes(damage(f.read_bytes()))
        again, repeated = python(SHORT + CACHED, **folder).split("\n")
        assert repeated == result
        assert True not in eval(again)
    healed, repeated = python(SHORT + CACHED, **folder).split("\n")
    assert set(eval(healed)) == {True}
    assert repeated == result


def test_a_folder_that_cannot_be_written_costs_only_the_cache(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    folder = {"GRAPHC_CACHE_DIR": str(blocked / "cache")}
    flags, result = python(SHORT + CACHED, **folder).split("\n")
    assert True not in eval(flags)
    assert result == expected_of(3)


def test_two_processes_compile_the_same_step_at_once(tmp_path: Path) -> None:
    environment = os.environ | {"GRAPHC_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", dedent(SHORT + CACHED)]
    both = [
        subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    told = [p.communicate(timeout=120) for p in both]
    assert [p.returncode for p in both] == [0, 0], told
    assert {out.strip().split("\n")[1] for out, _ in told} == {expected_of(3)}
    assert not [f for f in tmp_path.rglob("*") if ".tmp" in f.name or (f.suffix == ""
                and f.is_file())]  # fmt: skip


# --- sizes and memory ---------------------------------------------------------------


def test_memory_is_told_before_any_run() -> None:
    step, _ = network()
    small, large = step.memory(N=1), step.memory(N=1000)
    assert 0 < small.bytes < large.bytes
    shared = large.bytes - large.scratch
    assert shared <= large.unshared + 64 * len(large.offsets)
    for arena in (small, large):
        assert all(offset % 64 == 0 for offset in arena.offsets.values())
    with pytest.raises(GraphcError, match="memory: give a size for N"):
        step.memory()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_stay_within_the_memory_that_the_plan_said(
    dtype: str, guarded: Callable[[], int]
) -> None:
    """Copies of a transposed operand too, whose rows end with whole vectors."""
    a, b = gc.input("a", ("K", "M"), dtype), gc.input("b", ("N", "K"), dtype)
    step = gc.compile([a, b], gc.transpose(a) @ gc.transpose(b), threads=1)
    for k in (1, 65, 127, 129):
        sizes = {"M": 131, "N": 133, "K": k}
        given = [np.ones((k, 131), dtype), np.ones((133, k), dtype)]
        assert (step(*given) == k).all()
        assert guarded() == -(-step.memory(**sizes).bytes // 8) * 8


def test_buffers_that_live_at_once_do_not_overlap() -> None:
    step, _ = network()
    plan = step.program.plan
    assert plan is not None
    for n in (1, 7, 64):
        arena = step.memory(N=n)
        places = []
        for life in plan.lifetimes:
            shape = [
                gc.ir.dims.evaluate(s, {"N": n})
                for s in step.program.buffers[life.buffer].shape
            ]
            size = (
                int(np.prod(shape)) * step.program.buffers[life.buffer].dtype.itemsize
            )
            start = arena.offsets[life.buffer]
            places.append((start, start + size, life))
            assert start + size <= arena.bytes
        for a, (start, end, life) in enumerate(places):
            for other_start, other_end, other in places[a + 1 :]:
                pair = {life.buffer, other.buffer}
                if pair in ({x.buffer, x.over} for x in (life, other)):
                    continue  # read and written by one nest, element by element
                if life.first <= other.last and other.first <= life.last:
                    assert end <= other_start or other_end <= start


def test_many_sizes_in_any_order() -> None:
    x = gc.input("x", ("N", "M"))
    step = gc.compile([x], gc.softmax(x @ gc.transpose(x)) @ x)
    y = gc.softmax(x @ gc.transpose(x)) @ x
    rng = np.random.default_rng(0)
    for _ in range(100):
        at = rng.normal(0, 0.3, rng.integers(1, 40, 2)).astype(np.float32)
        found = step(at)
        np.testing.assert_allclose(found, gc.evaluate(y, {x: at}), 1e-4, 1e-5)
    assert len(step._bound) <= 64


def test_a_step_without_outputs_or_inputs() -> None:
    n = gc.variable("n", 0)
    step = gc.compile([], None, updates={n: n + 1})
    assert step() is None
    step()
    assert n.value == 2
    fixed = gc.compile([], [gc.iota(3), gc.constant([1.0, 2.0])])
    assert [f.tolist() for f in fixed()] == [[0, 1, 2], [1.0, 2.0]]


def test_outputs_keep_their_form() -> None:
    x = gc.input("x", ("N",))
    at = np.ones(2, np.float32)
    assert isinstance(gc.compile([x], x)(at), np.ndarray)
    assert isinstance(gc.compile([x], [x])(at), list)
    assert isinstance(gc.compile([x], (x, x))(at), tuple)
    assert list(gc.compile([x], {"b": x, "a": x})(at)) == ["b", "a"]
    assert gc.compile([x], [])(at) == []


@needs_two
@pytest.mark.parametrize(
    ("n", "threads", "small"), [(4, 1, False), (64, 2, True), (512, 2, False)]
)
def test_a_step_of_some_microseconds_has_a_small_team(
    n: int, threads: int, small: bool
) -> None:
    a, b = gc.input("a", (n, n)), gc.input("b", (n, n))
    step = gc.compile([a, b], a @ b, threads=2)
    step(*np.zeros((2, n, n), np.float32))
    (bound,) = step._bound.values()
    assert (bound.team.nt, bound.team.small) == (threads, small)
