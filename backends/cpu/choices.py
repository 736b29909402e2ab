"""What may be chosen for a nest: the fields of its schedule that have several answers.

    nest add (i0: N) {vector i0 x16}          far: "", "ahead", "stream"
    nest sum (i0: N) {vector k0 x16, 4 at once}
                                              vectors: 4, 1, 2;  points: 1, 2
    nest matmul (i0: N, i1: 512) {tile i0 by i1 x16}
                                              copies_a, copies_b, by_rows: no, yes

Passes and `TileRoom` answer by a model of the machine: that is the default, and comes
first. All answers compute the same formula; `vectors`, and `copies_b` of a single row,
change the order of additions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graphc.backends.cpu.early import past
from graphc.backends.cpu.tile_room import TURNED_BYTES, TileRoom
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.costs import bytes_of
from graphc.backends.shared.tuning import Value
from graphc.ir.dims import evaluate
from graphc.ir.program import Nest, Program, Schedule
from graphc.ir.scalar import Load, is_uniform, walk
from graphc.passes.pair_rows import may_pair
from graphc.passes.widen import widest

Choices = Mapping[str, Value]  # by the name of a field of the schedule

# Of nests that touch less, all is near after a first run: to ask early gains nothing.
FAR_BYTES = 1 << 17


@dataclass(frozen=True)
class Place:
    """A nest with its default schedule, where it stands, and for which sizes.

    is_read: whether others read what it writes. is_kept: whether a loop keeps copies of
    its second operand. words: what its kernel takes; threads: how many run it.
    """

    nest: Nest
    program: Program
    sizes: Mapping[str, int]
    is_read: bool
    is_kept: bool
    words: Sequence[Argument] = ()
    threads: int = 1

    def values(self, name: str, chosen: Choices) -> tuple[Value, ...]:
        """Return what a field may be, the default first, if others are `chosen`."""
        return NAMES[name](self, scheduled(self.nest, chosen))

    def accepts(self, chosen: Mapping[str, Any]) -> bool:
        """Whether a nest can run so; `chosen` may come from anywhere."""
        before: dict[str, Value] = {}
        for name, value in chosen.items():
            if name in OF_TILES:
                good = self.nest.is_tiled and isinstance(value, bool)
            else:
                values = self.values(name, before) if name in NAMES else ()
                good = any(type(v) is type(value) and v == value for v in values)
            if not good:
                return False
            before[name] = value
        return True


def scheduled(nest: Nest, chosen: Choices) -> Nest:
    """Return a nest with these fields of its schedule."""
    assert nest.schedule is not None
    changes: dict[str, Any] = dict(chosen)
    return nest.replace(schedule=replace(nest.schedule, **changes))


def may_tune(nest: Nest) -> bool:
    """Whether a nest's time is the same for all values that it reads.

    Where indices are read, it depends on which they are; the number of a loop's turn
    is none of these.
    """
    indices = [i for e in nest.exprs if isinstance(e, Load) for i in e.args]
    indices += [i for p in nest.phases for s in p.stores for i in s.index]
    return all(is_uniform(e) for e in walk(*indices) if isinstance(e, Load))


# --- nests with lanes along an axis ---------------------------------------------------


def _far(place: Place, nest: Nest) -> tuple[Value, ...]:
    default = _schedule(place.nest).far
    if nest.is_tiled or not nest.axes:
        return (default,)
    if evaluate(bytes_of(nest, place.program), place.sizes) < FAR_BYTES:
        return (default,)
    found = ["", "ahead"]
    # What goes past the caches costs those that read it next, who are not timed here.
    if past(nest, place.program) and not place.is_read:
        found.append("stream")
    return _others(default, found)


def _vectors(place: Place, nest: Nest) -> tuple[Value, ...]:
    default = _schedule(place.nest).vectors
    most = widest(nest, place.sizes)
    each = [1 << k for k in range(most.bit_length())]
    if _schedule(nest).points > 1:
        points = _schedule(nest).points
        each = [n for n in each if may_pair(scheduled(nest, {"vectors": n}), points)]
    return _others(default, each)


def _points(place: Place, nest: Nest) -> tuple[Value, ...]:
    default = _schedule(place.nest).points
    several = may_pair(nest) and evaluate(nest.axes[0].extent, place.sizes) > 1
    return _others(default, [n for n in (1, 2, 4) if several and may_pair(nest, n)])


# --- contractions on tiles ------------------------------------------------------------


def _copies_a(place: Place, nest: Nest) -> tuple[Value, ...]:
    room = _room(place)
    if not _asks(place, "pack a") or not room.may_copy_a:
        return ()
    m, _, k = room.mnk
    fits = m * k * room.roles.a.dtype.itemsize <= TURNED_BYTES
    return _others(room.packs_a, [False, True] if fits else [])


def _copies_b(place: Place, nest: Nest) -> tuple[Value, ...]:
    room = _room(place)
    if not _asks(place, "pack b") or place.is_kept or room.must_copy_b:
        return ()
    return _others(room.packs_b, [False, True])


def _by_rows(place: Place, nest: Nest) -> tuple[Value, ...]:
    if not _asks(place, "rowwise") or place.threads < 2:
        return ()
    return _others(_room(place).rowwise(place.threads), [False, True])


def _room(place: Place) -> TileRoom:
    return TileRoom(place.nest, place.program, place.sizes, place.words)


def _asks(place: Place, question: str) -> bool:
    return any(w.kind == "choice" and w.value == question for w in place.words)


def _schedule(nest: Nest) -> Schedule:
    assert nest.schedule is not None
    return nest.schedule


def _others(default: Value, found: Sequence[Value]) -> tuple[Value, ...]:
    return (default, *(v for v in found if v != default))


# In the order in which they are settled: each is measured with those before it.
NAMES = {
    "far": _far,
    "vectors": _vectors,
    "points": _points,
    "copies_a": _copies_a,
    "copies_b": _copies_b,
    "by_rows": _by_rows,
}
# Those that `TileRoom` takes only where operands leave them open.
OF_TILES = ("copies_a", "copies_b", "by_rows")
