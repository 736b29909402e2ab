"""The order of statements: what is held is read before it is overwritten.

A body holds buffers whose reads mean the value at its beginning: the states of a step,
the carries of a loop. Statements are declared without regard to that; here they are
sorted, and where no order does (two states that swap), one is written beside and
copied at the end.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

from graphc.errors import LoweringError
from graphc.ir.leaves import make_args
from graphc.ir.program import Call, Nest, Statement, Task
from graphc.ir.program.hazards import depends_on_itself
from graphc.passes.lowering.buffers import Buffers, Place
from graphc.passes.lowering.group import GroupLowering


def copy(buffers: Buffers, source: Place, target: Place) -> Nest:
    """Return the nest that copies what lies at one place to another."""
    whole = buffers.table[target.buffer].type
    (arg,) = make_args([whole.with_shape(whole.shape[len(target.lead) :])])
    nest = GroupLowering({arg: source}, [(arg, target)]).nest("copy")
    return nest.replace(summary="copy")


def in_place(
    task: Task, held: AbstractSet[str], buffers: Buffers
) -> tuple[Task, list[Nest]]:
    """Return a task that may write what is held, and the copies that follow it.

    One that would read elements which it wrote before writes beside.
    """
    copies = []
    for name in task.writes:
        if buffers.owner(name) in held and _overwrites(task, name, buffers):
            beside = buffers.beside(name)
            task = redirect(task, name, beside)
            copies.append(copy(buffers, Place(beside), Place(name)))
    return task, copies


def _overwrites(task: Task, name: str, buffers: Buffers) -> bool:
    """Whether a task would read elements of a buffer that it wrote before."""
    others = [n for n in task.reads if n != name or isinstance(task, Call)]
    if buffers.owner(name) in buffers.owners(others):
        return True
    return isinstance(task, Nest) and depends_on_itself(task, name)


def redirect(task: Task, old: str, new: str) -> Task:
    """Return a task that writes one buffer instead of another."""
    if isinstance(task, Call):
        return task.replace(writes=tuple(new if n == old else n for n in task.writes))
    phases = tuple(
        replace(
            p,
            stores=tuple(
                replace(s, buffer=new) if s.buffer == old else s for s in p.stores
            ),
        )
        for p in task.phases
    )
    return task.replace(phases=phases)


def ordered(
    body: Sequence[Statement], held: AbstractSet[str], buffers: Buffers
) -> tuple[Statement, ...]:
    """Return statements in an order in which each read finds what it means.

    Raises:  LoweringError if they need each other.
    """
    work = list(body)
    while True:
        order, stuck = _sorted(work, held, buffers)
        if not stuck:
            return tuple(order)
        _write_beside(work, stuck, held, buffers)


def _sorted(
    body: Sequence[Statement], held: AbstractSet[str], buffers: Buffers
) -> tuple[list[Statement], list[int]]:
    """Sort topologically, ties in graph order; returns what is left in cycles."""
    after: list[set[int]] = [set() for _ in body]
    waits = [0] * len(body)

    def follow(first: int, second: int) -> None:
        if first != second and second not in after[first]:
            after[first].add(second)
            waits[second] += 1

    maker: dict[str, int] = {}
    for i, statement in enumerate(body):
        for name in buffers.owners(statement.writes):
            # A second writer continues what the first began: a loop its first carry.
            follow(maker.get(name, i), i)
            maker[name] = i
    for i, statement in enumerate(body):
        for name in buffers.owners(statement.reads):
            j = maker.get(name, i)
            follow(*((i, j) if name in held else (j, i)))
    ready = [i for i, n in enumerate(waits) if n == 0]
    heapq.heapify(ready)
    order: list[Statement] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(body[i])
        for j in after[i]:
            waits[j] -= 1
            if waits[j] == 0:
                heapq.heappush(ready, j)
    return order, [i for i, n in enumerate(waits) if n > 0]


def _write_beside(
    body: list[Statement],
    stuck: Sequence[int],
    held: AbstractSet[str],
    buffers: Buffers,
) -> None:
    """Let one task of a cycle write beside what is held, and copy that at the end."""
    for i in stuck:
        statement = body[i]
        for name in statement.writes:
            if isinstance(statement, Task) and buffers.owner(name) in held:
                beside = buffers.beside(name)
                body[i] = redirect(statement, name, beside)
                body.append(copy(buffers, Place(beside), Place(name)))
                return
    raise LoweringError("the graph has a cycle", help="verify the graph")
