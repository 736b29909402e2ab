"""Groups of nodes that grow by joining, and an order in which they can run.

Two groups may become one unless a path leads from one to the other through a third:
that one could then run neither before nor after. The order answers this without a look
at the whole graph: whatever lies on a path stands between its ends, so a search from
both ends at once stays there, and ends as soon as one side has nothing more to visit.
What that side found then moves to the other side of the group that is made. (The idea
of an order kept up under change is David Pearce's and Paul Kelly's, "A dynamic
topological sort algorithm for directed acyclic graphs", 2006; the list with labels is
ours.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from graphc.ir.nodes import Node

# A search looks along at most so many edges. Groups that lie farther apart are not
# joined, so that a graph twice as long takes twice as long.
MOST_EDGES = 1000

Near = Callable[[Node], Iterable[Node]]


@dataclass(eq=False, slots=True)
class Group:
    """Nodes that become one, as they were placed; `rank` grows along the order."""

    number: int
    nodes: list[Node]
    rank: float
    before: Group | None = field(default=None, repr=False)
    after: Group | None = field(default=None, repr=False)


@dataclass(slots=True)
class Between:
    """What moves if two groups join: `first` and `last` become one.

    moved: all that `last` depends on and that stands between them, if `up`; else all
    between them that depends on `first`.
    """

    first: Group
    last: Group
    moved: list[Group]
    up: bool


class Groups:
    """Groups in an order in which each comes after those it depends on.

    sources, users: the nodes that a node reads from, and those that read from it.
    """

    def __init__(self, sources: Near, users: Near) -> None:
        self.of: dict[Node, Group] = {}
        self.looked = 0  # along so many edges, by all searches
        self._sources, self._users = sources, users
        self._position: dict[Node, int] = {}
        self._head: Group | None = None
        self._tail: Group | None = None

    def __iter__(self) -> Iterator[Group]:
        """Go through the groups in order."""
        group = self._head
        while group is not None:
            yield group
            group = group.after

    def place(self, node: Node) -> Group:
        """Put a node into a group of its own, at the end."""
        rank = 0.0 if self._tail is None else self._tail.rank + 1
        number = self._position[node] = len(self._position)
        group = self.of[node] = Group(number, [node], rank)
        self._link(group, self._tail, None)
        return group

    def between(self, a: Group, b: Group) -> Between | None:
        """Return what moves if two groups join, None if they must not.

        Nor may they if the search for a path takes too long.
        """
        first, last = (a, b) if a.rank < b.rank else (b, a)
        sides = (
            (self._reach(last, first, self._sources), True),
            (self._reach(first, last, self._users), False),
        )
        for _ in range(MOST_EDGES // 2):
            for side, up in sides:
                self.looked += 1
                found = next(side)
                if found is first or found is last:
                    return None
                if isinstance(found, list):
                    return Between(first, last, found, up)
        return None

    def _reach(
        self, start: Group, end: Group, near: Near
    ) -> Iterator[Group | list[Group] | None]:
        """Yield None for each edge from `start` on, and at last the groups they reach.

        Only what stands between `start` and `end` counts. Yields `end` once it is
        reached by way of a third group.
        """
        low, high = sorted((start.rank, end.rank))
        found: dict[Group, None] = {}
        stack = [start]
        while stack:
            group = stack.pop()
            for node in group.nodes:
                for other in near(node):
                    to = self.of.get(other)
                    if to is end and group is not start:
                        yield end
                    if to is not None and to not in found and low < to.rank < high:
                        found[to] = None
                        stack.append(to)
                    yield None
        yield list(found)

    def join(self, found: Between) -> Group:
        """Make one group of two, and move what stands between them out of the way."""
        first, last = found.first, found.last
        stays, goes = (first, last) if found.up else (last, first)
        for group in sorted(found.moved, key=lambda g: g.rank, reverse=not found.up):
            self._unlink(group)
            if found.up:
                self._link(group, stays.before, stays)
            else:
                self._link(group, stays, stays.after)
        self._unlink(goes)
        stays.nodes = sorted(
            [*stays.nodes, *goes.nodes], key=self._position.__getitem__
        )
        for node in goes.nodes:
            self.of[node] = stays
        stays.number = min(stays.number, goes.number)
        return stays

    def move(self, node: Node, to: Group) -> None:
        """Move a node to a group that reads it, the only one that does."""
        self.of[node].nodes.remove(node)
        to.nodes = sorted([*to.nodes, node], key=self._position.__getitem__)
        self.of[node] = to

    # --- the list -----------------------------------------------------------------

    def _link(self, group: Group, before: Group | None, after: Group | None) -> None:
        group.before, group.after = before, after
        if before is None:
            self._head = group
        else:
            before.after = group
        if after is None:
            self._tail = group
        else:
            after.before = group
        if before is not None and after is not None:
            group.rank = (before.rank + after.rank) / 2
            if not before.rank < group.rank < after.rank:
                self._number()
        elif after is not None:
            group.rank = after.rank - 1
        elif before is not None:
            group.rank = before.rank + 1

    def _unlink(self, group: Group) -> None:
        if group.before is None:
            self._head = group.after
        else:
            group.before.after = group.after
        if group.after is None:
            self._tail = group.before
        else:
            group.after.before = group.before

    def _number(self) -> None:
        """Number all groups again: no number was left between two of them."""
        for rank, group in enumerate(self):
            group.rank = float(rank)
