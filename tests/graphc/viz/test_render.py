"""Every format gives a valid file, and failures say what to do."""

import hashlib
import os
import re
import time
import zlib
from pathlib import Path
from xml.etree import ElementTree

import pytest

import graphc
from graphc.errors import DrawError
from graphc.ir.graph import Graph
from graphc.ir.origins import UPDATE, phase, scope
from graphc.viz import wasm
from graphc.viz.pdf import _glyphs
from graphc.viz.render import FONT_FILE, draw, render, svg

MAGIC = {
    "svg": b"<?xml",
    "png": b"\x89PNG\r\n\x1a\n",
    "pdf": b"%PDF-1.7",
    "dot": b"digraph",
    "gv": b"digraph",
}
NASTY = "a \"b\" <c> & [d] {e|f} \\N \\l é → 漢 'g' \t"


def small() -> Graph:
    x = graphc.input("x", ("N", 3))
    return Graph.build([x], [graphc.exp(x * 2.0)], name="small")


def adam_step(layers: int) -> Graph:
    """A training step of an MLP with Adam: about 40 nodes a layer."""
    x = graphc.input("x", ("N", 8))
    h, parameters = x, []
    for i in range(layers):
        with scope(f"dense{i}"):
            w = graphc.parameter(f"w{i}", (8, 8))
            b = graphc.parameter(f"b{i}", (8,), init="zeros")
            h = graphc.relu(h @ w + b)
            parameters += [w, b]
    loss = graphc.mean(h * h)
    updates = []
    with phase(UPDATE), scope("adam"):
        for p, g in zip(parameters, graphc.grad(loss, parameters), strict=True):
            m, v = (
                graphc.parameter(f"{p.name}.{k}", p.shape, "zeros", trainable=False)
                for k in "mv"
            )
            m1, v1 = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            new = p - 0.001 * m1 / (graphc.sqrt(v1) + 1e-7)
            updates += [(m, m1), (v, v1), (p, new)]
    return Graph.build([x], [loss], updates)


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", MAGIC)
def test_draw_writes_each_format(suffix: str, tmp_path: Path) -> None:
    path = small().draw(tmp_path / f"g.{suffix}")
    assert path == tmp_path / f"g.{suffix}"
    assert path.read_bytes().startswith(MAGIC[suffix])
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no part is left


def test_draw_refuses_an_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(DrawError, match=r"'jpg'.*\n.*\.svg, \.png, \.pdf, \.dot"):
        draw(small(), tmp_path / "g.jpg")
    with pytest.raises(DrawError, match="no suffix"):
        draw(small(), tmp_path / "g")


def test_draw_says_where_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(DrawError, match="No such file or directory"):
        draw(small(), tmp_path / "nowhere" / "g.svg")


def test_draw_replaces_a_file_only_by_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "g.dot"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DrawError, match="No space left"):
        draw(small(), path)
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


# --- formats --------------------------------------------------------------------------


def test_svg_is_shown_by_notebooks() -> None:
    graph = small()
    assert graph._repr_svg_() == svg(graph)
    root = ElementTree.fromstring(svg(graph))
    texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "mul(·, 2.0)" in texts
    assert "DejaVu Sans Mono" in svg(graph)


@pytest.mark.parametrize("format", ["svg", "png", "pdf"])
def test_render_takes_any_name(format: str) -> None:
    with scope(NASTY):
        x = graphc.input(NASTY, ())
        y = graphc.exp(x).named(NASTY)
    found = render(graphc.viz.graph_dot(Graph.build([x], [y], name=NASTY)), format)
    assert found.startswith(MAGIC[format])
    if format == "svg":
        texts = list(ElementTree.fromstring(found).itertext())
        name = NASTY.replace("\t", "\ufffd")
        assert any(name in t for t in texts), texts


def test_pdf_has_consistent_offsets_and_text() -> None:
    found = render(small().dot(), "pdf")
    table = int(re.findall(rb"startxref\n(\d+)\n%%EOF", found)[0])
    assert found[table : table + 4] == b"xref"
    for i, place in enumerate(re.findall(rb"(\d{10}) 00000 n", found), 1):
        assert found[int(place) :].startswith(b"%d 0 obj" % i)
    page = re.findall(rb"4 0 obj\n.*?stream\n(.*?)\nendstream", found, re.S)[0]
    glyphs = _glyphs(FONT_FILE.read_bytes())
    shown = "".join(f"{glyphs[ord(c)]:04x}" for c in "exp")
    assert f"<{shown}> Tj" in zlib.decompress(page).decode()


def test_pdf_is_the_same_each_time() -> None:
    assert render(small().dot(), "pdf") == render(small().dot(), "pdf")


def test_png_stays_within_its_limit_of_pixels() -> None:
    found = render('digraph { a [width=150, height=150, label=""] }', "png")
    width, height = (int.from_bytes(found[i : i + 4], "big") for i in (16, 20))
    assert 9_000_000 < width * height < 16_100_000


def test_render_passes_on_what_graphviz_says() -> None:
    with pytest.raises(DrawError, match="Failed to parse DOT"):
        render("digraph { a -> ", "svg")
    with pytest.raises(DrawError, match="unknown format"):
        render("digraph { }", "bmp")


def test_a_graph_of_300_nodes_is_drawn_soon() -> None:
    graph = adam_step(7)
    assert 250 < len(graph) < 350
    render("digraph { }", "svg")  # compiles Graphviz, once
    start = time.perf_counter()
    found = svg(graph)
    assert time.perf_counter() - start < 3  # 0.2 s on one free core
    width, height = re.findall(r'<svg width="(\d+)pt" height="(\d+)pt"', found)[0]
    assert max(int(width), int(height)) < 3500


# --- an installed dot, and none -------------------------------------------------------


def test_render_uses_an_installed_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "dot"
    fake.write_text('#!/bin/sh\ncat > /dev/null\necho "<svg>$*</svg>"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert render("digraph { }", "svg") == b"<svg>-Kdot -Tsvg</svg>\n"
    fake.write_text("#!/bin/sh\necho it broke >&2\nexit 1\n")
    with pytest.raises(DrawError, match="it broke"):
        render("digraph { }", "svg")


# --- the compiled Graphviz in the cache -----------------------------------------------


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(wasm, "_graphviz", wasm._graphviz.__wrapped__)
    return tmp_path / "viz"


def test_wasm_is_compiled_once(cache_folder: Path) -> None:
    first = wasm.wasm_svg("digraph { }")
    (kept,) = cache_folder.iterdir()
    written = kept.stat().st_mtime_ns
    assert wasm.wasm_svg("digraph { }") == first
    assert kept.stat().st_mtime_ns == written


@pytest.mark.long
def test_wasm_replaces_a_damaged_file(cache_folder: Path) -> None:
    wasm.wasm_svg("digraph { }")
    (kept,) = cache_folder.iterdir()
    good = kept.read_bytes()
    kept.write_bytes(good[:1000])
    assert wasm.wasm_svg("digraph { }")
    assert kept.read_bytes() == good
    other = b"not the code of this machine"
    kept.write_bytes(hashlib.sha256(other).digest() + other)
    assert wasm.wasm_svg("digraph { }")
    assert kept.read_bytes() == good


def test_wasm_works_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_folder: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("GRAPHC_CACHE_DIR", str(tmp_path / "file"))
    assert wasm.wasm_svg("digraph { }")
