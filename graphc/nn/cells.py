"""One step of a recurrent network: the cells of Elman's network, LSTM and GRU.

    output, states = cell(x, states)                            one step
    states, outputs = graphc.scan(cell.step, states, xs)        all steps

A cell maps what comes at a step and the states to new states; the first of them is its
output. `nn.SimpleRNN`, `nn.LSTM` and `nn.GRU` run a cell over the steps of a sequence.

Two conventions for biases are in use. The published equations, and Keras, add one bias
b to each gate. PyTorch and cuDNN add one to each product, b to x W and c to h U. The
sum alone matters in Elman's network and in LSTM, so both compute the same functions
there; the second learns b + c twice as fast. In a GRU with `reset_after` c stands
inside of the product with the reset gate, so the two differ. `use_recurrent_bias=True`
adds c.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.ir.types import DTypeLike, float32
from graphc.nn import activations
from graphc.nn.layer import Layer
from graphc.ops.creation import cast, constant, zeros
from graphc.ops.linear import matmul
from graphc.ops.random import dropout
from graphc.state import attach_update

States = tuple[Tensor, ...]


class Cell(Layer):
    """The base of cells: `call` takes x and the states and returns the new states.

    state_sizes: the number of features of each state; the first state is the output.

    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> class Sum(nn.Cell):
        ...     state_sizes = (3,)
        ...     def call(self, x, states, training):
        ...         return (states[0] + x,)
        >>> x = graphc.input("x", ("N", "T", 3))
        >>> nn.RNN(Sum(), return_sequences=True)(x).type
        TensorType(f32[N,T,3])
    """

    state_sizes: tuple[int, ...] = ()

    def initial_state(self, batch_size: Any, dtype: DTypeLike = float32) -> States:
        """Return states of 0.

        batch_size: an int, or the size of a tensor's axis, `x.shape[0]`.

        Shapes:  -> [batch_size, size] for each of state_sizes
        """
        return tuple(zeros((batch_size, size), dtype) for size in self.state_sizes)

    def __call__(  # type: ignore[override]
        self, x: Any, states: Any, training: bool = False
    ) -> tuple[Tensor, States]:
        """Take one step; returns the output and the new states.

        Shapes:  x [N, D], states [N, size] each -> [N, size], the same
        Raises:  ShapeError for as many states as the cell does not have.
        """
        given = (states,) if isinstance(states, Tensor) else tuple(states)
        old = tuple(constant(s) for s in given)
        if len(old) != len(self.state_sizes):
            raise ShapeError(
                f"{self.name}: the cell has {len(self.state_sizes)} states, "
                f"{len(old)} are given",
                where=here().quoted,
                help="start with cell.initial_state(batch_size)",
            )
        new = tuple(self.run((constant(x),), states=old, training=training))
        self.output = new[0].type
        return new[0], new

    def step(
        self, states: Any, x: Any, training: bool = False
    ) -> tuple[States, Tensor]:
        """Take one step as the body of a scan does: the states come back first.

        For training write `functools.partial(cell.step, training=True)`.
        Example:
            >>> import graphc
            >>> from graphc import nn
            >>> xs = graphc.input("xs", ("T", "N", 3))
            >>> cell = nn.LSTMCell(4)
            >>> start = cell.initial_state(xs.shape[1])
            >>> (h, c), hs = graphc.scan(cell.step, start, xs)
            >>> h.type, hs.type
            (TensorType(f32[N,4]), TensorType(f32[T,N,4]))
        """
        output, new = self(x, states, training)
        return new, output

    def call(  # type: ignore[override]
        self, x: Tensor, states: States, training: bool
    ) -> Sequence[Tensor]:
        """Compute the new states."""
        raise ArgumentError(
            f"the cell {type(self).__name__} does not say what it computes",
            where=here().quoted,
            help="define call(self, x, states, training), which returns the new states",
        )


class GatedCell(Cell):
    """What the three cells share: their parameters, and the two products of a step.

    kernel [D, gates * units], recurrent_kernel [units, gates * units], bias and
    recurrent_bias [gates * units]: the gates lie side by side.
    """

    gates = 1

    def __init__(
        self,
        units: int,
        *,
        use_bias: bool,
        use_recurrent_bias: bool,
        kernel_initializer: Any,
        recurrent_initializer: Any,
        bias_initializer: Any,
        recurrent_dropout: float,
        seed: int | None,
        name: str | None,
    ) -> None:
        super().__init__(name, seed)
        kind = type(self).__name__
        whole = isinstance(units, (int, np.integer)) and not isinstance(units, bool)
        if not whole or units < 1:
            raise ArgumentError(
                f"{kind}: units must be a positive int, not {units!r}",
                where=here().quoted,
            )
        self.units = int(units)
        self.use_bias = use_bias
        self.use_recurrent_bias = use_recurrent_bias
        self.kernel_initializer = kernel_initializer
        self.recurrent_initializer = recurrent_initializer
        self.bias_initializer = bias_initializer
        self.recurrent_dropout = as_rate(kind, "recurrent_dropout", recurrent_dropout)

    @property
    def state_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        """One state, h."""
        return (self.units,)

    def make_parameters(self, x: Tensor) -> None:
        """Make kernels and biases for steps with as many features as x."""
        if x.ndim != 2 or not isinstance(x.shape[-1], int):
            raise ShapeError(
                f"{self.name}: a step takes {describe(x)} as {x.type}, it needs an "
                "axis of sequences and one of features, which is a number",
                where=here().quoted,
                help="a cell takes [N, D], a recurrent layer [N, T, D]",
            )
        dtype = x.dtype if x.dtype.is_float else float32
        width = self.gates * self.units
        self.kernel = self.parameter(
            "kernel", (x.shape[-1], width), self.kernel_initializer, dtype
        )
        self.recurrent_kernel = self.parameter(
            "recurrent_kernel", (self.units, width), self.recurrent_initializer, dtype
        )
        if self.use_bias:
            self.bias = self.parameter("bias", (width,), self.bias_initializer, dtype)
        if self.use_recurrent_bias:
            self.recurrent_bias = self.parameter(
                "recurrent_bias", (width,), self.bias_initializer, dtype
            )
        if self.recurrent_dropout:
            self.counter = self.variable("step", np.int64(0))
            self.next_count = self.counter + 1

    def project(self, x: Tensor) -> Tensor:
        """Return x W + b: it needs no state, so a compiled loop does it beforehand."""
        y = matmul(x if x.dtype.is_float else cast(x, self.kernel.dtype), self.kernel)
        return y + self.bias if self.use_bias else y

    def recur(self, h: Tensor, first: int = 0, last: int | None = None) -> Tensor:
        """Return h U + c, of all gates or of those from `first` to `last`."""
        columns = slice(
            first * self.units, (self.gates if last is None else last) * self.units
        )
        y = matmul(h, self.recurrent_kernel[:, columns])
        return y + self.recurrent_bias[columns] if self.use_recurrent_bias else y

    def gate(self, values: Tensor, number: int) -> Tensor:
        """Return what belongs to one gate."""
        return values[:, number * self.units : (number + 1) * self.units]

    def dropped(self, h: Tensor, training: bool) -> Tensor:
        """Return the state as the products of this step take it."""
        if not training or not self.recurrent_dropout:
            return h
        return dropout(
            h,
            self.recurrent_dropout,
            seed=self.seed,
            step=self.counter,
            stream=zlib.crc32(self.counter.name.encode()) & 0x7FFFFFFF,
        )

    def counted(self, h: Tensor, training: bool) -> Tensor:
        """Return h, noting that the next step of training draws anew."""
        if not training or not self.recurrent_dropout:
            return h
        return attach_update(h, self.counter, self.next_count)


def as_rate(kind: str, what: str, rate: Any) -> float:
    """Return a share of elements to drop.

    Raises:  ArgumentError unless it is in [0, 1).
    """
    number = isinstance(rate, (int, float, np.number)) and not isinstance(rate, bool)
    if not number or not 0 <= rate < 1:
        raise ArgumentError(
            f"{kind}: {what} must be in [0, 1), not {rate!r}", where=here().quoted
        )
    return float(rate)


class SimpleRNNCell(GatedCell):
    """A step of Elman's network.

    Shapes:  x [N, D], h [N, units]; kernel W [D, units], recurrent_kernel U [units,
             units], bias b and recurrent_bias c [units] -> h' [N, units]
    Math:    h' = tanh(x W + b + h U + c); c with use_recurrent_bias only
    Raises:  ArgumentError for units that are no positive int, an unknown activation, a
             rate outside [0, 1); at the call ShapeError for sizes that do not fit.
    Source:  Elman, "Finding structure in time", 1990; there with the logistic function.
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        recurrent_dropout: float = 0.0,
        use_recurrent_bias: bool = False,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            use_bias=use_bias,
            use_recurrent_bias=use_recurrent_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            name=name,
        )
        self.activation = activations.get(activation)

    def call(  # type: ignore[override]
        self, x: Tensor, states: States, training: bool
    ) -> States:
        """Compute the new h."""
        (h,) = states
        y = self.activation(self.project(x) + self.recur(self.dropped(h, training)))
        return (self.counted(y, training),)


