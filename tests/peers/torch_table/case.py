"""A call of graphc, and the call of PyTorch that should give the same.

A `Pair` runs over ragged sizes: N goes through `SIZES`, M and K follow from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ops_table import Case, Spec, arrays

Array = np.ndarray[Any, Any]

# One element, small primes, off a block of 16 by one on both sides, whole, larger.
SIZES = (1, 2, 3, 7, 13, 15, 17, 31, 64, 100, 257)
FEW = (1, 2, 5, 13, 17)


def sizes_of(n: int) -> dict[str, int]:
    """Return all sizes for one N: M is 1 to 7, K 1 to 61."""
    return {"N": n, "M": n % 7 + 1, "K": n * 7 % 61 + 1}


@dataclass(frozen=True)
class Pair:
    """One call, in graphc and in PyTorch.

    name: graphc's name of it. prepare: turns samples of the inputs into those that the
    call can take (positive definite matrices, say). differs: the inputs that have a
    gradient, all floats unless said. loss: how many roundings of the largest element
    the call may be off, besides those of PyTorch in float32.
    """

    name: str
    case: str
    graphc: Callable[..., Any]
    torch: Callable[..., Any]
    inputs: tuple[Spec, ...] = ()
    sizes: tuple[int, ...] = SIZES
    gradient: bool = True
    differs: tuple[int, ...] | None = None
    prepare: Callable[..., Sequence[Array]] | None = None
    loss: float = 8.0

    @property
    def id(self) -> str:
        """What a failure is called by."""
        return f"{self.name}-{self.case}"

    @property
    def call(self) -> Case:
        """The call of graphc, as the table of ops has it."""
        return Case(self.name, self.case, self.graphc, self.inputs, sizes_of(1))

    @property
    def wanted(self) -> tuple[int, ...]:
        """Which inputs have a gradient."""
        if not self.gradient:
            return ()
        floats = [i for i, s in enumerate(self.inputs) if s.dtype == "float32"]
        return tuple(floats) if self.differs is None else self.differs

    def sample(self, n: int) -> list[Array]:
        """Return inputs of the sizes for n."""
        case = Case(self.name, self.case, self.graphc, self.inputs, sizes_of(n))
        found: Sequence[Array] = arrays(case)
        if self.prepare is not None:
            found = self.prepare(*found)
        return [
            np.asarray(a, s.dtype, order="C")
            for a, s in zip(found, self.inputs, strict=True)
        ]


X = Spec("x", ("N", "M"))
Y = Spec("y", ("N", "M"))
ROW = Spec("y", ("M",))
COLUMN = Spec("y", ("N", 1))
CUBE = Spec("x", (2, "N", 3))
SCALAR = Spec("x", ())
LINE = Spec("x", ("N",))
BOOLS = Spec("c", ("N", "M"), "bool")


def within(low: float, high: float, spec: Spec = X) -> Spec:
    """Return an input with another range."""
    return Spec(spec.name, spec.shape, spec.dtype, low, high)


def whole(name: str, shape: tuple[Any, ...], low: int, high: int) -> Spec:
    """Return an input of integers."""
    return Spec(name, shape, "int32", low, high)
