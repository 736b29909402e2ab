"""Sequential: layers one after the other, and Keras's methods to train them.

The methods that train live in `graphc.train`, a layer above this one, which hands
its trainer over with `use_trainer` when graphc is imported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor
from graphc.ir.origins import here, scope
from graphc.ir.types import TensorType
from graphc.nn.layer import Layer, kind_name
from graphc.nn.losses import Loss
from graphc.nn.metrics import Metric
from graphc.nn.summary import summary_table, summary_totals
from graphc.ops.creation import constant, input
from graphc.state import Parameter

if TYPE_CHECKING:
    from os import PathLike

Array = np.ndarray[Any, Any]


class Trainer(Protocol):
    """What trains a model; `graphc.train` has it. Its methods are the model's."""

    @property
    def optimizer(self) -> Any:
        """The optimiser; None before compile."""

    @property
    def history(self) -> Any:
        """The History of the last fit; None before."""

    def compile(self, *args: Any, **options: Any) -> None:
        """Take the settings."""

    def fit(self, *args: Any, **options: Any) -> Any:
        """Train and return the History."""

    def evaluate(self, *args: Any, **options: Any) -> Any:
        """Return loss and metrics."""

    def predict(self, *args: Any, **options: Any) -> Array:
        """Return the outputs."""

    def save(self, path: Any, include_optimizer: bool) -> None:
        """Write the weights."""

    def load(self, path: Any) -> None:
        """Read the weights."""


_make_trainer: Callable[[Sequential], Trainer] | None = None


def use_trainer(make: Callable[[Sequential], Trainer]) -> None:
    """Say what makes the trainer of a model."""
    global _make_trainer
    _make_trainer = make


