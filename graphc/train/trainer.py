"""The trainer: a model's steps, compiled when they are first needed, and its loops.

A model has three steps over the same states: to train (loss, metrics, and the
optimiser's updates), to evaluate, and to predict. The size of a batch is symbolic,
so a ragged last batch compiles nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc import optim
from graphc.compiler import compile
from graphc.errors import ArgumentError, InputError, StateError
from graphc.executable import Executable
from graphc.ir.nodes import Tensor
from graphc.ir.origins import here, scope
from graphc.ir.types import TensorType
from graphc.nn import losses, metrics
from graphc.nn.model import Sequential, provisional
from graphc.ops.composite import mean
from graphc.ops.creation import input
from graphc.optim import Optimizer
from graphc.train.callbacks import Callbacks
from graphc.train.data import Data, as_samples, as_x, as_y, check_lengths, split_off
from graphc.train.history import History
from graphc.train.interrupt import Interrupt, held_interrupt
from graphc.train.progress import Progress, make_evaluation, make_progress
from graphc.train.storage import load, save

Array = np.ndarray[Any, Any]

SILENT = Progress(1, 1)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `compile` said; options: those of `graphc.compile`."""

    optimizer: Optimizer
    loss: losses.Loss
    metrics: dict[str, metrics.Metric]
    options: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """What a step measures, in order."""
        return ["loss", *self.metrics]


