"""Nested tuples, lists and dicts of tensors, as the bodies of loops take them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

from graphc.errors import ArgumentError
from graphc.ir.nodes import Tensor
from graphc.ir.origins import here

Rebuild = Callable[[Sequence[Tensor]], Any]


def flatten(value: Any) -> tuple[list[Any], Rebuild]:
    """Return the leaves of a structure in order, and how to build it of others.

    Tuples (named ones too), lists and dicts are structure, None has no leaves, all
    else is a leaf. Dicts keep the order of their keys.
    Example:
        >>> leaves, rebuild = flatten({"h": 1, "more": (2, [3])})
        >>> leaves, rebuild([4, 5, 6])
        ([1, 2, 3], {'h': 4, 'more': (5, [6])})
    """
    leaves: list[Any] = []
    build = _walk(value, leaves)

    def rebuild(given: Sequence[Any]) -> Any:
        return build(iter(given))

    return leaves, rebuild


def _walk(value: Any, leaves: list[Any]) -> Callable[[Any], Any]:
    if value is None:
        return lambda _: None
    if isinstance(value, dict):
        inner = {k: _walk(v, leaves) for k, v in value.items()}
        return lambda given: {k: f(given) for k, f in inner.items()}
    if isinstance(value, (tuple, list)):
        parts = [_walk(v, leaves) for v in value]
        kind = type(value)
        if hasattr(kind, "_fields"):  # a named tuple takes its fields one by one
            return lambda given: kind(*(f(given) for f in parts))
        return lambda given: kind([f(given) for f in parts])
    leaves.append(value)
    return next


def call_body(what: str, role: str, body: Any, *args: Any) -> Any:
    """Call a function that a user gave.

    Raises:  ArgumentError if it is none, or takes other arguments.
    """
    if not callable(body):
        raise ArgumentError(
            f"{what}: {role} must be a function, not {body!r}",
            where=here().quoted,
            help="for example a lambda",
        )
    try:
        inspect.signature(body).bind(*args)
    except TypeError as error:
        raise ArgumentError(
            f"{what}: {role} is called with {len(args)} arguments: {error}",
            details=[f"{role} takes {inspect.signature(body)}"],
            where=here().quoted,
        ) from None
    except ValueError:  # some builtins have no signature to ask for
        pass
    return body(*args)


def shape_of(value: Any) -> str:
    """Return a structure as text, a dot for each leaf: `(., [., .])`.

    Example:
        >>> shape_of((1, {"a": 2}))
        '(., {a: .})'
    """
    if value is None:
        return "None"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {shape_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        inner = ", ".join(map(shape_of, value))
        return f"({inner}{',' * (len(value) == 1)})"
    if isinstance(value, list):
        return f"[{', '.join(map(shape_of, value))}]"
    return "."
