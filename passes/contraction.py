"""What a contraction is: a sum of products of two tensors, and which axes it has.

    matmul   c[i, j]        = sum over k of         a[i, k] * b[k, j]
    conv     y[n, f, p, q]  = sum over c, u, v of   w[f, c, u, v] * x[n, c, p+u, q+v]

    batch    n              both read another part, or the second operand alone
    row      i; f           the first operand alone moves
    columns  j; p, q        the second operand alone moves; they are one in what is made
    blocks                  parts of the sum that are added one after the other
    depth    k; c, u, v     the sum

All reads are affine, so where an element lies is the sum of what each axis adds. That
is what a register tile needs: rows of the one operand times panels of the other, copied
into place where their elements are not neighbours ("implicit GEMM", Chetlur et al.,
cuDNN, 2014).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

from graphc.ir.dims import Size
from graphc.ir.program import LoopAxis, Nest, Phase, Program
from graphc.ir.scalar import Apply, Expr, Load, axes_of, walk
from graphc.passes.framed import FRAME, Frame, framed

# The longest part of a sum that is worth a panel, and what stands for an unknown size.
DEEPEST = 4096
UNKNOWN = 256


@dataclass(frozen=True, slots=True)
class Contraction:
    """The operands of a nest that is a contraction, and the roles of its axes.

    frame: what b reads, if that is a tensor with zeros around. program: where the
    nest's buffers stand, such a frame too.
    """

    a: Load
    b: Load
    batch: tuple[LoopAxis, ...]
    row: LoopAxis
    columns: tuple[LoopAxis, ...]
    blocks: tuple[LoopAxis, ...]
    depth: tuple[LoopAxis, ...]
    program: Program
    frame: Frame | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is a product of matrices: one axis each, no blocks."""
        return len(self.columns) == len(self.depth) == 1 and not self.blocks


def steps(
    e: Load, axes: Sequence[LoopAxis], program: Program
) -> tuple[tuple[Size, Size], ...]:
    """Return the extent of each axis, and how far a read that is affine moves."""
    found = []
    for axis in axes:
        step = program.buffers[e.buffer].step(e.args, axis.name)
        assert step is not None
        found.append((axis.extent, step))
    return tuple(found)


def merged(pairs: Sequence[tuple[Size, Size]]) -> Size | None:
    """Return the step of all axes as one, the last running fastest; None if none is.

    Example:
        >>> merged([(3, 20), (5, 4)]), merged([(3, 21), (5, 4)])
        (4, None)
    """
    inner = pairs[-1][1]
    expected = inner
    for (_, step), (extent, _) in zip(pairs[-2::-1], pairs[:0:-1], strict=True):
        expected = expected * extent
        if step != expected:
            return None
    return inner


def contraction_of(nest: Nest, program: Program) -> Contraction | None:
    """Return the roles of a nest's axes if it is a contraction, else None."""
    if len(nest.axes) < 2 or not nest.phases:
        return None
    first, *rest = nest.phases
    if not first.axes or len(first.reduces) != 1 or first.stores:
        return None
    if any(p.axes or p.reduces for p in rest):
        return None
    axes = (*nest.axes, *first.axes)
    found = _operands(first, nest.axes[-1].name)
    if found is None:
        return None
    a, b = found
    around = None
    if isinstance(b, Apply):
        around = framed(b, {x.name: x.extent for x in axes}, program)
        if around is None:
            return None
        b = around.read
        touched = {n: program.buffers[n] for n in (*nest.reads, *nest.writes)}
        program = program.replace(buffers={**touched, FRAME: around.buffer})
    moves: dict[str, tuple[bool, bool]] = {}
    for x in axes:
        both = [program.buffers[e.buffer].step(e.args, x.name) for e in (a, b)]
        if None in both:
            return None
        moves[x.name] = both[0] != 0, both[1] != 0
    rows = [x for x in nest.axes if moves[x.name] == (True, False)]
    if not rows or moves[nest.axes[-1].name] != (False, True):
        return None
    row = rows[-1]
    columns = _columns(nest, program, moves)
    if row not in nest.axes or any(row is x for x in columns):
        return None
    batch = tuple(x for x in nest.axes if x is not row and x not in columns)
    blocks, depth = _split(a, b, first.axes, program)
    roles = Contraction(a, b, batch, row, columns, blocks, depth, program)
    if around is None:
        return roles
    frame = around.frame(frozenset(x.name for x in (*batch, *blocks)))
    return None if frame is None else replace(roles, frame=frame)


def _operands(phase: Phase, last: str) -> tuple[Load, Load | Apply] | None:
    """Return the two reads whose product is summed up, the one along lanes second.

    That one may be framed.
    """
    (step,) = phase.reduces
    value = step.values[0]
    if step.monoid != "sum" or not value.dtype.is_float:
        return None
    if not isinstance(value, Apply) or value.prim != "mul":
        return None
    a, b = value.args
    if last in axes_of(a):
        a, b = b, a
    if not isinstance(a, Load) or not isinstance(b, (Load, Apply)):
        return None
    return a, b


def _columns(
    nest: Nest, program: Program, moves: dict[str, tuple[bool, bool]]
) -> tuple[LoopAxis, ...]:
    """Return the last axes that are one in all that the later phases read and write."""
    columns = nest.axes[-1:]
    for start in range(len(nest.axes) - 2, -1, -1):
        wider = nest.axes[start:]
        if moves[wider[0].name] != (False, True) or not _is_one(nest, program, wider):
            break
        columns = wider
    return columns


def _is_one(nest: Nest, program: Program, axes: Sequence[LoopAxis]) -> bool:
    names = {x.name for x in axes}
    accesses = []
    for phase in nest.phases[1:]:
        accesses += [(s.buffer, s.index) for s in phase.stores]
        reads = (e for e in walk(*phase.roots) if isinstance(e, Load))
        accesses += [(e.buffer, e.args) for e in reads]
        # An axis that is a value, not a place, must stay what it is.
        if any(names & _values(s.value) for s in phase.stores):
            return False
    for name, index in accesses:
        pairs = [(x.extent, program.buffers[name].step(index, x.name)) for x in axes]
        if any(step is None for _, step in pairs):
            return False
        if merged([(n, s) for n, s in pairs if s is not None]) is None:
            return False
    return True


def _values(root: Expr) -> frozenset[str]:
    """Return the axes that an expression computes with, reads left out."""
    if isinstance(root, Load):
        return frozenset()
    if not root.args:
        return axes_of(root)
    return frozenset().union(*map(_values, root.args))


def _split(
    a: Load, b: Load, axes: tuple[LoopAxis, ...], program: Program
) -> tuple[tuple[LoopAxis, ...], tuple[LoopAxis, ...]]:
    """Return the axes of a sum by which its parts are counted, and those of a part."""
    if all(merged(steps(e, axes, program)) is not None for e in (a, b)):
        return (), axes
    start = len(axes) - 1
    while start > 0 and prod(map(_size, axes[start - 1 :])) <= DEEPEST:
        start -= 1
    return axes[:start], axes[start:]


def _size(axis: LoopAxis) -> int:
    return axis.extent if isinstance(axis.extent, int) else UNKNOWN
