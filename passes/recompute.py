"""recompute: what waits long for its use is computed again instead.

    h1 = f(x)   h2 = f(h1)   h3 = f(h2)   d2 = g(h3)   d1 = g(d2, h2)   d0 = g(d1, h1)
                                    =>
    h1 = f(x)   h2 = f(h1)   h3 = f(h2)   d2 = g(h3)   h2.again = f(h1)
                                          d1 = g(d2, h2.again)   d0 = g(d1, h1)

The gradient of a network reads what each layer made, so all of that lies in memory at
once. With a budget, a part is kept and the rest computed again from it, shortly before
it is read. First only what costs no product; if that is not enough, whole segments of
the program (`recompute_choice.py` says which), as few as the budget allows.

It stands behind the default passes, `passes="default,recompute{fraction=0.25}"`, as
the memory plan says what a step needs and the order of statements is final: a copy is
done where it is put. It is no part of the default.

The budget is for the temporaries that the plan places; the scratch memory of threads
comes on top. Where dimensions are symbolic, each counts as `size`.

Preserves every value bit for bit: a copy is the same nest over the same values, states
are overwritten after it has read them, and random numbers depend on seed, stream and
step alone. Loops and branches are not done again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import log

from graphc.errors import PassError
from graphc.ir.program import Program
from graphc.passes.place_barriers import place_barriers
from graphc.passes.plan_memory import plan_memory
from graphc.passes.recompute_choice import choose
from graphc.passes.recompute_program import Rewriter
from graphc.passes.recompute_steps import Steps
from graphc.passes.registry import program_pass

SHRINK = 0.85  # the room that is tried next, by the last one
LEAST = 0.003  # of all that waits: the smallest room
SHOWN = 6  # tensors that an error names


@dataclass(frozen=True, slots=True)
class Options:
    """The budget: a part of what the step needs without, or megabytes if given.

    size: what a symbolic dimension counts as.
    """

    fraction: float = 0.25
    megabytes: int = 0
    size: int = 1024


@program_pass("recompute", Options)
def recompute(program: Program, options: Options) -> Program:
    """Compute again what waits long, so that a step's memory stays within a budget.

    Raises:  PassError naming what fills the memory, if the budget is too small.
    """
    steps = Steps(program, options.size)
    best = plan_memory(place_barriers(program))
    least = _bytes(best, steps)
    budget = int(options.megabytes * 1e6 or options.fraction * least)
    if least <= budget:
        return program
    for tried in _candidates(steps, budget):
        found = sum(fullest(tried, steps).values())
        # Gaps between buffers come on top of what is alive at once.
        found = found if found > budget else _bytes(tried, steps)
        if found <= budget:
            return tried
        if found < least:
            least, best = found, tried
    raise _too_small(best, steps, least, budget)


def _candidates(steps: Steps, budget: int) -> Iterator[Program]:
    """Yield programs that do more and more again."""
    write = Rewriter(steps).program
    for fixed, ratio in ((steps.costly, SHRINK**4), (frozenset[int](), SHRINK)):
        total = sum(n for i, n in enumerate(steps.weights) if i not in fixed)
        rooms = {int(total * ratio**k) for k in range(int(log(LEAST, ratio)))}
        # What leaves more room than the budget only shows what can be reached.
        for room in sorted(rooms, key=lambda r: (r > budget, -r)):
            yield write(choose(steps, room, fixed))


def _sizes(program: Program, steps: Steps) -> dict[str, int]:
    assert program.plan is not None
    names = [x.buffer for x in program.plan.lifetimes]
    return {n: steps.size_of(program.buffers[n]) for n in names}


def _bytes(program: Program, steps: Steps) -> int:
    """Return the bytes of a program's arena."""
    assert program.plan is not None
    return program.plan.place(_sizes(program, steps)).bytes


def fullest(program: Program, steps: Steps) -> dict[str, int]:
    """Return the buffers that are alive where most bytes are, with their bytes."""
    assert program.plan is not None
    lives, sizes = program.plan.lifetimes, _sizes(program, steps)
    change = [0] * (max((x.last for x in lives), default=0) + 2)
    for x in lives:
        change[x.first + bool(x.over)] += sizes[x.buffer]
        change[x.last + 1] -= sizes[x.buffer]
    alive = list(accumulate(change))
    at = alive.index(max(alive))
    return {
        x.buffer: sizes[x.buffer]
        for x in lives
        if x.first + bool(x.over) <= at <= x.last
    }


def _too_small(program: Program, steps: Steps, least: int, budget: int) -> PassError:
    found = fullest(program, steps)
    names = sorted(found, key=lambda n: -found[n])
    lines = [_line(program, n, found[n]) for n in names[:SHOWN]]
    if len(names) > SHOWN:
        lines.append(f"and {len(names) - SHOWN} smaller ones")
    sizes = ", ".join(f"{d} = {n}" for d, n in steps.sizes.items())
    return PassError(
        f"recompute: the budget is {_megabytes(budget)}, what was reached is "
        f"{_megabytes(least)}" + (f" (with {sizes})" if sizes else ""),
        details=["where it needs most, there are", *lines],
        help="allow more, or make what needs most smaller: the batch, or a layer",
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"


def _line(program: Program, name: str, size: int) -> str:
    """Return a line on a buffer: its bytes, what it is, where it comes from."""
    makers = (t for t in program.tasks if name in map(program.root, t.writes))
    places = (o.quoted for t in makers for o in t.origins if o.quoted)
    place = next(places, "")
    return (
        f"{_megabytes(size)}  {name} : {program.buffers[name].type}  {place}".rstrip()
    )
