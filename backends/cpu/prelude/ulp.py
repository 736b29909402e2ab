"""Measure the error of the prelude's functions over all float32 inputs.

    python ulp.py exp tanh        # or without names: all; about a minute each
    python ulp.py --show

The reference is the C library's float64 function, which is exact for this purpose.
Every kind of arithmetic that this processor has is tried (see `instructions.py`). The
results stand in `ulp.json` beside this file, by kind and function, each with a hash of
the files that decide it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import sys
from collections.abc import Callable
from ctypes import POINTER, c_int64
from pathlib import Path
from typing import Any

import numpy as np
from numba import cfunc, njit
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "ulp.json"
# The files that decide the functions of a module, beside those of all.
SOURCES: dict[str, tuple[str, ...]] = {
    "vmath": (),
    "vtrig": ("vtrig.py",),
    "vwide": ("vpower.py", "vwide.py"),
    "vinverse": ("vtrig.py", "vinverse.py"),
}
SHARED = ("instructions.py", "lanes.py", "vmath.py")
CHUNK = 1 << 20
# How many ulp of float32 make 1, by exponent from -126 on.
ULPS = 2.0 ** (23 - np.arange(-126, 128))
Floats = NDArray[np.float32]


@njit(error_model="numpy")
def _sigmoid(x: float) -> float:
    return 1.0 / (1.0 + math.exp(-x))


@njit(error_model="numpy")
def _rsqrt(x: float) -> float:
    return 1.0 / math.sqrt(x)


@njit(error_model="numpy")
def _log(x: float) -> float:
    return -np.inf if x == 0 else (np.nan if x < 0 else math.log(x))


@njit(error_model="numpy")
def _log2(x: float) -> float:
    return -np.inf if x == 0 else (np.nan if x < 0 else np.log2(x))


@njit(error_model="numpy")
def _log10(x: float) -> float:
    return -np.inf if x == 0 else (np.nan if x < 0 else math.log10(x))


@njit(error_model="numpy")
def _log1p(x: float) -> float:
    return -np.inf if x == -1 else (np.nan if x < -1 else math.log1p(x))


REFERENCES: dict[str, tuple[str, Callable[[float], float]]] = {
    "exp": ("vmath", njit(lambda x: math.exp(x))),
    "expm1": ("vmath", njit(lambda x: math.expm1(x))),
    "sigmoid": ("vmath", _sigmoid),
    "tanh": ("vmath", njit(lambda x: math.tanh(x))),
    "log": ("vmath", _log),
    "log1p": ("vmath", _log1p),
    "rsqrt": ("vmath", _rsqrt),
    "erf": ("vmath", njit(lambda x: math.erf(x))),
    "sin": ("vtrig", njit(lambda x: math.sin(x))),
    "cos": ("vtrig", njit(lambda x: math.cos(x))),
    "log2": ("vwide", _log2),
    "log10": ("vwide", _log10),
    "erfc": ("vwide", njit(lambda x: math.erfc(x))),
    "arctan": ("vinverse", njit(lambda x: math.atan(x))),
}


def _prelude(module: str) -> Any:
    """Import a sibling: as part of a package, or when run as a script, by path."""
    if __package__:
        return importlib.import_module(f".{module}", __package__)
    if str(HERE.parent) not in sys.path:
        sys.path.insert(0, str(HERE.parent))
    return importlib.import_module(f"{HERE.name}.{module}")


def digest(name: str) -> str:
    """Return the hash of the files that decide the bits of a function."""
    files = (*SHARED, *SOURCES[REFERENCES[name][0]])
    text = b"".join((HERE / file).read_bytes() for file in files)
    return hashlib.sha256(text).hexdigest()[:16]


@njit(error_model="numpy")
def _exact(reference, inputs, true):  # type: ignore[no-untyped-def]
    """Fill in what the function is of the inputs."""
    for k in range(true.size):
        true[k] = reference(np.float64(inputs[k]))


@njit(error_model="numpy")
def _worst(exact, bits, inputs, got, worst):  # type: ignore[no-untyped-def]
    """Raise worst = [error in ulp, its input] by the results got for the inputs.

    bits: those of `exact`, in which its exponent stands.
    """
    for k in range(got.size):
        true, y = exact[k], np.float64(got[k])
        if np.isnan(true) or np.isnan(y):
            error = 0.0 if np.isnan(true) and np.isnan(y) else np.inf
        else:
            # inf counts as the number that follows the largest one.
            limit = 2.0**128
            a, b = max(min(true, limit), -limit), max(min(y, limit), -limit)
            exponent = min(max((bits[k] >> 52 & 0x7FF) - 1023, -126), 127)
            error = abs(a - b) * ULPS[exponent + 126]
            if np.float32(true) == 0 and np.signbit(true) != np.signbit(y):
                error = max(error, 0.999) + 100.0
        if error > worst[0]:
            worst[0] = error
            worst[1] = np.float64(inputs[k])


def kernel(function: Any, lanes: int = 16) -> Any:
    """Compile `y[i] = function(x[i])` over float32 arrays given by address."""
    vector = _prelude("vector")
    f32, load, mask, store = vector.f32, vector.load, vector.mask, vector.store

    @cfunc("void(CPointer(int64), int64)", error_model="numpy", fastmath={"contract"})
    def run(args, n):  # type: ignore[no-untyped-def]
        x, y = f32(args, 0), f32(args, 1)
        i = 0
        while i < n:
            m = mask(n - i, lanes)
            store(y, i, function(load(x, i, m)), m)
            i += lanes

    return run


class Checker:
    """The compiled function of a name, in a kind of arithmetic, and its reference."""

    def __init__(self, name: str, lanes: int = 16, kind: str = "") -> None:
        """Compile both, for vectors of so many lanes; the processor's kind if ""."""
        instructions = _prelude("instructions")
        module, self.reference = REFERENCES[name]
        with instructions.using(kind or instructions.native_kind()):
            self.kernel = kernel(getattr(_prelude(module), name), lanes)
        self.worst = np.zeros(2)

    def exact(self, x: Floats) -> NDArray[np.float64]:
        """Return what the function is."""
        true = np.empty(x.shape)
        _exact(self.reference, x, true)
        return true

    def __call__(self, x: Floats, true: NDArray[np.float64] | None = None) -> Floats:
        """Compute the function and remember the largest error so far."""
        y = np.empty_like(x)
        table = np.array([x.ctypes.data, y.ctypes.data], np.int64)
        self.kernel.ctypes(table.ctypes.data_as(POINTER(c_int64)), x.size)
        true = self.exact(x) if true is None else true
        _worst(true, true.view(np.int64), x, y, self.worst)
        return y


