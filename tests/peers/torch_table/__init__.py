"""graphc's functions beside those of PyTorch, one family a file.

Each family has `PAIRS`, and `PEERLESS`: why a function has no counterpart.
"""

from __future__ import annotations


from torch_table import elementwise, reductions
from torch_table.case import Pair

FAMILIES: tuple[Any, ...] = (elementwise, reductions)

PAIRS: tuple[Pair, ...] = tuple(pair for f in FAMILIES for pair in f.PAIRS)
PEERLESS: dict[str, str] = {k: v for f in FAMILIES for k, v in f.PEERLESS.items()}
