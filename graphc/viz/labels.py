"""What is written in a drawing: attributes, numbers, and all that a tooltip says."""

from __future__ import annotations

from typing import Any

from graphc.ir.nodes import Array, Node
from graphc.ir.op import attr_items
from graphc.ir.origins import FORWARD, Origin
from graphc.ir.types import DType

_IMPLIED = ("dtype", "shape", "stream")  # attributes that the type already shows
_LONGEST = 36  # characters of a line in a box


def attributes_text(node: Node) -> str:
    """Return the attributes that the types do not show, on one line."""
    parts = []
    for name, value in attr_items(node.attrs):
        text = _attribute(name, value)
        if name not in _IMPLIED and text:
            parts.append(text)
    return " ".join(parts)


def _attribute(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return name if value else ""
    if isinstance(value, Array):
        array = value.value
        return str(array.tolist()).replace(" ", "") if array.size <= 4 else ""
    if isinstance(value, DType):
        return f"{name}={value.short}"
    if isinstance(value, tuple):
        if name == "step" and all(v == 1 for v in value):
            return ""
        inner = ",".join(map(value_text, value))
        return f"{name}={inner}" if len(value) == 1 else f"{name}=({inner})"
    return f"{name}={value_text(value)}"


def value_text(value: Any) -> str:
    """Return a value of an attribute as it is shown."""
    if isinstance(value, float):
        return repr(value) if abs(value) < 1e4 or value != value else f"{value:g}"
    return str(value)


def short(text: str) -> str:
    """Return a text that fits on a line of a box."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def node_tooltip(node: Node, origin: Origin) -> str:
    """Say all that is known of a node: types, formula, origin."""
    inputs = ", ".join(str(t.type) for t in node.inputs)
    results = ", ".join(map(str, node.types))
    lines = [f"{node.op.name}({inputs}) -> {results}", node.op.doc]
    if origin.label:
        lines.append(f"named {origin.label}")
    if origin.scope:
        lines.append("in " + " / ".join(origin.scope))
    if origin.derived:
        lines.append(f"{origin.phase}, from the gradient of {origin.derived}")
    elif origin.phase != FORWARD:
        lines.append(origin.phase)
    if origin.place:
        lines.append(origin.quoted)
    if origin.rules:
        lines.append("by " + ", ".join(origin.rules))
    return "\n".join(lines)