def kinds() -> tuple[str, ...]:
    """Return the kinds of arithmetic that this processor has."""
    instructions = _prelude("instructions")
    return tuple(dict.fromkeys(("portable", instructions.native_kind())))


def check_all(name: str) -> dict[str, dict[str, float | str]]:
    """Try every float32 and return, by kind, {"ulp": the worst, "at": input, "hash"}.

    A difference in NaN counts as infinite, a zero of the wrong sign as more than 100.
    """
    checks = {kind: Checker(name, kind=kind) for kind in kinds()}
    first, *_ = checks.values()
    sources = digest(name)
    for start in range(-(2**31), 2**31, CHUNK):
        bits = np.arange(start, start + CHUNK, dtype=np.int64).astype(np.int32)
        x = bits.view(np.float32)
        true = first.exact(x)
        for check in checks.values():
            check(x, true)
    found = {kind: map(float, check.worst) for kind, check in checks.items()}
    return {
        kind: {"ulp": round(error, 4), "at": at, "hash": sources}
        for kind, (error, at) in found.items()
    }


def main(arguments: list[str]) -> None:
    """Check the functions named (default: all) and store what was found."""
    found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if arguments != ["--show"]:
        for name in arguments or REFERENCES:
            for kind, result in check_all(name).items():
                found.setdefault(kind, {})[name] = result
                print(kind, name, result, flush=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
