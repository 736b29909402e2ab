"""Multi-head attention as a layer."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.nn.layer import Layer
from graphc.ops.attention import scaled_dot_product_attention
from graphc.ops.axes import expand_dims, swapaxes
from graphc.ops.creation import cast, constant
from graphc.ops.linear import matmul
from graphc.ops.shape import reshape
from graphc.state import Parameter, attach_update


class MultiHeadAttention(Layer):
    """Attention by several heads side by side, each on a projection of its own.

    Called as `layer(query, value, key)`: the key is the value unless given, the value
    is the query unless given (self-attention, also within a Sequential). key_dim,
    value_dim: features of a head; value_dim is key_dim unless given. dropout: the
    share of weights that training sets to 0. output_shape: features of the result,
    those of the query unless given.

    At the call: attention_mask, true where a query may look (or floats to add to the
    scores), [T, S], [N, T, S] or [N, heads, T, S]; use_causal_mask: place i sees the
    places 0 to i alone.

    Shapes:  query [N, T, D], value [N, S, E], key [N, S, F] -> [N, T, D]
    Math:    y = concatenate(softmax(q_h k_h^T / sqrt(key_dim)) v_h for h) @ kernel + b
    Raises:  ArgumentError for sizes that are no positive ints; at the call ShapeError
             for features that are no known number, or sizes that do not fit.
    Source:  Vaswani et al., "Attention is all you need", 2017; names as in Keras.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> layer = nn.MultiHeadAttention(num_heads=2, key_dim=8)
        >>> x = graphc.input("x", ("N", "T", 16))
        >>> memory = graphc.input("memory", ("N", 5, 12))
        >>> layer(x, memory).type
        TensorType(f32[N,T,16])
    """

    def __init__(
        self,
        num_heads: int,
        key_dim: int,
        value_dim: int | None = None,
        dropout: float = 0.0,
        use_bias: bool = True,
        output_shape: int | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        given = {"num_heads": num_heads, "key_dim": key_dim}
        optional = {"value_dim": value_dim, "output_shape": output_shape}
        given |= {k: v for k, v in optional.items() if v is not None}
        for what, size in given.items():
            whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
            if not whole or size < 1:
                raise ArgumentError(
                    f"MultiHeadAttention: {what} must be a positive int, not {size!r}",
                    where=here().quoted,
                )
        if not isinstance(dropout, (int, float, np.number)) or not 0 <= dropout < 1:
            raise ArgumentError(
                f"MultiHeadAttention: dropout must be in [0, 1), not {dropout!r}",
                where=here().quoted,
            )
        self.num_heads = int(num_heads)
        self.key_dim = int(key_dim)
        self.value_dim = int(key_dim if value_dim is None else value_dim)
        self.dropout = float(dropout)
        self.use_bias = use_bias
        self.output_shape = output_shape
        self.kernel_initializer = kernel_initializer
        self.bias_initializer = bias_initializer
        self._projections: dict[str, tuple[Parameter, Parameter | None]] = {}

    def __call__(  # type: ignore[override]
        self,
        query: Any,
        value: Any = None,
        key: Any = None,
        attention_mask: Any = None,
        training: bool = False,
        use_causal_mask: bool = False,
    ) -> Tensor:
        """Apply the layer; see the class for its arguments."""
        first = constant(query)
        second = first if value is None else constant(value)
        third = second if key is None else constant(key)
        return self.apply(
            (first, second, third),
            training=training,
            mask=None if attention_mask is None else constant(attention_mask),
            is_causal=use_causal_mask,
        )

    def make_parameters(  # type: ignore[override]
        self, query: Tensor, value: Tensor, key: Tensor
    ) -> None:
        """Make kernels and biases of the four projections."""
        heads = self.num_heads
        result = self.output_shape or self._features(query)
        dtype = query.dtype if query.dtype.is_float else "float32"
        for what, rows, columns in (
            ("query", self._features(query), heads * self.key_dim),
            ("key", self._features(key), heads * self.key_dim),
            ("value", self._features(value), heads * self.value_dim),
            ("output", heads * self.value_dim, result),
        ):
            kernel = self.parameter(
                f"{what}/kernel", (rows, columns), self.kernel_initializer, dtype
            )
            bias = None
            if self.use_bias:
                bias = self.parameter(
                    f"{what}/bias", (columns,), self.bias_initializer, dtype
                )
            self._projections[what] = kernel, bias
        if self.dropout:
            self.step = self.variable("step", np.int64(0))
            self.next_step = self.step + 1

    def call(  # type: ignore[override]
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor,
        *,
        training: bool,
        mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Project, attend, and project back."""
        q, k, v = (
            self._heads(x, what)
            for x, what in ((query, "query"), (key, "key"), (value, "value"))
        )
        if mask is not None and mask.ndim == query.ndim:
            mask = expand_dims(mask, -3)  # one mask for all heads
        draws: dict[str, Any] = {}
        if training and self.dropout:
            stream = zlib.crc32(self.step.name.encode()) & 0x7FFFFFFF
            draws = {"dropout": self.dropout, "seed": self.seed}
            draws |= {"step": self.step, "stream": stream}
        found = scaled_dot_product_attention(q, k, v, mask, is_causal, **draws)
        merged = swapaxes(found, -2, -3)
        rows = reshape(merged, (*merged.shape[:-2], self.num_heads * self.value_dim))
        y = self._project(rows, "output")
        return attach_update(y, self.step, self.next_step) if draws else y

    def _features(self, x: Tensor) -> int:
        if x.ndim < 2 or not isinstance(x.shape[-1], int):
            raise ShapeError(
                f"{self.name}: {describe(x)} is {x.type}, it needs an axis of places "
                "and one of features, which is a number",
                where=here().quoted,
                help='for example ("N", "T", 64)',
            )
        return x.shape[-1]

    def _heads(self, x: Tensor, what: str) -> Tensor:
        """Project [..., T, D] to [..., heads, T, features]."""
        y = self._project(x, what)
        features = self.value_dim if what == "value" else self.key_dim
        return swapaxes(reshape(y, (*y.shape[:-1], self.num_heads, features)), -2, -3)

    def _project(self, x: Tensor, what: str) -> Tensor:
        kernel, bias = self._projections[what]
        rows = x if x.dtype.is_float else cast(x, kernel.dtype)
        flat = reshape(rows, (-1, x.shape[-1])) if x.ndim > 2 else rows
        y = matmul(flat, kernel)
        if bias is not None:
            y = y + bias
        return reshape(y, (*x.shape[:-1], y.shape[-1]))
