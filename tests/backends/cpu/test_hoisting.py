"""What a loop leaves as it is stands in front of it; nothing else moves."""

from __future__ import annotations

import numpy as np

from graphc.backends.cpu.prelude import direct
from graphc.backends.cpu.prelude.kernel import kernel
from graphc.backends.cpu.prelude.vector import i64, put


@kernel
def sums(args, t, nt):  # type: ignore[no-untyped-def]
    """Compute with what changes in the inner loop, the outer one, and neither."""
    out, n, a, b = i64(args, 0), args[1], args[2], args[3]
    total, last = 0, 7
    for i in range(n):
        for j in range(n):
            total = total + (a * 3 + b) * (i * 5) + j // 4
            if j > 1:
                last = last + a * 11
        last = last + i
    put(out, 0, total)
    put(out, 1, last)


def python(n: int, a: int, b: int) -> list[int]:
    """Return the same, computed by Python."""
    total, last = 0, 7
    for i in range(n):
        for j in range(n):
            total += (a * 3 + b) * (i * 5) + j // 4
            if j > 1:
                last += a * 11
        last += i
    return [total, last]


def test_what_moves_changes_no_result() -> None:
    for n in (0, 1, 2, 5):
        room = np.zeros(2, np.int64)
        sums(np.array([room.ctypes.data, n, 6, 10], np.int64))
        assert room.tolist() == python(n, 6, 10)


def test_invariant_values_stand_in_front_of_their_loop() -> None:
    text = str(direct.lower(sums.function, "pii", "", "sums"))
    blocks = text.split("\n\n")

    def place(instruction: str) -> str:
        (found,) = [x.split(":")[0].split()[-1] for x in blocks if instruction in x]
        return found

    # Neither loop changes a * 3 and a * 11, the inner one alone leaves i * 5.
    assert place(", 3\n") == place(", 11\n") == "body"
    assert place(", 5\n").startswith("do")
    assert place("ashr i64") not in ("body", place(", 5\n"))
