"""The gradient of a scan: another scan, which runs the other way.

    forward     c, y[t]  = body(c, x[t], k)
    backward    gc, gx[t] = gc', gy[t] pulled through the body;   gk += ...

The body's own gradient is a graph over its arguments and the cotangents. What of it
does not depend on a cotangent belongs to the forward scan; of that, only what the rest
reads is kept, a stack with an entry a step. What costs nothing to have again (what is
stepped over or captured, what only moves elements, arithmetic on what is kept anyway)
is not kept.

The forward scan here returns more than the one that it stands for; the pass
`merge-scans` makes one of the two.

Source: reverse accumulation through loops as in Griewank and Walther, "Evaluating
Derivatives", 2008; splitting by what is known as in JAX's partial evaluation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graphc.autodiff.reverse import carry_back, stable_form
from graphc.control.roles import Scan, split
from graphc.control.tidy import tidy
from graphc.ir.dims import Size, minimum
from graphc.ir.leaves import make_args
from graphc.ir.nodes import Node, Region, Tensor, make, topological
from graphc.ir.scalar import PRIMITIVES, Apply, lift, ref, walk
from graphc.ops.arithmetic import where
from graphc.ops.creation import CONSTANT, dim, zeros
from graphc.ops.padding import pad_with

CHEAP = 4  # flops: what is less than reading and writing an element of memory


def scan_gradient(node: Node, cotangents: Sequence[Any]) -> list[Tensor | None]:
    """Return the cotangents of a scan's inputs."""
    return _Backward(node, cotangents).run()


