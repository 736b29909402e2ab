"""Philox4x32-10: the published answers, and equal words from NumPy and from kernels."""

from ctypes import POINTER, c_int64

import numpy as np
import pytest
from numba import cfunc

from graphc.backends.cpu.prelude.philox import philox_word
from graphc.backends.cpu.prelude.vector import get, i64, load, mask, splat_i64, store
from graphc.ir.philox import philox_words

# From Random123's kat_vectors: counter, key, words.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000",
     "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
     "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
     "d16cfe09 94fdcceb 5001e420 24126ea1"),
]  # fmt: skip


def parse(text):
    """Read words in hexadecimal."""
    return [int(word, 16) for word in text.split()]


def signed(low, high):
    """Join two words to an int64."""
    value = low | high << 32
    return value - 2**64 if value >= 2**63 else value


@cfunc("void(CPointer(int64), int64)", error_model="numpy", fastmath={"contract"})
def fill(args, n):
    """Write four words for each counter; args: key, counters, four results."""
    key = i64(args, 0)
    i = 0
    while i < n:
        m = mask(n - i, 8)
        seed, stream = splat_i64(get(key, 0), m), splat_i64(get(key, 1), m)
        step, counter = splat_i64(get(key, 2), m), load(i64(args, 1), i, m)
        store(i64(args, 2), i, philox_word(seed, stream, step, counter, 0), m)
        store(i64(args, 3), i, philox_word(seed, stream, step, counter, 1), m)
        store(i64(args, 4), i, philox_word(seed, stream, step, counter, 2), m)
        store(i64(args, 5), i, philox_word(seed, stream, step, counter, 3), m)
        i += 8


def kernel_words(seed, stream, step, counters):
    """Do what `philox_words` does, by the kernel."""
    arrays = [np.array([seed, stream, step]), counters]
    arrays += [np.zeros(counters.size, np.int64) for _ in range(4)]
    table = np.array([a.ctypes.data for a in arrays], np.int64)
    fill.ctypes(table.ctypes.data_as(POINTER(c_int64)), counters.size)
    return arrays[2:]


@pytest.mark.parametrize("words", [philox_words, kernel_words])
@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_gives_the_published_answers(words, counter, key, expected):
    c0, c1, step, stream = parse(counter)
    seed, counters = signed(*parse(key)), np.array([signed(c0, c1)])
    got = [int(word[0]) for word in words(seed, stream, step, counters)]
    assert got == parse(expected)


def test_kernel_and_numpy_give_the_same_words():
    counters = np.random.default_rng(0).integers(-(2**63), 2**63 - 1, 1003)
    for seed, stream, step in ((0, 0, 0), (-5, 7, 2**40 + 1), (2**62, -1, 3)):
        expected = philox_words(seed, stream, step, counters)
        for got, word in zip(
            kernel_words(seed, stream, step, counters), expected, strict=True
        ):
            np.testing.assert_array_equal(got, word.astype(np.int64))


def test_words_look_uniform():
    words = np.stack(philox_words(1, 2, 3, np.arange(100_000)))
    assert abs(words.mean() / 2**32 - 0.5) < 0.002
    assert abs(np.corrcoef(words)[0, 1]) < 0.02
    assert np.unique(words[0]).size > 99_990
