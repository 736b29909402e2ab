"""Recurrent layers: against plain loops, lengths, directions, states, training."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import graphc
from graphc import nn

Array = np.ndarray[Any, Any]

N, T, D, UNITS = 3, 5, 4, 2

# (name, layer, what its cell is given): every cell with both conventions of biases.
LAYERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "rnn": (nn.SimpleRNN, {}),
    "rnn_relu_no_bias": (nn.SimpleRNN, {"activation": "softsign", "use_bias": False}),
    "rnn_two_biases": (nn.SimpleRNN, {"use_recurrent_bias": True}),
    "lstm": (nn.LSTM, {}),
    "lstm_two_biases": (nn.LSTM, {"use_recurrent_bias": True}),
    "gru_reset_after": (nn.GRU, {}),
    "gru_reset_after_one_bias": (nn.GRU, {"use_recurrent_bias": False}),
    "gru_reset_before": (nn.GRU, {"reset_after": False}),
    "gru_reset_before_two_biases": (
        nn.GRU,
        {"reset_after": False, "use_recurrent_bias": True},
    ),
}


@pytest.fixture(params=LAYERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def make(kind: str, **options: Any) -> Any:
    layer, given = LAYERS[kind]
    return layer(UNITS, **given, **options, name="r")


# --- the published equations, step by step ------------------------------------------


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def plain_step(kind: str, w: dict[str, Array], x: Array, states: list[Array]) -> Any:
    """Return the new states of one step; x [N, D]."""
    u = UNITS
    wx, wh = w["kernel"], w["recurrent_kernel"]
    zero = np.zeros(wx.shape[1])
    b, c = w.get("bias", zero), w.get("recurrent_bias", zero)
    cut = [slice(i * u, (i + 1) * u) for i in range(wx.shape[1] // u)]
    h = states[0]
    if kind.startswith("rnn"):
        y = x @ wx + b + h @ wh + c
        return [y / (1 + abs(y)) if "relu" in kind else np.tanh(y)]
    if kind.startswith("lstm"):
        i, f, g, o = (x @ wx[:, s] + b[s] + h @ wh[:, s] + c[s] for s in cut)
        new = sigmoid(f) * states[1] + sigmoid(i) * np.tanh(g)
        return [sigmoid(o) * np.tanh(new), new]
    z, r = (sigmoid(x @ wx[:, s] + b[s] + h @ wh[:, s] + c[s]) for s in cut[:2])
    s = cut[2]
    after, before = r * (h @ wh[:, s] + c[s]), (r * h) @ wh[:, s] + c[s]
    inner = after if "after" in kind else before
    g = np.tanh(x @ wx[:, s] + b[s] + inner)
    return [z * h + (1 - z) * g]


def plain(
    kind: str,
    w: dict[str, Array],
    x: Array,
    states: Sequence[Array],
    runs: Array | None = None,
    backwards: bool = False,
) -> tuple[Array, list[Array]]:
    """Return all outputs, in the order of x, and the states at the end."""
    states = list(states)
    runs = np.ones(x.shape[:2], bool) if runs is None else runs
    ys = np.zeros((*x.shape[:2], UNITS))
    order = range(x.shape[1])
    for t in reversed(order) if backwards else order:
        new = plain_step(kind, w, x[:, t], states)
        for n in range(len(x)):
            if runs[n, t]:
                for old, now in zip(states, new, strict=True):
                    old[n] = now[n]
                ys[n, t] = new[0][n]
    return ys, states


def starts(layer: Any, rng: Any | None = None, rows: int = N) -> list[Array]:
    sizes = layer.cell.state_sizes
    if rng is None:
        return [np.zeros((rows, s)) for s in sizes]
    return [rng.normal(size=(rows, s)) for s in sizes]


def sequences() -> graphc.Tensor:
    return graphc.input("x", ("N", "T", D), "float64")


def shaken(layer: Any, rng: Any) -> dict[str, Array]:
    """Give every parameter a value of its own; returns them by their last name."""
    for p in layer.parameters:
        p.value = rng.normal(size=p.shape, scale=0.7)
    return {p.name.split("/")[-1]: p.value for p in layer.parameters}


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_values_are_those_of_a_plain_loop(kind: str, backend: str) -> None:
    rng = np.random.default_rng(0)
    layer = make(kind, return_sequences=True, return_state=True)
    x = sequences()
    outputs = layer(x)
    w = shaken(layer, rng)
    assert ("recurrent_bias" in w) == ("two" in kind or kind == "gru_reset_after")
    step = graphc.compile([x], list(outputs), backend=backend)
    for n, t in ((N, T), (1, 1), (17, 3)):
        xs = rng.normal(size=(n, t, D))
        ys, states = plain(kind, w, xs, starts(layer, rows=n))
        for found, want in zip(step(xs), [ys, *states], strict=True):
            np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-13)


def test_gradients_are_those_of_finite_differences(kind: str) -> None:
    rng = np.random.default_rng(1)
    layer = make(kind, return_sequences=True, return_state=True)
    x = graphc.input("x", (N, T, D), "float64")
    start = [
        graphc.input(f"s{i}", (N, UNITS), "float64")
        for i in range(len(layer.cell.state_sizes))
    ]
    lengths = graphc.input("lengths", (N,), "int32")
    ys, *states = layer(x, initial_state=start, lengths=lengths)
    weights = [rng.normal(size=(N, T, UNITS)), *(rng.normal(size=(N, UNITS)),) * 2]
    parts = [ys, *states]
    loss = sum(
        graphc.sum(graphc.constant(a) * p) for a, p in zip(weights, parts, strict=False)
    )
    w = shaken(layer, rng)
    parameters = layer.parameters
    targets = [x, *start, *parameters]
    step = graphc.compile([x, *start, lengths], graphc.grad(loss, targets))
    values = [rng.normal(size=(N, T, D)), *starts(layer, rng)]
    ns = np.array([5, 2, 0], np.int32)
    found = step(*values, ns)

    def run(values: list[Array]) -> float:
        cut = len(start) + 1
        names = [p.name.split("/")[-1] for p in parameters]
        w_now = dict(zip(names, values[cut:], strict=True))
        runs = np.arange(T) < ns[:, None]
        begun = [s.copy() for s in values[1:cut]]
        out, ends = plain(kind, w_now, values[0], begun, runs)
        pairs = zip(weights, [out, *ends], strict=False)
        return float(sum((a * p).sum() for a, p in pairs))

    values += [w[p.name.split("/")[-1]].copy() for p in parameters]
    for value, gradient in zip(values, found, strict=True):
        assert np.abs(gradient).max() > 1e-3
        for _ in range(4):
            way = rng.normal(size=value.shape)
            value += 1e-6 * way
            above = run(values)
            value -= 2e-6 * way
            below = run(values)
            value += 1e-6 * way
            slope = (above - below) / 2e-6
            assert (gradient * way).sum() == pytest.approx(slope, rel=1e-6, abs=1e-7)


# --- lengths, masks, directions, states ---------------------------------------------


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("how", ["lengths", "mask", "gaps"])
def test_where_there_is_no_step_the_states_stay(how: str, backwards: bool) -> None:
    rng = np.random.default_rng(2)
    runs = np.arange(T) < np.array([5, 3, 0])[:, None]
    if how == "gaps":
        runs = np.array([[1, 0, 1, 1, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 0]], bool)
    layer = make(
        "lstm", return_sequences=True, return_state=True, go_backwards=backwards
    )
    x = sequences()
    if how == "lengths":
        given = graphc.input("lengths", ("N",), "int32")
        outputs = layer(x, lengths=given)
    else:
        given = graphc.input("mask", ("N", "T"), "bool")
        outputs = layer(x, mask=given)
    w = shaken(layer, rng)
    step = graphc.compile([x, given], list(outputs))
    xs = rng.normal(size=(N, T, D))
    xs[~runs] = 50  # is not read
    found = step(xs, runs.sum(1).astype(np.int32) if how == "lengths" else runs)
    ys, states = plain("lstm", w, xs, starts(layer), runs, backwards)
    wanted = [ys[:, ::-1] if backwards else ys, *states]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    assert (found[1][2] == 0).all()  # a sequence of no steps


def test_without_return_sequences_the_output_is_the_last_one(kind: str) -> None:
    rng = np.random.default_rng(3)
    layer = make(kind)
    x, lengths = sequences(), graphc.input("lengths", ("N",), "int32")
    y = layer(x, lengths=lengths)
    w = shaken(layer, rng)
    xs, ns = rng.normal(size=(N, T, D)), np.array([5, 1, 2], np.int32)
    ys, _ = plain(kind, w, xs, starts(layer), np.arange(T) < ns[:, None])
    found = graphc.evaluate(y, {x: xs, lengths: ns})
    np.testing.assert_allclose(found, ys[np.arange(N), ns - 1], rtol=1e-12)


def test_padding_changes_nothing(kind: str) -> None:
    rng = np.random.default_rng(4)
    layer = make(kind, return_state=True)
    x, lengths = sequences(), graphc.input("lengths", ("N",), "int32")
    outputs = layer(x, lengths=lengths)
    step = graphc.compile([x, lengths], list(outputs))
    xs = rng.normal(size=(N, T, D))
    padded = np.concatenate([xs, np.full((N, 7, D), np.nan)], axis=1)
    whole = np.full(N, T, np.int32)
    for a, b in zip(step(xs, whole), step(padded, whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_states_at_the_end_continue_a_sequence(kind: str) -> None:
    rng = np.random.default_rng(5)
    layer = make(kind, return_sequences=True, return_state=True)
    x = sequences()
    first, *states = layer(x[:, :2])
    second, *_ = layer(x[:, 2:], initial_state=states)
    whole, *_ = layer(x)
    shaken(layer, rng)
    joined = graphc.concatenate([first, second], axis=1)
    xs = rng.normal(size=(N, T, D))
    found, want = graphc.evaluate([joined, whole], {x: xs})
    np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.parametrize("mode", ["concat", "sum", "mul", "ave", None])
@pytest.mark.parametrize("sequences_too", [True, False])
def test_bidirectional_is_a_layer_each_way(
    mode: str | None, sequences_too: bool
) -> None:
    rng = np.random.default_rng(6)
    inner = nn.LSTM(UNITS, return_sequences=sequences_too, return_state=True)
    both = nn.Bidirectional(inner, merge_mode=mode, name="b")
    x, lengths = sequences(), graphc.input("lengths", ("N",), "int32")
    outputs = both(x, lengths=lengths)
    one = shaken(both.forward_layer, rng)
    two = shaken(both.backward_layer, rng)
    assert both.parameters[0].name == "b/forward_lstm/lstm_cell/kernel"
    assert both.parameters[3].name == "b/backward_lstm/lstm_cell/kernel"
    xs, ns = rng.normal(size=(N, T, D)), np.array([5, 1, 3], np.int32)
    runs = np.arange(T) < ns[:, None]
    ahead, ahead_states = plain("lstm", one, xs, starts(both.forward_layer), runs)
    back, back_states = plain("lstm", two, xs, starts(inner), runs, backwards=True)
    if not sequences_too:
        ahead, back = ahead_states[0], back_states[0]
    merged = {
        "concat": [np.concatenate([ahead, back], -1)],
        "sum": [ahead + back],
        "mul": [ahead * back],
        "ave": [(ahead + back) / 2],
        None: [ahead, back],
    }[mode]
    found = graphc.compile([x, lengths], list(outputs))(xs, ns)
    wanted = [*merged, *ahead_states, *back_states]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_bidirectional_takes_the_states_of_both_ways() -> None:
    rng = np.random.default_rng(7)
    both = nn.Bidirectional(nn.GRU(UNITS), name="b")
    x = sequences()
    start = [graphc.constant(rng.normal(size=(N, UNITS))) for _ in range(2)]
    y = both(x[:N], initial_state=start)
    want = graphc.concatenate(
        [
            layer((x[:N]), initial_state=s)
            for layer, s in zip(
                (both.forward_layer, both.backward_layer), start, strict=True
            )
        ],
        axis=-1,
    )
    found = graphc.evaluate([y, want], {x: rng.normal(size=(N, T, D))})
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)


# --- cells by themselves ------------------------------------------------------------


@pytest.mark.parametrize("cell", [nn.SimpleRNNCell, nn.LSTMCell, nn.GRUCell])
def test_a_cell_alone_in_a_scan_is_the_layer(cell: Any) -> None:
    rng = np.random.default_rng(8)
    own = cell(UNITS, name="cell")
    x = sequences()
    layer = nn.RNN(own, return_sequences=True, return_state=True)
    outputs = layer(x)
    start = own.initial_state(x.shape[0], "float64")
    states, ys = graphc.scan(own.step, start, graphc.swapaxes(x, 0, 1))
    xs = rng.normal(size=(N, T, D))
    looped = [graphc.swapaxes(ys, 0, 1), *states]
    for a, b in zip(outputs, looped, strict=True):
        found = graphc.evaluate([a, b], {x: xs})
        np.testing.assert_array_equal(found[0], found[1])


def test_a_cell_takes_one_step() -> None:
    rng = np.random.default_rng(9)
    cell = nn.GRUCell(UNITS, name="cell")
    x = graphc.input("x", ("N", D), "float64")
    y, (h,) = cell(x, cell.initial_state(x.shape[0], "float64"))
    assert y is h
    w = shaken(cell, rng)
    xs = rng.normal(size=(N, D))
    (want,) = plain_step("gru_reset_after", w, xs, [np.zeros((N, UNITS))])
    np.testing.assert_allclose(graphc.evaluate(y, {x: xs}), want, rtol=1e-12)


def test_the_forget_gate_starts_open() -> None:
    x = sequences()
    opened, closed = nn.LSTM(UNITS), nn.LSTM(UNITS, unit_forget_bias=False)
    opened(x)
    closed(x)
    assert opened.cell.bias.value.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert closed.cell.bias.value.tolist() == [0] * 8


def test_recurrent_kernels_start_orthogonal() -> None:
    layer = nn.GRU(4)
    layer(sequences())
    kernel = layer.cell.recurrent_kernel.value
    np.testing.assert_allclose(kernel @ kernel.T, np.eye(4), atol=1e-6)
    tall = graphc.parameter("tall", (6, 3), "orthogonal").value
    np.testing.assert_allclose(tall.T @ tall, np.eye(3), atol=1e-6)
    other = graphc.parameter("tall", (6, 3), "orthogonal", seed=1).value
    assert (tall != other).any()


# --- dropout ------------------------------------------------------------------------


def counting(rate: str) -> tuple[Any, Any, Any]:
    """Return a step of training whose states grow by the state's own share kept."""
    layer = nn.SimpleRNN(
        50,
        activation=None,
        kernel_initializer="ones",
        recurrent_initializer=np.eye(50),
        return_sequences=True,
        name="r",
        **{rate: 0.5},
    )
    x = graphc.input("x", ("N", "T", 1))
    y = layer(x, training=True)
    updates = graphc.state_updates(y)
    return layer, updates, graphc.compile([x], y, updates)


