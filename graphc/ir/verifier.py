"""The rules of a well-formed graph, checked in one walk, reported all at once.

After parse, after build and between passes. The rules:

    names     inputs and states have names, each another one
    bound     a node reads inputs, states and results of earlier nodes: no cycles
    op        it is the registered op of its name; attributes are of its class and kinds
    types     what is stored is what the op's type rule infers
    regions   closed: they read their arguments only
    sizes     every name in a type, an attribute or a guard occurs in the shape of an
              input, unless there are no inputs; states have ints
    updates   of a state, once, by a value of its type
    constants at most 1 GiB
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.errors import GraphcError, VerifyError
from graphc.ir.attributes import field_kinds, fits, speak, spoken_value
from graphc.ir.dims import names as dim_names
from graphc.ir.graph import Graph, sizes_named
from graphc.ir.leaves import ARG, INPUT, STATE
from graphc.ir.nodes import Array, Node, Region, Tensor, leaf_name, local_key
from graphc.ir.op import OPS, NoAttrs, Op, Types, attr_items
from graphc.ir.origins import Origin
from graphc.ir.printer import Names, name_of, node_text, region_names, value_names
from graphc.ir.types import TensorType

LARGEST_CONSTANT = 2**30  # bytes
_SHOWN = 20
_A = {"input": "an input", "state": "a state"}


def verify(graph: Graph, known: Graph | None = None) -> None:
    """Check that a graph keeps the rules of its level.

    known: one that was checked before and has the same inputs; what the two have in
    common is not checked again.

    Raises:  VerifyError listing everything that is wrong: the node, the rule that it
             breaks, and the user's line.
    Example:
        >>> import graphc
        >>> x = graphc.input("x", ("N",))
        >>> graphc.verify(graphc.Graph.build([x], [x + 1.0]))
    """
    check = _Check(graph)
    if known is not None:
        check.fine.update(known.nodes)
    check.leaves()
    check.nodes(graph.nodes, {*graph.inputs, *graph.states})
    check.ends()
    if check.findings:
        raise check.error()


def infer_types(
    op: Op, types: Types, attrs: object, regions: Sequence[Region] = ()
) -> Types:
    """Return the types of an op's results, by its type rule.

    Raises:  GraphcError, whatever the rule raises.
    """
    try:
        found = op.infer(types, attrs, *([regions] if op.regions else []))
    except GraphcError:
        raise
    except Exception as error:
        operands = ", ".join(map(str, types))
        raise GraphcError(
            f"the type rule of {op.name} does not take ({operands}): {error}"
        ) from error
    return (found,) if isinstance(found, TensorType) else tuple(found)


@dataclass(frozen=True, slots=True)
class _Finding:
    """A broken rule. `{0}` in its text stands for the name of tensor 0."""

    rule: str
    node: Node | None = None
    tensors: tuple[Tensor, ...] = ()
    region: Region | None = None
    help: str = ""


@dataclass(slots=True)
class _Check:
    graph: Graph
    findings: list[_Finding] = field(default_factory=list)
    region: Region | None = None  # the one that is being walked
    bound: frozenset[str] | None = None
    seen: set[TensorType] = field(default_factory=set)
    closed: set[int] = field(default_factory=set)
    fine: set[Any] = field(default_factory=set)  # nodes, or what they are equal by

    def note(
        self, rule: str, node: Node | None = None, *tensors: Tensor, help: str = ""
    ) -> None:
        """Enter a broken rule."""
        self.findings.append(_Finding(rule, node, tensors, self.region, help))

    # --- the ends -----------------------------------------------------------------

    def leaves(self) -> None:
        """Check the inputs and states."""
        graph = self.graph
        taken: dict[str, str] = {}
        sizes: set[str] = set()
        for tensor, op in (
            *((t, INPUT) for t in graph.inputs),
            *((t, STATE) for t in graph.states),
        ):
            if tensor.node.op is not op:
                self.note(f"{tensor!r} is listed as {_A[op.name]}, but is none")
                continue
            name, kind = leaf_name(tensor), op.name
            if not name:
                self.note(f"{_A[kind]} has no name")
            elif name in taken:
                self.note(f"{taken[name]} and {kind} {name!r} have the same name")
            taken.setdefault(name, kind)
            used = frozenset().union(*map(dim_names, tensor.shape))
            if op is INPUT:
                sizes |= used
            elif used:
                self.note(
                    f"the state {name!r} is {tensor.type}",
                    help="the shape of a state is of ints",
                )
        if graph.inputs:
            self.bound = frozenset(sizes)
        for guard in graph.guards:
            used = dim_names(guard.larger) | dim_names(guard.smaller)
            self.sizes(used, f"the guard {guard}", None)

    def ends(self) -> None:
        """Check the outputs and updates; what they reach was walked."""
        graph = self.graph
        leaves = {*graph.inputs, *graph.states}
        for what, tensor in (
            *(("returns", t) for t in graph.outputs),
            *(("stores", t) for _, t in graph.updates),
        ):
            if tensor.node.op.leaf and tensor not in leaves:
                self.note(f"the graph {what} {self.leaf(tensor)}")
        written: set[Tensor] = set()
        for state, value in graph.updates:
            if state.node.op is not STATE:
                self.note("{0} is updated, but is no state", None, state)
                continue
            if state in written:
                self.note("{0} is updated twice", None, state)
            written.add(state)
            if state.type != value.type:
                self.note(
                    f"{{0}} is {state.type}, its update {{1}} is {value.type}",
                    None,
                    state,
                    value,
                )

    def leaf(self, tensor: Tensor) -> str:
        """Return what a leaf is that does not belong here."""
        name = leaf_name(tensor)
        if tensor.node.op is INPUT:
            return f"the input {name!r}, which is not among the inputs"
        if tensor.node.op is STATE:
            return f"the state {name!r}, which is not among the states"
        if tensor.node.op is ARG:
            return "an argument of a region that it is not in"
        return f"{tensor!r}, a leaf of no known kind"

    # --- nodes --------------------------------------------------------------------

    def nodes(self, nodes: Iterable[Node], known: set[Tensor]) -> None:
        """Check nodes in order; `known` are the values that come before."""
        for node in nodes:
            for i, tensor in enumerate(node.inputs):
                if tensor not in known:
                    self.unbound(node, i, tensor)
            known.update(node.results)
            if node in self.fine:
                continue
            self.own(node)
            for region in node.regions:
                self.closing(region, node)

    def own(self, node: Node) -> None:
        """Check what a node is, whatever stands around it; once for equal ones."""
        given = tuple([t.type for t in node.inputs])
        try:
            kind = (node.op, type(node.attrs), local_key(node), given)
            if kind in self.fine:
                return
        except (TypeError, KeyError):  # broken attributes, or a region that captures
            kind = None
        before = len(self.findings)
        if self.attributes(node):
            self.types(node)
        if kind is not None and len(self.findings) == before:
            self.fine.add(kind)

    def unbound(self, node: Node, i: int, tensor: Tensor) -> None:
        """Note an operand that is no value here."""
        if not tensor.node.op.leaf:
            self.note(
                f"operand {i} is not computed before it: the graph has a cycle", node
            )
        elif self.region is not None:
            self.note(
                f"operand {i} is captured: a region is closed",
                node,
                help="pass it as an operand of the node that owns the region",
            )
        else:
            self.note(f"operand {i} is {self.leaf(tensor)}", node)

    def attributes(self, node: Node) -> bool:
        """Check op and attributes; whether the type rule can be asked."""
        op, attrs = node.op, node.attrs
        if OPS.get(op.name) is not op:
            was = "was defined again" if op.name in OPS else "is not registered"
            self.note(f"the op {op.name} {was}", node, help="declare the graph again")
        if not isinstance(attrs, op.attrs):
            wanted, found = op.attrs.__name__, type(attrs).__name__
            self.note(f"its attributes are {found}, not {wanted}", node)
            return False
        if op.attrs is NoAttrs:
            return True
        good = True
        kinds = field_kinds(op.attrs)
        for name, value in attr_items(attrs):
            if name in kinds and not fits(value, kinds[name]):
                said = spoken_value(value)
                self.note(f"{name} must be {speak(kinds[name])}, not {said}", node)
                good = False
            elif isinstance(value, Array) and value.value.nbytes > LARGEST_CONSTANT:
                self.note(
                    f"{name} has {value.value.nbytes} bytes, a constant at most "
                    f"{LARGEST_CONSTANT}",
                    node,
                    help="make it an input or a state",
                )
        return good

    def types(self, node: Node) -> None:
        """Check that the stored types are those inferred, and their sizes bound."""
        given = tuple(t.type for t in node.inputs)
        try:
            inferred = infer_types(node.op, given, node.attrs, node.regions)
        except GraphcError as error:
            self.note(error.message, node, *node.inputs)
            return
        if inferred != node.types:
            stored, found = (
                ", ".join(map(str, types)) for types in (node.types, inferred)
            )
            self.note(f"it is stored as {stored}, but is {found}", node)
        for type in node.types:
            if type not in self.seen:
                self.seen.add(type)
                for size in type.shape:
                    if not isinstance(size, int):
                        self.sizes(dim_names(size), f"the type {type}", node)
        shown = sizes_named(tuple(type.shape for type in node.types))
        for name, value in attr_items(node.attrs):
            used = sizes_named(value) - shown
            if used:
                self.sizes(used, f"the attribute {name}", node)

    def sizes(self, used: Iterable[str], what: str, node: Node | None) -> None:
        """Check that sizes are bound by some input."""
        if self.bound is not None and not self.bound.issuperset(used):
            missing = ", ".join(sorted(set(used) - self.bound))
            self.note(f"no input has the size {missing} of {what}", node)

    def closing(self, region: Region, owner: Node) -> None:
        """Check a region."""
        if id(region) in self.closed:
            return
        self.closed.add(id(region))
        for arg in region.args:
            if arg.node.op is not ARG:
                self.note(f"{arg!r} is listed as an argument, but is none", owner)
        outer, self.region = self.region, region
        known = set(region.args)
        self.nodes(region.nodes, known)
        self.region = outer
        for tensor in region.outputs:
            if tensor not in known:
                self.note("its region yields {0}, which it captures", owner, tensor)

    # --- the message --------------------------------------------------------------

    def error(self) -> VerifyError:
        """Return everything that was found as one error."""
        found = self.findings
        top = value_names(self.graph)
        lines: list[str] = []
        for finding in found[:_SHOWN]:
            lines += self.lines(finding, top)
        if len(found) > _SHOWN:
            lines.append(f"and {len(found) - _SHOWN} more")
        rules = "a rule" if len(found) == 1 else f"{len(found)} rules"
        return VerifyError(
            f"the graph {self.graph.name!r} breaks {rules}", details=lines
        )

    def lines(self, finding: _Finding, top: Names) -> list[str]:
        """Return the lines that tell of one finding."""
        names = top if finding.region is None else region_names(finding.region)
        rule = finding.rule
        for i, tensor in enumerate(finding.tensors):
            rule = rule.replace(f"{{{i}}}", name_of(tensor, names))
        lines = [rule]
        if finding.node is not None:
            inside = "" if finding.region is None else "in a region: "
            lines.append(f"  {inside}{node_text(finding.node, names)}")
            place = self.origin(finding).quoted
            if place:
                lines.append(f"  --> {place}")
        if finding.help:
            lines.append(f"  help: {finding.help}")
        return lines

    def origin(self, finding: _Finding) -> Origin:
        """Return where the node of a finding comes from."""
        assert finding.node is not None
        if finding.region is not None:
            return finding.node.birth
        return self.graph.origin(finding.node)
