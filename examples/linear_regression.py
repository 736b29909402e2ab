"""Linear regression: recover the weights that made the data.

The data is y = x @ [2, -1, 0.5] + 3 plus noise of deviation 0.1. After 200 steps of
plain gradient descent every weight is within 0.02 of the true one, and the loss is
within 5 % of the noise's variance, 0.01: no other weights could do better.

    python examples/linear_regression.py
    graphc show examples/linear_regression.py -o step.svg
"""

import numpy as np

import graphc

# A graph is declared once, for any number of rows: "N" is a symbolic dimension.
x = graphc.input("x", ("N", 3))
y = graphc.input("y", ("N",))
w = graphc.parameter("w", (3,), init="zeros")
b = graphc.parameter("b", (), init="zeros")

error = x @ w + b - y
loss = graphc.mean(error * error)

# Gradients are graphs like any other, so one step computes the loss, the gradients and
# the new weights. All updates see the old values.
gw, gb = graphc.grad(loss, [w, b])
step = graphc.compile([x, y], loss, updates={w: w - 0.1 * gw, b: b - 0.1 * gb})

TRUE_W, TRUE_B, NOISE = np.array([2.0, -1.0, 0.5]), 3.0, 0.1


def main() -> None:
    rng = np.random.default_rng(0)
    xs = rng.normal(size=(2000, 3)).astype(np.float32)
    ys = (xs @ TRUE_W + TRUE_B + rng.normal(0, NOISE, 2000)).astype(np.float32)

    for i in range(200):
        value = float(step(xs, ys))
        if i % 40 == 0:
            print(f"step {i:3}: loss {value:.4f}")

    print(f"w = {w.value.round(3)}, true {TRUE_W}")
    print(f"b = {b.value.round(3)}, true {TRUE_B}")
    print(f"loss {value:.5f}, variance of the noise {NOISE**2:.5f}")
    off = max(abs(w.value - TRUE_W).max(), abs(b.value - TRUE_B))
    if off > 0.02 or abs(value / NOISE**2 - 1) > 0.05:
        raise SystemExit(f"not reached: weights are off by {off:.3f}, loss {value:.5f}")


if __name__ == "__main__":
    main()
