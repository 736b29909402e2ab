"""From dot text to pictures: SVG, PNG, PDF; and into files.

Graphviz lays out: the installed `dot` if there is one, else Graphviz in WebAssembly.
Both give SVG; PNG and PDF are made from that SVG with one bundled font, so that they
look the same on every machine, one without fonts included.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from graphc.errors import DrawError
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.viz.dot import FONT, graph_dot
from graphc.viz.program_dot import program_dot
from graphc.viz.wasm import wasm_svg, write_atomically

FORMATS = ("svg", "png", "pdf", "dot", "gv")
FONT_FILE = Path(__file__).parent / "fonts" / "DejaVuSansMono.ttf"

_FAMILY = "DejaVu Sans Mono,Menlo,Consolas,Liberation Mono,monospace"
_DPI = 144  # of PNG: crisp on screens of high density
_MOST_PIXELS = 16_000_000


def draw(level: Graph | Program, path: str | os.PathLike[str]) -> Path:
    """Draw a graph or a program into a file by its suffix; returns the file's path.

    The suffix is one of .svg, .png, .pdf, .dot and .gv.

    Raises:  DrawError for another suffix, or if the file cannot be written.
    Example:
        >>> import graphc, pathlib, tempfile
        >>> x = graphc.input("x", (3,))
        >>> graph = Graph.build([x], [x * 2.0])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw(graph, pathlib.Path(folder) / "g.dot").name
        'g.dot'
    """
    format = suffix_format(path)
    return save(render(_text(level), format), path)


def svg(level: Graph | Program) -> str:
    """Return the drawing of a graph or a program as SVG, as notebooks show it."""
    return render(_text(level), "svg").decode()


def _text(level: Graph | Program) -> str:
    return program_dot(level) if isinstance(level, Program) else graph_dot(level)


def render(dot_text: str, format: str) -> bytes:
    """Return dot text as a picture in one of `FORMATS`.

    Raises:  DrawError for another format, or if Graphviz refuses the text.
    Example:
        >>> render("digraph { a -> b }", "pdf")[:5]
        b'%PDF-'
    """
    if format not in FORMATS:
        raise _unknown(format)
    if format in ("dot", "gv"):
        return dot_text.encode()
    picture = _laid_out(dot_text)
    if format == "png":
        return _png(picture.decode())
    if format == "pdf":
        from graphc.viz.pdf import svg_to_pdf

        return svg_to_pdf(picture.decode(), FONT_FILE.read_bytes())
    return picture


def suffix_format(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's suffix asks for.

    Raises:  DrawError if there is no such format.
    """
    format = Path(path).suffix.lower().removeprefix(".")
    if format not in FORMATS:
        raise _unknown(format, f" in {os.fspath(path)!r}")
    return format


def save(content: bytes, path: str | os.PathLike[str]) -> Path:
    """Write a picture into a file, wholly or not at all; returns its path.

    Raises:  DrawError if the file cannot be written.
    """
    target = Path(path)
    try:
        write_atomically(target, content)
    except OSError as error:
        raise DrawError(
            f"cannot write {os.fspath(path)!r}: {error.strerror or error}",
            help="give a file in a folder that exists and that you may write to",
        ) from error
    return target


def _unknown(format: str, where: str = "") -> DrawError:
    shown = f"{format!r}{where}" if format else f"no suffix{where}"
    return DrawError(
        f"unknown format of a drawing: {shown}",
        help="end the file's name with one of " + ", ".join(f".{f}" for f in FORMATS),
    )


# --- layout -------------------------------------------------------------------------


def _laid_out(dot_text: str) -> bytes:
    """Return dot text as SVG, by the installed `dot` or in WebAssembly."""
    found = _installed(dot_text) if shutil.which("dot") else wasm_svg(dot_text)
    family = f'font-family="{_FAMILY}"'.encode()
    return re.sub(rb'font-family="%s[^"]*"' % FONT.encode(), family, found)


def _installed(dot_text: str) -> bytes:
    import graphviz

    source = graphviz.Source(dot_text)
    try:
        return bytes(source.pipe(format="svg", quiet=True))
    except (graphviz.CalledProcessError, graphviz.ExecutableNotFound) as error:
        said = getattr(error, "stderr", None) or str(error).encode()
        raise DrawError(
            f"dot failed: {said.decode(errors='replace').strip()}",
            help="check that `dot -V` works; off the PATH it is not used",
        ) from error


def _png(picture: str) -> bytes:
    try:
        import resvg_py
    except ImportError as error:
        raise DrawError(
            "a PNG needs the package resvg_py, which is missing",
            help="pip install resvg_py, or draw an .svg or a .pdf",
        ) from error
    size = re.search(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"', picture)
    dpi = float(_DPI)
    if size:
        inches = [float(n) / 72 for n in size.groups()]
        dpi = min(dpi, (_MOST_PIXELS / (inches[0] * inches[1])) ** 0.5)
    fonts = [str(FONT_FILE)]
    # Scanning the system's fonts is slow; only texts in other scripts need them.
    plain = all(ord(c) < 0x2300 for c in picture)
    try:
        image = resvg_py.svg_to_bytes(
            svg_string=picture, dpi=dpi, font_files=fonts, skip_system_fonts=plain
        )
    except ValueError as error:
        raise DrawError(
            f"the PNG could not be drawn: {error}", help="draw an .svg or a .pdf"
        ) from error
    return bytes(image)
