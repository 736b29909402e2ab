"""The CPU backend: compile a program's kernels, bind sizes, run one native call a step.

A step is a table of rows, one for each nest: the address of its kernel, the address
of the kernel's words, and whether a barrier comes before it. The driver that runs the
table is compiled once for ever; binding a step to new sizes fills tables and compiles
nothing.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import numpy as np

from graphc.backends.cpu import calls, kept, lapack, pace
from graphc.backends.cpu.code import Code, cached_addresses
from graphc.backends.cpu.kernels import CpuKernel
from graphc.backends.cpu.machine import target
from graphc.backends.cpu.module import write_module
from graphc.backends.cpu.parts import Parting, Parts
from graphc.backends.cpu.prelude import driver, gemm, layout, native
from graphc.backends.cpu.prelude.layout import aligned_words
from graphc.backends.cpu.prelude.team import Entry, Team, threads
from graphc.backends.cpu.sharing import Shared, Sharing, Waits
from graphc.backends.cpu.strips import Step, Strip, Stripping, Strips
from graphc.backends.cpu.table import Table, check_depth, is_shared
from graphc.backends.cpu.tile_room import TileRoom
from graphc.backends.shared.arguments import Argument
from graphc.backends.shared.costs import bytes_of, flops_of
from graphc.backends.shared.files import cache_folder
from graphc.backends.shared.tuning import Tuning
from graphc.ir.dims import Size, evaluate
from graphc.ir.graph import Graph
from graphc.ir.program import Call, Nest, Program, Schedule, Statement, Task
from graphc.ir.program.memory import Arena

if TYPE_CHECKING:
    from graphc.backends.cpu.tuner import Tuner

Array = np.ndarray[Any, Any]


class CpuBackend:
    """Compiles for the machine it runs on.

    limit: at most so many threads. tune: True measures what the model of the machine
    decides, "replay" takes what is on file.
    """

    name = "cpu"

    def __init__(
        self, limit: int | None = None, tune: bool | Literal["replay"] = False
    ) -> None:
        self.limit = limit
        self.tune = tune
        self.target = target()
        native.set_cache_folder(cache_folder() / "objects")
        _begin_driver()

    def build(self, graph: Graph, program: Program, states: Sequence[Any]) -> Runner:
        """Compile the kernels of a program.

        Raises:  CompileError naming the kernel, its file and its nodes.
        """
        if not self.tune:
            return Runner(self.compiled(program), states, self.limit)
        from graphc.backends.cpu.tuner import Tuner

        most = threads() if self.limit is None else min(threads(), self.limit)
        tuner = Tuner(self._alone, most, measures=self.tune is True)
        if graph.dims:
            return Runner(self.compiled(program), states, self.limit, self, tuner)
        tuned, decisions = tuner.tuned(program, {})
        runner = Runner(self.compiled(tuned), states, self.limit)
        runner.tuning.add({}, decisions)
        return runner

    def _alone(
        self, program: Program, states: Sequence[Any], sizes: Mapping[str, int]
    ) -> Bound:
        return Runner(self.compiled(program), states, self.limit).bind(sizes)

    def compiled(self, program: Program) -> Compiled:
        """Return a program with its kernels."""
        tiles = {
            dtype: (gemm.shape(dtype).rows, gemm.shape(dtype).columns)
            for dtype in ("float32", "float64")
        }
        for task in program.tasks:
            if isinstance(task, Call):
                calls.prepare(task, program)
        check_depth(program.body)
        source = write_module(program, tiles)
        _prepare_pieces(source.steps)
        code = Code(source)
        kernels = [
            CpuKernel(
                text,
                tasks,
                flops_of(tasks[0]),
                bytes_of(tasks[0], program),
                code.file,
                code,
                k,
            )
            for k, (text, tasks) in enumerate(
                zip(source.kernels, source.tasks, strict=True)
            )
        ]

        def refuse(k: int, error: Exception) -> NoReturn:
            raise kernels[k].failure(f"did not compile: {error}") from error

        addresses = code.addresses(refuse)
        _begin_driver().join()  # whoever forks now finds no thread at work
        steps = [(task, addresses[i], words) for task, i, words in source.steps]
        keys = [code.keys[i] for _, i, _ in source.steps]
        return Compiled(program, steps, keys, lambda: kernels)

    # --- what an earlier process has compiled -------------------------------------

    def keep(
        self, what: str, runner: Any, states: Sequence[int], dims: Sequence[str]
    ) -> None:
        """Keep a step in the cache folder, by what it was compiled from."""
        assert isinstance(runner, Runner)
        made = runner.compiled
        words = [words for _, _, words in made.steps]
        kept.keep(self._key(what), made.program, made.keys, words, states, dims)

    def kept(
        self, what: str, states: Sequence[Any], look: Callable[[], Program]
    ) -> tuple[Runner, tuple[str, ...]] | None:
        """Return a step that was kept, and the names of its sizes.

        states: the Parameters of the declared graph. look: makes the program anew, for
        whoever looks into its kernels.
        """
        found = kept.find(self._key(what))
        addresses = None if found is None else cached_addresses(found.keys)
        if found is None or addresses is None:
            return None
        program = found.program
        steps = list(zip(program.tasks, addresses, found.words, strict=True))
        _prepare_pieces(steps)
        _begin_driver().join()
        compiled = Compiled(
            program, steps, found.keys, lambda: self.compiled(look()).kernels
        )
        own = [states[i] for i in found.states]
        return Runner(compiled, own, self.limit), found.dims

    def _key(self, what: str) -> str:
        return kept.key_of(repr(self.target), what)


def _prepare_pieces(steps: Sequence[Step]) -> None:
    """Begin to compile the pieces of register tiles that nests need."""
    nests = (words for task, _, words in steps if isinstance(task, Nest))
    needed = [w.value for words in nests for w in words if w.kind == "routine"]
    for routine in dict.fromkeys(map(str, needed)):
        which, dtype, *pieces = routine.split()
        for piece in pieces:
            gemm.prepare(which, dtype, piece)


@dataclass(frozen=True)
class Compiled:
    """A program, and for each of its tasks what a table needs.

    keys: of each task's kernel, in the cache. look: returns its kernels.
    """

    program: Program
    steps: Sequence[Step]
    keys: Sequence[str]
    look: Callable[[], Sequence[CpuKernel]]

    @cached_property
    def kernels(self) -> Sequence[CpuKernel]:
        """Its kernels, to look into."""
        return self.look()


@cache
def _begin_driver() -> threading.Thread:
    """Begin to find or compile the driver, which all steps have, beside the passes."""

    def find() -> None:
        with contextlib.suppress(Exception):  # whoever needs it meets that as well
            driver.addresses()

    thread = threading.Thread(target=find, name="graphc-driver", daemon=True)
    thread.start()
    return thread


class Runner:
    """A compiled program, to be bound to states and sizes.

    limit: at most so many threads. tuner: what decides anew for sizes that are bound;
    `compiler` then compiles. tuning: what it has decided, by sizes.
    """

    def __init__(
        self,
        compiled: Compiled,
        states: Sequence[Any],
        limit: int | None,
        compiler: CpuBackend | None = None,
        tuner: Tuner | None = None,
    ) -> None:
        self.program = program = compiled.program
        self.states = states
        self.limit = limit
        self.tuning = Tuning()
        self._compiler, self._tuner = compiler, tuner
        # By the schedules of its nests.
        self._compiled = {_schedules(program): compiled}
        self.compiled = compiled
        self.held: contextlib.AbstractContextManager[None] = (
            lapack.ONE_THREAD
            if calls.needs_lapack(program)
            else contextlib.nullcontext()
        )
        self.constants = {
            name: aligned_copy(value) for name, value in program.constants.items()
        }
        self.arena: Array | None = None

    def memory(self, size: int) -> Array:
        """Return the arena; one serves all sizes, since steps exclude each other."""
        if self.arena is None or self.arena.nbytes < size:
            self.arena = aligned_words(-(-size // 8) + 8)
        return self.arena

    @property
    def kernels(self) -> list[CpuKernel]:
        """What was compiled; where sizes are tuned, for all that have been bound."""
        found: dict[tuple[str, str], CpuKernel] = {}
        for kernel in (k for c in self._compiled.values() for k in c.kernels):
            found.setdefault(kernel.text.key, kernel)
        return list(found.values())

    def bind(self, sizes: Mapping[str, int]) -> Bound:
        """Plan memory and fill the tables for these sizes; tune for them if asked."""
        return Bound(self, sizes, self._tuned(sizes))

    def _tuned(self, sizes: Mapping[str, int]) -> Compiled:
        if self._tuner is None or self._compiler is None:
            return self.compiled
        program, decisions = self._tuner.tuned(self.program, sizes)
        self.tuning.add(sizes, decisions)
        key = _schedules(program)
        if key not in self._compiled:
            self._compiled[key] = self._compiler.compiled(program)
        return self._compiled[key]


def _schedules(program: Program) -> tuple[Schedule | None, ...]:
    return tuple(nest.schedule for nest in program.nests)


class Bound:
    """A program bound to sizes: tables filled, memory placed."""

    def __init__(
        self, runner: Runner, sizes: Mapping[str, int], compiled: Compiled
    ) -> None:
        self.runner = runner
        self.program = compiled.program
        self.steps = compiled.steps
        self.sizes = dict(sizes)
        buffers = self.program.buffers
        self.shapes = {
            name: tuple(evaluate(s, sizes) for s in b.shape)
            for name, b in buffers.items()
        }
        self.nbytes = {
            n: int(np.prod(s, dtype=np.int64)) * buffers[n].dtype.itemsize
            for n, s in self.shapes.items()
        }
        plan = self.program.plan
        assert plan is not None
        self.arena: Arena = plan.place(self.nbytes)
        program = self.program
        self._given = [*program.inputs, *program.outputs]
        self._output_shapes = [self.shapes[n] for n in program.outputs]
        self._output_dtypes = [buffers[n].dtype.numpy for n in program.outputs]
        limit = threads() if runner.limit is None else min(threads(), runner.limit)
        self._alike = {id(step[0]): self._like(*step) for step in self.steps}
        rooms: dict[object, TileRoom] = {}
        self._tiled = {
            id(s): rooms.setdefault(
                self._alike[id(s)], TileRoom(s, self.program, self.sizes, w)
            )
            for s, _, w in self.steps
            if isinstance(s, Nest) and s.is_tiled
        }
        body = self._parting(limit).body(program.body)
        self._body: Sequence[Shared]
        self.team, self._body = self._teamed(body, limit)
        self._strips = [s for s in self._body if isinstance(s, Strips)]
        self._whole: dict[int, int] = {}  # the nest that one of fewer rows is of
        for strip in (x for s in self._strips for x in s.strips):
            for nest, _, words in strip.steps:
                self._whole[id(nest)] = id(strip.whole[id(nest)])
                if isinstance(nest, Nest) and nest.is_tiled:
                    room = TileRoom(nest, self.program, self.sizes, words)
                    self._tiled[id(nest)] = room
        self._place()

    def _like(
        self, task: Task, kernel: int, words: Sequence[Argument]
    ) -> tuple[object, ...]:
        """Return what is equal for nests of one kernel and of equal sizes.

        Equal layers have such nests, which take as long and need as much room.
        """
        if not isinstance(task, Nest):
            return (id(task),)
        sizes = tuple(w.value for w in words if w.kind == "size")
        axes = (task.axes, *(phase.axes for phase in task.phases))
        program, names = self.program, (*task.reads, *task.writes)
        memory = tuple(
            (self.shapes[n], program.buffers[program.root(n)].space) for n in names
        )
        return kernel, task.schedule, axes, sizes, memory

    def _parting(self, limit: int) -> Parting:
        """Return what finds nests to be run part by part."""
        return Parting(self.program, self.sizes, limit, self._tiled, self._span)

    def _stripping(self, limit: int) -> Stripping:
        """Return what finds loops to be run strip by strip."""
        program, rooms = self.program, self._tiled
        return Stripping(program, self.sizes, limit, self.steps, rooms, self._span)

    def _span(self, name: str) -> tuple[int, int] | None:
        """Return where a buffer begins and ends in the arena, if it lies there."""
        start = self.arena.offsets.get(name)
        return None if start is None else (start, start + self.nbytes[name])

    def _teamed(
        self, body: Sequence[Statement | Parts], limit: int
    ) -> tuple[Team, Sequence[Shared]]:
        """Return a team for a body, of one if it saves little, and what it shares."""
        if limit > 1:
            strips = self._stripping(limit).body(body)
            sharing = self._sharing(limit, pace.BARRIER)
            saved, shared = sharing.saved(strips)
            if saved > min(pace.LITTLE, pace.TEAM):
                return Team(limit, small=saved < pace.TEAM), shared
            saved, shared = self._sharing(limit, pace.AWAKE).saved(strips)
            # To call threads and wait for them takes as long as a barrier.
            if saved - pace.AWAKE > pace.SHARE * sharing.serial(strips):
                return Team(limit, small=True), shared
        return Team(1), body

    def _sharing(self, limit: int, barrier: float) -> Sharing:
        """Return what decides what a team shares, by the time of each task."""
        tasks = [task for task, _, _ in self.steps]
        known: dict[object, float] = {}
        for task in tasks:
            like = self._alike[id(task)]
            if like not in known:
                known[like] = pace.nanoseconds(task, self.program, self.sizes)
        work = {id(task): known[self._alike[id(task)]] for task in tasks}
        shared = frozenset(id(task) for task in tasks if is_shared(task))
        waits = Waits(barrier, pace.PATIENCE, pace.WAKE)
        return Sharing(work, shared, self.sizes, limit, waits)

    # --- tables -------------------------------------------------------------------

    def _place(self) -> None:
        """Lay out the arena, each thread's scratch, and the tables."""
        steps = self.steps
        self._kept = {
            nest: 0
            for nest, room in self._tiled.items()
            if nest not in self._whole and room.keeps()
        }
        # One thread alone must not reach into what others keep.
        threads = 1 if self._kept else self.team.nt
        self._rooms = {
            nest: room.rooms(
                self._whole.get(nest, nest) in self._kept,
                1 if nest in self._whole else threads,
            )
            for nest, room in self._tiled.items()
        }
        each = [s.steps for x in self._strips for s in x.strips]
        scratch = max((self._scratch(s) for s, _, _ in chain(steps, *each)), default=0)
        # Behind what each task may use, panels that stay from turn to turn of a loop.
        for nest in self._kept:
            self._kept[nest] = scratch
            scratch += self._tiled[nest].panels
        self._scratch_size = -(-scratch // 128) * 128
        buffers = self.arena.bytes
        shares = max(self.team.nt, *(len(s.strips) for s in self._strips), 1)
        self.arena = self.arena.beside(self._scratch_size * shares)
        self._memory = self.runner.memory(self.arena.bytes)
        base = self._memory.ctypes.data
        self._fixed: dict[str, int] = {
            n: base + offset for n, offset in self.arena.offsets.items()
        }
        for name, state in zip(self.program.states, self.runner.states, strict=True):
            self._fixed[name] = state.array.ctypes.data
        for name, value in self.runner.constants.items():
            self._fixed[name] = value.ctypes.data
        self._fill(base + buffers)

    def _scratch(self, task: Task) -> int:
        """Return how many bytes of scratch a thread needs for a task."""
        if isinstance(task, Call):
            return 8 * calls.scratch_words(task, self.sizes)
        return sum(self._rooms.get(id(task), {}).values())

    def _fill(self, scratch: int) -> None:
        self._patches: list[list[int]] = [[] for _ in self._given]
        self._may_fail: list[tuple[int, Call]] = []
        self._tables: dict[object, Array] = {}

        def word(task: Task, word: Argument, at: int, own: int | None) -> int:
            if own is None:
                return self._word(task, word, scratch, at)
            # Words of a thread's own, for parts: kernels count parts, not threads.
            if word.kind == "choice" and word.name == "room":
                return 0
            return self._word(task, word, scratch + own * self._scratch_size, at)

        def number(size: Size) -> int:
            return evaluate(size, self.sizes)

        def strip(each: Strip, k: int) -> int:
            return self._strip(each, scratch + k * self._scratch_size, number)

        self._strip_tables: list[tuple[Array, Table]] = []
        steps, threads = self.steps, self.team.nt
        self._table = Table(
            self._body, steps, word, self._address, number, threads, strip
        )
        self.team.bind(self._table.rows, len(self._table))
        self._entries = self._ways_in()

    def _strip(self, strip: Strip, scratch: int, number: Callable[[Size], int]) -> int:
        """Return the memory that tells the driver the table of a strip."""
        memory = aligned_words(layout.TEAM_BYTES // 8 + 1)
        cell = memory.ctypes.data + layout.TEAM_BYTES  # the number of its turn

        def word(task: Task, word: Argument, at: int, own: int | None) -> int:
            if word.kind != "buffer":
                return self._word(task, word, scratch, at)
            name = str(word.value)
            if name == strip.loop.index:
                return cell
            return self._address(name, at) + strip.starts[id(task), name]

        table = Table((strip.loop,), strip.steps, word, lambda *_: cell, number)
        memory[layout.TABLE // 8] = table.rows.ctypes.data
        memory[layout.N_ROWS // 8] = len(table)
        self._strip_tables.append((memory, table))
        return int(memory.ctypes.data)

    def _ways_in(self) -> tuple[Entry, Entry] | None:
        """Return how arrays come into the table without Python, if nothing forbids.

        For outputs of our own, and for those that a caller gives.
        """
        if self._may_fail or calls.needs_lapack(self.program):
            return None
        start = self._table.words.ctypes.data
        wanted = [
            (
                self.program.buffers[name].dtype.numpy,
                self.shapes[name],
                [start + 8 * at for at in places],
            )
            for name, places in zip(self._given, self._patches, strict=True)
        ]
        own = self.team.entry(wanted)
        given = self.team.entry(wanted, len(self._output_shapes))
        return None if own is None or given is None else (own, given)

    def _word(self, task: Task, word: Argument, scratch: int, at: int) -> int:
        value = word.value
        if word.kind == "size":
            assert not isinstance(value, str)
            return evaluate(value, self.sizes)
        if word.kind == "buffer":
            assert isinstance(value, str)
            return self._address(value, at)
        if isinstance(task, Call):
            if word.kind == "routine":
                return calls.routine_address(task, word, self.program)
            if word.name == calls.FAILED:
                self._may_fail.append((at, task))
                return 0
            return scratch if word.kind == "scratch" else self._scratch_size // 8
        if word.kind == "routine":
            return _routine(str(value))
        whole = self._whole.get(id(task), id(task))
        if word.kind == "scratch":
            if word.name == "panel" and whole in self._kept:
                return scratch + self._kept[whole]
            for part, room in self._rooms[id(task)].items():
                if part == word.name:
                    return scratch
                scratch += room
        if word.kind in ("offsets", "table"):
            return self._offsets(word, self._tiled[id(task)])
        assert word.kind == "choice", word
        if word.name == "room":
            return self._scratch_size // task.phases[0].reduces[0].dtype.itemsize
        threads = self.team.nt if whole == id(task) else 1
        return self._tiled[id(task)].choice(word, whole in self._kept, threads)

    def _offsets(self, word: Argument, room: TileRoom) -> int:
        """Return the address of a table of offsets; equal ones are one."""
        if word.axes not in self._tables:
            self._tables[word.axes] = room.offsets(word)
        return int(self._tables[word.axes].ctypes.data)

    def _address(self, name: str, at: int) -> int:
        """Return where a buffer lies; `at` is the word that will say so."""
        root = self.program.root(name)
        if root in self._fixed:
            return self._fixed[root]
        # An input or an output: its address comes with each call.
        self._patches[self._given.index(root)].append(at)
        return 0

    # --- running ------------------------------------------------------------------

    def run(self, inputs: Sequence[Array], out: Sequence[Array] | None) -> list[Array]:
        """Run a step on C-contiguous arrays of the right dtypes and shapes."""
        if self.runner.arena is not self._memory:
            self._place()  # a larger size has replaced the arena
        if out is None:
            out = self._new_outputs()
        words = self._table.words
        for array, places in zip((*inputs, *out), self._patches, strict=True):
            address = array.__array_interface__["data"][0]
            for at in places:
                words[at] = address
        with self.runner.held:
            self.team.run()
        for at, call in self._may_fail:
            if words[at]:
                words[at] = 0
                raise calls.failure(call)
        return list(out)

    def again(self) -> None:
        """Run a step again, on the arrays of the last one."""
        self.team.run()

    def _new_outputs(self) -> list[Array]:
        return list(map(np.empty, self._output_shapes, self._output_dtypes))

    def quick(self, inputs: Sequence[Any], out: list[Any] | None) -> list[Array] | None:
        """Run a step on what may be such arrays; None, and nothing done, if it is not.

        The checks are native and take 0.1 us. Returns `out` itself, if it is given.
        """
        ways = self._entries
        if ways is None or self.runner.arena is not self._memory:
            return None
        if out is None:
            found = self._new_outputs()
            return None if ways[0].enter(*inputs, *found) < 0 else found
        if len(out) != len(self._output_shapes):
            return None
        return None if ways[1].enter(*inputs, *out) < 0 else out


@cache
def _routine(name: str) -> int:
    """Return the address of the table of a routine's pieces."""
    which, dtype, *pieces = name.split()
    return gemm.table(which, dtype, pieces)


def aligned_copy(value: Array) -> Array:
    """Return a copy of an array that begins at a cache line."""
    words = aligned_words(-(-value.nbytes // 8) + 1)
    flat = words.view(np.uint8)[: value.nbytes].view(value.dtype)
    found = flat.reshape(value.shape)
    found[...] = value
    return found
