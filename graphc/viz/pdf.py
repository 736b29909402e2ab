"""From Graphviz's SVG to PDF: vectors, and text that can be searched.

Graphviz writes a small part of SVG: polygons, polylines, paths of M, L and C,
ellipses and single lines of text, within groups that move and scale. This writes
just that part, with one monospaced font, embedded. Text in scripts that the font
lacks becomes a replacement sign; an SVG or a PNG shows it.

Source:  ISO 32000-1 (PDF 1.7), sections 8 and 9; the cmap table of OpenType 1.9.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree

_ADVANCE = 0.60205  # em; the font is monospaced
_ARC = 0.5522847498  # control points of a quarter of a circle
_NUMBER = re.compile(r"-?[\d.]+(?:e-?\d+)?")
_WORD = re.compile(r"[MLCZ]|-?[\d.]+(?:e-?\d+)?")


def svg_to_pdf(svg: str, font: bytes) -> bytes:
    """Return an SVG of Graphviz as a PDF of one page.

    font: a monospaced TrueType font of 0.602 em, which is embedded.
    """
    root = ElementTree.fromstring(svg)
    width, height = (float(_NUMBER.findall(root.get(k, "0"))[0]) for k in _SIDES)
    text = _Text(_glyphs(font))
    page = [f"1 0 0 -1 0 {height:g} cm", *_draw(root, text)]
    return _file(width, height, "\n".join(page).encode(), font, text)


_SIDES = ("width", "height")


# --- drawing ------------------------------------------------------------------------


def _draw(element: ElementTree.Element, text: _Text) -> Iterator[str]:
    """Write an element and what is in it as operators of a page."""
    kind = element.tag.rpartition("}")[2]
    if kind in ("svg", "a"):
        for child in element:
            yield from _draw(child, text)
    elif kind == "g":
        yield "q"
        yield from _moved(element.get("transform", ""))
        for child in element:
            yield from _draw(child, text)
        yield "Q"
    elif kind == "text":
        yield from text.line(element)
    elif kind in _SHAPES:
        yield from _painted(element, "\n".join(_SHAPES[kind](element)))


def _moved(transform: str) -> Iterator[str]:
    for name, inside in re.findall(r"(\w+)\(([^)]*)\)", transform):
        n = [float(v) for v in _NUMBER.findall(inside)]
        if name == "translate":
            yield f"1 0 0 1 {n[0]:g} {n[1] if len(n) > 1 else 0:g} cm"
        elif name == "scale":
            yield f"{n[0]:g} 0 0 {n[-1]:g} 0 0 cm"


def _painted(element: ElementTree.Element, outline: str) -> Iterator[str]:
    fill, stroke = (_color(element.get(k, "none")) for k in ("fill", "stroke"))
    yield "q"
    if fill:
        yield f"{fill} rg"
    if stroke:
        dashes = " ".join(_NUMBER.findall(element.get("stroke-dasharray", "")))
        yield f"{stroke} RG {element.get('stroke-width', '1')} w [{dashes}] 0 d"
    yield outline
    yield {(1, 1): "B", (1, 0): "f", (0, 1): "S", (0, 0): "n"}[bool(fill), bool(stroke)]
    yield "Q"


def _color(name: str) -> str:
    """Return red, green and blue from 0 to 1, or an empty text for none."""
    if name in ("none", "transparent"):
        return ""
    if name == "white":
        name = "#ffffff"
    if not re.fullmatch("#[0-9a-fA-F]{6,8}", name):
        return "0 0 0"
    return " ".join(f"{int(name[i : i + 2], 16) / 255:.3g}" for i in (1, 3, 5))


def _polyline(element: ElementTree.Element) -> Iterator[str]:
    n = _NUMBER.findall(element.get("points", ""))
    for i in range(0, len(n) - 1, 2):
        yield f"{n[i]} {n[i + 1]} {'l' if i else 'm'}"


def _polygon(element: ElementTree.Element) -> Iterator[str]:
    yield from _polyline(element)
    yield "h"


def _path(element: ElementTree.Element) -> Iterator[str]:
    command, numbers = "M", list[str]()
    for word in _WORD.findall(element.get("d", "")):
        if word == "Z":
            yield "h"
        elif word in "MLC":
            command = word
        else:
            numbers.append(word)
            if len(numbers) == (6 if command == "C" else 2):
                yield " ".join((*numbers, {"M": "m", "L": "l", "C": "c"}[command]))
                numbers = []


def _ellipse(element: ElementTree.Element) -> Iterator[str]:
    x, y, a, b = (float(element.get(k, "0")) for k in ("cx", "cy", "rx", "ry"))
    yield f"{x + a:g} {y:g} m"
    for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)):  # cosine and sine at the start
        points = ((c, s), (-s, c))  # direction of the start, and of the end
        (p, q), (r, t) = points
        near = (x + a * (p + _ARC * r), y + b * (q + _ARC * t))
        far = (x + a * (r + _ARC * p), y + b * (t + _ARC * q))
        end = (x + a * r, y + b * t)
        yield " ".join(f"{v:.4g}" for v in (*near, *far, *end)) + " c"


_SHAPES = {
    "polyline": _polyline,
    "polygon": _polygon,
    "path": _path,
    "ellipse": _ellipse,
}


# --- text ---------------------------------------------------------------------------


class _Text:
    """Lines of text as glyphs of the font, and which glyphs were used."""

    def __init__(self, glyphs: dict[int, int]) -> None:
        self.glyphs = glyphs
        self.used: dict[int, int] = {}

    def line(self, element: ElementTree.Element) -> Iterator[str]:
        content = "".join(element.itertext())
        size = float(element.get("font-size", "10"))
        x, y = (float(element.get(k, "0")) for k in "xy")
        share = {"middle": 0.5, "end": 1.0}.get(element.get("text-anchor", ""), 0.0)
        x -= share * len(content) * size * _ADVANCE
        color = _color(element.get("fill", "#000000")) or "0 0 0"
        codes = "".join(f"{self._glyph(c):04x}" for c in content)
        yield f"BT {color} rg /F {size:g} Tf 1 0 0 -1 {x:.2f} {y:.2f} Tm"
        yield f"<{codes}> Tj ET"

    def _glyph(self, character: str) -> int:
        code = ord(" ") if character.isspace() else ord(character)
        glyph = self.glyphs.get(code, self.glyphs.get(0xFFFD, 0))
        self.used.setdefault(glyph, code)
        return glyph

    def unicode_map(self) -> bytes:
        """Return what tells a reader which characters the glyphs stand for."""
        pairs = [
            f"<{glyph:04x}> <{chr(code).encode('utf-16-be').hex()}>"
            for glyph, code in sorted(self.used.items())
        ]
        blocks = [pairs[i : i + 100] for i in range(0, len(pairs), 100)]
        body = "\n".join(
            "\n".join((f"{len(b)} beginbfchar", *b, "endbfchar")) for b in blocks
        )
        return (
            "/CIDInit /ProcSet findresource begin 12 dict begin begincmap\n"
            "/CMapName /graphc def /CMapType 2 def\n"
            "1 begincodespacerange <0000> <ffff> endcodespacerange\n"
            f"{body}\nendcmap end end"
        ).encode()


def _glyphs(font: bytes) -> dict[int, int]:
    """Return the glyph of each character, from a TrueType font's cmap (format 4)."""
    count = struct.unpack(">H", font[4:6])[0]
    tables = {
        font[at : at + 4]: struct.unpack(">I", font[at + 8 : at + 12])[0]
        for at in range(12, 12 + 16 * count, 16)
    }
    cmap = tables[b"cmap"]
    start = cmap + struct.unpack(">I", font[cmap + 8 : cmap + 12])[0]
    segments = struct.unpack(">H", font[start + 6 : start + 8])[0] // 2

    def row(index: int, sign: str = "H") -> tuple[int, ...]:
        at = start + 14 + 2 * segments * index + (2 if index else 0)
        return struct.unpack(f">{segments}{sign}", font[at : at + 2 * segments])

    found: dict[int, int] = {}
    ends, starts, deltas, offsets = row(0), row(1), row(2), row(3)
    for i in range(segments):
        for code in range(starts[i], min(ends[i], 0xFFFE) + 1):
            glyph = code
            if offsets[i]:
                at = start + 16 + 2 * (3 * segments + i) + offsets[i]
                at += 2 * (code - starts[i])
                glyph = struct.unpack(">H", font[at : at + 2])[0]
            found[code] = (glyph + deltas[i]) & 0xFFFF
    return found


