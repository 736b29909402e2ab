"""fit, evaluate and predict."""

from __future__ import annotations

import os
import signal
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

import graphc
from graphc import nn, optim
from graphc.errors import ArgumentError, CheckError
from graphc.train import data as data_module

RANDOM = np.random.default_rng(11)
XS = RANDOM.normal(size=(50, 6)).astype(np.float32)
LABELS = (XS @ RANDOM.normal(size=(6, 3))).argmax(-1)
ONE_HOT = np.eye(3)[LABELS]


def classifier(backend: str, rate: float = 0.0, **options: Any) -> nn.Sequential:
    model = nn.Sequential(
        [
            nn.Dense(8, activation="relu"),
            nn.Dropout(rate),
            nn.Dense(3, activation="softmax"),
        ]
    )
    settings = {
        "optimizer": "adam",
        "loss": "categorical_crossentropy",
        "metrics": ["accuracy"],
    }
    model.compile(**(settings | options), backend=backend)
    return model


def line_model(backend: str, **options: Any) -> nn.Sequential:
    """One weight, 0 at first: y = w x."""
    model = nn.Sequential(
        [nn.Dense(1, use_bias=False, kernel_initializer="zeros", name="d")]
    )
    settings = {"optimizer": optim.SGD(0.1), "loss": "mse"}
    model.compile(**(settings | options), backend=backend)  # type: ignore[arg-type]
    return model


def bits(model: nn.Sequential) -> list[bytes]:
    return [s.value.tobytes() for s in model.states]


# --- training -----------------------------------------------------------------------


