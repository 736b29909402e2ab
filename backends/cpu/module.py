"""One readable Python module of CPU kernels for a program."""

from __future__ import annotations

from graphc.backends.cpu.arguments import POINTERS, read_lines
from graphc.backends.cpu.calls import write_call
from graphc.backends.cpu.narrow_nest import NarrowNest
from graphc.backends.cpu.rows_nest import RowsNest
from graphc.backends.cpu.spread_nest import SpreadNest
from graphc.backends.cpu.tile_forms import is_narrow, kept_operands
from graphc.backends.cpu.tile_nest import TileNest
from graphc.backends.cpu.tile_spread import spread_of
from graphc.backends.cpu.tile_windows import has_rows, tile_roles
from graphc.backends.cpu.vector_nest import VectorNest
from graphc.backends.cpu.writer import Writer
from graphc.backends.shared.alike import Alike
from graphc.backends.shared.arguments import Arguments
from graphc.backends.shared.blocks import PAD
from graphc.backends.shared.module import (
    KernelText,
    Source,
    kernel_doc,
    write_source,
)
from graphc.ir.program import Call, Nest, Program, Task
from graphc.passes.contraction import Contraction

PRELUDE = "graphc.backends.cpu.prelude.names"


def write_module(program: Program, tiles: dict[str, tuple[int, int]]) -> Source:
    """Write the module of a program. tiles: sizes of register tiles by dtype."""
    kept = kept_operands(program)
    alike = Alike(program)

    def write(task: Task) -> KernelText:
        if isinstance(task, Call):
            return write_call(task, program)
        tile, index = tiles.get(_tiled_dtype(task)), kept.get(id(task), "")
        return alike.kernel(
            task, lambda: write_kernel(task, program, tile, index), index
        )

    return write_source(program, (), PRELUDE, write)


def write_kernel(
    nest: Nest, program: Program, tile: tuple[int, int] | None, kept: str = ""
) -> KernelText:
    """Write the kernel of a nest.

    tile: rows and columns of a register tile. kept: the index of the loop that leaves a
    contraction's second operand as it is.
    """
    assert nest.schedule is not None
    arguments = Arguments(program)
    writer = Writer(nest, program, arguments, nest.schedule.lanes)
    if nest.is_tiled:
        assert tile is not None
        roles = tile_roles(nest, program, tile[1])
        _tile_nest(roles, tile[1])(writer, roles, tile, kept).write()
    else:
        VectorNest(writer).write()
    lines = read_lines(arguments)
    for reader in POINTERS.values():
        if any(f" {reader}(args" in line for line in lines):
            writer.use(reader)
    body = "\n".join(PAD + line for line in [*lines, *writer.blocks[0].lines])
    return KernelText(
        nest.name,
        "args, t, nt",
        body,
        tuple(arguments.words),
        frozenset(writer.used),
        kernel_doc(nest, arguments),
    )


def _tile_nest(roles: Contraction, columns: int) -> type[TileNest]:
    """Return what writes a contraction on tiles of so many columns."""
    if spread_of(roles) is not None:
        return SpreadNest
    if is_narrow(roles, columns):
        return NarrowNest
    return RowsNest if has_rows(roles, columns) else TileNest


def _tiled_dtype(nest: Nest) -> str:
    reduces = nest.phases[0].reduces if nest.phases else ()
    return reduces[0].dtype.name if reduces else ""
