"""A recurrent layer in both directions."""

from __future__ import annotations

from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor
from graphc.ir.origins import here
from graphc.nn.layer import Layer
from graphc.nn.recurrent import RNN, as_states
from graphc.ops.creation import constant
from graphc.ops.shape import concatenate
from graphc.state import Parameter

MODES = ("concat", "sum", "mul", "ave", None)


class Bidirectional(Layer):
    """Run a recurrent layer from the first step to the last and another one back.

    layer: says what both are like; each is a copy with parameters of its own.
    backward_layer: another layer to go back, instead. merge_mode: how the two outputs
    become one, "concat", "sum", "mul" or "ave"; None returns both. With lengths or a
    mask the way back starts at each sequence's own last step.

    Shapes:  x [N, T, D] -> [N, 2 units], or [N, T, 2 units] with return_sequences;
             with return_state then the states forward, and backward
    Raises:  ArgumentError for what is no recurrent layer or has parameters already, an
             unknown merge_mode, or two layers that do not return the same things.
    Source:  Schuster and Paliwal, "Bidirectional recurrent neural networks", 1997;
             names as in Keras.
    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> x = graphc.input("x", ("N", "T", 3))
        >>> nn.Bidirectional(nn.GRU(4, return_sequences=True))(x).type
        TensorType(f32[N,T,8])
    """

    def __init__(
        self,
        layer: RNN,
        merge_mode: str | None = "concat",
        backward_layer: RNN | None = None,
        *,
        seed: int | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(name, seed)
        back = layer if backward_layer is None else backward_layer
        for given in (layer, back):
            if not isinstance(given, RNN):
                raise ArgumentError(
                    f"Bidirectional: {given!r} is no recurrent layer",
                    where=here().quoted,
                    help="for example nn.LSTM(32)",
                )
        if merge_mode not in MODES:
            raise ArgumentError(
                f"Bidirectional: unknown merge_mode {merge_mode!r}",
                where=here().quoted,
                help="use one of " + ", ".join(map(repr, MODES)),
            )
        for what in ("return_sequences", "return_state"):
            if getattr(layer, what) != getattr(back, what):
                raise ArgumentError(
                    f"Bidirectional: {what} is {getattr(layer, what)} in one layer and "
                    f"{getattr(back, what)} in the other",
                    where=here().quoted,
                    help="both must return the same things",
                )
        self.merge_mode = merge_mode
        self.forward_layer = layer.twin("forward")
        self.backward_layer = back.twin("backward")
        self.forward_layer.go_backwards = False
        self.backward_layer.go_backwards = True
        for each in (self.forward_layer, self.backward_layer):
            each.adopt(None, seed)

    def __call__(  # type: ignore[override]
        self,
        x: Any,
        initial_state: Any = None,
        mask: Any = None,
        lengths: Any = None,
        training: bool = False,
    ) -> Any:
        """Apply both layers; initial_state has the states forward, then backward."""
        outputs, states = self.run(
            (constant(x),),
            initial_state=as_states(initial_state),
            mask=None if mask is None else constant(mask),
            lengths=None if lengths is None else constant(lengths),
            training=training,
        )
        self.output = outputs[0].type
        given = (*outputs, *(states if self.forward_layer.return_state else ()))
        return given if len(given) > 1 else given[0]

    def call(  # type: ignore[override]
        self, x: Tensor, *, initial_state: Any, **options: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Return the outputs, merged, and the states."""
        starts: tuple[Any, Any] = (None, None)
        if initial_state is not None:
            half = len(self.forward_layer.cell.state_sizes)
            starts = initial_state[:half], initial_state[half:]
        (one, ahead), (two, back) = (
            layer.run((x,), initial_state=start, in_order=True, **options)
            for layer, start in zip(
                (self.forward_layer, self.backward_layer), starts, strict=True
            )
        )
        for layer, output in ((self.forward_layer, one), (self.backward_layer, two)):
            layer.output = output.type
        return self._merged(one, two), (*ahead, *back)

    def _merged(self, one: Tensor, two: Tensor) -> tuple[Tensor, ...]:
        match self.merge_mode:
            case None:
                return one, two
            case "concat":
                return (concatenate([one, two], axis=-1),)
            case "sum":
                return (one + two,)
            case "mul":
                return (one * two,)
        return ((one + two) * 0.5,)

    # --- states -------------------------------------------------------------------

    def adopt(self, name: str | None = None, seed: int | None = None) -> None:
        """Take a name and a seed, and hand the seed on."""
        super().adopt(name, seed)
        self.forward_layer.adopt(None, seed)
        self.backward_layer.adopt(None, seed)

    @property
    def states(self) -> list[Parameter]:
        """The states of both layers."""
        return [*self.forward_layer.states, *self.backward_layer.states]

    def forget(self) -> None:
        """Drop the parameters of both layers."""
        super().forget()
        self.forward_layer.forget()
        self.backward_layer.forget()
