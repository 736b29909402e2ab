"""Sequential as a layer: names, seeds, parameters, summary."""

from __future__ import annotations

import numpy as np
import pytest

import graphc
from graphc import nn


def model(seed: int | None = None, name: str | None = None) -> nn.Sequential:
    return nn.Sequential(
        [nn.Dense(3, activation="relu"), nn.Dropout(0.5), nn.Dense(2)],
        seed=seed,
        name=name,
    )


def test_layers_are_numbered_within_the_model() -> None:
    for _ in range(2):
        made = model()
        assert [layer.name for layer in made.layers] == [
            "dense_1",
            "dropout_1",
            "dense_2",
        ]


def test_the_same_model_has_the_same_initial_values() -> None:
    values = []
    for seed in (None, 0, 1):
        made = model(seed)
        made.build((None, 4))
        values.append(made.parameters[0].value)
    assert (values[0] == values[1]).all()
    assert (values[0] != values[2]).any()


def test_parameters_and_states_are_listed_in_order() -> None:
    made = model()
    assert (made.parameters, made.built) == ([], False)
    made.build((None, 4))
    assert [s.name for s in made.states] == [
        "dense_1/kernel",
        "dense_1/bias",
        "dropout_1/step",
        "dense_2/kernel",
        "dense_2/bias",
    ]
    assert len(made.parameters) == 4


def test_a_named_model_prefixes_its_parameters() -> None:
    made = model(name="critic")
    made.build((None, 4))
    assert made.parameters[0].name == "critic/dense_1/kernel"
    assert made.parameters[0].node.birth.scope == ("critic", "dense_1")


def test_a_model_is_a_layer() -> None:
    inner = nn.Sequential([nn.Dense(3)])
    outer = nn.Sequential([inner, nn.Dense(2)], seed=5)
    x = graphc.input("x", ("N", 4))
    assert str(outer(x).type) == "f32[N,2]"
    assert [p.name for p in outer.parameters[::2]] == [
        "sequential_1/dense_1/kernel",
        "dense_1/kernel",
    ]
    assert inner.layers[0].seed == 5


def test_a_layer_may_be_shared() -> None:
    shared = nn.Dense(4)
    made = nn.Sequential([shared, nn.Activation("relu"), shared])
    made.build((None, 4))
    assert len(made.parameters) == 2


def test_training_and_inference_are_two_graphs_over_the_same_states() -> None:
    made = model()
    x = graphc.input("x", ("N", 4))
    train, infer = made(x, training=True), made(x)
    assert set(graphc.state_updates(train)) == {made.layers[1].states[0]}
    assert graphc.state_updates(infer) == {}


def test_build_drops_what_it_made_when_it_fails() -> None:
    made = nn.Sequential([nn.Dense(3), nn.Dense(2, kernel_initializer="ortho")])
    with pytest.raises(graphc.GraphcError, match="unknown init 'ortho'"):
        made.build((None, 4))
    assert made.states == []
    assert made.input_type is None


def test_build_refuses_a_shape_without_features() -> None:
    with pytest.raises(graphc.GraphcError, match=r"write \(None, 784\)"):
        model().build((None, None))


def test_a_model_without_layers_is_refused() -> None:
    with pytest.raises(graphc.GraphcError, match="the model has no layers"):
        nn.Sequential()(graphc.input("x", ("N", 4)))


def test_two_layers_of_one_name_are_refused() -> None:
    with pytest.raises(graphc.GraphcError, match="two layers are named 'a'"):
        nn.Sequential([nn.Dense(3, name="a"), nn.Dense(3, name="a")])


def test_a_given_name_is_not_taken_again() -> None:
    made = nn.Sequential([nn.Dense(3, name="dense_1"), nn.Dense(3)])
    assert [layer.name for layer in made.layers] == ["dense_1", "dense_2"]


def test_what_is_no_layer_is_refused() -> None:
    with pytest.raises(graphc.GraphcError, match=r"wrap a function as nn\.Activation"):
        nn.Sequential([graphc.relu])  # type: ignore[list-item]


def test_summary_shows_layers_shapes_and_totals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = model()
    made.summary()
    before = capsys.readouterr().out
    assert "dense_1 (Dense)" in before
    assert "Not built yet" in before
    made.build((None, 4))
    made.summary()
    after = capsys.readouterr().out
    assert "(N, 3)" in after
    assert "Total parameters: 24" in after
    assert "Trainable: 23" in after
    assert "Not trainable: 1" in after


def test_forward_pass_is_the_composition_of_the_layers() -> None:
    made = model()
    x = graphc.input("x", ("N", 4))
    y = made(x)
    xs = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    w1, b1, w2, b2 = (p.value for p in made.parameters)
    want = np.maximum(xs @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(graphc.evaluate(y, {x: xs}), want, rtol=1e-5, atol=1e-6)
