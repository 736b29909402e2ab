"""Checking programs: every name bound, every index of the right rank and type."""

from __future__ import annotations

from graphc.errors import VerifyError
from graphc.ir.program.alike import likeness
from graphc.ir.program.program import (
    ARGS,
    Barrier,
    Call,
    If,
    Loop,
    Nest,
    Program,
    Region,
    Statement,
    While,
)
from graphc.ir.program.routines import ROUTINES
from graphc.ir.scalar import Axis, Load, Ref, walk
from graphc.ir.types import TensorType, bool_, int64

MONOIDS = {"sum": 1, "prod": 1, "max": 1, "min": 1, "any": 1, "all": 1}
MONOIDS |= {"argmax": 2, "argmin": 2}

Seen = set[object]  # what is known of nests that were found to be right


def verify_program(program: Program, known: Program | None = None) -> None:
    """Check a program.

    known: one that was checked before; nests that the two have in common are not
    looked through again.

    Raises:  VerifyError listing everything that is wrong.
    """
    found: list[str] = []
    for name, buffer in program.buffers.items():
        if name != buffer.name:
            found.append(f"buffer {buffer.name} is entered as {name}")
        if buffer.view_of and buffer.view_of not in program.buffers:
            found.append(f"buffer {name} views {buffer.view_of}, which does not exist")
    for name in (*program.inputs, *program.states, *program.outputs):
        if name not in program.buffers:
            found.append(f"the program names {name}, which does not exist")
    written = {
        b.name
        for b in program.buffers.values()
        if b.space in ("input", "state", "constant")
    }
    seen: Seen = set()
    if known is not None and known.buffers == program.buffers:
        seen |= {(id(n.phases), n.axes) for n in known.nests}
    _check_body(program, program.body, written, found, seen)
    for name in program.outputs:
        if name in program.buffers and program.root(name) not in written:
            found.append(f"the output {name} is never written")
    if found:
        raise VerifyError(
            f"the program {program.name} breaks {len(found)} "
            f"rule{'s' * (len(found) > 1)}",
            details=found,
        )


def _check_body(
    program: Program,
    body: tuple[Statement, ...],
    written: set[str],
    found: list[str],
    seen: Seen,
) -> None:
    for s in body:
        if isinstance(s, Barrier):
            continue
        unknown = [n for n in (*s.reads, *s.writes) if n not in program.buffers]
        if unknown:
            found.append(f"{_name(s)}: no buffer {', '.join(unknown)}")
            continue
        if isinstance(s, Nest):
            _check_nest(program, s, found, seen)
        if isinstance(s, (Nest, Call)):
            early = [n for n in s.reads if program.root(n) not in written]
            own = {program.root(n) for n in s.writes}
            early = [n for n in early if program.root(n) not in own]
            if early:
                found.append(
                    f"{_name(s)} reads {', '.join(early)} before it is written"
                )
        if isinstance(s, Call):
            _check_call(program, s, found)
        if isinstance(s, Region):
            _check_region(program, s, written, found, seen)
            continue
        for n in s.writes:
            if program.buffers[n].space in ("input", "constant"):
                found.append(f"{_name(s)} writes the {program.buffers[n].space} {n}")
            written.add(program.root(n))


def _check_region(
    program: Program, s: Region, written: set[str], found: list[str], seen: Seen
) -> None:
    cell, wanted = (
        (s.index, TensorType(int64, ()))
        if isinstance(s, Loop)
        else (s.condition, TensorType(bool_, ()))
    )
    buffer, root = program.buffers[cell], program.root(cell)
    if buffer.type != wanted:
        found.append(f"{_name(s)}: {cell} is {buffer.type}, not {wanted}")
    if isinstance(s, Loop):
        if buffer.space != "temp":
            found.append(f"{_name(s)}: {cell} is no temporary")
        written.add(root)
    elif isinstance(s, If) and root not in written:
        found.append(f"{_name(s)}: {cell} is read before it is written")
    if isinstance(s, While):
        _check_body(program, s.test, written, found, seen)
        if root not in written:
            found.append(f"{_name(s)}: nothing writes {cell}")
        ways = [(s.body, set(written))]
    else:
        ways = [(body, set(written)) for body in s.bodies]
    for body, way in ways:
        _check_body(program, body, way, found, seen)
        written |= way
    # One thread may be in the body while another still looks at the cell.
    turn = () if isinstance(s, If) else s.body
    inner = {n for each in turn for n in each.writes} & set(program.buffers)
    if root in map(program.root, inner):
        found.append(f"{_name(s)}: its body writes {cell}")