# --- the file -----------------------------------------------------------------------


def _file(width: float, height: float, page: bytes, font: bytes, text: _Text) -> bytes:
    """Put the page and the font together."""
    name = "/GRAPHC+DejaVuSansMono"
    advance = round(1000 * _ADVANCE)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:g} {height:g}] "
        "/Resources << /Font << /F 5 0 R >> >> /Contents 4 0 R >>".encode(),
        _stream(page),
        f"<< /Type /Font /Subtype /Type0 /BaseFont {name} /Encoding /Identity-H "
        "/DescendantFonts [6 0 R] /ToUnicode 9 0 R >>".encode(),
        f"<< /Type /Font /Subtype /CIDFontType2 /BaseFont {name} "
        "/CIDToGIDMap /Identity "
        "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> "
        f"/DW {advance} /FontDescriptor 7 0 R >>".encode(),
        f"<< /Type /FontDescriptor /FontName {name} /Flags 5 /FontFile2 8 0 R "
        "/FontBBox [-558 -375 718 1042] /ItalicAngle 0 /Ascent 928 /Descent -236 "
        "/CapHeight 729 /StemV 80 >>".encode(),
        _stream(font, f"/Length1 {len(font)}"),
        _stream(text.unicode_map()),
    ]
    out = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for i, content in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (i, content)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % table)


def _stream(content: bytes, more: str = "") -> bytes:
    packed = zlib.compress(content, 9)
    head = f"<< /Length {len(packed)} /Filter /FlateDecode {more} >>"
    return head.encode() + b"\nstream\n" + packed + b"\nendstream"
