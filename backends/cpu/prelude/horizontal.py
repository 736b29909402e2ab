"""Reductions of the lanes of one vector to a scalar, always in the same order.

Each combines the two halves of the vector, then the halves of the result, down to one
lane: a fixed tree, so the bits of a sum depend on nothing but its lanes. Lanes that a
mask has off take part; give them the neutral element with `select` first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic

from .arith import larger_body, maximum_body, minimum_body, smaller_body
from .lanes import I32, Lanes, call_shared, constant, is_float, select, vector
from .vector import Mask, Vec

Combine = Callable[[Lanes, Lanes], Lanes]


def _halves(x: Lanes) -> tuple[Lanes, Lanes]:
    half = x.type.count // 2
    undefined = ir.Constant(x.type, ir.Undefined)

    def take(first: int) -> Lanes:
        lanes = ir.Constant(vector(I32, half), list(range(first, first + half)))
        return Lanes(x.builder, x.builder.shuffle_vector(x.value, undefined, lanes))

    return take(0), take(half)


def _first(x: Lanes) -> ir.Value:
    return x.builder.extract_element(x.value, constant(I32, 0))


def _reduction(name: str, combine: Combine, doc: str, masks: bool = False) -> Any:
    def definition(typingctx, v):  # type: ignore[no-untyped-def]
        if not isinstance(v, Mask if masks else Vec):
            return None

        def body(x: Lanes) -> Lanes:
            while x.type.count > 1:
                x = combine(*_halves(x))
            return Lanes(x.builder, _first(x))

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            element = values[0].type.element
            shared = f"graphc.{name}.{v.name}"
            return call_shared(builder, shared, body, values, element)

        return v.dtype(v), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(definition)


hsum = _reduction("hsum", lambda a, b: a + b, "Add the lanes.")
hprod = _reduction("hprod", lambda a, b: a * b, "Multiply the lanes.")
hmax = _reduction("hmax", maximum_body, "Return the largest lane, NaN if one is NaN.")
hmin = _reduction("hmin", minimum_body, "Return the smallest lane, NaN if one is NaN.")


def _mask_reduction(name: str, reduce: Callable[[Lanes], ir.Value], doc: str) -> Any:
    def definition(typingctx, m):  # type: ignore[no-untyped-def]
        if not isinstance(m, Mask):
            return None

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            return reduce(Lanes(builder, values[0]))

        return types.boolean(m), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(definition)


def _all(m: Lanes) -> ir.Value:
    return m.builder.not_((~m).any())


hany = _mask_reduction("hany", Lanes.any, "Say whether any lane of a mask is set.")
hall = _mask_reduction("hall", _all, "Say whether all lanes of a mask are set.")


def _arg_reduction(name: str, beats: Combine, sign: float, doc: str) -> Any:
    def definition(typingctx, v, index, m):  # type: ignore[no-untyped-def]
        if not (isinstance(v, Vec) and m == Mask(v.lanes)):
            return None
        if index != Vec(types.int64, v.lanes):
            return None

        def codegen(context, builder, sig, values):  # type: ignore[no-untyped-def]
            best, at, on = (Lanes(builder, value) for value in values)
            best = select(on, best, _worst(best.type.element, sign))
            at = select(on, at, 2**63 - 1)
            while best.type.count > 1:
                (best, value), (at, i) = _halves(best), _halves(at)
                tied = ~beats(best, value) & ~beats(value, best)
                better = beats(best, value) | (tied & (i < at))
                best, at = select(better, value, best), select(better, i, at)
            return context.make_tuple(
                builder, sig.return_type, (_first(best), _first(at))
            )

        pair: Any = types.Tuple((v.dtype, types.int64))  # type: ignore[no-untyped-call]
        return pair(v, index, m), codegen

    definition.__name__ = definition.__qualname__ = name
    definition.__doc__ = doc
    return intrinsic(definition)


def _worst(element: ir.Type, sign: float) -> float | int:
    if is_float(element):
        return sign * float("inf")
    half: int = 1 << (element.width - 1)
    return half - 1 if sign > 0 else -half


hargmax = _arg_reduction(
    "hargmax",
    larger_body,
    -1.0,
    """Return (value, index) of the largest lane under a mask, NaN counting as such.

    Of equal lanes the one with the least index wins, as in `np.argmax`. `index` gives
    each lane its int64 index. Without a lane: the least value and 2**63 - 1.
    """,
)
hargmin = _arg_reduction(
    "hargmin",
    smaller_body,
    1.0,
    """Return (value, index) of the smallest lane under a mask, NaN counting as such.

    Of equal lanes the one with the least index wins, as in `np.argmin`. `index` gives
    each lane its int64 index. Without a lane: the largest value and 2**63 - 1.
    """,
)
