"""The routines that a `Call` may name: what each computes, in NumPy.

A routine works on whole buffers where no loop nest would do: sorting, scans along an
axis, LAPACK, a user's own kernel. An op names its routine (`Routine` in op.py) and says
what it must know beside its arrays; a backend has a way to run it, or refuses by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.errors import LoweringError
from graphc.ir.dims import Size

Array = np.ndarray[Any, Any]
Options = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class LibraryRoutine:
    """A routine of this name.

    meaning: (arrays, options) -> the elements of each buffer that it writes, in order.
    flops: its arithmetic, by its options, which may be symbolic.
    parallel: whether it can be run as shares, each of which does its part of it.
    function: for a user's own kernel, the Python function that Numba can compile.
    """

    name: str
    meaning: Callable[[tuple[Array, ...], Options], Sequence[Array]]
    flops: Callable[[Options], Size]
    parallel: bool = True
    function: Callable[..., None] | None = None


ROUTINES: dict[str, LibraryRoutine] = {}


def register_routine(made: LibraryRoutine) -> LibraryRoutine:
    """Enter a routine into the table, replacing one of the same name."""
    ROUTINES[made.name] = made
    return made


def routine(name: str) -> LibraryRoutine:
    """Return the routine of a name.

    Raises:  LoweringError listing the known ones.
    """
    found = ROUTINES.get(name)
    if found is None:
        raise LoweringError(
            f"there is no routine {name!r}",
            help="the routines are " + ", ".join(sorted(ROUTINES)),
        )
    return found
