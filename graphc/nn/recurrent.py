"""Recurrent layers: a cell over the steps of sequences, as one scan.

    x [N, T, D]  ->  scan over t: states = cell(x[:, t], states)  ->  [N, units]

Sequences lie as in Keras, the batch first. The loop is one node whatever T is, so a
thousand steps compile as fast as ten; the products with x leave the loop when the
graph is compiled.
"""

from __future__ import annotations

import copy
import zlib
from typing import Any, Self

import numpy as np

from graphc.control.scan import scan
from graphc.errors import ArgumentError, ShapeError
from graphc.ir.nodes import Tensor, describe
from graphc.ir.origins import here
from graphc.ir.types import bool_, float32
from graphc.nn import activations
from graphc.nn.cells import Cell, GRUCell, LSTMCell, SimpleRNNCell, States, as_rate
from graphc.nn.layer import Layer, kind_name
from graphc.ops.arithmetic import where
from graphc.ops.axes import expand_dims, swapaxes
from graphc.ops.creation import cast, constant
from graphc.ops.random import dropout as drop
from graphc.ops.turn import flip
from graphc.state import Parameter, attach_update


class RNN(Layer):
    """Run a cell over the steps of sequences.

    return_sequences: the outputs of all steps instead of the last. return_state: a
    tuple of the output and the states at the end. go_backwards: from the last step to
    the first; outputs come in the order of the steps taken, the last step's first.
    dropout: the share of x set to 0 in training. It draws anew at each step, as the
    cells' recurrent_dropout does; Keras would drop the same places at each step.

    At the call: `initial_state`, a tensor for each state (0 unless given); `lengths`,
    how many steps each sequence has, or `mask`, true where there is a step. Where
    there is none the states stay as they are and the output is 0, so what comes back
    at the end is that of each sequence's own last step.

    Shapes:  x [N, T, D]; lengths i32[N]; mask bool[N, T] -> [N, units], or
             [N, T, units] with return_sequences; states [N, units]
    Raises:  ArgumentError for what is no cell, a rate outside [0, 1); at the call
             ShapeError for sizes that do not fit, ArgumentError for both lengths and
             mask.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", "T", 3))
        >>> layer = nn.RNN(nn.LSTMCell(4), return_state=True)
        >>> output, h, c = layer(x)
        >>> output.type
        TensorType(f32[N,4])
    """

    def __init__(
        self,
        cell: Cell,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        dropout: float = 0.0,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        if not isinstance(cell, Cell):
            raise ArgumentError(
                f"{type(self).__name__}: {cell!r} is no cell",
                where=here().quoted,
                help="for example nn.LSTMCell(32)",
            )
        self.cell = cell
        self.cell.adopt(kind_name(cell), seed)
        self.return_sequences = return_sequences
        self.return_state = return_state
        self.go_backwards = go_backwards
        self.dropout = as_rate(type(self).__name__, "dropout", dropout)

    def __call__(  # type: ignore[override]
        self,
        x: Any,
        initial_state: Any = None,
        mask: Any = None,
        lengths: Any = None,
        training: bool = False,
    ) -> Any:
        """Apply the layer; see the class for its arguments."""
        output, states = self.run(
            (constant(x),),
            initial_state=as_states(initial_state),
            mask=None if mask is None else constant(mask),
            lengths=None if lengths is None else constant(lengths),
            training=training,
        )
        self.output = output.type
        return (output, *states) if self.return_state else output

    # --- states -------------------------------------------------------------------

    def adopt(self, name: str | None = None, seed: int | None = None) -> None:
        """Take a name and a seed, and hand the seed on."""
        super().adopt(name, seed)
        self.cell.adopt(None, seed)

    @property
    def states(self) -> list[Parameter]:
        """The cell's, and the counter of steps if x is dropped."""
        return [*self.cell.states, *super().states]

    def forget(self) -> None:
        """Drop the cell's parameters too."""
        super().forget()
        self.cell.forget()

    def twin(self, prefix: str) -> Self:
        """Return a layer with the same settings and with parameters of its own.

        Raises:  ArgumentError if this one has its parameters already.
        """
        if self.built or self.cell.built:
            raise ArgumentError(
                f"{self.name} has its parameters already, so it cannot be copied",
                where=here().quoted,
                help="make a new layer for each place",
            )
        other = copy.copy(self)
        other.cell = copy.copy(self.cell)
        other._states, other.cell._states = [], []
        other._name = f"{prefix}_{self._name or kind_name(self)}"
        return other

    def make_parameters(self, x: Tensor) -> None:
        """Make the counter of training steps; the cell makes its own parameters."""
        if self.dropout:
            self.counter = self.variable("step", np.int64(0))
            self.next_count = self.counter + 1

    # --- the loop -----------------------------------------------------------------

    def call(  # type: ignore[override]
        self,
        x: Tensor,
        *,
        initial_state: States | None,
        mask: Tensor | None,
        lengths: Tensor | None,
        training: bool,
        in_order: bool = False,
    ) -> tuple[Tensor, States]:
        """Return the output and the states at the end.

        in_order: outputs in the order of x's steps, also when going backwards.
        """
        self._check(x, mask, lengths)
        x = x if x.dtype.is_float else cast(x, float32)
        if training and self.dropout:
            stream = zlib.crc32(self.counter.name.encode()) & 0x7FFFFFFF
            x = drop(x, self.dropout, seed=self.seed, step=self.counter, stream=stream)
            x = attach_update(x, self.counter, self.next_count)
        start = initial_state
        if start is None:
            start = self.cell.initial_state(x.shape[0], x.dtype)
        self._check_states(x, start)

        def body(states: States, given: Any) -> tuple[States, Tensor | None]:
            x_t, runs = given
            output, new = self.cell(x_t, states, training)
            if runs is not None:
                output = where(runs, output, 0.0)
                new = tuple(
                    where(runs, now, old) for now, old in zip(new, states, strict=True)
                )
            return new, output if self.return_sequences else None

        runs = None if mask is None else expand_dims(swapaxes(mask, 0, 1), -1)
        states, stack = scan(
            body,
            start,
            (swapaxes(x, 0, 1), runs),
            reverse=self.go_backwards,
            lengths=lengths,
        )
        output = states[0]
        if stack is not None:
            output = swapaxes(stack, 0, 1)
            if self.go_backwards and not in_order:
                output = flip(output, 1)
        return output, states

    def _check(self, x: Tensor, mask: Tensor | None, lengths: Tensor | None) -> None:
        problem = ""
        if x.ndim != 3:
            problem = f"{describe(x)} is {x.type}, it needs the axes [N, T, D]"
        elif mask is not None and (
            mask.dtype is not bool_ or mask.shape != x.shape[:2]
        ):
            problem = (
                f"the mask {describe(mask)} is {mask.type}, it must be "
                f"bool[{x.shape[0]},{x.shape[1]}] as {describe(x)} is {x.type}"
            )
        elif lengths is not None and lengths.shape != x.shape[:1]:
            problem = (
                f"the lengths {describe(lengths)} are {lengths.type}, there must be "
                f"one for each sequence of {describe(x)}, {x.type}"
            )
        if problem:
            raise ShapeError(
                f"{self.name}: {problem}",
                where=here().quoted,
                help="sequences lie as (sequence, step, feature)",
            )
        if mask is not None and lengths is not None:
            raise ArgumentError(
                f"{self.name}: both mask and lengths are given",
                where=here().quoted,
                help="give one; lengths if all gaps are at the end",
            )

    def _check_states(self, x: Tensor, states: States) -> None:
        wanted = [(x.shape[0], size) for size in self.cell.state_sizes]
        if [s.shape for s in states] != wanted or any(
            s.dtype is not x.dtype for s in states
        ):
            given = ", ".join(str(s.type) for s in states) or "none"
            sizes = ", ".join(str(x.type.with_shape(shape)) for shape in wanted)
            raise ShapeError(
                f"{self.name}: initial_state is {given}; the cell needs {sizes}",
                where=here().quoted,
                help="initial_state=[h, c] for an LSTM, [h] for the others",
            )


def as_states(given: Any) -> States | None:
    """Return what a user gives as states as a tuple of tensors."""
    if given is None:
        return None
    parts = given if isinstance(given, (tuple, list)) else (given,)
    return tuple(constant(p) for p in parts)


class SimpleRNN(RNN):
    """Elman's recurrent network over the steps of sequences.

    The arguments are those of `nn.SimpleRNNCell`, which has the formulas, and of
    `nn.RNN`, which has the rest.

    Shapes:  x [N, T, D] -> [N, units], or [N, T, units] with return_sequences
    Math:    h[t] = tanh(x[t] W + b + h[t-1] U + c); c with use_recurrent_bias only
    Raises:  as SimpleRNNCell and RNN.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", 10, 3))
        >>> nn.SimpleRNN(4)(x).type
        TensorType(f32[N,4])
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = "tanh",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        use_recurrent_bias: bool = False,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        cell = SimpleRNNCell(
            units,
            activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            recurrent_dropout,
            use_recurrent_bias,
        )
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            dropout,
            seed=seed,
            name=name,
        )


class LSTM(RNN):
    """Long short-term memory over the steps of sequences; its states are h and c.

    The arguments are those of `nn.LSTMCell`, which has the formulas, and of `nn.RNN`,
    which has the rest.

    Shapes:  x [N, T, D] -> [N, units], or [N, T, units] with return_sequences
    Math:    c[t] = f c[t-1] + i g;  h[t] = o tanh(c[t]), with gates i, f, g, o of
             x[t] W + b + h[t-1] U
    Raises:  as LSTMCell and RNN.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", 10, 3))
        >>> lengths = graphc.input("lengths", ("N",), "int32")
        >>> layer = nn.LSTM(4, return_sequences=True, name="lstm")
        >>> layer(x, lengths=lengths).type
        TensorType(f32[N,10,4])
        >>> [p.name for p in layer.parameters]  # doctest: +NORMALIZE_WHITESPACE
        ['lstm/lstm_cell/kernel', 'lstm/lstm_cell/recurrent_kernel',
         'lstm/lstm_cell/bias']
    """

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
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        use_recurrent_bias: bool = False,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        cell = LSTMCell(
            units,
            activation,
            recurrent_activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            unit_forget_bias,
            recurrent_dropout,
            use_recurrent_bias,
        )
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            dropout,
            seed=seed,
            name=name,
        )


class GRU(RNN):
    """Gated recurrent units over the steps of sequences.

    The arguments are those of `nn.GRUCell`, which has the formulas of both variants,
    and of `nn.RNN`, which has the rest.

    Shapes:  x [N, T, D] -> [N, units], or [N, T, units] with return_sequences
    Math:    h[t] = z h[t-1] + (1 - z) g, with gates z, r and what is new, g, of x[t]
             and h[t-1]
    Raises:  as GRUCell and RNN.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", 10, 3))
        >>> nn.GRU(4, reset_after=False)(x).type
        TensorType(f32[N,4])
    """

    def __init__(
        self,
        units: int,
        activation: str | activations.Activation | None = "tanh",
        recurrent_activation: str | activations.Activation | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        recurrent_initializer: Any = "orthogonal",
        bias_initializer: Any = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        reset_after: bool = True,
        use_recurrent_bias: bool | None = None,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        cell = GRUCell(
            units,
            activation,
            recurrent_activation,
            use_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            recurrent_dropout,
            reset_after,
            use_recurrent_bias,
        )
        super().__init__(
            cell,
            return_sequences,
            return_state,
            go_backwards,
            dropout,
            seed=seed,
            name=name,
        )
