"""Running programs with NumPy: what a nest means, to check lowering and kernels by.

A phase is computed for all points at once: axes become index arrays that broadcast
against each other, a reduction reduces the trailing ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from graphc.ir.dims import evaluate
from graphc.ir.program.program import (
    ARGS,
    Barrier,
    Call,
    If,
    Loop,
    Nest,
    Phase,
    Program,
    Statement,
    While,
)
from graphc.ir.program.program import Reduce as ReduceStep
from graphc.ir.program.routines import routine
from graphc.ir.scalar import Axis, Expr, Load, Ref, SizeOf, evaluate_expr

Array = np.ndarray[Any, Any]
_UFUNC: dict[str, Any] = {
    "sum": np.add,
    "prod": np.multiply,
    "max": np.maximum,
    "min": np.minimum,
    "any": np.logical_or,
    "all": np.logical_and,
}


def run_program(
    program: Program, given: Mapping[str, Array], sizes: Mapping[str, int]
) -> dict[str, Array]:
    """Run a program; `given` has inputs and states. Returns all buffers."""
    arrays: dict[str, Array] = {}
    for name, buffer in program.buffers.items():
        shape = tuple(evaluate(s, sizes) for s in buffer.shape)
        if buffer.view_of:
            arrays[name] = arrays[buffer.view_of].reshape(shape)
        elif name in given:
            arrays[name] = np.array(given[name], buffer.dtype.numpy, order="C")
        elif name in program.constants:
            arrays[name] = program.constants[name]
        else:
            arrays[name] = np.zeros(shape, buffer.dtype.numpy)
    _run(program.body, arrays, sizes)
    return arrays


def _run(
    body: tuple[Statement, ...], arrays: dict[str, Array], sizes: Mapping[str, int]
) -> None:
    for s in body:
        if isinstance(s, Nest):
            run_nest(s, arrays, sizes)
        elif isinstance(s, Loop):
            for i in range(evaluate(s.count, sizes)):
                arrays[s.index][...] = i
                _run(s.body, arrays, sizes)
        elif isinstance(s, If):
            _run(s.then if arrays[s.condition] else s.otherwise, arrays, sizes)
        elif isinstance(s, While):
            _run(s.test, arrays, sizes)
            while arrays[s.condition]:
                _run(s.body, arrays, sizes)
                _run(s.test, arrays, sizes)
        elif isinstance(s, Call):
            run_call(s, arrays, sizes)
        else:
            assert isinstance(s, Barrier)


def run_call(call: Call, arrays: dict[str, Array], sizes: Mapping[str, int]) -> None:
    """Run a library routine on arrays, in place."""
    given = tuple(arrays[n] for n in call.reads)
    found = routine(call.routine).meaning(given, call.bound(sizes))
    for name, value in zip(call.writes, found, strict=True):
        arrays[name][...] = np.reshape(value, arrays[name].shape)


def run_nest(nest: Nest, arrays: dict[str, Array], sizes: Mapping[str, int]) -> None:
    """Run one nest on arrays, in place."""
    results: dict[str, Array] = {}
    outer = [(a.name, evaluate(a.extent, sizes)) for a in nest.axes]
    for phase in nest.phases:
        inner = [(a.name, evaluate(a.extent, sizes)) for a in phase.axes]
        space = [*outer, *inner]
        shape = tuple(n for _, n in space)
        axes = {
            name: np.arange(n).reshape([-1 if j == i else 1 for j in range(len(space))])
            for i, (name, n) in enumerate(space)
        }

        def leaf(e: Expr, axes: Any = axes, extra: int = len(inner)) -> Array:
            if isinstance(e, Axis):
                return np.asarray(axes[e.name])
            if isinstance(e, SizeOf):
                return np.asarray(evaluate(e.size, sizes))
            if isinstance(e, Ref):
                return results[e.name].reshape(results[e.name].shape + (1,) * extra)
            assert isinstance(e, Load)
            index = tuple(evaluate_expr(a, leaf) for a in e.args)
            source = arrays[e.buffer]
            if source.size == 0:
                return np.zeros(np.broadcast_shapes(*(i.shape for i in index)))
            return np.asarray(source[index])

        values = {
            r.name: [np.broadcast_to(evaluate_expr(v, leaf), shape) for v in r.values]
            for r in phase.reduces
        }
        for r in phase.reduces:
            results[r.name] = _reduce(r, values[r.name], phase, len(outer))
        # All values first: a phase reads what was there before its stores.
        stores = [
            (
                s,
                tuple(np.broadcast_to(evaluate_expr(i, leaf), shape) for i in s.index),
                np.broadcast_to(evaluate_expr(s.value, leaf), shape),
            )
            for s in phase.stores
        ]
        for s, index, value in stores:
            if s.accumulate:
                np.add.at(arrays[s.buffer], index, value)
            else:
                arrays[s.buffer][index] = value


def _reduce(r: ReduceStep, values: list[Array], phase: Phase, outer: int) -> Array:
    lead = values[0].shape[:outer]
    inner = math.prod(values[0].shape[outer:])  # -1 is not worked out for no elements
    flat = [v.reshape(*lead, inner) for v in values]
    dtype = values[-1].dtype
    with np.errstate(all="ignore"):
        if r.monoid in ARGS:
            search = np.argmax if r.monoid == "argmax" else np.argmin
            best = search(flat[0], axis=-1)
            found = np.take_along_axis(flat[1], best[..., None], axis=-1)[..., 0]
        else:
            found = _UFUNC[r.monoid].reduce(flat[0], axis=-1, dtype=dtype)
    return np.asarray(found)
