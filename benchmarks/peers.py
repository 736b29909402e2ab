"""The same training step in graphc, PyTorch and JAX.

Each function returns a step without arguments that returns the loss as a float, so
that it is finished when it returns. Data are where each peer likes them best:
tensors of its own, made once.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from benchmarks.workloads import Mlp

Step = Callable[[], float]


def graphc_step(work: Mlp) -> Step:
    """Return graphc's step; NumPy in, NumPy out."""
    import graphc
    from graphc import nn, optim

    x = graphc.input("x", ("N", work.sizes[0]))
    y = graphc.input("y", ("N",), dtype="int32")
    h: Any = x
    layers = work.weights()
    for i, (w, b) in enumerate(layers):
        weight = graphc.parameter(f"w{i}", w.shape, w)
        bias = graphc.parameter(f"b{i}", b.shape, b)
        h = h @ weight + bias
        if i + 1 < len(layers):
            h = graphc.relu(h)
    loss = nn.losses.softmax_cross_entropy(h, y)
    updates = optim.Adam(work.learning_rate).updates(loss)
    step = graphc.compile([x, y], loss, updates=updates)
    xs, ys = work.data()
    return lambda: step(xs, ys).item()


def torch_step(work: Mlp) -> Step:
    """Return PyTorch's eager step with its fused Adam."""
    import torch

    layers: list[Any] = []
    for i, (w, b) in enumerate(work.weights()):
        linear = torch.nn.Linear(*w.shape)
        linear.weight.data = torch.from_numpy(w.T.copy())
        linear.bias.data = torch.from_numpy(b)
        layers += [torch.nn.ReLU(), linear] if i else [linear]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=work.learning_rate, eps=1e-7, fused=True
    )
    xs, ys = (torch.from_numpy(a) for a in work.data())
    ys = ys.long()

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(xs), ys)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def jax_step(work: Mlp) -> Step:
    """Return JAX's jitted step; parameters are donated, Adam is written out."""
    import jax
    import jax.numpy as jnp

    def loss_of(params: Any, x: Any, y: Any) -> Any:
        h = x
        for i, (w, b) in enumerate(params):
            h = h @ w + b
            if i + 1 < len(params):
                h = jax.nn.relu(h)
        picked = jax.nn.log_softmax(h)[jnp.arange(y.shape[0]), y]
        return -picked.mean()

    def update(state: Any, x: Any, y: Any) -> Any:
        params, m, v, t = state
        loss, g = jax.value_and_grad(loss_of)(params, x, y)
        t = t + 1
        tf = t.astype(jnp.float32)
        rate = work.learning_rate * jnp.sqrt(1 - 0.999**tf) / (1 - 0.9**tf)
        tree = jax.tree_util.tree_map
        m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        params = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-7), params, m, v)
        return loss, (params, m, v, t)

    params = [(jnp.asarray(w), jnp.asarray(b)) for w, b in work.weights()]
    zeros = jax.tree_util.tree_map(jnp.zeros_like, params)
    again = jax.tree_util.tree_map(jnp.zeros_like, params)
    state = (params, zeros, again, jnp.zeros((), jnp.int32))
    xs, ys = (jnp.asarray(a) for a in work.data())
    compiled = jax.jit(update, donate_argnums=0)

    def step() -> float:
        nonlocal state
        loss, state = compiled(state, xs, ys)
        return float(loss)

    return step


PEERS: dict[str, tuple[str, Callable[[Mlp], Step]]] = {
    "graphc": ("graphc", graphc_step),
    "torch": ("torch", torch_step),
    "jax": ("jax", jax_step),
}


def installed() -> list[str]:
    """Return the peers that this Python can import, graphc first."""
    return [n for n, (module, _) in PEERS.items() if importlib.util.find_spec(module)]
