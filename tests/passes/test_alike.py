"""Nests of equal layers are one but for names; what is known of one says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

import graphc
from graphc.errors import VerifyError
from graphc.ir.program import Nest, Program
from graphc.ir.program.alike import likeness
from graphc.ir.program.verifier import verify_program
from graphc.ir.types import int32
from graphc.passes import parse_pipeline, run_pipeline


def layers() -> Program:
    """Return the program of four layers, the two in the middle equal."""
    x = h = graphc.input("x", ("N", 8))
    for i, units in enumerate((8, 8, 8, 3)):
        h = graphc.tanh(h @ graphc.parameter(f"w{i}", (8, units)))
    found = run_pipeline(graphc.Graph.build([x], [h]), parse_pipeline("fuse,lower"))
    program = found[-1].result
    assert isinstance(program, Program)
    return program


def test_equal_layers_are_alike() -> None:
    program = layers()
    first, second, third, last = program.nests
    like = [likeness(nest, program) for nest in program.nests]
    assert second != third
    assert like[1] == like[2]
    assert like[0] != like[1]  # it reads an input
    assert like[3] != like[2]  # it has fewer columns
    assert first.pattern is third.pattern
    assert last.pattern is not third.pattern


def test_renamed_nest_knows_what_it_reads() -> None:
    for nest in layers().nests:
        fresh = Nest(nest.name, nest.axes, nest.phases)
        assert (nest.reads, nest.writes) == (fresh.reads, fresh.writes)


def test_nest_of_other_phases_is_like_no_other() -> None:
    program = layers()
    _, second, third, _ = program.nests
    own = third.replace(phases=tuple(p.mapped(lambda e: e) for p in third.phases))
    assert likeness(own, program) != likeness(second, program)
    assert replace(third, phases=own.phases).pattern is own.phases


def test_verifier_looks_at_the_buffers_of_each() -> None:
    program = layers()
    verify_program(program)
    (name,) = program.nests[2].writes
    wrong = replace(program.buffers[name], dtype=int32)
    with pytest.raises(VerifyError) as error:
        verify_program(program.replace(buffers={**program.buffers, name: wrong}))
    assert f"{name} is i32[N,8], written as float32" in str(error.value)
