"""States: parameters with a value that lives from call to call.

A `Parameter` is a leaf tensor and the owner of its value. Steps that share states
exclude each other by one lock, shared by every state that any step joined.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

import numpy as np

from graphc.errors import ArgumentError, StateError, UpdateError
from graphc.ir.leaves import State, is_state, make_state
from graphc.ir.nodes import Node, Tensor, topological
from graphc.ir.origins import here
from graphc.ir.types import DTypeLike, TensorType, as_dtype, as_shape, float32
from graphc.ops.creation import PYTHON
from graphc.ops.random import fresh

Initializer = Callable[[tuple[int, ...], int, int], Any]


# --- locks --------------------------------------------------------------------------


class LockGroup:
    """One lock for all states that some step uses together (a union-find tree)."""

    __slots__ = ("__weakref__", "lock", "parent")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.parent: LockGroup | None = None
        _groups.add(self)

    def root(self) -> LockGroup:
        """Return the group that this one was merged into."""
        group = self
        while group.parent is not None:
            group = group.parent
        return group

    def acquire(self) -> LockGroup:
        """Take the lock, also if the group is merged while we wait for it.

        Returns the group whose lock it was, to release.
        """
        group = self
        while True:
            while group.parent is not None:
                group = group.parent
            group.lock.acquire()
            if group.parent is None:
                return group
            group.lock.release()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock."""
        group = self.acquire()
        try:
            yield
        finally:
            group.lock.release()


_groups: WeakSet[LockGroup] = WeakSet()
_merging = threading.Lock()
_kept: list[threading.Lock] = []
PATIENCE = 10.0  # seconds that a fork waits for steps that run


def _before_fork() -> None:
    """Wait until no step runs, so that a child has whole values and free locks."""
    for lock in (_merging, *(g.lock for g in list(_groups))):
        if lock.acquire(timeout=PATIENCE):
            _kept.append(lock)


def _after_fork() -> None:
    while _kept:
        _kept.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork
    )


def join_locks(states: Sequence[Parameter]) -> LockGroup:
    """Put states under one lock, waiting for steps that run now; return its group."""
    with _merging:
        own = LockGroup()
        for state in states:
            group = state._group.root()
            if group is not own:
                with group.lock:
                    group.parent = own
        return own


# --- parameters ---------------------------------------------------------------------


class Parameter(Tensor):
    """A state that owns its value. Make one with `parameter` or `variable`."""

    __slots__ = ("_array", "_group")

    _array: np.ndarray[Any, Any]
    _group: LockGroup

    @property
    def name(self) -> str:
        """The label; unique within one compiled function."""
        return self._attrs.name

    @property
    def trainable(self) -> bool:
        """Whether optimisers change it."""
        return self._attrs.trainable

    @property
    def _attrs(self) -> State:
        attrs = self.node.attrs
        assert isinstance(attrs, State)
        return attrs

    @property
    def value(self) -> np.ndarray[Any, Any]:
        """The current value: the caller's own copy. Assign to change it.

        Raises:  StateError on assigning another shape or kind of numbers; the old
                 value then stays.
        """
        with self._group.held():
            return self._array.copy()

    @value.setter
    def value(self, new: Any) -> None:
        array = fitted(new, self.type, f"the value of {self.name!r}")
        with self._group.held():
            self._array[...] = array

    @property
    def array(self) -> np.ndarray[Any, Any]:
        """The storage itself, for backends; hold the lock while it is read."""
        return self._array

    @property
    def lock_group(self) -> LockGroup:
        """The group whose lock guards the storage."""
        return self._group


def fitted(value: Any, type: TensorType, what: str) -> np.ndarray[Any, Any]:
    """Return a value as an array of a (static) type.

    Raises:  StateError if the shape differs or the kind of numbers does.
    """
    array = np.asarray(value)
    if array.shape != type.shape:
        raise StateError(
            f"{what} has shape {list(array.shape)}, the state is {type}",
            help=f"give an array of shape {list(type.shape)}",
        )
    if not np.can_cast(array.dtype, type.dtype.numpy, "same_kind"):
        raise StateError(
            f"{what} is {array.dtype}, the state is {type}",
            help=f"convert it with .astype({type.dtype.name!r})",
        )
    return array.astype(type.dtype.numpy)


