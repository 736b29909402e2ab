"""Attribute values as text, both ways, and what kinds of values a field takes.

    value = "true" | "false" | "none" | integer | float | string | dtype | size
          | "[" [value {"," value}] "]"
          | type "[" [element {"," element}] "]"        an array, row-major
          | type "#" hash                               one that is kept in a file
    float = as Python writes it, "inf", "-inf", "nan" or "nan(0x" bits ")"

Values come back bit by bit. A size that begins with one of the words above is written
in brackets, as `(inf)`.
"""

from __future__ import annotations

import math
import re
import struct
import types
import typing
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from graphc.errors import GraphcError
from graphc.ir.dims import Dim, DimError, Size, parse_size, product
from graphc.ir.nodes import Array
from graphc.ir.scanner import Fault, Scanner, did_you_mean, quote
from graphc.ir.types import BY_SHORT, DTYPES, DType, TensorType, as_dtype

INLINE = 64  # elements of the largest array that stands in the text itself

Constants = Mapping[str, "np.ndarray[Any, Any]"]

_WORDS = {"true": True, "false": False, "none": None}
_RESERVED = re.compile(rf"({'|'.join((*_WORDS, 'inf', 'nan', *BY_SHORT))})\b")
_NAME = re.compile(r"[A-Za-z_]\w*")
_NAN = re.compile(r"nan(\(0x([0-9a-f]+)\))?(?!\w)")
_INF = re.compile(r"-?inf(?!\w)")
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?(?=\s*([],})]|$))", re.MULTILINE)
_HASH = re.compile(r"#([0-9a-f]{16})(?!\w)")
_DEPTH = 50
_DIGITS = 1000
_NANS = {4: ("<f", "<I", 0x7FC00000), 8: ("<d", "<Q", 0x7FF8000000000000)}


# --- writing ------------------------------------------------------------------------


def format_value(value: object) -> str:
    """Return an attribute's value as text; `read_value` reads it back.

    Raises:  GraphcError for a value that has no text form.
    Example:
        >>> format_value((1, -0.0, float("inf"), "a", None))
        '[1, -0.0, inf, "a", none]'
    """
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return _format_float(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, DType):
        return value.short
    if isinstance(value, Dim):
        text = str(value)
        return f"({text})" if _RESERVED.match(text.lstrip("-")) else text
    if isinstance(value, tuple):
        return f"[{', '.join(map(format_value, value))}]"
    if isinstance(value, Array):
        return _format_array(value)
    raise GraphcError(
        f"an attribute has no text form: {value!r}",
        help="use bools, ints, floats, strings, dtypes, sizes, Arrays and tuples",
    )


def _format_float(value: float, bits: int = 64) -> str:
    if value == value:
        return repr(float(value))
    pattern = int.from_bytes(struct.pack(">d", value), "big")
    if pattern == _NANS[8][2]:
        return "nan"
    return f"nan(0x{pattern:016x})"


def _format_array(array: Array) -> str:
    kind = array_type(array.value)
    if array.value.size > INLINE:
        return f"{kind} #{digest(array.value)}"
    return f"{kind} [{', '.join(_elements(array.value))}]"


def _elements(array: np.ndarray[Any, Any]) -> Iterable[str]:
    flat = array.reshape(-1)
    if array.dtype.kind != "f":
        return [format_value(v) for v in flat.tolist()]
    found = []
    _, integer, quiet = _NANS[array.dtype.itemsize]
    for value, pattern in zip(flat, flat.view(np.dtype(integer)).tolist(), strict=True):
        if value != value:
            digits = 2 * array.dtype.itemsize
            found.append("nan" if pattern == quiet else f"nan(0x{pattern:0{digits}x})")
            continue
        text = str(value)  # NumPy's shortest
        exact = array.dtype.type(float(text)) == value
        found.append(text if exact else repr(float(value)))
    return found


def array_type(array: np.ndarray[Any, Any]) -> TensorType:
    """Return the type of an array."""
    return TensorType(as_dtype(array.dtype), array.shape)


