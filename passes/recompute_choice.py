"""Which temporaries `recompute` keeps: those at the borders of segments.

The statements before the turn are cut into segments. What crosses a cut is kept; what
lies within a segment is thrown away, and computed again from there just before it is
needed. The last segment is needed at once, and stays.

With `room` bytes for the last segment, each segment before it may be larger by what
is kept between them: when it is done again, that is no longer needed. So a step needs
about `room` and all that is kept, and the more room there is, the less is done twice.

    room for 2 of 9 layers:   h1 h2 h3 h4 | h5 h6 h7 | h8 h9
                                       kept       kept  all kept

Source: Chen, Xu, Zhang, Guestrin, "Training deep nets with sublinear memory cost",
2016; here the segments grow towards the beginning, and each cut is where the fewest
bytes cross.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import accumulate

from graphc.passes.recompute_steps import Steps

WINDOW = 4  # a cut may make a segment shorter by a part of its length


@dataclass(frozen=True)
class Choice:
    """What is done again.

    again: by statement the temporaries that it makes again, and before which statement
    that is. later: statements that overwrite states, and before which they now come.
    """

    again: dict[int, frozenset[str]]
    place: dict[int, int]
    later: dict[int, int]


def choose(steps: Steps, room: int, fixed: AbstractSet[int]) -> Choice:
    """Return what is done again if so many bytes may stay before the turn.

    fixed: statements that must not be done again.
    """
    stays = set(fixed)
    while True:  # ends, as what stays grows
        again = _again(steps, *_kept(steps, room, stays))
        place = _places(steps, again)
        later, wrong = _states(steps, place)
        if not wrong:
            return Choice({i: frozenset(r) for i, r in again.items()}, place, later)
        stays |= wrong


def _kept(
    steps: Steps, room: int, stays: AbstractSet[int]
) -> tuple[set[str], dict[str, int]]:
    """Return the late temporaries to make again, and what all can be made by."""
    makers = {r: i for r, i in steps.makers.items() if i not in stays}
    weight = [0 if i in stays else w for i, w in enumerate(steps.weights)]
    before = [0, *accumulate(weight)]  # the bytes made before each statement
    last = bisect_left(before, before[-1] - room)  # the last segment begins here
    makers = {r: i for r, i in makers.items() if i < last}
    # Each temporary crosses the cuts between its maker and its last reader.
    spans = {
        r: (i, max((k for k in steps.readers.get(r, ()) if k < last), default=i))
        for r, i in makers.items()
    }
    crossing = [0] * (last + 1)
    for r, (i, end) in spans.items():
        if end > i:
            crossing[i + 1] += steps.bytes[r]
            crossing[end + 1] -= steps.bytes[r]
    crossing = list(accumulate(crossing))
    cuts = _cuts(before, crossing, last, room)
    whole = {i for i, end in spans.values() if _is_between(cuts, i, end)}
    makers = {r: i for r, i in makers.items() if i not in whole}
    return {r for r in makers if steps.is_late(r)}, makers


def _cuts(before: list[int], crossing: list[int], last: int, room: int) -> list[int]:
    """Return before which statements segments begin, in order."""
    cuts: list[int] = []
    high = last
    while True:
        low = min(bisect_left(before, before[high] - room), high - 1)
        if low <= 0 or before[low] == 0:
            return cuts[::-1]
        window = range(low, min(high, low + 1 + (high - low) // WINDOW))
        high = min(window, key=lambda q: (crossing[q], q))
        cuts.append(high)
        room += crossing[high]


def _is_between(cuts: list[int], i: int, end: int) -> bool:
    """Whether a cut lies behind statement i and not behind the other."""
    at = bisect_left(cuts, i + 1)
    return at < len(cuts) and cuts[at] <= end


def _again(
    steps: Steps, wanted: set[str], makers: dict[str, int]
) -> dict[int, set[str]]:
    """Return by statement what it makes again, with what that is made of."""
    again: dict[int, set[str]] = {}
    stack = sorted(wanted)
    while stack:
        root = stack.pop()
        i = makers[root]
        if root in again.setdefault(i, set()):
            continue
        again[i].add(root)
        stack += steps.beside(i)
        stack += [r for r in steps.needs[i] if makers.get(r, i) != i]
    return again


def _places(steps: Steps, again: dict[int, set[str]]) -> dict[int, int]:
    """Return before which statement each is done again: as late as it can be."""
    needed: dict[str, int] = {}
    place: dict[int, int] = {}
    for i in sorted(again, reverse=True):
        late = (k for r in again[i] for k in steps.readers[r] if k >= steps.turn)
        inner = (needed[r] for r in again[i] if r in needed)
        place[i] = min((*late, *inner))
        for r in steps.needs[i]:
            needed[r] = min(place[i], needed.get(r, place[i]))
    return place


def _states(
    steps: Steps, place: dict[int, int]
) -> tuple[dict[int, int], AbstractSet[int]]:
    """Return who must overwrite states later, and what cannot be done again for them.

    What is done again reads states as they were at the beginning.
    """
    later: dict[int, int] = {}
    wrong: set[int] = set()
    for i, at in place.items():
        for r in filter(steps.is_state, steps.needs[i]):
            for k in steps.writers.get(r, ()):
                if k < at and k in steps.loose:
                    later[k] = max(at, later.get(k, at))
                elif k < at:
                    wrong.add(i)
    return later, wrong
