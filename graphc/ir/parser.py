"""Text to graph: the grammar is in grammar.md, the way there in printer.py.

Written by hand, a line a statement. An error ends its line only: a value whose
statement is broken stands with its stated type, so that later lines are read too, and
all errors of a text are raised at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import GraphcError
from graphc.ir.attributes import (
    Constants,
    bad_field,
    field_kinds,
    fits,
    read_list,
    read_size,
    read_type,
    read_value,
    speak,
    spoken_value,
)
from graphc.ir.graph import Graph, Guard, Update
from graphc.ir.leaves import is_state, make_args, make_input, make_state
from graphc.ir.nodes import Node, Region, Tensor
from graphc.ir.op import OPS, Op
from graphc.ir.origin_text import read_origin
from graphc.ir.origins import Origin
from graphc.ir.scanner import (
    Fault,
    Scanner,
    bare_or_quoted,
    did_you_mean,
    line_of,
    report,
)
from graphc.ir.types import TensorType
from graphc.ir.verifier import infer_types, verify

_OPEN_LINE = re.compile(r"\{\s*(\n|$)")
_DEPTH = 50


def parse(text: str, constants: Constants | None = None) -> Graph:
    """Read a graph from its text, as `Graph.text` writes it.

    Inputs and states are fresh. constants: the arrays that the text only names by a
    hash; `load_text` supplies them from the file beside the text.

    Raises:  ParseError listing every error with its line; VerifyError for a graph that
             breaks a rule which is not of the text.
    Example:
        >>> import graphc
        >>> g = graphc.parse("graph double(%x: f32[N]) -> (f32[N]) {\\n"
        ...                  "  %0: f32[N] = add(%x, %x)\\n"
        ...                  "  return %0\\n"
        ...                  "}")
        >>> graphc.parse(g.text()) == g
        True
    """
    reader = _Reader(text, constants)
    graph = reader.graph()
    if graph is None:
        raise report(text, reader.faults)
    verify(graph)
    return graph


@dataclasses.dataclass(slots=True)
class _Scope:
    """The values that may be used here; None is one whose statement is broken."""

    outer: _Scope | None = None
    values: dict[str, Tensor | None] = dataclasses.field(default_factory=dict)
    places: dict[str, int] = dataclasses.field(default_factory=dict)
    blind: bool = False  # the declarations could not be read, so anything may exist

    def visible_outside(self, name: str) -> bool:
        """Whether a surrounding scope has a value of this name."""
        scope = self.outer
        while scope is not None:
            if name in scope.values:
                return True
            scope = scope.outer
        return False


class _Reader:
    def __init__(self, text: str, constants: Constants | None) -> None:
        self.text = text
        self.scan = Scanner(text)
        self.constants = constants
        self.faults: list[Fault] = []
        self.guards: list[Guard] = []
        self.scope = _Scope()
        self.depth = 0

    # --- the whole ----------------------------------------------------------------

    def graph(self) -> Graph | None:
        """Read a text that is one graph; None if `faults` says why not."""
        scan = self.scan
        name = ""
        leaves: tuple[list[Tensor], list[Tensor]] = ([], [])
        results: list[tuple[int, TensorType]] | None = None
        scan.skip_lines()
        try:
            scan.expect_word("graph")
            name = scan.label("the graph's name")
            scan.expect("(")
            leaves = self.leaves()
            scan.expect("->")
            scan.expect("(")
            results = read_list(scan, self.placed_type, ")")
            scan.expect("{")
            scan.end_of_line()
        except Fault as fault:
            self.faults.append(fault)
            self.scope.blind = True
            while not scan.skip_line().rstrip().endswith("{") and not scan.ended:
                scan.at += 1
        found = self.body("return", self.statement)
        if found is not None and results is not None:
            self.check_results(results, found[0])
        if not scan.ended and scan.skip_lines() < len(self.text) and found is not None:
            self.faults.append(scan.expected("the end of the text"))
        if self.faults or found is None:
            return None
        outputs, updates = found
        return Graph(
            name,
            leaves[0],
            [t for _, t in outputs],
            updates,
            guards=self.guards,
            states=leaves[1],
        )

    def leaves(self) -> tuple[list[Tensor], list[Tensor]]:
        """Read the inputs and, after a semicolon, the states."""
        inputs = self.declarations(state=False)
        states = self.declarations(state=True) if self.scan.accept(";") else []
        if not self.scan.accept(")"):
            raise self.scan.expected("',' or ')'")
        return inputs, states

    def declarations(self, state: bool) -> list[Tensor]:
        """Read declarations up to what is none; they may stand on several lines."""
        scan = self.scan
        found: list[Tensor] = []
        scan.skip_lines()
        while scan.looking_at("%"):
            found.append(self.leaf(state))
            more = scan.accept(",")
            end = scan.at
            scan.skip_lines()
            if not more:
                if not scan.looking_at(";") and not scan.looking_at(")"):
                    scan.at = end
                break
        return found

    def leaf(self, state: bool) -> Tensor:
        """Read the declaration of an input or a state."""
        scan = self.scan
        at = scan.skip()
        scan.expect("%")
        label = scan.label("a name")
        scan.expect(":")
        type = read_type(scan)
        name = f"%{bare_or_quoted(label)}"
        frozen = state and scan.accept_word("frozen") is not None
        origin = Origin()
        if state:
            tensor = make_state(label, type, not frozen, birth=origin)
        else:
            tensor = make_input(label, type, birth=origin)
        if not label:
            raise scan.fault("a name cannot be empty", at)
        self.define(name, at, tensor)
        return tensor

    def placed_type(self) -> tuple[int, TensorType]:
        """Read a type; return it with its place."""
        return self.scan.skip(), read_type(self.scan)

    def body(self, last: str, statement: Callable[[], Any]) -> Any:
        """Read statements up to `}`; return what the one led by the word `last` says.

        None if it is broken or missing.
        """
        scan = self.scan
        found, ended, warned = None, False, False
        while True:
            start = scan.skip_lines()
            if scan.ended:
                self.unclosed(last)
                return None
            if scan.accept("}"):
                if not ended:
                    self.faults.append(scan.fault(f"expected {last!r} first", start))
                return found
            if ended and not warned:
                warned = True
                self.faults.append(scan.expected(f"'}}' after {last!r}"))
            try:
                ended = ended or scan.looking_at(last)
                found = statement()
                scan.end_of_line()
            except Fault as fault:
                found = None
                self.recover(fault, start)

    def unclosed(self, last: str) -> None:
        """Note that the text ends within a body."""
        at = len(self.text.rstrip())
        if not any(f.at == at for f in self.faults):
            what = f"the text ends before {last!r} and a closing '}}'"
            self.faults.append(self.scan.fault(what, at))

    def recover(self, fault: Fault, start: int) -> None:
        """Note an error and go on after its line, or after the block that it opens."""
        if fault.what:
            self.faults.append(fault)
        scan = self.scan
        scan.at = max(start, self.text.rfind("\n", 0, max(scan.at, start)) + 1)
        depth = int(scan.skip_line().rstrip().endswith("{"))
        while depth > 0 and not scan.ended:
            scan.at += 1
            line = scan.skip_line().strip()
            depth += line.endswith("{") - line.startswith("}")

    # --- values -------------------------------------------------------------------

    def define(self, name: str, at: int, tensor: Tensor | None) -> None:
        """Enter a value, which must be a new one."""
        self.check_new(name, at)
        self.scope.values[name] = tensor
        self.scope.places[name] = at

    def check_new(self, name: str, at: int) -> None:
        """Check that a name is not taken."""
        if name in self.scope.values:
            line = line_of(self.text, self.scope.places[name])
            raise self.scan.fault(
                f"{name} has a value already, of line {line}",
                at,
                "a name stands for one value; choose another",
            )

    def new_name(self) -> tuple[int, str]:
        """Read a name; return it as the printer writes it, with its place."""
        scan = self.scan
        at = scan.skip()
        scan.expect("%")
        return at, f"%{scan.digits() or bare_or_quoted(scan.label('a name'))}"

    def value(self) -> tuple[str, Tensor]:
        """Read a name; return it with the value it stands for."""
        at, name = self.new_name()
        if name in self.scope.values:
            tensor = self.scope.values[name]
            if tensor is None:
                raise Fault()
            return name, tensor
        if self.scope.blind:
            raise Fault()
        if self.scope.visible_outside(name):
            raise self.scan.fault(
                f"{name} is a value outside of the region, which is closed",
                at,
                "make it an operand of the node that owns the region, "
                "and give the region an argument for it",
            )
        raise self.scan.fault(
            f"{name} is not defined", at, did_you_mean(name, self.scope.values)
        )

    # --- statements ---------------------------------------------------------------

    def statement(self) -> tuple[list[tuple[str, Tensor]], list[Update]] | None:
        """Read a guard, a node, or what the graph returns."""
        scan = self.scan
        if scan.accept_word("require"):
            larger = read_size(scan, stop=">")
            scan.expect(">=")
            smaller = read_size(scan, stop="@")
            self.guards.append(Guard(larger, smaller, read_origin(scan)))
        elif scan.accept_word("return"):
            return self.returned()
        elif scan.looking_at("%"):
            self.node()
        else:
            raise scan.expected("a value such as %0, 'require', 'return' or '}'")
        return None

    def returned(self) -> tuple[list[tuple[str, Tensor]], list[Update]]:
        """Read the outputs and the updates."""
        scan = self.scan
        outputs: list[tuple[str, Tensor]] = []
        if scan.looking_at("%"):
            outputs.append(self.value())
            while scan.accept(","):
                scan.skip_lines()
                outputs.append(self.value())
        updates: list[Update] = []
        if scan.accept(";"):
            scan.skip_lines()
            scan.expect_word("update")
            updates.append(self.update(updates))
            while scan.accept(","):
                scan.skip_lines()
                updates.append(self.update(updates))
        return outputs, updates

    def update(self, others: Sequence[Update]) -> Update:
        """Read one update, which must fit its state."""
        scan = self.scan
        at = scan.skip()
        target, state = self.value()
        if not is_state(state):
            raise scan.fault(
                f"{target} is no state",
                at,
                "states stand after the ; of the first line",
            )
        if any(s is state for s, _ in others):
            raise scan.fault(f"{target} is updated twice", at)
        scan.expect("<-")
        at = scan.skip()
        source, value = self.value()
        if state.type != value.type:
            raise scan.fault(
                f"{target} is {state.type}, its update {source} is {value.type}", at
            )
        return state, value

    def check_results(
        self,
        stated: Sequence[tuple[int, TensorType]],
        outputs: Sequence[tuple[str, Tensor]],
    ) -> None:
        """Compare the outputs with the types that the first line states."""
        if len(stated) != len(outputs):
            at = stated[0][0] if stated else self.text.find("->")
            what = f"results stated: {len(stated)}, returned: {len(outputs)}"
            self.faults.append(self.scan.fault(what, at))
            return
        for (at, type), (name, tensor) in zip(stated, outputs, strict=True):
            if tensor.type != type:
                what = f"the result is stated as {type}, {name} is {tensor.type}"
                self.faults.append(self.scan.fault(what, at))

    # --- nodes --------------------------------------------------------------------

    def node(self) -> None:
        """Read a node and enter its results, with the stated types if it is broken."""
        scan = self.scan
        names: list[tuple[int, str]] = []
        types: list[tuple[int, TensorType]] = []
        made: Sequence[Tensor] = ()
        try:
            while True:
                at, name = self.new_name()
                self.check_new(name, at)
                names.append((at, name))
                scan.expect(":")
                types.append(self.placed_type())
                if not scan.accept(","):
                    break
            scan.expect("=")
            made = self.call(types)
        finally:
            stand_ins: list[Tensor | None] = [*make_args([t for _, t in types]), None]
            for (at, name), tensor in zip(names, made or stand_ins, strict=False):
                self.define(name, at, tensor)

    def call(self, stated: Sequence[tuple[int, TensorType]]) -> tuple[Tensor, ...]:
        """Read an op with its operands, attributes, regions and origin."""
        scan = self.scan
        at = scan.skip()
        op = self.op()
        scan.expect("(")
        operands = self.operands()
        attrs, regions = self.attributes(op), self.regions(op)
        origin = read_origin(scan)
        if operands is None or regions is None:
            raise Fault()
        inputs = [t for _, t in operands]
        types = tuple(t.type for t in inputs)
        try:
            inferred = infer_types(op, types, attrs, regions)
        except GraphcError as error:
            raise self.refused(op, operands, error, at) from None
        if len(inferred) != len(stated):
            what = f"results of {op.name}: {len(inferred)}, named: {len(stated)}"
            raise scan.fault(what, stated[0][0])
        for (place, type), found in zip(stated, inferred, strict=True):
            if type != found:
                what = f"stated as {type}, but {op.name} gives {found}"
                self.faults.append(scan.fault(what, place))
        return Node(op, inputs, attrs, inferred, regions, origin).results

    def op(self) -> Op:
        """Read the name of an op."""
        scan = self.scan
        at = scan.skip()
        name = scan.label("an op")
        op = OPS.get(name)
        if op is None:
            known = (n for n, o in OPS.items() if not o.leaf)
            help = did_you_mean(name, known) or (
                "an op of your own is defined before a text with it is parsed: by "
                "graphc.elementwise or graphc.kernel_op"
            )
            raise scan.fault(f"unknown op {name!r}", at, help)
        if op.leaf:
            raise scan.fault(
                f"{name} is no op of a node",
                at,
                "inputs and states stand on the first line of a graph, "
                "arguments on that of a region",
            )
        return op

    def operands(self) -> list[tuple[str, Tensor]] | None:
        """Read operands; None if the statement of one is broken."""
        scan = self.scan
        found: list[tuple[str, Tensor]] = []
        broken = False

        def operand() -> None:
            nonlocal broken
            try:
                found.append(self.value())
            except Fault as fault:
                if fault.what:
                    raise
                broken = True

        read_list(scan, operand, ")")
        return None if broken else found

    def refused(
        self,
        op: Op,
        operands: Sequence[tuple[str, Tensor]],
        error: GraphcError,
        at: int,
    ) -> Fault:
        """Return what a type rule says, with the names of the text."""
        what, help = error.message, error.help
        for i, (name, _) in enumerate(operands):
            what, help = (s.replace(f"{{{i}}}", name) for s in (what, help))
        lead = "" if op.name in what else f"{op.name}: "
        details = dict.fromkeys(f"{name}: {t.type}" for name, t in operands)
        return self.scan.fault(f"{lead}{what}", at, help, list(details))

    def attributes(self, op: Op) -> Any:
        """Read `{name=value, ...}` into the op's attributes."""
        scan = self.scan
        at = scan.skip()
        fields = {f.name: f for f in dataclasses.fields(op.attrs)}
        kinds = field_kinds(op.attrs)
        given: dict[str, Any] = {}

        def field() -> None:
            start = scan.skip()
            name = scan.word("an attribute")
            if name not in fields:
                what = f"{op.name} has no attribute {name!r}"
                raise scan.fault(what, start, bad_field(name, fields))
            if name in given:
                raise scan.fault(f"the attribute {name} is given twice", start)
            scan.expect("=")
            start = scan.skip()
            given[name] = value = read_value(scan, self.constants)
            if name in kinds and not fits(value, kinds[name]):
                wanted, said = speak(kinds[name]), spoken_value(value)
                help = f"write [{said}]" if fits((value,), kinds[name]) else ""
                raise scan.fault(f"{name} must be {wanted}, not {said}", start, help)

        if scan.looking_at("{") and not _OPEN_LINE.match(self.text, scan.at):
            scan.accept("{")
            read_list(scan, field, "}")
        missing = [
            name
            for name, f in fields.items()
            if name not in given
            and f.default is dataclasses.MISSING
            and f.default_factory is dataclasses.MISSING
        ]
        if missing:
            each = f"{missing[0]}=..."
            what = f"{op.name} needs the attribute {', '.join(missing)}"
            raise scan.fault(what, at, f"write {{{each}}} after the operands")
        try:
            return op.attrs(**given)
        except Exception as error:  # a user's own class may refuse values
            raise scan.fault(f"{op.name}: {error}", at) from None

    # --- regions ------------------------------------------------------------------

    def regions(self, op: Op) -> list[Region] | None:
        """Read regions; None if one is broken."""
        scan = self.scan
        found: list[Region | None] = []
        while scan.looking_at("{"):
            at = scan.at
            if not op.regions:
                raise scan.fault(f"{op.name} owns no region", at)
            if self.depth == _DEPTH:
                raise scan.fault(f"more than {_DEPTH} regions within each other", at)
            scan.accept("{")
            found.append(self.region())
        if op.regions and not found:
            raise scan.expected("a region, '{' and a new line")
        regions = [r for r in found if r is not None]
        return regions if len(regions) == len(found) else None

    def region(self) -> Region | None:
        """Read a region after its `{`; None if it is broken."""
        scan, outer = self.scan, self.scope
        self.scope = _Scope(outer)
        self.depth += 1
        before = len(self.faults)
        args: list[Tensor] = []
        scan.skip_lines()
        try:
            scan.expect("(")
            read_list(scan, lambda: args.append(self.argument()), ")")
            scan.expect(":")
            scan.end_of_line()
        except Fault as fault:
            self.faults.append(fault)
            self.scope.blind = True
            scan.skip_line()
        outputs = self.body("yield", self.inner)
        self.scope = outer
        self.depth -= 1
        if outputs is None or len(self.faults) > before:
            return None
        return Region(args, outputs)

    def argument(self) -> Tensor:
        """Read the declaration of a region's argument."""
        at, name = self.new_name()
        self.scan.expect(":")
        (tensor,) = make_args([read_type(self.scan)])
        self.define(name, at, tensor)
        return tensor

    def inner(self) -> list[Tensor] | None:
        """Read a statement of a region: a node, or what it yields."""
        scan = self.scan
        if scan.accept_word("yield"):
            outputs: list[Tensor] = []
            if scan.looking_at("%"):
                outputs.append(self.value()[1])
                while scan.accept(","):
                    outputs.append(self.value()[1])
            return outputs
        if not scan.looking_at("%"):
            raise scan.expected("a value such as %b0, 'yield' or '}'")
        self.node()
        return None