def parameter(
    name: str,
    shape: Any = None,
    init: str | Initializer | Any = "glorot_uniform",
    seed: int = 0,
    dtype: DTypeLike = float32,
    trainable: bool = True,
) -> Parameter:
    """Make a fresh state; optimisers act on trainable ones.

    init: "zeros", "ones", "glorot_uniform", "glorot_normal", "he_uniform",
    "he_normal", "uniform", "normal", "orthogonal"; or a number, an array, or a
    function (shape, seed, stream) -> array. The values are a function of name and seed.

    Shapes:  -> shape, of ints. It may be left out where init is an array.
    Raises:  ArgumentError for a symbolic shape, an unknown init, an empty name.
    Example:
        >>> import graphc
        >>> b = graphc.parameter("b", (3,), init="zeros")
        >>> b.value.tolist()
        [0.0, 0.0, 0.0]
    """
    if not isinstance(name, str) or not name:
        raise ArgumentError(
            f"a parameter needs a name, not {name!r}", where=here().quoted
        )
    if shape is None:
        if isinstance(init, str) or callable(init):
            raise ArgumentError(
                f"the parameter {name!r} needs a shape", where=here().quoted
            )
        shape = np.shape(init)
    sizes = as_shape(shape)
    if not all(isinstance(s, int) for s in sizes):
        raise ArgumentError(
            f"the parameter {name!r} needs a shape of ints, not {list(sizes)}",
            where=here().quoted,
            help="only inputs may have symbolic dimensions",
        )
    type = TensorType(as_dtype(dtype), sizes)
    static: tuple[int, ...] = tuple(int(s) for s in sizes)  # type: ignore[arg-type]
    array = initial(name, static, init, seed)
    leaf = make_state(name, type, trainable, result_class=Parameter)
    assert isinstance(leaf, Parameter)
    leaf._array = _stored(fitted(array, type, f"the initial value of {name!r}"))
    leaf._group = LockGroup()
    return leaf


LINE = 64  # bytes of a cache line