class Sequential(Layer):
    """Layers one after the other; itself a layer.

    Layers without a name are numbered within the model (dense_1, dense_2), so making
    the model again gives equal initial values for equal seeds. name: a prefix for
    all parameters, needed where two models are compiled into one step.

    Example:
        >>> import numpy as np
        >>> from graphc import nn
        >>> x = np.linspace(-1, 1, 64).reshape(-1, 1)
        >>> model = nn.Sequential([nn.Dense(8, activation="tanh"), nn.Dense(1)])
        >>> model.compile(optimizer="sgd", loss="mse", backend="reference")
        >>> history = model.fit(x, x**2, epochs=2, verbose=0)
        >>> len(history.history["loss"]), model.predict(x).shape
        (2, (64, 1))
    """

    def __init__(
        self,
        layers: Iterable[Layer] = (),
        name: str | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__(name, seed)
        self.layers: list[Layer] = []
        self.input_type: TensorType | None = None
        self.stop_training = False
        self._trainer: Trainer | None = None
        for layer in layers:
            self.add(layer)

    def add(self, layer: Layer) -> None:
        """Put a layer at the end.

        Raises:  ArgumentError for what is no layer, or a name that is taken.
        """
        if not isinstance(layer, Layer):
            raise ArgumentError(
                f"Sequential: {layer!r} is no layer",
                where=here().quoted,
                help="wrap a function as nn.Activation(function)",
            )
        taken = {other.name for other in self.layers if other is not layer}
        numbers = (f"{kind_name(layer)}_{i}" for i in range(1, len(taken) + 2))
        layer.adopt(next(n for n in numbers if n not in taken), self._seed)
        if layer.name in taken:
            raise ArgumentError(
                f"Sequential: two layers are named {layer.name!r}",
                where=here().quoted,
                help="give one of them another name",
            )
        self.layers.append(layer)
        self._trainer = None

    def adopt(self, name: str | None = None, seed: int | None = None) -> None:
        """Take a name and a seed, and hand the seed on."""
        super().adopt(name, seed)
        for layer in self.layers:
            layer.adopt(None, seed)

    def __call__(self, x: Any, training: bool = False) -> Tensor:
        """Apply the layers in order.

        Raises:  ArgumentError if there are none.
        """
        if not self.layers:
            raise ArgumentError(
                "Sequential: the model has no layers",
                where=here().quoted,
                help="nn.Sequential([nn.Dense(10), ...])",
            )
        tensor = constant(x)
        given = tensor.type
        with scope(self._name, self.place) if self._name else nullcontext():
            for layer in self.layers:
                tensor = layer(tensor, training=training)
                if not isinstance(tensor, Tensor):
                    raise ArgumentError(
                        f"Sequential: {layer.name} returned {len(tensor)} tensors, "
                        "the next layer takes one",
                        where=here().quoted,
                        help="call the layers yourself where one returns its state",
                    )
        self.input_type = self.input_type or given
        self.output = tensor.type
        return tensor

    # --- looking ------------------------------------------------------------------

    @property
    def built(self) -> bool:
        """Whether all parameters are made."""
        return bool(self.layers) and all(layer.built for layer in self.layers)

    @property
    def states(self) -> list[Parameter]:
        """The states of all layers, in order, each once."""
        found = [s for layer in self.layers for s in layer.states]
        return list(dict.fromkeys(found))

    @property
    def title(self) -> str:
        """The name as a heading."""
        return f"Sequential {self._name!r}" if self._name else "Sequential"

    def forget(self) -> None:
        """Drop the parameters of all layers."""
        super().forget()
        self.input_type = None
        for layer in self.layers:
            layer.forget()

    def build(self, input_shape: Sequence[int | None]) -> None:
        """Make the parameters for inputs of a shape; the first axis is the batch.

        input_shape: (None, 784), as in Keras.
        Raises:  ArgumentError for a shape without a batch axis; what a layer raises.
        """
        shape = list(input_shape)
        if not shape or any(s is None for s in shape[1:]):
            raise ArgumentError(
                f"build: the shape {tuple(shape)} does not give the features",
                where=here().quoted,
                help="write (None, 784): the batch may be None, the rest are ints",
            )
        first = self.layers[0].input_dtype if self.layers else "float32"
        with provisional(self):
            self(input("x", ("N", *shape[1:]), dtype=first))

    def summary(self) -> None:
        """Print the layers, their output shapes and numbers of parameters."""
        from rich.console import Console

        console = Console()
        console.print(summary_table(self))
        for line in summary_totals(self):
            console.print(line, highlight=False)

    # --- training -----------------------------------------------------------------

    @property
    def trainer(self) -> Trainer:
        """What trains this model; made when first needed."""
        if self._trainer is None:
            assert _make_trainer is not None
            self._trainer = _make_trainer(self)
        return self._trainer

    @property
    def optimizer(self) -> Any:
        """The optimiser that `compile` was given; None before."""
        return self.trainer.optimizer

    @property
    def history(self) -> Any:
        """The `History` of the last fit, also of one that was stopped; None before."""
        return self.trainer.history

    def compile(
        self,
        optimizer: Any = "adam",
        loss: str | Loss | None = None,
        metrics: Sequence[str | Metric] | None = None,
        *,
        backend: str = "cpu",
        passes: str | Sequence[str] = "default",
        threads: int | None = None,
        check: bool = False,
        tune: bool | Literal["replay"] = False,
    ) -> None:
        """Say how to train: optimiser, loss and metrics, by name or as objects.

        backend, passes, threads, check, tune: as for `graphc.compile`, which makes the
        steps when data come. Compiling again keeps the weights; an optimiser named by a
        text starts anew.

        Raises:  ArgumentError for an unknown name, listing the known ones.
        """
        options = {
            "backend": backend,
            "passes": passes,
            "threads": threads,
            "check": check,
            "tune": tune,
        }
        self.trainer.compile(optimizer, loss, metrics, options)

    def fit(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        epochs: int = 1,
        verbose: int | str = "auto",
        callbacks: Sequence[Any] | None = None,
        validation_split: float = 0.0,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        initial_epoch: int = 0,
    ) -> Any:
        """Train; returns the `History`.

        verbose: 0 silent, 1 a progress bar (a line for each epoch where the output
        is no terminal), 2 always lines. callbacks: functions (epoch, logs), or
        objects with some of on_train_begin(logs), on_epoch_begin(epoch, logs),
        on_epoch_end(epoch, logs), on_train_end(logs); `model.stop_training = True`
        ends after the epoch. validation_split: this share, taken from the end before
        shuffling, is not trained on. The last batch may be smaller; it counts by its
        size in the means. All checks come before the first step; after Ctrl-C the
        model has the weights of the last whole step and is good for use.

        Shapes:  x [n, ...], y [n, ...] or labels [n]
        Raises:  StateError before `compile`; InputError for data that do not fit.
        """
        return self.trainer.fit(
            x,
            y,
            batch_size=batch_size,
            epochs=epochs,
            verbose=verbose,
            callbacks=callbacks,
            validation_split=validation_split,
            validation_data=validation_data,
            shuffle=shuffle,
            initial_epoch=initial_epoch,
        )

    def evaluate(
        self,
        x: Any,
        y: Any,
        batch_size: int = 32,
        verbose: int | str = "auto",
        return_dict: bool = False,
    ) -> Any:
        """Return the loss, or [loss, metrics...], or a dict of them.

        Shapes:  x [n, ...], y [n, ...] or labels [n]
        Raises:  StateError before `compile`; InputError for data that do not fit.
        """
        return self.trainer.evaluate(
            x, y, batch_size=batch_size, verbose=verbose, return_dict=return_dict
        )

    def predict(
        self, x: Any, batch_size: int = 32, verbose: int | str = "auto"
    ) -> Array:
        """Return the outputs for all rows of x; works without `compile` as well.

        Shapes:  x [n, ...] -> [n, ...]
        Raises:  InputError for data that do not fit.
        """
        return self.trainer.predict(x, batch_size=batch_size, verbose=verbose)

    def save(self, path: str | PathLike[str], include_optimizer: bool = True) -> None:
        """Write the weights into a safetensors file, all or nothing.

        include_optimizer: its slots and step count too, to go on training later.
        Raises:  ModelFileError if it cannot be written; an old file then stays.
        """
        self.trainer.save(path, include_optimizer)

    def load(self, path: str | PathLike[str]) -> None:
        """Read weights that `save` wrote for a model with the same layers.

        The optimiser's state is read too if `compile` named one of the same kind.
        Raises:  ModelFileError if the file is damaged or of another model; the model
                 is then as it was.
        """
        self.trainer.load(path)

    load_weights = load
    save_weights = save


@contextmanager
def provisional(model: Sequential) -> Iterator[None]:
    """Drop the parameters that are made inside if what is inside fails."""
    new = [layer for layer in leaves(model) if not layer.built]
    old = model.input_type, model.output
    try:
        yield
    except BaseException:
        for layer in new:
            layer.forget()
        model.input_type, model.output = old
        raise


def leaves(model: Sequential) -> Iterator[Layer]:
    """Go through the layers, into models that are layers."""
    for layer in model.layers:
        if isinstance(layer, Sequential):
            yield from leaves(layer)
        else:
            yield layer
