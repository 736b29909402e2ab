"""A table of vectors, one for each word, symbol or class."""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.errors import ArgumentError, DTypeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.nn.layer import Layer
from graphc.ops.indexing import take


class Embedding(Layer):
    """Look up a row of a table for each index.

    The gradient adds into the rows that were read; no one-hot matrix is made. A
    negative index counts from the end, one out of range is clamped (an error under
    `check=True`).

    Shapes:  x i32[...]; embeddings [input_dim, output_dim] -> [..., output_dim]
    Raises:  ArgumentError unless the sizes are positive ints; at the call DTypeError
             for indices that are no integers.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> words = graphc.input("words", ("N", "T"), "int32")
        >>> nn.Embedding(1000, 16)(words).type
        TensorType(f32[N,T,16])
    """

    input_dtype = "int32"

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: Any = "uniform",
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        for what, size in (("input_dim", input_dim), ("output_dim", output_dim)):
            whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
            if not whole or size < 1:
                raise ArgumentError(
                    f"Embedding: {what} must be a positive int, not {size!r}",
                    where=here().quoted,
                )
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.embeddings_initializer = embeddings_initializer

    def make_parameters(self, x: Tensor) -> None:
        """Make the table."""
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self.parameter(
            "embeddings", shape, self.embeddings_initializer
        )

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Look up the rows."""
        if x.dtype.kind != "i":
            raise DTypeError(
                f"{self.name}: {describe(x)} is {x.type}, indices must be integers",
                where=here().quoted,
                help='declare it with dtype="int32", or cast it',
            )
        return take(self.embeddings, x, axis=0)
