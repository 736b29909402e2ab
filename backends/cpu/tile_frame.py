"""The frame of a contraction: what its windows move over, with zeros around it.

    if (band == from_band) | (column == 0):
        fill_frame(frame_at, framed, frame_width, at(p1, i0 * p1_i0), frame_lines, ...)

It is filled where an image begins, line by line: `frame_lines` says which line of the
image stands in which of the frame, and where only zeros do. Of copies that are moved
(tile_windows.py) all are filled that way. Each thread has its own,
and fills what its panels read where these are a part: in the gradient by the weights
of some channels alone.
"""

from __future__ import annotations

from graphc.backends.cpu.writer import Writer
from graphc.ir.dims import product
from graphc.ir.scalar import linear
from graphc.ir.types import float32
from graphc.passes.contraction import Contraction
from graphc.passes.framed import Frame


def write_frame(
    w: Writer, x: Contraction, source: str, fresh: str, span: tuple[str, str]
) -> None:
    """Write the statements that fill a frame.

    source: where the tensor's part begins. fresh: when there is another one. span: the
    first column that is read, and the one behind the last.
    """
    frame, args = x.frame, w.arguments
    assert frame is not None
    kind = "f32" if frame.source.dtype is float32 else "f64"
    note = "a framed tensor, this thread's own"
    framed = args.special("scratch", "framed", kind, note)
    args.special("routine", "frame_at", f"frame {frame.source.dtype.name} whole")
    *outer, last = frame.sides
    note = "offsets of what stands in the frame's lines; -1 for zeros"
    sides = tuple((s.extent, s.low, s.step, s.size, s.stride) for s in outer)
    lines = args.special("offsets", "frame_lines", "lines", note, sides)
    names = "frame_width", "frame_low", "frame_step", "frame_size"
    sizes = last.extent, last.low, last.step, last.size
    width, low, step, size = map(args.size, names, sizes)
    w.use("fill_frame")
    with w.loop(f"if {fresh}:"):
        if _divides(frame, x):
            tall = args.size("frame_lines_each", product(s.extent for s in outer[1:]))
            each = args.size("columns_each", product(a.extent for a in x.columns[1:]))
            w.line(f"begin = {span[0]} // max({each}, 1) * {tall}")
            w.line(f"end = (({span[1]} - 1) // max({each}, 1) + 1) * {tall}")
            framed = f"at({framed}, begin * {width})"
            lines, count = f"{lines} + 8 * begin", "end - begin"
        else:
            count = args.size("frame_count", product(s.extent for s in outer))
        place = f"{framed}, {width}, {source}, {lines}, {count}, {low}, {step}, {size}"
        w.line(f"fill_frame(frame_at, {place}, {frame.copies}, {frame.apart})")


def _divides(frame: Frame, x: Contraction) -> bool:
    """Whether columns that follow each other read sides of the frame that do.

    And it is filled for each panel, as where a sum has parts.
    """
    if frame.copies != 1 or len(frame.sides) < 2 or len(x.columns) < 2 or not x.blocks:
        return False
    form = linear(x.b.args[-len(frame.sides)])
    return form is not None and form.axes == {x.columns[0].name: 1}
