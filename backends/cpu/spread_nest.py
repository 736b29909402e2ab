"""Writes contractions whose products are spread over a frame (tile_spread.py).

    for image in range(first, last):
        ...                                     # zeros into the frame
        for column in range(0, inside, 64):     # panels of what is not zero
            pack(..., panel, ...)
            for v in range(tall):               # times all weights
                tile(..., c, weights, ..., panel, ...)
            spread_panel(..., framed, ..., c, ...)  # each product to where it belongs
        for r in range(rows):                   # the epilogue reads the frame
            for q in range(0, columns, 16):
                ...

The frame is of a thread's own, so threads divide the images.
"""

from __future__ import annotations

from functools import cached_property

from graphc.backends.cpu.early import Below
from graphc.backends.cpu.tile_nest import TileNest
from graphc.backends.cpu.tile_pieces import tile_pieces
from graphc.backends.cpu.tile_spread import spread_of
from graphc.backends.cpu.writer import SPLAT
from graphc.backends.shared.blocks import times
from graphc.ir.dims import product
from graphc.ir.types import float32
from graphc.passes.contraction import merged


class SpreadNest(TileNest):
    """Writes a nest with the strategy "tile" whose products are spread."""

    def write(self) -> None:
        """Write the kernel's body."""
        w, x, args = self.w, self.roles, self.w.arguments
        found = spread_of(x)
        assert found is not None
        assert x.frame is not None
        dtype, lanes, nr = x.a.dtype.name, self.lanes, self.columns
        kind, splat = "f32" if x.a.dtype is float32 else "f64", SPLAT[dtype]
        used = "mask at store share tiling gather_panel pack tile spread_panel gather"
        for name in (*used.split(), "splat_i64", "i64", kind, splat):
            w.use(name)
        w.line(f"full = mask({lanes}, {lanes})")
        m, n = w.extent(x.row), self._size("columns", x.columns)
        k = self._size("deep", found.depth)
        products = product(a.extent for a in (*found.taps, x.row))
        count = args.size("products", products, "of weights, for each element")
        inside = args.size("inside", found.inside, "elements that are not zeros")
        size = args.size("frame_size", found.elements)
        plane = args.size("frame_plane", found.plane, "the frame of a row")
        own = "this thread's own"
        pieces = {
            "tile": tile_pieces(products, found.inside, dtype, copied=True),
            "gather": ["runs"],
            "pack": ["copy"],
            "spread": ["whole"],
        }
        for routine, names in pieces.items():
            value = " ".join((routine, dtype, *names))
            args.special("routine", f"{routine}_at", value)
        args.special("choice", "room", "room", "scratch of a thread, in elements")
        args.special("scratch", "c", kind, f"products, {own}")
        args.special("scratch", "panel", kind, f"a copied panel, {own}")
        args.special("scratch", "weights", kind, f"copied weights, {own}")
        args.special("scratch", "framed", kind, f"the frame, {own}")
        where, places = (
            args.special("offsets", name, "spread", f"where {note} belong", axes)
            for name, note, axes in (
                ("where", "products of each weight", found.where),
                ("places", "those of each element", found.places),
            )
        )
        note = "where a row's results are in the frame"
        args.special("table", "back", "spread", note, found.back)
        rows = self._offsets("rows_a", x.a, (*found.taps, x.row))
        deep = self._offsets("deep_a", x.a, found.depth)
        batch = [w.extent(axis) for axis in x.batch]
        w.line(f"first, last = share({' * '.join(batch) or '1'}, t, nt)")
        w.line(f"tall, height, _, _ = tiling({count}, {n}, 1, {self.rows}, {nr})")
        w.line(f"wide = ({k} + {lanes - 1}) // {lanes} * {lanes}")
        pointer, base = self._base(x.a, ())
        a = f"weights, wide, at({pointer}, {base}), {rows}, {count}, {deep}, {k}, 0"
        w.line(f"gather_panel(gather_at, {a})")
        names = [axis.name for axis in x.batch]
        with w.loop("for image in range(first, last):", *names):
            if names:
                w.decode(names, batch, "image")
            with w.loop(f"for q in range(0, {size}, {lanes}):"):
                w.line(f"store(framed, q, {splat}(0.0, full), full)")
            pointer, base = self._base(x.frame.source, x.batch)
            sides = x.frame.sides[: -len(found.moved)]
            step = merged([(s.size, s.stride) for s in sides])
            assert step is not None
            by = args.factor(f"{pointer}_deep", step)
            with w.loop(f"for column in range(0, {inside}, {nr}):"):
                w.line(f"cols = min({nr}, {inside} - column)")
                begin = "column" if base == "0" else f"{base} + column"
                source = f"at({pointer}, {begin}), {by}, 1, {k}, cols"
                w.line(f"pack(pack_at, panel, {nr}, {source})")
                with w.loop("for v in range(tall):"):
                    w.line("row = v * height")
                    w.line(f"rows = min(height, {count} - row)")
                    left = f"at(c, row * {nr}), {nr}, at(weights, row * wide), wide, 1"
                    right = f"rows, panel, {nr}, {k}, cols, 0, 0"
                    w.line(f"tile(tile_at, {left}, {right})")
                to = f"framed, {where}, {count}, {places} + 8 * column"
                w.line(f"spread_panel(spread_at, {to}, c, {nr}, cols)")
            at = f"splat_i64({times('r', plane)}, full) + load(back, q, m)"
            self._epilogue("0", m, "0", n, f"gather(framed, {at}, m)")

    @cached_property
    def below(self) -> Below:
        """Nothing is asked for early: no tile is below."""
        return Below(self.w, self.roles.row.name, ())
