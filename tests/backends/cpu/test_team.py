"""Teams: barriers hold, no step runs by half, nothing hangs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

PRELUDE_PARENT = Path(__file__).parents[3] / "backends" / "cpu"
sys.path.insert(0, str(PRELUDE_PARENT))

from prelude import driver, layout, native, pool, team, unlocked  # noqa: E402
from prelude.kernel import address, kernel  # noqa: E402
from prelude.layout import aligned_words  # noqa: E402
from prelude.team import Team  # noqa: E402

LINE = 8


@kernel
def add_neighbour(args, t, nt):
    """x[t] of the new array = x[t] + x[t + 1] of the old, a cache line a share."""
    old, new = args[0], 1 - args[0]
    x = 8
    left = args[x + (2 * t + old) * LINE]
    right = args[x + (2 * ((t + 1) % nt) + old) * LINE]
    args[x + (2 * t + new) * LINE] = left + right
    args[1 + t] += 1


@kernel
def turn(args, t, nt):
    """Exchange old and new; run by one share between barriers."""
    args[0] = 1 - args[0]
    args[7] -= 1


def table_of(*rows: tuple[int, ...]) -> np.ndarray:
    table = aligned_words(layout.ROW_WORDS * len(rows))
    table = table.reshape(len(rows), layout.ROW_WORDS)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def relay(steps: int, nt: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a table whose result is right only if every barrier holds."""
    args = aligned_words(8 + 2 * nt * LINE + 8)
    args[8 : 8 + 2 * nt * LINE : 2 * LINE] = 1
    both = layout.BARRIER | layout.ONE
    pair = [
        (address(add_neighbour), args.ctypes.data, layout.BARRIER),
        (address(turn), args.ctypes.data, both),
    ]
    return table_of(*pair * steps), args


def relay_result(args: np.ndarray, nt: int) -> list[int]:
    return args[8 + args[0] * LINE :: 2 * LINE][:nt].tolist()


@pytest.mark.parametrize("nt", [1, 2, 3, 4])
def test_barriers_hold_on_more_threads_than_cores(nt):
    table, args = relay(20, nt)
    own = Team(nt)
    own.bind(table, len(table))
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for _ in range(20 if nt <= 2 else 3):
            args[:] = 0
            args[8 : 8 + 2 * nt * LINE : 2 * LINE] = 1
            full = own.run()
            shares = nt if full else 1
            # A team that ran as one thread has computed share 0 of 1 only.
            assert relay_result(args, shares) == [2**20] * shares
            assert args[1 : 1 + shares].tolist() == [20] * shares
    finally:
        busy.kill()
        busy.wait()


def test_thousands_of_runs_and_barriers():
    table, args = relay(25, 2)
    own = Team(2)
    own.bind(table, len(table))
    done = sum(own.run() for _ in range(2000))
    assert own.runs == 2000
    assert args[1] == 25 * 2000
    assert args[2] == 25 * done


@kernel
def count(args, t, nt):
    """Count how often each share comes by; note the turn that args[0] holds."""
    args[8 * (t + 1)] += 1
    args[8 * (t + 1) + 1] += args[0]


@pytest.mark.parametrize("nt", [1, 2])
def test_a_row_jumps_where_a_byte_is_0(nt):
    args = aligned_words(32)
    bytes_ = np.zeros(2, np.bool_)
    at, flags = args.ctypes.data, bytes_.ctypes.data
    table = table_of(
        (0, 0, layout.JUMP, flags, 2),
        (address(count), at, 0),
        (0, 0, layout.JUMP, flags + 1, 4),
        (address(count), at, 0),
        (0, 0, layout.JUMP, 0, 6),
        (address(count), at, 0),
    )
    own = Team(nt)
    own.bind(table, len(table))
    for i, given in enumerate(([0, 0], [0, 1], [1, 0], [1, 1])):
        bytes_[:] = given
        args[:] = 0
        shares = nt if own.run() else 1
        assert args[8 : 8 + 8 * shares : 8].tolist() == [[0, 1, 1, 2][i]] * shares


