"""The ops, one family a file; importing this registers all of them."""

from graphc.ops import (
    arithmetic,
    broadcast,
    composite,
    creation,
    indexing,
    linear,
    random,
    reduction,
    shape,
)

__all__ = [
    "arithmetic",
    "broadcast",
    "composite",
    "creation",
    "indexing",
    "linear",
    "random",
    "reduction",
    "shape",
]
