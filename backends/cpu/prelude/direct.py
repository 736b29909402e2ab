"""The short way to LLVM: a kernel's syntax tree, in one walk.

A kernel is written in a small part of Python: int64 numbers, loops over ranges, and
calls of the prelude's intrinsics. There the type of a value is known where it is made,
so one walk over the tree types it and appends its instructions; Numba's front end,
which infers the types of any Python, takes some twenty times as long.

The intrinsics are the same, and so is the meaning: integers wrap and divide towards
minus infinity, x // 0 is 0. What lies outside of this part of Python raises `Beyond`,
and Numba compiles it (frontend.py); a test compiles the same kernels both ways.
"""

from __future__ import annotations

import ast
import linecache
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import types

from . import native, unlocked
from .expressions import Beyond, Expressions, Value, plain, value_type, word
from .hoisting import hoist
from .lanes import I64
from .vector import TABLE


def lower(
    function: Callable[..., Any], arguments: str, returns: str, symbol: str
) -> llvm.ModuleRef:
    """Return `function` as an LLVM module, not optimised, that exports `symbol`.

    Raises:  Beyond if it is outside of what is known here.
    """
    if returns:
        raise Beyond("a result")
    node = _definition(function)
    module = ir.Module(symbol)
    module.triple = native.target().triple
    module.data_layout = native.data_layout()
    kinds = [TABLE if letter == "p" else types.int64 for letter in arguments]
    kind = ir.FunctionType(ir.VoidType(), [value_type(t) for t in kinds])
    whole = ir.Function(module, kind, symbol)
    whole.attributes.add("nounwind")
    _Walk(function, node, whole).run(kinds)
    return unlocked.parse(str(module))


# --- source ------------------------------------------------------------------------


@lru_cache(maxsize=32)
def _definitions(text: str) -> dict[int, ast.FunctionDef]:
    """Return the functions of a file by their first line, decorators included."""
    return {
        min([n.lineno, *(d.lineno for d in n.decorator_list)]): n
        for n in _functions(ast.parse(text))
    }


def _functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    """Yield the functions below a node."""
    return (n for n in _statements(node) if isinstance(n, ast.FunctionDef))


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the statements below a node; expressions, most of a tree, hold none."""
    for name in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, name, ()):
            yield child
            yield from _statements(child)


def _definition(function: Callable[..., Any]) -> ast.FunctionDef:
    """Return a function's syntax tree, if its source is still what it was made of."""
    code = function.__code__
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    try:
        node = _definitions(text).get(code.co_firstlineno)
    except SyntaxError:
        node = None
    if node is None or node.name != code.co_name:
        raise Beyond("no source")
    if code.co_freevars or not _same(code, node):
        raise Beyond("the source has changed")
    return node


def _same(code: CodeType, node: ast.FunctionDef) -> bool:
    bare = ast.FunctionDef(
        **{**dict(ast.iter_fields(node)), "decorator_list": []},
        lineno=node.lineno,
        col_offset=0,
    )
    module = ast.Module([bare], [])
    again = compile(module, code.co_filename, "exec", dont_inherit=True)
    found = next(c for c in again.co_consts if isinstance(c, CodeType))
    parts = ("co_code", "co_names", "co_varnames", "co_consts")
    return all(getattr(found, p) == getattr(code, p) for p in parts)


# --- statements --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """A variable that is written more than once: its type, and where it lies."""

    type: Any
    address: ir.Value


