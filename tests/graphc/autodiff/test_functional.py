"""vjp, jvp, jacobian, hessian and hvp: against each other and what is known."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
from ops_table import CASES, Case, arrays, tensors

import graphc as gc
from graphc.errors import GradientError
from graphc.ir.graph import Graph
from graphc.ir.nodes import Tensor
from graphc.ir.op import OPS, NonDifferentiable

Array = np.ndarray[Any, Any]


def several(found: Any) -> list[Tensor]:
    return list(found) if isinstance(found, (tuple, list)) else [found]


def has_gradient(case: Case) -> bool:
    if isinstance(OPS[case.op].gradient, NonDifferentiable) or case.op == "fused":
        return False
    inputs = tensors(case)
    outputs = several(case.function(*inputs))
    return all(any(t.dtype.is_float for t in each) for each in (inputs, outputs))


DIFFERENTIABLE = [case for case in CASES if has_gradient(case)]


class Problem:
    """A case in float64 with a direction for each input and each output."""

    def __init__(self, case: Case) -> None:
        inputs = tensors(case, "float64")
        found = several(case.function(*inputs))
        self.xs = [t for t in inputs if t.dtype.is_float]
        self.ys = [t for t in found if t.dtype.name == "float64"]
        self.given = dict(zip(inputs, arrays(case, "float64"), strict=True))
        rng = np.random.default_rng(len(case.id))
        self.v = [rng.normal(size=self.given[x].shape) for x in self.xs]
        values = gc.evaluate(self.ys, self.given)
        self.u = [rng.normal(size=y.shape) for y in values]
        self.vs = [self.input(f"v{i}", x, self.v[i]) for i, x in enumerate(self.xs)]
        self.us = [self.input(f"u{i}", y, self.u[i]) for i, y in enumerate(self.ys)]

    def input(self, name: str, like: Tensor, value: Array) -> Tensor:
        made = gc.input(name, like.shape, like.dtype)
        self.given[made] = value
        return made

    def evaluate(self, found: Any) -> Any:
        return gc.evaluate(found, self.given)


@cache
def problem(case_id: str) -> Problem:
    return Problem(next(c for c in CASES if c.id == case_id))


def close(found: Any, expected: Any, what: str = "", digits: float = 1e-10) -> None:
    scale = float(np.abs(expected).max(initial=1.0))
    np.testing.assert_allclose(found, expected, digits, digits * scale, err_msg=what)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_forward_and_reverse_agree(case: Case) -> None:
    """u (J v) = (J^T u) v."""
    p = problem(case.id)
    forward = p.evaluate(gc.jvp(p.ys, p.xs, p.vs))
    back = p.evaluate(gc.vjp(p.ys, p.xs, p.us))
    left = sum(float(np.sum(u * y)) for u, y in zip(p.u, forward, strict=True))
    right = sum(float(np.sum(v * x)) for v, x in zip(p.v, back, strict=True))
    close(left, right, case.id)


@pytest.mark.parametrize("case", DIFFERENTIABLE, ids=lambda c: c.id)
def test_jacobian_holds_all_vjps(case: Case) -> None:
    p = problem(case.id)
    rows = p.evaluate([j for row in gc.jacobian(p.ys, p.xs) for j in row])
    back = p.evaluate(gc.vjp(p.ys, p.xs, p.us))
    n = len(p.xs)
    for k, wanted in enumerate(back):
        found = sum(np.tensordot(u, rows[i * n + k], u.ndim) for i, u in enumerate(p.u))
        close(found, wanted, case.id)


def test_jvp_is_that_of_central_differences() -> None:
    x = gc.input("x", (4,), "float64")
    v = gc.input("v", (4,), "float64")
    y = gc.tanh(gc.softmax(x * x) * 3.0)
    at, along = np.linspace(-1, 1.3, 4), np.array([0.3, -1.0, 0.5, 2.0])
    ends = [gc.evaluate(y, {x: at + s * 1e-6 * along}) for s in (1, -1)]
    found = gc.evaluate(gc.jvp(y, x, v), {x: at, v: along})
    close(found, (ends[0] - ends[1]) / 2e-6, digits=1e-8)


def test_jvp_of_a_deep_chain_grows_with_its_depth_only() -> None:
    x, v = gc.input("x", ("N",)), gc.input("v", ("N",))
    sizes = []
    for depth in (10, 20, 40):
        y: Any = x
        for _ in range(depth):
            y = gc.tanh(y * 1.1)
        step = gc.compile([x, v], gc.jvp(y, x, v), backend="reference")
        sizes.append(_nodes(step))
    assert sizes[2] - sizes[1] == 2 * (sizes[1] - sizes[0])
    assert sizes[2] < 40 * 10


def _nodes(step: Any) -> int:
    """Return how many nodes are left before fusion."""
    return next(len(g) for name, g in step.stages if name == "dce")


def test_several_inputs_and_outputs() -> None:
    a, b = gc.input("a", (2,), "float64"), gc.input("b", (2, 3), "float64")
    ys = [a @ b, gc.sum(a)]
    given = {a: [1.0, 2.0], b: np.arange(6.0).reshape(2, 3)}
    one, two = gc.jvp(ys, [a, b], [gc.ones((2,), "float64"), b])
    first, second = gc.evaluate([one, two], given)
    np.testing.assert_allclose(first, np.ones(2) @ given[b] + np.array([6, 9, 12]))
    assert float(second) == 2.0
    (wa, wb) = gc.vjp(ys, [a, b], [gc.ones((3,), "float64"), 5.0])
    da, db = gc.evaluate([wa, wb], given)
    np.testing.assert_allclose(da, given[b].sum(1) + 5)
    np.testing.assert_allclose(db, np.outer([1.0, 2.0], np.ones(3)))
    blocks = gc.jacobian(ys, [a, b])
    assert [[str(t.type) for t in row] for row in blocks] == [
        ["f64[3,2]", "f64[3,2,3]"],
        ["f64[2]", "f64[2,3]"],
    ]
    assert not gc.evaluate(blocks[1][1], given).any()  # sum(a) has no b


def test_jacobian_of_softmax() -> None:
    x = gc.input("x", ("N",), "float64")
    at = np.array([0.3, -1.0, 2.0])
    p = np.exp(at) / np.exp(at).sum()
    wanted = np.diag(p) - np.outer(p, p)
    j = gc.jacobian(gc.softmax(x), x)
    assert str(j.type) == "f64[N,N]"
    close(gc.evaluate(j, {x: at}), wanted)
    step = gc.compile([x], j)
    close(step(at), wanted)
    assert step(np.zeros(1)).tolist() == [[0.0]]
    assert gc.parse(step.declared.text()) == step.declared


def test_jacobian_of_a_layer_is_one_batched_graph() -> None:
    x, w = gc.input("x", (5,)), gc.input("w", (5, 7))
    j = gc.jacobian(gc.tanh(x @ w), x)
    graph = Graph.build([x, w], [j])
    assert graph.count("matmul") == 2  # the layer, and all rows at once
    assert str(j.type) == "f32[7,5]"
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=5), rng.normal(size=(5, 7))
    wanted = ((1 - np.tanh(a @ b) ** 2) * b).T
    close(gc.compile([x, w], j)(a, b), wanted, digits=1e-5)


def test_jacobian_of_a_matrix_has_all_axes() -> None:
    x = gc.input("x", (2, 3), "float64")
    j = gc.jacobian(x.T * 2.0, x)
    found = gc.evaluate(j, {x: np.zeros((2, 3))})
    wanted = np.zeros((3, 2, 2, 3))
    for a, b in np.ndindex(2, 3):
        wanted[b, a, a, b] = 2
    np.testing.assert_array_equal(found, wanted)


def test_hessian_of_a_quadratic_form() -> None:
    x, a = gc.input("x", ("N",), "float64"), gc.input("a", ("N", "N"), "float64")
    h = gc.hessian(x @ a @ x, x)
    m = np.random.default_rng(0).normal(size=(4, 4))
    close(gc.compile([x, a], h)(np.ones(4), m), m + m.T)


def test_hessian_of_logistic_regression() -> None:
    """H = X^T diag(p (1 - p)) X / N, as the textbooks have it."""
    x = gc.input("x", ("N", 3), "float64")
    y = gc.input("y", ("N",), "float64")
    w = gc.input("w", (3,), "float64")
    z = x @ w
    loss = gc.mean(gc.softplus(z) - y * z)
    rng = np.random.default_rng(1)
    a, t, at = rng.normal(size=(6, 3)), rng.integers(0, 2, 6), rng.normal(size=3)
    p = 1 / (1 + np.exp(-a @ at))
    wanted = a.T @ np.diag(p * (1 - p)) @ a / 6
    close(gc.compile([x, y, w], gc.hessian(loss, w))(a, t, at), wanted)
    v = gc.input("v", (3,), "float64")
    along = rng.normal(size=3)
    step = gc.compile([x, y, w, v], gc.hvp(loss, w, v))
    close(step(a, t, at, along), wanted @ along)


def test_hessian_of_rosenbrock() -> None:
    x = gc.input("x", (2,), "float64")
    f = (1.0 - x[0]) ** 2 + 100.0 * (x[1] - x[0] ** 2) ** 2
    a, b = 0.3, -0.7
    wanted = [[2 - 400 * (b - 3 * a**2), -400 * a], [-400 * a, 200]]
    close(gc.evaluate(gc.hessian(f, x), {x: [a, b]}), wanted)


def test_hessian_by_blocks_is_symmetric() -> None:
    a, b = gc.input("a", (2,), "float64"), gc.input("b", (3,), "float64")
    loss = gc.sum(gc.exp(gc.sum(a)) * gc.sin(b) * b)
    blocks = gc.hessian(loss, [a, b])
    given = {a: [0.1, -0.3], b: [0.5, 1.0, -2.0]}
    flat = gc.evaluate([t for row in blocks for t in row], given)
    whole = np.block([[flat[0], flat[1]], [flat[2], flat[3]]])
    close(whole, whole.T)
    v = np.arange(1.0, 6.0)
    ends = gc.evaluate(gc.hvp(loss, [a, b], [v[:2], v[2:]]), given)
    close(np.concatenate(ends), whole @ v)


def test_where_nothing_is_curved_there_are_zeros() -> None:
    x = gc.input("x", (3,))
    assert not gc.evaluate(gc.hessian(gc.sum(x), x), {x: np.ones(3)}).any()
    assert not gc.evaluate(gc.hvp(gc.sum(x), x, [1, 1, 1]), {x: np.ones(3)}).any()
    w = gc.input("w", (2,))
    both = gc.jvp([gc.sum(x), w], [x], [x])
    assert not gc.evaluate(both[1], {x: np.ones(3), w: [1.0, 2.0]}).any()


def test_masked_values_stay_masked() -> None:
    """A forward derivative never multiplies an infinite one by 0."""
    x = gc.input("x", (2,), "float64")
    y = gc.where(x > 0, gc.sqrt(x), 0.0)
    d = gc.jvp(y, x, gc.ones((2,), "float64"))
    np.testing.assert_allclose(gc.evaluate(d, {x: [0.0, 4.0]}), [0.0, 0.25])


def test_vmap_of_a_hessian() -> None:
    x = gc.input("x", ("B", 2), "float64")
    h = gc.vmap(lambda a: gc.hessian(gc.sum(a**3), a))(x)
    at = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.0]])
    wanted = np.stack([np.diag(6 * row) for row in at])
    close(gc.evaluate(h, {x: at}), wanted)


def test_errors() -> None:
    x, y = gc.input("x", (3,)), gc.input("y", (2,))
    with pytest.raises(GradientError, match=r"the cotangent is f32\[2\], mul is f32"):
        gc.vjp(x * 2.0, x, y)
    with pytest.raises(GradientError, match=r"the tangent is f32\[2\], x is f32\[3\]"):
        gc.jvp(x * 2.0, x, y)
    with pytest.raises(GradientError, match="1 tangents for 2 tensors"):
        gc.jvp(gc.sum(x) * y, [x, y], [x])
    with pytest.raises(GradientError, match="must be a list, not <Tensor"):
        gc.jvp(gc.sum(x) * y, [x, y], x)
    with pytest.raises(GradientError, match="jacobian: sum does not depend on y"):
        gc.jacobian(gc.sum(x), y)
    with pytest.raises(GradientError, match="vjp: no gradient of sum reaches x") as e:
        gc.vjp(gc.sum(gc.stop_gradient(x)), x, 1.0)
    assert "stop_gradient blocks the way" in str(e.value)
    with pytest.raises(GradientError, match="only floats have a gradient"):
        gc.jacobian(gc.sum(x), gc.input("i", (), "int32"))
    with pytest.raises(GradientError, match="3 is no tensor"):
        gc.vjp(3, x, x)


def test_a_custom_gradient_that_is_not_linear_has_no_forward_derivative() -> None:
    x = gc.input("x", ())
    odd = gc.custom_gradient(lambda a: a * 1.0, lambda g, y, a: g * g)
    with pytest.raises(GradientError, match="not linear in its cotangent"):
        gc.jvp(odd(x), x, 1.0)
    clipped = gc.custom_gradient(lambda a: a * a, lambda g, y, a: g * 0.5)
    assert float(gc.evaluate(gc.jvp(clipped(x), x, 4.0), {x: 3.0})) == 2.0
