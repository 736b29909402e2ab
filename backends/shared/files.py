"""Generated modules on disk.

A module is written, atomically, into the cache folder under a name that is its own
hash, and imported from there, so that tracebacks and debuggers show it. A map from
kernels to the user's lines lies beside it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """Return where modules and machine code lie: GRAPHC_CACHE_DIR, or the user's."""
    given = os.environ.get("GRAPHC_CACHE_DIR")
    if given:
        return Path(given)
    import platformdirs

    return Path(platformdirs.user_cache_dir("graphc"))


_modules: dict[str, ModuleType] = {}


def load_module(name: str, text: str, lines: object) -> ModuleType:
    """Write a module and the map to the user's lines beside it; import it."""
    if name in _modules:
        return _modules[name]
    path = save_module(name, text, lines)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    _modules[name] = module
    return module


def save_module(name: str, text: str, lines: object) -> Path:
    """Write a module and the map to the user's lines beside it; return its file.

    A folder that cannot be written costs only the cache: the module then goes into a
    temporary one. A damaged file is written over.
    """
    if name in _modules:
        return Path(str(_modules[name].__file__))
    folder = cache_folder() / "modules"
    try:
        return _write_into(folder, name, text, lines)
    except OSError:
        return _write_into(Path(tempfile.mkdtemp(prefix="graphc-")), name, text, lines)


def _write_into(folder: Path, name: str, text: str, lines: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.py"
    if not path.exists() or path.read_text(errors="replace") != text:
        write_atomically(path, text)
    write_atomically(path.with_suffix(".json"), json.dumps(lines, indent=1))
    return path


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that nobody ever sees half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
