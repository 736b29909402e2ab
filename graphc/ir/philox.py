"""Random words as a pure function of seed, stream, step and counter: Philox4x32-10.

This is what graphc's random ops mean; every backend gives the same bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint32]

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10
_LOW = 0xFFFFFFFF
_HALF = np.uint64(32)


def philox_words(
    seed: int, stream: int, step: int, counters: NDArray[np.int64]
) -> tuple[Words, Words, Words, Words]:
    """Return four random 32-bit words for each counter.

    Shapes:  counters int64[...] -> four of uint32[...]
    Math:    ten rounds of  (c0, c1, c2, c3) -> (hi(b c2) ^ c1 ^ k0, lo(b c2),
             hi(a c0) ^ c3 ^ k1, lo(a c0)), the key growing by a constant a round. Key:
             seed, low half first; counter: (counter low, counter high, step low, stream
             low). Negative numbers stand for their two's complement.
    Source:  Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3,
             2011; constants and known answers from their library, Random123.
    Example:
        >>> words = philox_words(0, 0, 0, np.zeros(1, np.int64))
        >>> [f"{int(word[0]):08x}" for word in words]
        ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    low = np.uint64(_LOW)
    counter = np.asarray(counters, np.int64).astype(np.uint64)
    c0, c1 = counter & low, counter >> _HALF
    c2 = np.full_like(counter, int(step) & _LOW)
    c3 = np.full_like(counter, int(stream) & _LOW)
    k0, k1 = int(seed) & _LOW, (int(seed) >> 32) & _LOW
    for _ in range(_ROUNDS):
        # Products of 32-bit words fit into 64 bits, so nothing wraps.
        p0, p1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), (p0 >> _HALF) ^ c3 ^ np.uint64(k1)
        c1, c3 = p1 & low, p0 & low
        k0, k1 = (k0 + _WEYL[0]) & _LOW, (k1 + _WEYL[1]) & _LOW
    w0, w1, w2, w3 = (c.astype(np.uint32) for c in (c0, c1, c2, c3))
    return w0, w1, w2, w3
