"""The short way into a step: taken by the arrays it is for, and by no others."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc.backends.cpu.backend import Bound
from graphc.backends.cpu.prelude import entry
from graphc.errors import InputError
from graphc.executable import Executable

Array = np.ndarray[Any, Any]


def step_of(outputs: int = 1) -> tuple[Executable, gc.Tensor]:
    """Return a step that counts its calls: x f32[N, 3], y i32[N] -> x + y, x - y."""
    x, y = gc.input("x", ("N", 3)), gc.input("y", ("N",), "int32")
    calls = gc.variable("calls", 0)
    column = gc.reshape(gc.cast(y, "float32"), (-1, 1))
    found = [x + column, x - column][:outputs]
    result = found if outputs > 1 else found[0]
    return gc.compile([x, y], result, updates={calls: calls + 1}), calls


def arrays(n: int = 4) -> tuple[Array, Array]:
    x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
    return x, np.arange(n, dtype=np.int32)


def last(step: Executable) -> Bound:
    found = step._last
    assert isinstance(found, Bound)
    return found


def test_arrays_lie_in_memory_as_the_driver_reads_them() -> None:
    assert entry.is_known()


def test_arrays_of_the_right_kind_take_it() -> None:
    step, _ = step_of()
    given = arrays()
    step(*given)
    for i in range(5):
        given = (given[0] + i, given[1] * i)
        found = last(step).quick(given, None)
        assert found is not None
        np.testing.assert_array_equal(found[0], given[0] + given[1][:, None])


x4, y4 = arrays()
OTHERS: dict[str, Any] = {
    "a list": (x4.tolist(), y4),
    "another dtype": (x4.astype(np.float64), y4),
    "another byte order": (x4.astype(">f4"), y4),
    "another size": (x4[:3].copy(), y4),
    "another rank": (x4[:, :, None], y4),
    "sizes that differ": (x4, np.arange(5, dtype=np.int32)),
    "in columns": (np.asfortranarray(x4), y4),
    "every other": (x4, np.arange(8, dtype=np.int32)[::2]),
    "a subclass": (x4.view(np.matrix), y4),
    "not aligned": (
        np.frombuffer(b"x" + x4.tobytes(), np.uint8)[1:].view("f4").reshape(4, 3),
        y4,
    ),
    "too few": (x4,),
    "too many": (x4, y4, y4),
    "nothing": (),
    "none": (None, y4),
}


@pytest.mark.parametrize("name", OTHERS)
def test_others_do_not_and_nothing_happens(name: str) -> None:
    step, calls = step_of()
    step(*arrays())
    runs = last(step).team.runs
    assert last(step).quick(OTHERS[name], None) is None
    assert last(step).team.runs == runs
    assert calls.value == 1


@pytest.mark.parametrize(
    "name", ["a list", "in columns", "every other", "a subclass", "not aligned"]
)
def test_others_go_the_long_way(name: str) -> None:
    step, calls = step_of()
    expected = step(*arrays())
    x, y = OTHERS[name]
    found = step(x, y)
    wanted = expected if name != "every other" else x4 + y[:, None]
    np.testing.assert_array_equal(found, wanted)
    assert calls.value == 2


def test_arrays_to_write_into_are_the_callers() -> None:
    step, _ = step_of(2)
    x, y = arrays()
    step(x, y)
    room = np.zeros((3, 4, 3), np.float32)  # side by side, which is not shared
    found = step(x, y, out=[room[0], room[2]])
    assert last(step).quick((x, y), [room[0], room[2]]) is not None
    assert found[0].base is room
    np.testing.assert_array_equal(room, [x + y[:, None], x * 0, x - y[:, None]])


def test_arrays_that_share_memory_or_cannot_be_written_are_refused() -> None:
    step, calls = step_of(2)
    x, y = arrays()
    step(x, y)
    room = np.zeros((7, 3), np.float32)
    frozen = np.zeros((4, 3), np.float32)
    frozen.setflags(write=False)
    fine = np.zeros((4, 3), np.float32)
    for out in (
        [x, fine],
        [fine, x],
        [fine, fine],
        [room[:4], room[3:]],
        [fine, frozen],
        [fine],
        [fine, room[:4], fine.copy()],
        [fine, y],
    ):
        assert last(step).quick((x, y), out) is None
        with pytest.raises(InputError):
            step(x, y, out=out)
    assert last(step).quick((x,), [y, fine, room[:4]]) is None
    assert calls.value == 1


def test_every_size_is_right_after_any_other() -> None:
    step, calls = step_of()
    for n in (4, 4, 1000, 4, 0, 0, 1000, 1000, 1):
        x, y = arrays(n)
        np.testing.assert_array_equal(step(x, y), x + y[:, None])
    assert calls.value == 9


def test_a_step_that_checks_has_no_short_way() -> None:
    x, i = gc.input("x", ("N",)), gc.input("i", (2,), "int32")
    step = gc.compile([x, i], gc.take(x, i, 0), check=True)
    given = np.arange(4.0, dtype=np.float32), np.array([1, 3], np.int32)
    step(*given)
    assert step._last is None
    with pytest.raises(gc.GraphcError):
        step(given[0], np.array([1, 4], np.int32))
