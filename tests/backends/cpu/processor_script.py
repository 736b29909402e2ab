"""What a process finds that makes code for the processor that GRAPHC_CPU names.

test_processor.py runs it, one process for each level, and reads the JSON it prints:

    cpu, vector_bytes   of the target
    registers           kinds of vector registers that kernels and register tiles use
    wrong               formulas whose values are not those of `reference`
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import graphc as gc
from graphc.backends.cpu.prelude import gemm, native

Array = np.ndarray[Any, Any]
Formula = Callable[..., Any]

random = np.random.default_rng(0)
SPECIAL = (0, 1, 1e-40, 3e-39, 0.3, 1.5, 20, 87.5, 89, 104, 1e10, 3e38, np.inf, np.nan)


def numbers(*shape: int, dtype: str = "float32") -> Array:
    """Return normal numbers."""
    return random.normal(size=shape).astype(dtype)


# --- formulas ----------------------------------------------------------------------


def product(dtype: str) -> Formula:
    """Return all four forms of a product, with an epilogue."""

    def formula(a: Any, b: Any) -> list[Any]:
        at, bt = gc.transpose(a), gc.transpose(b)
        return [gc.tanh(a @ b) + 1.0, bt @ at, at @ a, b @ bt]

    return formula


def convolution(x: Any, w: Any) -> list[Any]:
    """Return a convolution and both its gradients."""
    y = gc.conv2d(x, w, padding="same")
    return [y, *gc.grad(gc.sum(gc.tanh(y)), [x, w])]


def rows(x: Any) -> list[Any]:
    """Return what is computed row by row, and its gradients."""
    y, z = gc.softmax(x), gc.layer_norm(x)
    (slope,) = gc.grad(gc.sum(y**2) + gc.sum(z**3), [x])
    return [y, z, gc.logsumexp(x, axis=1), gc.argmax(x, 1), slope]


def mathematics(x: Any) -> list[Any]:
    """Return elementary functions, of infinities and NaN too."""
    one = [gc.exp, gc.expm1, gc.log, gc.log1p, gc.tanh, gc.sigmoid, gc.sqrt, gc.rsqrt]
    two = [gc.erf, gc.arctan, gc.relu, gc.floor, gc.softplus, gc.gelu, gc.isfinite]
    return [f(x) for f in (*one, *two)] + [gc.maximum(x, 0.25), x * 2.0 + 0.5, 1.0 / x]


def lstm(x: Any, h: Any, c: Any, w: Any, u: Any) -> list[Any]:
    """Return a step of an LSTM and its gradients."""
    i, f, g, o = gc.split(x @ w + h @ u, 4, axis=1)
    c = gc.sigmoid(f) * c + gc.sigmoid(i) * gc.tanh(g)
    h = gc.sigmoid(o) * gc.tanh(c)
    return [h, c, *gc.grad(gc.sum(h * h) + gc.sum(c), [w, u])]


def integers(i: Any, j: Any) -> list[Any]:
    """Return integers, booleans, and what goes from one to the other."""
    small = (i < j) & (j != 3) | gc.logical_not(i == 2)
    whole = [i + j * 7, i // 3, i % 5, gc.maximum(i, j), gc.sum(i, axis=1), small]
    return [*whole, gc.where(small, i, j), gc.cumsum(i, axis=1), gc.sum(small, axis=0)]


def cases() -> Iterator[tuple[str, Formula, list[Array]]]:
    """Yield formulas with ragged arguments: single rows, primes, one off a block."""
    for dtype in ("float32", "float64"):
        for m, k, n in (
            (1, 1, 1),
            (1, 9, 130),
            (7, 13, 5),
            (33, 70, 65),
            (129, 64, 31),
        ):
            given = [numbers(m, k, dtype=dtype), numbers(k, n, dtype=dtype)]
            yield f"product {dtype} {m}x{k}x{n}", product(dtype), given
        for n in (1, 17):
            sign = np.repeat([1, -1], len(SPECIAL))
            hard = np.resize(SPECIAL, sign.size) * sign
            x = np.concatenate([hard, random.normal(0, 3, n)]).astype(dtype)
            yield f"mathematics {dtype} {n}", mathematics, [x]
        yield f"rows {dtype}", rows, [numbers(5, 37, dtype=dtype) * 3]
    yield "convolution", convolution, [numbers(2, 3, 9, 11), numbers(5, 3, 3, 3)]
    sizes = ((3, 7), (3, 19), (3, 19), (7, 76), (19, 76))
    yield "lstm", lstm, [numbers(*size) for size in sizes]
    for kind in ("int32", "int64"):
        pair = [random.integers(-9, 9, (5, 23)).astype(kind) for _ in "ij"]
        yield f"integers {kind}", integers, pair


# --- what is found -----------------------------------------------------------------


def differing(formula: Formula, given: list[Array]) -> tuple[list[int], str]:
    """Return which results are not those of `reference`, and the kernels' assembly."""
    inputs = [gc.input(f"x{i}", a.shape, str(a.dtype)) for i, a in enumerate(given)]
    outputs = formula(*inputs)
    step = gc.compile(inputs, outputs)
    with np.errstate(all="ignore"):
        expected = gc.evaluate(outputs, dict(zip(inputs, given, strict=True)))
    wrong = [
        i
        for i, (a, b) in enumerate(zip(step(*given), expected, strict=True))
        if not close(a, b)
    ]
    return wrong, "".join(kernel.asm for kernel in step.kernels)


def close(a: Array, b: Array) -> bool:
    """Compare numbers within rounding, all others exactly."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind != "f":
        return bool((a == b).all())
    eps = float(np.finfo(a.dtype).eps)
    size = float(np.max(np.abs(b), where=np.isfinite(b) & (np.abs(b) < 1e6), initial=1))
    return np.allclose(a, b, rtol=64 * eps, atol=64 * eps * size, equal_nan=True)


def registers(assembly: str) -> list[str]:
    """Return which kinds of vector registers a text of assembly names."""
    return sorted(set(re.findall(r"%([xyz]mm)\d", assembly)))


def main() -> None:
    """Print what is found."""
    wrong, texts = {}, []
    for name, formula, given in cases():
        differs, text = differing(formula, given)
        texts.append(text)
        if differs:
            wrong[name] = differs
    made_for = native.target()
    tiles = [
        native.assembly(gemm._build("piece", which, dtype, piece))
        for which in ("tile", "pack", "gather")
        for dtype in ("float32", "float64")
        for piece in gemm.pieces(which, dtype)
    ]
    found = {
        "cpu": made_for.cpu,
        "vector_bytes": made_for.vector_bytes,
        "registers": [registers("".join(texts)), registers("".join(tiles))],
        "fused": "vfmadd" in tiles[0],
        "wrong": wrong,
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
