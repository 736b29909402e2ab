"""Turning words around: an encoder-decoder with attention.

    letters -> GRU both ways -> what is at each place                    (encoder)
    last letter, what was looked at -> GRU -> where to look -> letter    (decoder)

A word of 4 to 16 letters, drawn at random, goes in; the same letters go out in reverse.
The decoder starts from the encoder's last state and writes letter after letter; before
each it looks at all places of the word and takes a mean of them, weighted by how well
they fit its state. In training it is told the letters before (teacher forcing); when
tested it reads its own (greedy decoding).

Of 1,000 words that it has not seen, at least 95 % come out right in every letter (97.5,
99.1 and 99.3 % with three seeds). With `without`, all that the decoder gets of the word
at each step is the encoder's last state, as many numbers as attention gives it. They
hold a short word and not a long one: 32, 37 and 36 % come out right, of those with 4
letters 99 %, with 8 letters 53 %, with 12 letters at most 1 %, with 16 letters none.

    python examples/reverse_attention.py
    python examples/reverse_attention.py without
"""

import sys

import numpy as np

import graphc
from graphc import nn, optim

LETTERS = 26
END = 0  # starts a word, ends it, and fills up what is shorter; letters are 1 to 26
SHORTEST = 4


def words(count, longest, rng):
    """Return words, their lengths, and the words in reverse with an end."""
    lengths = rng.integers(SHORTEST, longest + 1, size=count).astype(np.int32)
    x = rng.integers(1, LETTERS + 1, size=(count, longest)).astype(np.int32)
    x[np.arange(longest) >= lengths[:, None]] = END
    y = np.full((count, longest + 1), END, np.int32)
    for row, word, n in zip(y, x, lengths, strict=True):
        row[:n] = word[:n][::-1]
    return x, lengths, y


# --- the network ----------------------------------------------------------------------


class Network:
    """Reads words and writes words."""

    def __init__(self, units, attends, seed):
        self.attends = attends
        self.embed = nn.Embedding(LETTERS + 1, 32, name="embed", seed=seed)
        gru = nn.GRU(units // 2, return_sequences=True, return_state=True)
        self.encoder = nn.Bidirectional(gru, name="encoder", seed=seed)
        self.cell = nn.GRUCell(units, name="decoder", seed=seed)
        self.query = nn.Dense(units, use_bias=False, name="query", seed=seed)
        self.head = nn.Dense(LETTERS + 1, name="head", seed=seed)

    def encode(self, x, lengths):
        """Return what is at each place, and the last state, both ways side by side."""
        places, ahead, back = self.encoder(self.embed(x), lengths=lengths)
        return places, graphc.concatenate([ahead, back], axis=1)

    def reader(self, x, lengths):
        """Return the first state, and a function (state, letter) -> state, logits."""
        places, last = self.encode(x, lengths)
        there = graphc.iota((1, x.shape[1]), axis=1) < graphc.expand_dims(lengths, 1)
        mask = graphc.expand_dims(there, 1)

        def look(h):
            """Return the mean of the places, weighted by how well they fit h."""
            if not self.attends:
                return last
            query = graphc.expand_dims(self.query(h), 1)
            found = graphc.scaled_dot_product_attention(query, places, places, mask)
            return found[:, 0]

        def step(h, letter):
            given = graphc.concatenate([self.embed(letter), look(h)], axis=1)
            new, _ = self.cell(given, h)
            return new, self.head(graphc.concatenate([new, look(new)], axis=1))

        return last, step

    def loss(self, x, lengths, y):
        """Return the mean cross-entropy of letters and ends, told those before."""
        start, step = self.reader(x, lengths)
        before = graphc.pad(y[:, :-1], ((0, 0), (1, 0)), constant_values=END)
        _, logits = graphc.scan(step, start, graphc.transpose(before))
        log_p = graphc.log_softmax(graphc.swapaxes(logits, 0, 1))
        right = graphc.sum(graphc.one_hot(y, LETTERS + 1) * log_p, axis=2)
        counts = graphc.iota((1, y.shape[1]), axis=1) <= graphc.expand_dims(lengths, 1)
        total = graphc.sum(graphc.cast(counts, "float32"))
        return -graphc.sum(graphc.where(counts, right, 0.0)) / total

    def write(self, x, lengths):
        """Return the most likely letters, each given those that were written."""
        start, step = self.reader(x, lengths)

        def body(carry, _):
            h, letter = carry
            h, logits = step(h, letter)
            letter = graphc.argmax(logits, axis=1)
            return (h, letter), letter

        first = graphc.full((x.shape[0],), END, dtype="int32")
        _, written = graphc.scan(body, (start, first), length=x.shape[1] + 1)
        return graphc.transpose(written)


# --- training -------------------------------------------------------------------------


def main(attends=True, steps=1200, longest=16, units=64, seed=0, least=0.95):
    """Train and test; returns the share of new words that are right in every letter."""
    network = Network(units, attends, seed)
    x = graphc.input("x", ("N", "S"), dtype="int32")
    lengths = graphc.input("lengths", ("N",), dtype="int32")
    y = graphc.input("y", ("N", "T"), dtype="int32")
    adam = optim.Adam(0.004)
    loss = network.loss(x, lengths, y)
    step = graphc.compile([x, lengths, y], loss, updates=adam.updates(loss))
    write = graphc.compile([x, lengths], network.write(x, lengths), name="write")

    rng = np.random.default_rng(seed)
    new_x, new_lengths, new_y = words(1000, longest, rng)
    recent = []
    for number in range(steps):
        adam.learning_rate = 0.004 * (1 - number / steps)
        recent.append(step(*words(64, longest, rng)))
        if (number + 1) % (steps // 5) == 0:
            print(f"step {number + 1}: loss {np.mean(recent[-50:]):.4f}")

    written = write(new_x, new_lengths)
    ends = np.arange(longest + 1) > new_lengths[:, None]
    right = ((written == new_y) | ends).all(axis=1)
    for word, guess in list(zip(new_x, written, strict=True))[:3]:
        print("   ", spelled(word), "->", spelled(guess))
    for n in range(SHORTEST, longest + 1, 4):
        print(f"right of length {n}: {right[new_lengths == n].mean():.0%}")
    accuracy = float(right.mean())
    print(f"new words that are right in every letter: {accuracy:.1%}")
    if accuracy < least:
        raise SystemExit(f"not reached: {accuracy:.1%} is under {least:.1%}")
    return accuracy


def spelled(word):
    """Return a word as text."""
    letters = "".join(chr(ord("a") + code - 1) if code else " " for code in word)
    return letters.split(" ")[0]


if __name__ == "__main__":
    alone = sys.argv[1:] == ["without"]
    main(attends=not alone, least=0.0 if alone else 0.95)
