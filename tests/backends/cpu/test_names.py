"""What kernels import from the prelude, and what is imported for it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from llvmlite import ir

from graphc.backends.cpu.prelude import names
from graphc.backends.cpu.prelude.lanes import FLOAT, I32, constant, vector


def test_names_all_exist() -> None:
    for name, module in names._MODULES.items():
        found = getattr(names, name)
        assert callable(found), f"{module}.{name}"


def test_names_unknown_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = names.no_such_name


def test_names_import_what_is_asked_for() -> None:
    package = "graphc.backends.cpu.prelude"
    script = (
        f"import sys; from {package}.names import exp; "
        f"print(*(m in sys.modules for m in ('{package}.vmath', '{package}.order')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "False"]


def test_equal_lanes_tell_zeros_apart() -> None:
    kind = vector(FLOAT, 4)
    zero, negative = constant(kind, 0.0), constant(kind, -0.0)
    assert zero.get_reference() == "zeroinitializer"
    assert negative.get_reference() != "zeroinitializer"
    assert constant(vector(I32, 4), 0).get_reference() == "zeroinitializer"
    assert isinstance(negative, ir.Constant)


def test_equal_lanes_parse_as_their_numbers() -> None:
    from graphc.backends.cpu.prelude import unlocked

    module = ir.Module("constants")
    kind = vector(FLOAT, 4)
    for name, number in (("zero", 0.0), ("minus", -0.0), ("half", 0.5)):
        function = ir.Function(module, ir.FunctionType(kind, []), name)
        ir.IRBuilder(function.append_basic_block()).ret(constant(kind, number))
    text = str(unlocked.parse(str(module)))
    for expected in ("zeroinitializer", "float -0.000000e+00", "float 5.000000e-01"):
        assert expected in text
