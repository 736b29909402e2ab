"""tune=True: what is measured, what is kept, and what is used again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu import choices
from graphc.backends.cpu.trial import Times, Trial, alone
from graphc.ir.program import Schedule

Array = np.ndarray[Any, Any]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the cache a folder of its own."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[Schedule]:
    """Say what each schedule takes instead of measuring; return those asked about.

    What asks early takes half as long, what takes 2 vectors a turn a third.
    """
    asked: list[Schedule] = []

    def times(
        self: Trial, schedules: Sequence[Schedule], patience: float = 1.0
    ) -> list[Times]:
        found = []
        for schedule in schedules:
            self.bound(schedule)
            asked.append(schedule)
            took = 60.0 / (1 + (schedule.far == "ahead")) / (1 + schedule.vectors % 4)
            found.append(Times(took, took))
        return found

    monkeypatch.setattr(Trial, "times", times)
    monkeypatch.setattr(choices, "FAR_BYTES", 0)
    return asked


def row_sums(tune: Any, n: int | str = "N", threads: int = 1) -> gc.Step:
    x = gc.input("x", (n, 200))
    return gc.compile([x], gc.sum(x * x, axis=1), tune=tune, threads=threads)


def data(n: int) -> Array:
    return np.random.default_rng(n).standard_normal((n, 200)).astype("f")


def saved(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "choices.json").read_text())
    return found


def test_what_is_faster_is_chosen_and_kept(folder: Path, clock: list[Schedule]) -> None:
    step = row_sums(True)
    assert not clock  # sizes are not known yet
    x = data(30)
    np.testing.assert_allclose(step(x), (x * x).sum(axis=1), rtol=1e-5)
    (decision,) = step.tuning.decisions
    assert decision.chosen == {"far": "ahead", "vectors": 2}
    assert decision.source == "measured"
    assert decision.default == 60.0
    assert decision.tuned == 10.0
    whole = saved(folder)
    assert whole["version"] == 1
    (entry,) = whole["nests"].values()
    assert entry["chosen"] == {"far": "ahead", "vectors": 2}
    assert entry["threads"] == 1
    assert entry["default"] == [60.0, 60.0]
    assert entry["tuned"] == [10.0, 10.0]
    assert entry["tried"]["far=ahead"] == [30.0, 30.0]
    assert set(entry["tried"]) >= {"far=", "vectors=1", "vectors=2", "vectors=4"}
    assert "N = 30" in entry["nest"]


def test_choices_change_the_kernel_and_its_docstring(
    folder: Path, clock: list[Schedule]
) -> None:
    plain, tuned = row_sums(False), row_sums(True)
    (kernel,) = plain.kernels
    assert "4 at once" in kernel.source
    tuned(data(30))
    *_, other = tuned.kernels
    assert "2 at once, ahead" in other.source
    assert "load_ahead(" in other.source
    assert "load_ahead(" not in kernel.source
    assert kernel.native.key != other.native.key


def test_sizes_that_are_known_are_tuned_at_once(
    folder: Path, clock: list[Schedule]
) -> None:
    step = row_sums(True, 30)
    assert clock
    assert step.stages[-1][0] == "tune"
    assert step.stages[-1][1] is step.program
    (nest,) = step.program.nests
    assert nest.schedule is not None
    assert (nest.schedule.far, nest.schedule.vectors) == ("ahead", 2)
    (kernel,) = step.kernels
    assert "2 at once, ahead" in kernel.source
    x = data(30)
    np.testing.assert_allclose(step(x), (x * x).sum(axis=1), rtol=1e-5)


def test_each_size_is_measured_once(folder: Path, clock: list[Schedule]) -> None:
    step = row_sums(True)
    step(data(30))
    count = len(clock)
    assert count > 0
    step(data(30))
    step(data(30)[::-1])
    assert len(clock) == count
    step(data(31))
    assert len(clock) == 2 * count
    assert len(step.tuning.decisions) == 2
    assert len(saved(folder)["nests"]) == 2
    assert len(step.kernels) == 2  # as declared, and as both sizes are run


def test_what_is_on_file_is_used_again_and_not_measured(
    folder: Path, clock: list[Schedule]
) -> None:
    x = data(30)
    once = row_sums(True)(x)
    text = (folder / "choices.json").read_text()
    clock.clear()
    for tune in (True, "replay"):
        step = row_sums(tune)
        np.testing.assert_array_equal(step(x), once)
        (decision,) = step.tuning.decisions
        assert decision.source == "file"
        assert decision.chosen == {"far": "ahead", "vectors": 2}
        assert decision.tuned == 10.0
    assert not clock
    assert (folder / "choices.json").read_text() == text


def test_replay_measures_nothing_and_writes_nothing(
    folder: Path, clock: list[Schedule]
) -> None:
    step, plain = row_sums("replay"), row_sums(False)
    x = data(30)
    np.testing.assert_array_equal(step(x), plain(x))
    (decision,) = step.tuning.decisions
    assert decision.source == "default"
    assert not decision.chosen
    assert not clock
    assert not (folder / "choices.json").exists()


def test_without_tune_the_file_is_not_looked_at(
    folder: Path, clock: list[Schedule]
) -> None:
    row_sums(True)(data(30))
    (folder / "choices.json").write_text("{")
    step = row_sums(False)
    step(data(30))
    (kernel,) = step.kernels
    assert "4 at once" in kernel.source
    assert not step.tuning.decisions


def test_a_choice_on_file_is_forced(folder: Path, clock: list[Schedule]) -> None:
    row_sums(True)(data(30))
    whole = saved(folder)
    (entry,) = whole["nests"].values()
    entry["chosen"] = {"vectors": 1}
    (folder / "choices.json").write_text(json.dumps(whole))
    step = row_sums("replay")
    step(data(30))
    *_, kernel = step.kernels
    assert "at once" not in kernel.source.partition("\n\n    nest")[2]
    assert "ahead" not in kernel.source


def test_threads_are_part_of_what_is_known(
    folder: Path, clock: list[Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graphc.backends.cpu.backend.threads", lambda: 2)
    row_sums(True)(data(30))
    count = len(clock)
    row_sums(True, threads=2)(data(30))
    assert len(clock) > count
    assert {e["threads"] for e in saved(folder)["nests"].values()} == {1, 2}


def test_nests_that_are_alike_are_measured_once(
    folder: Path, clock: list[Schedule]
) -> None:
    x, y = gc.input("x", (40, 300)), gc.input("y", (40, 300))
    a, b = gc.sum(gc.tanh(x), axis=1), gc.sum(gc.tanh(y), axis=1)
    step = gc.compile([x, y], [a, b], tune=True, passes="lower")
    assert len(step.program.nests) > len(step.tuning.decisions)
    first = len(clock)
    gc.compile([x], [a], tune=True, passes="lower")
    assert len(clock) == first


def test_less_than_clearly_faster_is_no_choice(
    folder: Path, clock: list[Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(
        self: Trial, schedules: Sequence[Schedule], patience: float = 1.0
    ) -> list[Times]:
        # The least is less, the median is not; and the other way round.
        first, *rest = ((10.0, 20.0), (9.0, 20.0), (9.9, 15.0), (9.8, 19.5))
        return [Times(*first), *(Times(*t) for t in rest)][: len(schedules)]

    monkeypatch.setattr(Trial, "times", times)
    step = row_sums(True, 30)
    assert [d.chosen for d in step.tuning.decisions] == [{}]


def test_a_choice_must_win_a_second_time(
    folder: Path, clock: list[Schedule], monkeypatch: pytest.MonkeyPatch
) -> None:
    def times(
        self: Trial, schedules: Sequence[Schedule], patience: float = 1.0
    ) -> list[Times]:
        others = 9.9 if patience > 1 else 5.0
        return [Times(10.0, 10.0)] + [Times(others, others)] * (len(schedules) - 1)

    monkeypatch.setattr(Trial, "times", times)
    step = row_sums(True, 30)
    assert [d.chosen for d in step.tuning.decisions] == [{}]
    (entry,) = saved(folder)["nests"].values()
    assert entry["default"] == entry["tuned"] == [10.0, 10.0]


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"version": 99, "nests": {}}',
        '{"version": 1}',
        '{"version": 1, "nests": [1]}',
    ],
)
def test_a_damaged_file_is_left_out_with_a_warning(
    folder: Path, clock: list[Schedule], text: str
) -> None:
    (folder / "choices.json").write_text(text)
    with pytest.warns(RuntimeWarning, match="choices.json: ignored"):
        step = row_sums("replay")
    step(data(30))
    assert [d.source for d in step.tuning.decisions] == ["default"]
    with pytest.warns(RuntimeWarning, match="choices.json: ignored"):
        row_sums(True)(data(30))
    assert len(saved(folder)["nests"]) == 1  # written anew
    assert row_sums("replay")(data(30)).shape == (30,)


def other_choices(chosen: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update(chosen=chosen)


@pytest.mark.parametrize(
    "damage",
    [
        dict.clear,
        lambda entry: entry.pop("tried"),
        lambda entry: entry.update(default="fast"),
        lambda entry: entry.update(tuned=[1.0]),
        other_choices(None),
        other_choices(["far"]),
        other_choices({"far": "beyond"}),
        other_choices({"vectors": 4096}),
        other_choices({"lanes": 2}),
        other_choices({"copies_b": True}),
    ],
)
def test_a_damaged_entry_is_left_out_with_a_warning(
    folder: Path, clock: list[Schedule], damage: Callable[[dict[str, Any]], None]
) -> None:
    row_sums(True)(data(30))
    row_sums(True)(data(31))
    whole = saved(folder)
    first, second = whole["nests"].values()
    good = json.dumps(second)
    damage(first)
    (folder / "choices.json").write_text(json.dumps(whole))
    step = row_sums("replay")
    with pytest.warns(RuntimeWarning, match="ignored the entry"):
        step(data(30))
    step(data(31))
    assert [d.source for d in step.tuning.decisions] == ["default", "file"]
    with pytest.warns(RuntimeWarning, match="ignored the entry"):
        row_sums(True)(data(30))  # and measured again
    first, second = saved(folder)["nests"].values()
    assert json.dumps(second) == good
    assert first["chosen"] == {"far": "ahead", "vectors": 2}


def test_a_folder_that_cannot_be_written_costs_the_file_alone(
    folder: Path, clock: list[Schedule]
) -> None:
    (folder / "choices.json").mkdir()
    with pytest.warns(RuntimeWarning, match="choices.json"):
        step = row_sums(True, 30)
    assert [d.chosen for d in step.tuning.decisions] == [{"far": "ahead", "vectors": 2}]


def test_others_entries_are_kept(folder: Path, clock: list[Schedule]) -> None:
    first, second = row_sums(True), row_sums(True)  # both have read the file
    first(data(30))
    second(data(31))
    assert len(saved(folder)["nests"]) == 2


# --- one nest alone -------------------------------------------------------------------


def model() -> tuple[gc.Step, list[gc.Parameter], list[Array]]:
    """Return a training step of all kinds of buffers, its states, and its data."""
    x, y = gc.input("x", ("N", 20)), gc.input("y", ("N",), dtype="int32")
    w, b = gc.parameter("w", (20, 32), seed=1), gc.parameter("b", (32,), init="zeros")
    v, u = gc.parameter("v", (32, 10), seed=2), gc.parameter("u", (32, 32), seed=3)
    h, _ = gc.scan(lambda h, k: (gc.tanh(h @ u + k), None), x @ w + b, gc.ones((3, 1)))
    loss = gc.nn.losses.softmax_cross_entropy(h @ v, y)
    updates = gc.optim.Adam(1e-2).updates(loss)
    step = gc.compile([x, y], loss, updates, tune=True)
    rng = np.random.default_rng(0)
    given = [rng.standard_normal((50, 20)).astype("f"), rng.integers(0, 10, 50)]
    return step, list(step.states), [given[0], given[1].astype("i")]


def test_measuring_touches_no_state_and_leaves_a_step_that_learns(
    folder: Path,
) -> None:
    step, states, given = model()
    before = {s: s.value for s in states}
    step.memory(N=50)  # tunes for these sizes, and runs nothing
    assert step.tuning.decisions
    assert all(d.source == "measured" for d in step.tuning.decisions)
    for state, value in before.items():
        np.testing.assert_array_equal(state.value, value)
    first = step(*given)
    for _ in range(30):
        last = step(*given)
    assert last < 0.5 * first
    assert all(np.isfinite(s.value).all() for s in states)


def test_all_kinds_of_nests_run_alone(folder: Path) -> None:
    step, _, _ = model()
    for nest in step.program.nests:
        program = alone(nest, step.program)
        assert program.nests == (nest,)
        used = {step.program.root(n) for n in (*nest.reads, *nest.writes)}
        roots = {*program.inputs, *program.outputs, *program.states}
        assert roots == used


def test_times_are_of_the_nest(folder: Path) -> None:
    a, b = gc.input("a", ("N", 64)), gc.input("b", (64, 64))
    step = gc.compile([a, b], a @ b, tune=True, threads=1)
    for n in (16, 1024):
        step.memory(N=n)
    small, large = step.tuning.decisions
    assert small.default is not None
    assert large.default is not None
    assert 1.0 < small.default * 8 < large.default


def table_lines(step: gc.Step) -> Iterator[list[str]]:
    for line in str(step.tuning).splitlines():
        yield line.split()


def test_the_table_says_what_was_chosen(folder: Path, clock: list[Schedule]) -> None:
    step = row_sums(True)
    step(data(30))
    head, row = table_lines(step)
    assert head[:2] == ["sizes", "chosen"]
    assert row[:6] == ["N=30", "far=ahead,", "vectors=2", "60.0", "10.0", "measured"]
    replayed = row_sums("replay")
    replayed(data(31))
    _, row = table_lines(replayed)
    assert row[:6] == ["N=31", "as", "the", "model", "says", "default"]


# --- what is refused ------------------------------------------------------------------


@pytest.mark.parametrize("tune", ["yes", 1, None, "Replay", 1.5])
def test_other_values_of_tune_are_refused(tune: Any) -> None:
    with pytest.raises(gc.errors.ArgumentError, match="tune must be True, False or"):
        row_sums(tune)


@pytest.mark.parametrize("backend", ["reference", "cuda"])
@pytest.mark.parametrize("tune", [True, "replay"])
def test_other_backends_have_nothing_to_tune(backend: str, tune: Any) -> None:
    x = gc.input("x", (3,))
    with pytest.raises(gc.errors.CompileError, match="nothing to tune"):
        gc.compile([x], x + 1, backend=backend, tune=tune)
