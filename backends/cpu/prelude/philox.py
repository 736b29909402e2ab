"""Philox4x32-10 on SIMD vectors: random words as a pure function of a counter.

Source: Salmon, Moraes, Dror and Shaw, Parallel random numbers: as easy as 1, 2, 3,
2011.
The words are those of `philox_words` in `graphc/ir/philox.py`, which defines them.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from .lanes import Lanes, call_shared
from .vector import Vec

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
LOW = 0xFFFFFFFF


def _words(seed: Lanes, stream: Lanes, step: Lanes, counter: Lanes) -> list[Lanes]:
    """Return the four words, each in an int64 lane: there 32 x 32 bits do not overflow.

    LLVM sees that the upper halves are zero and multiplies with one vpmuludq.
    """
    c0, c1, c2, c3 = counter & LOW, counter.lshr(32), step & LOW, stream & LOW
    k0, k1 = seed & LOW, seed.lshr(32)
    for _ in range(ROUNDS):
        p0, p1 = c0 * MULTIPLIERS[0], c2 * MULTIPLIERS[1]
        c0, c2 = p1.lshr(32) ^ c1 ^ k0, p0.lshr(32) ^ c3 ^ k1
        c1, c3 = p1 & LOW, p0 & LOW
        k0, k1 = (k0 + WEYL[0]) & LOW, (k1 + WEYL[1]) & LOW
    return [c0, c1, c2, c3]


@intrinsic(prefer_literal=True)
def philox_word(typingctx, seed, stream, step, counter, word):  # type: ignore[no-untyped-def]
    """Return random word 0, 1, 2 or 3 (a literal) as int64 lanes in [0, 2**32).

    The key is the seed, low half first; the counter is (counter low, counter high, step
    low, stream low). All four are int64 vectors: splat those that are uniform. Several
    words of equal arguments cost one computation, which LLVM finds.
    """
    if not isinstance(word, types.IntegerLiteral) or not isinstance(counter, Vec):
        return None
    if any(x != Vec(types.int64, counter.lanes) for x in (seed, stream, step, counter)):
        return None
    which = word.literal_value
    if which not in range(4):
        return None

    def body(*key: Lanes) -> Lanes:
        return _words(*key)[which]

    def codegen(context: Any, builder: ir.IRBuilder, sig: Any, values: Any) -> Any:
        name = f"graphc.philox{which}.{counter.name}"
        return call_shared(builder, name, body, values[:4])

    return counter(seed, stream, step, counter, word), codegen
