"""Turn LLVM modules into machine code in this process, and keep it on disk.

Numba has a compiler back end and a disk cache of its own. This file replaces both for
graphc's kernels, because both cost more than a small kernel is worth:

* Numba's back end links its runtime into every function and optimises twice.
* Numba's cache unpickles a compile result, which first starts Numba's registries
  (0.3 s, half of it SciPy) and then takes 3 to 6 ms a function.

Here a kernel is one LLVM module in, one object file out. An object file loads in about
1 ms without importing Numba, so a warm process never starts Numba's compiler.

The cache is a folder of files named by the hash of everything that went into the code.
A file is written under another name and moved into place, so that readers never see
half a file and two processes may compile the same kernel at once; each file carries a
digest of its contents, so that a damaged one is compiled again; a folder that cannot be
read or written costs the cache and nothing else.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm

from . import unlocked
from .processor import target as target

MAGIC = b"graphc-object-1\n"

# The tables of LLVM's that hold what is loaded are not safe under threads.
LOCK = threading.RLock()


def _after_fork() -> None:
    # Another thread of the parent may have held it, and is not there to release it.
    global LOCK
    LOCK = threading.RLock()
    _workers.cache_clear()  # their threads stayed in the parent
    _begun.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class NativeError(RuntimeError):
    """Say that a kernel could not be made into machine code, and which one."""


@dataclass(frozen=True)
class Native:
    """Hold a function's address in this process and how it came to be."""

    address: int
    from_cache: bool
    compile_seconds: float


@cache
def _initialize() -> None:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # inline assembly: the spin loop's `pause`


def _target_machine() -> llvm.TargetMachine:
    # These are the options that Numba's own JIT uses. The large code model of
    # "jitdefault" costs a register here and there, but code and constants may then lie
    # anywhere in the address space.
    _initialize()
    made_for = target()
    return llvm.Target.from_triple(made_for.triple).create_target_machine(
        cpu=made_for.cpu,
        features=made_for.features,
        opt=2,
        reloc="static" if made_for.triple.startswith("x86") else "default",
        codemodel="jitdefault",
        jit=True,
    )


class _Own(threading.local):
    """What each thread that compiles has for itself."""

    @cached_property
    def machine(self) -> llvm.TargetMachine:
        return _target_machine()


_own = _Own()


@cache
def _engine() -> llvm.ExecutionEngine:
    # One engine for all, never freed: a table may hold a kernel's address for as long
    # as the process lives. Symbols are named by hash, so they never clash.
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine())


@cache
def data_layout() -> str:
    """Return how the target lays out data, as a module says it."""
    return str(_own.machine.target_data)


# What a kernel needs that spells out its vectors, accumulators and masks, and whose
# loops hold nothing that could stand in front of them (`hoisting.py`). The making of
# code combines instructions and finds equal ones again, whoever has done so before:
# with LLVM's passes for both (`instruction_combine`, `new_gvn`) compiling took a
# quarter longer, for kernels of the same size and speed.
_TIDYING = ("always_inliner", "sroa", "simplify_cfg")


def optimize(
    module: llvm.ModuleRef,
    *,
    vectorize: bool = False,
    unroll: bool = False,
    thorough: bool = False,
) -> None:
    """Optimise ``module`` in place.

    thorough: by LLVM's usual pipeline, which Numba's code needs; even so without its
    loop vectoriser and unroller, unless they are asked for: they take half the time.
    """
    options = llvm.create_pipeline_tuning_options()
    options.speed_level = 2
    options.loop_vectorization = vectorize
    options.slp_vectorization = False
    options.loop_interleaving = vectorize
    options.loop_unrolling = unroll
    builder = llvm.create_pass_builder(_own.machine, options)
    if thorough:
        manager = builder.getModulePassManager()
    else:
        manager = llvm.create_new_module_pass_manager()
        for name in _TIDYING:
            getattr(manager, f"add_{name}_pass")()
    unlocked.run_passes(manager, module, builder)


def assembly(module: llvm.ModuleRef) -> str:
    """Return the assembly text of an optimised module."""
    return str(_own.machine.emit_assembly(module))


def find(key: str, symbol: str) -> Native | None:
    """Return the function ``symbol`` if the cache has it under ``key``."""
    with LOCK:
        started = time.perf_counter()
        stored = _read(key)
        address = _link(*stored, symbol) if stored is not None else 0
        if not address:
            return None
        return Native(address, True, time.perf_counter() - started)


def compile_object(build: Build) -> tuple[list[str], bytes]:
    """Return the object file of what ``build`` returns, and the functions it needs.

    It holds no lock, so threads may compile while another runs a front end.
    """
    module = build()
    needs = sorted(
        function.name
        for function in module.functions
        if function.is_declaration and not function.name.startswith("llvm.")
    )
    return needs, unlocked.emit_object(_own.machine, module)


Build = Callable[[], llvm.ModuleRef]
_begun: dict[str, Future[Native]] = {}


