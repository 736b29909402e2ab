"""What the inputs, arguments and results of a scan are.

All three come in the same order: carries first, then what is stepped over (results:
what is stacked), then what is captured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.ir.dims import Size
from graphc.ir.types import TensorType


@dataclass(frozen=True, slots=True)
class Scan:
    """How many inputs are carries and how many are stepped over, and which way.

    What comes after those is captured: the same in each step. truncate: through how
    many steps the gradient goes back, 0 for all.
    """

    carries: int
    steps: int
    length: Size
    reverse: bool = False
    truncate: int = 0


def split(attrs: Scan, items: Sequence[Any]) -> tuple[Any, Any, Any]:
    """Return the carries, the stepped ones and the captured ones of inputs or args."""
    a, b = attrs.carries, attrs.carries + attrs.steps
    return tuple(items[:a]), tuple(items[a:b]), tuple(items[b:])


def sliced(type: TensorType) -> TensorType:
    """Return the type of one step of what is stepped over."""
    return type.with_shape(type.shape[1:])


def stacked(type: TensorType, length: Size) -> TensorType:
    """Return the type of what a step returns, over all steps."""
    return type.with_shape((length, *type.shape))
