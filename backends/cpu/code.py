"""The machine code of a module's kernels: found by the module's text, or compiled.

    cold    text -> module, imported -> kernels -> LLVM -> objects/*.o, a file of keys
    warm    text -> the file of keys -> objects/*.o

A kernel's key names its object file. The keys of a module stand in a file of their
own, named by the hash of the module's text and of what else the code depends on. So a
process whose kernels are all there imports neither the module nor Numba; whoever looks
into a kernel (`k.llvm`) imports them then.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import NoReturn, TypeVar

from graphc.backends.cpu.prelude import native
from graphc.backends.cpu.prelude.kernel import (
    Kernel,
    address,
    cached_address,
    versions,
)
from graphc.backends.shared.files import (
    cache_folder,
    load_module,
    save_module,
    write_atomically,
)
from graphc.backends.shared.module import Source

T = TypeVar("T")


def cached_addresses(keys: Sequence[str]) -> list[int] | None:
    """Return the addresses of kernels by their keys; None if the cache lacks one."""
    found = [cached_address(key) for key in keys]
    return None if None in found else [a for a in found if a is not None]


class Code:
    """The kernels of a module, in the order of its `source.kernels`."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.name = f"graphc_step_{source.digest}"
        self.keys: list[str] = []  # of its kernels, once their addresses are known
        self.file = str(save_module(self.name, source.text, source.lines()))

    @cached_property
    def kernels(self) -> list[Kernel]:
        """The kernels of the module, which is imported for them."""
        module = load_module(self.name, self.source.text, self.source.lines())
        return [getattr(module, text.name) for text in self.source.kernels]

    def addresses(
        self, refuse: Callable[[int, native.NativeError], NoReturn]
    ) -> list[int]:
        """Return the addresses of the kernels.

        refuse: raises the error that a kernel, by its number, does not compile.
        """
        path = self._path()
        self.keys = self._read(path)
        found = cached_addresses(self.keys)
        if found is not None and len(found) == len(self.source.kernels):
            return found

        def each(step: Callable[[Kernel], T]) -> Iterator[T]:
            for k, kernel in enumerate(self.kernels):
                try:
                    yield step(kernel)
                except native.NativeError as error:
                    refuse(k, error)

        # All front ends first: LLVM follows them in another thread.
        for _ in each(Kernel.begin):
            pass
        addresses = list(each(address))
        self.keys = [k.key for k in self.kernels]
        with contextlib.suppress(OSError):
            write_atomically(path, json.dumps(self.keys))
        return addresses

    def _path(self) -> Path:
        key = native.content_key("module", *versions(), self.source.text)
        return cache_folder() / "modules" / f"{key}.keys"

    @staticmethod
    def _read(path: Path) -> list[str]:
        """Return the keys that a file holds; none if it is damaged or missing."""
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError):
            return []
        good = isinstance(found, list) and all(isinstance(key, str) for key in found)
        return found if good else []
