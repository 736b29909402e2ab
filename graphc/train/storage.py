"""Storage: a model's states in a safetensors file, written and read all or nothing.

The file holds the states by name (`dense_1/kernel`), those of the optimiser under
`optimizer/`, and in its metadata the format, the layers, the shape of the input and
a hash of all of it: safetensors itself would not notice a bit that flipped.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from graphc.errors import GraphcError, ModelFileError
from graphc.ir.origins import here
from graphc.nn.model import Sequential, leaves, provisional
from graphc.optim import Optimizer
from graphc.state import Parameter

Array = np.ndarray[Any, Any]

FORMAT = "graphc-model"
VERSION = "1"
PREFIX = "optimizer/"


# --- writing ------------------------------------------------------------------------


def save(model: Sequential, optimizer: Optimizer | None, path: Any) -> None:
    """Write a model's states, and those of its optimiser.

    The file is written beside its place and moved there when it is whole, so a crash
    leaves the old file.

    Raises:  ModelFileError if the model is not built, or the file cannot be written.
    """
    if not model.built or model.input_type is None:
        raise ModelFileError(
            "save: the model has no weights yet",
            where=here().quoted,
            help="call fit, or model.build((None, features)), first",
        )
    from safetensors.numpy import save as to_bytes

    arrays = {name: s.value for name, s in _states(model, optimizer).items()}
    about = {
        "format": FORMAT,
        "version": VERSION,
        "layers": json.dumps(_layers(model)),
        "input": json.dumps(
            [s if isinstance(s, int) else None for s in model.input_type.shape]
        ),
        "optimizer": type(optimizer).__name__ if optimizer else "",
    }
    about["sha256"] = digest(arrays, about)
    write_whole(Path(path), to_bytes(arrays, metadata=about))


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file by one with this content, or leave it as it was.

    Raises:  ModelFileError if that is not possible.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise ModelFileError(
            f"save: {path} cannot be written: {error.strerror or error}",
            where=here().quoted,
            help="check that the folder exists and is writable",
        ) from None
    finally:
        temporary.unlink(missing_ok=True)


def _states(model: Sequential, optimizer: Optimizer | None) -> dict[str, Parameter]:
    found = {s.name: s for s in model.states}
    if optimizer is not None:
        slots = optimizer.states_of(model.parameters)
        found |= {_slot_name(optimizer, s): s for s in slots}
    return found


def _slot_name(optimizer: Optimizer, state: Parameter) -> str:
    """Return the name in the file, which does not depend on the optimiser's own."""
    return PREFIX + state.name.removeprefix(f"{optimizer.name}/")


def _layers(model: Sequential) -> list[list[str]]:
    return [[layer.name, type(layer).__name__] for layer in leaves(model)]


def digest(arrays: Mapping[str, Array], about: Mapping[str, str]) -> str:
    """Return a hash of everything that a file says.

    Example:
        >>> digest({"w": np.zeros(2)}, {"version": "1"})[:8]
        'd899134a'
    """
    sha = hashlib.sha256()
    for name in sorted(about):
        if name != "sha256":
            sha.update(f"{name}={about[name]}\n".encode())
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        sha.update(np.ascontiguousarray(array).tobytes())
    return sha.hexdigest()


# --- reading ------------------------------------------------------------------------


def load(model: Sequential, optimizer: Optimizer | None, path: Any) -> None:
    """Read what `save` wrote; everything is checked before anything is assigned.

    Raises:  ModelFileError; the model is then as it was.
    """
    arrays, about = read(Path(path))
    where = f"load: {path}"
    theirs, ours = about["layers"], _layers(model)
    if theirs != ours:
        raise ModelFileError(
            f"{where} is of another model",
            details=[f"file : {_listed(theirs)}", f"model: {_listed(ours)}"],
            where=here().quoted,
            help="make the model with the same layers in the same order",
        )
    with provisional(model):
        if not model.built:
            try:
                model.build(about["input"])
            except GraphcError as error:
                raise ModelFileError(
                    f"{where} does not fit the model: {error.message}",
                    where=here().quoted,
                ) from error
        same = optimizer is not None and about["optimizer"] == type(optimizer).__name__
        if not same:
            arrays = {n: a for n, a in arrays.items() if not n.startswith(PREFIX)}
        states = _states(model, optimizer if same else None)
        _check(where, arrays, states)
        _assign(arrays, states)


def read(path: Path) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays of a file, whose hash is right, and what it says of the model.

    Raises:  ModelFileError if the file is missing, damaged, or of another kind.
    """
    from safetensors import SafetensorError, safe_open

    where = f"load: {path}"
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            about = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, LookupError) as error:
        missing = isinstance(error, FileNotFoundError)
        raise ModelFileError(
            f"{where} does not exist" if missing else f"{where} is damaged: {error}",
            where=here().quoted,
            help="give the path of a file that model.save wrote",
        ) from None
    if about.get("format") != FORMAT or about.get("version") != VERSION:
        kind = about.get("format", "no format"), about.get("version", "no version")
        raise ModelFileError(
            f"{where} is no model of this version of graphc: it says {kind[0]}, "
            f"{kind[1]}; expected {FORMAT}, {VERSION}",
            where=here().quoted,
            help="give the path of a file that model.save wrote",
        )
    if digest(arrays, about) != about.get("sha256"):
        raise ModelFileError(
            f"{where} is damaged: its content does not have the hash it had when saved",
            where=here().quoted,
            help="use another copy of the file",
        )
    said = {name: json.loads(about.get(name, "null")) for name in ("layers", "input")}
    return arrays, {**said, "optimizer": about.get("optimizer")}


def _listed(layers: list[list[str]]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in layers) or "no layers"


def _check(
    where: str, arrays: Mapping[str, Array], states: Mapping[str, Parameter]
) -> None:
    problems = [f"{name}: not in the file" for name in states if name not in arrays]
    problems += [f"{name}: not in the model" for name in arrays if name not in states]
    for name, array in arrays.items():
        state = states.get(name)
        if state is None:
            continue
        if array.shape != state.shape or array.dtype != state.dtype.numpy:
            file = f"{array.dtype} {list(array.shape)}"
            problems.append(f"{name}: {file} in the file, {state.type} in the model")
    if problems:
        raise ModelFileError(
            f"{where} does not fit the model",
            details=problems,
            where=here().quoted,
            help="make the model with the same sizes; to read the weights alone where "
            "the optimizer differs, load before compile",
        )


def _assign(arrays: Mapping[str, Array], states: Mapping[str, Parameter]) -> None:
    old = {name: state.value for name, state in states.items()}
    try:
        for name, state in states.items():
            state.value = arrays[name]
    except BaseException:  # Ctrl-C between two of them
        for name, state in states.items():
            state.value = old[name]
        raise