class LSTMCell(GatedCell):
    """A step of a network with long short-term memory; the states are h and c.

    unit_forget_bias: the forget gate's bias b starts at 1, so what is in the cell stays
    there until it is learnt to go.

    Shapes:  x [N, D], h and c [N, units]; kernel W [D, 4 units], recurrent_kernel U
             [units, 4 units], bias b and recurrent_bias d [4 units], each in the order
             i, f, g, o -> h', c' [N, units]
    Math:    i = sigmoid(x W_i + b_i + h U_i + d_i)        input gate
             f = sigmoid(x W_f + b_f + h U_f + d_f)        forget gate
             g = tanh(x W_g + b_g + h U_g + d_g)           what may come in
             o = sigmoid(x W_o + b_o + h U_o + d_o)        output gate
             c' = f c + i g;  h' = o tanh(c');  d with use_recurrent_bias only
    Raises:  as SimpleRNNCell.
    Source:  Hochreiter and Schmidhuber, "Long short-term memory", 1997; the forget gate
             by Gers, Schmidhuber and Cummins, "Learning to forget", 2000.
    """

    gates = 4

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = "tanh",
        recurrent_activation: str | activations.Activation | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        unit_forget_bias: bool = True,
        recurrent_dropout: float = 0.0,
        use_recurrent_bias: bool = False,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            units,
            use_bias=use_bias,
            use_recurrent_bias=use_recurrent_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            name=name,
        )
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.unit_forget_bias = unit_forget_bias

    @property
    def state_sizes(self) -> tuple[int, ...]:  # type: ignore[override]
        """Two states, h and c."""
        return self.units, self.units

    def make_parameters(self, x: Tensor) -> None:
        """Make kernels and biases; the forget gate starts open."""
        super().make_parameters(x)
        if self.use_bias and self.unit_forget_bias:
            start = self.bias.value
            start[self.units : 2 * self.units] = 1
            self.bias.value = start

    def call(  # type: ignore[override]
        self, x: Tensor, states: States, training: bool
    ) -> States:
        """Compute the new h and c."""
        h, c = states
        all_gates = self.project(x) + self.recur(self.dropped(h, training))
        i, f, o = (
            self.recurrent_activation(self.gate(all_gates, k)) for k in (0, 1, 3)
        )
        new = f * c + i * self.activation(self.gate(all_gates, 2))
        return self.counted(o * self.activation(new), training), new