def digest(array: np.ndarray[Any, Any]) -> str:
    """Return the 16 hexadecimal digits that name a large constant: type and bits."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    content = f"{array_type(array)}\n".encode() + little.tobytes()
    return sha256(content).hexdigest()[:16]


# --- reading ------------------------------------------------------------------------


def read_value(scan: Scanner, constants: Constants | None, depth: int = 0) -> Any:
    """Read an attribute's value, of whatever kind it is."""
    start = scan.skip()
    if scan.looking_at('"'):
        return scan.string("a string")
    if scan.accept("["):
        if depth == _DEPTH:
            raise scan.fault(f"more than {_DEPTH} brackets within each other", start)
        return tuple(
            read_list(scan, lambda: read_value(scan, constants, depth + 1), "]")
        )
    special = _read_special(scan, 8)
    if special is not None:
        return struct.unpack("<d", special)[0]
    number = scan.match(_NUMBER)
    if number is not None:
        return _number(scan, number, start)
    if _RESERVED.match(scan.text, start):
        word = scan.match(_NAME)
        assert word is not None
        if word in _WORDS:
            return _WORDS[word]
        if not scan.looking_at("["):
            return BY_SHORT[word]
        scan.at = start
        return _read_array(scan, constants)
    return read_size(scan, "a value")


def read_list(scan: Scanner, item: Any, close: str) -> list[Any]:
    """Read items up to a closing mark."""
    found: list[Any] = []
    if scan.accept(close):
        return found
    while True:
        found.append(item())
        if scan.expect(",", close) == close:
            return found


def read_size(scan: Scanner, what: str = "a size", stop: str = ",]}") -> Size:
    """Read a size up to one of the marks in `stop` outside of brackets."""
    start = scan.skip()
    depth, at = 0, start
    while at < len(scan.text):
        char = scan.text[at]
        if char == "\n" or (depth == 0 and char in stop):
            break
        depth += (char == "(") - (char == ")")
        if depth < 0:
            break
        at += 1
    piece = scan.text[start:at].rstrip()
    if not piece:
        raise scan.expected(what)
    try:
        size = parse_size(piece)
    except DimError as error:
        told = re.search(r": column (\d+): (.*)", str(error))
        cause, column = (told[2], int(told[1])) if told else (str(error), 1)
        raise Fault(
            start + column - 1,
            f"this is not {what}: {cause}" if what != "a size" else f"size: {cause}",
            "write one like N, 2*N+1, (N+1)//2, N%3 or min(N,3)",
        ) from None
    scan.at = at
    return size


def read_type(scan: Scanner) -> TensorType:
    """Read a tensor type, `f32[N,784]`."""
    start = scan.skip()
    word = scan.match(_NAME)
    if word is None:
        raise scan.expected("a type, such as f32[N,784]")
    dtype = BY_SHORT.get(word)
    if dtype is None:
        longer = {d.name: d.short for d in DTYPES}
        known = ", ".join(BY_SHORT)
        raise scan.fault(
            f"unknown dtype {word!r}",
            start,
            f"write {longer[word]}" if word in longer else f"use one of {known}",
        )
    scan.expect("[")
    return TensorType(dtype, tuple(read_list(scan, lambda: _read_axis(scan), "]")))


def _read_axis(scan: Scanner) -> Size:
    start = scan.skip()
    size = read_size(scan)
    if isinstance(size, int) and size < 0:
        raise scan.fault(f"a dimension cannot be negative: {size}", start)
    return size


def _read_special(scan: Scanner, itemsize: int) -> bytes | None:
    """Read an infinity or a NaN as the bytes of a float of this size."""
    start = scan.skip()
    floating, integer, quiet = _NANS[itemsize]
    infinite = scan.match(_INF)
    if infinite is not None:
        return struct.pack(floating, float(infinite))
    found = _NAN.match(scan.text, start)
    if found is None:
        return None
    scan.at = found.end()
    pattern = quiet
    if found[2] is not None:
        pattern = int(found[2], 16) if len(found[2]) == 2 * itemsize else 0
    bits = struct.pack(integer, pattern)
    if not math.isnan(struct.unpack(floating, bits)[0]):
        raise scan.fault(f"these are not the {8 * itemsize} bits of a NaN", start)
    return bits


def _number(scan: Scanner, text: str, start: int) -> int | float:
    if len(text) > _DIGITS:
        raise scan.fault(f"a number has at most {_DIGITS} digits", start)
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    value = float(text)
    if abs(value) == float("inf"):
        raise scan.fault(f"{text} is beyond float64", start, "write inf")
    return value


# --- reading arrays -----------------------------------------------------------------


def _read_array(scan: Scanner, constants: Constants | None) -> Array:
    start = scan.skip()
    kind = read_type(scan)
    if not all(isinstance(s, int) for s in kind.shape):
        raise scan.fault(f"an array's shape is of ints, not {kind}", start)
    named = scan.match(_HASH)
    if named is not None:
        return _kept(scan, kind, named[1:], constants, start)
    scan.expect("[", "#")
    read = {"b": _read_bool, "i": _read_int, "f": _read_float}[kind.dtype.kind]
    values = read_list(scan, lambda: read(scan, kind.dtype), "]")
    if len(values) != product(kind.shape):
        raise scan.fault(
            f"{kind} has {product(kind.shape)} elements, {len(values)} are given", start
        )
    flat = np.frombuffer(b"".join(values), kind.dtype.numpy.newbyteorder("<"))
    flat = flat.astype(kind.dtype.numpy)
    return Array(flat.reshape(typing.cast("tuple[int, ...]", kind.shape)))


