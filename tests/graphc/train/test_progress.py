"""What a fit shows: lines where the output is no terminal, else a bar."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich.console import Console

from graphc import nn
from graphc.train import History, progress

X = np.linspace(-1, 1, 40, dtype=np.float32)[:, None]


@pytest.fixture
def model(backend: str) -> nn.Sequential:
    made = nn.Sequential([nn.Dense(1)])
    made.compile("sgd", "mse", ["mae"], backend=backend)
    return made


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda: console)
    monkeypatch.setattr(progress, "REFRESH", 0.0)
    return screen


LINE = (
    r"Epoch {}/2 - \d+\.\d\d s - [\d.e+]+ ms/step"
    r" - loss: \d\.\d{{4}} - mae: \d\.\d{{4}}"
    r" - val_loss: \d\.\d{{4}} - val_mae: \d\.\d{{4}}"
)


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_fit_prints_a_line_for_each_epoch(
    model: nn.Sequential, verbose: int | str, capsys: pytest.CaptureFixture[str]
) -> None:
    model.fit(X, X, epochs=2, validation_split=0.2, verbose=verbose)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    for number, line in enumerate(lines, 1):
        assert re.fullmatch(LINE.format(number), line), line


def test_nothing_is_shown_with_verbose_0(
    model: nn.Sequential, capsys: pytest.CaptureFixture[str]
) -> None:
    model.fit(X, X, verbose=0)
    model.evaluate(X, X, verbose=0)
    model.predict(X)
    assert capsys.readouterr().out == ""


def test_evaluate_prints_the_results(
    model: nn.Sequential, capsys: pytest.CaptureFixture[str]
) -> None:
    model.evaluate(X, X)
    assert re.fullmatch(r"loss: \d\.\d{4} - mae: \d\.\d{4}\n", capsys.readouterr().out)


def test_a_terminal_shows_a_bar_with_speed_and_time_left(
    model: nn.Sequential, terminal: io.StringIO
) -> None:
    model.fit(X, X, batch_size=10, epochs=2, validation_split=0.2)
    shown = terminal.getvalue()
    assert re.search(
        r"Epoch 2/2 ━+ 3/4 [\d.e+-]+ ms/step \d:\d\d left  loss: \d\.\d{4} mae: ",
        re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown),
    )
    assert len(re.findall(r"Epoch \d/2 - .* ms/step - loss: .* val_mae:", shown)) == 2
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")  # the cursor is back


def test_the_bar_goes_away_when_a_fit_fails(
    model: nn.Sequential, terminal: io.StringIO
) -> None:
    def fail(epoch: int, logs: object) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        model.fit(X, X, callbacks=[fail])
    assert terminal.getvalue().count("\x1b[?25h") == 1


def test_a_terminal_shows_evaluation_and_prediction(
    model: nn.Sequential, terminal: io.StringIO
) -> None:
    model.evaluate(X, X, batch_size=10)
    assert "3/4" in terminal.getvalue()
    assert re.search(r"\nloss: \d\.\d{4} - mae: |\rloss: |Kloss: ", terminal.getvalue())
    terminal.truncate(0)
    model.predict(X, batch_size=10)
    assert "3/4" in terminal.getvalue()


def test_the_bar_is_drawn_ten_times_a_second_at_most(
    model: nn.Sequential, terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "REFRESH", 60.0)
    model.fit(X, X, batch_size=1)
    assert "/40" in terminal.getvalue()
    assert "20/40" not in terminal.getvalue()


def test_results_show_small_numbers_with_an_exponent() -> None:
    assert progress.results({"loss": 1.5e-5, "mae": 0.0}) == (
        "loss: 1.5000e-05 - mae: 0.0000"
    )
    assert progress.results({"loss": float("nan")}) == "loss: nan"


def test_history_shows_the_last_epoch() -> None:
    record = History()
    assert repr(record) == "<History of 0 epochs, last {}>"
    record.add(0, {"loss": 0.25})
    record.add(1, {"loss": 0.125})
    assert repr(record) == "<History of 2 epochs, last {'loss': 0.125}>"
