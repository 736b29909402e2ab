"""The cheapest cut through a network of vertices.

Edges have a width; the cheapest cut is the set of edges of least width in all whose
removal parts the source from the sink. It is as wide as the largest flow, which grows
along shortest paths until none is left. (Lester Ford and Delbert Fulkerson, "Maximal
flow through a network", 1956; Jack Edmonds and Richard Karp, 1972, for the order.)
NetworkX has one too, which a compile would first have to import.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from itertools import pairwise

ENDLESS = 1 << 62


class Network:
    """Vertices, and how much may still flow from one to another."""

    def __init__(self) -> None:
        self._room: dict[Hashable, dict[Hashable, int]] = {}

    def connect(self, start: Hashable, end: Hashable, width: int) -> None:
        """Add an edge; two between the same vertices are as wide as both."""
        row = self._room.setdefault(start, {})
        row[end] = row.get(end, 0) + width
        self._room.setdefault(end, {}).setdefault(start, 0)

    def beyond(self, source: Hashable, sink: Hashable) -> set[Hashable]:
        """Return the vertices beyond the cheapest cut, the one nearest to the sink.

        Each path from source to sink needs an edge that is not endless.
        Example:
            >>> pipe = Network()
            >>> for start, end, width in [("a", "b", 3), ("b", "c", 1), ("c", "d", 2)]:
            ...     pipe.connect(start, end, width)
            >>> sorted(pipe.beyond("a", "d"))
            ['c', 'd']
        """
        while True:
            before = self._leading_to(sink)
            if source not in before:
                return set(before)
            path = [source]
            while path[-1] != sink:
                path.append(before[path[-1]])
            edges = list(pairwise(path))
            flow = min(self._room[a][b] for a, b in edges)
            for a, b in edges:
                self._room[a][b] -= flow
                self._room[b][a] += flow

    def _leading_to(self, sink: Hashable) -> dict[Hashable, Hashable]:
        """Return the vertices with room to the sink, each with the next on the way."""
        found: dict[Hashable, Hashable] = {sink: sink}
        queue = deque([sink])
        while queue:
            end = queue.popleft()
            for start in self._room.get(end, ()):
                if start not in found and self._room[start][end] > 0:
                    found[start] = end
                    queue.append(start)
        return found