class GRUCell(GatedCell):
    """A step of a network of gated recurrent units.

    reset_after: the variant of cuDNN, which Keras and PyTorch compute too. It resets
    what comes of the state instead of the state, so that one product serves all gates.
    use_recurrent_bias: as reset_after unless given (none without use_bias).

    Shapes:  x [N, D], h [N, units]; kernel W [D, 3 units], recurrent_kernel U [units,
             3 units], bias b and recurrent_bias c [3 units], each in the order z, r, g
             -> h' [N, units]. (PyTorch has r, z, n.)
    Math:    z = sigmoid(x W_z + b_z + h U_z + c_z)        update gate
             r = sigmoid(x W_r + b_r + h U_r + c_r)        reset gate
             g = tanh(x W_g + b_g + r (h U_g + c_g))       with reset_after
             g = tanh(x W_g + b_g + (r h) U_g + c_g)       without
             h' = z h + (1 - z) g;  c with use_recurrent_bias only
    Raises:  as SimpleRNNCell.
    Source:  Cho et al., "Learning phrase representations using RNN encoder-decoder for
             statistical machine translation", 2014; reset_after: Appleyard, Kocisky,
             Blunsom, "Optimizing performance of recurrent neural networks on GPUs",
             2016.
    """

    gates = 3

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = "tanh",
        recurrent_activation: str | activations.Activation | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        recurrent_dropout: float = 0.0,
        reset_after: bool = True,
        use_recurrent_bias: bool | None = None,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        both = reset_after and use_bias
        super().__init__(
            units,
            use_bias=use_bias,
            use_recurrent_bias=both
            if use_recurrent_bias is None
            else use_recurrent_bias,
            kernel_initializer=kernel_initializer,
            recurrent_initializer=recurrent_initializer,
            bias_initializer=bias_initializer,
            recurrent_dropout=recurrent_dropout,
            seed=seed,
            name=name,
        )
        self.activation = activations.get(activation)
        self.recurrent_activation = activations.get(recurrent_activation)
        self.reset_after = reset_after

    def call(  # type: ignore[override]
        self, x: Tensor, states: States, training: bool
    ) -> States:
        """Compute the new h."""
        (h,) = states
        read = self.dropped(h, training)
        given = self.project(x)
        if self.reset_after:
            from_h = self.recur(read)
            z, r = (
                self.recurrent_activation(self.gate(given, k) + self.gate(from_h, k))
                for k in (0, 1)
            )
            inner = r * self.gate(from_h, 2)
        else:
            gates = given[:, : 2 * self.units] + self.recur(read, 0, 2)
            z, r = (self.recurrent_activation(self.gate(gates, k)) for k in (0, 1))
            inner = self.recur(r * read, 2, 3)
        new = self.activation(self.gate(given, 2) + inner)
        return (self.counted(z * h + (1 - z) * new, training),)
