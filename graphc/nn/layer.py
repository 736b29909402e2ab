"""Layer: a function of a tensor that owns its parameters.

A layer is called with `training=True` or `False` and gives two graphs over the same
states. Its parameters are made at the first call, when the size of the input is
known; the nodes it makes bear the line of the user's code that made the layer.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, Self

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor
from graphc.ir.origins import here, scope, user_line
from graphc.ir.types import DTypeLike, TensorType, float32
from graphc.ops.creation import constant
from graphc.state import Parameter, parameter, variable

_numbers: defaultdict[str, Iterator[int]] = defaultdict(lambda: itertools.count(1))


class Layer:
    """The base of all layers: `call` computes, `make_parameters` makes the states.

    name: prefix of its parameters' names and its scope in drawings. Without one a
    model numbers its layers (dense_1, dense_2); a layer outside a model is numbered
    in the order in which such layers are first called. seed: of initial values and
    random numbers; without one the model's, else 0.

    Example:
        >>> import graphc
        >>> from graphc import nn
        >>> class Scale(nn.Layer):
        ...     def make_parameters(self, x):
        ...         self.factor = self.parameter("factor", x.shape[-1:], "ones")
        ...     def call(self, x, training):
        ...         return x * self.factor
        >>> scale = Scale(name="scale")
        >>> scale(graphc.input("x", ("N", 3))).type
        TensorType(f32[N,3])
        >>> [p.name for p in scale.parameters]
        ['scale/factor']
    """

    place: tuple[str, int]
    input_dtype: str = "float32"  # what a model that starts with it converts data to

    def __new__(cls, *args: Any, **options: Any) -> Self:
        """Note the user's line, also where a subclass has its own `__init__`."""
        layer = super().__new__(cls)
        layer.place = user_line()
        return layer

    def __init__(self, name: str | None = None, seed: int | None = None) -> None:
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise ArgumentError(
                f"a layer's name is a text without '/', not {name!r}",
                where=here().quoted,
            )
        self._name = name
        self._seed = seed
        self._states: list[Parameter] = []
        self._made = False
        self.output: TensorType | None = None

    # --- what a layer does --------------------------------------------------------

    def make_parameters(self, x: Tensor) -> None:
        """Make the parameters for inputs like x; runs once, at the first call."""

    def call(self, x: Tensor, training: bool) -> Tensor:
        """Compute the output."""
        raise ArgumentError(
            f"the layer {type(self).__name__} does not say what it computes",
            where=here().quoted,
            help="define call(self, x, training)",
        )

    def __call__(self, x: Any, training: bool = False) -> Tensor:
        """Apply the layer.

        training: whether this graph is for training (dropout drops, counters count).
        """
        return self.apply((constant(x),), training=training)

    def apply(self, tensors: Sequence[Tensor], **options: Any) -> Tensor:
        """Make the parameters if that is to do, then call, in the layer's scope.

        For layers of several tensors, whose `__call__` gives them names.
        """
        found = self.run(tensors, **options)
        if not isinstance(found, Tensor):
            raise ArgumentError(
                f"{self.name}: call returned {found!r}, not a tensor",
                where=here().quoted,
            )
        self.output = found.type
        return found

    def run(self, tensors: Sequence[Tensor], **options: Any) -> Any:
        """Do as `apply` does, for layers whose `call` returns more than one tensor."""
        with scope(self.name, self.place):
            if not self._made:
                try:
                    self.make_parameters(*tensors)
                except BaseException:
                    self._states.clear()
                    raise
                self._made = True
            call: Any = self.call  # a layer of several tensors has more arguments
            return call(*tensors, **options)

    # --- names and states ---------------------------------------------------------

    @property
    def name(self) -> str:
        """The name; given, or found when it is first needed."""
        if self._name is None:
            kind = kind_name(self)
            self._name = f"{kind}_{next(_numbers[kind])}"
        return self._name

    @property
    def seed(self) -> int:
        """The seed; given, or the model's, or 0."""
        return 0 if self._seed is None else self._seed

    def adopt(self, name: str | None = None, seed: int | None = None) -> None:
        """Take a model's name and seed where none was given."""
        if self._name is None:
            self._name = name
        if self._seed is None:
            self._seed = seed

    @property
    def parameters(self) -> list[Parameter]:
        """What training changes; empty before the first call."""
        return [s for s in self.states if s.trainable]

    @property
    def states(self) -> list[Parameter]:
        """Parameters and everything else that lives from call to call."""
        return list(self._states)

    @property
    def built(self) -> bool:
        """Whether the parameters are made."""
        return self._made

    def forget(self) -> None:
        """Drop the parameters, as if the layer had never been called."""
        self._states.clear()
        self._made = False
        self.output = None

    def parameter(
        self,
        name: str,
        shape: Any,
        init: Any = "glorot_uniform",
        dtype: DTypeLike = float32,
    ) -> Parameter:
        """Make a parameter of this layer; see `graphc.parameter`."""
        made = parameter(_path(name), shape, init, seed=self.seed, dtype=dtype)
        self._states.append(made)
        return made

    def variable(self, name: str, value: Any) -> Parameter:
        """Make a state that is not trained; see `graphc.variable`."""
        made = variable(_path(name), value)
        self._states.append(made)
        return made

    def __repr__(self) -> str:
        name = f" {self._name!r}" if self._name else ""
        output = f" -> {self.output}" if self.output else ""
        return f"<{type(self).__name__}{name}{output}>"


def kind_name(layer: Layer) -> str:
    """Return the class name in snake case, from which default names are made.

    As in Keras: dense, conv2d, conv2d_transpose.
    """
    words = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", type(layer).__name__)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", words).lower()


def _path(name: str) -> str:
    return "/".join((*here().scope, name))
