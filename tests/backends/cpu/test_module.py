"""Generated modules: what they look like, what they share, what never enters them."""

from __future__ import annotations

import graphc
from graphc.backends.cpu import module
from graphc.backends.cpu.module import write_module
from graphc.backends.shared.alike import Alike
from graphc.backends.shared.module import Source
from graphc.ir.graph import Graph
from graphc.ir.program import Program
from graphc.ir.target import Target
from graphc.passes import parse_pipeline, run_pipeline

# A fixed machine, so that golden texts are the same on all.
AVX512 = Target("cpu", lanes=16, tiles=True)
TILES = {"float32": (14, 32), "float64": (14, 16)}


def module_of(inputs, outputs, updates=()) -> Source:
    graph = Graph.build(inputs, outputs, list(updates))
    program = run_pipeline(graph, parse_pipeline("default"), AVX512)[-1].result
    assert isinstance(program, Program)
    return write_module(program, TILES)


def layer(name: str, inner: int, outer: int, x):
    w = graphc.parameter(f"{name}/w", (inner, outer))
    b = graphc.parameter(f"{name}/b", (outer,), init="zeros")
    return graphc.relu(x @ w + b)


def test_a_dense_layer_reads_as_its_loops(golden):
    x = graphc.input("x", ("N", 64))
    golden("cpu/dense", module_of([x], [layer("dense", 64, 32, x)]).text)


def test_a_softmax_is_one_kernel(golden):
    x = graphc.input("x", ("N", 10))
    golden("cpu/softmax", module_of([x], [graphc.softmax(x)]).text)


def test_layers_of_different_widths_share_their_kernel():
    x = graphc.input("x", ("N", 64))
    h = x
    for i, (a, b) in enumerate([(64, 64), (64, 32), (32, 100), (100, 3)]):
        h = layer(f"l{i}", a, b, h)
    source = module_of([x], [h])
    assert len(source.steps) == 4
    assert len(source.kernels) == 1


def test_equal_layers_are_written_once(monkeypatch):
    """Each takes the first one's text, with buffers of its own."""
    x = graphc.input("x", ("N", 16))
    y = graphc.input("y", ("N", 16))
    h = x
    for i in range(6):
        h = layer(f"l{i}", 16, 16, h)
    loss = ((h - y) * (h - y)).mean()
    states = list(Graph.build([x, y], [loss]).states)
    updates = list(zip(states, graphc.grad(loss, states), strict=True))
    updates = [(w, w - 0.1 * g) for w, g in updates]

    graph = Graph.build([x, y], [loss], updates)
    program = run_pipeline(graph, parse_pipeline("default"), AVX512)[-1].result
    written = []
    write = module.write_kernel
    monkeypatch.setattr(
        module, "write_kernel", lambda *given: written.append(1) or write(*given)
    )
    source = write_module(program, TILES)
    once = len(written)
    monkeypatch.setattr(Alike, "kernel", lambda self, nest, write, index="": write())
    each = write_module(program, TILES)
    assert len(written) - once == len(source.steps)
    assert once < len(source.steps) / 2
    assert source.text == each.text
    assert source.steps == each.steps


def test_names_that_users_give_never_reach_the_code():
    nasty = 'x"""; import os  # \n'
    x = graphc.input(nasty, ("N", 4))
    w = graphc.parameter("weights'; drop()", (4, 2))
    source = module_of([x], [x @ w], [(w, w * 0.5)])
    for word in ("import os", "drop", "weights"):
        assert word not in source.text
    compile(source.text, "module", "exec")


def test_names_and_lines_are_no_part_of_a_module():
    first = graphc.input("a", ("N",))
    second = graphc.input("another", ("N",))
    assert module_of([first], [first * 2.0]).text == (
        module_of([second], [second * 2.0]).text
    )


def test_constants_keep_their_exact_values():
    x = graphc.input("x", ("N",))
    text = module_of([x], [x * 0.1 + float("inf")]).text
    assert "splat_f32(0.1, full)" in text
    assert 'splat_f32(float("inf"), full)' in text
