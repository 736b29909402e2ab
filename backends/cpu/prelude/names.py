"""What generated kernels import from the prelude, from modules that nobody else needs.

Each is imported when a kernel first asks for a name of it: all together take as long as
compiling a small kernel, and a program's kernels need few.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_NAMES = {
    "arith": (
        "absolute beats_max beats_min cast_bool cast_f32 cast_f64 cast_i32 cast_i64 "
        "ceil floor maximum minimum neg quotient round_even select sign sqrt trunc"
    ),
    "foreign": "invoke",
    "gemm_calls": (
        "at fill_frame gather_panel interleave line_table pack spread_panel tile "
        "tile_columns tile_quads tile_rows"
    ),
    "horizontal": "hall hany hargmax hargmin hmax hmin hprod hsum",
    "kernel": "kernel",
    "matrices": "cholesky det slogdet solve solve_triangular",
    "order": "searchsorted sort top_k",
    "philox": "philox_word",
    "scans": "cumextremum cumprod cumsum linear_recurrence",
    "streaming": (
        "drafts drain gap lead load_ahead load_later store_ahead store_later stream "
        "stream_line"
    ),
    "tiling": "divide fetch panel_place share tiling",
    "vector": (
        "b8 every_other f32 f64 gather get i32 i64 iota load load1 mask scatter "
        "splat_bool splat_f32 splat_f64 splat_i32 splat_i64 store strided"
    ),
    "vinverse": "arctan",
    "vmath": "erf exp expm1 log log1p rsqrt sigmoid tanh",
    "vpower": "power",
    "vtrig": "cos sin",
    "vwide": "erfc log2 log10",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    """Return what a module of the prelude has under a name."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(f".{_MODULES[name]}", __package__), name)
    globals()[name] = found
    return found