def test_recurrent_dropout_draws_anew_at_each_step_and_each_call() -> None:
    layer, updates, step = counting("recurrent_dropout")
    assert [s.node.attrs.name for s in updates] == ["r/simple_rnn_cell/step"]
    xs = np.zeros((2, 6, 1), np.float32)
    xs[:, 0] = 1  # h is 1 after the first step, then 2 or 0 times what it was
    first, second = step(xs), step(xs)
    kept = first[:, 1:] != 0
    alive = first[:, :-1] != 0
    share = kept[alive].mean()
    assert 0.35 < share < 0.65
    assert (first[:, 1] == np.where(kept[:, 0], 2, 0)).all()
    assert (kept[0, 0] != kept[1, 0]).any()  # another draw for each sequence
    assert (first != second).any()  # and in each step of training
    # At each step some of what is left goes: with one draw for all none would.
    assert ((first[:, 1] != 0) & (first[:, 2] == 0)).any()
    assert layer.cell.counter.value == 2


def test_dropout_drops_inputs_anew_at_each_step() -> None:
    layer, updates, step = counting("dropout")
    assert [s.node.attrs.name for s in updates] == ["r/step"]
    sums = step(np.ones((20, 10, 1), np.float32))[..., 0]
    added = np.diff(sums, prepend=0)
    assert set(np.unique(added)) == {0.0, 2.0}
    assert 0.35 < (added > 0).mean() < 0.65
    assert (np.ptp(added, axis=1) > 0).all()
    assert [s.name for s in layer.states][-1] == "r/step"


