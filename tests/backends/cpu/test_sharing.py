"""What a team shares: never dearer than any other choice, and never out of order."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphc.backends.cpu.sharing import Alone, Shared, Sharing, Waits
from graphc.ir.program import Barrier, Call, If, Loop, Statement

BARRIER = 10.0
SHORT = Waits(BARRIER)


def task(work: float, one: bool = False) -> Call:
    """Return a task of so much work, which its name tells."""
    return Call(f"{'one' if one else 'all'} {work}", (), ())


def tasks(body: Any) -> list[Call]:
    found = []
    for s in body:
        if isinstance(s, Call):
            found.append(s)
        elif isinstance(s, Alone):
            found += tasks(s.body)
        else:
            found += [t for inner in getattr(s, "bodies", ()) for t in tasks(inner)]
    return found


def sharing(body: Any, threads: int = 2, waits: Waits = SHORT) -> Sharing:
    every = tasks(body)
    work = {id(t): float(t.routine.split()[1]) for t in every}
    several = frozenset(id(t) for t in every if t.routine.startswith("all"))
    return Sharing(work, several, {"T": 50}, threads, waits)


def shown(body: Any) -> Any:
    """Return a body as nested lists of works, barriers as |."""
    found: list[Any] = []
    for s in body:
        if isinstance(s, Call):
            found.append(float(s.routine.split()[1]))
        elif isinstance(s, Barrier):
            found.append("|")
        elif isinstance(s, Alone):
            found.append(("alone", *shown(s.body)))
        elif isinstance(s, Loop):
            found.append(("loop", *shown(s.body)))
        else:
            found.append(("if", *map(tuple, map(shown, s.bodies))))
    return found


def chosen(body: list[Statement], **limits: Any) -> tuple[float, Any]:
    saved, shared = sharing(body, **limits).saved(tuple(body))
    assert [id(t) for t in tasks(shared)] == [id(t) for t in tasks(body)]
    return saved, shown(shared)


def test_a_large_nest_is_shared_and_small_ones_are_not() -> None:
    wait = Barrier()
    body = [task(3), wait, task(4), wait, task(100), wait, task(5), wait, task(6)]
    saved, shared = chosen(body)
    alone = ("alone", 3.0, "|", 4.0), ("alone", 5.0, "|", 6.0)
    assert shared == [alone[0], "|", 100.0, "|", alone[1]]
    assert saved == 50 - 2 * BARRIER


def test_between_two_large_ones_a_small_one_is_shared() -> None:
    saved, shared = chosen([task(100), Barrier(), task(1), Barrier(), task(100)])
    assert shared == [100.0, "|", 1.0, "|", 100.0]
    assert saved == 100.5 - 2 * BARRIER


def test_a_loop_of_short_turns_is_for_one_and_its_neighbours_for_all() -> None:
    turn = (task(8), Barrier(), task(8))
    body = [task(90), Loop("i", 50, turn), Barrier(), task(90)]
    saved, shared = chosen(body)
    loop = ("loop", 8.0, "|", 8.0)
    assert shared == [90.0, ("alone", loop), "|", 90.0]
    assert saved == 90 - BARRIER


def test_a_loop_of_long_turns_is_shared() -> None:
    saved, shared = chosen([Loop("i", 50, (task(90), Barrier(), task(2)))])
    assert shared == [("loop", 90.0, "|", 2.0)]
    assert saved == 50 * (46 - 2 * BARRIER)


def test_what_is_for_one_thread_within_a_turn_is_told() -> None:
    wait = Barrier()
    turn = (task(90), wait, task(2, one=True), wait, task(2), wait, task(2))
    _, shared = chosen([Loop("i", 50, turn)])
    assert shared == [("loop", 90.0, "|", ("alone", 2.0, "|", 2.0, "|", 2.0))]


def test_a_branch_costs_its_longer_side() -> None:
    saved, shared = chosen([If("c", (task(90),), (task(4),))])
    assert shared == [("if", (90.0,), (4.0,))]
    assert saved == 45
    saved, _ = chosen([If("c", (task(90, one=True),), (task(4),))])
    assert saved == 0


def test_no_turns_cost_nothing() -> None:
    saved, _ = chosen([Loop("i", 0, (task(90), Barrier(), task(90)))])
    assert saved == 0


def test_behind_a_long_stretch_for_one_the_others_sleep() -> None:
    wait = Barrier()
    body = [task(90), wait, task(80, one=True), wait, task(70)]
    assert chosen(body)[1] == [90.0, "|", 80.0, "|", 70.0]
    waits = Waits(BARRIER, patience=70, wake=30)
    saved, shared = chosen(body, waits=waits)
    assert shared == [90.0, "|", ("alone", 80.0, "|", 70.0)]
    assert saved == 45 - BARRIER


def test_a_turn_that_ends_with_a_long_stretch_wakes_the_others() -> None:
    turn = (task(90), Barrier(), task(80, one=True))
    awake, _ = chosen([Loop("i", 50, turn)])
    assert awake == 50 * (45 - 2 * BARRIER)
    saved, _ = chosen([Loop("i", 50, turn)], waits=Waits(BARRIER, 70, 15))
    assert saved == 50 * (45 - 2 * BARRIER - 15)
    saved, shared = chosen([Loop("i", 50, turn)], waits=Waits(BARRIER, 70, 30))
    assert saved == 0
    assert shared == [("alone", ("loop", 90.0, "|", 80.0))]


@pytest.mark.parametrize("threads", [2, 8])
@given(
    st.lists(st.tuples(st.integers(0, 60), st.booleans()), min_size=1, max_size=7),
    st.sampled_from([0.0, 3.0, 10.0]),
    st.sampled_from([5.0, 20.0, 40.0]),
    st.sampled_from([0.0, 4.0, 15.0]),
)
def test_no_other_choice_is_cheaper(
    threads: int,
    given: list[tuple[int, bool]],
    barrier: float,
    patience: float,
    wake: float,
) -> None:
    levels = [task(work, one) for work, one in given]
    body: list[Shared] = []
    for one in levels:
        body += [Barrier(), one] if body else [one]
    whole = sum(work for work, _ in given)
    costs = []
    for alone in product([False, True], repeat=len(given)):
        cost, asleep = 0.0, False
        for i, (work, by_one) in enumerate(given):
            cost += work / (1 if alone[i] or by_one else threads)
            stretch = i > 0 and alone[i] and alone[i - 1]
            cost += barrier * (i > 0 and not stretch)
            cost += wake * (asleep and not alone[i])
            long = (alone[i] or by_one) and work > patience
            asleep = long or (asleep and alone[i])
        costs.append(cost)
    waits = Waits(barrier, patience, wake)
    saved, _ = chosen(body, threads=threads, waits=waits)  # type: ignore[arg-type]
    assert saved == pytest.approx(whole - min(costs))