def _name(s: Statement) -> str:
    if isinstance(s, Nest):
        return f"nest {s.name}"
    if isinstance(s, Region):
        cell = s.index if isinstance(s, Loop) else s.condition
        return f"{type(s).__name__.lower()} {cell}"
    return f"call {s.routine}" if isinstance(s, Call) else type(s).__name__.lower()


def _check_call(program: Program, call: Call, found: list[str]) -> None:
    if call.routine not in ROUTINES:
        found.append(f"call {call.routine}: there is no such routine")
    read = {program.root(n) for n in call.reads}
    both = [n for n in call.writes if program.root(n) in read]
    if both:
        found.append(f"call {call.routine} writes {', '.join(both)}, which it reads")


def _check_nest(program: Program, nest: Nest, found: list[str], seen: Seen) -> None:
    results: dict[str, object] = {}
    outer = {a.name for a in nest.axes}
    if len(outer) != len(nest.axes):
        found.append(f"nest {nest.name}: two axes of one name")
    before, own = len(found), (id(nest.phases), nest.axes)
    like = None if own in seen else likeness(nest, program)
    for phase in () if like is None or like in seen else nest.phases:
        axes = outer | {a.name for a in phase.axes}
        for e in walk(*phase.roots):
            if isinstance(e, Axis) and e.name not in axes:
                found.append(f"nest {nest.name}: no axis {e.name} here")
            elif isinstance(e, Ref) and results.get(e.name) is not e.dtype:
                found.append(f"nest {nest.name}: no result {e.name} of {e.dtype} here")
            elif isinstance(e, Load):
                buffer = program.buffers[e.buffer]
                if len(e.args) != len(buffer.shape) or e.dtype is not buffer.dtype:
                    found.append(
                        f"nest {nest.name}: {e.buffer} is {buffer.type}, read as "
                        f"{e.dtype} with {len(e.args)} indices"
                    )
                if any(a.dtype.kind != "i" for a in e.args):
                    found.append(f"nest {nest.name}: an index of {e.buffer} is no int")
        for r in phase.reduces:
            if len(r.values) != MONOIDS.get(r.monoid):
                found.append(f"nest {nest.name}: no reduction {r.monoid} of {r.values}")
            if r.monoid in ARGS and r.values[-1].dtype is not int64:
                found.append(f"nest {nest.name}: the position of {r.name} is no int64")
            if r.monoid in ("any", "all") and r.dtype is not bool_:
                found.append(f"nest {nest.name}: {r.name} is no bool")
            if r.name in results:
                found.append(f"nest {nest.name}: {r.name} is reduced twice")
            results[r.name] = r.dtype
        for s in phase.stores:
            buffer = program.buffers[s.buffer]
            if s.value.dtype is not buffer.dtype or len(s.index) != len(buffer.shape):
                found.append(
                    f"nest {nest.name}: {s.buffer} is {buffer.type}, "
                    f"written as {s.value.dtype} with {len(s.index)} indices"
                )
    if len(found) == before:
        seen.add(like)
    schedule = nest.schedule
    if schedule is not None:
        known = outer.union(*({a.name for a in p.axes} for p in nest.phases))
        for axis in (schedule.axis, schedule.rows, schedule.depth):
            if axis and axis not in known:
                found.append(f"nest {nest.name}: the schedule names no axis: {axis}")