def test_nothing_is_dropped_outside_of_training(kind: str) -> None:
    rng = np.random.default_rng(10)
    layer = make(kind, dropout=0.5, recurrent_dropout=0.5)
    x = sequences()
    y = layer(x)
    w = shaken(layer, rng)
    assert graphc.state_updates(y) == {}
    xs = rng.normal(size=(N, T, D))
    ys, _ = plain(kind, w, xs, starts(layer))
    np.testing.assert_allclose(graphc.evaluate(y, {x: xs}), ys[:, -1], rtol=1e-12)


def test_gradients_with_dropout_are_those_of_the_same_draw() -> None:
    rng = np.random.default_rng(11)
    layer = make("lstm", dropout=0.3, recurrent_dropout=0.4)
    x = sequences()
    loss = graphc.sum(layer(x, training=True) ** 2)
    gradient = graphc.grad(loss, x)
    step = graphc.compile([x], [loss, gradient])  # no updates: one draw for ever
    xs, way = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, D))
    above, below = step(xs + 1e-6 * way)[0], step(xs - 1e-6 * way)[0]
    found = (step(xs)[1] * way).sum()
    assert found == pytest.approx((above - below) / 2e-6, rel=1e-6)
    assert found != 0


def test_a_layer_in_a_cell_that_counts_is_counted_once_a_call() -> None:
    class Noisy(nn.Cell):
        state_sizes = (3,)

        def __init__(self) -> None:
            super().__init__()
            self.drop = nn.Dropout(0.5, name="drop")

        def call(self, x: Any, states: Any, training: bool) -> Any:
            return (states[0] + self.drop(x, training=training),)

    layer = nn.RNN(Noisy(), name="r")
    x = graphc.input("x", ("N", "T", 3))
    y = layer(x, training=True)
    step = graphc.compile([x], y, graphc.state_updates(y))
    ones = np.ones((4, 8, 3), np.float32)
    assert (step(ones) != step(ones)).any()