def _stored(value: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a copy that begins at a cache line.

    NumPy's memory begins 16 bytes behind one: then each vector of 64 bytes lies in two
    lines, and a product with a matrix that the cache holds takes twice as long.
    """
    room = np.empty(value.nbytes + LINE, np.uint8)
    first = -room.ctypes.data % LINE
    bytes_ = room[first : first + value.nbytes]
    found: np.ndarray[Any, Any] = bytes_.view(value.dtype).reshape(value.shape)
    found[...] = value
    return found


def variable(name: str, value: Any, dtype: DTypeLike | None = None) -> Parameter:
    """Make a state that is not trained: a counter, a running mean, a learning rate."""
    array = np.asarray(value)
    if dtype is None:
        python = not isinstance(value, (np.ndarray, np.generic))
        dtype = PYTHON.get(array.dtype.kind, array.dtype) if python else array.dtype
    return parameter(name, array.shape, array, dtype=dtype, trainable=False)


def initial(name: str, shape: tuple[int, ...], init: Any, seed: int) -> Any:
    """Return initial values; random ones depend on name and seed alone.

    Source:  Glorot and Bengio, 2010; He et al., 2015. Fans as Keras counts them.
    """
    stream = zlib.crc32(name.encode()) & 0x7FFFFFFF
    if callable(init):
        return init(shape, seed, stream)
    if not isinstance(init, str):
        array = np.asarray(init)
        return np.full(shape, array) if array.ndim == 0 else array
    if init not in INITIALIZERS:
        raise ArgumentError(
            f"unknown init {init!r} of parameter {name!r}",
            where=here().quoted,
            help="use one of " + ", ".join(INITIALIZERS),
        )
    return named_initial(init, shape, seed, stream)


def named_initial(init: str, shape: tuple[int, ...], seed: int, stream: int) -> Any:
    """Return the initial values that one of `INITIALIZERS` names."""
    if init in ("zeros", "ones"):
        return np.full(shape, float(init == "ones"))
    if init == "orthogonal":
        return _orthogonal(shape, fresh(_flat(shape), "normal", seed, stream))
    kind = "normal" if init.endswith("normal") else "uniform"
    drawn = fresh(shape, kind, seed, stream)
    spread = np.float32(_spread(init, shape))
    return (drawn if kind == "normal" else 2 * drawn - 1) * spread


INITIALIZERS = (
    "zeros",
    "ones",
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "uniform",
    "normal",
    "orthogonal",
)


def _flat(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return a shape as rows and columns: all axes but the last are rows."""
    return int(np.prod(shape[:-1])), shape[-1] if shape else 1


def _orthogonal(shape: tuple[int, ...], drawn: Any) -> Any:
    """Return a matrix with orthonormal columns (rows, if those are fewer).

    Source:  Saxe, McClelland, Ganguli, "Exact solutions to the nonlinear dynamics of
             learning in deep linear neural networks", 2014. Q of a matrix of normal
             numbers; with R's diagonal made positive it is drawn evenly.
    """
    rows, columns = drawn.shape
    tall = drawn.astype(np.float64) if rows >= columns else drawn.astype(np.float64).T
    q, r = np.linalg.qr(tall)
    q = q * np.where(np.diag(r) < 0, -1.0, 1.0)
    return (q if rows >= columns else q.T).reshape(shape)


def _spread(init: str, shape: tuple[int, ...]) -> float:
    """Return the limit of a uniform, or the deviation of a normal, initial value."""
    field = int(np.prod(shape[:-2])) if len(shape) > 2 else 1
    fan_in = (shape[-2] if len(shape) > 1 else shape[0] if shape else 1) * field
    fan_out = (shape[-1] if shape else 1) * field
    table = {
        "glorot_uniform": (6.0, fan_in + fan_out),
        "glorot_normal": (2.0, fan_in + fan_out),
        "he_uniform": (6.0, fan_in),
        "he_normal": (2.0, fan_in),
        "uniform": (0.05**2, 1),
        "normal": (0.05**2, 1),
    }
    scale, fan = table[init]
    return float(np.sqrt(scale / (fan or 1)))


# --- updates that travel with a tensor ----------------------------------------------

_attached: WeakKeyDictionary[Node, tuple[tuple[Tensor, Tensor], ...]] = (
    WeakKeyDictionary()
)


def attach_update(tensor: Tensor, state: Tensor, value: Tensor) -> Tensor:
    """Note that computing `tensor` in training changes a state; returns the tensor."""
    old = _attached.get(tensor.node, ())
    _attached[tensor.node] = (*old, (state, value))
    return tensor


def state_updates(*outputs: Tensor, since: int = 0) -> dict[Tensor, Tensor]:
    """Collect the state changes (running statistics, counters) that tensors reach.

    since: only the changes that belong to nodes declared from this serial number on.

    Raises:  UpdateError if two different values are written to one state.
    """
    found: dict[Tensor, Tensor] = {}
    for node in topological(outputs):
        if node.serial >= since:
            merge_updates(found, dict(_attached.get(node, ())))
    return found


def lift_updates(
    what: str,
    body: Iterable[Tensor],
    args: Iterable[Tensor],
    results: Iterable[Tensor],
    since: int,
) -> None:
    """Attach the state changes that a body declares to what it becomes outside.

    A step of training writes a state once, however often the body is run: so the new
    value must not depend on the arguments of the body. since: what has this serial
    number or a later one was declared by the body, or made of it.

    Raises:  UpdateError if it does, with its line.
    """
    inner = {a.node for a in args}
    made = {r.node: r for r in results if r.node.serial >= since}
    for state, value in state_updates(*body, since=since).items():
        if not inner.isdisjoint(topological([value])):
            raise UpdateError(
                f"{what}: the state {state.node.attrs.name!r} would change within it",
                details=[f"its new value: {value.node.birth.quoted}"],
                where=here().quoted,
                help="a step writes a state once; return the value, and update the "
                "state with what comes out",
            )
        for result in made.values():
            attach_update(result, state, value)


def merge_updates(
    into: dict[Tensor, Tensor], more: dict[Tensor, Tensor]
) -> dict[Tensor, Tensor]:
    """Add updates to others.

    Raises:  UpdateError if both write one state with different values.
    """
    for state, value in more.items():
        if into.setdefault(state, value) is not value:
            name = state.node.attrs.name
            raise UpdateError(
                f"the state {name!r} has two different updates",
                details=[
                    f"first : {into[state].node.birth.quoted}",
                    f"second: {value.node.birth.quoted}",
                ],
                help="a step can write a state once; combine the two",
            )
    return into


def parameters_of(outputs: Iterable[Tensor], trainable: bool = True) -> list[Tensor]:
    """Return the states that tensors depend on, in the order they are reached."""
    return [
        n.results[0]
        for n in topological(outputs)
        if is_state(n.results[0]) and (n.attrs.trainable or not trainable)
    ]
