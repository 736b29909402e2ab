"""Graphs in files: the text, and large constants in a safetensors file beside it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from graphc.errors import ModelFileError, ParseError
from graphc.ir.attributes import INLINE, digest
from graphc.ir.graph import Graph
from graphc.ir.nodes import Array, Node
from graphc.ir.op import attr_items
from graphc.ir.parser import parse

SUFFIX = ".safetensors"


def save_text(graph: Graph, path: str | os.PathLike[str]) -> None:
    """Write a graph's text, and `path.safetensors` if it has large constants.

    Each file is written beside its place and moved there when it is whole.

    Raises:  GraphcError for an attribute without a text form; OSError.
    """
    text = graph.text() + "\n"
    constants = large_constants(graph)
    if constants:
        _write(f"{os.fspath(path)}{SUFFIX}", save(constants))
    _write(os.fspath(path), text.encode())


def load_text(path: str | os.PathLike[str]) -> Graph:
    """Read a graph from a file that `save_text` wrote, or that was written by hand.

    Raises:  ParseError naming the file, ModelFileError for damaged constants, OSError.
    """
    beside = Path(f"{os.fspath(path)}{SUFFIX}")
    constants: dict[str, np.ndarray[Any, Any]] | None = None
    if beside.exists():
        try:
            constants = load(beside.read_bytes())
        except SafetensorError as error:
            raise ModelFileError(
                f"{beside} is damaged: {error}", help="write it again with save_text"
            ) from error
    try:
        return parse(Path(path).read_bytes().decode(), constants)
    except UnicodeDecodeError as error:
        raise ParseError(f"{os.fspath(path)} is no UTF-8 text: {error}") from error
    except ParseError as error:
        raise ParseError(
            f"{os.fspath(path)}: {error.message}",
            details=error.details,
            help=error.help,
        ) from None


def large_constants(graph: Graph) -> dict[str, np.ndarray[Any, Any]]:
    """Return the arrays that a graph's text names by a hash only."""
    return {
        digest(array.value): array.value
        for array in _arrays(graph.nodes)
        if array.value.size > INLINE
    }


def _arrays(nodes: Iterable[Node]) -> Iterator[Array]:
    for node in nodes:
        stack = [value for _, value in attr_items(node.attrs)]
        while stack:
            value = stack.pop()
            if isinstance(value, Array):
                yield value
            elif isinstance(value, tuple):
                stack.extend(value)
        for region in node.regions:
            yield from _arrays(region.nodes)


def _write(path: str, content: bytes) -> None:
    whole = f"{path}.{os.getpid()}.tmp"
    try:
        with open(whole, "wb") as file:
            file.write(content)
        os.replace(whole, path)
    except BaseException:
        Path(whole).unlink(missing_ok=True)
        raise
