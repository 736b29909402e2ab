"""Executable: a compiled step, to call and to look into."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from graphc.backends.protocol import Backend, Bound, Runner
from graphc.backends.reference.interpreter import run_graph
from graphc.backends.shared.tuning import Tuning
from graphc.errors import CheckError, InputError
from graphc.ir.binding import bind_sizes, fit_input
from graphc.ir.collection import no_collection
from graphc.ir.dims import evaluate
from graphc.ir.graph import Graph
from graphc.ir.interpret import Values
from graphc.ir.nodes import Node, Tensor, leaf_name
from graphc.ir.program import Program
from graphc.ir.program.memory import Arena
from graphc.ops.checks import checking, message
from graphc.passes import Stage
from graphc.passes.checks import Site
from graphc.state import Parameter, join_locks

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Made:
    """What passes made of a declared graph: the last graph, its program, each stage."""

    graph: Graph
    program: Program
    stages: tuple[Stage, ...]


class Executable:
    """A compiled step: NumPy in, NumPy out.

    graph: the final graph. program: its loop nests. stages: what each pass made.
    kernels: what the backend compiled. `step(xs, ys)` runs it, for any sizes,
    without compiling again; `step.memory(N=32)` tells what that needs.
    """

    def __init__(
        self,
        declared: Graph,
        made: Callable[[], Made],
        runner: Runner,
        dims: Sequence[str],
        states: Sequence[Parameter],
        structure: Any,
        backend: Backend,
        sites: Sequence[Site] = (),
    ) -> None:
        self.declared = declared
        self.runner = runner
        self.states = tuple(states)
        self.backend = backend
        self._sites = tuple(sites)  # what the last output of the program speaks of
        self._flat, self._shaped = _forms(structure)
        self._made = made  # may run the passes, where the step was found compiled
        self._dims = tuple(dims)
        self._names = [leaf_name(t) for t in declared.inputs]
        self._dtypes = [t.dtype.numpy for t in declared.inputs]
        self._ndims = [t.ndim for t in declared.inputs]
        self._bound: dict[tuple[tuple[int, ...], ...], Bound] = {}
        self._last: Bound | None = None  # whose sizes the last call had
        self._group = join_locks(self.states)

    # --- running ------------------------------------------------------------------

    def __call__(self, *args: Any, out: Any = None, **named: Any) -> Any:
        """Run a step on arrays, given in the order of the inputs or by name.

        out: arrays to write the outputs into, in the form of the outputs.

        Raises:  InputError if an array is missing or does not fit; the states are
                 then as they were. CheckError, too, of a step compiled with check=True.
        """
        last, targets = self._last, None if out is None else self._flat(out)
        found = None
        if last is not None and not named:
            group = self._group.acquire()
            try:
                found = last.quick(args, targets)
            finally:
                group.lock.release()
        if found is None:
            found = self._run(args, targets, named)
        return self._shaped(found)

    def _run(
        self, args: Sequence[Any], out: list[Any] | None, named: Mapping[str, Any]
    ) -> list[Array]:
        """Run a step on anything that can be made an array, for any sizes."""
        if named or len(args) != len(self._names):
            args = self._arguments(args, named)
        arrays = []
        for i, value in enumerate(args):
            if (
                type(value) is np.ndarray
                and value.dtype is self._dtypes[i]
                and value.ndim == self._ndims[i]
                and value.flags.c_contiguous
            ):
                arrays.append(value)
            else:
                arrays.append(fit_input(self.declared.inputs[i], value))
        shapes = tuple([a.shape for a in arrays])
        bound = self._bound.get(shapes)
        if bound is None:
            bound = self._bind(shapes)
        targets = None if out is None else self._targets(out, arrays, bound.sizes)
        if targets is not None and self._sites:
            targets.append(np.empty((), np.int32))
        group = self._group.acquire()
        try:
            found = bound.run(arrays, targets)
            if self._sites:
                number = int(found.pop())
                if number:
                    raise self._broken(number, arrays, bound.sizes)
        finally:
            group.lock.release()
        self._last = None if self._sites else bound
        return found

    def _broken(
        self, number: int, arrays: Sequence[Array], sizes: Mapping[str, int]
    ) -> CheckError:
        """Return the error of a check that failed, found again in the interpreter."""
        given = dict(zip(self.declared.inputs, arrays, strict=True))
        held = {
            t: s.array for t, s in zip(self.declared.states, self.states, strict=True)
        }
        try:
            with checking():
                run_graph(self.declared, given, held, sizes)
        except CheckError as error:
            return error
        # What was rounded in another way here than there may pass in the interpreter.
        site = self._sites[number - 1]
        return CheckError(
            f"{site.op}: " + " or ".join(message(c, "?", sizes) for c in site.checks),
            where=site.origin.quoted,
            help="the interpreter computes another value here; look at what is rounded",
        )

    def _arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        if len(args) > len(self._names):
            raise InputError(
                f"the step takes {len(self._names)} input"
                f"{'s' * (len(self._names) != 1)}, {len(args)} were given",
                help=f"it takes {', '.join(self._names)}",
            )
        given = dict(zip(self._names, args, strict=False))
        for name, value in named.items():
            if name not in self._names:
                raise InputError(
                    f"the step has no input {name!r}",
                    help=f"it takes {', '.join(self._names)}",
                )
            if name in given:
                raise InputError(f"the input {name!r} is given twice")
            given[name] = value
        missing = [n for n in self._names if n not in given]
        if missing:
            raise InputError(
                f"missing input: {', '.join(missing)}",
                help=f"the step takes {', '.join(self._names)}",
            )
        return [given[n] for n in self._names]

    def _bind(self, shapes: tuple[tuple[int, ...], ...]) -> Bound:
        given = zip(self.declared.inputs, shapes, strict=True)
        sizes = bind_sizes(given, self.declared.guards)
        with self._group.held(), no_collection():
            bound = self.runner.bind(sizes)
        if len(self._bound) >= 64:  # a ragged stream of sizes must not grow for ever
            self._bound.pop(next(iter(self._bound)))
        self._bound[shapes] = bound
        return bound

    def _targets(
        self, flat: list[Any], inputs: Sequence[Array], sizes: Mapping[str, int]
    ) -> list[Array]:
        """Return the arrays of `out=`, each of which fits and is no other's memory."""
        outputs = self.declared.outputs
        if len(flat) != len(outputs):
            raise InputError(
                f"out= has {len(flat)} arrays, the step has {len(outputs)} outputs",
                help="give an array for each output, in their order",
            )
        for i, (tensor, target) in enumerate(zip(outputs, flat, strict=True)):
            shape = tuple(evaluate(size, sizes) for size in tensor.shape)
            good = (
                isinstance(target, np.ndarray)
                and target.dtype == tensor.dtype.numpy
                and target.shape == shape
                and target.flags.c_contiguous
                and target.flags.writeable
            )
            if not good:
                found = getattr(target, "dtype", type(target).__name__)
                raise InputError(
                    f"out= takes C-contiguous, writable arrays: here {tensor.dtype} of "
                    f"shape {list(shape)}, got {found} of shape "
                    f"{list(np.shape(target))}",
                    help="make it with numpy.empty(shape, dtype)",
                )
            if any(np.may_share_memory(target, a) for a in (*inputs, *flat[:i])):
                raise InputError(
                    "out= shares memory with an input or with another output",
                    help="give an array of its own for each output",
                )
        return flat

    # --- looking ------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The final graph."""
        return self._made().graph

    @property
    def program(self) -> Program:
        """Its loop nests."""
        return self._made().program

    @property
    def stages(self) -> list[tuple[str, Graph | Program]]:
        """What each pass made, in order, as (pass name, Graph or Program)."""
        return [
            ("declared", self.declared),
            *((s.name, s.result) for s in self._made().stages),
        ]

    @property
    def timings(self) -> list[tuple[str, float]]:
        """How long each pass took, in seconds."""
        return [(s.name, s.seconds) for s in self._made().stages]

    @property
    def kernels(self) -> list[Any]:
        """The compiled kernels, in the order in which they first run."""
        return list(self.runner.kernels)

    @property
    def tuning(self) -> Tuning:
        """What `compile(tune=...)` has chosen; `print(step.tuning)` shows a table.

        Where dimensions are symbolic, for the sizes that have been called so far.
        """
        return self.runner.tuning

    def memory(self, **sizes: int) -> Arena:
        """Return the memory plan for sizes, before any run: `step.memory(N=32)`.

        Raises:  InputError if a dimension is missing.
        """
        missing = [d for d in self._dims if d not in sizes]
        if missing:
            raise InputError(f"memory: give a size for {', '.join(missing)}")
        with self._group.held():
            return self.runner.bind(sizes).arena

    def debug(self, *args: Any, **named: Any) -> dict[str, Array]:
        """Run the declared graph in the interpreter and return what it went through.

        Every tensor named with `tensor.named("h")` is there under its name, every
        input and state under its own, every output as `out0`, and each result of
        each node as `%3` (its number in `step.declared.text()`). No state changes.
        """
        values = self._arguments(args, named)
        arrays = [
            fit_input(t, v) for t, v in zip(self.declared.inputs, values, strict=True)
        ]
        shapes = [a.shape for a in arrays]
        given = zip(self.declared.inputs, shapes, strict=True)
        sizes = bind_sizes(given, self.declared.guards)
        found: dict[str, Array] = dict(zip(self._names, arrays, strict=True))
        held = {
            t: s.value for t, s in zip(self.declared.states, self.states, strict=True)
        }
        found.update({leaf_name(t): v for t, v in held.items()})
        number = 0

        def watch(node: Node, all_values: Values) -> None:
            nonlocal number
            for result in node.results:
                found[f"%{number}"] = all_values[result]
                number += 1
            label = self.declared.origin(node).label
            if label:
                found[label] = all_values[node.results[0]]

        inputs = dict(zip(self.declared.inputs, arrays, strict=True))
        outputs, _ = run_graph(self.declared, inputs, held, sizes, watch)
        found.update({f"out{i}": o for i, o in enumerate(outputs)})
        return found

    def __repr__(self) -> str:
        return (
            f"<Executable {self.graph.name!r} on {self.backend.name}: "
            f"{len(self.graph)} nodes, {len(self.kernels)} kernels>"
        )


def _forms(structure: Any) -> tuple[Callable[[Any], list[Any]], Callable[..., Any]]:
    """Return what lists the arrays of `out=` in order, and what shapes such a list.

    They are chosen here, once, because a call takes less than a microsecond.
    """
    if isinstance(structure, Tensor):
        return lambda out: [out], itemgetter(0)
    if isinstance(structure, Mapping):
        names = list(structure)
        return _listed, lambda found: dict(zip(names, found, strict=True))
    if structure is None:
        return _listed, lambda found: None
    kind = type(structure)
    return _listed, (lambda found: found) if kind is list or not structure else kind


def _listed(out: Any) -> list[Any]:
    if type(out) is list or type(out) is tuple:  # at once: Mapping takes long to tell
        return list(out)
    return list(out.values() if isinstance(out, Mapping) else out)
