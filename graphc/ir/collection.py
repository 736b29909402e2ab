"""Python's cyclic collector, held back while graphs are made.

Nodes are made by the million, and nearly all of them stay: each round of the collector
would go through what the rounds before found to be alive.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def no_collection() -> Iterator[None]:
    """Hold Python's cyclic collector back for as long as this lasts."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()
