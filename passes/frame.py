"""frame: padding in front of a contraction is read, not stored.

    nest pad (i0: N, i1: 34)                 nest conv (i0: N, i1: 8, i2: 32)
      t0[i0, i1] = select(.., x[..], 0)        for k0: 3 {
    nest conv (i0: N, i1: 8, i2: 32)     =>      r0 = sum (select(.., x[..], 0) * w[..])
      for k0: 3 {                              }
        r0 = sum (t0[i0, i2 + k0] * w[..])

The padded tensor is written and read again, and lives as long as its last reader, such
as the gradient by the weights. A contraction on register tiles copies windows anyway:
it puts zeros around a picture where it begins with it, in memory of a thread's own that
a cache holds.

Only where all readers are contractions, and nothing writes the tensor in between.
Preserves every value bit for bit.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from graphc.ir.program import Nest, Program, Statement
from graphc.ir.program.program import Body, within
from graphc.ir.scalar import Apply, Axis, Const, Expr, Load, rebuilt
from graphc.ir.target import Target
from graphc.passes.contraction import contraction_of
from graphc.passes.framed import unframed
from graphc.passes.registry import program_pass

LARGEST = 1 << 20  # bytes of a frame: about what the second cache holds


@program_pass("frame")
def frame(program: Program, target: Target) -> Program:
    """Let contractions read padded tensors that nothing else reads."""
    if not (target.tiles and target.offsets):
        return program
    gone: set[str] = set()
    tasks = Counter(n for s in program.tasks for n in _roots(s.reads, program))

    def changed(body: Body) -> Body:
        new, left = list(body), set[int]()
        readers = _places([_roots(s.reads, program) for s in body])
        writers = _places([_roots(s.writes, program) for s in body])
        for i, s in enumerate(body):
            if not isinstance(s, Nest) or not _is_padding(s, program):
                continue
            (name,), (source,) = _roots(s.writes, program), _roots(s.reads, program)
            at = readers[name]
            if not at or len(at) < tasks[name] or at[0] < i:
                continue
            if any(i < j <= at[-1] for j in writers[source]):
                continue
            made = [_framed(new[j], s, program) for j in at]
            if None not in made:
                for j, nest in zip(at, made, strict=True):
                    new[j] = nest or new[j]
                left.add(i)
                gone.add(name)
        return tuple(within(s, changed) for i, s in enumerate(new) if i not in left)

    body = changed(program.body)
    if not gone:
        return program
    roots = {n: program.root(n) for n in program.buffers}
    buffers = {n: b for n, b in program.buffers.items() if roots[n] not in gone}
    return program.replace(body=body, buffers=buffers)


def _roots(names: Sequence[str], program: Program) -> set[str]:
    return set(map(program.root, names))


def _places(sets: Sequence[set[str]]) -> defaultdict[str, list[int]]:
    """Return in which of these sets each name is."""
    found: defaultdict[str, list[int]] = defaultdict(list)
    for i, names in enumerate(sets):
        for name in names:
            found[name].append(i)
    return found


def _is_padding(nest: Nest, program: Program) -> bool:
    """Whether a nest only puts a tensor into a temporary, with zeros around."""
    if len(nest.phases) != 1 or nest.phases[0].axes or nest.phases[0].reduces:
        return False
    stores = nest.phases[0].stores
    if len(stores) != 1 or stores[0].accumulate:
        return False
    (store,) = stores
    buffer = program.buffers[store.buffer]
    if len(_roots(nest.reads, program)) != 1:
        return False
    places = all(isinstance(e, (Axis, Const)) for e in store.index)
    padded = isinstance(store.value, Apply) and isinstance(unframed(store.value), Load)
    return places and padded and buffer.space == "temp" and not buffer.view_of


def _framed(reader: Statement, nest: Nest, program: Program) -> Nest | None:
    """Return a contraction that reads what a nest pads, as that computes it."""
    if not isinstance(reader, Nest):
        return None
    store = nest.phases[0].stores[0]
    labels = dict(reader.labels)

    def change(old: Expr, args: tuple[Expr, ...]) -> Expr | None:
        if not isinstance(old, Load) or old.buffer != store.buffer:
            return None
        at = {
            e.name: a
            for e, a in zip(store.index, args, strict=True)
            if isinstance(e, Axis)
        }
        value = rebuilt(
            [store.value],
            lambda e, _: at.get(e.name) if isinstance(e, Axis) else None,
        )
        return value[store.value]

    phases = []
    for phase in reader.phases:
        found = rebuilt(phase.roots, change)
        labels |= {found[e]: labels[e] for e in found if e in labels}
        phases.append(phase.mapped(found.__getitem__))
    made = reader.replace(phases=tuple(phases), labels=labels)
    roles = contraction_of(made, program)
    if store.buffer in made.reads or roles is None or roles.frame is None:
        return None
    size = roles.frame.elements
    small = isinstance(size, int) and size * roles.b.dtype.itemsize <= LARGEST
    return made if small else None