def begin(key: str, symbol: str, build: Build, name: str) -> Future[Native]:
    """Compile, link and keep what `load` will ask for, beside what this thread does.

    Most of that is LLVM's work, during which Python runs on, and other threads compile
    too: a cold start gets shorter by what they and the front ends do meanwhile. It is
    done once, whoever else asks for it before it is there.
    """
    with LOCK:
        if key not in _begun:
            _begun[key] = _workers().submit(_make, key, symbol, build, name)
        return _begun[key]


def _make(key: str, symbol: str, build: Build, name: str) -> Native:
    started = time.perf_counter()
    needs, machine_code = compile_object(build)
    with LOCK:
        address = _link(needs, machine_code, symbol)
    if not address:
        missing = [need for need in needs if not llvm.address_of_symbol(need)]
        raise NativeError(
            f"kernel {name}: this process has no function {', '.join(missing)}, "
            "which its code calls; write it with the prelude's operations"
        )
    _write(key, needs, machine_code)
    return Native(address, False, time.perf_counter() - started)


def is_at_hand(key: str) -> bool:
    """Tell whether ``key`` has a file in the cache, sound or not, or will have one."""
    folder = cache_folder()
    return key in _begun or (folder is not None and (folder / f"{key}.o").exists())


@cache
def _workers() -> ThreadPoolExecutor:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
    return ThreadPoolExecutor(min(count, 8), thread_name_prefix="graphc-compile")


def load(key: str, symbol: str, build: Build, name: str) -> Native:
    """Return the function ``symbol``, from the cache or from what ``build`` returns.

    ``key`` names the code's file in the cache. ``build`` returns an optimised module.
    ``name`` is for messages.
    """
    found = None if key in _begun else find(key, symbol)
    if found is not None:
        return found
    try:
        return begin(key, symbol, build, name).result()
    finally:
        _begun.pop(key, None)


def _link(needs: list[str], machine_code: bytes, symbol: str) -> int:
    """Load an object file; return the address, 0 if it calls what is not there."""
    engine = _engine()  # with which LLVM comes to know the process's own functions
    # LLVM ends the process if a symbol is missing, so look before it does.
    if not all(llvm.address_of_symbol(need) for need in needs):
        return 0
    engine.add_object_file(llvm.object_file.ObjectFileRef.from_data(machine_code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol))


def linked(symbol: str) -> int:
    """Return the address of a function of code that has been loaded."""
    return int(_engine().get_function_address(symbol))


# --- the cache ---------------------------------------------------------------------

_folder: list[Path | None] = []


def cache_folder() -> Path | None:
    """Return the folder of the object cache, None where caching is off.

    It is the folder given to `set_cache_folder`, else ``$GRAPHC_CACHE_DIR/objects``
    (an empty variable turns the cache off), else ``~/.cache/graphc/objects``.
    """
    if _folder:
        return _folder[0]
    named = os.environ.get("GRAPHC_CACHE_DIR")
    if named is not None:
        return Path(named) / "objects" if named else None
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        root = Path(base) if base else Path.home() / ".cache"
    except RuntimeError:  # no home folder is known
        return None
    return root / "graphc" / "objects"


def set_cache_folder(folder: Path | str | None) -> None:
    """Keep machine code in ``folder`` from now on; None turns the cache off."""
    _folder[:] = [None if folder is None else Path(folder)]


@cache
def prelude_hash() -> str:
    """Return the hash of this folder's sources: kernels are made of them."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def content_key(*parts: str) -> str:
    """Return the cache key of code that is made from ``parts`` on this target."""
    whole = (*parts, prelude_hash(), target().text, llvmlite.__version__)
    return hashlib.sha256("\0".join(whole).encode()).hexdigest()[:40]


def _read(key: str) -> tuple[list[str], bytes] | None:
    folder = cache_folder()
    if folder is None:
        return None
    try:
        data = (folder / f"{key}.o").read_bytes()
        magic, digest, rest = data[:16], data[16:48], data[48:]
        if magic != MAGIC or hashlib.sha256(rest).digest() != digest:
            return None
        head, machine_code = rest.split(b"\n", 1)
        return list(json.loads(head)), machine_code
    except (OSError, ValueError):
        return None


def _write(key: str, needs: list[str], machine_code: bytes) -> None:
    folder = cache_folder()
    if folder is None:
        return
    rest = json.dumps(needs).encode() + b"\n" + machine_code
    temporary = ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + hashlib.sha256(rest).digest() + rest)
        os.replace(temporary, folder / f"{key}.o")
    except OSError:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


# --- reading and calling -----------------------------------------------------------

_NOISE = re.compile(
    r"\s*\.(file|p2align|type|size|globl|section|text|ident|cfi|comm)\b"
)


def tidy_assembly(text: str) -> str:
    """Return assembly without the directives that only an assembler reads."""
    lines = [line for line in text.splitlines() if line and not _NOISE.match(line)]
    return "\n".join(lines) + "\n"


def c_function(
    address: int, arguments: int, returns: bool = False
) -> Callable[..., int]:
    """Return a Python callable that passes integers and drops the GIL meanwhile.

    Such a call takes 0.4 to 0.7 us; `team.Team` has a quicker way for its own.
    """
    result = ctypes.c_int64 if returns else None
    prototype = ctypes.CFUNCTYPE(result, *[ctypes.c_int64] * arguments)
    return prototype(address)
