"""Run Numba's front end alone: a Python function in, an LLVM module out.

Numba compiles in three steps: bytecode to Numba IR, type inference, lowering to LLVM
IR. They are used as they are, without the passes that a kernel cannot need (Python
object fallbacks, array expressions). What follows in Numba, its two rounds of LLVM
passes, Python wrappers and cache, is replaced by ``native.py``.

This is the only file of the prelude that knows Numba's internals.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import compiler, cpu, errors, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.compiler_machinery import PassManager
from numba.core.registry import cpu_target

from . import native

# Much of Numba is untyped, or typed otherwise than it is used.
numba_compiler: Any = compiler
numba_cpu: Any = cpu
pass_manager: Any = PassManager
pointer_type: Any = types.CPointer

TYPES = {"p": pointer_type(types.int64), "i": types.int64, "": types.void}

# Passes of Numba's that have nothing to do in a kernel, by name, so that a version of
# Numba that lacks one is no error. Together they take a fifth of the front end's time.
NEEDLESS = {
    "NoPythonBackend",  # its result is a compile result with Python wrappers
    "DumpParforDiagnostics",
    "WithLifting",
    "InlineClosureLikes",
    "AnnotateTypes",
    "LiteralUnroll",
    "LiteralPropagationSubPipelinePass",
    "NopythonRewrites",  # array expressions
}


class _FrontEnd(compiler.CompilerBase):
    """Numba's pipeline up to LLVM IR."""

    def define_pipelines(self) -> list[Any]:
        usual = numba_compiler.DefaultPassBuilder.define_nopython_pipeline(self.state)
        manager = pass_manager("graphc-kernel")
        for step, description in usual.passes:
            if step.__name__ not in NEEDLESS:
                manager.add_pass(step, description)
        manager.finalize()
        return [manager]


class _Collector:
    """Stand in for Numba's code library: keep the modules instead of compiling them."""

    def __init__(self, codegen: Any, name: str) -> None:
        self.codegen, self.name = codegen, name
        self.modules: list[ir.Module] = []
        self.libraries: list[Any] = []
        self.recorded_timings = None
        self._reload_init: set[Any] = set()

    def create_ir_module(self, name: str) -> ir.Module:
        return self.codegen._create_empty_module(name)

    def add_ir_module(self, module: ir.Module) -> None:
        self.modules.append(module)

    def add_linking_library(self, library: Any) -> None:
        if library not in self.libraries:
            self.libraries.append(library)


@cache
def _contexts() -> tuple[Any, Any]:
    """Start Numba's registries, once, without SciPy."""
    # numba.np.arraymath asks at import whether SciPy's BLAS is there, by importing it:
    # 0.2 s for an answer that no kernel needs. find_spec gives the same answer.
    arraymath = "numba.np.arraymath"
    if arraymath not in sys.modules and "scipy.linalg" not in sys.modules:
        from numba.np import linalg

        ask = getattr(linalg, "ensure_blas", None)
        if ask is not None and arraymath not in sys.modules:
            linalg.ensure_blas = lambda: None
            try:
                module: Any = importlib.import_module(arraymath)
            finally:
                linalg.ensure_blas = ask
            module.ensure_blas = ask
            module._HAVE_BLAS = importlib.util.find_spec("scipy") is not None
    typing, target = cpu_target.typing_context, cpu_target.target_context
    typing.refresh()
    target.refresh()
    return typing, target


def _flags() -> Any:
    flags: Any = numba_compiler.Flags()
    flags.no_cpython_wrapper = flags.no_cfunc_wrapper = flags.no_compile = True
    flags.release_gil = True
    flags.error_model = "numpy"  # a checked division stops vectorisation
    flags.fastmath = numba_cpu.FastMathOptions({"contract"})
    return flags


def lower(
    function: Callable[..., Any], arguments: str, returns: str, symbol: str
) -> llvm.ModuleRef:
    """Return ``function`` as an LLVM module, not optimised, that exports ``symbol``.

    Raises:  NativeError if Numba refuses the function; its message is part of it.
    """
    with global_compiler_lock:
        typing, target = _contexts()
        library = _Collector(target.codegen(), function.__qualname__)
        front_end: Any = _FrontEnd
        pipeline = front_end(
            typing,
            target,
            library,
            tuple(TYPES[letter] for letter in arguments),
            TYPES[returns],
            _flags(),
            {},
        )
        try:
            result = pipeline.compile_extra(function)
        except errors.NumbaError as error:
            code = function.__code__
            where = f"{code.co_filename}:{code.co_firstlineno}"
            raise native.NativeError(
                f"kernel {function.__name__} ({where}): Numba cannot compile it:\n"
                f"{error}"
            ) from error
        modules = [llvm.parse_assembly(str(module)) for module in library.modules]
        module = modules[0]
        for other in modules[1:]:
            module.link_in(other)
        _link_callees(module, library.libraries)
        inner = result.fndesc.llvm_func_name
        module.link_in(
            llvm.parse_assembly(_c_wrapper(inner, arguments, returns, symbol))
        )
        _hide_all_but(module, symbol)
        return module


def _link_callees(module: llvm.ModuleRef, libraries: list[Any]) -> None:
    """Link in the Numba functions that the module calls."""
    for library in libraries:
        # Numba's runtime is given to every function; kernels allocate nothing.
        if library.name == "nrt":
            continue
        module.link_in(library._get_module_for_linking(), preserve=True)


def _c_wrapper(inner: str, arguments: str, returns: str, symbol: str) -> str:
    """Return the module of a C function that calls a function of Numba's convention.

    Numba's functions are ``int32 f(result *, exception **, arguments...)``. Kernels
    raise nothing, so the status is dropped; once inlined the rest vanishes.
    """
    word = ir.IntType(64)
    letters = {"p": word.as_pointer(), "i": word}
    byte_pointer = ir.IntType(8).as_pointer()
    types_ = [letters[letter] for letter in arguments]
    result = letters.get(returns, byte_pointer)
    module = ir.Module(symbol)
    module.triple = native.target().triple
    callee_type = ir.FunctionType(
        ir.IntType(32), [result.as_pointer(), byte_pointer.as_pointer(), *types_]
    )
    callee = ir.Function(module, callee_type, inner)
    outer_type = ir.FunctionType(letters.get(returns, ir.VoidType()), types_)
    outer = ir.Function(module, outer_type, symbol)
    builder = ir.IRBuilder(outer.append_basic_block("entry"))
    slot, exception = builder.alloca(result), builder.alloca(byte_pointer)
    builder.call(callee, [slot, exception, *outer.args])
    if returns:
        builder.ret(builder.load(slot))
    else:
        builder.ret_void()
    return str(module)


def _hide_all_but(module: llvm.ModuleRef, symbol: str) -> None:
    """Make everything private but the kernel, so that LLVM may inline and drop it."""
    for value in [*module.functions, *module.global_variables]:
        if not value.is_declaration and value.name != symbol:
            if value.linkage == llvm.Linkage.common:
                # Numba's environment pointer, for Python objects: never read here.
                continue
            value.linkage = "internal"