class _Backward:
    def __init__(self, node: Node, cotangents: Sequence[Tensor | None]) -> None:
        self.node = node
        self.attrs: Scan = node.attrs
        (region,) = node.regions
        n = self.attrs.carries
        outputs, args = stable_form(region.outputs, region.args)
        self.outputs, self.args = tuple(outputs), tuple(args)
        self.carries, self.xs, self.consts = split(self.attrs, self.args)
        self.finals, self.stacks = cotangents[:n], cotangents[n:]

    def run(self) -> list[Tensor | None]:
        n = self.attrs.carries
        floats = [i for i in range(n) if self.carries[i].dtype.is_float]
        given = [j for j, g in enumerate(self.stacks) if g is not None]
        # The body's gradient, from a cotangent of each carry and each stacked output.
        at_carry = make_args([self.carries[i].type for i in floats])
        at_y = make_args([self.outputs[n + j].type for j in given])
        seeded = [self.outputs[i] for i in floats]
        seeded += [self.outputs[n + j] for j in given]
        found = carry_back(seeded, [*at_carry, *at_y], self.args)
        m = n + len(self.xs)
        reached = {i: g for i, g in enumerate(found) if g is not None}
        to_x = [j for j in reached if n <= j < m]
        to_const = [k for k in reached if k >= m]
        adds = make_args([self.args[k].type for k in to_const])
        new_carry = [
            reached[i] if i in reached else zeros(a.shape, a.dtype)
            for i, a in zip(floats, at_carry, strict=True)
        ]
        sums = [a + reached[k] for a, k in zip(adds, to_const, strict=True)]
        outputs = [*new_carry, *sums, *(reached[j] for j in to_x)]
        if not outputs:
            return [None] * len(self.node.inputs)
        # What the body's gradient needs of the forward pass.
        kept = _Kept([*at_carry, *at_y, *adds], outputs, [*self.xs, *self.consts])
        stacks = self._forward(kept.stacked)
        inits = [
            zeros(self.carries[i].shape, self.carries[i].dtype)
            if self.finals[i] is None
            else self.finals[i]
            for i in floats
        ]
        inits += [zeros(a.shape, a.dtype) for a in adds]
        outside = dict(zip(self.args, self.node.inputs, strict=True))
        steps: dict[Tensor, Tensor] = {}
        for j, arg in zip(given, at_y, strict=True):
            steps[arg] = self.stacks[j]  # type: ignore[assignment]
        steps.update(zip(kept.stacked, stacks, strict=True))
        stepped = set(self.xs)
        steps.update({t: outside[t] for t in kept.known if t in stepped})
        consts = {t: outside[t] for t in kept.known if t not in stepped}
        return self._scan(
            [*at_carry, *adds], inits, steps, consts, outputs,
            (floats, to_x, to_const),
        )  # fmt: skip

    def _forward(self, kept: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the stacks of what the backward pass needs, from the forward scan."""
        if not kept:
            return ()
        region = Region(self.args, [*self.outputs, *kept])
        found = make(self.node.op, self.node.inputs, self.attrs, [region])
        return found[len(self.outputs) :]

    def _scan(
        self,
        carried: Sequence[Tensor],
        inits: Sequence[Any],
        steps: dict[Tensor, Tensor],
        consts: dict[Tensor, Tensor],
        outputs: Sequence[Tensor],
        which: tuple[list[int], list[int], list[int]],
    ) -> list[Tensor | None]:
        """Make the backward scan and say what is the cotangent of which input."""
        floats, to_x, to_const = which
        length, over, ahead = self._window(steps)
        inner = dict(zip(steps, make_args([s.type for s in steps]), strict=True))
        inner |= dict(zip(consts, make_args([c.type for c in consts]), strict=True))
        inner |= {c: c for c in carried}
        results = _substituted(outputs, inner)
        args = [*carried, *(inner[t] for t in steps), *(inner[t] for t in consts)]
        region = Region(args, results)
        attrs = Scan(len(carried), len(steps), length, not self.attrs.reverse)
        attrs = replace(attrs, truncate=0)
        made = tidy(
            make(self.node.op, [*inits, *over, *consts.values()], attrs, [region])
        )
        back: list[Tensor | None] = [None] * len(self.node.inputs)
        for i, g in zip(floats, made, strict=False):
            # What lies before the window has no influence that is counted.
            back[i] = g if ahead == 0 else where(dim(ahead) <= 0, g, 0)
        for k, g in zip(to_const, made[len(floats) :], strict=False):
            back[k] = g
        for j, g in zip(to_x, made[len(carried) :], strict=True):
            back[j] = self._padded(g, ahead)
        return back

    # --- truncation ---------------------------------------------------------------

    def _window(self, steps: dict[Tensor, Tensor]) -> tuple[Size, list[Tensor], Size]:
        """Return how many steps to go back through, their slices, and the rest."""
        whole = self.attrs.length
        most = minimum(whole, self.attrs.truncate or whole)
        if most == whole:
            return whole, list(steps.values()), 0
        ahead = whole - most
        last = slice(0, most) if self.attrs.reverse else slice(ahead, None)
        return most, [t[last] for t in steps.values()], ahead

    def _padded(self, g: Tensor, ahead: Size) -> Tensor:
        """Return a stack of the window's cotangents, 0 for the steps before it."""
        if ahead == 0:
            return g
        first = 0 if self.attrs.reverse else ahead
        rest = g.shape[1:]
        return pad_with(g, (first, *[0] * len(rest)), (self.attrs.length, *rest))


class _Kept:
    """What a body's gradient reads of the forward pass.

    stacked: tensors of the forward body to keep, one entry a step. known: arguments
    of the body that are at hand anyway.
    """

    def __init__(
        self, late: Sequence[Tensor], outputs: Sequence[Tensor], known: Sequence[Tensor]
    ) -> None:
        self._known = set(known)
        order = topological(outputs)
        depends = {a.node for a in late}
        for node in order:
            if any(t.node in depends for t in node.inputs):
                depends.add(node)
        border: dict[Tensor, None] = {}
        for node in order:
            if node in depends:
                border.update({t: None for t in node.inputs if t.node not in depends})
        border.update({t: None for t in outputs if t.node not in depends})
        self.known: dict[Tensor, None] = {}
        kept: dict[Tensor, None] = {}
        for tensor in border:
            self._add(tensor, kept)
        self.stacked = list(self._cheaper(kept))

    def _add(self, tensor: Tensor, kept: dict[Tensor, None]) -> None:
        """Keep a tensor, or what it can be had from for nothing."""
        if tensor in self._known:
            self.known[tensor] = None
        elif _moves(tensor.node):
            for t in tensor.node.inputs:
                self._add(t, kept)
        else:
            kept[tensor] = None

    def _cheaper(self, kept: dict[Tensor, None]) -> dict[Tensor, None]:
        """Keep fewer bytes by computing again what arithmetic on others gives."""
        changed = True
        while changed:
            changed = False
            for tensor in list(kept):
                if not _is_cheap(tensor.node):
                    continue
                rest = {t: None for t in kept if t is not tensor}
                before = set(rest)
                for t in tensor.node.inputs:
                    self._add(t, rest)
                extra = sum(t.dtype.itemsize for t in rest if t not in before)
                if extra <= tensor.dtype.itemsize:
                    kept, changed = rest, True
                    break
        return kept


def _moves(node: Node) -> bool:
    """Whether a node's results cost nothing: it moves elements, or makes them."""
    if node.op.leaf or node.op is CONSTANT:
        return False
    return not node.inputs or node.op.is_layout


def _is_cheap(node: Node) -> bool:
    """Whether a node is elementwise and little arithmetic."""
    if node.op.scalar is None:
        return False
    leaves = [ref(f"x{i}", t.dtype) for i, t in enumerate(node.inputs)]
    body = lift(node.op.scalar.body(*leaves), node.results[0].dtype)
    applied = [e for e in walk(body) if isinstance(e, Apply) and e.prim != "cast"]
    return sum(PRIMITIVES[e.prim].flops for e in applied) <= CHEAP


def _substituted(
    outputs: Sequence[Tensor], inner: dict[Tensor, Tensor]
) -> list[Tensor]:
    """Return outputs computed from other tensors, which the mapping gives."""
    new = dict(inner)
    stop = set(inner)
    for node in _until(outputs, stop):
        inputs = [new.get(t, t) for t in node.inputs]
        if all(a is b for a, b in zip(inputs, node.inputs, strict=True)):
            continue
        made = Node(node.op, inputs, node.attrs, node.types, node.regions, node.birth)
        for old, result in zip(node.results, made.results, strict=True):
            new.setdefault(old, result)
    return [new.get(t, t) for t in outputs]


def _until(outputs: Sequence[Tensor], stop: set[Tensor]) -> list[Node]:
    """Return the nodes that outputs are computed by, in order, from `stop` on."""
    order: list[Node] = []
    done: set[Node] = set()
    stack = [(t.node, False) for t in reversed(outputs) if t not in stop]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in done and not node.op.leaf:
            done.add(node)
            stack.append((node, True))
            stack.extend((t.node, False) for t in node.inputs if t not in stop)
    return order