@pytest.mark.parametrize("nt", [1, 2, 3])
@pytest.mark.parametrize("turns", [1, 2, 7])
def test_loops_within_loops_run_all_their_turns(nt, turns):
    args = aligned_words(8 * (nt + 2))
    cells = aligned_words(layout.COUNTERS * 16)
    places = [cells.ctypes.data + 128 * i for i in range(layout.COUNTERS)]
    rows = [(0, 0, layout.BEGIN, c, 0, 0, i) for i, c in enumerate(places[:3])]
    rows = [*rows, (address(count), args.ctypes.data, 0)]
    again = layout.AGAIN | layout.BARRIER
    for i in (2, 1, 0):
        rows.append((0, 0, again, places[i], i + 1, (3, 2, turns)[i], i))
    table = table_of(*rows)
    own = Team(nt)
    own.bind(table, len(table))
    for _ in range(3):
        args[:] = 0
        shares = nt if own.run() else 1
        assert args[8 : 8 + 8 * shares : 8].tolist() == [6 * turns] * shares
        assert cells[::16].tolist()[:3] == [2, 1, turns - 1]


@pytest.mark.parametrize("nt", [1, 2, 4])
def test_each_turn_sees_what_all_shares_did_in_the_one_before(nt):
    """The relay of barriers as a loop: two rows, twenty turns."""
    table, args = relay(1, nt)
    cell = aligned_words(16)
    rows = [tuple(map(int, row)) for row in table]
    first = (0, 0, layout.BEGIN, cell.ctypes.data)
    last = (0, 0, layout.AGAIN | layout.BARRIER, cell.ctypes.data, 1, 20)
    table = table_of(first, *rows, last)
    own = Team(nt)
    own.bind(table, len(table))
    for _ in range(20 if nt <= 2 else 3):
        args[:] = 0
        args[8 : 8 + 2 * nt * LINE : 2 * LINE] = 1
        shares = nt if own.run() else 1
        assert relay_result(args, shares) == [2**20] * shares


@pytest.mark.parametrize("nt", [1, 2, 3])
def test_what_is_for_one_is_run_by_the_first_share_and_passed_by_the_others(nt):
    args = aligned_words(8 * (nt + 2))
    cell = aligned_words(16).ctypes.data
    at, code = args.ctypes.data, address(count)
    table = table_of(
        (code, at, 0),
        (0, 0, layout.ALONE | layout.BARRIER, 0, 6),
        (0, 0, layout.BEGIN, cell),
        (code, at, layout.ONE),
        (code, at, layout.ONE),
        (0, 0, layout.AGAIN, cell, 3, 5),
        (code, at, layout.BARRIER),
        (0, 0, layout.ALONE, 0, 9),
        (code, at, layout.ONE),
    )
    own = Team(nt)
    own.bind(table, len(table))
    for _ in range(20):
        args[:] = 0
        shares = nt if own.run() else 1
        assert args[8 : 8 + 8 * shares : 8].tolist() == [13] + [2] * (shares - 1)


@kernel
def note_part(args, t, nt):
    """Note which part of how many came when; args[0] counts, a share has its own."""
    args[0] += 1
    args[args[0]] = 100 * nt + t