class ModelTrainer:
    """Trains a model, and saves and loads it."""

    def __init__(self, model: Sequential) -> None:
        self.model = model
        self.settings: Settings | None = None
        self.history: History | None = None
        self._steps: dict[Any, Executable] = {}
        self._random = np.random.default_rng(model.seed)

    @property
    def optimizer(self) -> Optimizer | None:
        """The optimiser; None before `compile`."""
        return self.settings.optimizer if self.settings else None

    # --- compile ------------------------------------------------------------------

    def compile(
        self,
        optimizer: str | Optimizer,
        loss: str | losses.Loss | None,
        metric_list: Sequence[str | metrics.Metric] | None,
        options: Mapping[str, Any],
    ) -> None:
        """Take the settings; steps are compiled when data come."""
        if loss is None:
            raise ArgumentError(
                "compile: a loss is needed",
                where=here().quoted,
                help="for example loss='mse'; one of " + ", ".join(losses.LOSSES),
            )
        if isinstance(metric_list, str):
            metric_list = [metric_list]
        pairs = [metrics.get(m) for m in metric_list or ()]
        named = dict(pairs)
        if len(named) < len(pairs) or "loss" in named:
            raise ArgumentError(
                f"compile: two metrics have one name: {[name for name, _ in pairs]}",
                where=here().quoted,
                help='no metric may be named "loss"; give functions other names',
            )
        self.settings = Settings(optim.get(optimizer), losses.get(loss), named, options)
        self._steps.clear()
        self._random = np.random.default_rng(self.model.seed)

    def _compiled(self, who: str) -> Settings:
        if self.settings is None:
            raise StateError(
                f"{who}: the model is not compiled",
                where=here().quoted,
                help="call model.compile(optimizer='adam', loss=..., metrics=[...])",
            )
        return self.settings

    # --- fit ----------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int,
        epochs: int,
        verbose: int | str,
        callbacks: Sequence[Any] | None,
        validation_split: float,
        validation_data: tuple[Any, Any] | None,
        shuffle: bool,
        initial_epoch: int,
    ) -> History:
        """Train; all checks come before the first step."""
        self._compiled("fit")
        size = _positive("fit: batch_size", batch_size)
        last = _positive("fit: epochs", epochs)
        told = Callbacks(callbacks, self.model)
        with provisional(self.model):
            given = self._data("fit", x, y)
            data, kept = split_off("fit", given.x, given.y, validation_split)
            if validation_data is not None:
                kept = self._data("fit: validation_data", *_pair(validation_data))
            step = self._step("train", data)
            check = self._step("evaluate", kept) if kept else None
        progress = make_progress(verbose, last, -(-len(data) // size))
        self.history = record = History()
        self.model.stop_training = False
        logs: dict[str, float] = {}
        with held_interrupt() as interrupt, closing(progress):
            told.call("on_train_begin", {})
            for epoch in range(initial_epoch, last):
                told.call("on_epoch_begin", epoch, {})
                progress.begin(epoch)
                order = self._random.permutation(len(data)) if shuffle else None
                logs = self._run(step, data.batches(size, order), progress, interrupt)
                progress.trained(logs)
                if kept and check:
                    found = self._run(check, kept.batches(size), SILENT, interrupt)
                    logs |= {f"val_{name}": value for name, value in found.items()}
                record.add(epoch, logs)
                progress.end(logs)
                told.call("on_epoch_end", epoch, logs)
                if self.model.stop_training:
                    break
            told.call("on_train_end", logs)
        return record

    def _run(
        self,
        step: Executable,
        batches: Iterable[tuple[Array, Array]],
        progress: Progress,
        interrupt: Interrupt,
    ) -> dict[str, float]:
        """Run a step over all batches; returns the means over the samples."""
        names = self._compiled("fit").names
        totals = [0.0] * len(names)
        seen = 0
        for done, (x, y) in enumerate(batches, 1):
            n = len(x)
            for i, value in enumerate(step(x, y)):
                totals[i] += float(value) * n
            seen += n
            if interrupt.pressed:
                raise KeyboardInterrupt
            if time.perf_counter() >= progress.due:
                progress.show(done, dict(zip(names, _over(totals, seen), strict=True)))
        return dict(zip(names, _over(totals, seen), strict=True))

    # --- evaluate and predict -----------------------------------------------------

    def evaluate(
        self,
        x: Any,
        y: Any,
        *,
        batch_size: int,
        verbose: int | str,
        return_dict: bool,
    ) -> Any:
        """Return loss and metrics."""
        settings = self._compiled("evaluate")
        size = _positive("evaluate: batch_size", batch_size)
        with provisional(self.model):
            data = self._data("evaluate", x, y)
            step = self._step("evaluate", data)
        with closing(make_evaluation(verbose, -(-len(data) // size))) as progress:
            progress.begin(0)
            logs = self._run(step, data.batches(size), progress, Interrupt())
            progress.end(logs)
        if return_dict:
            return logs
        return list(logs.values()) if settings.metrics else logs["loss"]

    def predict(self, x: Any, *, batch_size: int, verbose: int | str) -> Array:
        """Return the outputs for all rows."""
        size = _positive("predict: batch_size", batch_size)
        array = as_x("predict", x, self.model)
        data = Data(array, array)
        with provisional(self.model):
            self._build(array)
            step = self._step("predict", data)
        found: Array | None = None
        steps = -(-len(array) // size)
        with closing(make_evaluation(verbose, steps, results=False)) as progress:
            progress.begin(0)
            for done, start in enumerate(range(0, len(array), size), 1):
                rows = step(array[start : start + size])
                if found is None:
                    found = np.empty((len(array), *rows.shape[1:]), rows.dtype)
                found[start : start + size] = rows
                if time.perf_counter() >= progress.due:
                    progress.show(done, {})
            progress.end({})
        assert found is not None
        return found

    # --- steps --------------------------------------------------------------------

    def _data(self, who: str, x: Any, y: Any) -> Data:
        """Check and convert data; makes the model's parameters if need be."""
        settings = self._compiled(who)
        samples = as_x(who, x, self.model)
        truth = as_samples(who, "y", y)
        check_lengths(who, samples, truth)
        output = self._build(samples)
        labels = losses.labels_of(settings.loss)
        return Data(samples, as_y(who, truth, labels, output))

    def _build(self, x: Array) -> TensorType:
        """Make the parameters if need be; returns the type of the output."""
        if self.model.output is None or not self.model.built:
            self.model.build((None, *x.shape[1:]))
        assert self.model.output is not None
        return self.model.output

    def _step(self, mode: str, data: Data) -> Executable:
        key = (mode, data.x.shape[1:], data.y.dtype, data.y.shape[1:])
        found = self._steps.get(key)
        if found is None:
            found = self._steps[key] = self._make_step(mode, data)
        return found

    def _make_step(self, mode: str, data: Data) -> Executable:
        x = _declare("x", data.x)
        if mode == "predict":
            options = self.settings.options if self.settings else {}
            return compile([x], self.model(x), name="predict_step", **options)
        settings = self._compiled(mode)
        y = _declare("y", data.y)
        predicted = self.model(x, training=mode == "train")
        with scope("loss"):
            loss = _scalar("loss", settings.loss(y, predicted))
        measured = [loss]
        for name, metric in settings.metrics.items():
            with scope(name):
                measured.append(_scalar(name, metric(y, predicted)))
        updates = settings.optimizer.updates(loss) if mode == "train" else None
        return compile(
            [x, y],
            measured,
            updates,
            name=f"{mode}_step",
            **settings.options,
        )

    # --- files --------------------------------------------------------------------

    def save(self, path: Any, include_optimizer: bool) -> None:
        """Write the weights, and the optimiser's state if there is one."""
        save(self.model, self.optimizer if include_optimizer else None, path)

    def load(self, path: Any) -> None:
        """Read them back."""
        load(self.model, self.optimizer, path)


def _declare(name: str, array: Array) -> Tensor:
    return input(name, ("N", *array.shape[1:]), array.dtype)


def _scalar(name: str, found: Any) -> Tensor:
    """Return the mean of what a loss or a metric gives for each sample."""
    if not isinstance(found, Tensor):
        raise ArgumentError(
            f"the function {name!r} returned {found!r}, not a tensor",
            where=here().quoted,
            help="compute it from (y_true, y_pred) with graphc's functions",
        )
    return mean(found) if found.ndim else found


def _over(totals: Sequence[float], seen: int) -> list[float]:
    return [total / seen for total in totals]


def _positive(what: str, value: Any) -> int:
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ArgumentError(
            f"{what} must be a positive int, not {value!r}", where=here().quoted
        )
    return int(value)


def _pair(given: Any) -> tuple[Any, Any]:
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        raise InputError(
            "fit: validation_data must be a pair (x, y)",
            where=here().quoted,
            help="validation_data=(x_val, y_val)",
        )
    return given[0], given[1]
