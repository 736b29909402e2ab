"""Programs as text: what a person reads to see the loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from graphc.ir.program.program import (
    Barrier,
    Buffer,
    Call,
    If,
    Loop,
    LoopAxis,
    Nest,
    Phase,
    Program,
    Reduce,
    Schedule,
    Statement,
    Store,
    Task,
    While,
)
from graphc.ir.scalar import Apply, Expr, Load, load, rebuild, rebuilt, show, walk


def program_text(program: Program) -> str:
    """Return a program as text.

    ::

        program step {
          input  x: f32[N,4]
          temp   t0: f32[N]
          nest sum (i0: N) {vector k0 x16}        // %1 sum
            for k0: 4 { r0 = sum x[i0, k0] }
            t0[i0] = r0
        }
    """
    lines = [f"program {program.name} {{"]
    lines += [f"  require {g}" for g in program.guards]
    lines += [f"  {_buffer(b)}" for b in program.buffers.values()]
    lines += _body(program.body, "  ")
    return "\n".join([*lines, "}"])


def _buffer(buffer: Buffer) -> str:
    view = f" = {buffer.view_of}" if buffer.view_of else ""
    return f"{buffer.space:<8} {buffer.name}: {buffer.type}{view}"


def _body(body: tuple[Statement, ...], pad: str) -> list[str]:
    lines: list[str] = []
    for s in body:
        if isinstance(s, Nest):
            lines += nest_lines(s, pad)
        elif isinstance(s, Barrier):
            lines.append(f"{pad}barrier")
        elif isinstance(s, Call):
            lines.append(f"{pad}{call_line(s)}{_note(s)}")
        elif isinstance(s, Loop):
            lines.append(f"{pad}loop {s.index}: {s.count} {{")
            lines += [*_body(s.body, pad + "  "), f"{pad}}}"]
        elif isinstance(s, If):
            lines.append(f"{pad}if {s.condition} {{")
            lines += _body(s.then, pad + "  ")
            if s.otherwise:
                lines.append(f"{pad}}} else {{")
                lines += _body(s.otherwise, pad + "  ")
            lines.append(f"{pad}}}")
        elif isinstance(s, While):
            lines += [f"{pad}while {s.condition} {{", *_body(s.test, pad + "  ")]
            lines += [f"{pad}}} do {{", *_body(s.body, pad + "  "), f"{pad}}}"]
    return lines


def call_line(call: Call, names: Mapping[str, str] | None = None) -> str:
    """Return a call as a line of text; `names` are other names for its buffers."""
    known = names or {}
    reads, writes = (
        ", ".join(known.get(n, n) for n in group) for group in (call.reads, call.writes)
    )
    options = "".join(f" {k}={v}" for k, v in call.options)
    return f"call {call.routine}({reads}) -> {writes}{options}"


def _note(s: Task) -> str:
    return f"  // {s.summary}" if s.summary else ""


def nest_lines(
    nest: Nest, pad: str = "", names: Mapping[str, str] | None = None
) -> list[str]:
    """Return a nest as lines of text; `names` are other names for its buffers."""
    if names is not None:
        nest = renamed(nest, names)
    axes = _axes(nest.axes)
    how = ""
    if nest.schedule is not None:
        s = nest.schedule
        parts = [s.strategy, *([f"{s.rows} by"] if s.rows else []), s.axis or "one"]
        parts.append(f"x{s.lanes}")
        several = f"{s.vectors} at once" if s.vectors > 1 else ""
        rows = f"{s.points} rows" if s.points > 1 else ""
        notes = [several, rows, "" if s.parallel else "serial", s.far, *_tiles(s)]
        how = f" {{{', '.join([' '.join(parts), *filter(None, notes)])}}}"
    lines = [f"{pad}nest {nest.name} ({axes}){how}{_note(nest)}"]
    for phase in nest.phases:
        lines += _phase(nest, phase, pad + "  ")
    return lines


def _tiles(s: Schedule) -> Iterator[str]:
    """Yield what a schedule says of the operands of tiles."""
    for name, copied in (("a", s.copies_a), ("b", s.copies_b)):
        if copied is not None:
            yield f"{name} copied" if copied else f"{name} in place"
    if s.by_rows is not None:
        yield "divided by rows" if s.by_rows else "divided by panels"


def renamed(nest: Nest, names: Mapping[str, str]) -> Nest:
    """Return a nest with other names for its buffers, one for each."""

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if isinstance(e, Load) and e.buffer in names:
            return load(names[e.buffer], args, e.dtype)
        return None

    roots = [r for p in nest.phases for r in p.roots]
    made = rebuilt(roots, change)

    def new(e: Expr) -> Expr:
        return made[e] if e in made else rebuild(e, change)

    phases = tuple(
        Phase(
            p.axes,
            tuple(
                Reduce(r.name, r.monoid, tuple(map(new, r.values))) for r in p.reduces
            ),
            tuple(
                Store(
                    names.get(s.buffer, s.buffer),
                    tuple(map(new, s.index)),
                    new(s.value),
                    s.accumulate,
                )
                for s in p.stores
            ),
        )
        for p in nest.phases
    )
    labels = {new(e): label for e, label in nest.labels.items()}
    like = phases, nest.pattern
    found = nest.replace(phases=phases, labels=labels, like=like)
    return found.accessing(nest, names)


def _axes(axes: tuple[LoopAxis, ...]) -> str:
    return ", ".join(f"{a.name}: {a.extent}" for a in axes)


def _phase(nest: Nest, phase: Phase, pad: str) -> list[str]:
    names, lets = _shared(phase)
    body = [f"{name} = {text}" for name, text in lets]
    for r in phase.reduces:
        values = ", ".join(show(v, names) for v in r.values)
        body.append(f"{r.name} = {r.monoid} {values}")
    for s in phase.stores:
        index = ", ".join(show(i, names) for i in s.index)
        sign = "+=" if s.accumulate else "="
        body.append(f"{s.buffer}[{index}] {sign} {show(s.value, names)}")
    if not phase.axes:
        return [f"{pad}{line}" for line in body]
    return [
        f"{pad}for {_axes(phase.axes)} {{",
        *(f"{pad}  {line}" for line in body),
        f"{pad}}}",
    ]


def _shared(phase: Phase) -> tuple[dict[int, str], list[tuple[str, str]]]:
    """Name the subexpressions that are used more than once."""
    uses: dict[int, int] = {}
    for e in walk(*phase.roots):
        for a in e.args:
            uses[id(a)] = uses.get(id(a), 0) + 1
    for root in phase.roots:
        uses[id(root)] = uses.get(id(root), 0) + 1
    names: dict[int, str] = {}
    lets: list[tuple[str, str]] = []
    for e in walk(*phase.roots):
        if uses.get(id(e), 0) > 1 and _worth_a_name(e):
            text = show(e, names)
            names[id(e)] = f"v{len(names)}"
            lets.append((names[id(e)], text))
    return names, lets


def _worth_a_name(e: Expr) -> bool:
    return isinstance(e, (Apply, Load))