@pytest.mark.parametrize("nt", [1, 2, 3])
@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_each_share_runs_its_own_parts_in_order(nt, parts):
    args = aligned_words(64 * nt)
    at, code, own = args.ctypes.data, address(note_part), 8 * 64
    table = table_of(
        (0, 0, layout.PARTS | layout.BARRIER, 0, 4, parts),
        (code, at, 0, 0, 0, 0, 0, own),
        (code, at, 0, 0, 0, 0, 0, own),
        (0, 0, layout.NEXT, 0, 1),
        (code, at, layout.BARRIER, 0, 0, 0, 0, own),
    )
    team_ = Team(nt)
    team_.bind(table, len(table))
    for _ in range(10):
        args[:] = 0
        shares = nt if team_.run() else 1
        for t in range(shares):
            mine = range(parts * t // shares, parts * (t + 1) // shares)
            seen = [100 * parts + part for part in mine for _ in range(2)]
            seen.append(100 * shares + t)  # behind the parts shares count again
            notes = args[64 * t :]
            assert notes[1 : 1 + notes[0]].tolist() == seen


def run_script(text: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", dedent(text)],
        env=os.environ | {"PYTHONPATH": str(PRELUDE_PARENT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


COUNT = """
import numpy as np
from prelude import layout, pool, team
from prelude.kernel import address, kernel
@kernel
def count(args, t, nt):
    args[t] += 1
    args[4] += nt
args = np.zeros(8, np.int64)
table = layout.aligned_words(80).reshape(10, 8)
table[:, :3] = address(count), args.ctypes.data, layout.BARRIER
"""


def test_a_step_runs_whole_on_one_thread_where_the_system_gives_no_more():
    text = COUNT + dedent("""
        import threading
        def refuse(thread):
            raise RuntimeError("can't start new thread")
        threading.Thread.start = refuse
        own = team.Team(2)
        own.bind(table, 10)
        print(own.nt, own.run(), args.tolist())
        """)
    assert run_script(text) == "1 True [10, 0, 0, 0, 10, 0, 0, 0]"


def test_threads_end_with_the_process_and_a_step_after_that_runs_on_one():
    text = COUNT + dedent("""
        import atexit, threading
        own = team.Team(2)
        own.bind(table, 10)
        own.run()
        threads = [t for t in threading.enumerate() if t.name.startswith("graphc-")]
        assert [t.name for t in threads] == ["graphc-1"] and threads[0].daemon
        pool.shared().end()
        assert not threads[0].is_alive()
        args[:] = 0
        print(own.run(), args.tolist(), team.Team(2).nt)
        """)
    assert run_script(text) == "False [10, 0, 0, 0, 10, 0, 0, 0] 1"


def test_a_process_ends_while_a_thread_runs_steps():
    text = COUNT + dedent("""
        import threading, time
        own = team.Team(2)
        own.bind(table, 10)
        def work():
            while True:
                own.run()
        threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
        print("ends")
        """)
    assert run_script(text) == "ends"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_team_works_in_a_forked_child():
    text = COUNT + dedent("""
        import os
        own = team.Team(2)
        own.bind(table, 10)
        own.run()
        args[:] = 0
        child = os.fork()
        if child == 0:
            alone = not own.run() and args.tolist() == [10, 0, 0, 0, 10, 0, 0, 0]
            args[:] = 0
            new = team.Team(2)  # which starts threads again
            new.bind(table, 10)
            both = all([new.run(), own.run()])
            right = args[:2].tolist() == [20, 20]
            os._exit(0 if alone and both and right else 1)
        _, status = os.waitpid(child, 0)
        print(status, own.run(), own.nt)
        """)
    assert run_script(text) == "0 True 2"


def test_threads_wait_without_futexes_too():
    text = COUNT + dedent("""
        import types
        from prelude import driver
        driver.sys = types.SimpleNamespace(platform="darwin")
        assert "usleep" in driver.source()
        own = team.Team(2)
        own.bind(table, 10)
        runs = 0
        for pause in (0, 0.02) * 10:
            time.sleep(pause)
            runs += own.run()
        print(runs, args[:2].tolist())
        """)
    assert run_script("import time" + text, GRAPHC_CACHE_DIR="") == "20 [200, 200]"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/loadavg")
@pytest.mark.parametrize(
    ("text", "crowded"),
    [
        ("0.20 0.18 12.12 4/345 8123", False),
        ("0.20 0.18 12.12 5/345 8123", True),
        ("99.00 99.00 99.00 1/9 8", False),
        ("0.00 0.00 0.00 1000/9999 8", True),
        ("what is this", True),
        ("", True),
    ],
)
def test_a_machine_is_crowded_with_more_to_run_than_cores(tmp_path, text, crowded):
    ask = """
    define i64 @ask_{key}(ptr %pool) {{
      %crowded = call i1 @is_crowded(ptr %pool)
      %found = zext i1 %crowded to i64
      ret i64 %found
    }}
    """
    key = native.content_key("test of is_crowded")

    def build():
        module = unlocked.parse(driver.source(key) + ask.format(key=key))
        module.triple = native.target().triple
        native.optimize(module)
        return module

    code = native.load(key, f"ask_{key}", build, "ask")
    (tmp_path / "loadavg").write_text(text)
    with open(tmp_path / "loadavg") as file:
        memory = aligned_words(layout.POOL_BYTES // 8)
        memory[layout.LOADS // 8] = file.fileno()
        memory[layout.CORES // 8] = 4
        found = native.c_function(code.address, 1, returns=True)(memory.ctypes.data)
    assert found == crowded


@pytest.fixture
def lonely_pool(tmp_path, monkeypatch):
    """A pool that is told that nothing else runs here."""
    (tmp_path / "loadavg").write_text("0 0 0 1/9 8")
    own = pool.Pool()
    with open(tmp_path / "loadavg") as file:
        own._set(layout.LOADS, file.fileno())
        monkeypatch.setattr(pool, "shared", lambda: own)
        yield own
        own.end()


def sleep_until_threads_sleep(own: pool.Pool, workers: int) -> None:
    deadline = time.monotonic() + 20
    while own._get(layout.JOB + 8) < workers:
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads are not woken")
def test_a_small_team_leaves_sleeping_threads_alone_unless_it_comes_often(lonely_pool):
    args = aligned_words(32)
    table = table_of((address(count), args.ctypes.data, 0))
    small = Team(2, small=True)
    small.bind(table, 1)
    sleep_until_threads_sleep(lonely_pool, 1)
    for _ in range(3):
        time.sleep(0.01)
        assert small.run()  # as it was asked for
    assert [args[8], args[16]] == [3, 0]

    deadline = time.monotonic() + 20
    while args[16] == 0 and time.monotonic() < deadline:
        small.run()
    assert args[16] > 0
    # A thread that nobody needs any more falls asleep again.
    sleep_until_threads_sleep(lonely_pool, 1)


def test_two_python_threads_run_two_teams_at_once():
    failures = []

    def work():
        table, args = relay(20, 2)
        own = Team(2)
        own.bind(table, len(table))
        for _ in range(200):
            args[:] = 0
            args[8 : 8 + 4 * LINE : 2 * LINE] = 1
            shares = 2 if own.run() else 1
            if relay_result(args, shares) != [2**20] * shares:
                failures.append(args.tolist())

    workers = [threading.Thread(target=work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_numbas_own_parallel_functions_work_beside_a_team():
    text = COUNT + dedent("""
        own = team.Team(2)
        own.bind(table, 10)
        own.run()
        import numba
        @numba.njit(parallel=True)
        def total(n):
            s = 0
            for i in numba.prange(n):
                s += i
            return s
        print(total(100), own.run(), team.Team(2).run())
        """)
    layer = {"NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "2"}
    assert run_script(text, **layer) == "4950 True True"


def test_gil_is_released_during_a_run():
    @kernel
    def wait_for_python(args, t, nt):
        turns = 0
        while args[0] == 0 and turns < 10**10:
            turns += 1
            args[1] += 1

    args = np.zeros(2, np.int64)
    table = table_of((address(wait_for_python), args.ctypes.data))
    own = Team(1)
    own.bind(table, 1)
    worker = threading.Thread(target=own.run)
    worker.start()
    time.sleep(0.01)
    args[0] = 1
    worker.join(5)
    assert not worker.is_alive()


def test_threads_obeys_limit_environment_and_affinity(monkeypatch):
    monkeypatch.setattr(team, "cores", lambda: 8)
    monkeypatch.setattr(team, "cgroup_quota", lambda: None)
    monkeypatch.delenv("GRAPHC_NUM_THREADS", raising=False)
    assert team.threads() == 8
    monkeypatch.setenv("GRAPHC_NUM_THREADS", "3")
    assert team.threads() == 3
    team.set_threads(2)
    assert team.threads() == 2
    team.set_threads(None)
    monkeypatch.setattr(team, "cgroup_quota", lambda: 1.5)
    assert team.threads() == 1


def test_cgroup_quota_is_read_in_both_versions(tmp_path):
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert team._quota_v2(tmp_path) == 1.5
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert team._quota_v2(tmp_path) is None
    (tmp_path / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu.cfs_period_us").write_text("100000\n")
    assert team._quota_v1(tmp_path) == 0.5
    (tmp_path / "cpu.cfs_quota_us").write_text("-1\n")
    assert team._quota_v1(tmp_path) is None
    assert team._quota_v1(tmp_path / "missing") is None


def test_call_of_an_empty_table_is_cheap():
    own = Team(1)
    own.bind(table_of((0,)), 1)
    best = 1.0
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(1000):
            own.run()
        best = min(best, (time.perf_counter() - started) / 1000)
    assert best < 2e-6  # 0.15 us on a quiet machine