def test_a_classifier_of_digits_reaches_90_percent(backend: str) -> None:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.data))
    x, y = digits.data[order] / 16, digits.target[order]
    model = nn.Sequential(
        [
            nn.Dense(32, activation="relu"),
            nn.Dense(64, activation="relu"),
            nn.Dense(10, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=optim.Adam(3e-3),
        loss="categorical_crossentropy",
        metrics=["accuracy"],
        backend=backend,
    )
    held = (x[1500:], y[1500:])
    history = model.fit(
        x[:1500], y[:1500], epochs=4, validation_data=held, verbose=0
    ).history
    assert history["val_accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0] / 3
    assert (model.predict(held[0]).argmax(-1) == held[1]).mean() == pytest.approx(
        history["val_accuracy"][-1]
    )


def test_training_twice_gives_equal_bits(backend: str) -> None:
    found = []
    for _ in range(2):
        model = classifier(backend, rate=0.3)
        record = model.fit(XS, LABELS, batch_size=16, epochs=2, verbose=0)
        found.append((bits(model), record.history))
    assert found[0] == found[1]


def test_ints_and_one_hot_rows_train_alike(backend: str) -> None:
    found = []
    for labels in (
        LABELS,
        LABELS[:, None],
        LABELS.astype(float),
        ONE_HOT,
        ONE_HOT == 1,
    ):
        model = classifier(backend)
        record = model.fit(XS, labels, epochs=2, verbose=0)
        found.append([record.history["loss"], record.history["accuracy"]])
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-5)


def test_losses_from_logits_train_like_those_from_probabilities(backend: str) -> None:
    plain = classifier(backend).fit(XS, LABELS, epochs=2, verbose=0)
    model = nn.Sequential(
        [nn.Dense(8, activation="relu"), nn.Dropout(0.0), nn.Dense(3)]
    )
    loss = nn.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, backend=backend)
    found = model.fit(XS, LABELS, epochs=2, verbose=0)
    np.testing.assert_allclose(found.history["loss"], plain.history["loss"], rtol=1e-5)


def test_two_classes_train_through_a_sigmoid(backend: str) -> None:
    model = nn.Sequential([nn.Dense(1, activation="sigmoid")])
    model.compile(optim.Adam(0.1), "binary_crossentropy", ["accuracy"], backend=backend)
    record = model.fit(XS, LABELS == 0, epochs=15, verbose=0)
    assert record.history["accuracy"][-1] > 0.85


def test_a_function_is_a_loss_and_a_metric(backend: str) -> None:
    def squares(y_true: graphc.Tensor, y_pred: graphc.Tensor) -> graphc.Tensor:
        return graphc.sum((y_pred - y_true) ** 2.0, axis=-1)  # one a sample

    model = line_model(backend, loss=squares, metrics=[squares])
    model.fit(XS[:, :1], 2 * XS[:, :1], epochs=12, verbose=0)
    logs = model.evaluate(XS[:, :1], 2 * XS[:, :1], verbose=0, return_dict=True)
    assert logs["loss"] == logs["squares"] < 0.1


def test_the_ragged_last_batch_counts_by_its_size(backend: str) -> None:
    model = line_model(backend, metrics=["mae"])
    x = np.ones((5, 1))
    y = np.array([0.0, 0.0, 0.0, 0.0, 10.0])[:, None]
    found = model.evaluate(x, y, batch_size=2, verbose=0)
    assert found == pytest.approx([20.0, 2.0])


def test_a_ragged_last_batch_compiles_nothing(backend: str) -> None:
    model = classifier(backend)
    model.fit(XS, LABELS, batch_size=16, epochs=1, verbose=0)
    steps = dict(model.trainer._steps)  # type: ignore[attr-defined]
    model.fit(XS[:37], LABELS[:37], batch_size=10, epochs=1, verbose=0)
    assert model.trainer._steps == steps  # type: ignore[attr-defined]


def test_steps_are_compiled_as_the_model_was_told() -> None:
    x = np.ones((4, 1))
    model = line_model("cpu", threads=0)
    with pytest.raises(ArgumentError, match="threads must be at least 1"):
        model.fit(x, x, verbose=0)
    model = line_model("cpu", threads=1, tune="replay", check=True)
    model.fit(x, x, verbose=0)
    (step,) = model.trainer._steps.values()  # type: ignore[attr-defined]
    assert (step.backend.limit, step.backend.tune) == (1, "replay")


def test_a_checked_model_refuses_words_that_it_does_not_know(backend: str) -> None:
    model = nn.Sequential([nn.Embedding(4, 3), nn.Flatten(), nn.Dense(1)])
    model.compile("sgd", "mse", backend=backend, check=True)
    words, y = np.array([[0, 3], [2, 1]]), np.ones((2, 1))
    model.fit(words, y, verbose=0)
    before = bits(model)
    with pytest.raises(CheckError):
        model.fit(words + 1, y, verbose=0)
    assert bits(model) == before


def test_one_step_of_sgd_is_the_formula(backend: str) -> None:
    model = line_model(backend)
    x, y = XS[:8, :1], XS[:8, 1:2]
    model.fit(x, y, batch_size=8, verbose=0)
    want = 0.1 * 2 * np.mean(x * y)
    assert model.parameters[0].value.item() == pytest.approx(want, rel=1e-5)


def test_dropout_counts_steps_in_training_and_is_inactive_elsewhere(
    backend: str,
) -> None:
    model = classifier(backend, rate=0.5)
    model.fit(XS, LABELS, batch_size=10, epochs=2, verbose=0)
    counter = model.layers[1].states[0]
    assert counter.value == 10
    first = model.evaluate(XS, LABELS, verbose=0)
    assert model.evaluate(XS, LABELS, verbose=0) == first
    assert counter.value == 10
    assert (model.predict(XS) == model.predict(XS)).all()


def test_nodes_of_the_training_step_bear_the_users_lines(backend: str) -> None:
    model = classifier(backend)
    model.fit(XS, LABELS, verbose=0)
    step = model.trainer._steps[next(iter(model.trainer._steps))]  # type: ignore[attr-defined]
    origins = step.declared.origins.values()
    assert {o.place.split(":")[0] for o in origins} == {"test_fit.py"}
    scopes = {o.scope[0] for o in origins if o.scope}
    assert {"dense_1", "dense_2", "loss", "accuracy"} <= scopes
    assert {o.phase for o in origins} == {"forward", "backward", "update"}


# --- shuffling, splitting, several fits ---------------------------------------------


def seen_batches(model: nn.Sequential, x: Any, **options: Any) -> list[list[float]]:
    """Return the samples of each batch that a fit steps through."""
    model.fit(x, x, verbose=0)
    key = next(iter(model.trainer._steps))  # type: ignore[attr-defined]
    step = model.trainer._steps[key]  # type: ignore[attr-defined]
    seen: list[list[float]] = []

    def spy(xs: Any, ys: Any) -> Any:
        assert (xs == ys).all()
        assert xs.flags.c_contiguous
        seen.append(xs[:, 0].tolist())
        return step(xs, ys)

    model.trainer._steps[key] = spy  # type: ignore[attr-defined]
    model.fit(x, x, verbose=0, **options)
    return seen


def flat(batches: list[list[float]]) -> list[float]:
    return [sample for batch in batches for sample in batch]


COUNT = np.arange(10, dtype=np.float32)[:, None] / 10


def test_without_shuffling_batches_follow_the_data(backend: str) -> None:
    seen = seen_batches(line_model(backend), COUNT, batch_size=4, shuffle=False)
    assert [len(b) for b in seen] == [4, 4, 2]
    assert flat(seen) == COUNT[:, 0].tolist()


@pytest.mark.parametrize("chunk", [1, 64 * 2**20])
def test_shuffling_sees_every_sample_once_in_each_epoch(
    backend: str, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(data_module, "CHUNK_BYTES", chunk)
    seen = seen_batches(line_model(backend), COUNT, batch_size=4, epochs=2)
    assert [len(b) for b in seen] == [4, 4, 2] * 2
    one, two = flat(seen[:3]), flat(seen[3:])
    assert sorted(one) == sorted(two) == COUNT[:, 0].tolist()
    assert one != two


def test_validation_split_takes_the_end_before_shuffling(backend: str) -> None:
    seen = seen_batches(line_model(backend), COUNT, batch_size=4, validation_split=0.3)
    assert sorted(flat(seen)) == COUNT[:7, 0].tolist()


def test_validation_measures_without_training(backend: str) -> None:
    model = line_model(backend, optimizer=optim.SGD(0.0))
    record = model.fit(
        COUNT, COUNT, verbose=0, validation_data=(COUNT + 1, COUNT), epochs=2
    )
    want = float(np.mean(COUNT.astype(np.float64) ** 2))
    assert record.history["val_loss"] == pytest.approx([want, want])
    assert list(record.history) == ["loss", "val_loss"]


def test_a_second_fit_goes_on_where_the_first_ended(backend: str) -> None:
    whole, parts = classifier(backend), classifier(backend)
    whole.fit(XS, LABELS, epochs=3, verbose=0)
    for _ in range(3):
        parts.fit(XS, LABELS, epochs=1, verbose=0)
    assert bits(whole) == bits(parts)


def test_initial_epoch_counts_from_there(backend: str) -> None:
    record = line_model(backend).fit(COUNT, COUNT, epochs=5, initial_epoch=3, verbose=0)
    assert record.epoch == [3, 4]


def test_evaluate_returns_a_number_a_list_or_a_dict(backend: str) -> None:
    assert isinstance(line_model(backend).evaluate(COUNT, COUNT, verbose=0), float)
    model = classifier(backend)
    found = model.evaluate(XS, LABELS, verbose=0)
    named = model.evaluate(XS, LABELS, verbose=0, return_dict=True)
    assert found == list(named.values())
    assert list(named) == ["loss", "accuracy"]


def test_predict_needs_no_compile_and_does_not_depend_on_the_batches(
    backend: str,
) -> None:
    trained = classifier(backend)
    trained.build((None, 6))
    found = trained.predict(XS)
    assert (found.shape, found.dtype) == ((50, 3), np.float32)
    np.testing.assert_allclose(trained.predict(XS, batch_size=7), found, rtol=1e-6)


def test_samples_of_other_dtypes_are_converted(backend: str) -> None:
    model = classifier(backend)
    whole = np.round(XS * 4)
    model.fit(whole.astype(np.int64), LABELS.astype(np.uint8), verbose=0)
    assert (model.predict(whole.astype(np.int8)) == model.predict(whole)).all()


# --- callbacks and interruption -----------------------------------------------------


def test_functions_and_objects_are_callbacks(backend: str) -> None:
    heard: list[Any] = []

    class Listener:
        def set_model(self, model: nn.Sequential) -> None:
            heard.append("model")

        def on_train_begin(self, logs: Any) -> None:
            heard.append("begin")

        def on_epoch_end(self, epoch: int, logs: Any) -> None:
            heard.append((epoch, sorted(logs)))

        def on_train_end(self, logs: Any) -> None:
            heard.append("end")

    def listen(epoch: int, logs: Any) -> None:
        heard.append(epoch)

    line_model(backend).fit(
        COUNT, COUNT, epochs=2, verbose=0, callbacks=[Listener(), listen]
    )
    assert heard == ["model", "begin", (0, ["loss"]), 0, (1, ["loss"]), 1, "end"]


def test_a_callback_may_stop_training_and_set_the_learning_rate(backend: str) -> None:
    model = line_model(backend)

    def schedule(epoch: int, logs: Any) -> None:
        model.optimizer.learning_rate = 0.0
        model.stop_training = epoch == 2

    record = model.fit(
        COUNT, COUNT, epochs=9, verbose=0, callbacks=[schedule], shuffle=False
    )
    assert record.epoch == [0, 1, 2]
    assert record.history["loss"][1] == record.history["loss"][2]


def test_what_is_no_callback_is_refused(backend: str) -> None:
    with pytest.raises(graphc.GraphcError, match="3 is no callback"):
        line_model(backend).fit(COUNT, COUNT, callbacks=[3], verbose=0)


def test_ctrl_c_leaves_the_model_usable(backend: str) -> None:
    model = classifier(backend)

    def press(epoch: int, logs: Any) -> None:
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.fit(XS, LABELS, epochs=9, verbose=0, callbacks=[press])
    assert model.history.epoch == [0, 1]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert np.isfinite(model.predict(XS)).all()
    model.fit(XS, LABELS, verbose=0)


# --- errors -------------------------------------------------------------------------


def refused(call: Any, *parts: str) -> None:
    with pytest.raises(graphc.GraphcError) as found:
        call()
    text = str(found.value)
    for part in (*parts, "--> test_fit.py:"):
        assert part in text, text


@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_a_model_that_is_not_compiled_is_refused(method: str) -> None:
    model = nn.Sequential([nn.Dense(1)])
    refused(
        lambda: getattr(model, method)(COUNT, COUNT),
        f"{method}: the model is not compiled",
        "help: call model.compile(",
    )


def test_lengths_that_differ_are_refused(backend: str) -> None:
    model = classifier(backend)
    refused(
        lambda: model.fit(XS, LABELS[:-1]),
        "fit: x has 50 samples, y has 49",
        "help: give one y for each x",
    )
    assert not model.built


@pytest.mark.parametrize(("label", "shown"), [(3, "3"), (-1, "-1")])
def test_labels_out_of_range_are_refused(backend: str, label: int, shown: str) -> None:
    model = classifier(backend)
    wrong = LABELS.copy()
    wrong[7] = label
    refused(
        lambda: model.fit(XS, wrong),
        f"fit: y has the label {shown}, the model has 3 outputs",
        "for the labels 0 to 2",
        "help: count labels from 0",
    )
    assert not model.built


def test_labels_of_the_validation_data_are_checked_before_training(
    backend: str,
) -> None:
    model = classifier(backend)
    model.build((None, 6))
    before = bits(model)
    refused(
        lambda: model.fit(XS, LABELS, validation_data=(XS, LABELS + 1)),
        "fit: validation_data: y has the label 3",
    )
    assert bits(model) == before


def test_labels_that_are_no_ints_are_refused(backend: str) -> None:
    refused(
        lambda: classifier(backend).fit(XS, LABELS + 0.5),
        "y is an array of float64 with shape [50], not of labels",
    )


def test_binary_labels_out_of_range_are_refused(backend: str) -> None:
    model = line_model(backend, loss="binary_crossentropy")
    refused(
        lambda: model.fit(COUNT, COUNT * 3 - 1),
        "fit: y has the value -1, binary_crossentropy takes 0 to 1",
    )


def test_one_hot_rows_of_another_width_are_refused(backend: str) -> None:
    model = classifier(backend)
    refused(
        lambda: model.fit(XS, np.eye(4)[LABELS]),
        "labels y f32[N,4] do not fit predictions",
    )
    assert not model.built


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
def test_samples_of_another_shape_are_refused(backend: str, method: str) -> None:
    model = classifier(backend)
    model.fit(XS, LABELS, verbose=0)
    rest = () if method == "predict" else (LABELS,)
    refused(
        lambda: getattr(model, method)(XS[:, :5], *rest),
        f"{method}: x has the shape [50, 5], the model takes [N, 6]",
        "help: give samples of shape [6]",
    )


@pytest.mark.parametrize("method", ["predict", "evaluate", "fit"])
def test_empty_data_are_refused(backend: str, method: str) -> None:
    model = classifier(backend)
    rest = () if method == "predict" else (LABELS[:0],)
    refused(
        lambda: getattr(model, method)(XS[:0], *rest),
        f"{method}: x is empty: its shape is [0, 6]",
        "help: give at least one sample",
    )


def test_data_that_are_no_numbers_are_refused(backend: str) -> None:
    model = classifier(backend)
    refused(
        lambda: model.fit([["a"]], [0]), "fit: x is an array of <U1, not of numbers"
    )
    refused(lambda: model.fit([[1.0], [1.0, 2.0]], [0, 1]), "fit: x is no array:")


def test_samples_without_features_are_refused(backend: str) -> None:
    refused(
        lambda: classifier(backend).fit(XS[:, 0], LABELS),
        "dense_1: x is f32[N], it needs a batch axis and a feature axis",
    )


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"optimizer": "adm"}, ["unknown optimizer 'adm'", "use one of adam, sgd"]),
        ({"loss": "mes"}, ["unknown loss 'mes'", "mean_squared_error, mse"]),
        ({"metrics": ["f1"]}, ["unknown metric 'f1'", "acc, accuracy"]),
        ({"loss": None}, ["a loss is needed", "binary_crossentropy"]),
        ({"metrics": ["mse", "mse"]}, ["two metrics have one name"]),
        ({"metrics": [3]}, ["the metric must be a name or a function, not 3"]),
    ],
)
def test_compile_refuses_what_it_does_not_know(
    backend: str, options: Any, parts: list[str]
) -> None:
    refused(lambda: classifier(backend, **options), *parts)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"batch_size": 0}, "batch_size must be a positive int, not 0"),
        ({"epochs": 1.5}, "epochs must be a positive int, not 1.5"),
        ({"verbose": 3}, "verbose must be 'auto', 0, 1 or 2, not 3"),
        ({"validation_split": 1.0}, "validation_split must be in [0, 1)"),
        ({"validation_split": 0.01}, "leaves none to validate on"),
        ({"validation_data": XS}, "validation_data must be a pair (x, y)"),
    ],
)
def test_fit_refuses_options_out_of_range(
    backend: str, options: Any, part: str
) -> None:
    refused(lambda: classifier(backend).fit(XS, LABELS, **options), part)


def test_a_loss_that_is_no_tensor_is_refused(backend: str) -> None:
    model = line_model(backend, loss=lambda y_true, y_pred: 0.0)
    refused(lambda: model.fit(COUNT, COUNT), "the function 'loss' returned 0.0")


def test_two_models_train_in_one_step_under_two_names(backend: str) -> None:
    x = graphc.input("x", ("N", 6))
    one, two = (nn.Sequential([nn.Dense(1)], name=name) for name in ("one", "two"))
    loss = graphc.mean((one(x) - two(x)) ** 2.0)
    updates = optim.Adam().updates(loss)
    step = graphc.compile([x], loss, updates, backend=backend)
    assert step(XS) > step(XS)


def test_a_backend_that_is_unknown_leaves_the_model_unbuilt() -> None:
    model = classifier("abacus")
    with pytest.raises(graphc.GraphcError, match="unknown backend 'abacus'"):
        model.fit(XS, LABELS, verbose=0)
    assert not model.built
