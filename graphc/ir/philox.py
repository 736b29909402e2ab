"""Philox4x32-10 in NumPy: the meaning of the random primitives.

Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3",
2011. The key is the seed, the counter is (element, step, stream).
"""

from __future__ import annotations

from typing import Any

import numpy as np

_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)

Words = tuple[np.ndarray[Any, Any], ...]


def philox(counter: Words, key: tuple[int, int]) -> Words:
    """Return the four 32-bit words of a block, as uint64 arrays.

    Example (the known answer for all zeros):
        >>> zero = tuple(np.zeros(1, np.uint64) for _ in range(4))
        >>> [hex(int(w[0])) for w in philox(zero, (0, 0))]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (
            (p1 >> _32) ^ c1 ^ np.uint64(k0),
            p1 & _LOW,
            (p0 >> _32) ^ c3 ^ np.uint64(k1),
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & 0xFFFFFFFF, (k1 + _W1) & 0xFFFFFFFF
    return c0, c1, c2, c3


def philox_words(seed: int, stream: int, step: int, counter: Any) -> Words:
    """Return the words for elements `counter` (int64) of a stream at a step.

    The counter is (element low, element high, step, stream), 32 bits each; the key
    is (seed low, seed high).
    """
    element = np.asarray(counter, np.int64).view(np.uint64)
    rest = [np.full(element.shape, v & 0xFFFFFFFF, np.uint64) for v in (step, stream)]
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    return philox((element & _LOW, element >> _32, *rest), key)
