"""Which tiles and copies a contraction may need: all that `tiling` asks for."""

from __future__ import annotations

import pytest

from graphc.backends.cpu.prelude import gemm
from graphc.backends.cpu.tile_pieces import pack_pieces, tile_pieces
from graphc.ir.dims import dim

N = dim("N")
SIZES = (0, 1, 2, 5, 6, 7, 13, 16, 17, 31, 63, 64, 65, 100, 127, 128, 129, 200)


def asked_for(
    rows: int, columns: int, dtype: str, copied: bool, even: bool
) -> set[str]:
    """Return the tiles of a product, counted one by one."""
    shape, found = gemm.shape(dtype), set()
    tall = -(-rows // shape.rows)
    height = -(-rows // max(tall, 1))
    long = rows == 1 and not copied
    span = shape.row_columns if long else shape.columns
    more = rows - tall * (height - 1)  # tiles so high, if all are as even as can be
    for v in range(tall):
        least = min(height, rows - v * height)
        mine = height - (v >= more) if even else least
        for column in range(0, columns, span):
            cols = min(span, columns - column)
            vectors = -(-cols // shape.lanes)
            if cols > shape.columns:
                vectors = 2 * shape.vectors
            found.add(f"{mine}x{vectors}")
    return found


@pytest.mark.parametrize("even", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", SIZES)
def test_known_sizes_need_the_tiles_that_they_ask_for(
    rows: int, dtype: str, even: bool
) -> None:
    for columns in SIZES:
        copied = asked_for(rows, columns, dtype, copied=True, even=even)
        either = copied | asked_for(rows, columns, dtype, copied=False, even=even)
        assert set(tile_pieces(rows, columns, dtype, even=even)) == either
        assert set(tile_pieces(rows, columns, dtype, copied=True, even=even)) == copied
        assert either <= set(tile_pieces(rows, N, dtype, even=even))
        assert either <= set(tile_pieces(N, columns, dtype, even=even))


def test_unknown_sizes_may_need_any_tile() -> None:
    asking = {p for p in gemm.shape("float32").pieces if p.endswith("_asking")}
    plain = set(gemm.shape("float32").pieces) - asking
    assert set(tile_pieces(N, N, "float32")) == plain
    replaced = {p.removesuffix("_asking") for p in asking}
    assert set(tile_pieces(N, N, "float32", asks=True)) == plain - replaced | asking
    single = f"1x{2 * gemm.shape('float32').vectors}"
    assert single not in tile_pieces(N, N, "float32", copied=True)


@pytest.mark.parametrize(
    ("strides", "ways"),
    [
        ([(512, 1)], ["copy"]),
        ([(1, 512)], ["transpose"]),
        ([(1, 1)], ["copy"]),
        ([(512, 2)], ["single"]),
        ([(N, 1)], ["copy"]),
        ([(1, N)], ["copy", "transpose"]),
        ([(512, N)], ["copy", "single"]),
        ([(N, 512)], ["single", "transpose"]),
        ([(512, 1), (1, 512)], ["copy", "transpose"]),
        ([], []),
    ],
)
def test_strides_say_how_to_copy(strides, ways) -> None:
    assert pack_pieces(strides) == ways