# --- in models ----------------------------------------------------------------------


def test_a_model_learns_which_symbol_came_first() -> None:
    rng = np.random.default_rng(12)
    words = rng.integers(0, 4, size=(256, 8)).astype(np.int32)
    model = nn.Sequential(
        [
            nn.Embedding(4, 8),
            nn.Bidirectional(nn.GRU(12, return_sequences=True)),
            nn.LSTM(12, dropout=0.1, go_backwards=True),
            nn.Dense(4, activation="softmax"),
        ],
        seed=0,
    )
    model.compile(
        optimizer=graphc.optim.Adam(0.02),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    history = model.fit(words, words[:, 0], epochs=12, verbose=0).history
    assert history["accuracy"][0] < 0.7
    assert model.evaluate(words, words[:, 0], verbose=0)[1] > 0.95


def test_a_model_is_summarised_saved_and_loaded(
    tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    def make_model(seed: int) -> nn.Sequential:
        layers = [nn.LSTM(3, return_sequences=True, dropout=0.1), nn.GRU(2)]
        return nn.Sequential([nn.Bidirectional(layers[0]), layers[1]], seed=seed)

    model, other = make_model(0), make_model(1)
    xs = np.random.default_rng(0).normal(size=(4, 5, 2)).astype(np.float32)
    for each in (model, other):
        each.build((None, 5, 2))
    model.summary()
    printed = capsys.readouterr().out
    assert "bidirectional_1 (Bidirectional)" in printed
    assert "(N, 5, 6)" in printed
    each_way = 4 * 3 * (2 + 3 + 1)
    assert f"{2 * each_way + 2:,}" in printed  # and a counter each way
    assert (model.predict(xs, verbose=0) != other.predict(xs, verbose=0)).any()
    model.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        model.predict(xs, verbose=0), other.predict(xs, verbose=0)
    )


def test_a_model_that_is_made_again_is_the_same() -> None:
    def kernel() -> Any:
        model = nn.Sequential([nn.LSTM(3), nn.Dense(1)], seed=3)
        model.build((None, 5, 2))
        return model.parameters[0]

    assert kernel().name == "lstm_1/lstm_cell/kernel"
    assert (kernel().value == kernel().value).all()
    other = nn.Sequential([nn.LSTM(3), nn.Dense(1)], seed=4)
    other.build((None, 5, 2))
    assert (kernel().value != other.parameters[0].value).any()


def test_a_layer_that_is_forgotten_makes_its_parameters_anew() -> None:
    both = nn.Bidirectional(nn.LSTM(3), name="b")
    both(sequences())
    old = both.parameters
    both.forget()
    assert both.parameters == []
    both(graphc.input("x", ("N", "T", 7)))
    assert both.parameters[0].shape == (7, 12)
    assert old[0].shape == (D, 12)


def test_ints_are_made_floats() -> None:
    layer = nn.SimpleRNN(3)
    x = graphc.input("x", ("N", "T", 2), "int32")
    assert str(layer(x).type) == "f32[N,3]"


def test_products_with_the_input_are_outside_of_the_loop() -> None:
    layer = nn.LSTM(3)
    x = graphc.input("x", ("N", "T", 2))
    step = graphc.compile([x], layer(x), backend="reference")
    (loop,) = (n for n in step.graph.nodes if n.op.name == "scan")
    inner = str(step.graph).split("scan(")[1]
    assert inner.count("matmul(") == 1  # h U alone
    assert loop.attrs.length == x.shape[1]


def test_a_thousand_steps_are_the_same_program_as_ten() -> None:
    def program(steps: int) -> str:
        layer = nn.LSTM(3, name="r")
        x = graphc.input("x", ("N", steps, 2), "float64")
        loss = graphc.sum(layer(x) ** 2)
        given = [loss, *graphc.grad(loss, layer.parameters)]
        step = graphc.compile([x], given, backend="reference")
        return step.program.text()

    few, many = program(17), program(1019)
    renamed = re.sub(r"\b1019\b", "17", many)
    renamed = re.sub(r"\b1018\b", "16", renamed)
    renamed = re.sub(r"\b1020\b", "18", renamed)  # what a carry has before and after
    assert renamed == few


# --- errors -------------------------------------------------------------------------


@pytest.mark.parametrize("units", [0, -1, 2.5, True, "3"])
@pytest.mark.parametrize("layer", [nn.SimpleRNN, nn.LSTM, nn.GRU])
def test_units_that_are_no_positive_int_are_refused(layer: Any, units: Any) -> None:
    with pytest.raises(graphc.GraphcError, match="units must be a positive int"):
        layer(units)


@pytest.mark.parametrize("what", ["dropout", "recurrent_dropout"])
def test_a_rate_that_is_none_is_refused(what: str) -> None:
    with pytest.raises(graphc.GraphcError, match=rf"{what} must be in \[0, 1\), not 1"):
        nn.LSTM(3, **{what: 1.0})


def test_an_unknown_activation_is_refused() -> None:
    with pytest.raises(graphc.GraphcError, match="unknown activation 'tan'"):
        nn.GRU(3, activation="tan")


ERRORS: dict[str, tuple[Any, str]] = {
    "no steps": (
        lambda: nn.LSTM(3, name="r")(graphc.input("x", ("N", 4))),
        r"r: x is f32\[N,4\], it needs the axes \[N, T, D\]",
    ),
    "features unknown": (
        lambda: nn.LSTM(3, name="r")(graphc.input("x", ("N", "T", "D"))),
        "one of features, which is a number",
    ),
    "mask of floats": (
        lambda: nn.LSTM(3)(sequences(), mask=graphc.input("m", ("N", "T"))),
        r"the mask m is f32\[N,T\], it must be bool\[N,T\]",
    ),
    "mask of another shape": (
        lambda: nn.LSTM(3)(sequences(), mask=graphc.input("m", ("N", 7), "bool")),
        r"the mask m is bool\[N,7\], it must be bool\[N,T\]",
    ),
    "lengths of another number": (
        lambda: nn.LSTM(3)(sequences(), lengths=graphc.input("n", (7,), "int32")),
        r"the lengths n are i32\[7\]",
    ),
    "lengths that are floats": (
        lambda: nn.LSTM(3)(sequences(), lengths=graphc.input("n", ("N",))),
        "lengths must be integers",
    ),
    "both": (
        lambda: nn.LSTM(3)(
            sequences(),
            lengths=graphc.input("n", ("N",), "int32"),
            mask=graphc.input("m", ("N", "T"), "bool"),
        ),
        "both mask and lengths are given",
    ),
    "one state of two": (
        lambda: nn.LSTM(3)(sequences(), graphc.input("h", ("N", 3), "float64")),
        r"initial_state is f64\[N,3\]; the cell needs f64\[N,3\], f64\[N,3\]",
    ),
    "a state of another size": (
        lambda: nn.GRU(3)(sequences(), graphc.input("h", ("N", 4), "float64")),
        r"initial_state is f64\[N,4\]; the cell needs f64\[N,3\]",
    ),
    "a state of another dtype": (
        lambda: nn.GRU(3)(sequences(), graphc.input("h", ("N", 3))),
        r"initial_state is f32\[N,3\]; the cell needs f64\[N,3\]",
    ),
    "states of a cell": (
        lambda: nn.LSTMCell(3, name="c")(np.zeros((2, 4), np.float32), np.zeros(3)),
        "c: the cell has 2 states, 3 are given",
    ),
    "no cell": (lambda: nn.RNN(nn.Dense(3)), "is no cell"),
    "no layer to turn": (
        lambda: nn.Bidirectional(nn.Dense(3)),
        "is no recurrent layer",
    ),
    "no such merge": (
        lambda: nn.Bidirectional(nn.GRU(3), merge_mode="max"),
        "unknown merge_mode 'max'",
    ),
    "two that differ": (
        lambda: nn.Bidirectional(
            nn.GRU(3), backward_layer=nn.GRU(3, return_sequences=True)
        ),
        "return_sequences is False in one layer and True in the other",
    ),
    "a state in the middle": (
        lambda: nn.Sequential([nn.LSTM(3, return_state=True), nn.Dense(1)]).build(
            (None, 5, 2)
        ),
        "lstm_1 returned 3 tensors, the next layer takes one",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_is_wrong_and_where(name: str) -> None:
    make_error, message = ERRORS[name]
    with pytest.raises(graphc.GraphcError, match=message) as found:
        make_error()
    assert "test_recurrent.py" in str(found.value)


def test_a_layer_with_parameters_cannot_be_turned() -> None:
    layer = nn.GRU(3)
    layer(sequences())
    with pytest.raises(graphc.GraphcError, match="has its parameters already"):
        nn.Bidirectional(layer)


def test_a_cell_that_computes_nothing_says_so() -> None:
    with pytest.raises(graphc.GraphcError, match="does not say what it computes"):
        nn.RNN(nn.Cell())(sequences())


def test_a_state_that_each_step_would_change_is_refused() -> None:
    class Running(nn.Cell):
        state_sizes = (D,)

        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNormalization()

        def call(self, x: Any, states: Any, training: bool) -> Any:
            return (states[0] + self.norm(x, training=training),)

    layer = nn.RNN(Running())
    x = graphc.input("x", ("N", "T", D))
    assert str(layer(x).type) == f"f32[N,{D}]"
    with pytest.raises(graphc.GraphcError, match="would change within it"):
        layer(x, training=True)


def test_second_gradients_are_those_of_finite_differences() -> None:
    rng = np.random.default_rng(13)
    layer = make("gru_reset_after")
    x = sequences()
    loss = graphc.sum(layer(x) ** 2)
    gradient = graphc.grad(loss, x)
    way = graphc.input("way", ("N", "T", D), "float64")
    twice = graphc.grad(graphc.sum(gradient * way), x)
    shaken(layer, rng)
    step = graphc.compile([x, way], [gradient, twice])
    xs, ways = rng.normal(size=(N, T, D)), rng.normal(size=(N, T, D))
    slope = functools.reduce(
        lambda below, above: (above - below) / 2e-6,
        [step(xs + s * ways, ways)[0] for s in (-1e-6, 1e-6)],
    )
    np.testing.assert_allclose(step(xs, ways)[1], slope, rtol=1e-5, atol=1e-8)
