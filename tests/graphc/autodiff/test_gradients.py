"""The gradient of every op against central differences, on `reference` and on the CPU.

The cases of one op are one function in float64; each output gets a cotangent of its
own. Second derivatives are differences of first ones.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from ops_table import CASES, Case, arrays, tensors

import graphc as gc
from graphc.errors import GradientError
from graphc.ir.nodes import Tensor
from graphc.ir.op import OPS, NonDifferentiable

Array = np.ndarray[Any, Any]
STEP = 1e-5


def has_gradient(case: Case) -> bool:
    """Whether there is something to differentiate, and by which."""
    if isinstance(OPS[case.op].gradient, NonDifferentiable) or case.op == "fused":
        return False  # a graph is differentiated before it is fused
    inputs = tensors(case)
    found = case.function(*inputs)
    outputs = found if isinstance(found, tuple) else (found,)
    return all(any(t.dtype.is_float for t in each) for each in (inputs, outputs))


DIFFERENTIABLE = [case for case in CASES if has_gradient(case)]
BY_OP = list(dict.fromkeys(case.op for case in DIFFERENTIABLE))


class Problem:
    """One case in float64, its cotangents, and the gradient of the two together."""

    def __init__(self, case: Case, prefix: str = "") -> None:
        self.case = case
        self.inputs = tensors(case, "float64", prefix)
        found = case.function(*self.inputs)
        outputs = found if isinstance(found, tuple) else (found,)
        self.outputs = [o for o in outputs if o.dtype.is_float]
        self.floats = [i for i in self.inputs if i.dtype.is_float]
        self.cotangents = [
            gc.input(f"{prefix}g{k}", o.shape, "float64")
            for k, o in enumerate(self.outputs)
        ]
        self.loss: Tensor | None = None
        if self.outputs and self.floats:
            terms = [
                gc.sum(gc.cast(o, "float64") * g)
                for o, g in zip(self.outputs, self.cotangents, strict=True)
            ]
            self.loss = sum(terms[1:], terms[0])
        given = dict(zip(self.inputs, arrays(case, "float64"), strict=True))
        rng = np.random.default_rng(len(case.id))
        if self.outputs:
            values = gc.evaluate(self.outputs, given)
            for g, o in zip(self.cotangents, values, strict=True):
                given[g] = rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1, 1], o.shape)
        self.given = given

    def gradients(self) -> list[Tensor]:
        assert self.loss is not None
        return gc.grad(self.loss, self.floats)


def differences(y: Tensor, x: Tensor, given: dict[Tensor, Array]) -> Array:
    """Return the derivative of a scalar by central differences."""
    found = np.zeros_like(given[x])
    for at in np.ndindex(found.shape):
        ends = []
        for side in (1, -1):
            moved = given[x].copy()
            moved[at] += side * STEP
            ends.append(gc.evaluate(y, {**given, x: moved}))
        found[at] = (ends[0] - ends[1]) / (2 * STEP)
    return found


def close(found: Array, expected: Array, what: str, digits: float = 2e-7) -> None:
    scale = float(np.abs(expected).max(initial=1.0))
    np.testing.assert_allclose(found, expected, digits, digits * scale, err_msg=what)


@cache
def problem(case_id: str) -> Problem:
    return Problem(next(c for c in CASES if c.id == case_id))


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_gradient_is_that_of_central_differences(case: Case) -> None:
    p = problem(case.id)
    assert p.loss is not None
    for x, d in zip(p.floats, p.gradients(), strict=True):
        assert d.type == x.type
        close(gc.evaluate(d, p.given), differences(p.loss, x, p.given), case.id)


@pytest.mark.parametrize("op", BY_OP)
def test_cpu_computes_the_gradients_of_reference(op: str) -> None:
    inputs: list[Tensor] = []
    given: list[Array] = []
    made: dict[str, Tensor] = {}
    for k, case in enumerate(c for c in DIFFERENTIABLE if c.op == op):
        p = Problem(case, f"{k}_")
        inputs += p.given
        given += p.given.values()
        for i, d in enumerate(p.gradients()):
            made[f"{case.id} {i}"] = d
    found = gc.compile(inputs, made)(*given)
    expected = gc.evaluate(made, dict(zip(inputs, given, strict=True)))
    for name, e in expected.items():
        close(found[name], e, name, 1e-12)


# Second derivatives: one case each, of those that are not linear.
CURVED_OPS = {
    "mul", "div", "pow", "exp", "log", "log1p", "expm1", "sqrt", "rsqrt", "tanh",
    "sigmoid", "softplus", "mean", "var", "logsumexp", "norm", "softmax", "log_softmax",
    "matmul", "sum", "max", "min", "where", "custom_gradient", "relu", "abs", "maximum",
    "minimum", "cumprod", "linear_recurrence", "solve",
    "solve_triangular", "cholesky", "det", "slogdet", "prod", "std", "standardize",
    "rms_scale",
    "sin", "cos", "tan", "arctan", "sinh", "cosh", "log2", "log10", "erf", "erfc",
    "silu", "gelu", "gelu_tanh", "elu", "selu", "softsign", "leaky_relu", "clip",
    "remainder",
    "conv", "conv_input_gradient", "conv_weight_gradient",
}  # fmt: skip
CURVED = [
    case
    for case in DIFFERENTIABLE
    if case.name
    in {"symbolic", "same_shape", "axis", "last_axis", "square", "cube", "matrices"}
    | {"stride"}
    and case.op in CURVED_OPS
]


@pytest.mark.parametrize("case", CURVED, ids=lambda c: c.id)
def test_second_derivative_is_that_of_central_differences(case: Case) -> None:
    p = problem(case.id)
    rng = np.random.default_rng(7)
    for i, first in enumerate(p.gradients()):
        v = gc.input("v", first.shape, "float64")
        given = {**p.given, v: rng.uniform(0.5, 1.5, p.given[p.floats[i]].shape)}
        directed = gc.sum(first * v)
        for x in p.floats:
            expected = differences(directed, x, given)
            try:
                second = gc.grad(directed, x)
            except GradientError:  # no path is left: the derivative is constant
                close(expected, np.zeros_like(expected), case.id, 1e-6)
                continue
            close(gc.evaluate(second, given), expected, case.id, 1e-6)


@pytest.mark.parametrize("name", ["exp", "tanh", "log", "sigmoid", "softplus", "rsqrt"])
def test_third_derivative_on_both_backends(name: str) -> None:
    x = gc.input("x", ("N",), "float64")
    f: Any = getattr(gc, name)
    order = [gc.sum(f(x))]
    for _ in range(3):
        order.append(gc.sum(gc.grad(order[-1], x)))
    at = np.linspace(0.3, 2.0, 9)
    given = {x: at}
    step = gc.compile([x], gc.grad(order[2], x))
    expected = differences(order[2], x, given)
    close(gc.evaluate(gc.grad(order[2], x), given), expected, name, 1e-6)
    close(step(at), expected, name, 1e-6)


@pytest.mark.parametrize(
    "op",
    [
        o
        for o in OPS.values()
        if isinstance(o.gradient, NonDifferentiable) and not o.leaf
    ],
    ids=lambda o: o.name,
)
def test_ops_without_a_gradient_say_why(op: Any) -> None:
    for case in CASES:
        if case.op != op.name:
            continue
        p = Problem(case)
        if p.loss is None:
            continue
        with pytest.raises(GradientError) as error:
            p.gradients()
        direct = f"{op.name} blocks the way: {op.gradient.reason}"
        text = str(error.value)
        assert direct in text or "does not depend" in text or "is 0 every" in text