def _kept(
    scan: Scanner, kind: TensorType, name: str, constants: Constants | None, start: int
) -> Array:
    if constants is None or name not in constants:
        where = "a file beside the text" if constants is None else "the constants given"
        raise scan.fault(
            f"the elements of {kind} #{name} are not in the text, but in {where}"
            if constants is None
            else f"{kind} #{name} is not among {where}",
            start,
            "read it with load_text from the place where save_text wrote it",
        )
    array = constants[name]
    if array_type(array) != kind or digest(array) != name:
        raise scan.fault(
            f"the constant that is kept as #{name} is another one, "
            f"a {array_type(array)}",
            start,
            "the text and its .safetensors file do not belong together",
        )
    return Array(array)


def _read_bool(scan: Scanner, _: DType) -> bytes:
    word = scan.accept_word("true", "false")
    if word is None:
        raise scan.expected("true or false")
    return b"\1" if word == "true" else b"\0"


def _read_int(scan: Scanner, dtype: DType) -> bytes:
    start = scan.skip()
    text = scan.match(_NUMBER)
    value = None if text is None else _number(scan, text, start)
    if not isinstance(value, int):
        scan.at = start
        raise scan.expected("an integer")
    limits = np.iinfo(dtype.numpy)
    if not limits.min <= value <= limits.max:
        raise scan.fault(f"{value} is beyond {dtype}", start)
    return value.to_bytes(dtype.itemsize, "little", signed=True)


def _read_float(scan: Scanner, dtype: DType) -> bytes:
    start = scan.skip()
    special = _read_special(scan, dtype.itemsize)
    if special is not None:
        return special
    text = scan.match(_NUMBER)
    if text is None:
        raise scan.expected("a number")
    try:
        return struct.pack(_NANS[dtype.itemsize][0], _number(scan, text, start))
    except OverflowError:
        raise scan.fault(f"{text} is beyond {dtype}", start, "write inf") from None


# --- fields -------------------------------------------------------------------------


def field_kinds(attrs: type[Any]) -> dict[str, Any]:
    """Return what each field of an attributes class is annotated with.

    Empty where the annotations cannot be resolved; then nothing is checked.
    """
    found = _KINDS.get(attrs)
    if found is None:
        try:
            found = typing.get_type_hints(attrs)
        except Exception:  # names that only a function knew
            found = {}
        _KINDS[attrs] = found
    return found


_KINDS: WeakKeyDictionary[type[Any], dict[str, Any]] = WeakKeyDictionary()


def fits(value: object, kind: Any) -> bool:
    """Whether a value is of an annotated kind. An int is a float, a bool is neither."""
    origin = typing.get_origin(kind)
    if origin is typing.Union or origin is types.UnionType:
        return any(fits(value, k) for k in typing.get_args(kind))
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        parts = typing.get_args(kind)
        if parts[-1:] == (Ellipsis,):
            return all(fits(v, parts[0]) for v in value)
        return len(parts) == len(value) and all(map(fits, value, parts))
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if kind in (int, float):
        number = int if kind is int else (int, float)
        return isinstance(value, number) and not isinstance(value, bool)
    if kind is None or kind is type(None):
        return value is None
    return not isinstance(kind, type) or isinstance(value, kind)


_SPOKEN = {
    bool: "true or false",
    int: "an int",
    float: "a float",
    str: "a string",
    DType: "a dtype",
    Dim: "a size",
    Array: "an array",
    type(None): "none",
}


def speak(kind: Any) -> str:
    """Return what an annotated kind is called in a message."""
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Union or origin is types.UnionType:
        kept = [p for p in parts if not (p is int and Dim in parts)]
        return " or ".join(map(speak, kept))
    if origin is tuple:
        return f"a list, each item {speak(parts[0])}"
    if origin is typing.Literal:
        return " or ".join(map(format_value, parts))
    return _SPOKEN.get(kind, getattr(kind, "__name__", str(kind)))


def spoken_value(value: object) -> str:
    """Return a value for a message, of whatever kind it is."""
    try:
        return format_value(value)
    except GraphcError:
        return repr(value)


def bad_field(name: str, known: Iterable[str]) -> str:
    """Return the help for an attribute that does not exist."""
    names = list(known)
    return did_you_mean(name, names) if names else "it has no attributes"
