"""Steps on disk: found for equal graphs only, and the same as one that is compiled."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import graphc as gc
from graphc import nn, optim, passes
from graphc.backends.cpu import kept
from graphc.ir.op import OPS
from graphc.ir.scalar import Expr, const
from graphc.ir.types import float32
from graphc.passes.identity import identity
from graphc.passes.registry import PASSES


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use an empty cache folder; return where steps lie."""
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    return tmp_path / "steps"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that grows by one for each time passes run."""
    found: list[int] = []
    real = gc.compiler.run_pipeline

    def counted(*args: Any, **options: Any) -> Any:
        found.append(1)
        return real(*args, **options)

    monkeypatch.setattr("graphc.compiler.run_pipeline", counted)
    return found


@pytest.fixture
def undo() -> Iterator[None]:
    """Take back what a test registers."""
    ops, known = dict(OPS), dict(PASSES)
    yield
    for table, before in ((OPS, ops), (PASSES, known)):
        table.clear()
        table.update(before)


def dense() -> gc.Executable:
    """A training step of two layers."""
    x, y = gc.input("x", ("N", 6)), gc.input("y", ("N",), dtype="int32")
    w, v = gc.parameter("w", (6, 5), seed=1), gc.parameter("v", (5, 3), seed=2)
    loss = nn.losses.softmax_cross_entropy(gc.relu(x @ w) @ v, y)
    updates = optim.Adam(1e-2).updates(loss)
    return gc.compile([x, y], {"loss": loss, "w": w * 1.0}, updates=updates)


def recurrent() -> gc.Executable:
    """A loop, a branch and a constant."""
    xs, h = gc.input("xs", ("T", 4)), gc.parameter("h", (4,), init="ones")

    def turn(carry: gc.Tensor, x: gc.Tensor) -> tuple[gc.Tensor, gc.Tensor]:
        new = gc.tanh(carry + x)
        return new, new * np.array([1, 2, np.nan, -0.0], np.float32)

    last, every = gc.scan(turn, h, xs)
    chosen = gc.cond(gc.sum(last) > 0, lambda: last * 2.0, lambda: last - 1.0)
    return gc.compile([xs], [chosen, every], updates={h: last})


def data(step: gc.Executable) -> list[np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    if len(step.declared.inputs) == 2:
        return [rng.standard_normal((7, 6), "f"), rng.integers(0, 3, 7, np.int32)]
    return [rng.standard_normal((5, 4), "f")]


def results(step: gc.Executable) -> list[bytes]:
    """Return all bits of two turns, and of the states after them."""
    outputs: list[Any] = []
    for _ in range(2):
        found = step(*data(step))
        outputs += found.values() if isinstance(found, dict) else found
    return [
        np.asarray(a).tobytes() for a in (*outputs, *(s.value for s in step.states))
    ]


@pytest.mark.parametrize("build", [dense, recurrent])
def test_found_step_is_the_same(build: Callable[[], Any], runs: list[int]) -> None:
    first = build()
    assert len(runs) == 1
    found = build()
    assert len(runs) == 1, "the passes ran again"
    assert results(first) == results(found)
    sizes = dict.fromkeys(first.graph.dims, 7)
    assert first.memory(**sizes) == found.memory(**sizes)
    with pytest.raises(gc.GraphcError, match="give a size for"):
        found.memory()
    assert len(runs) == 1
    # What there is to see of it, its passes make once.
    assert found.graph.text() == first.graph.text()
    assert found.program.text() == first.program.text()
    assert [n for n, _ in found.stages] == [n for n, _ in first.stages]
    assert [k.source for k in found.kernels] == [k.source for k in first.kernels]
    assert [k.origins for k in found.kernels] == [k.origins for k in first.kernels]
    assert [k.asm for k in found.kernels] == [k.asm for k in first.kernels]
    assert repr(found) == repr(first)
    assert len(runs) == 2


X, Y = gc.input("x", ("N", 4)), gc.input("y", ("N", 4))
PLAIN = "softmax(x)"
VARIANTS: dict[str, Callable[[], Any]] = {
    PLAIN: lambda: gc.compile([X], gc.softmax(X)),
    "other attribute": lambda: gc.compile([X], gc.softmax(X, axis=0)),
    "one more input": lambda: gc.compile([X, Y], gc.softmax(X)),
    "other input": lambda: gc.compile([Y], gc.softmax(Y)),
    "outputs": lambda: gc.compile([X], [gc.softmax(X), X]),
    "outputs turned": lambda: gc.compile([X], [X, gc.softmax(X)]),
    "name": lambda: gc.compile([X], gc.softmax(X), name="other"),
    "passes": lambda: gc.compile([X], gc.softmax(X), passes="fuse{max_inputs=3}"),
    "sub": lambda: gc.compile([X, Y], X - Y),
    "sub turned": lambda: gc.compile([X, Y], Y - X),
    "zero": lambda: gc.compile([X], gc.maximum(X, 0.0)),
    "minus zero": lambda: gc.compile([X], gc.maximum(X, -0.0)),
    "constant": lambda: gc.compile([X], X * np.arange(4, dtype="f")),
    "other constant": lambda: gc.compile([X], X * np.arange(1, 5, dtype="f")),
    "large constant": lambda: gc.compile([X], X @ np.eye(4, 100, dtype="f")),
    "other large one": lambda: gc.compile([X], X @ np.eye(4, 100, 1, dtype="f")),
    "fixed size": lambda: _of(gc.input("x", (3, 4))),
    "other size": lambda: _of(gc.input("x", (5, 4))),
    "other name": lambda: _of(gc.input("x", ("M", 4))),
    "square": lambda: _of(gc.input("x", (4, 4))),
    "dtype": lambda: _of(gc.input("x", ("N", 4), dtype="float64")),
    "scan": lambda: gc.compile([X], gc.scan(lambda c, x: (c + x, c), X[0], X)[0]),
    "other body": lambda: gc.compile([X], gc.scan(lambda c, x: (c * x, c), X[0], X)[0]),
    "state": lambda: _updated("w", lambda w: w + 1.0),
    "other state": lambda: _updated("v", lambda w: w + 1.0),
    "other update": lambda: _updated("w", lambda w: w * 2.0),
}


def _of(x: gc.Tensor) -> gc.Executable:
    return gc.compile([x], gc.softmax(x))


def _updated(name: str, change: Callable[[gc.Tensor], gc.Tensor]) -> gc.Executable:
    w = gc.parameter(name, (4,), init="zeros")
    return gc.compile([X], gc.sum(X * w), updates={w: change(w)})


def test_each_difference_makes_another_step(runs: list[int]) -> None:
    for build in VARIANTS.values():
        build()
    assert len(runs) == len(VARIANTS)
    for build in VARIANTS.values():
        build()
    assert len(runs) == len(VARIANTS)


def test_origins_make_no_other_step(runs: list[int]) -> None:
    gc.compile([X], gc.exp(X).named("e") * 2.0)
    again = gc.compile([X], gc.exp(X) * 2.0)
    assert len(runs) == 1
    (kernel,) = again.kernels
    assert all(o.file == __file__ and not o.label for o in kernel.origins)


def test_what_is_not_known_is_not_kept(folder: Path, undo: None) -> None:
    def compiled(**options: Any) -> gc.Executable:
        return gc.compile([X], gc.exp(X), **options)

    compiled(check=True)
    compiled(tune="replay")
    compiled(verify_passes=False)
    compiled(backend="reference")
    gc.compile([X], gc.sort(X))  # calls a routine
    gc.compile([X], X @ np.ones((4, 1 << 13), "f"))  # a large constant
    passes.graph_pass("cse")(lambda graph: graph)
    compiled()
    PASSES["cse"] = kept_passes["cse"]
    gc.elementwise("twice", lambda x: x * 2.0)
    compiled()
    assert not folder.exists()
    del OPS["twice"]
    compiled()
    assert len(list(folder.iterdir())) == 1


kept_passes = dict(PASSES)


def test_damaged_file_is_as_good_as_none(folder: Path, runs: list[int]) -> None:
    wanted = gc.compile([X], gc.exp(X))(np.ones((2, 4), "f"))
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    start = len(kept._MAGIC) + kept._DIGEST

    def signed(rest: bytes) -> bytes:
        return kept._MAGIC + kept.sha256(rest).digest() + rest

    foreign = signed(pickle.dumps(Path("x")))
    other = signed(pickle.dumps((1, 2)))
    cut = signed(whole[start:-9])
    for content in (b"", whole[:-1], b"y" + whole[1:], foreign, other, cut):
        before = len(runs)
        file.write_bytes(content)
        found = gc.compile([X], gc.exp(X))(np.ones((2, 4), "f"))
        assert len(runs) == before + 1
        np.testing.assert_array_equal(found, wanted)
        assert file.read_bytes() == whole


def test_folder_that_cannot_be_written_costs_the_cache(
    folder: Path, runs: list[int]
) -> None:
    folder.write_text("a file, not a folder")
    for _ in range(2):
        gc.compile([X], gc.exp(X))
    assert len(runs) == 2


def test_machine_code_that_is_gone_is_compiled(folder: Path, runs: list[int]) -> None:
    gc.compile([X], gc.exp(X) * 3.0)
    (file,) = folder.iterdir()
    found = kept.find(file.stem)
    assert found is not None
    lost = kept.Kept(
        found.program, ("no such key",), found.words, found.states, found.dims
    )
    kept.keep(file.stem, lost.program, lost.keys, lost.words, lost.states, lost.dims)
    step = gc.compile([X], gc.exp(X) * 3.0)
    assert len(runs) == 2
    np.testing.assert_array_equal(step(np.zeros((1, 4), "f")), np.full((1, 4), 3, "f"))


def test_expressions_come_back_as_the_same_objects() -> None:
    values = [0.0, -0.0, np.nan, np.inf, 1e-45, 2.5]
    exprs: list[Expr] = [const(v, float32) for v in values]
    file = kept.io.BytesIO()
    kept._Writer(file).dump(exprs)
    file.seek(0)
    again = kept._Reader(file).load()
    assert all(a is b for a, b in zip(exprs, again, strict=True))


def test_all_ops_and_passes_are_known_once_graphc_is_imported() -> None:
    graph = gc.Graph.build([X], [gc.exp(X)])
    found = identity(graph, passes.parse_pipeline("cse,fuse{max_inputs=8}"))
    assert found is not None
    assert found.splitlines()[1:] == [
        "cse",
        "fuse{max_inputs=8, max_outputs=8, max_ops=64}",
    ]


def test_a_key_knows_the_sources_of_passes_and_backends_wherever_they_lie() -> None:
    files = [stamp.rsplit(":", 2)[0] for stamp in kept._sources().splitlines()]
    for module in (kept, passes, gc.errors):
        assert str(module.__file__) in files
