"""Groups join unless a path leads through a third; the order stays one."""

from __future__ import annotations

import random

import pytest

import graphc
from graphc.ir.nodes import Node
from graphc.passes import grouping
from graphc.passes.grouping import Group, Groups


def random_nodes(chance: random.Random, n: int) -> list[Node]:
    """Return nodes, each of which reads one or two of those before it."""
    tensors = [graphc.input("x", (3,))]
    for _ in range(n):
        tensors.append(chance.choice(tensors[-5:]) + chance.choice(tensors))
    return [t.node for t in tensors[1:]]


def groups_of(nodes: list[Node]) -> Groups:
    readers: dict[Node, list[Node]] = {n: [] for n in nodes}
    for n in nodes:
        for t in n.inputs:
            if t.node in readers:
                readers[t.node].append(n)
    found = Groups(lambda n: (t.node for t in n.inputs), lambda n: readers[n])
    for n in nodes:
        found.place(n)
    return found


def before(groups: Groups, group: Group) -> set[Group]:
    """Return the groups that a group reads from."""
    sources = (groups.of.get(t.node) for n in group.nodes for t in n.inputs)
    return {g for g in sources if g is not None and g is not group}


def path_through_a_third(groups: Groups, a: Group, b: Group) -> bool:
    for start, end in ((a, b), (b, a)):
        stack = [g for g in before(groups, start) if g is not end]
        seen = set(stack)
        while stack:
            for g in before(groups, stack.pop()):
                if g is end:
                    return True
                if g not in seen:
                    seen.add(g)
                    stack.append(g)
    return False


@pytest.mark.parametrize("seed", range(20))
def test_groups_join_exactly_where_no_path_leads_through_a_third(seed: int) -> None:
    chance = random.Random(seed)
    nodes = random_nodes(chance, 30)
    groups = groups_of(nodes)
    for _ in range(60):
        a, b = (groups.of[chance.choice(nodes)] for _ in range(2))
        if a is b:
            continue
        found = groups.between(a, b)
        assert (found is None) == path_through_a_third(groups, a, b)
        if found is not None:
            groups.join(found)
        order = list(groups)
        assert sorted(g.rank for g in order) == [g.rank for g in order]
        seen: set[Group] = set()
        for g in order:
            assert before(groups, g) <= seen
            seen.add(g)
        assert {n for g in order for n in g.nodes} == set(nodes)


def test_groups_are_numbered_again_where_no_number_is_left() -> None:
    x = graphc.input("x", (3,))
    roots = [(x + float(i)).node for i in range(200)]
    groups = groups_of(roots)
    first, last = groups.of[roots[0]], groups.of[roots[-1]]
    for node in roots[1:-1]:  # each goes into the gap that the one before has halved
        group = groups.of[node]
        groups._unlink(group)
        groups._link(group, first, first.after)
    ranks = [g.rank for g in groups]
    assert ranks == sorted(set(ranks))
    assert len(ranks) == len(roots)
    assert groups.of[roots[-1]] is last


def test_search_ends_where_groups_lie_far_apart(monkeypatch) -> None:
    x = graphc.input("x", (3,))
    chain = [x + 1.0]
    for _ in range(100):
        chain.append(graphc.exp(chain[-1]))
    chain.append(chain[-1] + chain[0])
    nodes = [t.node for t in chain]
    groups = groups_of(nodes)
    monkeypatch.setattr(grouping, "MOST_EDGES", 20)
    assert groups.between(groups.of[nodes[0]], groups.of[nodes[-1]]) is None
    assert groups.looked <= 20
