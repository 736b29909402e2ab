"""What was chosen for nests, kept in a file for people to read and for `replay`.

    {
      "version": 1,
      "nests": {
        "6f0c...": {
          "nest": ["nest add (i0: 4194304) {vector i0 x16, ahead}", ...],
          "target": "x86_64-unknown-linux-gnu icelake-server", "threads": 2,
          "chosen": {"far": "stream"},
          "default": [4068.6, 4120.0], "tuned": [3043.9, 3110.2],
          "tried": {"far=ahead": [...], "far=": [...], "far=stream": [...]}
        }
      }
    }

Times are the least and the median of samples of the nest alone, in microseconds.

The file lies in the cache folder, and may be copied to where the same code runs. A key
is the hash of all that a measurement depends on: the nest with its sizes and where its
buffers lie, the processor, the number of threads, the versions of what makes the code.
What is damaged or unknown is left out with a warning. Two processes that measure at
once each add their own; where one overwrites the other's, that is measured again.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphc.backends.cpu.choices import Choices
from graphc.backends.cpu.trial import Times
from graphc.backends.shared.files import cache_folder, write_atomically

VERSION = 1


@dataclass(frozen=True)
class Entry:
    """What was measured for a nest.

    default, tuned: its times as the model of the machine decides, and with what was
    chosen. tried: with each value of each choice, those before it settled.
    """

    nest: tuple[str, ...]
    target: str
    threads: int
    chosen: Choices
    default: Times
    tuned: Times
    tried: Mapping[str, Times]


class ChoicesFile:
    """The file in the cache folder, read once, and written with each entry."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_folder() / "choices.json"
        self._entries: dict[str, Any] = self._read()

    def find(self, key: str) -> Entry | None:
        """Return what is known under a key; of what is damaged, nothing."""
        if key not in self._entries:
            return None
        try:
            return _entry(self._entries[key])
        except (KeyError, TypeError, ValueError, AttributeError):
            self.ignore(key, "it is damaged")
            return None

    def ignore(self, key: str, reason: str) -> None:
        """Leave an entry out, and warn."""
        self._entries.pop(key)
        _warn(f"{self.path}: ignored the entry {key}: {reason}")

    def keep(self, key: str, entry: Entry) -> None:
        """Add an entry, beside those that others have added meanwhile."""
        self._entries = {**self._read(), **self._entries, key: _plain(entry)}
        whole = {"version": VERSION, "nests": self._entries}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self.path, json.dumps(whole, indent=1) + "\n")
        except OSError as error:
            _warn(f"{self.path}: choices are not kept: {error}")

    def _read(self) -> dict[str, Any]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            _warn(f"{self.path}: ignored: {error}")
            return {}
        try:
            found = json.loads(text)
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']}, not {VERSION}")
            return {str(k): v for k, v in found["nests"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            _warn(f"{self.path}: ignored, it is damaged or of another version: {error}")
            return {}


def _plain(entry: Entry) -> dict[str, Any]:
    return {
        "nest": list(entry.nest),
        "target": entry.target,
        "threads": entry.threads,
        "chosen": dict(entry.chosen),
        "default": _pair(entry.default),
        "tuned": _pair(entry.tuned),
        "tried": {text: _pair(times) for text, times in entry.tried.items()},
    }


def _pair(times: Times) -> list[float]:
    return [round(times.least, 2), round(times.median, 2)]


def _entry(found: Any) -> Entry:
    """Return the entry of a plain one.

    Raises:  KeyError, TypeError, ValueError or AttributeError where it is none.
    """
    default, tuned = (Times(*map(float, found[k])) for k in ("default", "tuned"))
    return Entry(
        tuple(map(str, found["nest"])),
        str(found["target"]),
        int(found["threads"]),
        dict(found["chosen"].items()),
        default,
        tuned,
        {k: Times(*map(float, v)) for k, v in found["tried"].items()},
    )


def _warn(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=3)
