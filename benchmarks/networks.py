"""The layers that networks are described with; what they weigh and cost.

A network is a tuple of layers. Images are [N, C, H, W], sequences [N, T, D]; the shapes
of this file leave N out. Weights lie as in graphc: kernels of dense and recurrent
layers [in, out], those of convolutions [out, in, height, width]; gates i, f, g, o of an
LSTM and z, r, g of a GRU side by side. A peer brings them into its own order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

Shape = tuple[int, ...]
Array = np.ndarray[Any, Any]
Weights = list[dict[str, Any]]  # one dict a layer; lists of its own in a Residual


@dataclass(frozen=True)
class Made:
    """What a layer makes of one example.

    flops: of its products, forward. input_flops: of the gradient by its input.
    """

    shape: Shape
    weights: dict[str, Any] = field(default_factory=dict)
    flops: int = 0
    input_flops: int = 0


class Layer:
    """The base: a layer without weights that keeps the shape."""

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Return the shape of the output, initial weights and costs."""
        return Made(shape)


class Relu(Layer):
    """max(x, 0)."""


@dataclass(frozen=True)
class Dropout(Layer):
    """Zeros with probability `rate`: single elements, or whole channels."""

    rate: float
    channels: bool = False


class Flatten(Layer):
    """All axes of an example become one, channels first."""

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Join the axes."""
        return Made((math.prod(shape),))


class GlobalMean(Layer):
    """The mean over height and width."""

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Keep the channels."""
        return Made(shape[:1])


@dataclass(frozen=True)
class MaxPool(Layer):
    """The maximum of square windows side by side."""

    size: int = 2

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Shrink height and width."""
        c, h, w = shape
        return Made((c, h // self.size, w // self.size))


@dataclass(frozen=True)
class Dense(Layer):
    """x @ kernel + bias, along the last axis."""

    units: int

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Make kernel and bias."""
        *lead, d = shape
        flops = 2 * math.prod(lead) * d * self.units
        weights = {
            "kernel": uniform(rng, (d, self.units), d + self.units),
            "bias": zeros(self.units),
        }
        return Made((*lead, self.units), weights, flops, flops)


@dataclass(frozen=True)
class Conv(Layer):
    """A convolution with square kernels."""

    channels: int
    size: int
    stride: int = 1
    padding: int = 0
    bias: bool = True

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Make kernel and bias."""
        c, *sides = shape
        outer = [(s + 2 * self.padding - self.size) // self.stride + 1 for s in sides]
        area = self.size**2
        kernel = (self.channels, c, self.size, self.size)
        weights = {"kernel": uniform(rng, kernel, area * (c + self.channels))}
        if self.bias:
            weights["bias"] = zeros(self.channels)
        flops = 2 * math.prod(outer) * self.channels * c * area
        return Made((self.channels, *outer), weights, flops, flops)


class BatchNorm(Layer):
    """Each channel scaled by the statistics of the batch; running means are kept."""

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Make gamma and beta."""
        ones = np.ones(shape[0], np.float32)
        return Made(shape, {"gamma": ones, "beta": zeros(shape[0])})


GATES = {"rnn": 1, "lstm": 4, "gru": 3}


@dataclass(frozen=True)
class Recurrent(Layer):
    """The outputs of all steps of a cell: "rnn" (Elman's), "lstm", or "gru".

    One bias a gate, as published; the GRU is the one with the reset gate after the
    product, which all peers compute, and has a recurrent bias too.
    """

    kind: str
    units: int

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Make the kernels and biases of all gates."""
        (steps, d), u = shape, self.units
        width = GATES[self.kind] * u
        weights = {
            "kernel": uniform(rng, (d, width), d + u),
            "recurrent": uniform(rng, (u, width), 6 * u),
            "bias": zeros(width),
        }
        if self.kind == "gru":
            weights["recurrent_bias"] = zeros(width)
        of_input = 2 * steps * d * width
        return Made((steps, u), weights, of_input + 2 * steps * u * width, of_input)


@dataclass(frozen=True)
class Residual(Layer):
    """body(x) + shortcut(x); without layers the shortcut is x itself."""

    body: tuple[Layer, ...]
    shortcut: tuple[Layer, ...] = ()

    def make(self, shape: Shape, rng: np.random.Generator) -> Made:
        """Make the weights of both ways."""
        body, weights = through(self.body, shape, rng)
        aside, others = through(self.shortcut, shape, rng)
        return Made(
            body[-1].shape,
            {"body": weights, "shortcut": others},
            sum(m.flops for m in (*body, *aside)),
            sum(m.input_flops for m in (*body, *aside)),
        )


Network = tuple[Layer, ...]


def through(
    network: Network, shape: Shape, rng: np.random.Generator
) -> tuple[list[Made], Weights]:
    """Return what each layer makes of an example, and the weights alone."""
    made: list[Made] = []
    for layer in network:
        made.append(layer.make(made[-1].shape if made else shape, rng))
    return made, [m.weights for m in made]


def without_chance(network: Network) -> Network:
    """Return the network with all rates of dropout 0."""
    return tuple(
        replace(layer, rate=0.0) if isinstance(layer, Dropout) else layer
        for layer in network
    )


def leaves(tree: Any) -> Iterator[Any]:
    """Yield the arrays of weights, layer by layer."""
    if isinstance(tree, dict | list):
        for part in tree.values() if isinstance(tree, dict) else tree:
            yield from leaves(part)
    else:
        yield tree


def resnet(blocks: int = 3, channels: Sequence[int] = (16, 32, 64)) -> Network:
    """Return a residual network for small images, ResNet-20 by default.

    As He et al., "Deep residual learning", 2015, section 4.2, but with a 1x1
    convolution in the shortcut where the shape changes, in place of padding by zeros.
    """

    def unit(width: int, size: int, stride: int = 1) -> Network:
        return Conv(width, size, stride, size // 2, bias=False), BatchNorm()

    found: Network = (*unit(channels[0], 3), Relu())
    before = channels[0]
    for width in channels:
        for block in range(blocks):
            stride = 2 if width != before and block == 0 else 1
            body = (*unit(width, 3, stride), Relu(), *unit(width, 3))
            shortcut = unit(width, 1, stride) if stride > 1 else ()
            found += (Residual(body, shortcut), Relu())
        before = width
    return (*found, GlobalMean(), Dense(10))


def uniform(rng: np.random.Generator, shape: Shape, fans: int) -> Array:
    """Return Glorot's uniform initial values."""
    limit = math.sqrt(6 / fans)
    return rng.uniform(-limit, limit, shape).astype(np.float32)


def zeros(size: int) -> Array:
    """Return a vector of zeros."""
    return np.zeros(size, np.float32)
