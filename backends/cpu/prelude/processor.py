"""The processor that code is made for: this one, or less than this one.

Code is made for the processor that graphc runs on. ``GRAPHC_CPU`` names a lower level
of x86-64 instead: several machines can then share a cache folder, and what another one
would run can be tested and read here.

    x86-64       SSE2                         vectors of 16 bytes
    x86-64-v2    SSE4.2                       16
    x86-64-v3    AVX2, FMA                    32
    x86-64-v4    AVX-512 F, BW, CD, DQ, VL    64

The levels are those of the x86-64 psABI (System V Application Binary Interface, AMD64
supplement), and LLVM knows them as processors by the same names. Below x86-64-v3 there
is no fused multiply-add: the elementary functions, whose bits need one, call the C
library for it, number by number.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache

import llvmlite.binding as llvm

VARIABLE = "GRAPHC_CPU"
NATIVE = "native"

# What each level adds to the one before, in LLVM's words.
LEVELS = {
    "x86-64": "64bit cmov cx8 fxsr mmx sse sse2",
    "x86-64-v2": "crc32 cx16 popcnt sahf sse3 sse4.1 sse4.2 ssse3",
    "x86-64-v3": "avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave",
    "x86-64-v4": "avx512f avx512bw avx512cd avx512dq avx512vl",
}


class ProcessorError(RuntimeError):
    """Say what code cannot be made for, and as help what it can."""

    def __init__(self, problem: str, help: str) -> None:
        """Keep both apart; the message is their sum."""
        super().__init__(f"{problem}; {help}")
        self.problem, self.help = problem, help


@dataclass(frozen=True)
class Target:
    """Describe the processor that code is made for.

    ``vector_bytes`` and ``registers`` size the register tile of a matrix product.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int

    @property
    def text(self) -> str:
        """Return one line that differs wherever the machine code may differ."""
        return f"{self.triple} {self.cpu} {self.features}"


@cache
def target() -> Target:
    """Return the processor that this process makes code for.

    Raises:  ProcessorError if ``GRAPHC_CPU`` names none, or one that this processor
             is less than.
    """
    return chosen(
        os.environ.get(VARIABLE) or NATIVE,
        llvm.get_process_triple(),
        llvm.get_host_cpu_name(),
        llvm.get_host_cpu_features(),
    )


def chosen(name: str, triple: str, cpu: str, host: Mapping[str, bool]) -> Target:
    """Return the target called ``name`` on a processor that has the features ``host``.

    Raises:  ProcessorError if there is none, or this processor cannot run its code.
    """
    if name == NATIVE:
        flags = ",".join(f"{'+' if host[f] else '-'}{f}" for f in sorted(host))
        return _sized(triple, cpu, flags, {f for f in host if host[f]})
    possible = [NATIVE, *runnable(triple, host)]
    choices = f"set it to one of {', '.join(possible)}"
    if name not in LEVELS:
        raise ProcessorError(f"{VARIABLE}={name}: unknown processor", choices)
    features = features_of(name)
    if name not in possible:
        missing = sorted(f for f in features if not host.get(f))
        raise ProcessorError(
            f"{VARIABLE}={name}: this processor ({cpu}) cannot run such code, it has "
            f"no {', '.join(missing)}",
            choices,
        )
    return _sized(triple, name, ",".join(f"+{f}" for f in features), features)


def features_of(level: str) -> list[str]:
    """Return the features of a level, those of the levels below it first."""
    names = list(LEVELS)
    return [f for one in names[: names.index(level) + 1] for f in LEVELS[one].split()]


def runnable(triple: str, host: Mapping[str, bool]) -> list[str]:
    """Return the levels that a processor can run."""
    if not triple.startswith("x86_64"):
        return []
    return [one for one in LEVELS if all(host.get(f) for f in features_of(one))]


def _sized(triple: str, cpu: str, flags: str, features: Collection[str]) -> Target:
    """Return a target with the vectors that its features give it."""
    if not triple.startswith("x86_64"):
        return Target(triple, cpu, flags, 16, 32)
    if "avx512f" in features:
        return Target(triple, cpu, flags, 64, 32)
    middle = {"avx2", "fma"}.issubset(features)
    return Target(triple, cpu, flags, 32 if middle else 16, 16)