class _Walk(Expressions):
    """Append the instructions of a kernel's statements to an LLVM function."""

    def __init__(
        self, function: Callable[..., Any], node: ast.FunctionDef, whole: ir.Function
    ) -> None:
        self.entry = whole.append_basic_block("entry")  # holds the slots alone
        body = whole.append_basic_block("body")
        super().__init__(function.__globals__, ir.IRBuilder(body))
        self.body = body
        self.node, self.whole = node, whole
        self.scopes: list[dict[str, Value]] = [{}]
        self.slots: dict[str, Slot] = {}
        self.often = _written_often(node)

    def run(self, kinds: Sequence[Any]) -> None:
        names = [a.arg for a in self.node.args.args]
        if len(names) != len(kinds):
            raise Beyond("other arguments")
        for name, kind, value in zip(names, kinds, self.whole.args, strict=True):
            self.assign(name, Value(kind, value))
        self.statements(self.node.body)
        self.builder.ret_void()
        ir.IRBuilder(self.entry).branch(self.body)

    # --- statements -------------------------------------------------------------

    def statements(self, nodes: Sequence[ast.stmt]) -> None:
        for node in nodes:
            write = getattr(self, f"_{type(node).__name__.lower()}", None)
            if write is None:
                self.beyond(node)
            write(node)

    def _expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):  # a docstring
            self.value(node.value)

    def _pass(self, node: ast.Pass) -> None:
        pass

    def _assign(self, node: ast.Assign) -> None:
        if len(node.targets) != 1:
            self.beyond(node)
        (target,) = node.targets
        if isinstance(target, ast.Name):
            self.assign(target.id, self.value(node.value))
            return
        if not isinstance(target, ast.Tuple):
            self.beyond(target)
        if isinstance(node.value, ast.Tuple):
            values = [self.value(v) for v in node.value.elts]
        else:
            whole = self.value(node.value)
            if not isinstance(whole.type, types.BaseTuple):
                self.beyond(node)
            kinds: Any = whole.type
            values = [Value(*v) for v in zip(kinds.types, whole.ir, strict=True)]
        for name, value in zip(target.elts, values, strict=True):
            if not isinstance(name, ast.Name):
                self.beyond(name)
            self.assign(name.id, value)

    def _augassign(self, node: ast.AugAssign) -> None:
        if not isinstance(node.target, ast.Name):
            self.beyond(node)
        name = ast.copy_location(ast.Name(node.target.id, ast.Load()), node)
        both = ast.copy_location(ast.BinOp(name, node.op, node.value), node)
        self.assign(node.target.id, self.value(both))

    def _for(self, node: ast.For) -> None:
        call = node.iter
        if (
            not isinstance(node.target, ast.Name)
            or not isinstance(call, ast.Call)
            or not isinstance(call.func, ast.Name)
            or call.func.id != "range"
            or node.orelse
        ):
            self.beyond(node)
        bounds = [self.integer(a) for a in call.args]
        start = bounds[0] if len(bounds) > 1 else word(0)
        stop = bounds[min(1, len(bounds) - 1)]
        step = bounds[2] if len(bounds) > 2 else word(1)
        if not isinstance(step, ir.Constant) or step.constant == 0:
            self.beyond(node)
        b, before = self.builder, self.builder.block
        head, body, after = (b.append_basic_block(n) for n in ("for", "do", "end"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(start, before)
        more = b.icmp_signed("<" if step.constant > 0 else ">", i, stop)
        b.cbranch(more, body, after)
        b.position_at_end(body)
        with self.scope():
            self.assign(node.target.id, Value(types.int64, i))
            self.statements(node.body)
        i.add_incoming(b.add(i, step, flags=("nsw",)), b.block)
        self._close(head, before, after)

    def _while(self, node: ast.While) -> None:
        if node.orelse:
            self.beyond(node)
        b = self.builder
        before = b.block
        head, body, after = (b.append_basic_block(n) for n in ("while", "do", "end"))
        b.branch(head)
        b.position_at_end(head)
        b.cbranch(self.truth(node.test), body, after)
        b.position_at_end(body)
        self.block(node.body)
        self._close(head, before, after)

    def _close(self, head: ir.Block, before: ir.Block, after: ir.Block) -> None:
        """Append the end of a loop, and move to its front what does not change."""
        self.builder.branch(head)
        self.builder.position_at_end(after)
        blocks = self.whole.blocks
        inside = [x for x in blocks[blocks.index(head) :] if x is not after]
        hoist(inside, before, [slot.address for slot in self.slots.values()])

    def _if(self, node: ast.If) -> None:
        self.branches(
            node.test, lambda: self.block(node.body), lambda: self.block(node.orelse)
        )

    def block(self, nodes: Sequence[ast.stmt]) -> None:
        """Append statements whose names are forgotten: they may not have been run."""
        with self.scope():
            self.statements(nodes)

    # --- names ------------------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Forget at the end what is assigned: after a block it may not be there."""
        self.scopes.append({})
        yield
        self.scopes.pop()

    def assign(self, name: str, value: Value) -> None:
        if value.ir is None or isinstance(value.ir, list):
            raise Beyond(f"{name} holds no value")
        if name not in self.often:
            self.scopes[-1][name] = value
            return
        slot = self.slots.get(name)
        kind = plain(value.type)
        if slot is None:
            builder = ir.IRBuilder(self.entry)
            slot = Slot(kind, builder.alloca(value_type(kind), name=name))
            self.slots[name] = slot
        if slot.type != kind:
            raise Beyond(f"{name} changes its type")
        self.builder.store(value.ir, slot.address)

    def variable(self, name: str) -> Value | None:
        if name in self.slots:
            slot = self.slots[name]
            return Value(slot.type, self.builder.load(slot.address))
        return next((s[name] for s in reversed(self.scopes) if name in s), None)


def _written_often(node: ast.FunctionDef) -> set[str]:
    """Return the names that more than one statement writes."""
    counts = Counter(a.arg for a in node.args.args)
    for n in _statements(node):
        if isinstance(n, ast.Assign):
            for target in n.targets:
                parts = target.elts if isinstance(target, ast.Tuple) else [target]
                counts.update(p.id for p in parts if isinstance(p, ast.Name))
        elif isinstance(n, ast.For | ast.AugAssign) and isinstance(n.target, ast.Name):
            # What is added to has been written before.
            counts[n.target.id] += 1 + isinstance(n, ast.AugAssign)
    return {name for name, count in counts.items() if count > 1}
