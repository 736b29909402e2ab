"""Models in files: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import graphc
from graphc import nn, optim
from graphc.errors import ModelFileError

RANDOM = np.random.default_rng(5)
X = RANDOM.normal(size=(30, 4)).astype(np.float32)
Y = RANDOM.integers(0, 3, 30)


def make(
    backend: str,
    units: int = 5,
    optimizer: Any = "adam",
    last: Callable[[], nn.Layer] = lambda: nn.Dense(3, activation="softmax"),
) -> nn.Sequential:
    model = nn.Sequential([nn.Dense(units, activation="relu"), nn.Dropout(0.2), last()])
    model.compile(optimizer, "categorical_crossentropy", backend=backend)
    return model


@pytest.fixture
def trained(backend: str) -> nn.Sequential:
    model = make(backend)
    model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    return model


@pytest.fixture
def saved(trained: nn.Sequential, tmp_path: Path) -> Path:
    path = tmp_path / "m.safetensors"
    trained.save(path)
    return path


def bits(model: nn.Sequential) -> dict[str, bytes]:
    return {s.name: s.value.tobytes() for s in model.states}


def refused(model: nn.Sequential, path: Any, *parts: str) -> None:
    """Check that a file is refused and that the model stays as it was."""
    before, was_built = bits(model), model.built
    with pytest.raises(ModelFileError) as found:
        model.load(path)
    for part in (*parts, "--> test_storage.py:"):
        assert part in str(found.value), found.value
    assert bits(model) == before
    assert model.built == was_built


# --- saving and loading -------------------------------------------------------------


@pytest.mark.parametrize("built", [False, True])
def test_a_model_is_what_it_was_when_saved(
    trained: nn.Sequential, saved: Path, backend: str, built: bool
) -> None:
    other = make(backend)
    if built:
        other.build((None, 4))
    other.load(saved)
    assert bits(other) == bits(trained)
    assert (other.predict(X) == trained.predict(X)).all()


def test_training_goes_on_as_if_it_had_not_stopped(
    trained: nn.Sequential, saved: Path, backend: str
) -> None:
    other = make(backend)
    other.load(str(saved))
    for model in (trained, other):
        model.fit(X, Y, epochs=2, verbose=0, shuffle=False)
    assert bits(other) == bits(trained)
    assert other.optimizer.t.value == 4


def test_a_file_holds_states_by_name_and_can_be_read_by_others(saved: Path) -> None:
    arrays = load_file(saved)
    assert arrays["dense_1/kernel"].shape == (4, 5)
    assert arrays["dropout_1/step"] == 2
    assert arrays["optimizer/t"] == 2
    assert arrays["optimizer/dense_1/kernel/m"].shape == (4, 5)


def test_the_optimizer_may_be_left_out(trained: nn.Sequential, tmp_path: Path) -> None:
    trained.save(tmp_path / "m", include_optimizer=False)
    assert set(load_file(tmp_path / "m")) == {s.name for s in trained.states}


def test_weights_are_read_without_compile_or_with_another_optimizer(
    trained: nn.Sequential, saved: Path, backend: str
) -> None:
    other = make(backend, optimizer=optim.SGD(0.1, momentum=0.9))
    other.load_weights(saved)
    assert bits(other) == bits(trained)
    plain = nn.Sequential(
        [nn.Dense(5, activation="relu"), nn.Dropout(0.2), nn.Dense(3)]
    )
    plain.load(saved)
    assert bits(plain) == bits(trained)


def test_saving_replaces_a_file_and_leaves_nothing_else(
    trained: nn.Sequential, saved: Path
) -> None:
    old = saved.read_bytes()
    trained.fit(X, Y, verbose=0)
    trained.save(saved)
    assert saved.read_bytes() != old
    assert os.listdir(saved.parent) == [saved.name]


# --- failures -----------------------------------------------------------------------


def test_a_failed_save_leaves_the_old_file(
    trained: nn.Sequential, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = saved.read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ModelFileError, match="cannot be written: No space left"):
        trained.save(saved)
    assert saved.read_bytes() == old
    assert os.listdir(saved.parent) == [saved.name]


def test_a_folder_that_does_not_exist_is_named(
    trained: nn.Sequential, tmp_path: Path
) -> None:
    with pytest.raises(ModelFileError, match="check that the folder exists"):
        trained.save(tmp_path / "no" / "m.safetensors")


def test_a_model_without_weights_is_not_saved(backend: str, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="the model has no weights yet"):
        make(backend).save(tmp_path / "m")


@pytest.mark.parametrize("built", [False, True])
@pytest.mark.parametrize("where", [0, 9, 40, 900, -300, -1])
def test_a_flipped_bit_is_noticed(
    saved: Path, backend: str, where: int, built: bool
) -> None:
    content = bytearray(saved.read_bytes())
    content[where] ^= 4
    saved.write_bytes(content)
    model = make(backend)
    if built:
        model.build((None, 4))
    refused(model, saved, f"load: {saved}")


@pytest.mark.parametrize("length", [0, 4, 100, -1])
def test_a_file_cut_short_is_noticed(saved: Path, backend: str, length: int) -> None:
    saved.write_bytes(saved.read_bytes()[:length])
    refused(make(backend), saved, "is damaged", "help: ")


def test_a_file_that_does_not_exist_is_named(backend: str, tmp_path: Path) -> None:
    refused(make(backend), tmp_path / "m", "m does not exist")
    refused(make(backend), tmp_path, "is damaged")


def test_a_pickle_is_refused(backend: str, tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.array([{}], object), allow_pickle=True)
    refused(make(backend), tmp_path / "m.npy", "is damaged")


def test_a_file_of_someone_else_is_refused(backend: str, tmp_path: Path) -> None:
    save_file({"dense_1/kernel": np.zeros((4, 5))}, tmp_path / "m")
    refused(make(backend), tmp_path / "m", "is no model of this version of graphc")


def test_a_file_of_another_version_is_refused(saved: Path, backend: str) -> None:
    with safe_open(saved, framework="numpy") as file:
        about = {**file.metadata(), "version": "2"}
    save_file(load_file(saved), saved, metadata=about)
    refused(make(backend), saved, "it says graphc-model, 2; expected graphc-model, 1")


def test_other_layers_are_refused(saved: Path, backend: str) -> None:
    refused(
        make(backend, last=nn.Flatten),
        saved,
        "is of another model",
        "file : dense_1 (Dense), dropout_1 (Dropout), dense_2 (Dense)",
        "model: dense_1 (Dense), dropout_1 (Dropout), flatten_1 (Flatten)",
    )


@pytest.mark.parametrize("built", [False, True])
def test_other_sizes_are_refused(saved: Path, backend: str, built: bool) -> None:
    model = make(backend, units=6)
    if built:
        model.build((None, 4))
    refused(
        model,
        saved,
        "does not fit the model",
        "dense_1/kernel: float32 [4, 5] in the file, f32[4,6] in the model",
    )


def test_states_that_are_missing_are_named(saved: Path, backend: str) -> None:
    refused(
        make(backend, last=lambda: nn.Dense(3, use_bias=False)),
        saved,
        "dense_2/bias: not in the model",
    )


def test_a_failure_between_two_states_rolls_back(
    trained: nn.Sequential, saved: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make(backend)
    model.build((None, 4))
    before = bits(model)
    setter: Any = graphc.Parameter.value
    count = 0

    def interrupted(state: graphc.Parameter, new: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        setter.fset(state, new)

    monkeypatch.setattr(graphc.Parameter, "value", setter.setter(interrupted))
    with pytest.raises(KeyboardInterrupt):
        model.load(saved)
    assert bits(model) == before
