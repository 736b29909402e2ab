"""Code for less than the processor at hand: chosen, refused, and right."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest

from graphc.backends.cpu.prelude import processor
from graphc.backends.cpu.prelude.processor import LEVELS, ProcessorError, chosen
from graphc.cli import doctor

SCRIPT = Path(__file__).with_name("processor_script.py")
X86 = "x86_64-unknown-linux-gnu"
ARM = "aarch64-unknown-linux-gnu"
TRIPLE, HOST = llvm.get_process_triple(), llvm.get_host_cpu_features()


def features(level: str) -> dict[str, bool]:
    """Return all known features; a level's are on."""
    on = set(processor.features_of(level))
    return {f: f in on for f in processor.features_of("x86-64-v4")}


@pytest.mark.parametrize(
    ("level", "vector_bytes", "registers"),
    list(zip(LEVELS, (16, 16, 32, 64), (16, 16, 16, 32), strict=True)),
)
def test_a_level_is_a_target_as_if_the_processor_had_no_more(
    level: str, vector_bytes: int, registers: int
) -> None:
    lowered = chosen(level, X86, "some-cpu", features("x86-64-v4"))
    native = chosen("native", X86, "some-cpu", features(level))
    for found in (lowered, native):
        assert (found.vector_bytes, found.registers) == (vector_bytes, registers)
    assert (lowered.cpu, native.cpu) == (level, "some-cpu")
    assert lowered.text != native.text
    assert "+sse2" in lowered.features.split(",")
    assert ("+avx512f" in lowered.features.split(",")) == (level == "x86-64-v4")


def test_each_level_has_code_of_its_own_in_the_cache() -> None:
    host = features("x86-64-v4")
    texts = {chosen(one, X86, "x", host).text for one in ("native", *LEVELS)}
    assert len(texts) == 5


def test_what_the_processor_cannot_run_is_refused() -> None:
    with pytest.raises(ProcessorError) as told:
        chosen("x86-64-v4", X86, "haswell", features("x86-64-v3"))
    assert str(told.value) == (
        "GRAPHC_CPU=x86-64-v4: this processor (haswell) cannot run such code, it has "
        "no avx512bw, avx512cd, avx512dq, avx512f, avx512vl; "
        "set it to one of native, x86-64, x86-64-v2, x86-64-v3"
    )
    with pytest.raises(ProcessorError, match=r"cannot run such code.*of native$"):
        chosen("x86-64-v3", ARM, "neoverse-n1", {"neon": True})


def test_other_processors_have_vectors_of_16_bytes() -> None:
    found = chosen("native", ARM, "neoverse-n1", {"neon": True, "sve": False})
    assert (found.vector_bytes, found.registers) == (16, 32)
    assert found.features == "+neon,-sve"


# --- processes that ask for one -----------------------------------------------------


def process(level: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with GRAPHC_CPU set."""
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=os.environ | {processor.VARIABLE: level},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_a_user_meets_an_unknown_processor_as_an_error_of_graphc() -> None:
    text = """
import graphc
x = graphc.input("x", ("N",))
try:
    graphc.compile([x], x + 1)
except graphc.GraphcError as error:
    print(type(error).__name__, error)
"""
    done = process("486", "-c", text)
    said = "CompileError GRAPHC_CPU=486: unknown processor\n  help: set it to one of "
    assert done.stdout.startswith(f"{said}native"), done.stderr


def test_doctor_says_what_code_is_made_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "target", processor.target.__wrapped__)
    monkeypatch.setenv(processor.VARIABLE, "486")
    (found,) = doctor._processor()
    assert (found.state, found.what) == (doctor.BROKEN, "code made for")
    assert "native" in found.help
    monkeypatch.delenv(processor.VARIABLE)
    (found,) = doctor._processor()
    assert found.value.startswith(f"{llvm.get_host_cpu_name()} (this processor), vect")


@pytest.mark.long
@pytest.mark.parametrize(
    ("level", "vector_bytes", "widest"),
    [("x86-64-v2", 16, "xmm"), ("x86-64-v3", 32, "ymm"), ("x86-64-v4", 64, "zmm")],
)
def test_formulas_agree_with_reference_on_each_level(
    level: str, vector_bytes: int, widest: str
) -> None:
    if level not in processor.runnable(TRIPLE, HOST):
        pytest.skip(f"this processor is less than {level}")
    done = process(level, str(SCRIPT))
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["wrong"] == {}
    assert (found["cpu"], found["vector_bytes"]) == (level, vector_bytes)
    assert found["fused"] == (level != "x86-64-v2")
    # Of kernels and of register tiles: as wide as the level has, and no wider.
    assert [max(kinds) for kinds in found["registers"]] == [widest, widest]
