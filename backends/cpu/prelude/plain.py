"""Intrinsics for routines in plain Python, as a type checker lets them be called.

Numba's own type for an intrinsic counts the typing context among its arguments.
"""

from __future__ import annotations

from typing import Any

from . import foreign, gemm_calls, tiling, vector

at: Any = gemm_calls.at
get: Any = vector.get
half: Any = foreign.half
like: Any = foreign.like
put: Any = vector.put
share: Any = tiling.share

call_getrf: Any = foreign.getrf
call_getrs: Any = foreign.getrs
call_potrf: Any = foreign.potrf
call_trtrs: Any = foreign.trtrs
